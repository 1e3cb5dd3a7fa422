/* Op cases: embedding, gather, scatter, pooling, rotary embedding. */
#include "tests/common/op_rows.h"

#include <math.h>

/* rows moved, rows of the table, columns */
SIZES(move, {1, 1, 1}, {0, 3, 5}, {7, 40, 17}, {33, 5, 128}, {64, 100, 96});

static void table_case(op_case *c, arg_role out, int64_t out_rows, int64_t in_rows, bool distinct, bool skip)
{
    const int n = c->size[0], rows = c->size[1], cols = c->size[2];
    arg_f32(c, out, out_rows, cols);
    arg_f32(c, ARG_IN, in_rows, cols);
    int32_t *idx = arg_i32(c, n, -1)->host;
    for (int i = 0; i < n; i++) {
        idx[i] = distinct ? (i * 7 + 3) % rows : (int32_t)case_below(c, (uint64_t)i, (uint32_t)rows);
        if (skip && i % 5 == 4) idx[i] = -1;
    }
}

static void take_want(op_case *c)
{
    const int32_t *idx = c->arg[2].host;
    for (int i = 0; i < c->size[0]; i++)
        for (int k = 0; k < c->size[2]; k++) A(0)[i * c->size[2] + k] = idx[i] < 0 ? 0 : A(1)[idx[i] * c->size[2] + k];
}

static void add_want(op_case *c)
{
    const int cols = c->size[2];
    const int32_t *idx = c->arg[2].host;
    for (int i = 0; i < c->size[1] * cols; i++) E(0)[i] = fabs(A(0)[i]);
    for (int i = 0; i < c->size[0]; i++)
        for (int k = 0; k < cols && idx[i] >= 0; k++) {
            A(0)[idx[i] * cols + k] += A(1)[i * cols + k];
            E(0)[idx[i] * cols + k] += fabs(A(1)[i * cols + k]);
        }
    for (int i = 0; i < c->size[1] * cols; i++) E(0)[i] *= EPS32 * c->size[0];
}

static void embed_fwd_make(op_case *c) { table_case(c, ARG_OUT, c->size[0], c->size[1], false, true); }
OP_CALL(embed_fwd, t[0], t[1], t[2])
static void embed_fwd_want(op_case *c) { take_want(c); }
VALUE_ROW(embed_fwd, move, TYPES(.act = ARG(0), .matrix = ARG(1)));

static void embed_bwd_make(op_case *c) { table_case(c, ARG_ACC, c->size[1], c->size[0], false, true); }
OP_CALL(embed_bwd, t[0], t[1], t[2])
static void embed_bwd_want(op_case *c) { add_want(c); }
VALUE_ROW(embed_bwd, move, TYPES(.act = ARG(1)));

static void rows_take_make(op_case *c) { table_case(c, ARG_OUT, c->size[0], c->size[1], false, false); }
OP_CALL(rows_take, t[0], t[1], t[2])
static void rows_take_want(op_case *c) { take_want(c); }
VALUE_ROW(rows_take, move, TYPES(.act = ARG(0) | ARG(1)));

static void rows_add_make(op_case *c) { table_case(c, ARG_ACC, c->size[1], c->size[0], false, false); }
OP_CALL(rows_add, t[0], t[1], t[2])
static void rows_add_want(op_case *c) { add_want(c); }
VALUE_ROW(rows_add, move, TYPES(.act = ARG(0) | ARG(1)));

SIZES(put, {1, 1, 1}, {0, 3, 5}, {7, 40, 17}, {33, 50, 128});
static void rows_put_make(op_case *c) { table_case(c, ARG_ACC, c->size[1], c->size[0], true, false); }
OP_CALL(rows_put, t[0], t[1], t[2])
static void rows_put_want(op_case *c)
{
    const int32_t *idx = c->arg[2].host;
    for (int i = 0; i < c->size[0]; i++)
        for (int k = 0; k < c->size[2]; k++) A(0)[idx[i] * c->size[2] + k] = A(1)[i * c->size[2] + k];
}
VALUE_ROW(rows_put, put, TYPES(.act = ARG(0) | ARG(1)));

