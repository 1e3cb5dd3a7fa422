/* Op cases: log-probabilities and sampling. */
#include "tests/common/op_rows.h"

#include <math.h>
#include <stdlib.h>

#include "core/rng.h"

/* R, C, V, flags: 1 bans, 2 entropy, 4 no dw; inverse temperature in tenths */
SIZES(head, {1, 1, 1, 0, 10}, {0, 4, 7, 2, 10}, {3, 17, 33, 3, 7}, {70, 32, 341, 3, 10}, {5, 96, 16, 6, 15},
      {9, 8, 1000, 1, 10}, {2, 3, 4096, 2, 10}, {2, 2, 9003, 3, 12}, {290, 4, 20, 3, 10});
static float inv_temp(const op_case *c) { return (float)c->size[4] / 10; }
static bool flag(const op_case *c, int bit) { return (c->size[3] & bit) != 0; }

static void arg_ban(op_case *c)
{
    op_arg *ban = arg_any(c, ARG_IN, DT_U8, c->size[2], -1);
    ban->absent = !flag(c, 1);
    for (int v = 0; v < c->size[2]; v++) ((uint8_t *)ban->host)[v] = v % 7 == 5;
}

static void arg_target(op_case *c)
{
    op_arg *t = arg_i32(c, c->size[0], -1);
    for (int r = 0; r < c->size[0]; r++) {
        int32_t last = c->size[2] - 1, v = r == 1 ? last : (int32_t)case_below(c, (uint64_t)r, (uint32_t)c->size[2]);
        ((int32_t *)t->host)[r] = v % 7 == 5 ? v - 1 : v;
    }
}

/* One row in fp64; z has V places. */
static void row_stats(const op_case *c, const double *x, const double *w, bool ban, double *z, double *lse,
                      double *entropy, double *largest)
{
    const int cols = c->size[1], vocab = c->size[2];
    double top = -INFINITY, sum = 0;
    *largest = 0;
    for (int v = 0; v < vocab; v++) {
        double s = 0, mass = 0;
        for (int i = 0; i < cols; i++) {
            s += x[i] * w[v * cols + i];
            mass += fabs(x[i] * w[v * cols + i]);
        }
        z[v] = ban && v % 7 == 5 ? -INFINITY : s * inv_temp(c);
        *largest = fmax(*largest, mass * inv_temp(c));
        top = fmax(top, z[v]);
    }
    for (int v = 0; v < vocab; v++) sum += exp(z[v] - top);
    *lse = top + log(sum);
    *entropy = 0;
    for (int v = 0; v < vocab; v++)
        if (isfinite(z[v])) *entropy -= exp(z[v] - *lse) * (z[v] - *lse);
}

static void logprob_fwd_make(op_case *c) /* logp lse entropy | x w target ban */
{
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_OUT, c->size[0], -1)->absent = !flag(c, 2);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[2], c->size[1]);
    arg_target(c);
    arg_ban(c);
}
OP_CALL(logprob_fwd, t[0], t[1], t[2], t[3], t[4], t[5], t[6], inv_temp(c))
static void logprob_fwd_want(op_case *c)
{
    double *z = malloc(sizeof *z * (size_t)c->size[2]);
    for (int r = 0; r < c->size[0]; r++) {
        double mass;
        row_stats(c, A(3) + r * c->size[1], A(4), flag(c, 1), z, &A(1)[r], &A(2)[r], &mass);
        A(0)[r] = z[((int32_t *)c->arg[5].host)[r]] - A(1)[r];
        double dz = EPS32 * (c->size[1] + 3) * mass, sum = EPS32 * (c->size[2] / 16.0 + 12);
        E(1)[r] = dz + sum + EPS32 * fabs(A(1)[r]);
        E(0)[r] = 2 * dz + sum + 2 * EPS32 * (fabs(A(1)[r]) + fabs(A(0)[r]));
        E(2)[r] = (4 * dz + 2 * sum) * (1 + log(c->size[2])) + 4 * EPS32;
    }
    free(z);
}
VALUE_ROW(logprob_fwd, head, TYPES(.act = ARG(3), .matrix = ARG(4), .sums = true));

