/* Op cases: matrix products, element-wise ops, optimizer. Bounds: n roundings of a sum cost at most n * EPS32 of
 * the sum of its absolute terms (Higham 2002, section 3.1). */
#include "tests/common/op_rows.h"

#include <math.h>

/* N, O, I. The last ones: tiles of every size of a GPU in every direction, ragged, and lines that are no multiple of 16
 * bytes. */
SIZES(linear, {1, 1, 1}, {0, 5, 3}, {1, 341, 128}, {2, 17, 33}, {7, 128, 96}, {12, 31, 64}, {13, 33, 16}, {37, 53, 71},
      {64, 96, 48}, {100, 320, 20}, {3, 16, 1176}, {3, 5, 0}, {0, 0, 0}, {16, 48, 31}, {6, 144, 5}, {5, 72, 520},
      {40, 72, 328}, {250, 16, 40}, {200, 136, 264}, {197, 257, 259}, {2100, 136, 8});

/* out = begin + sum over k of a[k*as] b[k*bs] + bias */
static void dot(double *out, double *bound, double begin, const double *a, int as, const double *b, int bs, int n,
                double bias)
{
    double sum = begin, mass = fabs(begin);
    for (int k = 0; k < n; k++) {
        sum += a[k * as] * b[k * bs];
        mass += fabs(a[k * as] * b[k * bs]);
    }
    *out = sum + bias;
    *bound = EPS32 * 1.01 * ((n + 1) * mass + fabs(*out));
}

static void linear_fwd_make(op_case *c)
{
    const int n = c->size[0], out = c->size[1], in = c->size[2];
    arg_f32(c, ARG_OUT, n, out);
    arg_f32(c, ARG_IN, n, in);
    arg_f32(c, ARG_IN, out, in);
    arg_f32(c, ARG_IN, out, -1)->absent = out % 2 == 0;
}
OP_CALL(linear_fwd, t[0], t[1], t[2], t[3])
static void linear_fwd_want(op_case *c)
{
    const int n = c->size[0], out = c->size[1], in = c->size[2];
    for (int r = 0; r < n; r++)
        for (int o = 0; o < out; o++)
            dot(&A(0)[r * out + o], &E(0)[r * out + o], 0, A(1) + r * in, 1, A(2) + o * in, 1, in,
                c->arg[3].absent ? 0 : A(3)[o]);
}
VALUE_ROW(linear_fwd, linear, TYPES(.act = ARG(0) | ARG(1), .matrix = ARG(2), .sums = true));

static void linear_dx_make(op_case *c)
{
    const int n = c->size[0], out = c->size[1], in = c->size[2];
    arg_f32(c, ARG_OUT, n, in);
    arg_f32(c, ARG_IN, n, out);
    arg_f32(c, ARG_IN, out, in);
}
OP_CALL(linear_dx, t[0], t[1], t[2])
static void linear_dx_want(op_case *c)
{
    const int n = c->size[0], out = c->size[1], in = c->size[2];
    for (int r = 0; r < n; r++)
        for (int i = 0; i < in; i++)
            dot(&A(0)[r * in + i], &E(0)[r * in + i], 0, A(1) + r * out, 1, A(2) + i, in, out, 0);
}
VALUE_ROW(linear_dx, linear, TYPES(.act = ARG(0) | ARG(1), .matrix = ARG(2), .sums = true));

static void linear_dw_make(op_case *c)
{
    const int n = c->size[0], out = c->size[1], in = c->size[2];
    arg_f32(c, ARG_ACC, out, in);
    arg_f32(c, ARG_ACC, out, -1)->absent = out % 2 == 0;
    arg_f32(c, ARG_IN, n, out);
    arg_f32(c, ARG_IN, n, in);
}
OP_CALL(linear_dw, t[0], t[1], t[2], t[3])
static void linear_dw_want(op_case *c)
{
    const int n = c->size[0], out = c->size[1], in = c->size[2];
    static const double one[] = {1};
    for (int o = 0; o < out; o++) {
        for (int i = 0; i < in; i++)
            dot(&A(0)[o * in + i], &E(0)[o * in + i], A(0)[o * in + i], A(2) + o, out, A(3) + i, in, n, 0);
        dot(&A(1)[o], &E(1)[o], A(1)[o], A(2) + o, out, one, 0, n, 0);
    }
}
VALUE_ROW(linear_dw, linear, TYPES(.act = ARG(2) | ARG(3), .sums = true));

