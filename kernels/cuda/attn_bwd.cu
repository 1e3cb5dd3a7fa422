/* Attention backward (kernels/cpu/isa/attn_bwd.c has the formulas): dq by queries, as the forward pass walks them, and dk, dv
 * by blocks of keys. Each gradient is one chain in registers: dq over keys ascending, dk and dv over the group's heads
 * and, for each, over rows ascending. Most shapes have a bf16 form of their own: attn_bwd_bf16.cu. */
#include "kernels/cuda/attn.cuh"

namespace {

template <class T> struct bwd_call {
    T *dqkv;
    const T *dout, *qkv;
    const float *lse;
    float *delta; /* rows, n_head */
    segments seg;
    attn_shape a;
    fault *faults;
};

/* out[i] = a[i] . b[i], rows of dim elements, a half warp each */
template <class T> __global__ void delta_kernel(float *out, const T *a, const T *b, int64_t n, int dim)
{
    const int64_t i = static_cast<int64_t>(blockIdx.x) * HALVES + threadIdx.x / 16;
    const int lane = static_cast<int>(threadIdx.x) % 16;
    float part = 0.0f;
    for (int d = lane; i < n && d < dim; d += 16) part = fmaf(get(a + i * dim + d), get(b + i * dim + d), part);
    const float sum = half_sum(part);
    if (i < n && lane == 0) out[i] = sum;
}

/* What a score s and dout . v give: p, and ds by the score times scale */
__device__ __forceinline__ float weight(float s, float scale, float lse) { return v_exp(s * scale - lse); }
__device__ __forceinline__ float slope(float p, float dp, float scale, float delta) { return p * (dp - delta) * scale; }

/* Shared memory: keys, values, slopes of keys by query, queries, gradients of their outputs. */
template <class T, int NQ, int NC> __global__ void __launch_bounds__(ATTN_THREADS, ATTN_BLOCKS) dq_kernel(bwd_call<T> call)
{
    constexpr int ITEMS = HALVES * NQ, W = ATTN_BLOCK + 4;
    DYNAMIC_SHARED(float, k);
    const attn_shape *a = &call.a;
    const int dim = a->head_dim, pitch = pitch_of(dim), group = group_of(a), h = static_cast<int>(blockIdx.y);
    float *v = k + ATTN_BLOCK * pitch, *slopes = v + ATTN_BLOCK * pitch, *queries = slopes + ITEMS * W;
    float *douts = queries + ITEMS * pitch;
    tile t;
    /* from the last to the first: under a causal mask those have most to do */
    if (!tile_find(&t, &call.seg, group, ITEMS, static_cast<int64_t>(gridDim.x) - 1 - blockIdx.x, OP_attn_bwd, call.faults))
        return;
    const int lane = static_cast<int>(threadIdx.x) % 16, half = static_cast<int>(threadIdx.x) / 16;
    for (int64_t i = t.begin + half / 2; i < t.end; i += ATTN_THREADS / 32) {
        const int64_t row = t.first + i / group, column = (h * group + i % group) * dim;
        const T *q = call.qkv + row * qkv_width(a) + column, *g = call.dout + row * o_width(a) + column;
        stage_row(queries + (i - t.begin) * pitch, q, dim, quads(q, dim));
        stage_row(douts + (i - t.begin) * pitch, g, dim, quads(g, dim));
    }
    sight<NQ> seen;
    sight_of(&seen, &t, a, 0, t.rows);
    const float *q = queries + half * NQ * pitch, *g = douts + half * NQ * pitch;
    float *w = slopes + half * NQ * W;
    float lse[NQ], delta[NQ], dq[NQ][2 * NC];
    UNROLL for (int i = 0; i < NQ; i++)
    {
        const int64_t item = i < seen.n_item ? seen.first + i : t.end - 1;
        const int64_t at = (t.first + item / group) * a->n_head + h * group + item % group;
        lse[i] = call.lse[at];
        delta[i] = call.delta[at];
        UNROLL for (int c = 0; c < 2 * NC; c++) dq[i][c] = 0.0f;
    }
    for (int b = 0; b < seen.tile; b += ATTN_BLOCK) {
        const int n = seen.tile - b < ATTN_BLOCK ? seen.tile - b : +ATTN_BLOCK;
        const T *keys = call.qkv + (t.first + b) * qkv_width(a) + (a->n_head + h) * dim;
        __syncthreads();
        stage_rows(k, keys, qkv_width(a), n, dim);
        stage_rows(v, keys + a->n_kv * dim, qkv_width(a), n, dim);
        __syncthreads();
        if (b >= seen.warp) continue;
        float s[NQ][1], dp[NQ][1];
        dots<NQ, 1>(s, q, k + lane * pitch, dim);
        dots<NQ, 1>(dp, g, v + lane * pitch, dim);
        UNROLL for (int i = 0; i < NQ; i++)
        {
            const float p = weight(s[i][0], a->scale, lse[i]);
            w[i * W + lane] = slope(p, dp[i][0], a->scale, delta[i]);
        }
        __syncwarp();
        add_rows<NQ, NC>(dq, w, W, k, dim, seen.query, b);
    }
    UNROLL for (int i = 0; i < NQ; i++)
    {
        if (i >= seen.n_item) continue;
        const int64_t row = t.first + (seen.first + i) / group, head = h * group + (seen.first + i) % group;
        put_row<NC>(call.dqkv + row * qkv_width(a) + head * dim, dq[i], dim);
    }
}

/* The chains of a half warp's keys over one row, a lane's columns of it: sum[key] += weight[key] x */
template <int NC>
__device__ __forceinline__ void add_row(float (*sum)[2 * NC], const float *x, float2 weight, bool first, bool second, int dim)
{
    UNROLL for (int c = 0; c < NC; c++) if (c * PAIRS < dim)
    {
        const float2 y = *reinterpret_cast<const float2 *>(x + c * PAIRS);
        if (first) {
            sum[0][2 * c] = fmaf(weight.x, y.x, sum[0][2 * c]);
            sum[0][2 * c + 1] = fmaf(weight.x, y.y, sum[0][2 * c + 1]);
        }
        if (second) {
            sum[1][2 * c] = fmaf(weight.y, y.x, sum[1][2 * c]);
            sum[1][2 * c + 1] = fmaf(weight.y, y.y, sum[1][2 * c + 1]);
        }
    }
}

/* Shared memory: keys, values, weights and slopes by row, rows of q, rows of dout. A half warp computes the scores of NR
 * rows, then adds all rows to the gradients of two keys. */
template <class T, int NR, int NC> __global__ void __launch_bounds__(ATTN_THREADS, ATTN_BLOCKS) dkdv_kernel(bwd_call<T> call)
{
    constexpr int ROWS = HALVES * NR, W = 2 * ATTN_BLOCK + 4;
    static_assert(2 * HALVES == ATTN_BLOCK, "two keys to a half warp");
    DYNAMIC_SHARED(float, k);
    const attn_shape *a = &call.a;
    const int dim = a->head_dim, pitch = pitch_of(dim), group = group_of(a), h = static_cast<int>(blockIdx.y);
    float *v = k + ATTN_BLOCK * pitch, *weights = v + ATTN_BLOCK * pitch, *q = weights + ROWS * W, *g = q + ROWS * pitch;
    tile t;
    if (!tile_find(&t, &call.seg, 1, ATTN_BLOCK, blockIdx.x, OP_attn_bwd, call.faults)) return;
    const int lane = static_cast<int>(threadIdx.x) % 16, half = static_cast<int>(threadIdx.x) / 16;
    const int base = static_cast<int>(t.begin), key = base + 2 * half;
    const T *keys = call.qkv + (t.first + base) * qkv_width(a) + (a->n_head + h) * dim;
    stage_rows(k, keys, qkv_width(a), static_cast<int>(t.end - t.begin), dim);
    stage_rows(v, keys + a->n_kv * dim, qkv_width(a), static_cast<int>(t.end - t.begin), dim);
    float dk[2][2 * NC], dv[2][2 * NC];
    UNROLL for (int i = 0; i < 2; i++) UNROLL for (int c = 0; c < 2 * NC; c++) dk[i][c] = dv[i][c] = 0.0f;
    for (int head = h * group; head < (h + 1) * group; head++) {
        for (int row = a->causal ? base : 0; row < t.rows; row += ROWS) { /* earlier rows don't see this block */
            const int n = t.rows - row < ROWS ? t.rows - row : ROWS;
            __syncthreads();
            stage_rows(q, call.qkv + (t.first + row) * qkv_width(a) + head * dim, qkv_width(a), n, dim);
            stage_rows(g, call.dout + (t.first + row) * o_width(a) + head * dim, o_width(a), n, dim);
            __syncthreads();
            if (half / 2 * 2 * NR < n) {
                float s[NR][1], dp[NR][1];
                dots<NR, 1>(s, q + half * NR * pitch, k + lane * pitch, dim);
                dots<NR, 1>(dp, g + half * NR * pitch, v + lane * pitch, dim);
                UNROLL for (int i = 0; i < NR; i++)
                {
                    const int r = half * NR + i;
                    if (r >= n) continue;
                    const int64_t at = (t.first + row + r) * a->n_head + head;
                    const float p = weight(s[i][0], a->scale, call.lse[at]);
                    weights[r * W + lane] = p;
                    weights[r * W + ATTN_BLOCK + lane] = slope(p, dp[i][0], a->scale, call.delta[at]);
                }
            }
            __syncthreads();
            for (int r = 0; r < n; r++) {
                const bool first = !a->causal || row + r >= key, second = !a->causal || row + r > key;
                const float2 *w = reinterpret_cast<const float2 *>(weights + r * W) + half;
                add_row<NC>(dv, g + r * pitch + 2 * lane, w[0], first, second, dim);
                add_row<NC>(dk, q + r * pitch + 2 * lane, w[ATTN_BLOCK / 2], first, second, dim);
            }
        }
    }
    UNROLL for (int i = 0; i < 2; i++)
    {
        if (key + i >= t.end) continue;
        T *to = call.dqkv + (t.first + key + i) * qkv_width(a) + (a->n_head + h) * dim;
        put_row<NC>(to, dk[i], dim);
        put_row<NC>(to + a->n_kv * dim, dv[i], dim);
    }
}

/* NR: queries or rows of a half warp */
template <class T, int NR, int NC> void gradients(cuda *c, const bwd_call<T> &call)
{
    const int rows = HALVES * NR, staged = 2 * (rows + ATTN_BLOCK) * pitch_of(call.a.head_dim);
    const size_t dq_bytes = static_cast<size_t>(staged + rows * (ATTN_BLOCK + 4)) * sizeof(float);
    const size_t dkdv_bytes = static_cast<size_t>(staged + rows * (2 * ATTN_BLOCK + 4)) * sizeof(float);
    launch(c, "attn_bwd", dq_kernel<T, NR, NC>, tile_grid(&call.seg, group_of(&call.a), rows, &call.a), ATTN_THREADS,
           dq_bytes, call);
    launch(c, "attn_bwd", dkdv_kernel<T, NR, NC>, tile_grid(&call.seg, 1, ATTN_BLOCK, &call.a), ATTN_THREADS, dkdv_bytes,
           call);
}

template <class T>
void attn_bwd(cuda *c, tensor *dqkv, const tensor *dout, const tensor *o, const tensor *lse, const tensor *qkv,
              const tensor *cu, const attn_shape *a)
{
    const int64_t heads = rows_of(qkv) * a->n_head;
    bwd_call<T> call = {};
    call.dqkv = static_cast<T *>(dqkv->data);
    call.dout = static_cast<const T *>(dout->data);
    call.qkv = static_cast<const T *>(qkv->data);
    call.lse = F32(lse);
    call.delta = static_cast<float *>(cuda_scratch(c, static_cast<size_t>(heads) * sizeof(float)));
    call.seg = segments_of(cu, rows_of(qkv));
    call.a = *a;
    call.faults = c->faults;
    if (heads && !call.delta) return;
    launch(c, "attn_bwd", delta_kernel<T>, blocks_for(heads, HALVES), ATTN_THREADS, 0, call.delta, call.dout,
           static_cast<const T *>(o->data), heads, a->head_dim);
    if (qkv->type == DT_BF16 && attn_on_tensor_cores(a))
        cuda_attn_bwd_bf16(c, static_cast<bf16 *>(dqkv->data), static_cast<const bf16 *>(dout->data),
                           static_cast<const bf16 *>(qkv->data), call.lse, call.delta, &call.seg, a);
    else if (a->head_dim <= 128)
        gradients<T, 4, 4>(c, call);
    else
        gradients<T, 2, 8>(c, call);
}

} // namespace

void cuda_attn_bwd(backend *b, tensor *dqkv, const tensor *dout, const tensor *o, const tensor *lse, const tensor *qkv,
                   const tensor *cu, const attn_shape *a)
{
    check_attn(a, qkv, cu), CHECK_F32(lse);
    int64_t n = rows_of(qkv);
    CHECK(dqkv->type == qkv->type && dout->type == qkv->type && o->type == qkv->type);
    CHECK(tensor_count(dqkv) == tensor_count(qkv) && tensor_count(lse) == n * a->n_head);
    CHECK(tensor_count(o) == n * o_width(a) && tensor_count(dout) == tensor_count(o));
    WITH_TYPE(T, qkv, attn_bwd<T>(cuda_of(b), dqkv, dout, o, lse, qkv, cu, a));
}
