/* Advantages and losses against short references in double, finite differences, and the corner cases that have hurt
 * other trainers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rl/algo.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static algo_opts options(void)
{
    config *c;
    algo_opts o;
    ok(config_load(&c, NULL, 0, NULL, 0));
    ok(config_bind(c, "rl", algo_fields, &o));
    config_destroy(c);
    return o;
}

static reward_opts rewards(void)
{
    config *c;
    reward_opts o;
    ok(config_load(&c, NULL, 0, NULL, 0));
    ok(config_bind(c, "reward", reward_fields, &o));
    config_destroy(c);
    return o;
}

static void near(double got, double want, double tol)
{
    if (!(fabs(got - want) <= tol)) fail_msg("got %.9g, want %.9g", got, want);
}

static void test_group(void **state)
{
    (void)state;
    algo_opts o = options();
    float r[4] = {1, 0, 0, 0}, a[4];
    grpo_group(&o, r, NULL, 4, a);
    near(a[0], 0.75 / (0.5 + 1e-6), 1e-6); /* unbiased std of {1,0,0,0} is 0.5 */
    near(a[1], -0.25 / (0.5 + 1e-6), 1e-6);
    o.norm = 0;
    grpo_group(&o, r, NULL, 4, a);
    assert_true(a[0] == 0.75f && a[3] == -0.25f);
    bool skip[4] = {false, false, true, true};
    grpo_group(&o, r, skip, 4, a);
    assert_true(a[0] == 0.5f && a[1] == -0.5f && a[2] == 0 && a[3] == 0);
}

static void test_flat_groups_are_exactly_zero(void **state)
{
    (void)state;
    algo_opts o = options();
    float a[8];
    for (int n = 1; n <= 8; n++) {
        float r[8];
        for (int i = 0; i < n; i++) r[i] = 0.1f; /* the mean of equal fractions is not exact */
        grpo_group(&o, r, NULL, n, a);
        for (int i = 0; i < n; i++) assert_true(a[i] == 0);
    }
    float lone[1] = {3};
    grpo_group(&o, lone, NULL, 1, a);
    assert_true(a[0] == 0);
    bool skip[2] = {true, true};
    grpo_group(&o, (float[]){1, 2}, skip, 2, a);
    assert_true(a[0] == 0 && a[1] == 0);
}

/* ---- trajectories ---- */

enum { TOK = 10 };
typedef struct made {
    traj t;
    uint8_t mask[TOK];
    int16_t turn_of[TOK];
    traj_turn turn[3];
    sample s;
} made;

/* prompt 0..1, turn 0 (tokens 2..3), tool 4..5, turn 1 (tokens 6..7), end 8..9; calls: how many turns call, fail: bits.
 */
static void make(made *m, int64_t prompt, float reward, int calls, unsigned fail)
{
    memset(m, 0, sizeof *m);
    m->s.id = (char *)"x";
    m->t = (traj){.sample = &m->s,
                  .prompt = prompt,
                  .n_tok = TOK,
                  .mask = m->mask,
                  .turn_of = m->turn_of,
                  .n_turn = 2,
                  .turns = m->turn,
                  .reward = reward};
    for (int i = 0; i < TOK; i++) m->turn_of[i] = -1;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 2; i++) {
            m->mask[2 + 4 * k + i] = 1;
            m->turn_of[2 + 4 * k + i] = (int16_t)k;
        }
    for (int k = 0; k < calls; k++) {
        m->turn[k].code = (char *)"x";
        m->turn[k].tool = (tool_record){.ran = true, .ok = !(fail >> k & 1)};
    }
}

static status advantages(const algo_opts *o, const reward_opts *r, traj *t, int n, int group)
{
    comm *self;
    turn_norm z;
    ok(comm_open_self(&self));
    ok(algo_turn_norm(r, t, n, self, &z));
    comm_close(self);
    return algos[o->algo].advantage(o, r, &z, t, n, group);
}

static void test_token_advantages(void **state)
{
    (void)state;
    algo_opts o = options();
    reward_opts r = rewards();
    o.norm = 0;
    made m[2];
    make(&m[0], 0, 1, 1, 1); /* first turn's call failed, second turn answers */
    make(&m[1], 0, 0, 0, 0);
    traj t[2] = {m[0].t, m[1].t};
    algo_mask(&o, t, 2);
    ok(advantages(&o, &r, t, 2, 2));
    for (int i = 0; i < TOK; i++) {
        double want = !m[0].mask[i] ? 0 : m[0].turn_of[i] == 0 ? 0.5 - 0.2 * 0.5 : 0.5;
        near(t[0].adv[i], want, 1e-7);
        near(t[1].adv[i], m[1].mask[i] ? -0.5 : 0, 1e-7);
    }
    /* The answer turn of the published z-scores stays 0; the calls get (g - mean) / std of the batch. */
    r.turn_normalize = 1;
    make(&m[1], 0, 0, 1, 0);
    free(t[0].adv), free(t[1].adv);
    t[0] = m[0].t, t[1] = m[1].t;
    ok(advantages(&o, &r, t, 2, 2));
    near(t[0].adv[2], 0.5 - 0.2, 1e-6); /* returns -0.5, 0: z = -1, +1 */
    near(t[1].adv[2], -0.5 + 0.2, 1e-6);
    near(t[0].adv[6], 0.5, 1e-6);
    free(t[0].adv), free(t[1].adv);
}

