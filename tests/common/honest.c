/* tests/honest: what a policy honestly writes, with the output it has to get. Same file format as tests/hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/common/boxes.h"
#include "tests/common/hostile.h"

enum { W = 120, H = 80 };

static struct {
    box_tier tier;
    const char *only, *python;
    box_pool *pool;
    box_input *picture;
    hostile_input *in;
    int n;
    char *modules; /* those that are there, each between spaces */
} suite;

static void paint(uint8_t *rgb, int x0, int y0, int x1, int y1, uint8_t r, uint8_t g, uint8_t b)
{
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            uint8_t *p = rgb + 3 * (y * W + x);
            p[0] = r, p[1] = g, p[2] = b;
        }
}

/* White, three black rectangles, one red. */
static box_input *paint_picture(void)
{
    static uint8_t rgb[W * H * 3];
    box_image im = {W, H, rgb};
    box_input *in = NULL;
    paint(rgb, 0, 0, W, H, 255, 255, 255);
    paint(rgb, 10, 10, 30, 25, 0, 0, 0);
    paint(rgb, 50, 30, 60, 70, 0, 0, 0);
    paint(rgb, 90, 5, 110, 15, 0, 0, 0);
    paint(rgb, 70, 50, 80, 60, 255, 0, 0);
    return box_input_create(&in, &im, 1) == ST_OK ? in : NULL;
}

static bool has_all(const char *needs)
{
    char words[96];
    snprintf(words, sizeof words, "%s", needs);
    for (char *save, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char with[104];
        snprintf(with, sizeof with, " %s ", w);
        if (!strstr(suite.modules, with)) return false;
    }
    return true;
}

static void every_program_gets_its_output(void **s)
{
    (void)s;
    int failed = 0, skipped = 0;
    for (int i = 0; i < suite.n; i++) {
        const hostile_input *in = &suite.in[i];
        box *b = NULL;
        if (!has_all(in->needs)) {
            print_message("%s: not run, needs %s\n", in->name, in->needs);
            skipped++;
            continue;
        }
        assert_int_equal(box_open(suite.pool, (uint64_t)i, suite.picture, &b), ST_OK);
        for (int t = 0; t < in->n_turn; t++) {
            box_result r = test_turn(suite.pool, b, in->turn[t].code);
            bool good = hostile_judge(in, t, &r) && !r.replayed && !r.state_lost;
            failed += !good;
            box_result_free(&r);
        }
        box_close(b);
    }
    print_message("%d programs, %d of them not run\n", suite.n, skipped);
    assert_int_equal(failed, 0);
    assert_true(suite.n - skipped > 0);
}

static char *modules(void)
{
    box *b = NULL;
    if (box_open(suite.pool, 1, NULL, &b) != ST_OK) return NULL;
    char *text = test_expect(suite.pool, b,
                             "import importlib.util as u\nprint('', *[m for m in ('numpy', 'PIL', 'matplotlib', 'cv2', "
                             "'scipy', 'sympy') if u.find_spec(m)], '')",
                             BOX_OK);
    box_close(b);
    return text;
}

int honest_main(int argc, char **argv, box_tier tier)
{
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    suite.only = "";
    suite.tier = tier;
    for (int i = 1; i < argc; i++) *(strchr(argv[i], '/') ? &suite.python : &suite.only) = argv[i];
    static const char *const imports[] = {"numpy", "PIL.Image", NULL};
    box_opts o = {.imports = imports,
                  .python = suite.python,
                  .preset = "import numpy as np\n",
                  .min_tier = tier,
                  .spares = 2,
                  .max_live = 4,
                  .max_starting = 2};
    box_limits_default(&o.limits);
    status st = box_pool_create(&suite.pool, &o);
    if (st != ST_OK) {
        printf("%s%s\n", st == ST_EUNAVAIL ? "SKIP: " : "", fail_message());
        return st == ST_EUNAVAIL ? 77 : 1;
    }
    suite.picture = paint_picture();
    suite.modules = modules();
    if (!suite.picture || !suite.modules ||
        !hostile_read(SOURCE_DIR "/tests/honest", tier, suite.only, &suite.in, &suite.n))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_program_gets_its_output)};
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    hostile_free(suite.in, suite.n);
    free(suite.modules);
    box_input_release(suite.picture);
    box_pool_destroy(suite.pool);
    box_shutdown();
    return rc;
}
