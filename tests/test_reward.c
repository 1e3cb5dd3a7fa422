/* Rewards against values worked out by hand from the formulas of bat.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/config.h"
#include "reward/reward.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static reward_opts defaults(bat_mode mode)
{
    config *c;
    reward_opts o;
    ok(config_load(&c, NULL, 0, NULL, 0));
    ok(config_bind(c, "reward", reward_fields, &o));
    config_destroy(c);
    o.bat = mode;
    return o;
}

static void near(double got, double want)
{
    if (!(fabs(got - want) < 6e-4)) fail_msg("got %.6f, want %.6f", got, want);
}

/* Eight rollouts, `right` of them right, all well formed, no calls: d is left. */
static float difficulty(bat_mode mode, int right)
{
    reward_opts o = defaults(mode);
    bat_row r[8];
    for (int i = 0; i < 8; i++) r[i] = (bat_row){.group = 3, .acc = i < right, .format_ok = true};
    bat_score(&o, r, 8);
    for (int i = 1; i < 8; i++) assert_true(r[i].d == r[0].d);
    return r[0].d;
}

static void test_difficulty(void **state)
{
    (void)state;
    const double want[9] = {.782, .753, .681, .531, .300, .069, -.081, -.153, -.182};
    for (int k = 0; k <= 8; k++) {
        near(difficulty(BAT_PUBLISHED, k), want[k]);
        near(difficulty(BAT_FIXED, k), want[k]);
        near(difficulty(BAT_NAIVE, k), 1);
        near(difficulty(BAT_NONE, k), 0);
    }
}

static void test_published_mu_is_the_score(void **state)
{
    (void)state;
    reward_opts o = defaults(BAT_PUBLISHED);
    /* All right but half badly formed: the mean score is 0.9, the mean accuracy 1. */
    bat_row r[4];
    for (int i = 0; i < 4; i++) r[i] = (bat_row){.group = 0, .acc = 1, .format_ok = i % 2};
    bat_score(&o, r, 4);
    near(r[0].score, 0.8);
    near(r[1].score, 1.0);
    near(r[0].d, (1 + tanh(4 * (0.5 - 0.9))) / 2 - 0.2);
    o.bat = BAT_FIXED;
    bat_score(&o, r, 4);
    near(r[0].d, -.182);
    for (int i = 0; i < 4; i++) r[i].math = true; /* 1.2 - 0.4 [broken]: mean 1.0 */
    o.bat = BAT_PUBLISHED;
    bat_score(&o, r, 4);
    near(r[0].score, 0.8);
    near(r[1].score, 1.2);
    near(r[0].d, -.182);
}

static bat_row one(int n_ok, int n_fail, bool right)
{
    return (bat_row){.acc = right, .format_ok = true, .n_ok = n_ok, .n_fail = n_fail};
}

static void test_tool_term(void **state)
{
    (void)state;
    reward_opts o = defaults(BAT_PUBLISHED);
    const double easy = -.1820138; /* mu = 1 */
    bat_row r[4] = {one(0, 0, true), one(1, 0, true), one(1, 1, true), one(0, 2, true)};
    bat_score(&o, r, 4);
    near(r[0].tool_term, 0);
    near(r[1].tool_term, 1.5 * easy);
    near(r[2].tool_term, 1.5 * easy * 0.5); /* the published trap: a failing call makes it cheaper */
    near(r[3].tool_term, 0);
    o.bat = BAT_FIXED;
    bat_score(&o, r, 4);
    near(r[0].tool_term, 0);
    near(r[1].tool_term, 1.5 * easy);
    near(r[2].tool_term, 1.5 * easy * 2);
    near(r[3].tool_term, 1.5 * easy * 3);
    assert_true(r[0].reward > r[1].reward && r[1].reward > r[2].reward && r[2].reward > r[3].reward);
    bat_row hard[4] = {one(0, 0, false), one(1, 0, false), one(1, 1, false), one(0, 2, false)};
    bat_score(&o, hard, 4);
    near(hard[1].tool_term, 0.5 * .782);
    near(hard[2].tool_term, 0.5 * .782 * 0.5);
    near(hard[3].tool_term, 0);
    o.bat = BAT_NAIVE;
    bat_score(&o, r, 4);
    near(r[2].reward, 1 + 0.75);
    o.bat = BAT_NONE;
    bat_score(&o, r, 4);
    near(r[2].reward, 1);
}

static void test_groups_need_not_be_adjacent(void **state)
{
    (void)state;
    reward_opts o = defaults(BAT_FIXED);
    bat_row r[6];
    for (int i = 0; i < 6; i++) r[i] = (bat_row){.group = i % 2 ? 7 : -4, .acc = i % 2, .format_ok = true};
    bat_score(&o, r, 6);
    for (int i = 0; i < 6; i++) near(r[i].d, i % 2 ? -.182 : .782);
    bat_score(&o, r, 0);
}

static void test_turns(void **state)
{
    (void)state;
    reward_opts o = defaults(BAT_FIXED);
    float g[2];
    bat_turns(&o, (bool[]){true}, 1, g);
    near(g[0], -.5);
    bat_turns(&o, (bool[]){false, true}, 2, g);
    near(g[0], -.1), near(g[1], -.5);
    bat_turns(&o, (bool[]){true, false}, 2, g);
    near(g[0], -.5), near(g[1], 0);
    bat_turns(&o, (bool[]){true, true}, 2, g);
    near(g[0], -.6), near(g[1], -.5);
    bat_turns(&o, NULL, 0, g);
}

