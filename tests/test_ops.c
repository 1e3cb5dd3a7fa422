/* Every op against fp64 loops with derived bounds, every backward op against central differences, NaN and Inf. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "tests/op_cases.h"

static backend *b;

static double value(const op_arg *a, const void *out, int64_t i)
{
    switch (a->type) {
    case DT_F32: return (double)((const float *)out)[i];
    case DT_F64: return ((const double *)out)[i];
    case DT_I32: return ((const int32_t *)out)[i];
    default: fail_msg("no output of this type"); return 0;
    }
}

static void check_values(const op_case *c, int size, void *const *out)
{
    for (int k = 0; k < c->n_arg; k++) {
        const op_arg *a = &c->arg[k];
        if (!out[k]) continue;
        for (int64_t i = 0; i < a->count; i++) {
            double got = value(a, out[k], i), err = fabs(got - a->d[i]);
            if (!(err <= a->e[i]))
                fail_msg("%s size %d argument %d element %lld: %.9g, wanted %.9g +- %.3g", c->op->name, size, k,
                         (long long)i, got, a->d[i], a->e[i]);
        }
    }
}

/* d loss / d argument, element i, by central differences in fp64 with one Richardson step: error O(h^4). */
static double slope(const op_case *c, int of, int64_t i)
{
    double *x = &c->arg[of].d[i], x0 = *x, d[2];
    for (int k = 0; k < 2; k++) {
        double h = k ? 1e-3 : 2e-3;
        *x = x0 + h;
        double up = c->op->loss(c);
        *x = x0 - h;
        d[k] = (up - c->op->loss(c)) / (2 * h);
    }
    *x = x0;
    return (4 * d[1] - d[0]) / 3;
}

static void check_grads(op_case *c, int size, void *const *out)
{
    for (int g = 0; g < 3 && c->op->grad[g].of; g++) {
        int k = c->op->grad[g].grad, of = c->op->grad[g].of;
        const op_arg *a = &c->arg[k];
        if (!out[k]) continue;
        double largest = 0;
        for (int64_t i = 0; i < a->count; i++) largest = fmax(largest, fabs(value(a, out[k], i)));
        double bound = c->op->grad_eps * EPS32 * (1 + largest);
        const int64_t sample = a->count < 150 ? a->count : 150; /* the loss is slow; spread over the tensor */
        for (int64_t s = 0; s < sample; s++) {
            int64_t i = s * a->count / sample;
            double want = slope(c, of, i) + (a->role == ARG_ACC ? a->d[i] : 0), got = value(a, out[k], i);
            if (!(fabs(got - want) <= bound))
                fail_msg("%s size %d gradient %d element %lld: %.9g, wanted %.9g +- %.3g", c->op->name, size, k,
                         (long long)i, got, want, bound);
        }
    }
}

static void test_row(void **state)
{
    const op_row *row = *state;
    for (int s = 0; s < row->n_size; s++) {
        op_case c;
        void *out[CASE_ARGS];
        case_make(&c, row, s);
        const char *bad = case_run(b, &c, out);
        if (bad) fail_msg("%s size %d: %s", row->name, s, bad);
        if (row->want) {
            row->want(&c);
            check_values(&c, s, out);
        } else {
            check_grads(&c, s, out);
        }
        case_out_free(out);
        case_free(&c);
    }
}

