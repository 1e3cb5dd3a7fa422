/* Attention drivers. A task is one (segment, kv head): it lays the segment's keys out as the kernel wants them (blocks
 * of 16, transposed), then walks the query heads of the group. The paged cache already has that layout:
 * a block is [K: n_kv][head_dim][16] then [V: n_kv][16][head_dim]. */
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { MAX_HEAD_DIM = 256 };

typedef struct attn_job {
    cpu *c;
    const attn_shape *a;
    float *o, *lse, *dqkv, *delta;
    const float *qkv, *kv, *dout;
    const int32_t *cu, *table, *ctx;
    int64_t table_row;
    int max_block; /* of any segment or context */
} attn_job;

static int64_t qkv_width(const attn_shape *a) { return (int64_t)(a->n_head + 2 * a->n_kv) * a->head_dim; }
static int64_t o_width(const attn_shape *a) { return (int64_t)a->n_head * a->head_dim; }
static int blocks(int n) { return (n + ATTN_BLOCK - 1) / ATTN_BLOCK; }

static void check_shape(const attn_shape *a)
{
    CHECK(a->n_head > 0 && a->n_kv > 0 && a->n_head % a->n_kv == 0);
    CHECK(a->head_dim > 0 && a->head_dim <= MAX_HEAD_DIM);
}

/* Returns the longest segment. */
static int check_cu(const tensor *cu, int64_t rows)
{
    CHECK_I32(cu);
    const int32_t *p = cu->data;
    int64_t n = tensor_count(cu) - 1;
    int longest = 0;
    CHECK(n >= 0 && p[0] == 0 && p[n] == rows);
    for (int64_t s = 0; s < n; s++) {
        CHECK(p[s] <= p[s + 1]);
        if (p[s + 1] - p[s] > longest) longest = p[s + 1] - p[s];
    }
    return longest;
}

/* Rows of head_dim floats -> [block][head_dim][16], zeros behind the last row. */
static void transpose_blocks(const kern *k, float *out, const float *in, int64_t in_row, int n, int dim)
{
    for (int i = 0; i < n; i += ATTN_BLOCK, in += ATTN_BLOCK * in_row, out += dim * LANES)
        k->to_lanes(out, in, in_row, n - i < ATTN_BLOCK ? n - i : ATTN_BLOCK, dim);
}

/* Thread scratch: pointers to key blocks and value blocks, then floats. */
static const float **pointers(attn_job *j, int thread) { return cpu_scratch(j->c, thread); }
static float *floats(attn_job *j, int thread)
{
    return (float *)(void *)(pointers(j, thread) + 2 * (j->max_block + 4));
}
static bool reserve(attn_job *j, int64_t count)
{
    size_t bytes = 2 * (size_t)(j->max_block + 4) * sizeof(float *) + (size_t)count * sizeof(float);
    return cpu_reserve(j->c, 0, j->c->n_thread - 1, bytes);
}

static void fwd_tasks(void *ctx, int begin, int end, int thread)
{
    attn_job *j = ctx;
    const attn_shape *a = j->a;
    const int group = a->n_head / a->n_kv, dim = a->head_dim;
    const int64_t width = qkv_width(a);
    const float **k = pointers(j, thread), **v = k + j->max_block;
    for (int t = begin; t < end; t++) {
        int s = t / a->n_kv, h = t % a->n_kv, n = j->cu[s + 1] - j->cu[s];
        const float *rows = j->qkv + j->cu[s] * width;
        const float *keys = rows + (a->n_head + h) * dim, *values = keys + a->n_kv * dim;
        float *k_t = floats(j, thread);
        transpose_blocks(j->c->k, k_t, keys, width, n, dim);
        for (int b = 0; b < blocks(n); b++) {
            k[b] = k_t + (int64_t)b * dim * LANES;
            v[b] = values + b * ATTN_BLOCK * width;
        }
        int q = h * group;
        j->c->k->attn(&(attn_args){.q = rows + q * dim,
                                   .o = j->o + j->cu[s] * o_width(a) + q * dim,
                                   .lse = j->lse + j->cu[s] * a->n_head + q,
                                   .q_row = width,
                                   .o_row = o_width(a),
                                   .lse_row = a->n_head,
                                   .k = k,
                                   .v = v,
                                   .v_row = width,
                                   .n_row = n,
                                   .heads = group,
                                   .n_key = n,
                                   .head_dim = dim,
                                   .causal = a->causal,
                                   .scale = a->scale});
    }
}

