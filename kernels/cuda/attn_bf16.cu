/* Attention forward in bf16 on tensor cores. A warp has sixteen items and walks the keys in tiles of KEYS by their position in
 * the context, from the first on:
 *
 *   S = Q K^T, over head_dim in steps of sixteen           t = S scale log2(e)
 *   m' = max(m, max t)     P = 2^(t - m')                  l = l 2^(m - m') + sum P, in fp32
 *   O = O 2^(m - m') + P V, P rounded to bf16, over the keys in steps of sixteen
 *
 * and in the end O / l and the logarithm of the sum, m ln 2 + ln l. An item is a row of every product, no product is divided
 * and a key that it does not see has P = 0, which changes no sum: its bits depend on its query and the keys and values
 * it sees, not on the other items, the number of warps, or where keys and values are stored. (Values behind the ones it
 * sees must be finite: 0 NaN is NaN.) */
#include "kernels/cuda/attn_bf16.cuh"
#include "kernels/cuda/ptx.cuh"

namespace {

enum { KEYS = 64, WARPS = 4 /* of a block with many items */ };

/* Eight elements. Lines of shared memory lie an odd number of chunks apart, so that ldmatrix, which reads the same chunk of
 * eight lines at a time, meets every bank once. */
struct alignas(16) chunk {
    bf16 x[8];
};
constexpr int pitch_for(int width) { return width / 8 | 1; }

/* Keys and values of a tile. DIM: head_dim and zeros. Keys lie as they do in memory: rows of DIM, or, from the cache, DIM
 * lines of one element per key. Q passes through the same place. */
template <bool PAGED, int DIM> struct stage {
    enum {
        pitch = pitch_for(DIM),
        k_pitch = PAGED ? pitch_for(KEYS) : +pitch,
        k_chunks = PAGED ? DIM * k_pitch : KEYS * k_pitch,
        chunks = k_chunks + KEYS * pitch
    };
};

/* As fragment in tiles.cuh, of lines PITCH chunks apart. */
template <bool IS_A, bool DOWN, int PITCH>
__device__ __forceinline__ void fragment(uint32_t r[4], const chunk *tile, int line, int k)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, bit1 = lane / 8 % 2, bit2 = lane / 16;
    const int high_line = IS_A ? bit1 : bit2, high_k = IS_A ? bit2 : bit1;
    if (DOWN)
        ldmatrix_trans(r, tile + (lane % 8 + 8 * high_k) * PITCH + high_line + (k * PITCH + line / 8));
    else
        ldmatrix(r, tile + (lane % 8 + 8 * high_line) * PITCH + high_k + (line * PITCH + k / 8));
}

/* Begins to copy elements at ... at + 7 of those that are there, `n` of them; zeros for the others. */
__device__ __forceinline__ void bring_chunk(chunk *to, const bf16 *line, int at, int n)
{
    const int left = n - at;
    copy_async(to, left > 0 ? line + at : line, left <= 0 ? 0 : left < 8 ? 2 * left : 16);
}

/* Items of a tile by number: row of the segment and head of the group. */
struct item_place {
    int64_t row;
    int head;
};
__device__ __forceinline__ item_place place_of(const tile *t, int group, int i)
{
    const unsigned x = static_cast<unsigned>(t->begin % group) + static_cast<unsigned>(i), g = static_cast<unsigned>(group);
    return {t->begin / group + x / g, static_cast<int>(x % g)};
}

/* Begins to bring keys and values b ... b + KEYS - 1 of kv head h; what lies at `last` and behind becomes zero. */
template <bool PAGED, int DIM, int NW>
__device__ __forceinline__ void bring(chunk *k, const fwd_call<bf16> *c, const tile *t, int h, int b, int last)
{
    typedef stage<PAGED, DIM> S;
    constexpr int threads = 32 * NW, across = DIM / 8;
    const attn_shape *a = &c->a;
    const int dim = a->head_dim, id = static_cast<int>(threadIdx.x);
    chunk *v = k + S::k_chunks;
    if (!PAGED) {
        const int64_t width = qkv_width(a);
        const bf16 *keys = c->qkv + (t->first + b) * width + (a->n_head + h) * dim, *values = keys + a->n_kv * dim;
        UNROLL for (int i = 0; i < KEYS * across / threads; i++)
        {
            const int line = (id + i * threads) / across, at = (id + i * threads) % across, n = b + line < last ? dim : 0;
            const int64_t from = n ? line * width : 0;
            bring_chunk(k + line * S::pitch + at, keys + from, 8 * at, n);
            bring_chunk(v + line * S::pitch + at, values + from, 8 * at, n);
        }
        return;
    }
    const int64_t half = static_cast<int64_t>(ATTN_BLOCK) * a->n_kv * dim;
    const int lane = id % 32;
    for (int i = id / 32; i < KEYS / ATTN_BLOCK; i += NW) { /* a warp brings a block of the cache */
        const int first = i * ATTN_BLOCK;
        int there = last - b - first;
        int64_t block = there > 0 ? c->table[t->seg * c->table_row + (b + first) / ATTN_BLOCK] : 0;
        if (there > 0 && !index_ok(c->faults, c->op, block, c->n_block)) block = there = 0;
        const bf16 *keys = c->kv + block * 2 * half + h * dim * ATTN_BLOCK, *values = keys + half;
        UNROLL for (int j = 0; j < DIM * ATTN_BLOCK / 8 / 32; j++)
        {
            const int line = (lane + 32 * j) / 2, at = lane % 2, n = line < dim ? there : 0;
            bring_chunk(k + line * S::k_pitch + first / 8 + at, keys + (n > 0 ? line * ATTN_BLOCK : 0), 8 * at, n);
        }
        UNROLL for (int j = 0; j < DIM * ATTN_BLOCK / 8 / 32; j++)
        {
            const int line = (lane + 32 * j) / across, at = (lane + 32 * j) % across, n = line < there ? dim : 0;
            bring_chunk(v + (first + line) * S::pitch + at, values + (n ? line * dim : 0), 8 * at, n);
        }
    }
}

