/* Attention forward, over the rows themselves or over the paged cache (kernels/cpu/isa/attn.c has the formulas): a half
 * warp walks the keys for NQ queries, NB blocks of ATTN_BLOCK keys at a time, staged in shared memory for all of its block. */
#include "kernels/cuda/attn_bf16.cuh"

namespace {

/* The keys of one block of the cache, [head_dim][16], as rows. */
template <class T> __device__ __forceinline__ void stage_columns(float *to, const T *from, int dim)
{
    const int pitch = pitch_of(dim);
    for (int i = static_cast<int>(threadIdx.x); i < dim * ATTN_BLOCK / 4; i += ATTN_THREADS) {
        const float4 x = get4(from + 4 * i);
        float *at = to + i % 4 * 4 * pitch + i / 4;
        at[0] = x.x;
        at[pitch] = x.y;
        at[2 * pitch] = x.z;
        at[3 * pitch] = x.w;
    }
}

/* n keys and values of kv head h from position b of the segment's context on. */
template <bool PAGED, class T>
__device__ __forceinline__ void stage_keys(float *k, float *v, const fwd_call<T> *c, const tile *t, int h, int b, int n)
{
    const attn_shape *a = &c->a;
    const int dim = a->head_dim, pitch = pitch_of(dim);
    if (!PAGED) {
        const T *keys = c->qkv + (t->first + b) * qkv_width(a) + (a->n_head + h) * dim;
        stage_rows(k, keys, qkv_width(a), n, dim);
        stage_rows(v, keys + a->n_kv * dim, qkv_width(a), n, dim);
        return;
    }
    const int64_t half = static_cast<int64_t>(ATTN_BLOCK) * a->n_kv * dim;
    for (int i = 0; i < n; i += ATTN_BLOCK) {
        const int64_t block = c->table[t->seg * c->table_row + (b + i) / ATTN_BLOCK];
        if (!index_ok(c->faults, c->op, block, c->n_block)) continue;
        const T *keys = c->kv + block * 2 * half + h * dim * ATTN_BLOCK;
        stage_columns(k + i * pitch, keys, dim);
        stage_rows(v + i * pitch, keys + half, dim, n - i < ATTN_BLOCK ? n - i : +ATTN_BLOCK, dim);
    }
}

/* Shared memory: keys, values, weights of keys by query, queries. NC: a lane's pairs of columns, at most. */
template <class T, bool PAGED, int NQ, int NB, int NC>
__global__ void __launch_bounds__(ATTN_THREADS, ATTN_BLOCKS) fwd_kernel(fwd_call<T> call)
{
    constexpr int ITEMS = HALVES * NQ, KEYS = NB * ATTN_BLOCK, W = KEYS + 4;
    DYNAMIC_SHARED(float, k);
    const attn_shape *a = &call.a;
    const int dim = a->head_dim, pitch = pitch_of(dim), group = group_of(a), h = static_cast<int>(blockIdx.y);
    float *v = k + KEYS * pitch, *weights = v + KEYS * pitch, *queries = weights + ITEMS * W;
    tile t;
    /* from the last to the first: under a causal mask those have most to do */
    if (!tile_find(&t, &call.seg, group, ITEMS, static_cast<int64_t>(gridDim.x) - 1 - blockIdx.x, call.op, call.faults))
        return;
    const int n_key = PAGED ? call.ctx[t.seg] : t.rows;
    if (PAGED && (n_key < t.rows || n_key > call.table_row * ATTN_BLOCK)) {
        report(call.faults, FAULT_CONTEXT, call.op, n_key, call.table_row * ATTN_BLOCK);
        return;
    }
    const int lane = static_cast<int>(threadIdx.x) % 16, half = static_cast<int>(threadIdx.x) / 16;
    for (int64_t i = t.begin + half / 2; i < t.end; i += ATTN_THREADS / 32) {
        const T *q = call.qkv + (t.first + i / group) * qkv_width(a) + (h * group + i % group) * dim;
        stage_row(queries + (i - t.begin) * pitch, q, dim, quads(q, dim));
    }
    sight<NQ> seen;
    sight_of(&seen, &t, a, n_key - t.rows, n_key);
    const float *q = queries + half * NQ * pitch;
    float *w = weights + half * NQ * W;
    float m[NQ], l[NQ], o[NQ][2 * NC];
    UNROLL for (int i = 0; i < NQ; i++)
    {
        m[i] = -INFINITY;
        l[i] = 0.0f;
        UNROLL for (int c = 0; c < 2 * NC; c++) o[i][c] = 0.0f;
    }
    for (int b = 0; b < seen.tile; b += KEYS) {
        __syncthreads();
        stage_keys<PAGED>(k, v, &call, &t, h, b, seen.tile - b < KEYS ? seen.tile - b : KEYS);
        __syncthreads();
        if (b >= seen.warp) continue;
        float s[NQ][NB], change = 0.0f;
        dots<NQ, NB>(s, q, k + lane * pitch, dim);
        UNROLL for (int n = 0; n < NB; n++) UNROLL for (int i = 0; i < NQ; i++)
        {
            const float x = b + n * ATTN_BLOCK + lane < seen.query[i] ? s[i][n] * a->scale : -INFINITY;
            const float high = half_max(x), top = m[i] > high ? m[i] : high;
            if (lane == n * NQ + i) change = m[i] - top;
            m[i] = top;
            s[i][n] = x - top;
        }
        const float decays = v_exp(change); /* of block n and query i in lane n NQ + i */
        UNROLL for (int n = 0; n < NB; n++) UNROLL for (int i = 0; i < NQ; i++)
        {
            const float p = v_exp(s[i][n]), decay = __shfl_sync(0xffffffffu, decays, n * NQ + i, 16);
            l[i] = fmaf(l[i], decay, p);
            w[i * W + n * ATTN_BLOCK + lane] = p;
            s[i][n] = decay;
        }
        __syncwarp();
        UNROLL for (int n = 0; n < NB; n++)
        {
            UNROLL for (int i = 0; i < NQ; i++) UNROLL for (int c = 0; c < 2 * NC; c++) o[i][c] *= s[i][n];
            add_rows<NQ, NC>(o, w + n * ATTN_BLOCK, W, v + n * ATTN_BLOCK * pitch, dim, seen.query, b + n * ATTN_BLOCK);
        }
    }
    UNROLL for (int i = 0; i < NQ; i++)
    {
        const float sum = half_sum(l[i]), inv = 1.0f / sum;
        if (i >= seen.n_item) continue;
        const int64_t row = t.first + (seen.first + i) / group, head = h * group + (seen.first + i) % group;
        UNROLL for (int c = 0; c < 2 * NC; c++) o[i][c] *= inv;
        put_row<NC>(call.o + row * o_width(a) + head * dim, o[i], dim);
        if (call.lse && lane == 0) call.lse[row * a->n_head + head] = m[i] + v_log(sum);
    }
}

template <class T, bool PAGED, int NQ, int NB, int NC> void fwd_launch(cuda *c, const char *what, const fwd_call<T> &call)
{
    const int keys = NB * ATTN_BLOCK, items = HALVES * NQ;
    const int floats = (2 * keys + items) * pitch_of(call.a.head_dim) + items * (keys + 4);
    launch(c, what, fwd_kernel<T, PAGED, NQ, NB, NC>, tile_grid(&call.seg, group_of(&call.a), items, &call.a), ATTN_THREADS,
           static_cast<size_t>(floats) * sizeof(float), call);
}

/* Few queries to a segment, as when tokens are generated: one to each half warp, and more keys at a time. */
template <class T, bool PAGED> void fwd(cuda *c, const char *what, const fwd_call<T> &call)
{
    const bool wide = call.a.head_dim > 128;
    if (fwd_on_tensor_cores(c, what, PAGED, call)) return;
    if constexpr (PAGED) {
        if (call.seg.rows * group_of(&call.a) <= 2 * HALVES * call.seg.n_seg) {
            wide ? fwd_launch<T, true, 1, 2, 8>(c, what, call) : fwd_launch<T, true, 1, 4, 4>(c, what, call);
            return;
        }
    }
    wide ? fwd_launch<T, PAGED, 4, 1, 8>(c, what, call) : fwd_launch<T, PAGED, 4, 2, 4>(c, what, call);
}

template <class T> fwd_call<T> call_of(cuda *c, int op, tensor *o, const tensor *qkv, const tensor *cu, const attn_shape *a)
{
    fwd_call<T> call = {};
    call.o = static_cast<T *>(o->data);
    call.qkv = static_cast<const T *>(qkv->data);
    call.seg = segments_of(cu, rows_of(qkv));
    call.a = *a;
    call.faults = c->faults;
    call.op = op;
    return call;
}

template <class T>
void attn_fwd(cuda *c, tensor *o, tensor *lse, const tensor *qkv, const tensor *cu, const attn_shape *a)
{
    fwd_call<T> call = call_of<T>(c, OP_attn_fwd, o, qkv, cu, a);
    call.lse = F32(lse);
    fwd<T, false>(c, "attn_fwd", call);
}

template <class T>
void attn_paged(cuda *c, tensor *o, const tensor *qkv, const tensor *kv, const tensor *table, const tensor *cu,
                const tensor *ctx, const attn_shape *a)
{
    fwd_call<T> call = call_of<T>(c, OP_attn_paged, o, qkv, cu, a);
    call.kv = static_cast<const T *>(kv->data);
    call.table = I32(table);
    call.ctx = I32(ctx);
    call.table_row = cols_of(table);
    call.n_block = tensor_count(kv) / kv_block_floats(a);
    fwd<T, true>(c, "attn_paged", call);
}

} // namespace