static double work_of(const int32_t *cu, int64_t n_seg, const attn_shape *a)
{
    double sum = 0;
    for (int64_t s = 0; s < n_seg; s++) sum += (double)(cu[s + 1] - cu[s]) * (cu[s + 1] - cu[s]);
    return sum * 4.0 * a->n_head * a->head_dim;
}

void cpu_attn_fwd(backend *b, tensor *o, tensor *lse, const tensor *qkv, const tensor *cu, const attn_shape *a)
{
    check_shape(a);
    CHECK_F32(o), CHECK_F32(lse), CHECK_F32(qkv);
    int64_t n = rows_of(qkv), n_seg = tensor_count(cu) - 1;
    CHECK(cols_of(qkv) == qkv_width(a) && tensor_count(o) == n * o_width(a) && tensor_count(lse) == n * a->n_head);
    attn_job j = {.c = cpu_of(b),
                  .a = a,
                  .o = o->data,
                  .lse = lse->data,
                  .qkv = qkv->data,
                  .cu = cu->data,
                  .max_block = blocks(check_cu(cu, n))};
    if (n == 0 || !reserve(&j, (int64_t)j.max_block * a->head_dim * LANES)) return;
    cpu_for(j.c, n_seg * a->n_kv, work_of(j.cu, n_seg, a), fwd_tasks, &j);
}

static void bwd_tasks(void *ctx, int begin, int end, int thread)
{
    attn_job *j = ctx;
    const attn_shape *a = j->a;
    const int group = a->n_head / a->n_kv, dim = a->head_dim;
    const int64_t width = qkv_width(a);
    for (int t = begin; t < end; t++) {
        int s = t / a->n_kv, h = t % a->n_kv, first = j->cu[s], n = j->cu[s + 1] - first;
        const float *rows = j->qkv + first * width;
        const float *keys = rows + (a->n_head + h) * dim, *values = keys + a->n_kv * dim;
        float *d_rows = j->dqkv + first * width, *dk = d_rows + (a->n_head + h) * dim, *dv = dk + a->n_kv * dim;
        float *k_t = floats(j, thread), *v_t = k_t + (int64_t)j->max_block * dim * LANES;
        transpose_blocks(j->c->k, k_t, keys, width, n, dim);
        transpose_blocks(j->c->k, v_t, values, width, n, dim);
        for (int i = 0; i < n; i++) {
            memset(d_rows + i * width + h * group * dim, 0, (size_t)(group * dim) * sizeof(float));
            memset(dk + i * width, 0, (size_t)dim * sizeof(float));
            memset(dv + i * width, 0, (size_t)dim * sizeof(float));
        }
        for (int b = 0; b < blocks(n); b++) {
            for (int q = h * group; q < (h + 1) * group; q++) {
                int64_t o_at = first * o_width(a) + q * dim, head_at = (int64_t)first * a->n_head + q;
                j->c->k->attn_bwd(&(attn_bwd_args){.q = rows + q * dim,
                                                   .k = keys,
                                                   .dout = j->dout + o_at,
                                                   .lse = j->lse + head_at,
                                                   .delta = j->delta + head_at,
                                                   .dq = d_rows + q * dim,
                                                   .dk = dk,
                                                   .dv = dv,
                                                   .qkv_row = width,
                                                   .o_row = o_width(a),
                                                   .head_row = a->n_head,
                                                   .k_t = k_t,
                                                   .v_t = v_t,
                                                   .n_row = n,
                                                   .head_dim = dim,
                                                   .block = b,
                                                   .causal = a->causal,
                                                   .scale = a->scale});
            }
        }
    }
}