/* N, taps, rows of the table, columns */
SIZES(mix, {1, 1, 1, 1}, {0, 4, 3, 5}, {7, 4, 9, 17}, {40, 4, 16, 96}, {5, 3, 2, 33});
static void mix_case(op_case *c, int y_rows, int x_rows)
{
    arg_f32(c, ARG_ACC, y_rows, c->size[3]);
    arg_f32(c, ARG_IN, x_rows, c->size[3]);
    int32_t *ids = arg_i32(c, c->size[0], c->size[1])->host;
    for (int i = 0; i < c->size[0] * c->size[1]; i++)
        ids[i] = (int32_t)case_below(c, (uint64_t)i, (uint32_t)c->size[2]);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
}

static void mix_fwd_make(op_case *c) { mix_case(c, c->size[0], c->size[2]); }
OP_CALL(mix_fwd, t[0], t[1], t[2], t[3])
static void mix_fwd_want(op_case *c)
{
    const int taps = c->size[1], cols = c->size[3];
    const int32_t *ids = c->arg[2].host;
    for (int i = 0; i < c->size[0]; i++)
        for (int k = 0; k < cols; k++) {
            double sum = 0, mass = 0;
            for (int t = 0; t < taps; t++) {
                double term = A(3)[i * taps + t] * A(1)[ids[i * taps + t] * cols + k];
                sum += term;
                mass += fabs(term);
            }
            A(0)[i * cols + k] += sum;
            E(0)[i * cols + k] = 1.01 * EPS32 * (taps * mass + fabs(A(0)[i * cols + k]));
        }
}
VALUE_ROW(mix_fwd, mix, TYPES(.act = ARG(0)));

static void mix_bwd_make(op_case *c) { mix_case(c, c->size[2], c->size[0]); }
OP_CALL(mix_bwd, t[0], t[1], t[2], t[3])
static void mix_bwd_want(op_case *c)
{
    const int n = c->size[0], taps = c->size[1], cols = c->size[3];
    const int32_t *ids = c->arg[2].host;
    for (int i = 0; i < c->size[2] * cols; i++) E(0)[i] = fabs(A(0)[i]);
    for (int i = 0; i < n * taps; i++)
        for (int k = 0; k < cols; k++) {
            double term = A(3)[i] * A(1)[i / taps * cols + k];
            A(0)[ids[i] * cols + k] += term;
            E(0)[ids[i] * cols + k] += fabs(term);
        }
    for (int i = 0; i < c->size[2] * cols; i++) E(0)[i] *= 1.01 * EPS32 * n * taps;
}
VALUE_ROW(mix_bwd, mix, TYPES(.act = ARG(1)));

/* segments, columns; segment s has s*s % 7 rows: some are empty */
SIZES(pool, {0, 3}, {1, 1}, {6, 17}, {20, 96});
static int32_t *pool_cu(op_case *c, int32_t *total)
{
    int32_t *cu = arg_i32(c, c->size[0] + 1, -1)->host;
    for (int s = 0; s < c->size[0]; s++) cu[s + 1] = cu[s] + s * s % 7;
    *total = cu[c->size[0]];
    return cu;
}
static int pool_rows(const op_case *c)
{
    int n = 0;
    for (int s = 0; s < c->size[0]; s++) n += s * s % 7;
    return n;
}

static void pool_fwd_make(op_case *c)
{
    int32_t total;
    arg_f32(c, ARG_OUT, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, pool_rows(c), c->size[1]);
    pool_cu(c, &total);
}
OP_CALL(pool_fwd, t[0], t[1], t[2])
static void pool_fwd_want(op_case *c)
{
    const int cols = c->size[1];
    const int32_t *cu = c->arg[2].host;
    for (int s = 0; s < c->size[0]; s++)
        for (int k = 0; k < cols; k++) {
            double sum = 0, mass = 0;
            for (int r = cu[s]; r < cu[s + 1]; r++) {
                sum += A(1)[r * cols + k];
                mass += fabs(A(1)[r * cols + k]);
            }
            A(0)[s * cols + k] = cu[s + 1] > cu[s] ? sum / (cu[s + 1] - cu[s]) : 0;
            E(0)[s * cols + k] = 7 * EPS32 * mass;
        }
}
VALUE_ROW(pool_fwd, pool, TYPES(.act = ARG(0) | ARG(1)));

