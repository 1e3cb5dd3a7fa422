/* The optimizer against AdamW in double, the fixed gradient tree, the schedule, and what must not change the bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "rl/optim.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static model_config tiny(void)
{
    return (model_config){.hidden = 16,
                          .n_layer = 2,
                          .n_head = 2,
                          .n_kv = 1,
                          .head_dim = 8,
                          .intermediate = 24,
                          .vocab = 301,
                          .max_position = 64,
                          .tied = true,
                          .qkv_bias = true,
                          .rms_eps = 1e-6f,
                          .rope_theta = 1e4,
                          .mrope_section = {1, 1, 2}};
}

static optim_opts options(int shards)
{
    return (optim_opts){.lr = 1e-2,
                        .beta1 = 0.9,
                        .beta2 = 0.98,
                        .eps = 1e-8,
                        .weight_decay = 0.1,
                        .clip_norm = 1,
                        .grad_shards = shards};
}

typedef struct rig {
    backend *b;
    comm *self;
    model *m;
    optim *x;
    int64_t n;
} rig;

static rig rig_open(const optim_opts *o)
{
    rig r = {0};
    model_config c = tiny();
    ok(backend_open_cpu(&r.b, 1, "auto"));
    ok(comm_open_self(&r.self));
    ok(model_create(&r.m, r.b, &c, true));
    model_init(r.m, 7);
    ok(optim_create(&r.x, r.m, r.self, o));
    r.n = model_param_count(r.m);
    return r;
}

static void rig_close(rig *r)
{
    optim_destroy(r->x);
    model_destroy(r->m);
    comm_close(r->self);
    backend_close(r->b);
}

static void set_grad(rig *r, uint64_t shard, float size)
{
    rng_key k = rng_make_key(1, RNG_TEST, shard, 0, 0, 0);
    float *g = model_grads(r->m).data;
    for (int64_t i = 0; i < r->n; i++) g[i] = size * rng_normal(k, (uint64_t)i);
}

static status mark(void *ctx, const model_tensor *t)
{
    struct {
        rig *r;
        uint8_t *decay;
    } *c = ctx;
    int64_t at = (float *)t->w.data - (float *)model_params(c->r->m).data;
    for (int64_t i = 0; i < tensor_count(&t->w); i++) c->decay[at + i] = t->matrix;
    return ST_OK;
}

static void test_adamw(void **state)
{
    (void)state;
    optim_opts o = options(1);
    rig r = rig_open(&o);
    double *w = malloc(sizeof *w * (size_t)r.n), *m = calloc((size_t)r.n, sizeof *m),
           *v = calloc((size_t)r.n, sizeof *v);
    uint8_t *decay = calloc((size_t)r.n, 1);
    struct {
        rig *r;
        uint8_t *decay;
    } ctx = {&r, decay};
    ok(model_visit(r.m, mark, &ctx));
    const float *p = model_params(r.m).data;
    for (int64_t i = 0; i < r.n; i++) w[i] = p[i];
    for (int t = 1; t <= 3; t++) {
        float size = t == 2 ? 1e-4f : 1; /* step 2 is below the clipping norm */
        set_grad(&r, (uint64_t)t, size);
        const float *g = model_grads(r.m).data;
        double sq = 0, norm;
        for (int64_t i = 0; i < r.n; i++) sq += (double)g[i] * g[i];
        double scale = sqrt(sq) > o.clip_norm ? o.clip_norm / sqrt(sq) : 1, lr = 0.01 / t;
        for (int64_t i = 0; i < r.n; i++) {
            double gi = g[i] * scale;
            m[i] = 0.9 * m[i] + 0.1 * gi;
            v[i] = 0.98 * v[i] + 0.02 * gi * gi;
            double up = m[i] / (1 - pow(0.9, t)) / (sqrt(v[i] / (1 - pow(0.98, t))) + 1e-8);
            w[i] -= lr * (up + (decay[i] ? 0.1 : 0) * w[i]);
        }
        optim_shard_done(r.x);
        for (int64_t i = 0; i < r.n; i++) assert_true(((float *)model_grads(r.m).data)[i] == 0);
        ok(optim_step(r.x, lr, &norm, NULL));
        assert_true(fabs(norm - sqrt(sq)) < 1e-6 * sqrt(sq));
        for (int64_t i = 0; i < r.n; i++)
            if (fabs(p[i] - w[i]) > 2e-5)
                fail_msg("step %d, element %lld: %.8f, want %.8f", t, (long long)i, p[i], w[i]);
    }
    free(w), free(m), free(v), free(decay);
    rig_close(&r);
}

