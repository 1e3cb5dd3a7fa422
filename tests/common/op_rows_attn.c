/* Op cases: attention and the KV cache. */
#include "tests/common/op_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* n_head, n_kv, head_dim, causal, list of segment lengths */
#define SHAPES                                                                                                      \
    {1, 1, 1, 1, 0}, {4, 2, 32, 1, 1}, {4, 4, 24, 0, 2}, {2, 1, 7, 1, 3}, {6, 2, 40, 1, 4}, {2, 2, 16, 0, 1},       \
        {7, 1, 128, 1, 4}, {2, 1, 7, 0, 5}, {4, 2, 16, 1, 5}, {6, 6, 80, 1, 6}, {14, 2, 20, 0, 6}, {2, 1, 130, 1, 4}, \
        {1, 1, 256, 0, 2}
SIZES(attn, SHAPES);
SIZES(bwd, SHAPES, {4, 1, 16, 0, 7}, {1, 1, 64, 1, 8}, {2, 2, 80, 0, 9}, {7, 1, 128, 1, 9});
SIZES(fwd, SHAPES, {7, 1, 128, 1, 5}, {2, 2, 80, 0, 5}, {3, 1, 256, 1, 5}); /* long: too slow for a gradient check */
static const int segments[][14] = {{1, 1}, /* count, lengths */
                                   {3, 37, 1, 52},
                                   {4, 0, 16, 17, 0},
                                   {0},
                                   {2, 8, 30},
                                   {2, 100, 70},
                                   {13, 1, 2, 0, 0, 3, 1, 1, 5, 17, 1, 0, 2, 9},
                                   {3, 1, 63, 65}, /* around a tile of 64, and several of them */
                                   {2, 64, 130},
                                   {2, 65, 1}};

static int total_rows(const op_case *c)
{
    int n = 0;
    for (int s = 1; s <= segments[c->size[4]][0]; s++) n += segments[c->size[4]][s];
    return n;
}

static int32_t *arg_cu(op_case *c)
{
    const int *len = segments[c->size[4]];
    int32_t *cu = arg_i32(c, len[0] + 1, -1)->host;
    for (int s = 0; s < len[0]; s++) cu[s + 1] = cu[s] + len[s + 1];
    c->attn = (attn_shape){c->size[0], c->size[1], c->size[2], 1.0f / sqrtf((float)c->size[2]), c->size[3] != 0};
    return cu;
}

static int qkv_cols(const op_case *c) { return (c->size[0] + 2 * c->size[1]) * c->size[2]; }

/* Forward in fp64. lse may be NULL; spread (may be NULL): sum of p |v|, for bounds. */
static void attend(const op_case *c, const double *qkv, const int32_t *cu, int n_seg, double *o, double *lse,
                   double *spread)
{
    const int nh = c->size[0], nkv = c->size[1], dim = c->size[2], width = qkv_cols(c);
    double *p = malloc(1000 * sizeof *p);
    for (int s = 0; s < n_seg; s++)
        for (int i = cu[s]; i < cu[s + 1]; i++)
            for (int h = 0; h < nh; h++) {
                const double *q = qkv + i * width + h * dim, *k = qkv + (nh + h / (nh / nkv)) * dim, *v = k + nkv * dim;
                int last = c->size[3] ? i + 1 : cu[s + 1];
                double top = -INFINITY, sum = 0;
                for (int j = cu[s]; j < last; j++) {
                    double x = 0;
                    for (int d = 0; d < dim; d++) x += q[d] * k[j * width + d];
                    p[j - cu[s]] = x * c->attn.scale;
                    top = fmax(top, p[j - cu[s]]);
                }
                for (int j = cu[s]; j < last; j++) sum += p[j - cu[s]] = exp(p[j - cu[s]] - top);
                if (lse) lse[i * nh + h] = top + log(sum);
                for (int d = 0; d < dim; d++) {
                    double x = 0, y = 0;
                    for (int j = cu[s]; j < last; j++) {
                        x += p[j - cu[s]] * v[j * width + d];
                        y += p[j - cu[s]] * fabs(v[j * width + d]);
                    }
                    o[(i * nh + h) * dim + d] = x / sum;
                    if (spread) spread[(i * nh + h) * dim + d] = y / sum;
                }
            }
    free(p);
}

