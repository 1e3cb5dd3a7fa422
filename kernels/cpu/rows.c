/* Drivers of ops that move rows: embedding, gather, scatter, pooling. Where several source rows meet in one output row,
 * threads split the columns, so each sum is one ascending chain. */
#include <string.h>

#include "kernels/cpu/cpu.h"

typedef struct moves {
    float *y;
    const float *x;
    const int32_t *idx;
    int64_t n, cols;
} moves;

static void take_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const moves *m = ctx;
    size_t bytes = (size_t)m->cols * sizeof(float);
    for (int i = begin; i < end; i++) {
        if (m->idx[i] < 0)
            memset(m->y + i * m->cols, 0, bytes);
        else
            memcpy(m->y + i * m->cols, m->x + m->idx[i] * m->cols, bytes);
    }
}

static void put_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const moves *m = ctx;
    for (int i = begin; i < end; i++)
        memcpy(m->y + m->idx[i] * m->cols, m->x + i * m->cols, (size_t)m->cols * sizeof(float));
}

enum { STRIP = 16 }; /* columns per task of a scatter-add: one cache line */

static void add_strips(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const moves *m = ctx;
    int64_t lo = (int64_t)begin * STRIP, hi = (int64_t)end * STRIP < m->cols ? (int64_t)end * STRIP : m->cols;
    for (int64_t i = 0; i < m->n; i++) {
        if (m->idx[i] < 0) continue;
        float *y = m->y + m->idx[i] * m->cols;
        const float *x = m->x + i * m->cols;
        for (int64_t k = lo; k < hi; k++) y[k] += x[k];
    }
}

/* y rows and x rows meet by idx; lowest: -1 where "no row" is legal. idx names a row of `indexed`. */
static moves check(tensor *y, const tensor *x, const tensor *idx, const tensor *indexed, int lowest)
{
    CHECK_F32(y), CHECK_F32(x), CHECK_I32(idx);
    CHECK(cols_of(y) == cols_of(x));
    moves m = {y->data, x->data, idx->data, tensor_count(idx), cols_of(y)};
    int64_t limit = rows_of(indexed);
    for (int64_t i = 0; i < m.n; i++) CHECK((m.idx[i] >= 0 || lowest < 0) && m.idx[i] < limit);
    return m;
}

static void scatter_add(cpu *c, moves *m)
{
    cpu_for(c, (m->cols + STRIP - 1) / STRIP, (double)(m->n * m->cols), add_strips, m);
}

/* From a table in bf16. */
typedef struct widened {
    const kern *k;
    const tensor *table;
    moves m; /* x unused */
} widened;

static void widen_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const widened *w = ctx;
    const moves *m = &w->m;
    for (int i = begin; i < end; i++) {
        if (m->idx[i] < 0)
            memset(m->y + i * m->cols, 0, (size_t)m->cols * sizeof(float));
        else
            w->k->bf16_widen(m->y + i * m->cols, cpu_bf16_row(w->table, m->idx[i]), m->cols);
    }
}

void cpu_embed_fwd(backend *b, tensor *x, const tensor *table, const tensor *ids)
{
    CHECK_WEIGHT(table);
    CHECK(cols_of(x) == cols_of(table));
    moves m = check(x, x, ids, table, -1);
    m.x = table->data;
    CHECK(rows_of(x) == m.n);
    widened w = {cpu_of(b)->k, table, m};
    if (table->type != DT_F32)
        cpu_for(cpu_of(b), m.n, (double)(m.n * m.cols), widen_rows, &w);
    else
        cpu_for(cpu_of(b), m.n, (double)(m.n * m.cols), take_rows, &m);
}

void cpu_embed_bwd(backend *b, tensor *dtable, const tensor *dx, const tensor *ids)
{
    moves m = check(dtable, dx, ids, dtable, -1);
    CHECK(rows_of(dx) == m.n);
    scatter_add(cpu_of(b), &m);
}

void cpu_rows_take(backend *b, tensor *y, const tensor *x, const tensor *idx)
{
    moves m = check(y, x, idx, x, 0);
    CHECK(rows_of(y) == m.n);
    cpu_for(cpu_of(b), m.n, (double)(m.n * m.cols), take_rows, &m);
}

void cpu_rows_put(backend *b, tensor *y, const tensor *x, const tensor *idx)
{
    moves m = check(y, x, idx, y, 0);
    CHECK(rows_of(x) == m.n);
    cpu_for(cpu_of(b), m.n, (double)(m.n * m.cols), put_rows, &m);
}

void cpu_rows_add(backend *b, tensor *y, const tensor *x, const tensor *idx)
{
    moves m = check(y, x, idx, y, 0);
    CHECK(rows_of(x) == m.n);
    scatter_add(cpu_of(b), &m);
}