/* The tree over shards is ((0+1)+(2+3))+((4+5)+(6+7)), whatever chains did before. */
static void test_tree(void **state)
{
    (void)state;
    optim_opts o = options(8);
    o.clip_norm = 0;
    o.beta1 = 0; /* the first moment is the gradient */
    rig r = rig_open(&o);
    float *want = malloc(sizeof *want * 8 * (size_t)r.n);
    for (uint64_t s = 0; s < 8; s++) {
        set_grad(&r, s, 1);
        memcpy(want + s * (size_t)r.n, model_grads(r.m).data, sizeof *want * (size_t)r.n);
        optim_shard_done(r.x);
    }
    double norm;
    ok(optim_step(r.x, 1e-3, &norm, NULL));
    for (int step = 1; step < 8; step *= 2)
        for (int s = 0; s < 8; s += 2 * step)
            for (int64_t i = 0; i < r.n; i++) want[s * r.n + i] += want[(s + step) * r.n + i];
    float *m = malloc(sizeof *m * (size_t)r.n), *v = malloc(sizeof *v * (size_t)r.n);
    int64_t t;
    ok(optim_state(r.x, m, v, &t));
    assert_int_equal(t, 1);
    for (int64_t i = 0; i < r.n; i++)
        if (m[i] != want[i]) fail_msg("element %lld: %.9g, want %.9g", (long long)i, m[i], want[i]);
    free(want), free(m), free(v);
    rig_close(&r);
}

static void test_restore_goes_on(void **state)
{
    (void)state;
    optim_opts o = options(1);
    rig a = rig_open(&o), b = rig_open(&o);
    for (uint64_t t = 1; t <= 2; t++) {
        set_grad(&a, t, 1);
        optim_shard_done(a.x);
        ok(optim_step(a.x, 1e-3, NULL, NULL));
    }
    size_t bytes = sizeof(float) * (size_t)a.n;
    float *m = malloc(bytes), *v = malloc(bytes);
    int64_t t;
    ok(optim_state(a.x, m, v, &t));
    memcpy(model_params(b.m).data, model_params(a.m).data, bytes);
    ok(optim_restore(b.x, m, v, t));
    rig *both[2] = {&a, &b};
    for (int k = 0; k < 2; k++) {
        set_grad(both[k], 3, 1);
        optim_shard_done(both[k]->x);
        ok(optim_step(both[k]->x, 1e-3, NULL, NULL));
    }
    assert_memory_equal(model_params(a.m).data, model_params(b.m).data, bytes);
    free(m), free(v);
    rig_close(&a);
    rig_close(&b);
}

static void test_refuses(void **state)
{
    (void)state;
    optim_opts o = options(1);
    rig r = rig_open(&o);
    size_t bytes = sizeof(float) * (size_t)r.n;
    float *before = malloc(bytes);
    memcpy(before, model_params(r.m).data, bytes);
    set_grad(&r, 0, 1);
    ((float *)model_grads(r.m).data)[5] = NAN;
    optim_shard_done(r.x);
    assert_int_equal(optim_step(r.x, 1e-3, NULL, NULL), ST_EINVAL);
    assert_memory_equal(before, model_params(r.m).data, bytes);
    assert_non_null(strstr(fail_message(), "the gradient of model.embed_tokens.weight is not finite at update 1"));
    for (int k = 0; k < 2; k++) { /* skipping goes on with the next, which is update 1 still */
        bool skipped = false;
        set_grad(&r, 0, 1);
        if (k == 0) ((float *)model_grads(r.m).data)[r.n - 1] = INFINITY;
        optim_shard_done(r.x);
        ok(optim_step(r.x, 1e-3, NULL, &skipped));
        assert_int_equal(skipped, k == 0);
        assert_int_equal(memcmp(before, model_params(r.m).data, bytes) == 0, k == 0);
        if (k == 0) assert_null(strstr(fail_message(), "model.embed_tokens"));
    }
    optim *bad = NULL;
    o.grad_shards = 6;
    assert_int_equal(optim_create(&bad, r.m, r.self, &o), ST_EINVAL);
    free(before);
    rig_close(&r);
}

static void test_schedule(void **state)
{
    (void)state;
    optim_opts o = {.lr = 2, .warmup_steps = 4, .min_lr = 0.1};
    assert_true(optim_lr(&o, 0, 100) == 0.5 && optim_lr(&o, 3, 100) == 2 && optim_lr(&o, 99, 100) == 2);
    o.schedule = 1;
    assert_true(optim_lr(&o, 4, 104) == 2);
    assert_true(fabs(optim_lr(&o, 54, 104) - 2 * 0.55) < 1e-12 && fabs(optim_lr(&o, 104, 104) - 0.2) < 1e-12);
    o.schedule = 2;
    assert_true(fabs(optim_lr(&o, 54, 104) - 2 * 0.55) < 1e-12 && fabs(optim_lr(&o, 104, 104) - 0.2) < 1e-12);
    o.warmup_steps = 0;
    assert_true(optim_lr(&o, 0, 10) == 2 && isfinite(optim_lr(&o, 0, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),   cmocka_unit_test(test_tree),     cmocka_unit_test(test_restore_goes_on),
        cmocka_unit_test(test_refuses), cmocka_unit_test(test_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