static void attn_fwd_make(op_case *c) /* o lse | qkv cu */
{
    int n = total_rows(c);
    arg_f32(c, ARG_OUT, n, c->size[0] * c->size[2]);
    arg_f32(c, ARG_OUT, n, c->size[0]);
    arg_f32(c, ARG_IN, n, qkv_cols(c));
    arg_cu(c);
}
OP_CALL(attn_fwd, t[0], t[1], t[2], t[3], &c->attn)
static void attn_fwd_want(op_case *c)
{
    attend(c, A(2), c->arg[3].host, segments[c->size[4]][0], A(0), A(1), E(0));
    /* a score is off by ds <= (dim + 2) EPS32 |q||k| scale (normal data: |q||k| scale < 6 sqrt(dim)); p by e^ds and 2
     * for exp, sums and the chain by one rounding a key */
    double ds = EPS32 * (c->size[2] + 2) * 6 * sqrt(c->size[2]);
    for (int64_t i = 0; i < c->arg[0].count; i++) M(0)[i] = E(0)[i], E(0)[i] *= 2 * ds + EPS32 * (100 + 20);
    for (int64_t i = 0; i < c->arg[1].count; i++) E(1)[i] = ds + EPS32 * 30 + EPS32 * fabs(A(1)[i]);
}
VALUE_ROW(attn_fwd, fwd, TYPES(.act = ARG(0) | ARG(2), .sums = true));

static void attn_bwd_make(op_case *c) /* dqkv | dout o lse qkv cu */
{
    int n = total_rows(c);
    arg_f32(c, ARG_OUT, n, qkv_cols(c));
    arg_f32(c, ARG_IN, n, c->size[0] * c->size[2]);
    arg_f32(c, ARG_IN, n, c->size[0] * c->size[2]);
    arg_f32(c, ARG_IN, n, c->size[0]);
    arg_f32(c, ARG_IN, n, qkv_cols(c));
    int32_t *cu = arg_cu(c);
    attend(c, A(4), cu, segments[c->size[4]][0], A(2), A(3), NULL);
    for (int64_t i = 0; i < c->arg[2].count; i++) ((float *)c->arg[2].host)[i] = (float)A(2)[i];
    for (int64_t i = 0; i < c->arg[3].count; i++) ((float *)c->arg[3].host)[i] = (float)A(3)[i];
}
OP_CALL(attn_bwd, t[0], t[1], t[2], t[3], t[4], t[5], &c->attn)
static double attn_bwd_loss(const op_case *c)
{
    double *o = malloc(sizeof *o * (size_t)(c->arg[1].count + 1)), loss = 0;
    attend(c, A(4), c->arg[5].host, segments[c->size[4]][0], o, NULL, NULL);
    for (int64_t i = 0; i < c->arg[1].count; i++) loss += A(1)[i] * o[i];
    free(o);
    return loss;
}
/* What the tensor cores' way may change: p and ds are rounded to bf16, 2^-8 of their terms. The rest is fp32, here five
 * times (the CPU's chains, and four times for a tensor core): a score is off by (dim + 4) EPS32 (scale |q||k| + |lse|), p by
 * twice that relatively, as e^x - 1 < 2x; dp and delta by (dim + 4) EPS32 times |dout||v|, |dout||o|; a sum by an EPS32 of
 * its terms for each of them, of which there are at most rows of all segments times heads of the group. */
static void attn_bwd_terms(op_case *c)
{
    const int nh = c->size[0], nkv = c->size[1], dim = c->size[2], width = qkv_cols(c);
    const int32_t *cu = c->arg[5].host;
    const double fp32 = 5 * EPS32 * (dim + 4), sum = 5 * EPS32 * total_rows(c) * (nh / nkv), scale = (double)c->attn.scale;
    for (int s = 0; s < segments[c->size[4]][0]; s++)
        for (int i = cu[s]; i < cu[s + 1]; i++)
            for (int at = i * nh; at < (i + 1) * nh; at++) {
                const int q = i * width + at % nh * dim;
                const double *dout = A(1) + at * dim, *o = A(2) + at * dim, lse = A(3)[at];
                for (int j = cu[s]; j < (c->size[3] ? i + 1 : cu[s + 1]); j++) {
                    const int k = j * width + (nh + at % nh / (nh / nkv)) * dim, v = k + nkv * dim;
                    double x = 0, x_abs = 0, dp = 0, dp_abs = 0;
                    for (int d = 0; d < dim; d++) {
                        x += A(4)[q + d] * A(4)[k + d] * scale;
                        x_abs += fabs(A(4)[q + d] * A(4)[k + d]) * scale;
                        dp += dout[d] * (A(4)[v + d] - o[d]);
                        dp_abs += fabs(dout[d]) * (fabs(A(4)[v + d]) + fabs(o[d]));
                    }
                    double p = exp(x - lse), off = 0x1p-8 + 2 * fp32 * (x_abs + fabs(lse)) + sum;
                    double ds = p * scale * (fabs(dp) * off + fp32 * dp_abs);
                    for (int d = 0; d < dim; d++) {
                        E(0)[q + d] += ds * fabs(A(4)[k + d]);
                        E(0)[k + d] += ds * fabs(A(4)[q + d]);
                        E(0)[v + d] += p * off * fabs(dout[d]);
                    }
                }
            }
}
GRAD_ROW(attn_bwd, bwd, 100,
         TYPES(.act = ARG(0) | ARG(1) | ARG(2) | ARG(4), .sums = true, .terms = attn_bwd_terms), {0, 4});