static void pool_bwd_make(op_case *c)
{
    int32_t total;
    arg_f32(c, ARG_OUT, pool_rows(c), c->size[1]);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    pool_cu(c, &total);
}
OP_CALL(pool_bwd, t[0], t[1], t[2])
static void pool_bwd_want(op_case *c)
{
    const int cols = c->size[1];
    const int32_t *cu = c->arg[2].host;
    for (int s = 0; s < c->size[0]; s++)
        for (int r = cu[s]; r < cu[s + 1]; r++)
            for (int k = 0; k < cols; k++) A(0)[r * cols + k] = (float)(A(1)[s * cols + k] / (cu[s + 1] - cu[s]));
}
VALUE_ROW(pool_bwd, pool, TYPES(.act = ARG(0) | ARG(1)));

/* N, axes, half, largest position */
SIZES(rope, {1, 1, 1, 10}, {0, 3, 16, 1}, {5, 3, 16, 400}, {33, 2, 12, 90}, {9, 3, 64, 128000});
static void rope_table_make(op_case *c) /* cos sin | pos inv_freq axis */
{
    const int n = c->size[0], axes = c->size[1], half = c->size[2];
    arg_f32(c, ARG_OUT, n, half);
    arg_f32(c, ARG_OUT, n, half);
    int32_t *pos = arg_i32(c, n, axes)->host;
    for (int i = 0; i < n * axes; i++) pos[i] = (int32_t)case_below(c, (uint64_t)i, (uint32_t)c->size[3]);
    op_arg *f = arg_f32(c, ARG_IN, half, -1);
    for (int j = 0; j < half; j++) f->d[j] = ((float *)f->host)[j] = (float)pow(1e4, -(double)j / half);
    int32_t *axis = arg_i32(c, half, -1)->host;
    for (int j = 0; j < half; j++) axis[j] = j % axes;
}
OP_CALL(rope_table, t[0], t[1], t[2], t[3], t[4])
static void rope_table_want(op_case *c)
{
    const int half = c->size[2];
    const int32_t *pos = c->arg[2].host, *axis = c->arg[4].host;
    for (int i = 0; i < c->size[0] * half; i++) {
        float angle = (float)pos[i / half * c->size[1] + axis[i % half]] * ((float *)c->arg[3].host)[i % half];
        A(0)[i] = cos((double)angle); /* the angle is fp32 by definition */
        A(1)[i] = sin((double)angle);
        E(0)[i] = EPS32 * fabs(A(0)[i]) + 1e-10;
        E(1)[i] = EPS32 * fabs(A(1)[i]) + 1e-10;
    }
}
VALUE_ROW(rope_table, rope, TYPES(.act = 0));

/* N, heads, head_dim, columns behind the heads, inverse */
SIZES(turn, {1, 1, 2, 0, 0}, {0, 2, 8, 0, 0}, {5, 6, 32, 64, 0}, {5, 6, 32, 64, 1}, {7, 8, 24, 3, 0},
      {33, 3, 128, 1, 1});
static void rope_apply_make(op_case *c)
{
    const int n = c->size[0], half = c->size[2] / 2;
    arg_f32(c, ARG_ACC, n, c->size[1] * c->size[2] + c->size[3]);
    op_arg *co = arg_f32(c, ARG_IN, n, half), *si = arg_f32(c, ARG_IN, n, half);
    for (int i = 0; i < n * half; i++) {
        double angle = co->d[i] * 3;
        co->d[i] = ((float *)co->host)[i] = (float)cos(angle);
        si->d[i] = ((float *)si->host)[i] = (float)sin(angle);
    }
}
OP_CALL(rope_apply, t[0], t[1], t[2], c->size[1], c->size[2], c->size[4] != 0)
static void rope_apply_want(op_case *c)
{
    const int heads = c->size[1], half = c->size[2] / 2, width = heads * 2 * half + c->size[3];
    for (int r = 0; r < c->size[0]; r++)
        for (int h = 0; h < heads; h++)
            for (int j = 0; j < half; j++) {
                int lo = r * width + h * 2 * half + j, hi = lo + half;
                double x = A(0)[lo], y = A(0)[hi], co = A(1)[r * half + j], si = A(2)[r * half + j];
                if (c->size[4]) si = -si;
                A(0)[lo] = x * co - y * si;
                A(0)[hi] = y * co + x * si;
                E(0)[lo] = E(0)[hi] = 2 * EPS32 * (fabs(x) + fabs(y));
            }
}
VALUE_ROW(rope_apply, turn, TYPES(.act = ARG(0)));