/* ---- rows that are weighted sums of table rows ---- */

typedef struct mixture {
    const kern *k;
    float *y; /* y of the sum, or the table's gradient */
    const float *x, *w;
    const int32_t *ids;
    int64_t n, taps, cols;
} mixture;

static void mix_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const mixture *m = ctx;
    for (int64_t i = begin; i < end; i++)
        m->k->mix(m->y + i * m->cols, m->x, m->ids + i * m->taps, m->w + i * m->taps, m->taps, m->cols);
}

static void mix_strips(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const mixture *m = ctx;
    int64_t lo = (int64_t)begin * STRIP, hi = (int64_t)end * STRIP < m->cols ? (int64_t)end * STRIP : m->cols;
    for (int64_t i = 0; i < m->n * m->taps; i++)
        m->k->axpy(m->y + m->ids[i] * m->cols + lo, m->w[i], m->x + i / m->taps * m->cols + lo, hi - lo);
}

static mixture check_mix(cpu *c, tensor *out, const tensor *in, const tensor *ids, const tensor *w, int64_t n_table)
{
    CHECK_F32(out), CHECK_F32(in), CHECK_I32(ids), CHECK_F32(w);
    mixture m = {c->k, out->data, in->data, w->data, ids->data, rows_of(ids), cols_of(ids), cols_of(out)};
    CHECK(cols_of(in) == m.cols && tensor_count(w) == m.n * m.taps);
    for (int64_t i = 0; i < m.n * m.taps; i++) CHECK(m.ids[i] >= 0 && m.ids[i] < n_table);
    return m;
}

void cpu_mix_fwd(backend *b, tensor *y, const tensor *table, const tensor *ids, const tensor *w)
{
    mixture m = check_mix(cpu_of(b), y, table, ids, w, rows_of(table));
    CHECK(rows_of(y) == m.n);
    cpu_for(cpu_of(b), m.n, 2.0 * (double)(m.n * m.taps * m.cols), mix_rows, &m);
}

void cpu_mix_bwd(backend *b, tensor *dtable, const tensor *dy, const tensor *ids, const tensor *w)
{
    mixture m = check_mix(cpu_of(b), dtable, dy, ids, w, rows_of(dtable));
    CHECK(rows_of(dy) == m.n);
    cpu_for(cpu_of(b), (m.cols + STRIP - 1) / STRIP, 2.0 * (double)(m.n * m.taps * m.cols), mix_strips, &m);
}

static void pool_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const moves *m = ctx;
    for (int s = begin; s < end; s++) {
        float *y = m->y + s * m->cols;
        int32_t first = m->idx[s], last = m->idx[s + 1];
        memset(y, 0, (size_t)m->cols * sizeof(float));
        for (int32_t r = first; r < last; r++)
            for (int64_t k = 0; k < m->cols; k++) y[k] += m->x[r * m->cols + k];
        for (int64_t k = 0; k < m->cols && last > first; k++) y[k] /= (float)(last - first);
    }
}

static void spread_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const moves *m = ctx;
    for (int s = begin; s < end; s++) {
        int32_t first = m->idx[s], last = m->idx[s + 1];
        for (int32_t r = first; r < last; r++)
            for (int64_t k = 0; k < m->cols; k++) m->y[r * m->cols + k] = m->x[s * m->cols + k] / (float)(last - first);
    }
}

static moves check_pool(tensor *out, const tensor *in, const tensor *cu, const tensor *pooled, const tensor *rows)
{
    CHECK_F32(out), CHECK_F32(in), CHECK_I32(cu);
    moves m = {out->data, in->data, cu->data, tensor_count(cu) - 1, cols_of(out)};
    CHECK(m.n >= 0 && rows_of(pooled) == m.n && cols_of(in) == m.cols && m.idx[0] == 0);
    for (int64_t s = 0; s < m.n; s++) CHECK(m.idx[s] <= m.idx[s + 1]);
    CHECK(m.idx[m.n] <= rows_of(rows));
    return m;
}

void cpu_pool_fwd(backend *b, tensor *y, const tensor *x, const tensor *cu)
{
    moves m = check_pool(y, x, cu, y, x);
    cpu_for(cpu_of(b), m.n, (double)tensor_count(x), pool_rows, &m);
}

void cpu_pool_bwd(backend *b, tensor *dx, const tensor *dy, const tensor *cu)
{
    moves m = check_pool(dx, dy, cu, dy, dx);
    cpu_for(cpu_of(b), m.n, (double)tensor_count(dx), spread_rows, &m);
}
