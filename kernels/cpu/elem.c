/* Drivers of element-wise ops, rotary embedding and the optimizer. */
#include <string.h>

#include "kernels/cpu/cpu.h"

/* One context for all of them: f = float operands in the order the op uses them, rows x cols, a kernel table. */
typedef struct job {
    const kern *k;
    float *out, *out2;
    const float *f[6];
    const int32_t *pos, *axis;
    int64_t rows, cols, inner, axes;
    float value;
    int heads;
    bool inverse;
    const adamw_step *step;
    float *state[2];
    float bias[2];
} job;

/* Element-wise ops are cut into blocks of SPAN elements. */
enum { SPAN = 4096 };
static int64_t spans(int64_t n) { return (n + SPAN - 1) / SPAN; }
static int64_t span_end(int end, int64_t n) { return (int64_t)end * SPAN < n ? (int64_t)end * SPAN : n; }
#define SPAN_RANGE      \
    const job *j = ctx; \
    (void)thread;       \
    const int64_t at = (int64_t)begin * SPAN, n = span_end(end, j->rows) - at

static void add_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->add(j->out + at, j->f[0] + at, j->f[1] + at, n);
}

void cpu_add(backend *b, tensor *y, const tensor *a, const tensor *c)
{
    CHECK_F32(y), CHECK_F32(a), CHECK_F32(c);
    int64_t n = tensor_count(y);
    CHECK(tensor_count(a) == n && tensor_count(c) == n);
    job j = {.k = cpu_of(b)->k, .out = y->data, .f = {a->data, c->data}, .rows = n};
    cpu_for(cpu_of(b), spans(n), (double)n, add_span, &j);
}

static void swiglu_fwd_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    j->k->swiglu_fwd(j->out + begin * j->inner, j->f[0] + 2 * begin * j->inner, end - begin, j->inner);
}

void cpu_swiglu_fwd(backend *b, tensor *y, const tensor *gu)
{
    CHECK_F32(y), CHECK_F32(gu);
    int64_t n = rows_of(y), inner = cols_of(y);
    CHECK(rows_of(gu) == n && cols_of(gu) == 2 * inner);
    job j = {.k = cpu_of(b)->k, .out = y->data, .f = {gu->data}, .inner = inner};
    cpu_for(cpu_of(b), n, 20.0 * (double)(n * inner), swiglu_fwd_rows, &j);
}

static void swiglu_bwd_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    int64_t at = begin * j->inner;
    j->k->swiglu_bwd(j->out + 2 * at, j->f[0] + at, j->f[1] + 2 * at, end - begin, j->inner);
}

void cpu_swiglu_bwd(backend *b, tensor *dgu, const tensor *dy, const tensor *gu)
{
    CHECK_F32(dgu), CHECK_F32(dy), CHECK_F32(gu);
    int64_t n = rows_of(dy), inner = cols_of(dy);
    CHECK(rows_of(gu) == n && cols_of(gu) == 2 * inner && tensor_count(dgu) == 2 * n * inner);
    job j = {.k = cpu_of(b)->k, .out = dgu->data, .f = {dy->data, gu->data}, .inner = inner};
    cpu_for(cpu_of(b), n, 25.0 * (double)(n * inner), swiglu_bwd_rows, &j);
}

static void gelu_fwd_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->gelu_fwd(j->out + at, j->f[0] + at, n);
}

void cpu_gelu_fwd(backend *b, tensor *y, const tensor *x)
{
    CHECK_F32(y), CHECK_F32(x);
    int64_t n = tensor_count(y);
    CHECK(tensor_count(x) == n);
    job j = {.k = cpu_of(b)->k, .out = y->data, .f = {x->data}, .rows = n};
    cpu_for(cpu_of(b), spans(n), 60.0 * (double)n, gelu_fwd_span, &j);
}

static void gelu_bwd_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->gelu_bwd(j->out + at, j->f[0] + at, j->f[1] + at, n);
}

