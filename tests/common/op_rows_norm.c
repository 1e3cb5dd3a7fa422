/* Op cases: norms. Bounds: n roundings of a sum cost at most n * EPS32 of the sum of its absolute terms (Higham 2002,
 * section 3.1); a row sum has 16 partials. */
#include "tests/common/op_rows.h"

#include <math.h>

/* N, C */
SIZES(rmsnorm, {1, 1}, {0, 8}, {3, 17}, {5, 128}, {33, 96}, {2, 4097}, {70, 31}, {64, 33}, {150, 40}, {1, 8209});
static const float norm_eps = 1e-6f;

static void rmsnorm_fwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], c->size[1]);
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[1], -1);
}
OP_CALL(rmsnorm_fwd, t[0], t[1], t[2], t[3], norm_eps)
static double rstd_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return 1 / sqrt(sum / n + (double)norm_eps);
}
static void rmsnorm_fwd_want(op_case *c)
{
    const int n = c->size[0], cols = c->size[1];
    for (int r = 0; r < n; r++) {
        double s = rstd_of(A(2) + r * cols, cols), rel = EPS32 * ((cols / 16.0 + 6) / 2 + 4); /* 16 partials, root */
        A(1)[r] = s;
        E(1)[r] = s * rel;
        for (int i = 0; i < cols; i++) {
            double y = A(2)[r * cols + i] * s * A(3)[i];
            A(0)[r * cols + i] = y;
            E(0)[r * cols + i] = fabs(y) * (rel + 2 * EPS32);
        }
    }
}
VALUE_ROW(rmsnorm_fwd, rmsnorm, TYPES(.act = ARG(0) | ARG(2)));

static void rmsnorm_bwd_make(op_case *c) /* dx dw | dy x w rstd */
{
    const int n = c->size[0], cols = c->size[1];
    arg_f32(c, ARG_OUT, n, cols);
    arg_f32(c, ARG_ACC, cols, -1)->absent = n == 5;
    arg_f32(c, ARG_IN, n, cols);
    arg_f32(c, ARG_IN, n, cols);
    arg_f32(c, ARG_IN, cols, -1);
    arg_f32(c, ARG_IN, n, -1);
    for (int r = 0; r < n; r++) ((float *)c->arg[5].host)[r] = (float)rstd_of(A(3) + r * cols, cols);
}
OP_CALL(rmsnorm_bwd, t[0], t[1], t[2], t[3], t[4], t[5])
static double rmsnorm_bwd_loss(const op_case *c)
{
    const int n = c->size[0], cols = c->size[1];
    double loss = 0;
    for (int r = 0; r < n; r++) {
        double s = rstd_of(A(3) + r * cols, cols);
        for (int i = 0; i < cols; i++) loss += A(2)[r * cols + i] * A(3)[r * cols + i] * s * A(4)[i];
    }
    return loss;
}
GRAD_ROW(rmsnorm_bwd, rmsnorm, 40, TYPES(.act = ARG(0) | ARG(2) | ARG(3)), {0, 3}, {1, 4});