/* A cache of N_BLOCK blocks: block b of segment s, all distinct for these lists. */
enum { N_BLOCK = 16, TABLE_COLS = 7 };
static int blocks_of(int tokens) { return (tokens + ATTN_BLOCK - 1) / ATTN_BLOCK; }
static int block_of(const op_case *c, int s, int b)
{
    for (int i = 0; i < s; i++) b += blocks_of(segments[c->size[4]][i + 1]);
    return (7 * b + 1) % N_BLOCK;
}

static void kv_store_make(op_case *c) /* kv | qkv slot */
{
    const int *len = segments[c->size[4]];
    c->attn = (attn_shape){c->size[0], c->size[1], c->size[2], 1, true};
    arg_f32(c, ARG_ACC, N_BLOCK, kv_block_floats(&c->attn));
    arg_f32(c, ARG_IN, total_rows(c), qkv_cols(c));
    int32_t *slot = arg_i32(c, total_rows(c), -1)->host;
    for (int s = 0, n = 0; s < len[0]; s++)
        for (int i = 0; i < len[s + 1]; i++, n++)
            slot[n] = n % 9 == 8 ? -1 : block_of(c, s, i / ATTN_BLOCK) * ATTN_BLOCK + i % ATTN_BLOCK;
}
OP_CALL(kv_store, t[0], t[1], t[2], &c->attn)
/* The layout is the backend's own business, except that keys come before values; this is the CPU's. */
static void kv_store_want(op_case *c)
{
    const int nh = c->size[0], nkv = c->size[1], dim = c->size[2];
    const int32_t *slot = c->arg[2].host;
    for (int64_t i = 0; i < c->arg[2].count; i++) {
        if (slot[i] < 0) continue;
        double *k = A(0) + slot[i] / ATTN_BLOCK * kv_block_floats(&c->attn), *v = k + nkv * dim * ATTN_BLOCK;
        const double *from = A(1) + i * qkv_cols(c) + nh * dim;
        for (int e = 0; e < nkv * dim; e++) {
            k[e * ATTN_BLOCK + slot[i] % ATTN_BLOCK] = from[e];
            v[(e / dim * ATTN_BLOCK + slot[i] % ATTN_BLOCK) * dim + e % dim] = from[nkv * dim + e];
        }
    }
}
VALUE_ROW(kv_store, attn, TYPES(.act = ARG(0) | ARG(1)));

enum { N_COPY = 6 }; /* one after the other: some are copied on, one is overwritten after it was read */
static void kv_copy_make(op_case *c)
{
    c->attn = (attn_shape){c->size[0], c->size[1], c->size[2], 1, true};
    arg_f32(c, ARG_ACC, N_BLOCK, kv_block_floats(&c->attn));
    int32_t *dst = arg_i32(c, N_COPY, -1)->host, *src = arg_i32(c, N_COPY, -1)->host;
    memcpy(dst, (int32_t[N_COPY]){1, 9, 4, 5, 15, 2}, N_COPY * sizeof *dst);
    memcpy(src, (int32_t[N_COPY]){0, 15, 0, 4, 14, 2}, N_COPY * sizeof *src);
}
OP_CALL(kv_copy, t[0], t[1], t[2])
static void kv_copy_want(op_case *c)
{
    size_t block = sizeof(double) * (size_t)kv_block_floats(&c->attn), n = block / sizeof(double);
    const int32_t *dst = c->arg[1].host, *src = c->arg[2].host;
    for (int i = 0; i < N_COPY; i++) memmove(A(0) + (size_t)dst[i] * n, A(0) + (size_t)src[i] * n, block);
}
VALUE_ROW(kv_copy, attn, TYPES(.act = ARG(0)));

/* n_head, n_kv, head_dim, causal, list of segment lengths, new rows: the last of every segment, whose whole context lies
 * in the cache. */
SIZES(paged, {1, 1, 1, 1, 0, 5}, {4, 2, 32, 1, 1, 5}, {2, 1, 7, 1, 3, 5}, {6, 2, 40, 1, 4, 5}, {4, 4, 24, 1, 2, 5},
      {7, 1, 128, 1, 5, 1}, {14, 2, 80, 1, 6, 1}, {4, 2, 32, 1, 5, 40}, {7, 1, 128, 1, 1, 9}, {32, 1, 16, 1, 5, 1},
      {2, 2, 130, 1, 5, 1}, {3, 1, 256, 1, 5, 12});