static float verify(const char *name, const char *truth, const char *answer)
{
    reward_opts o = defaults(BAT_FIXED);
    const char *why = NULL;
    const verifier_def *v = verifier_find(name);
    assert_non_null(v);
    float s = v->fn(truth, answer, &o, &why);
    assert_non_null(why);
    return s;
}

static void test_verifiers(void **state)
{
    (void)state;
    assert_null(verifier_find("judge"));
    assert_true(verify("exact", "Red dog", " red DOG\n") == 1);
    assert_true(verify("exact", "7", "70") == 0);
    assert_true(verify("exact", "7", "") == 0);
    assert_true(verify("number", "1,234.5", "$1234.50.") == 1);
    assert_true(verify("number", "0.5", "1/2") == 1);
    assert_true(verify("number", "50", "50%") == 1);
    assert_true(verify("number", "50", "51") == 0);
    assert_true(verify("number", "50", "about 50") == 0);
    assert_true(verify("number", "1", "1/0") == 0);
    assert_true(verify("number", "1", "nan") == 0);
    assert_true(verify("choice", "B", "(b) a dog") == 1);
    assert_true(verify("choice", "B", "B. a dog") == 1);
    assert_true(verify("choice", "B", "C") == 0);
    assert_true(verify("choice", "B", "Because") == 0);
    near(verify("box_iou", "[0, 0, 10, 10]", "(5,0,15,10)"), 1.0 / 3);
    assert_true(verify("box_iou", "0 0 10 10", "20 20 30 30") == 0);
    assert_true(verify("box_iou", "0 0 10 10", "0 0 10") == 0);
    assert_true(verify("box_iou", "0 0 10 10", "5 5 1 1") == 0);
    near(verify("box_iou", "-1 -1 1 1", "-1 -1 1 1"), 1);
}

/* A trajectory of turns: texts, and whether each call (a turn with code) worked. */
static traj episode(const sample *s, int64_t prompt, traj_turn *turns, int n, const char *answer)
{
    return (traj){.sample = s,
                  .prompt = prompt,
                  .n_turn = n,
                  .turns = turns,
                  .answer = (char *)answer,
                  .outcome = answer ? TRAJ_ANSWERED : TRAJ_NO_ANSWER};
}

static void test_score(void **state)
{
    (void)state;
    reward_opts o = defaults(BAT_FIXED);
    sample s = {.id = (char *)"s1", .answer = (char *)"7"};
    traj_turn good[2] = {{.text = (char *)"<think>Zoom in.</think><code>\n```python\nx\n```\n</code>",
                          .code = (char *)"x",
                          .tool = {.ran = true, .ok = true}},
                         {.text = (char *)"<think>I see.</think><answer>7</answer>"}};
    traj_turn unpaired[1] = {{.text = (char *)"<think>I see.<answer>7</answer>"}};
    traj_turn twice[1] = {{.text = (char *)"<think>a</think><answer>7</answer><answer>8</answer>"}};
    traj t[5] = {episode(&s, 0, good, 2, "7"), episode(&s, 0, unpaired, 1, "7"), episode(&s, 0, twice, 1, "7"),
                 episode(&s, 0, good, 2, "8"), episode(&s, 0, good, 1, NULL)};
    t[4].outcome = TRAJ_INFRA;
    ok(reward_score(&o, t, 5));
    assert_true(t[0].format_ok && !t[1].format_ok && !t[2].format_ok && t[3].format_ok);
    assert_true(t[0].acc == 1 && t[1].acc == 1 && t[3].acc == 0);
    double d = (1 + tanh(4 * (0.5 - 0.75))) / 2 - 0.2; /* three of four: the infrastructure failure doesn't count */
    near(t[0].reward, 1 + 1.5 * d);                    /* d < 0, one call, no failure: c (1 + 0) */
    near(t[1].reward, 0.8);
    near(t[3].reward, 0 + 0.5 * d);
    assert_true(t[4].reward == 0);
    assert_true(t[0].n_part >= 4);

    char *late = calloc(1, 1201);
    memset(late, '7', 1200);
    traj overlong = episode(&s, 1, good, 2, late);
    sample same = {.id = (char *)"s2", .answer = late};
    overlong.sample = &same;
    ok(reward_score(&o, &overlong, 1));
    assert_true(overlong.acc == 0);
    free(late);

    sample none = {.id = (char *)"bare"};
    traj bare = episode(&none, 2, good, 2, "7");
    assert_int_equal(reward_score(&o, &bare, 1), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "bare"));
    none.answer = (char *)"7";
    none.verifier = (char *)"judge";
    assert_int_equal(reward_score(&o, &bare, 1), ST_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_difficulty), cmocka_unit_test(test_published_mu_is_the_score),
        cmocka_unit_test(test_tool_term),  cmocka_unit_test(test_groups_need_not_be_adjacent),
        cmocka_unit_test(test_turns),      cmocka_unit_test(test_verifiers),
        cmocka_unit_test(test_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
