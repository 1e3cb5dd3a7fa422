/* The block pool and the scheduler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "rollout/kv.h"
#include "rollout/sched.h"

static backend *b;
static model *m;

static int open_model(void **state)
{
    (void)state;
    model_config c = {.hidden = 32,
                      .n_layer = 3,
                      .n_head = 2,
                      .n_kv = 1,
                      .head_dim = 16,
                      .intermediate = 32,
                      .vocab = 16,
                      .max_position = 512,
                      .tied = true,
                      .rms_eps = 1e-6f,
                      .rope_theta = 1e4,
                      .mrope_section = {2, 3, 3}};
    assert_int_equal(backend_open_cpu(&b, 1, "auto"), ST_OK);
    assert_int_equal(model_create(&m, b, &c, false), ST_OK);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    model_destroy(m);
    backend_close(b);
    return 0;
}

static float *block(kv_pool *p, int layer, int i)
{
    tensor *t = &kv_layers(p)[layer];
    return (float *)t->data + (int64_t)i * t->dim[1];
}

static void test_share_and_copy(void **state)
{
    (void)state;
    kv_pool *p;
    assert_int_equal(kv_create(&p, m, 8), ST_OK);
    assert_int_equal(kv_blocks(p), 8);
    kv_seq a = {0}, c[3] = {{0}, {0}, {0}};
    assert_int_equal(kv_grow(p, &a, 2 * ATTN_BLOCK + 5), ST_OK);
    assert_int_equal(kv_free_blocks(p), 5);
    assert_int_equal(kv_slot(&a, 0) % ATTN_BLOCK, 0);
    assert_int_equal(kv_slot(&a, ATTN_BLOCK + 3), a.block[1] * ATTN_BLOCK + 3);
    for (int l = 0; l < 3; l++) *block(p, l, a.block[2]) = 7 + (float)l;
    for (int i = 0; i < 3; i++) kv_share(p, &a, &c[i]);
    assert_int_equal(kv_free_blocks(p), 5); /* sharing is free */
    assert_true(kv_tail_shared(p, &a) && kv_private(p, &c[0]) == 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kv_grow(p, &c[i], 1), ST_OK);
        assert_int_not_equal(c[i].block[2], a.block[2]);
        assert_int_equal(c[i].block[1], a.block[1]);
        assert_int_equal(kv_private(p, &c[i]), 1);
        for (int l = 0; l < 3; l++)
            assert_true(*block(p, l, c[i].block[2]) == 7 + (float)l); /* every layer was copied */
    }
    assert_int_equal(kv_free_blocks(p), 2);
    assert_false(kv_tail_shared(p, &c[0]));
    assert_int_equal(kv_grow(p, &c[0], 10), ST_OK); /* fills the block */
    assert_int_equal(kv_free_blocks(p), 2);
    assert_int_equal(kv_grow(p, &c[0], 1), ST_OK);
    kv_seq before = c[1];
    assert_int_equal(kv_grow(p, &c[1], 10 + ATTN_BLOCK + 1), ST_EAGAIN);
    assert_memory_equal(&before, &c[1], sizeof before);
    assert_int_equal(kv_free_blocks(p), 1);
    kv_release(p, &a);
    assert_int_equal(kv_free_blocks(p), 2); /* only its own tail came back */
    for (int i = 0; i < 3; i++) kv_release(p, &c[i]);
    assert_int_equal(kv_free_blocks(p), 8);
    kv_seq_free(&a);
    for (int i = 0; i < 3; i++) kv_seq_free(&c[i]);
    kv_destroy(p);
}

/* Random holders against a count by hand. */
static void test_random_holders(void **state)
{
    (void)state;
    enum { BLOCKS = 40, SEQS = 12 };
    kv_pool *p;
    kv_seq s[SEQS];
    memset(s, 0, sizeof s);
    assert_int_equal(kv_create(&p, m, BLOCKS), ST_OK);
    rng r = {rng_make_key(1, RNG_TEST, 0, 0, 0, 0), 0};
    int refused = 0, shared = 0;
    for (int step = 0; step < 4000; step++) {
        int i = (int)rng_next_below(&r, SEQS), j = (int)rng_next_below(&r, SEQS);
        switch (rng_next_below(&r, 4)) {
        case 0:
            if (i != j && s[i].n_block == 0 && s[j].n_block > 0) kv_share(p, &s[j], &s[i]), shared++;
            break;
        case 1: kv_release(p, &s[i]); break;
        default: refused += kv_grow(p, &s[i], (int)rng_next_below(&r, 40)) == ST_EAGAIN; break;
        }
        int holders[BLOCKS] = {0}, used = 0;
        for (int k = 0; k < SEQS; k++) {
            assert_int_equal(s[k].n_block, (s[k].n_token + ATTN_BLOCK - 1) / ATTN_BLOCK);
            for (int x = 0; x < s[k].n_block; x++) used += holders[s[k].block[x]]++ == 0;
        }
        assert_int_equal(kv_free_blocks(p), BLOCKS - used);
        for (int k = 0; k < SEQS; k++) {
            int own = 0;
            for (int x = 0; x < s[k].n_block; x++) own += holders[s[k].block[x]] == 1;
            assert_int_equal(kv_private(p, &s[k]), own);
        }
    }
    assert_true(refused > 50 && shared > 50);
    for (int i = 0; i < SEQS; i++) {
        kv_release(p, &s[i]);
        kv_seq_free(&s[i]);
    }
    kv_destroy(p);
}

/* ---- scheduler ---- */

static sched_item decoding(int n_token, int held)
{
    return (sched_item){.pending = 1, .n_token = n_token, .resident = true, .held = held, .merge = 2};
}