/* Where element e of a row, of its keys or values, lies for token i of segment s. */
static float *cached(const op_case *c, float *kv, int s, int i, int e)
{
    const int nkv = c->size[1], dim = c->size[2], from = e - c->size[0] * dim, j = i % ATTN_BLOCK;
    float *k = kv + block_of(c, s, i / ATTN_BLOCK) * kv_block_floats(&c->attn), *v = k + nkv * dim * ATTN_BLOCK;
    if (from < nkv * dim) return k + from * ATTN_BLOCK + j;
    return v + ((from - nkv * dim) / dim * ATTN_BLOCK + j) * dim + from % dim;
}
static void attn_paged_make(op_case *c) /* o | qkv kv table cu ctx */
{
    const int *len = segments[c->size[4]], nh = c->size[0], nkv = c->size[1], dim = c->size[2], width = qkv_cols(c);
    c->attn = (attn_shape){nh, nkv, dim, 1.0f / sqrtf((float)dim), true};
    int n = 0;
    for (int s = 1; s <= len[0]; s++) n += len[s] < c->size[5] ? len[s] : c->size[5];
    arg_f32(c, ARG_OUT, n, nh * dim);
    op_arg *q = arg_f32(c, ARG_IN, n, width), *kv = arg_f32(c, ARG_IN, N_BLOCK, kv_block_floats(&c->attn));
    int32_t *table = arg_i32(c, len[0], TABLE_COLS)->host, *cu = arg_i32(c, len[0] + 1, -1)->host;
    int32_t *ctx = arg_i32(c, len[0], -1)->host;
    int row = 0, at = 0;
    for (int i = 0; i < N_BLOCK * (int)kv_block_floats(&c->attn); i++)
        ((float *)kv->host)[i] = NAN; /* never to be read */
    for (int s = 0; s < len[0]; s++) {
        int new_rows = len[s + 1] < c->size[5] ? len[s + 1] : c->size[5];
        ctx[s] = len[s + 1];
        cu[s + 1] = cu[s] + new_rows;
        for (int b = 0; b < TABLE_COLS; b++) /* beyond the context: never to be looked at */
            table[s * TABLE_COLS + b] = b < blocks_of(ctx[s]) ? block_of(c, s, b) : -1;
        for (int i = 0; i < len[s + 1]; i++, row++) {
            bool fresh = i >= len[s + 1] - new_rows;
            for (int e = nh * dim; e < width; e++)
                *cached(c, kv->host, s, i, e) = fresh ? ((float *)q->host)[at * width + e]
                                                      : (float)case_below(c, (uint64_t)(row * width + e), 4096) / 1024 - 2;
            at += fresh;
        }
    }
}
OP_CALL(attn_paged, t[0], t[1], t[2], t[3], t[4], t[5], &c->attn)
static void attn_paged_want(op_case *c)
{
    const int *len = segments[c->size[4]], nh = c->size[0], dim = c->size[2], width = qkv_cols(c);
    const int32_t *cu = c->arg[4].host;
    const float *q = c->arg[1].host;
    int32_t first[16] = {0};
    int total = total_rows(c);
    double *all = calloc((size_t)(total * width + 1), sizeof *all);
    double *o = calloc((size_t)(total * nh * dim + 1), sizeof *o), *spread = calloc((size_t)(total * nh * dim + 1), sizeof *o);
    for (int s = 0; s < len[0]; s++) {
        first[s + 1] = first[s] + len[s + 1];
        for (int i = 0; i < len[s + 1]; i++) {
            int fresh = i - len[s + 1] + cu[s + 1] - cu[s]; /* of the segment's new rows */
            for (int e = 0; e < width; e++) /* queries of old rows: any */
                all[(first[s] + i) * width + e] = e >= nh * dim ? *cached(c, c->arg[2].host, s, i, e)
                                                  : fresh >= 0  ? q[(cu[s] + fresh) * width + e]
                                                                : 0;
        }
    }
    attend(c, all, first, len[0], o, NULL, spread);
    double ds = EPS32 * (dim + 2) * 6 * sqrt(dim);
    for (int s = 0, w = 0; s < len[0]; s++)
        for (int i = first[s + 1] - (cu[s + 1] - cu[s]); i < first[s + 1]; i++)
            for (int e = 0; e < nh * dim; e++, w++) {
                A(0)[w] = o[i * nh * dim + e];
                M(0)[w] = spread[i * nh * dim + e];
                E(0)[w] = M(0)[w] * (2 * ds + EPS32 * 120);
            }
    free(all);
    free(o);
    free(spread);
}
VALUE_ROW(attn_paged, paged, TYPES(.act = ARG(0) | ARG(1) | ARG(2), .sums = true));