static void layernorm_fwd_make(op_case *c)
{
    arg_f32(c, ARG_OUT, c->size[0], c->size[1]);
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_OUT, c->size[0], -1);
    arg_f32(c, ARG_IN, c->size[0], c->size[1]);
    arg_f32(c, ARG_IN, c->size[1], -1);
    arg_f32(c, ARG_IN, c->size[1], -1);
}
OP_CALL(layernorm_fwd, t[0], t[1], t[2], t[3], t[4], t[5], norm_eps)
static double mean_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum / n;
}
static double deviation_rstd(const double *x, int n, double mean)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return 1 / sqrt(sum / n + (double)norm_eps);
}
static void layernorm_fwd_want(op_case *c)
{
    const int n = c->size[0], cols = c->size[1];
    for (int r = 0; r < n; r++) {
        const double *x = A(3) + r * cols;
        double mean = mean_of(x, cols), s = deviation_rstd(x, cols, mean), mass = 0, chain = cols / 16.0 + 6;
        for (int i = 0; i < cols; i++) mass += fabs(x[i]) / cols;
        A(1)[r] = mean;
        E(1)[r] = EPS32 * (chain * mass + fabs(mean));
        /* an error e of the mean changes the mean square deviation by e^2, its terms by 2 roundings each */
        double rel = EPS32 * ((chain + 3) / 2 + 4) + E(1)[r] * E(1)[r] * s * s;
        A(2)[r] = s;
        E(2)[r] = s * rel;
        for (int i = 0; i < cols; i++) {
            double y = (x[i] - mean) * s * A(4)[i];
            A(0)[r * cols + i] = y + A(5)[i];
            E(0)
            [r * cols + i] =
                fabs(y) * (rel + 3 * EPS32) + E(1)[r] * s * fabs(A(4)[i]) + EPS32 * fabs(A(0)[r * cols + i]);
        }
    }
}
VALUE_ROW(layernorm_fwd, rmsnorm, TYPES(.act = ARG(0) | ARG(3)));

/* dx dw dbias | dy x w mean rstd, and the bias that only the loss needs */
static void layernorm_bwd_make(op_case *c)
{
    const int n = c->size[0], cols = c->size[1];
    arg_f32(c, ARG_OUT, n, cols);
    arg_f32(c, ARG_ACC, cols, -1);
    arg_f32(c, ARG_ACC, cols, -1);
    arg_f32(c, ARG_IN, n, cols);
    arg_f32(c, ARG_IN, n, cols);
    arg_f32(c, ARG_IN, cols, -1);
    op_arg *mean = arg_f32(c, ARG_IN, n, -1), *rstd = arg_f32(c, ARG_IN, n, -1);
    for (int r = 0; r < n; r++) {
        double m = mean_of(A(4) + r * cols, cols);
        ((float *)mean->host)[r] = (float)m;
        ((float *)rstd->host)[r] = (float)deviation_rstd(A(4) + r * cols, cols, m);
    }
    arg_f32(c, ARG_IN, cols, -1);
}
OP_CALL(layernorm_bwd, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7])
static double layernorm_bwd_loss(const op_case *c)
{
    const int n = c->size[0], cols = c->size[1];
    double loss = 0;
    for (int r = 0; r < n; r++) {
        const double *x = A(4) + r * cols;
        double mean = mean_of(x, cols), s = deviation_rstd(x, cols, mean);
        for (int i = 0; i < cols; i++) loss += A(3)[r * cols + i] * ((x[i] - mean) * s * A(5)[i] + A(8)[i]);
    }
    return loss;
}
GRAD_ROW(layernorm_bwd, rmsnorm, 60, TYPES(.act = ARG(0) | ARG(3) | ARG(4)), {0, 4}, {1, 5}, {2, 8});

/* N, query heads, kv heads, head_dim */
SIZES(headnorm, {1, 1, 1, 2}, {0, 2, 1, 8}, {3, 4, 2, 10}, {5, 7, 1, 32}, {40, 2, 2, 72}, {9, 8, 1, 128},
      {130, 5, 2, 20});
static attn_shape head_shape(const op_case *c)
{
    return (attn_shape){.n_head = c->size[1], .n_kv = c->size[2], .head_dim = c->size[3]};
}