typedef struct dots_job {
    const kern *k;
    float *out;
    const float *a, *b;
    int heads, dim;
} dots_job;

static void dots_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const dots_job *j = ctx;
    int64_t at = (int64_t)begin * j->heads;
    j->k->dots(j->out + at, j->a + at * j->dim, j->b + at * j->dim, (int64_t)(end - begin) * j->heads, j->dim);
}

void cpu_attn_bwd(backend *b, tensor *dqkv, const tensor *dout, const tensor *o, const tensor *lse, const tensor *qkv,
                  const tensor *cu, const attn_shape *a)
{
    check_shape(a);
    CHECK_F32(dqkv), CHECK_F32(dout), CHECK_F32(o), CHECK_F32(lse), CHECK_F32(qkv);
    int64_t n = rows_of(qkv), n_seg = tensor_count(cu) - 1;
    CHECK(cols_of(qkv) == qkv_width(a) && tensor_count(dqkv) == tensor_count(qkv));
    CHECK(tensor_count(o) == n * o_width(a) && tensor_count(dout) == tensor_count(o));
    CHECK(tensor_count(lse) == n * a->n_head);
    cpu *c = cpu_of(b);
    attn_job j = {.c = c,
                  .a = a,
                  .lse = lse->data,
                  .dqkv = dqkv->data,
                  .qkv = qkv->data,
                  .dout = dout->data,
                  .cu = cu->data,
                  .max_block = blocks(check_cu(cu, n))};
    if (n == 0 || !reserve(&j, 2 * (int64_t)j.max_block * a->head_dim * LANES)) return;
    if (!cpu_reserve(c, c->n_thread, c->n_thread, (size_t)(n * a->n_head) * sizeof(float))) return;
    j.delta = cpu_scratch(c, c->n_thread);
    dots_job d = {c->k, j.delta, dout->data, o->data, a->n_head, a->head_dim};
    cpu_for(c, n, 4.0 * (double)tensor_count(o), dots_rows, &d);
    cpu_for(c, n_seg * a->n_kv, 2.5 * work_of(j.cu, n_seg, a), bwd_tasks, &j);
}

void cpu_kv_store(backend *b, tensor *kv, const tensor *qkv, const tensor *slot, const attn_shape *a)
{
    (void)b;
    check_shape(a);
    CHECK_F32(kv), CHECK_F32(qkv), CHECK_I32(slot);
    int64_t n = rows_of(qkv), size = kv_block_floats(a), n_slot = tensor_count(kv) / size * ATTN_BLOCK;
    CHECK(cols_of(qkv) == qkv_width(a) && tensor_count(slot) == n && tensor_count(kv) % size == 0);
    const int32_t *at = slot->data;
    for (int64_t i = 0; i < n; i++) {
        if (at[i] < 0) continue;
        CHECK(at[i] < n_slot);
        int token = at[i] % ATTN_BLOCK;
        float *k = (float *)kv->data + at[i] / ATTN_BLOCK * size, *v = k + size / 2;
        const float *from = (const float *)qkv->data + i * qkv_width(a) + o_width(a);
        for (int h = 0; h < a->n_kv; h++, from += a->head_dim, k += a->head_dim * ATTN_BLOCK)
            for (int d = 0; d < a->head_dim; d++) k[d * ATTN_BLOCK + token] = from[d];
        for (int h = 0; h < a->n_kv; h++, from += a->head_dim, v += a->head_dim * ATTN_BLOCK)
            memcpy(v + token * a->head_dim, from, (size_t)a->head_dim * sizeof(float));
    }
}