void cuda_attn_fwd(backend *b, tensor *o, tensor *lse, const tensor *qkv, const tensor *cu, const attn_shape *a)
{
    check_attn(a, qkv, cu), CHECK_F32(lse);
    int64_t n = rows_of(qkv);
    CHECK(o->type == qkv->type && tensor_count(o) == n * o_width(a) && tensor_count(lse) == n * a->n_head);
    WITH_TYPE(T, qkv, attn_fwd<T>(cuda_of(b), o, lse, qkv, cu, a));
}

void cuda_attn_paged(backend *b, tensor *o, const tensor *qkv, const tensor *kv, const tensor *table, const tensor *cu,
                     const tensor *ctx, const attn_shape *a)
{
    check_attn(a, qkv, cu), CHECK_I32(table), CHECK_I32(ctx);
    int64_t n = rows_of(qkv), n_seg = tensor_count(cu) - 1;
    CHECK(a->causal && o->type == qkv->type && kv->type == qkv->type && tensor_count(o) == n * o_width(a));
    CHECK(reinterpret_cast<uintptr_t>(kv->data) % 16 == 0);
    CHECK(tensor_count(ctx) == n_seg && (n_seg == 0 || rows_of(table) == n_seg));
    WITH_TYPE(T, qkv, attn_paged<T>(cuda_of(b), o, qkv, kv, table, cu, ctx, a));
}
