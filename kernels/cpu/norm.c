/* Drivers of the norms: RMSNorm, LayerNorm, and RMSNorm of single heads. Rows split over threads; weight gradients
 * split the columns, so that each is one chain over ascending rows. */
#include <string.h>

#include "kernels/cpu/cpu.h"

typedef struct job {
    const kern *k;
    float *out, *out2, *out3; /* y rstd mean, or dx dw dbias */
    const float *f[5];
    int64_t rows, cols;
    float eps;
} job;

static int64_t strips(int64_t cols) { return (cols + LANES - 1) / LANES; }
static int64_t strip_end(int end, int64_t cols) { return (int64_t)end * LANES < cols ? (int64_t)end * LANES : cols; }

static void rmsnorm_fwd_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    int64_t at = begin * j->cols;
    j->k->rmsnorm_fwd(j->out + at, j->out2 + begin, j->f[0] + at, j->f[1], j->eps, end - begin, j->cols);
}

void cpu_rmsnorm_fwd(backend *b, tensor *y, tensor *rstd, const tensor *x, const tensor *w, float eps)
{
    cpu *c = cpu_of(b);
    CHECK_F32(y), CHECK_F32(rstd), CHECK_F32(x), CHECK_F32(w);
    int64_t n = rows_of(x), cols = cols_of(x);
    CHECK(tensor_count(y) == n * cols && tensor_count(rstd) == n && tensor_count(w) == cols);
    job j = {.k = c->k, .out = y->data, .out2 = rstd->data, .f = {x->data, w->data}, .cols = cols, .eps = eps};
    cpu_for(c, n, 5.0 * (double)(n * cols), rmsnorm_fwd_rows, &j);
}

static void rmsnorm_bwd_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    int64_t at = begin * j->cols;
    j->k->rmsnorm_bwd(j->out + at, j->f[0] + at, j->f[1] + at, j->f[2], j->f[3] + begin, end - begin, j->cols);
}

static void rmsnorm_dw_cols(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    j->k->rmsnorm_dw(j->out2, j->f[0], j->f[1], j->f[3], j->rows, j->cols, (int64_t)begin * LANES,
                     strip_end(end, j->cols));
}

void cpu_rmsnorm_bwd(backend *b, tensor *dx, tensor *dw, const tensor *dy, const tensor *x, const tensor *w,
                     const tensor *rstd)
{
    cpu *c = cpu_of(b);
    CHECK_F32(dx), CHECK_F32(dy), CHECK_F32(x), CHECK_F32(w), CHECK_F32(rstd);
    int64_t n = rows_of(x), cols = cols_of(x);
    CHECK(tensor_count(dx) == n * cols && tensor_count(dy) == n * cols && tensor_count(rstd) == n);
    CHECK(tensor_count(w) == cols && (!dw || tensor_count(dw) == cols));
    job j = {.k = c->k,
             .out = dx->data,
             .out2 = dw ? dw->data : NULL,
             .f = {dy->data, x->data, w->data, rstd->data},
             .rows = n,
             .cols = cols};
    if (dw) cpu_for(c, strips(cols), 3.0 * (double)(n * cols), rmsnorm_dw_cols, &j); /* before dx: dx may be dy */
    cpu_for(c, n, 8.0 * (double)(n * cols), rmsnorm_bwd_rows, &j);
}

static void layernorm_fwd_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    int64_t at = begin * j->cols;
    j->k->layernorm_fwd(j->out + at, j->out3 + begin, j->out2 + begin, j->f[0] + at, j->f[1], j->f[2], j->eps,
                        end - begin, j->cols);
}

void cpu_layernorm_fwd(backend *b, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                       const tensor *bias, float eps)
{
    CHECK_F32(y), CHECK_F32(mean), CHECK_F32(rstd), CHECK_F32(x), CHECK_F32(w), CHECK_F32(bias);
    int64_t n = rows_of(x), cols = cols_of(x);
    CHECK(tensor_count(y) == n * cols && tensor_count(mean) == n && tensor_count(rstd) == n);
    CHECK(tensor_count(w) == cols && tensor_count(bias) == cols);
    job j = {.k = cpu_of(b)->k,
             .out = y->data,
             .out2 = rstd->data,
             .out3 = mean->data,
             .f = {x->data, w->data, bias->data},
             .cols = cols,
             .eps = eps};
    cpu_for(cpu_of(b), n, 8.0 * (double)(n * cols), layernorm_fwd_rows, &j);
}

static void layernorm_bwd_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    int64_t at = begin * j->cols;
    j->k->layernorm_bwd(j->out + at, j->f[0] + at, j->f[1] + at, j->f[2], j->f[3] + begin, j->f[4] + begin, end - begin,
                        j->cols);
}

static void layernorm_dw_cols(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    j->k->layernorm_dw(j->out2, j->out3, j->f[0], j->f[1], j->f[3], j->f[4], j->rows, j->cols, (int64_t)begin * LANES,
                       strip_end(end, j->cols));
}