SIZES(count, {0}, {1}, {15}, {16}, {17}, {4096}, {5001});

static void add_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
}
OP_CALL(add, t[0], t[1], t[2])
static void add_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) A(0)[i] = (float)(A(1)[i] + A(2)[i]); /* one rounding: exact */
}
VALUE_ROW(add, count, TYPES(.act = ARG(0) | ARG(1) | ARG(2)));

static void axpy_make(op_case *c)
{
    arg_f32(c, ARG_ACC, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
}
OP_CALL(axpy, t[0], -0.3f, t[1])
static void axpy_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) {
        A(0)[i] += (double)-0.3f * A(1)[i];
        E(0)[i] = EPS32 * fabs(A(0)[i]);
    }
}
VALUE_ROW(axpy, count, TYPES(.act = 0));

static void fill_make(op_case *c) { arg_f32(c, ARG_OUT, c->size[0], -1); }
OP_CALL(fill, t[0], 2.5f)
static void fill_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) A(0)[i] = 2.5;
}
VALUE_ROW(fill, count, TYPES(.act = ARG(0)));

static void copy_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
}
OP_CALL(copy, t[0], t[1])
static void copy_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) A(0)[i] = A(1)[i];
}
VALUE_ROW(copy, count, TYPES(.act = ARG(0) | ARG(1)));

static void gelu_fwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], -1);
    op_arg *x = arg_f32(c, ARG_IN, c->size[0], -1);
    for (int i = 0; i < c->size[0]; i++) x->d[i] = ((float *)x->host)[i] *= 3; /* reach the tails */
}
OP_CALL(gelu_fwd, t[0], t[1])
static void gelu_fwd_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) {
        A(0)[i] = A(1)[i] * 0.5 * erfc(-A(1)[i] / sqrt(2));
        E(0)[i] = fabs(A(0)[i]) * (EPS32 + 3e-9); /* computed in double, rounded once */
    }
}
VALUE_ROW(gelu_fwd, count, TYPES(.act = ARG(0) | ARG(1)));

static void gelu_bwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
}
OP_CALL(gelu_bwd, t[0], t[1], t[2])
static double gelu_bwd_loss(const op_case *c)
{
    double loss = 0;
    for (int i = 0; i < c->size[0]; i++) loss += A(1)[i] * A(2)[i] * 0.5 * erfc(-A(2)[i] / sqrt(2));
    return loss;
}
GRAD_ROW(gelu_bwd, count, 2, TYPES(.act = ARG(0) | ARG(1) | ARG(2)), {0, 2});

static void gelu_tanh_fwd_make(op_case *c) { gelu_fwd_make(c); }
OP_CALL(gelu_tanh_fwd, t[0], t[1])
static double tanh_angle(double x) { return sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x); }
static void gelu_tanh_fwd_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) {
        double x = A(1)[i], u = tanh_angle(x);
        A(0)[i] = x / (1 + exp(-2 * u));
        /* 2u: 6 roundings (constants too), which the tail's exponential magnifies by 2u; exp 2, sum, quotient, product
         * of the tail, product; below 2^-126 an ulp no longer shrinks */
        E(0)[i] = fabs(A(0)[i]) * EPS32 * (7 + 6.1 * fabs(2 * u)) + 0x1p-147 * (1 + fabs(x));
    }
}
VALUE_ROW(gelu_tanh_fwd, count, TYPES(.act = ARG(0) | ARG(1)));

static void gelu_tanh_bwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
    op_arg *x = arg_f32(c, ARG_IN, c->size[0], -1);
    for (int i = 0; i < c->size[0]; i++) x->d[i] = ((float *)x->host)[i] *= 2;
}
OP_CALL(gelu_tanh_bwd, t[0], t[1], t[2])
static double gelu_tanh_bwd_loss(const op_case *c)
{
    double loss = 0;
    for (int i = 0; i < c->size[0]; i++) loss += A(1)[i] * A(2)[i] / (1 + exp(-2 * tanh_angle(A(2)[i])));
    return loss;
}
GRAD_ROW(gelu_tanh_bwd, count, 8, TYPES(.act = ARG(0) | ARG(1) | ARG(2)), {0, 2});