void cpu_gelu_bwd(backend *b, tensor *dx, const tensor *dy, const tensor *x)
{
    CHECK_F32(dx), CHECK_F32(dy), CHECK_F32(x);
    int64_t n = tensor_count(dx);
    CHECK(tensor_count(dy) == n && tensor_count(x) == n);
    job j = {.k = cpu_of(b)->k, .out = dx->data, .f = {dy->data, x->data}, .rows = n};
    cpu_for(cpu_of(b), spans(n), 60.0 * (double)n, gelu_bwd_span, &j);
}

static void gelu_tanh_fwd_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->gelu_tanh_fwd(j->out + at, j->f[0] + at, n);
}

void cpu_gelu_tanh_fwd(backend *b, tensor *y, const tensor *x)
{
    CHECK_F32(y), CHECK_F32(x);
    int64_t n = tensor_count(y);
    CHECK(tensor_count(x) == n);
    job j = {.k = cpu_of(b)->k, .out = y->data, .f = {x->data}, .rows = n};
    cpu_for(cpu_of(b), spans(n), 20.0 * (double)n, gelu_tanh_fwd_span, &j);
}

static void gelu_tanh_bwd_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->gelu_tanh_bwd(j->out + at, j->f[0] + at, j->f[1] + at, n);
}

void cpu_gelu_tanh_bwd(backend *b, tensor *dx, const tensor *dy, const tensor *x)
{
    CHECK_F32(dx), CHECK_F32(dy), CHECK_F32(x);
    int64_t n = tensor_count(dx);
    CHECK(tensor_count(dy) == n && tensor_count(x) == n);
    job j = {.k = cpu_of(b)->k, .out = dx->data, .f = {dy->data, x->data}, .rows = n};
    cpu_for(cpu_of(b), spans(n), 25.0 * (double)n, gelu_tanh_bwd_span, &j);
}

static void rope_table_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    j->k->rope_table(j->out + begin * j->cols, j->out2 + begin * j->cols, j->pos + begin * j->axes, j->f[0], j->axis,
                     end - begin, j->axes, j->cols);
}

void cpu_rope_table(backend *b, tensor *cos, tensor *sin, const tensor *pos, const tensor *inv_freq, const tensor *axis)
{
    CHECK_F32(cos), CHECK_F32(sin), CHECK_I32(pos), CHECK_F32(inv_freq), CHECK_I32(axis);
    int64_t n = rows_of(pos), half = tensor_count(inv_freq);
    CHECK(tensor_count(cos) == n * half && tensor_count(sin) == n * half && tensor_count(axis) == half);
    const int32_t *ax = axis->data;
    for (int64_t i = 0; i < half; i++) CHECK(ax[i] >= 0 && ax[i] < cols_of(pos));
    job j = {.k = cpu_of(b)->k,
             .out = cos->data,
             .out2 = sin->data,
             .f = {inv_freq->data},
             .pos = pos->data,
             .axis = ax,
             .cols = half,
             .axes = cols_of(pos)};
    cpu_for(cpu_of(b), n, 60.0 * (double)(n * half), rope_table_rows, &j);
}

static void rope_apply_rows(void *ctx, int begin, int end, int thread)
{
    const job *j = ctx;
    (void)thread;
    int64_t half = j->inner / 2;
    j->k->rope_apply(j->out + begin * j->cols, j->cols, j->f[0] + begin * half, j->f[1] + begin * half, end - begin,
                     j->heads, (int)j->inner, j->inverse);
}

void cpu_rope_apply(backend *b, tensor *x, const tensor *cos, const tensor *sin, int n_head, int head_dim, bool inverse)
{
    CHECK_F32(x), CHECK_F32(cos), CHECK_F32(sin);
    int64_t n = rows_of(x), half = head_dim / 2;
    CHECK(head_dim % 2 == 0 && (int64_t)n_head * head_dim <= cols_of(x));
    CHECK(tensor_count(cos) == n * half && tensor_count(sin) == n * half);
    job j = {.k = cpu_of(b)->k,
             .out = x->data,
             .f = {cos->data, sin->data},
             .cols = cols_of(x),
             .inner = head_dim,
             .heads = n_head,
             .inverse = inverse};
    cpu_for(cpu_of(b), n, 3.0 * (double)(n * n_head * head_dim), rope_apply_rows, &j);
}