void cpu_kv_copy(backend *b, tensor *kv, const tensor *dst, const tensor *src)
{
    (void)b;
    CHECK_F32(kv), CHECK_I32(dst), CHECK_I32(src);
    CHECK(tensor_count(dst) == tensor_count(src));
    const int32_t *to = dst->data, *from = src->data;
    int64_t size = cols_of(kv), n_block = rows_of(kv);
    for (int64_t i = 0; i < tensor_count(dst); i++) {
        CHECK(to[i] >= 0 && to[i] < n_block && from[i] >= 0 && from[i] < n_block);
        memmove((float *)kv->data + to[i] * size, (float *)kv->data + from[i] * size, (size_t)size * sizeof(float));
    }
}

static void paged_tasks(void *ctx, int begin, int end, int thread)
{
    attn_job *j = ctx;
    const attn_shape *a = j->a;
    const int group = a->n_head / a->n_kv, dim = a->head_dim;
    const int64_t width = qkv_width(a), size = kv_block_floats(a);
    const float **k = pointers(j, thread), **v = k + j->max_block;
    for (int t = begin; t < end; t++) {
        int s = t / a->n_kv, h = t % a->n_kv, first = j->cu[s], n = j->cu[s + 1] - first;
        const int32_t *table = j->table + s * j->table_row;
        for (int b = 0; b < blocks(j->ctx[s]); b++) {
            k[b] = j->kv + table[b] * size + h * dim * ATTN_BLOCK;
            v[b] = k[b] + size / 2;
        }
        int q = h * group;
        j->c->k->attn(&(attn_args){.q = j->qkv + first * width + q * dim,
                                   .o = j->o + first * o_width(a) + q * dim,
                                   .q_row = width,
                                   .o_row = o_width(a),
                                   .k = k,
                                   .v = v,
                                   .v_row = dim,
                                   .n_row = n,
                                   .heads = group,
                                   .n_key = j->ctx[s],
                                   .head_dim = dim,
                                   .first = j->ctx[s] - n,
                                   .causal = a->causal,
                                   .scale = a->scale});
    }
}

void cpu_attn_paged(backend *b, tensor *o, const tensor *qkv, const tensor *kv, const tensor *table, const tensor *cu,
                    const tensor *ctx, const attn_shape *a)
{
    check_shape(a);
    CHECK_F32(o), CHECK_F32(qkv), CHECK_F32(kv), CHECK_I32(table), CHECK_I32(ctx);
    int64_t n = rows_of(qkv), n_seg = tensor_count(cu) - 1, size = kv_block_floats(a),
            n_block = tensor_count(kv) / size;
    CHECK(a->causal && cols_of(qkv) == qkv_width(a) && tensor_count(o) == n * o_width(a));
    CHECK(tensor_count(ctx) == n_seg && (n_seg == 0 || rows_of(table) == n_seg));
    check_cu(cu, n);
    attn_job j = {.c = cpu_of(b),
                  .a = a,
                  .o = o->data,
                  .qkv = qkv->data,
                  .kv = kv->data,
                  .cu = cu->data,
                  .table = table->data,
                  .ctx = ctx->data,
                  .table_row = cols_of(table)};
    double work = 0;
    for (int64_t s = 0; s < n_seg; s++) {
        int used = blocks(j.ctx[s]);
        CHECK(j.ctx[s] >= j.cu[s + 1] - j.cu[s] && used <= j.table_row);
        for (int i = 0; i < used; i++)
            CHECK(j.table[s * j.table_row + i] >= 0 && j.table[s * j.table_row + i] < n_block);
        if (used > j.max_block) j.max_block = used;
        work += 4.0 * (j.cu[s + 1] - j.cu[s]) * (double)j.ctx[s] * (double)o_width(a);
    }
    if (n == 0 || !reserve(&j, 0)) return;
    cpu_for(j.c, n_seg * a->n_kv, work, paged_tasks, &j);
}