/* The queries of the tile, zeros behind its last item. */
template <int DIM, int NW>
__device__ __forceinline__ void bring_queries(chunk *to, const fwd_call<bf16> *c, const tile *t, int h)
{
    constexpr int threads = 32 * NW, across = DIM / 8;
    const attn_shape *a = &c->a;
    const int group = group_of(a), items = static_cast<int>(t->end - t->begin);
    UNROLL for (int i = 0; i < 16 * NW * across / threads; i++)
    {
        const int at = static_cast<int>(threadIdx.x) + i * threads, line = at / across, n = line < items ? a->head_dim : 0;
        const item_place p = place_of(t, group, n ? line : 0);
        const bf16 *q = c->qkv + (t->first + p.row) * qkv_width(a) + (h * group + p.head) * a->head_dim;
        bring_chunk(to + line * stage<false, DIM>::pitch + at % across, q, at % across * 8, n);
    }
}

/* The largest, the sum over the four lanes that share a row of a fragment. */
__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* Scores s of one row (elements 2r, 2r + 1 of each fragment) to P, which replaces them; its sum, l, and O. scale: of
 * logarithms to base 2 */
template <int NO>
__device__ __forceinline__ void soften(float (*s)[4], float (*o)[4], float *m, float *l, int r, float scale)
{
    float top = -INFINITY, part[KEYS / 16];
    UNROLL for (int n = 0; n < KEYS / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    const float high = fmaxf(*m, quad_max(top) * scale), decay = exp2_fast(*m - high);
    UNROLL for (int n = 0; n < KEYS / 8; n++) UNROLL for (int e = 2 * r; e < 2 * r + 2; e++) s[n][e] =
        exp2_fast(fmaf(s[n][e], scale, -high));
    UNROLL for (int n = 0; n < KEYS / 16; n++) part[n] =
        s[2 * n][2 * r] + s[2 * n][2 * r + 1] + (s[2 * n + 1][2 * r] + s[2 * n + 1][2 * r + 1]);
    *m = high;
    *l = fmaf(*l, decay, part[0] + part[1] + (part[2] + part[3]));
    UNROLL for (int n = 0; n < NO; n++)
    {
        o[n][2 * r] *= decay;
        o[n][2 * r + 1] *= decay;
    }
}

/* A block: 16 NW items of one kv head. */
template <bool PAGED, int DIM, int NW>
__global__ void __launch_bounds__(32 * NW, DIM > 80 ? 2 : 3) fwd_kernel(fwd_call<bf16> call)
{
    typedef stage<PAGED, DIM> S;
    static_assert(16 * NW * S::pitch <= S::chunks, "queries pass through a stage");
    DYNAMIC_SHARED(chunk, shared); /* two stages */
    const attn_shape *a = &call.a;
    const int dim = a->head_dim, group = group_of(a), h = static_cast<int>(blockIdx.y);
    tile t;
    /* from the last to the first: under a causal mask those have most to do */
    if (!tile_find(&t, &call.seg, group, 16 * NW, static_cast<int64_t>(gridDim.x) - 1 - blockIdx.x, call.op, call.faults))
        return;
    const int n_key = PAGED ? call.ctx[t.seg] : t.rows;
    if (PAGED && (n_key < t.rows || n_key > call.table_row * ATTN_BLOCK)) {
        report(call.faults, FAULT_CONTEXT, call.op, n_key, call.table_row * ATTN_BLOCK);
        return;
    }
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int items = static_cast<int>(t.end - t.begin), ahead = n_key - t.rows, mine = warp * 16;
    const int last = seen_by(a, t.end - 1, ahead, n_key); /* keys that the tile sees; those of a warp; of a lane's two items */
    const int most = mine < items ? seen_by(a, t.begin + (mine + 16 < items ? mine + 15 : items - 1), ahead, n_key) : 0;
    const int least = seen_by(a, t.begin + mine, ahead, n_key);
    int sees[2];
    UNROLL for (int r = 0; r < 2; r++) sees[r] = seen_by(a, t.begin + mine + lane / 4 + 8 * r, ahead, n_key);

    uint32_t q[DIM / 16][4];
    bring_queries<DIM, NW>(shared + S::chunks, &call, &t, h);
    copy_commit();
    bring<PAGED, DIM, NW>(shared, &call, &t, h, 0, last);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    UNROLL for (int d = 0; d < DIM / 16; d++) fragment<true, false, S::pitch>(q[d], shared + S::chunks, mine, 16 * d);

    const float scale = a->scale * 1.44269504f;
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f}, o[DIM / 8][4] = {};
    for (int b = 0, now = 0; b < last; b += KEYS, now ^= 1) {
        copy_wait<0>();
        __syncthreads(); /* this tile is there for all, and all have left the stage that is filled next */
        if (b + KEYS < last) bring<PAGED, DIM, NW>(shared + (now ^ 1) * S::chunks, &call, &t, h, b + KEYS, last);
        copy_commit();
        if (b >= most) continue;
        const chunk *k = shared + now * S::chunks, *v = k + S::k_chunks;
        float s[KEYS / 8][4] = {};
        UNROLL for (int d = 0; d < DIM / 16; d++) UNROLL for (int n = 0; n < KEYS / 16; n++)
        {
            uint32_t f[4];
            fragment<false, PAGED, S::k_pitch>(f, k, 16 * n, 16 * d);
            mma_bf16(s[2 * n], q[d], f);
            mma_bf16(s[2 * n + 1], q[d], f + 2);
        }
        if (b + KEYS > least)
            UNROLL for (int n = 0; n < KEYS / 8; n++) UNROLL for (int e = 0; e < 4; e++)
                if (b + 8 * n + lane % 4 * 2 + e % 2 >= sees[e / 2]) s[n][e] = -INFINITY;
        UNROLL for (int r = 0; r < 2; r++) soften<DIM / 8>(s, o, m + r, l + r, r, scale);
        UNROLL for (int n = 0; n < KEYS / 16; n++)
        {
            const uint32_t p[4] = {pack_bf16(s[2 * n][0], s[2 * n][1]), pack_bf16(s[2 * n][2], s[2 * n][3]),
                                   pack_bf16(s[2 * n + 1][0], s[2 * n + 1][1]), pack_bf16(s[2 * n + 1][2], s[2 * n + 1][3])};
            UNROLL for (int d = 0; d < DIM / 16; d++)
            {
                uint32_t f[4];
                fragment<false, true, S::pitch>(f, v, 16 * d, 16 * n);
                mma_bf16(o[2 * d], p, f);
                mma_bf16(o[2 * d + 1], p, f + 2);
            }
        }
    }
    UNROLL for (int r = 0; r < 2; r++)
    {
        const int i = mine + lane / 4 + 8 * r, at = lane % 4 * 2;
        const float sum = quad_sum(l[r]), inv = 1.0f / sum;
        if (i >= items) continue;
        const item_place p = place_of(&t, group, i);
        const int64_t row = t.first + p.row, head = h * group + p.head;
        uint32_t *to = reinterpret_cast<uint32_t *>(call.o + row * o_width(a) + head * dim + at);
        UNROLL for (int n = 0; n < DIM / 8; n++) if (8 * n < dim) to[4 * n] =
            pack_bf16((o[n][2 * r] + 0.0f) * inv, (o[n][2 * r + 1] + 0.0f) * inv); /* not -0: that P = 0 makes +0 */
        if (call.lse && at == 0) call.lse[row * a->n_head + head] = fmaf(m[r], 0.693147181f, v_log(sum));
    }
}