/* NaN in must be NaN out, and only where it belongs. */
static void test_not_a_number(void **state)
{
    (void)state;
    float x[3 * 20], w[5 * 20], y[3 * 5], rstd[3], scale[20];
    for (int i = 0; i < 60; i++) x[i] = (float)(i % 7) - 3;
    for (int i = 0; i < 100; i++) w[i] = (float)(i % 5) - 2;
    for (int i = 0; i < 20; i++) scale[i] = 1;
    x[20 + 3] = NAN;
    tensor tx = tensor_2d(x, DT_F32, 3, 20), tw = tensor_2d(w, DT_F32, 5, 20), ty = tensor_2d(y, DT_F32, 3, 5);
    b->linear_fwd(b, &ty, &tx, &tw, NULL);
    for (int i = 0; i < 15; i++) assert_int_equal(isnan(y[i]) != 0, i / 5 == 1);
    float norm[60];
    tensor tn = tensor_2d(norm, DT_F32, 3, 20), tr = tensor_1d(rstd, DT_F32, 3), ts = tensor_1d(scale, DT_F32, 20);
    b->rmsnorm_fwd(b, &tn, &tr, &tx, &ts, 1e-6f);
    for (int i = 0; i < 60; i++) assert_int_equal(isnan(norm[i]) != 0, i / 20 == 1);
    float logp[3], lse[3];
    int32_t target[3] = {0, 1, 2};
    tensor tl = tensor_1d(logp, DT_F32, 3), te = tensor_1d(lse, DT_F32, 3), tt = tensor_1d(target, DT_I32, 3);
    b->logprob_fwd(b, &tl, &te, NULL, &tx, &tw, &tt, NULL, 1);
    for (int i = 0; i < 3; i++) assert_int_equal(isnan(logp[i]) != 0, i == 1);
    float in[] = {NAN, INFINITY, -INFINITY, 0, -1e30f, 1e30f, -40, 40}, out[8];
    tensor ti = tensor_1d(in, DT_F32, 8), to = tensor_1d(out, DT_F32, 8);
    b->gelu_fwd(b, &to, &ti);
    assert_true(isnan(out[0]) && isinf(out[1]) && out[2] == 0 && out[3] == 0 && out[4] == 0 && out[5] == 1e30f &&
                out[6] == 0 && out[7] == 40);
    float one[8] = {1, 1, 1, 1, 1, 1, 1, 1}, d[8];
    tensor t1 = tensor_1d(one, DT_F32, 8), td = tensor_1d(d, DT_F32, 8);
    b->gelu_bwd(b, &td, &t1, &ti);
    assert_true(isnan(d[0]) && d[1] == 1 && d[2] == 0 && d[3] == 0.5f && d[4] == 0 && d[5] == 1 && d[6] == 0 &&
                d[7] == 1);
    b->gelu_tanh_fwd(b, &to, &ti);
    assert_true(isnan(out[0]) && isinf(out[1]) && out[2] == 0 && out[3] == 0 && out[4] == 0 && out[5] == 1e30f &&
                out[6] == 0 && out[7] == 40);
    b->gelu_tanh_bwd(b, &td, &t1, &ti);
    assert_true(isnan(d[0]) && d[1] == 1 && d[2] == 0 && d[3] == 0.5f && d[4] == 0 && d[5] == 1 && d[6] == 0 &&
                d[7] == 1);
    float mean[3];
    tensor tm = tensor_1d(mean, DT_F32, 3);
    b->layernorm_fwd(b, &tn, &tm, &tr, &tx, &ts, &ts, 1e-6f);
    for (int i = 0; i < 60; i++) assert_int_equal(isnan(norm[i]) != 0, i / 20 == 1);
    float gu[] = {-100, 100, -1e30f, 3, 2, 1, 5, 0}, s[4];
    tensor tg = tensor_2d(gu, DT_F32, 1, 8), tsw = tensor_2d(s, DT_F32, 1, 4);
    b->swiglu_fwd(b, &tsw, &tg);
    assert_true(fabsf(s[0]) < 1e-35f && s[1] == 100 && s[2] == 0 && s[3] == 0);
}

/* A zero row must not divide by zero: eps keeps it finite. */
static void test_zero_row(void **state)
{
    (void)state;
    float x[16] = {0}, w[16], y[16], rstd[1];
    for (int i = 0; i < 16; i++) w[i] = 1;
    tensor tx = tensor_2d(x, DT_F32, 1, 16), tw = tensor_1d(w, DT_F32, 16), ty = tensor_2d(y, DT_F32, 1, 16);
    tensor tr = tensor_1d(rstd, DT_F32, 1);
    b->rmsnorm_fwd(b, &ty, &tr, &tx, &tw, 1e-6f);
    for (int i = 0; i < 16; i++) assert_true(y[i] == 0);
    assert_true(fabs(rstd[0] - 1e3) < 0.1);
    float mean[1];
    tensor tm = tensor_1d(mean, DT_F32, 1);
    for (int i = 0; i < 16; i++) x[i] = 3; /* a constant row has no deviation either */
    b->layernorm_fwd(b, &ty, &tm, &tr, &tx, &tw, &tw, 1e-6f);
    for (int i = 0; i < 16; i++) assert_true(y[i] == 1);
    assert_true(fabs(rstd[0] - 1e3) < 0.1 && mean[0] == 3);
}