static void test_masks(void **state)
{
    (void)state;
    algo_opts o = options();
    reward_opts r = rewards();
    made m[4];
    for (int i = 0; i < 4; i++) make(&m[i], 0, (float)i, 0, 0);
    traj t[4] = {m[0].t, m[1].t, m[2].t, m[3].t};
    t[1].outcome = TRAJ_INFRA;
    t[1].reward = NAN; /* never looked at */
    t[2].outcome = TRAJ_MAX_TURNS;
    algo_mask(&o, t, 4);
    assert_true(!t[0].masked && t[1].masked && !t[2].masked);
    o.budget_cut = 1;
    memset(m[3].mask, 0, sizeof m[3].mask); /* nothing sampled */
    algo_mask(&o, t, 4);
    assert_true(t[2].masked && t[3].masked);
    ok(advantages(&o, &r, t, 4, 4));
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < TOK; k++) assert_true(t[i].adv[k] == 0); /* one member left: flat */
        free(t[i].adv);
    }
}

static void test_nan_is_refused(void **state)
{
    (void)state;
    algo_opts o = options();
    reward_opts r = rewards();
    made m[2];
    make(&m[0], 0, NAN, 0, 0);
    make(&m[1], 0, 1, 0, 0);
    traj t[2] = {m[0].t, m[1].t};
    assert_int_equal(advantages(&o, &r, t, 2, 2), ST_EINVAL);
    free(t[0].adv), free(t[1].adv);
}

static double loss_at(const algo_opts *o, double logp, double old, double adv, double *d)
{
    loss_stats s = {0};
    return algos[o->algo].loss(o, logp, old, adv, 0.37, d, &s);
}

static void test_loss_values(void **state)
{
    (void)state;
    algo_opts o = options();
    double d;
    near(loss_at(&o, -1, -1, 2, &d), 0.37 * -2, 1e-12); /* ratio exactly 1 */
    near(d, 0.37 * -2, 1e-12);
    assert_true(loss_at(&o, -1, -1, 0, &d) == 0 && d == 0);
    near(loss_at(&o, -1 + log(1.5), -1, 2, &d), 0.37 * -2 * 1.25, 1e-12); /* clipped above 1.25 */
    assert_true(d == 0);
    near(loss_at(&o, -1 + log(1.5), -1, -2, &d), 0.37 * 2 * 1.5, 1e-12); /* the pessimistic branch keeps its gradient */
    near(d, 0.37 * 2 * 1.5, 1e-12);
    near(loss_at(&o, -1 + log(0.5), -1, -2, &d), 0.37 * 2 * 0.8, 1e-12);
    assert_true(d == 0);
    near(loss_at(&o, -1 + log(0.5), -1, 2, &d), 0.37 * -2 * 0.5, 1e-12);
    near(d, 0.37 * -2 * 0.5, 1e-12);
    near(loss_at(&o, -1 + log(5), -1, -2, &d), 0.37 * 2 * 3, 1e-12); /* dual clip */
    assert_true(d == 0);
    o.dual_clip = 0;
    near(loss_at(&o, -1 + log(5), -1, -2, &d), 0.37 * 2 * 5, 1e-9);
    assert_true(isfinite(loss_at(&o, 49, -1, -1, &d)) && isfinite(d));
    assert_true(isfinite(loss_at(&o, -51, -1, 1, &d)) && isfinite(d));
}

static void test_loss_gradient(void **state)
{
    (void)state;
    algo_opts o = options();
    const double h = 1e-6;
    int checked = 0;
    for (double delta = -2; delta <= 2; delta += 0.0437)
        for (int sign = -1; sign <= 1; sign++) {
            double d, lo, hi, unused;
            loss_at(&o, -2 + delta, -2, 1.3 * sign, &d);
            lo = loss_at(&o, -2 + delta - h, -2, 1.3 * sign, &unused);
            hi = loss_at(&o, -2 + delta + h, -2, 1.3 * sign, &unused);
            near(d, (hi - lo) / (2 * h), 1e-6 * (1 + fabs(d)));
            checked++;
        }
    assert_true(checked > 250);
}

static void test_weights(void **state)
{
    (void)state;
    algo_opts o = options();
    o.aggregate = AGGREGATE_TOKEN;
    near(algo_weight(&o, 100, 8, 5), 0.01, 0);
    o.aggregate = AGGREGATE_RESPONSE;
    near(algo_weight(&o, 100, 8, 5), 1.0 / 40, 0);
    assert_true(algo_weight(&o, 0, 0, 0) == 0);
    o.aggregate = AGGREGATE_TOKEN;
    assert_true(algo_weight(&o, 0, 0, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group),
        cmocka_unit_test(test_flat_groups_are_exactly_zero),
        cmocka_unit_test(test_token_advantages),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_nan_is_refused),
        cmocka_unit_test(test_loss_values),
        cmocka_unit_test(test_loss_gradient),
        cmocka_unit_test(test_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