void cpu_layernorm_bwd(backend *b, tensor *dx, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x,
                       const tensor *w, const tensor *mean, const tensor *rstd)
{
    cpu *c = cpu_of(b);
    CHECK_F32(dx), CHECK_F32(dw), CHECK_F32(dbias), CHECK_F32(dy), CHECK_F32(x), CHECK_F32(w);
    CHECK_F32(mean), CHECK_F32(rstd);
    int64_t n = rows_of(x), cols = cols_of(x);
    CHECK(tensor_count(dx) == n * cols && tensor_count(dy) == n * cols);
    CHECK(tensor_count(mean) == n && tensor_count(rstd) == n);
    CHECK(tensor_count(w) == cols && tensor_count(dw) == cols && tensor_count(dbias) == cols);
    job j = {.k = c->k,
             .out = dx->data,
             .out2 = dw->data,
             .out3 = dbias->data,
             .f = {dy->data, x->data, w->data, mean->data, rstd->data},
             .rows = n,
             .cols = cols};
    cpu_for(c, strips(cols), 5.0 * (double)(n * cols), layernorm_dw_cols, &j); /* before dx: dx may be dy */
    cpu_for(c, n, 12.0 * (double)(n * cols), layernorm_bwd_rows, &j);
}

/* ---- single heads ---- */

typedef struct heads {
    const kern *k;
    float *qkv, *raw, *rstd;
    const float *wq, *wk;
    float *dwq, *dwk;
    int64_t rows, width; /* floats of a row of qkv */
    int n_head, n_kv, dim;
    float eps;
} heads;

static void headnorm_fwd_rows(void *ctx, int begin, int end, int thread)
{
    const heads *h = ctx;
    (void)thread;
    const int64_t n = h->n_head + h->n_kv, q = (int64_t)h->n_head * h->dim;
    for (int64_t r = begin; r < end; r++) {
        float *x = h->qkv + r * h->width, *raw = h->raw + r * n * h->dim, *rstd = h->rstd + r * n;
        memcpy(raw, x, (size_t)(n * h->dim) * sizeof *raw);
        h->k->rmsnorm_fwd(x, rstd, raw, h->wq, h->eps, h->n_head, h->dim);
        h->k->rmsnorm_fwd(x + q, rstd + h->n_head, raw + q, h->wk, h->eps, h->n_kv, h->dim);
    }
}

static void headnorm_bwd_rows(void *ctx, int begin, int end, int thread)
{
    const heads *h = ctx;
    (void)thread;
    const int64_t n = h->n_head + h->n_kv, q = (int64_t)h->n_head * h->dim;
    for (int64_t r = begin; r < end; r++) {
        float *d = h->qkv + r * h->width;
        const float *raw = h->raw + r * n * h->dim, *rstd = h->rstd + r * n;
        h->k->rmsnorm_bwd(d, d, raw, h->wq, rstd, h->n_head, h->dim);
        h->k->rmsnorm_bwd(d + q, d + q, raw + q, h->wk, rstd + h->n_head, h->n_kv, h->dim);
    }
}

static void headnorm_dw_cols(void *ctx, int begin, int end, int thread)
{
    const heads *h = ctx;
    (void)thread;
    const int64_t n = h->n_head + h->n_kv, q = (int64_t)h->n_head * h->dim;
    const int64_t lo = (int64_t)begin * LANES, hi = strip_end(end, h->dim);
    for (int64_t r = 0; r < h->rows; r++) {
        const float *d = h->qkv + r * h->width, *raw = h->raw + r * n * h->dim, *rstd = h->rstd + r * n;
        h->k->rmsnorm_dw(h->dwq, d, raw, rstd, h->n_head, h->dim, lo, hi);
        h->k->rmsnorm_dw(h->dwk, d + q, raw + q, rstd + h->n_head, h->n_kv, h->dim, lo, hi);
    }
}

static heads check_heads(cpu *c, tensor *qkv, const tensor *raw, const tensor *rstd, const tensor *wq, const tensor *wk,
                         const attn_shape *a)
{
    CHECK_F32(qkv), CHECK_F32(raw), CHECK_F32(rstd), CHECK_F32(wq), CHECK_F32(wk);
    heads h = {.k = c->k,
               .qkv = qkv->data,
               .raw = raw->data,
               .rstd = rstd->data,
               .wq = wq->data,
               .wk = wk->data,
               .rows = rows_of(qkv),
               .width = cols_of(qkv),
               .n_head = a->n_head,
               .n_kv = a->n_kv,
               .dim = a->head_dim};
    int64_t n = a->n_head + a->n_kv;
    CHECK(h.width == (n + a->n_kv) * a->head_dim && tensor_count(wq) == h.dim && tensor_count(wk) == h.dim);
    CHECK(tensor_count(raw) == h.rows * n * h.dim && tensor_count(rstd) == h.rows * n);
    return h;
}

void cpu_headnorm_fwd(backend *b, tensor *qkv, tensor *raw, tensor *rstd, const tensor *wq, const tensor *wk,
                      const attn_shape *a, float eps)
{
    cpu *c = cpu_of(b);
    heads h = check_heads(c, qkv, raw, rstd, wq, wk, a);
    h.eps = eps;
    cpu_for(c, h.rows, 6.0 * (double)(h.rows * h.width), headnorm_fwd_rows, &h);
}

void cpu_headnorm_bwd(backend *b, tensor *dqkv, tensor *dwq, tensor *dwk, const tensor *raw, const tensor *rstd,
                      const tensor *wq, const tensor *wk, const attn_shape *a)
{
    cpu *c = cpu_of(b);
    heads h = check_heads(c, dqkv, raw, rstd, wq, wk, a);
    CHECK_F32(dwq), CHECK_F32(dwk);
    CHECK(tensor_count(dwq) == h.dim && tensor_count(dwk) == h.dim);
    h.dwq = dwq->data;
    h.dwk = dwk->data;
    cpu_for(c, strips(h.dim), 3.0 * (double)(h.rows * h.width), headnorm_dw_cols, &h); /* before dqkv is overwritten */
    cpu_for(c, h.rows, 8.0 * (double)(h.rows * h.width), headnorm_bwd_rows, &h);
}
