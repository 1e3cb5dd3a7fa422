/* The oracle against the real sandbox: every code turn of the demo's conversations gives what the conversation says. */
#include "data/dataset.h"
#include "data/synth.h"
#include "sandbox/box.h"
#include "tests/common/tempdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 56 };

static box_pool *pool;

/* The next code turn runs in b; *out is what came back. */
static void run_code(box *b, const char *turn, box_result *out)
{
    const char *open = strstr(turn, "```python\n"), *end = open ? strstr(open + 10, "```") : NULL;
    assert_non_null(end);
    box *done = NULL;
    if (box_submit(b, open + 10, (size_t)(end - open - 10)) != ST_OK) fail_msg("%s", fail_message());
    while (box_poll(pool, &done, 1, 1000) == 0) {}
    assert_ptr_equal(done, b);
    box_result_take(b, out);
}

static void compare(dataset *d, const sample *s, const message *said, const box_result *got)
{
    const part *first = &said->parts[0];
    if (!first->text) {
        image want;
        assert_int_equal(dataset_image(d, s->images[first->image], &want), ST_OK);
        if (got->n_image != 1) fail_msg("%s: no picture; %s", s->id, got->text ? got->text : "");
        assert_true(got->images[0].w == want.w && got->images[0].h == want.h);
        assert_memory_equal(got->images[0].rgb, want.rgb, 3 * (size_t)want.w * (size_t)want.h);
        image_free(&want);
    } else if (strncmp(first->text, "Error: ", 7) == 0) {
        assert_int_equal(got->verdict, BOX_PY_ERROR);
        assert_string_equal(got->error_type, first->text + 7);
    } else {
        size_t n = got->text ? strcspn(got->text, "\n") : 0;
        if (n != strlen(first->text) || strncmp(got->text, first->text, n) != 0)
            fail_msg("%s: '%s' instead of '%s'", s->id, got->text ? got->text : "", first->text);
    }
}

static int replay(dataset *d, const sample *s)
{
    image im;
    box_input *in = NULL;
    box *b = NULL;
    int turns = 0;
    assert_int_equal(dataset_image(d, s->images[0], &im), ST_OK);
    if (box_input_create(&in, &(box_image){im.w, im.h, im.rgb}, 1) != ST_OK) fail_msg("%s", fail_message());
    if (box_open(pool, 1, in, &b) != ST_OK) fail_msg("%s", fail_message());
    for (int m = 1; m + 1 < s->n_message; m += 2) {
        box_result r;
        run_code(b, s->messages[m].parts[0].text, &r);
        compare(d, s, &s->messages[m + 1], &r);
        box_result_free(&r);
        turns++;
    }
    box_close(b);
    box_input_release(in);
    image_free(&im);
    return turns;
}

static void oracle(void **state)
{
    (void)state;
    static const float mix[SYNTH_CATEGORY_COUNT] = {1, 1, 1, 1, 1, 1, 1, 1};
    synth_opts o = {.kind = SYNTH_SFT, .n = ROWS, .seed = 21, .split = "box", .mix = mix, .threads = 1};
    if (synth_write(temppath("box"), &o) != ST_OK) fail_msg("%s", fail_message());
    dataset *d = NULL;
    if (dataset_open(&d, temppath("box/data.jsonl")) != ST_OK) fail_msg("%s", fail_message());
    int turns = 0;
    for (int64_t i = 0; i < ROWS; i++) {
        sample s;
        assert_int_equal(dataset_sample(d, i, &s), ST_OK);
        if (s.n_message > 2) turns += replay(d, &s);
        sample_free(&s);
    }
    dataset_close(d);
    printf("%d code turns\n", turns);
    assert_in_range(turns, ROWS / 2, 3 * ROWS);
}

int main(int argc, char **argv)
{
    int as_role = box_boot(argc, argv, CODEDANCE_EXE);
    if (as_role >= 0) return as_role;
    static const char *const imports[] = {"numpy", "PIL.Image", NULL};
    box_opts o = {.min_tier = BOX_T3,
                  .imports = imports,
                  .preset = "import numpy as np\nW,H=224,116\n",
                  .spares = 1,
                  .max_live = 2,
                  .max_starting = 1};
    box_limits_default(&o.limits);
    if (box_pool_create(&pool, &o) != ST_OK) {
        printf("SKIP: %s\n", fail_message());
        box_shutdown();
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(oracle)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return failed;
}