/* N, I */
SIZES(swiglu, {1, 1}, {0, 4}, {3, 17}, {5, 320}, {40, 192});

static void swiglu_fwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[0], 2 * c->size[1]);
}
OP_CALL(swiglu_fwd, t[0], t[1])
static double silu(double x) { return x / (1 + exp(-x)); }
static void swiglu_fwd_want(op_case *c)
{
    const int n = c->size[0], inner = c->size[1];
    for (int r = 0; r < n; r++)
        for (int i = 0; i < inner; i++) {
            double y = silu(A(1)[2 * r * inner + i]) * A(1)[(2 * r + 1) * inner + i];
            A(0)[r * inner + i] = y;
            E(0)[r * inner + i] = fabs(y) * EPS32 * 8; /* exp 2, sum, quotient, two products */
        }
}
VALUE_ROW(swiglu_fwd, swiglu, TYPES(.act = ARG(0) | ARG(1)));

static void swiglu_bwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], 2 * c->size[1]);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[0], 2 * c->size[1]);
}
OP_CALL(swiglu_bwd, t[0], t[1], t[2])
static double swiglu_bwd_loss(const op_case *c)
{
    const int n = c->size[0], inner = c->size[1];
    double loss = 0;
    for (int r = 0; r < n; r++)
        for (int i = 0; i < inner; i++)
            loss += A(1)[r * inner + i] * silu(A(2)[2 * r * inner + i]) * A(2)[(2 * r + 1) * inner + i];
    return loss;
}
GRAD_ROW(swiglu_bwd, swiglu, 12, TYPES(.act = ARG(0) | ARG(1) | ARG(2)), {0, 2});

static void adamw_make(op_case *c) /* w m v | g */
{
    arg_f32(c, ARG_ACC, c->size[0], -1);
    arg_f32(c, ARG_ACC, c->size[0], -1);
    arg_positive(c, arg_f32(c, ARG_ACC, c->size[0], -1));
    arg_f32(c, ARG_IN, c->size[0], -1);
    c->step = (adamw_step){
        .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .grad_scale = 0.7f, .t = 7};
}
OP_CALL(adamw, t[0], t[1], t[2], t[3], &c->step)
static void adamw_want(op_case *c)
{
    const adamw_step *s = &c->step;
    const double b1 = s->beta1, b2 = s->beta2;
    for (int i = 0; i < c->size[0]; i++) {
        double g = A(3)[i] * s->grad_scale, m0 = b1 * A(1)[i], v0 = b2 * A(2)[i];
        A(1)[i] = m0 + (1 - b1) * g;
        A(2)[i] = v0 + (1 - b2) * g * g;
        E(1)[i] = 4 * EPS32 * (fabs(m0) + fabs((1 - b1) * g));
        E(2)[i] = 6 * EPS32 * A(2)[i];
        double mh = A(1)[i] / (1 - pow(b1, 7)), vh = A(2)[i] / (1 - pow(b2, 7)), w = A(0)[i];
        double step = mh / (sqrt(vh) + s->eps) + s->weight_decay * w;
        A(0)[i] = w - s->lr * step;
        E(0)
        [i] = EPS32 * fabs(A(0)[i]) +
              s->lr * (16 * EPS32 * (fabs(mh) / sqrt(vh) + fabs(w)) + E(1)[i] / (1 - pow(b1, 7)) / sqrt(vh));
    }
}
VALUE_ROW(adamw, count, TYPES(.act = 0));

static void sumsq_blocks_make(op_case *c)
{
    arg_any(c, ARG_OUT, DT_F64, (c->size[0] + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK, -1);
    arg_f32(c, ARG_IN, c->size[0], -1);
}
OP_CALL(sumsq_blocks, t[0], t[1])
static void sumsq_blocks_want(op_case *c)
{
    for (int i = 0; i < c->size[0]; i++) {
        A(0)[i / SUMSQ_BLOCK] += A(1)[i] * A(1)[i];
        E(0)[i / SUMSQ_BLOCK] = 1e-12 * A(0)[i / SUMSQ_BLOCK];
    }
}
VALUE_ROW(sumsq_blocks, count, TYPES(.act = 0));
