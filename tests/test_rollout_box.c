/* The rollout engine with the real sandbox: real Python, real pictures, the same bits every time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/common/tiny_rollout.h"

enum { PROMPTS = 4, GROUP = 4, N = PROMPTS * GROUP };

static tiny_policy world;
static tiny_prompts ask;
static box_pool *boxes;

static const rollout_opts usual = {
    .group = GROUP,
    .temperature = 1,
    .max_turns = 4,
    .max_new_tokens = 24,
    .max_tokens = 400,
    .max_images = 8,
    .kv_tokens = 16384,
    .max_batch = 64,
    .prefill_tokens = 256,
    .tool_text_kib = 4,
};

static void run(const rollout_opts *o, traj *t, rollout_stats *stats)
{
    engine *e = NULL;
    rollout_parts parts = {.m = world.m, .c = &world.chat, .ip = &world.ip, .boxes = boxes};
    assert_int_equal(engine_create(&e, &parts, o), ST_OK);
    status st = engine_run(e, ask.p, PROMPTS, t, stats, NULL);
    if (st != ST_OK) fail_msg("%s", fail_message());
    engine_destroy(e);
}

static void free_all(traj *t)
{
    for (int i = 0; i < N; i++) traj_free(&t[i]);
}

static void test_results(void **state)
{
    (void)state;
    traj t[N];
    rollout_stats stats;
    run(&usual, t, &stats);
    int seen[4] = {0};
    for (int i = 0; i < N; i++) {
        assert_int_not_equal(t[i].outcome, TRAJ_INFRA);
        for (int k = 0; k < t[i].n_turn; k++) {
            const traj_turn *turn = &t[i].turns[k];
            if (!turn->code) continue;
            if (strstr(turn->code, "show")) {
                const traj_image *im = &t[i].images[turn->image_from];
                assert_true(turn->tool.ok && turn->n_image == 1 && im->w == 20 && im->h == 20 && im->view.w == 56);
                seen[0]++;
            } else if (strstr(turn->code, "print")) {
                assert_true(turn->tool.ok);
                assert_string_equal(turn->tool_text, "42");
                seen[1]++;
            } else if (strstr(turn->code, "undefined")) {
                assert_false(turn->tool.ok);
                assert_string_equal(turn->tool.error_type, "NameError");
                assert_string_equal(turn->tool_text, "Error: NameError");
                seen[2]++;
            } else {
                assert_false(turn->tool.ok);
                assert_true(turn->tool.empty_output);
                assert_string_equal(turn->tool_text, "No output.");
                seen[3]++;
            }
        }
    }
    for (int i = 0; i < 4; i++) assert_true(seen[i] > 0);
    int n, differ = trainer_logps_differ(&world, t, N, 1024, 1, &n);
    if (differ) fail_msg("%d of %d log-probs differ from the trainer's", differ, n);
    assert_true(stats.tool_wait_s > 0 && stats.tool_calls == seen[0] + seen[1] + seen[2] + seen[3]);
    free_all(t);
}

static void test_same_again(void **state)
{
    (void)state;
    traj want[N], got[N];
    run(&usual, want, NULL);
    static const int batch[] = {1, 3, 64}, kv[] = {16384, 432, 432};
    for (int i = 0; i < 3; i++) {
        rollout_opts o = usual;
        o.max_batch = batch[i];
        o.kv_tokens = kv[i];
        run(&o, got, NULL);
        for (int k = 0; k < N; k++)
            if (!traj_same(&want[k], &got[k]))
                fail_msg("trajectory %d differs with max_batch %d, kv_tokens %d", k, batch[i], kv[i]);
        free_all(got);
    }
    free_all(want);
}

static int open_world(void **state)
{
    (void)state;
    tiny_policy_open(&world, 1, 3);
    tiny_prompts_open(&ask, &world, PROMPTS);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    tiny_prompts_close(&ask);
    tiny_policy_close(&world);
    return 0;
}

int main(int argc, char **argv)
{
    int as_role = box_boot(argc, argv, CODEDANCE_EXE);
    if (as_role >= 0) return as_role;
    static const char *const imports[] = {"PIL.Image", NULL};
    box_opts o = {.imports = imports, .min_tier = BOX_T2, .spares = 2, .max_live = 64, .max_starting = 2};
    box_limits_default(&o.limits);
    status st = box_pool_create(&boxes, &o);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        box_shutdown();
        return 77;
    }
    if (st != ST_OK) {
        fprintf(stderr, "sandbox: %s\n", fail_message());
        box_shutdown();
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_results), cmocka_unit_test(test_same_again)};
    int failed = cmocka_run_group_tests(tests, open_world, close_world);
    box_pool_destroy(boxes);
    box_shutdown();
    return failed;
}