template <bool PAGED, int DIM, int NW> void run(cuda *c, const char *what, const fwd_call<bf16> &call)
{
    launch(c, what, fwd_kernel<PAGED, DIM, NW>, tile_grid(&call.seg, group_of(&call.a), 16 * NW, &call.a), 32 * NW,
           2 * sizeof(chunk) * stage<PAGED, DIM>::chunks, call);
}

template <int DIM> void choose(cuda *c, const char *what, bool paged, const fwd_call<bf16> &call)
{
    if (!paged)
        run<false, DIM, WARPS>(c, what, call);
    else if (call.seg.rows * group_of(&call.a) <= 16 * call.seg.n_seg) /* tokens are generated one by one */
        run<true, DIM, 1>(c, what, call);
    else
        run<true, DIM, WARPS>(c, what, call);
}

} // namespace

bool fwd_on_tensor_cores(cuda *c, const char *what, bool paged, const fwd_call<bf16> &call)
{
    if (!attn_on_tensor_cores(&call.a) || call.a.scale <= 0) return false;
    CHECK(reinterpret_cast<uintptr_t>(call.qkv) % 16 == 0 && reinterpret_cast<uintptr_t>(call.o) % 4 == 0);
    if (call.a.head_dim <= 64)
        choose<64>(c, what, paged, call);
    else if (call.a.head_dim <= 80)
        choose<80>(c, what, paged, call);
    else
        choose<128>(c, what, paged, call);
    return true;
}