/* Sampled frequencies follow the softmax: chi-square over 20 tokens, 20000 draws, 0.1 % quantile of 18 degrees. */
static void test_sample_distribution(void **state)
{
    (void)state;
    enum { V = 20, N = 20000, BANNED = 4 };
    static float x[N], logp[N];
    static int32_t id[N];
    static uint32_t key[4 * N];
    float w[V];
    uint8_t ban[V] = {0};
    ban[BANNED] = 1;
    double p[V], sum = 0;
    int count[V] = {0};
    for (int v = 0; v < V; v++) {
        w[v] = (float)(v % 7) * 0.5f;
        sum += p[v] = v == BANNED ? 0 : exp((double)w[v] * 0.8);
    }
    for (int i = 0; i < N; i++) {
        x[i] = 1;
        rng_key k = rng_make_key(5, RNG_TEST, (uint64_t)i, 0, 0, 0);
        memcpy(key + 4 * i, k.w, sizeof k.w);
    }
    tensor tx = tensor_2d(x, DT_F32, N, 1), tw = tensor_2d(w, DT_F32, V, 1), ti = tensor_1d(id, DT_I32, N);
    tensor tl = tensor_1d(logp, DT_F32, N), tb = tensor_1d(ban, DT_U8, V), tk = tensor_2d(key, DT_U32, N, 4);
    b->sample(b, &ti, &tl, &tx, &tw, &tb, &tk, 0.8f);
    for (int i = 0; i < N; i++) count[id[i]]++;
    double chi = 0;
    for (int v = 0; v < V; v++)
        if (v != BANNED) chi += pow(count[v] - N * p[v] / sum, 2) / (N * p[v] / sum);
    assert_int_equal(count[BANNED], 0);
    assert_true(chi < 42.3);
}

/* Rewriting weights takes effect: by upload, and in place after params_changed. */
static void test_packed_weights(void **state)
{
    (void)state;
    float x[2] = {1, 2}, w[6] = {1, 0, 0, 1, 1, 1}, y[3];
    void *mem;
    assert_int_equal(b->alloc(b, sizeof w, &mem), ST_OK);
    tensor tx = tensor_2d(x, DT_F32, 1, 2), tw = tensor_2d(mem, DT_F32, 3, 2), ty = tensor_2d(y, DT_F32, 1, 3);
    b->upload(b, &tw, w);
    b->linear_fwd(b, &ty, &tx, &tw, NULL);
    assert_true(y[0] == 1 && y[1] == 2 && y[2] == 3);
    w[0] = 5;
    b->upload(b, &tw, w);
    b->linear_fwd(b, &ty, &tx, &tw, NULL);
    assert_true(y[0] == 5);
    ((float *)mem)[0] = 7;
    b->params_changed(b);
    b->linear_fwd(b, &ty, &tx, &tw, NULL);
    assert_true(y[0] == 7);
    b->release(b, mem);
}

int main(void)
{
    if (backend_open_cpu(&b, 2, "auto") != ST_OK) {
        fprintf(stderr, "%s\n", fail_message());
        return 1;
    }
    struct CMUnitTest tests[64];
    int n = 0;
    for (int i = 0; i < op_row_count; i++)
        tests[n++] = (struct CMUnitTest){op_rows[i]->name, test_row, NULL, NULL, (void *)op_rows[i]};
    const struct CMUnitTest more[] = {cmocka_unit_test(test_not_a_number), cmocka_unit_test(test_zero_row),
                                      cmocka_unit_test(test_sample_distribution),
                                      cmocka_unit_test(test_packed_weights)};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) tests[n++] = more[i];
    int failed = _cmocka_run_group_tests("ops", tests, (size_t)n, NULL, NULL);
    backend_close(b);
    return failed;
}