static void adamw_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->adamw(j->out + at, j->state[0] + at, j->state[1] + at, j->f[0] + at, n, j->step, j->bias[0], j->bias[1]);
}

void cpu_adamw(backend *b, tensor *w, tensor *m, tensor *v, const tensor *g, const adamw_step *s)
{
    CHECK_F32(w), CHECK_F32(m), CHECK_F32(v), CHECK_F32(g);
    int64_t n = tensor_count(w);
    CHECK(tensor_count(m) == n && tensor_count(v) == n && tensor_count(g) == n && s->t >= 1);
    job j = {.k = cpu_of(b)->k,
             .out = w->data,
             .f = {g->data},
             .rows = n,
             .step = s,
             .state = {m->data, v->data},
             .bias = {adamw_bias(s->beta1, s->t), adamw_bias(s->beta2, s->t)}};
    cpu_for(cpu_of(b), spans(n), 20.0 * (double)n, adamw_span, &j);
}

typedef struct sumsq_job {
    const kern *k;
    double *out;
    const float *x;
    int64_t n;
} sumsq_job;

static void sumsq_tasks(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const sumsq_job *j = ctx;
    for (int i = begin; i < end; i++) {
        int64_t at = (int64_t)i * SUMSQ_BLOCK, left = j->n - at;
        j->out[i] = j->k->sumsq(j->x + at, left < SUMSQ_BLOCK ? left : SUMSQ_BLOCK);
    }
}

void cpu_sumsq_blocks(backend *b, tensor *out, const tensor *x)
{
    CHECK(out->type == DT_F64);
    CHECK_F32(x);
    int64_t n = tensor_count(x), blocks = (n + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK;
    CHECK(tensor_count(out) == blocks);
    sumsq_job j = {cpu_of(b)->k, out->data, x->data, n};
    cpu_for(cpu_of(b), blocks, 2.0 * (double)n, sumsq_tasks, &j);
}

static void axpy_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    j->k->axpy(j->out + at, j->value, j->f[0] + at, n);
}

void cpu_axpy(backend *b, tensor *y, float a, const tensor *x)
{
    CHECK_F32(y), CHECK_F32(x);
    int64_t n = tensor_count(y);
    CHECK(tensor_count(x) == n);
    job j = {.k = cpu_of(b)->k, .out = y->data, .f = {x->data}, .rows = n, .value = a};
    cpu_for(cpu_of(b), spans(n), 2.0 * (double)n, axpy_span, &j);
}

static void fill_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    for (int64_t i = at; i < at + n; i++) j->out[i] = j->value;
}

void cpu_fill(backend *b, tensor *y, float value)
{
    CHECK_F32(y);
    int64_t n = tensor_count(y);
    job j = {.out = y->data, .rows = n, .value = value};
    cpu_for(cpu_of(b), spans(n), (double)n, fill_span, &j);
}

static void copy_span(void *ctx, int begin, int end, int thread)
{
    SPAN_RANGE;
    memcpy(j->out + at, j->f[0] + at, (size_t)n * sizeof(float));
}

void cpu_copy(backend *b, tensor *y, const tensor *x)
{
    CHECK(y->type == x->type && tensor_count(y) == tensor_count(x)); /* nothing here is in bf16 */
    if (y->type != DT_F32) {
        if (tensor_bytes(x)) memcpy(y->data, x->data, tensor_bytes(x));
        return;
    }
    int64_t n = tensor_count(y);
    job j = {.out = y->data, .f = {x->data}, .rows = n};
    cpu_for(cpu_of(b), spans(n), (double)n, copy_span, &j);
}