static void headnorm_fwd_make(op_case *c) /* qkv raw rstd | wq wk */
{
    const int n = c->size[0], heads = c->size[1] + c->size[2], D = c->size[3];
    arg_f32(c, ARG_ACC, n, (heads + c->size[2]) * D);
    arg_f32(c, ARG_OUT, n, heads * D);
    arg_f32(c, ARG_OUT, n, heads);
    arg_f32(c, ARG_IN, D, -1);
    arg_f32(c, ARG_IN, D, -1);
    c->attn = head_shape(c);
}
OP_CALL(headnorm_fwd, t[0], t[1], t[2], t[3], t[4], &c->attn, norm_eps)
static void headnorm_fwd_want(op_case *c)
{
    const int n = c->size[0], H = c->size[1], heads = H + c->size[2], D = c->size[3];
    const double rel = EPS32 * ((D / 16.0 + 6) / 2 + 4); /* as rmsnorm_fwd */
    for (int r = 0; r < n; r++)
        for (int h = 0; h < heads; h++) {
            double *x = A(0) + (r * (heads + c->size[2]) + h) * D, *e = E(0) + (x - A(0)), s = rstd_of(x, D);
            A(2)[r * heads + h] = s;
            E(2)[r * heads + h] = s * rel;
            for (int d = 0; d < D; d++) {
                A(1)[(r * heads + h) * D + d] = x[d];
                x[d] *= s * A(h < H ? 3 : 4)[d];
                e[d] = fabs(x[d]) * (rel + 2 * EPS32);
            }
        }
}
VALUE_ROW(headnorm_fwd, headnorm, TYPES(.act = ARG(0) | ARG(1)));

static void headnorm_bwd_make(op_case *c) /* dqkv dwq dwk | raw rstd wq wk */
{
    const int n = c->size[0], heads = c->size[1] + c->size[2], D = c->size[3];
    arg_f32(c, ARG_ACC, n, (heads + c->size[2]) * D);
    arg_f32(c, ARG_ACC, D, -1);
    arg_f32(c, ARG_ACC, D, -1);
    arg_f32(c, ARG_IN, n, heads * D);
    op_arg *rstd = arg_f32(c, ARG_IN, n, heads);
    arg_f32(c, ARG_IN, D, -1);
    arg_f32(c, ARG_IN, D, -1);
    for (int i = 0; i < n * heads; i++) ((float *)rstd->host)[i] = (float)rstd_of(A(3) + i * D, D);
    c->attn = head_shape(c);
}
OP_CALL(headnorm_bwd, t[0], t[1], t[2], t[3], t[4], t[5], t[6], &c->attn)
/* In closed form, as the gradient is written over its input: g = dy w, xh = x s, dx = s (g - xh mean(g xh)). */
static void headnorm_bwd_want(op_case *c)
{
    const int n = c->size[0], H = c->size[1], heads = H + c->size[2], D = c->size[3];
    for (int k = 1; k <= 2; k++)
        for (int d = 0; d < D; d++) E(k)[d] = fabs(A(k)[d]);
    for (int r = 0; r < n; r++)
        for (int h = 0; h < heads; h++) {
            double *dy = A(0) + (r * (heads + c->size[2]) + h) * D, *e = E(0) + (dy - A(0));
            const double *x = A(3) + (r * heads + h) * D, *w = A(h < H ? 5 : 6);
            double s = rstd_of(x, D), mean = 0, mass = 0, *dw = A(h < H ? 1 : 2), *dw_e = E(h < H ? 1 : 2);
            for (int d = 0; d < D; d++) {
                dw[d] += dy[d] * x[d] * s;
                dw_e[d] += fabs(dy[d] * x[d] * s);
                mean += dy[d] * w[d] * x[d] * s / D;
                mass += fabs(dy[d] * w[d] * x[d] * s) / D;
            }
            for (int d = 0; d < D; d++) {
                double g = dy[d] * w[d], xh = x[d] * s;
                dy[d] = s * (g - xh * mean);
                e[d] = EPS32 * s * (5 * fabs(g) + fabs(xh) * (6 * fabs(mean) + (D / 16.0 + 10) * mass));
            }
        }
    for (int k = 1; k <= 2; k++)
        for (int d = 0; d < D; d++) E(k)[d] *= EPS32 * 1.01 * (n * heads + 4);
}
VALUE_ROW(headnorm_bwd, headnorm, TYPES(.act = ARG(0) | ARG(3)));
