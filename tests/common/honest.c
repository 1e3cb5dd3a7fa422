/* tests/honest: what a policy honestly writes, with the output it has to get, and gets again in another pool. Same file
 * format as tests/hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>

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
    box_opts opts;
    char *said[HOSTILE_FILES][HOSTILE_TURNS]; /* what two pools are to agree on */
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

/* Everything the code decided, malloc'ed. */
static char *answer_of(const box_result *r)
{
    char *text = NULL, prints[HOSTILE_TURNS * 24] = "";
    for (int i = 0; i < r->n_image && i < HOSTILE_TURNS; i++)
        sprintf(prints + strlen(prints), " %016llx", (unsigned long long)box_image_print(&r->images[i]));
    if (asprintf(&text, "%s %d %s: %s (line %d: %s)%s\n%s", box_verdict_name(r->verdict), r->code, r->error_type,
                 r->error_message ? r->error_message : "", r->error_line, r->error_source ? r->error_source : "",
                 prints, r->text) < 0)
        abort();
    return text;
}

static int run_program(int i, bool again)
{
    const hostile_input *in = &suite.in[i];
    box *b = NULL;
    int failed = 0;
    assert_int_equal(box_open(suite.pool, (uint64_t)i, suite.picture, &b), ST_OK);
    for (int t = 0; t < in->n_turn; t++) {
        box_result r = test_turn(suite.pool, b, in->turn[t].code);
        char *said = answer_of(&r);
        failed += !hostile_judge(in, t, &r) || r.replayed || r.state_lost;
        if (!again) {
            suite.said[i][t] = said;
            said = NULL;
        } else if (r.verdict != BOX_TIMEOUT_SOFT && strcmp(said, suite.said[i][t]) != 0) {
            print_message("%s, turn %d, said\n%s\nand in another pool\n%s\n", in->name, t + 1, suite.said[i][t], said);
            failed++;
        }
        free(said);
        box_result_free(&r);
    }
    box_close(b);
    return failed;
}

static void every_program_gets_its_output(void **s)
{
    (void)s;
    int failed = 0, skipped = 0;
    for (int i = 0; i < suite.n; i++) {
        if (has_all(suite.in[i].needs)) {
            failed += run_program(i, false);
            continue;
        }
        print_message("%s: not run, needs %s\n", suite.in[i].name, suite.in[i].needs);
        skipped++;
    }
    print_message("%d programs, %d of them not run\n", suite.n, skipped);
    assert_int_equal(failed, 0);
    assert_true(suite.n - skipped > 0);
}

/* Another zygote, and boxes taken in another order, so that jails have other pasts. */
static void another_pool_gives_the_same_bytes(void **s)
{
    (void)s;
    int failed = 0, was = personality(0xffffffff);
    bool fixed = was >= 0 && personality((unsigned)was | ADDR_NO_RANDOMIZE) >= 0;
    if (was >= 0) personality((unsigned)was);
    box_pool_destroy(suite.pool);
    suite.pool = NULL;
    assert_int_equal(box_pool_create(&suite.pool, &suite.opts), ST_OK);
    for (int i = suite.n - 1; i >= 0; i--)
        if (has_all(suite.in[i].needs) && (fixed || !strstr(suite.in[i].name, "addresses")))
            failed += run_program(i, true);
    assert_int_equal(failed, 0);
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
    suite.opts = (box_opts){.imports = imports,
                            .python = suite.python,
                            .preset = "import numpy as np\n",
                            .min_tier = tier,
                            .spares = 2,
                            .max_live = 4,
                            .max_starting = 2};
    box_limits_default(&suite.opts.limits);
    suite.opts.limits.wall_s = 6;
    status st = box_pool_create(&suite.pool, &suite.opts);
    if (st != ST_OK) {
        printf("%s%s\n", st == ST_EUNAVAIL ? "SKIP: " : "", fail_message());
        return st == ST_EUNAVAIL ? 77 : 1;
    }
    suite.picture = paint_picture();
    suite.modules = modules();
    if (!suite.picture || !suite.modules ||
        !hostile_read(SOURCE_DIR "/tests/honest", tier, suite.only, &suite.in, &suite.n))
        return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_program_gets_its_output),
                                       cmocka_unit_test(another_pool_gives_the_same_bytes)};
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < suite.n; i++)
        for (int t = 0; t < HOSTILE_TURNS; t++) free(suite.said[i][t]);
    hostile_free(suite.in, suite.n);
    free(suite.modules);
    box_input_release(suite.picture);
    box_pool_destroy(suite.pool);
    box_shutdown();
    return rc;
}