static void logprob_bwd_make(op_case *c) /* dx dw | x w target ban lse entropy dlogp dent */
{
    arg_f32(c, ARG_OUT, c->size[0], c->size[1]);
    arg_f32(c, ARG_ACC, c->size[2], c->size[1])->absent = flag(c, 4);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[2], c->size[1]);
    arg_target(c);
    arg_ban(c);
    op_arg *lse = arg_f32(c, ARG_IN, c->size[0], -1), *entropy = arg_f32(c, ARG_IN, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1)->absent = !flag(c, 2);
    double *z = malloc(sizeof *z * (size_t)c->size[2]);
    for (int r = 0; r < c->size[0]; r++) {
        double mass;
        row_stats(c, A(2) + r * c->size[1], A(3), flag(c, 1), z, &A(6)[r], &A(7)[r], &mass);
        ((float *)lse->host)[r] = (float)A(6)[r];
        ((float *)entropy->host)[r] = (float)A(7)[r];
    }
    free(z);
}
OP_CALL(logprob_bwd, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], inv_temp(c))
static double logprob_bwd_loss(const op_case *c)
{
    double *z = malloc(sizeof *z * (size_t)c->size[2]), loss = 0, lse, entropy, mass;
    for (int r = 0; r < c->size[0]; r++) {
        row_stats(c, A(2) + r * c->size[1], A(3), flag(c, 1), z, &lse, &entropy, &mass);
        loss += A(8)[r] * (z[((int32_t *)c->arg[4].host)[r]] - lse);
        if (flag(c, 2)) loss += A(9)[r] * entropy;
    }
    free(z);
    return loss;
}
GRAD_ROW(logprob_bwd, head, 300, TYPES(.act = ARG(0) | ARG(2), .matrix = ARG(3), .sums = true), {0, 2}, {1, 3});

/* R, C, V, bans, inverse temperature in tenths */
SIZES(sample, {1, 1, 1, 0, 10}, {0, 4, 7, 0, 10}, {40, 8, 33, 1, 10}, {17, 32, 341, 1, 0}, {64, 16, 341, 1, 13},
      {3, 8, 1003, 0, 5}, {2, 4, 4096, 0, 0}, {3, 8, 9003, 1, 10}, {290, 4, 20, 1, 10});
static void sample_make(op_case *c) /* id logp | x w ban key */
{
    arg_any(c, ARG_OUT, DT_I32, c->size[0], -1);
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[2], c->size[1]);
    arg_ban(c);
    uint32_t *key = arg_any(c, ARG_IN, DT_U32, c->size[0], 4)->host;
    for (int i = 0; i < 4 * c->size[0]; i++) key[i] = case_below(c, (uint64_t)i, UINT32_MAX);
}
OP_CALL(sample, t[0], t[1], t[2], t[3], t[4], t[5], inv_temp(c))
static void sample_want(op_case *c)
{
    const int cols = c->size[1], vocab = c->size[2];
    double *z = malloc(sizeof *z * (size_t)vocab);
    for (int r = 0; r < c->size[0]; r++) {
        double lse, entropy, mass, best = -INFINITY;
        op_case at = *c;
        int warm[CASE_SIZES] = {c->size[0], cols, vocab, c->size[3], c->size[4] ? c->size[4] : 10};
        at.size = warm;
        row_stats(&at, A(2) + r * cols, A(3), flag(c, 1), z, &lse, &entropy, &mass);
        int id = 0;
        rng_key key;
        for (int k = 0; k < 4; k++) key.w[k] = ((uint32_t *)c->arg[5].host)[4 * r + k];
        for (int v = 0; v < vocab; v++) {
            double score = z[v] - (c->size[4] ? log(-log((double)rng_uniform(key, (uint64_t)v))) : 0);
            if (score > best) {
                best = score;
                id = v;
            }
        }
        A(0)[r] = id;
        A(1)[r] = z[id] - lse;
        E(1)[r] = EPS32 * (2 * (cols + 3) * mass + vocab / 16.0 + 12 + 2 * fabs(lse));
    }
    free(z);
}
VALUE_ROW(sample, sample, TYPES(.act = ARG(2), .matrix = ARG(3), .sums = true));