static void test_plan_batches(void **state)
{
    (void)state;
    sched_item it[4] = {decoding(17, 2), {.pending = 100, .merge = 2}, decoding(20, 2), decoding(5, 1)};
    sched_limits lim = {.seqs = 8, .prefill_rows = 64, .free_blocks = 100};
    int plan[4];
    assert_int_equal(sched_plan(it, 4, &lim, plan), 4);
    assert_int_equal(plan[0], 1);
    assert_int_equal(plan[1], 64);
    assert_int_equal(plan[2], 1);
    lim.seqs = 2;
    assert_int_equal(sched_plan(it, 4, &lim, plan), 2);
    assert_true(plan[2] == 0 && plan[3] == 0);
    it[0].pending = 0; /* waits for its tool */
    assert_int_equal(sched_plan(it, 4, &lim, plan), 2);
    assert_true(plan[0] == 0 && plan[1] == 64 && plan[2] == 1);
}

static void test_plan_keeps_images_whole(void **state)
{
    (void)state;
    mrope_image run[2] = {{.start = 10, .t = 1, .h = 8, .w = 8},
                          {.start = 40, .t = 1, .h = 8, .w = 8}}; /* 16 tokens each */
    sched_item it = {.pending = 70, .run = run, .n_run = 2, .merge = 2};
    sched_limits lim = {.seqs = 4, .prefill_rows = 20, .free_blocks = 100};
    int plan[1];
    static const int want[] = {10, 20, 10, 20, 10}; /* 0-10, the image and 4 more, up to the image, ... */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(sched_plan(&it, 1, &lim, plan), 1);
        assert_int_equal(plan[0], want[i]);
        it.n_token += plan[0];
        it.pending -= plan[0];
        it.resident = true;
    }
    assert_int_equal(it.pending, 0);
    sched_item two[2] = {{.pending = 8, .merge = 2},
                         {.pending = 30, .n_token = 10, .resident = true, .run = run, .n_run = 2, .merge = 2}};
    int both[2];
    assert_int_equal(sched_plan(two, 2, &lim, both), 1); /* 12 rows are left: the image waits */
    assert_int_equal(both[1], 0);
}

static void test_plan_evicts_the_youngest(void **state)
{
    (void)state;
    sched_item it[4] = {decoding(32, 2), decoding(32, 3), decoding(32, 1), decoding(48, 3)};
    sched_limits lim = {.seqs = 8, .prefill_rows = 64, .free_blocks = 1};
    int plan[4];
    assert_int_equal(sched_plan(it, 4, &lim, plan), 3);
    assert_true(plan[0] == 1 && plan[1] == 1 && plan[2] == 1 && plan[3] == SCHED_EVICT); /* 3 blocks from the last */
    sched_item late[3] = {decoding(32, 2), decoding(20, 2), {.pending = 30, .merge = 2}};
    lim.free_blocks = 2;
    assert_int_equal(sched_plan(late, 3, &lim, plan), 2);
    assert_int_equal(plan[2], 0); /* an admission pushes nobody out and leaves room for those inside */
    lim.free_blocks = 10;
    assert_int_equal(sched_plan(late, 3, &lim, plan), 3);
    sched_item old[3] = {{.pending = 30, .merge = 2}, decoding(20, 2), decoding(32, 2)}; /* came back from its tool */
    lim.free_blocks = 0;
    assert_int_equal(sched_plan(old, 3, &lim, plan), 2);
    assert_true(plan[0] == 30 && plan[1] == 1 && plan[2] == SCHED_EVICT);
}

/* However small the pool, repeating the plan finishes everything. */
static void test_plan_always_moves(void **state)
{
    (void)state;
    enum { N = 10, GOAL = 60 };
    rng r = {rng_make_key(2, RNG_TEST, 0, 0, 0, 0), 0};
    int evicted = 0;
    for (int round = 0; round < 50; round++) {
        int blocks = 4 + (int)rng_next_below(&r, 12), done[N] = {0}, left = N, steps = 0;
        int goal[N], known[N], cached[N] = {0};
        for (int i = 0; i < N; i++)
            known[i] = 1 + (int)rng_next_below(&r, 30), goal[i] = known[i] + 1 + (int)rng_next_below(&r, GOAL - 30);
        while (left > 0) {
            assert_true(++steps < 20000);
            sched_item it[N];
            int map[N], n = 0, plan[N], used = 0;
            for (int i = 0; i < N; i++) {
                if (done[i]) continue;
                int held = (cached[i] + ATTN_BLOCK - 1) / ATTN_BLOCK;
                used += held;
                map[n] = i;
                it[n++] = (sched_item){.pending = known[i] - cached[i],
                                       .n_token = cached[i],
                                       .resident = held > 0,
                                       .held = held,
                                       .merge = 2};
            }
            sched_limits lim = {.seqs = 4, .prefill_rows = 16, .free_blocks = blocks - used};
            assert_true(lim.free_blocks >= 0);
            assert_true(sched_plan(it, n, &lim, plan) > 0);
            for (int k = 0; k < n; k++) {
                int i = map[k];
                if (plan[k] == SCHED_EVICT)
                    cached[i] = 0, evicted++;
                else
                    cached[i] += plan[k];
                if (cached[i] == known[i] && ++known[i] == goal[i]) done[i] = 1, left--, cached[i] = 0;
            }
        }
    }
    assert_true(evicted > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_and_copy),
        cmocka_unit_test(test_random_holders),
        cmocka_unit_test(test_plan_batches),
        cmocka_unit_test(test_plan_keeps_images_whole),
        cmocka_unit_test(test_plan_evicts_the_youngest),
        cmocka_unit_test(test_plan_always_moves),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
