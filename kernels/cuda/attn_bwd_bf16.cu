/* Attention backward on tensor cores (m16n8k16): bf16, head_dim a multiple of 16 up to 128. dq by tiles of 64 queries, dk and
 * dv by tiles of 64 keys; a warp owns sixteen lines of its tile. Scores and their gradients are fp32; p and ds are rounded to
 * bf16 for the second products, whose sums stay in fp32 registers: dq one chain over keys ascending, dk and dv over the
 * group's heads and, for each, over rows ascending, sixteen at a time. Tiles begin with the segment, so no bit depends on
 * what is packed before it. A pair under the mask adds +0. */
#include "kernels/cuda/attn.cuh"
#include "kernels/cuda/tiles.cuh"

#ifdef __CUDACC__
#define ROLLED _Pragma("unroll 1") /* the loop after it, whose addresses would fill the registers */
#else
#define ROLLED
#endif

namespace {

/* AT_ONCE: columns of a tile of scores that a warp has in registers */
enum { TILE = 64, AT_ONCE = 32 };
static_assert(ATTN_THREADS / 32 * 16 == TILE, "sixteen lines to a warp");

struct bwd_call {
    bf16 *dqkv;
    const bf16 *dout, *qkv;
    const float *lse, *delta;
    segments seg;
    attn_shape a;
    fault *faults;
};

/* Tiles in shared memory: TILE lines of WIDTH >= head_dim columns, zeros behind it. */
enum { LANES_OF_LINE = 8, LINES_AT_ONCE = ATTN_THREADS / LANES_OF_LINE };

/* Begins to bring a line of dim elements, by eight lanes. */
template <int WIDTH> __device__ __forceinline__ void bring_line(chunk *to, int line, const bf16 *from, bool exists, int dim)
{
    const int lane = static_cast<int>(threadIdx.x) % LANES_OF_LINE;
    UNROLL for (int i = 0; i < (WIDTH / 8 + LANES_OF_LINE - 1) / LANES_OF_LINE; i++)
    {
        const int at = i * LANES_OF_LINE + lane;
        if (at < WIDTH / 8) copy_async(to + place<WIDTH>(line, at), from + 8 * at, exists && 8 * at < dim ? 16 : 0);
    }
}

/* Begins to bring the first n lines of a tile, `pitch` apart, and zeros for the others. */
template <int WIDTH> __device__ __forceinline__ void bring(chunk *to, const bf16 *from, int64_t pitch, int n, int dim)
{
    ROLLED for (int line = static_cast<int>(threadIdx.x) / LANES_OF_LINE; line < TILE; line += LINES_AT_ONCE)
        bring_line<WIDTH>(to, line, from + line * pitch, line < n, dim);
}

/* s[16, 16 N] = x y^T: sixteen lines of a tile by 16 N of another, a chain over the columns. */
template <int WIDTH, int N>
__device__ __forceinline__ void scores(float (*s)[4], const chunk *x, int x_line, const chunk *y, int y_line)
{
    UNROLL for (int n = 0; n < 2 * N; n++) UNROLL for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
    UNROLL for (int k = 0; k < WIDTH; k += 16)
    {
        uint32_t a[4], b[4];
        fragment<true, false, WIDTH>(a, x, x_line, k);
        UNROLL for (int n = 0; n < N; n++)
        {
            fragment<false, false, WIDTH>(b, y, y_line + 16 * n, k);
            mma_bf16(s[2 * n], a, b);
            mma_bf16(s[2 * n + 1], a, b + 2);
        }
    }
}

/* sum[16, WIDTH] += w y, w[16, 16 N] by 16 N lines of a tile. */
template <int WIDTH, int N>
__device__ __forceinline__ void add_product(float (*sum)[4], const uint32_t (*w)[4], const chunk *y, int y_line)
{
    UNROLL for (int k = 0; k < N; k++) UNROLL for (int n = 0; n < WIDTH / 16; n++)
    {
        uint32_t b[4];
        fragment<false, true, WIDTH>(b, y, 16 * n, y_line + 16 * k);
        mma_bf16(sum[2 * n], w[k], b);
        mma_bf16(sum[2 * n + 1], w[k], b + 2);
    }
}

/* Sums of a line: this lane's two columns of every eight. */
template <int WIDTH> __device__ __forceinline__ void store(bf16 *to, const float (*sum)[4], int e, int dim)
{
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
    UNROLL for (int n = 0; n < WIDTH / 8; n++) if (8 * n < dim)
        *reinterpret_cast<uint32_t *>(to + 8 * n + column) = pack_bf16(sum[n][2 * e], sum[n][2 * e + 1]);
}

/* What a score s and dout . v give: p, and ds by the score times scale */
__device__ __forceinline__ float weight(float s, float scale, float lse) { return v_exp(s * scale - lse); }
__device__ __forceinline__ float slope(float p, float dp, float scale, float delta) { return p * (dp - delta) * scale; }

/* Shared memory: tiles of queries, gradients of their outputs; keys and values, twice: the next ones are on their way. */
template <int WIDTH> __global__ void __launch_bounds__(ATTN_THREADS, WIDTH > 80 ? 2 : 3) dq_kernel(bwd_call call)
{
    constexpr int chunks = TILE * WIDTH / 8;
    DYNAMIC_SHARED(chunk, q);
    chunk *g = q + chunks, *keys = g + chunks;
    const attn_shape *a = &call.a;
    const int dim = a->head_dim, group = group_of(a), h = static_cast<int>(blockIdx.y);
    const int64_t width = qkv_width(a);
    tile t;
    /* from the last to the first: under a causal mask those have most to do */
    if (!tile_find(&t, &call.seg, group, TILE, static_cast<int64_t>(gridDim.x) - 1 - blockIdx.x, OP_attn_bwd, call.faults))
        return;
    ROLLED for (int line = static_cast<int>(threadIdx.x) / LANES_OF_LINE; line < TILE; line += LINES_AT_ONCE)
    {
        const int64_t item = t.begin + line, row = t.first + item / group, column = (h * group + item % group) * dim;
        bring_line<WIDTH>(q, line, call.qkv + row * width + column, item < t.end, dim);
        bring_line<WIDTH>(g, line, call.dout + row * o_width(a) + column, item < t.end, dim);
    }
    const int n_key = seen_by(a, t.end - 1, 0, t.rows);
    const bf16 *from = call.qkv + t.first * width + (a->n_head + h) * dim;
    bring<WIDTH>(keys, from, width, n_key, dim);
    bring<WIDTH>(keys + chunks, from + a->n_kv * dim, width, n_key, dim);
    copy_commit();

    const int lane = static_cast<int>(threadIdx.x) % 32, line = static_cast<int>(threadIdx.x) / 32 * 16;
    const int64_t mine = t.begin + line + lane / 4, last = t.begin + line + 15; /* items: mine, and the eighth after it */
    const int in_warp = t.begin + line >= t.end ? 0 : seen_by(a, last < t.end ? last : t.end - 1, 0, t.rows); /* keys seen */
    float lse[2], delta[2];
    int seen[2]; /* keys, from the lane's first column on */
    UNROLL for (int e = 0; e < 2; e++)
    {
        const int64_t item = mine + 8 * e < t.end ? mine + 8 * e : t.end - 1;
        const int64_t at = (t.first + item / group) * a->n_head + h * group + item % group;
        lse[e] = call.lse[at];
        delta[e] = call.delta[at];
        seen[e] = seen_by(a, item, 0, t.rows) - lane % 4 * 2;
    }
    float dq[WIDTH / 8][4] = {};
    for (int base = 0; base < n_key; base += TILE) {
        const chunk *k = keys + base / TILE % 2 * 2 * chunks, *v = k + chunks;
        copy_wait<0>();
        __syncthreads(); /* this tile is there for all, and all have left the one that is filled next */
        if (base + TILE < n_key) {
            const bf16 *next = from + (base + TILE) * width;
            chunk *at = keys + (base / TILE + 1) % 2 * 2 * chunks;
            bring<WIDTH>(at, next, width, n_key - base - TILE, dim);
            bring<WIDTH>(at + chunks, next + a->n_kv * dim, width, n_key - base - TILE, dim);
        }
        copy_commit();
        ROLLED for (int r = 0; r < TILE && base + r < in_warp; r += AT_ONCE)
        {
            float s[AT_ONCE / 8][4], dp[AT_ONCE / 8][4];
            uint32_t ds[AT_ONCE / 16][4];
            scores<WIDTH, AT_ONCE / 16>(s, q, line, k, r);
            scores<WIDTH, AT_ONCE / 16>(dp, g, line, v, r);
            UNROLL for (int n = 0; n < AT_ONCE / 8; n++) UNROLL for (int e = 0; e < 2; e++)
            {
                float x[2];
                UNROLL for (int j = 0; j < 2; j++)
                {
                    const float p = weight(s[n][2 * e + j], a->scale, lse[e]);
                    x[j] = base + r + 8 * n + j < seen[e] ? slope(p, dp[n][2 * e + j], a->scale, delta[e]) : 0.0f;
                }
                ds[n / 2][n % 2 * 2 + e] = pack_bf16(x[0], x[1]);
            }
            add_product<WIDTH, AT_ONCE / 16>(dq, ds, k, r);
        }
    }
    UNROLL for (int e = 0; e < 2; e++)
    {
        const int64_t item = mine + 8 * e, row = t.first + item / group;
        if (item < t.end) store<WIDTH>(call.dqkv + row * width + (h * group + item % group) * dim, dq, e, dim);
    }
}

/* A step of the walk of a block of keys: TILE rows of one head, from `row` of the segment on. */
struct step {
    int head, row;
};

/* q, and dout behind it */
template <int WIDTH> __device__ __forceinline__ void bring_rows(chunk *to, const bwd_call *call, const tile *t, step s)
{
    const attn_shape *a = &call->a;
    const bf16 *q = call->qkv + (t->first + s.row) * qkv_width(a) + s.head * a->head_dim;
    const bf16 *dout = call->dout + (t->first + s.row) * o_width(a) + s.head * a->head_dim;
    bring<WIDTH>(to, q, qkv_width(a), t->rows - s.row, a->head_dim);
    bring<WIDTH>(to + TILE * WIDTH / 8, dout, o_width(a), t->rows - s.row, a->head_dim);
}

/* lse and delta of row 0, of row 1, ..., one to a thread. A row that does not exist is zeros everywhere and adds +0. */
__device__ __forceinline__ float statistic(const bwd_call *call, const tile *t, step s)
{
    static_assert(ATTN_THREADS == 2 * TILE, "one to a thread");
    const int row = s.row + static_cast<int>(threadIdx.x) / 2;
    const float *of = threadIdx.x % 2 == 0 ? call->lse : call->delta;
    return row < t->rows ? of[(t->first + row) * call->a.n_head + s.head] : 0.0f;
}

/* Shared memory: tiles of keys, values; rows of q and dout, twice; statistics of the rows, twice. The scores are transposed,
 * a line to a key, so that their accumulators lie as the operands p^T and ds^T of the gradients do. */
template <int WIDTH> __global__ void __launch_bounds__(ATTN_THREADS, WIDTH > 80 ? 2 : 3) dkdv_kernel(bwd_call call)
{
    constexpr int chunks = TILE * WIDTH / 8;
    DYNAMIC_SHARED(chunk, k);
    chunk *v = k + chunks, *rows = v + chunks;
    float *stats = reinterpret_cast<float *>(rows + 4 * chunks);
    const attn_shape *a = &call.a;
    const int dim = a->head_dim, h = static_cast<int>(blockIdx.y), heads = (h + 1) * group_of(a); /* the last and one */
    const int64_t width = qkv_width(a);
    tile t;
    if (!tile_find(&t, &call.seg, 1, TILE, blockIdx.x, OP_attn_bwd, call.faults)) return;
    const int base = static_cast<int>(t.begin), thread = static_cast<int>(threadIdx.x);
    const bf16 *keys = call.qkv + (t.first + base) * width + (a->n_head + h) * dim; /* values lie n_kv heads behind */
    step now = {heads - group_of(a), a->causal ? base : 0}; /* earlier rows don't see the keys */
    bring<WIDTH>(k, keys, width, t.rows - base, dim);
    bring<WIDTH>(v, keys + a->n_kv * dim, width, t.rows - base, dim);
    bring_rows<WIDTH>(rows, &call, &t, now);
    copy_commit();
    stats[thread] = statistic(&call, &t, now);

    const int lane = thread % 32, line = thread / 32 * 16;
    const int seer = a->causal ? base + line : -TILE; /* the first row that sees the warp's first key */
    const int end = base + line < t.rows ? t.rows : 0; /* of the rows, if the warp has keys */
    float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};
    for (int stage = 0; now.head < heads; stage ^= 1) {
        const chunk *q = rows + stage * 2 * chunks, *g = q + chunks;
        step next = {now.head, now.row + TILE};
        float next_stat = 0.0f;
        if (next.row >= t.rows) next = {now.head + 1, a->causal ? base : 0};
        copy_wait<0>();
        __syncthreads(); /* this step is there for all, and all have left what is filled next */
        if (next.head < heads) {
            bring_rows<WIDTH>(rows + (stage ^ 1) * 2 * chunks, &call, &t, next);
            next_stat = statistic(&call, &t, next); /* on its way while this step computes */
        }
        copy_commit();
        ROLLED for (int r = 0; r < TILE; r += AT_ONCE)
        {
            float s[AT_ONCE / 8][4], dp[AT_ONCE / 8][4];
            uint32_t p[AT_ONCE / 16][4], ds[AT_ONCE / 16][4];
            const int begin = now.row + r, ahead = begin + lane % 4 * 2 - seer - lane / 4; /* of the lane's first key */
            if (begin >= end || begin + AT_ONCE <= seer) continue;
            scores<WIDTH, AT_ONCE / 16>(s, k, line, q, r);
            scores<WIDTH, AT_ONCE / 16>(dp, v, line, g, r);
            UNROLL for (int n = 0; n < AT_ONCE / 8; n++)
            {
                const float4 two = get4(stats + stage * 2 * TILE + 2 * (r + 8 * n + lane % 4 * 2)); /* rows: lse, delta */
                UNROLL for (int e = 0; e < 2; e++)
                {
                    const bool lo = ahead + 8 * n >= 8 * e, hi = ahead + 8 * n + 1 >= 8 * e;
                    const float x = weight(s[n][2 * e], a->scale, two.x), y = weight(s[n][2 * e + 1], a->scale, two.z);
                    const float dx = slope(x, dp[n][2 * e], a->scale, two.y), dy = slope(y, dp[n][2 * e + 1], a->scale, two.w);
                    p[n / 2][n % 2 * 2 + e] = pack_bf16(lo ? x : 0.0f, hi ? y : 0.0f);
                    ds[n / 2][n % 2 * 2 + e] = pack_bf16(lo ? dx : 0.0f, hi ? dy : 0.0f);
                }
            }
            add_product<WIDTH, AT_ONCE / 16>(dv, p, g, r);
            add_product<WIDTH, AT_ONCE / 16>(dk, ds, q, r);
        }
        stats[(stage ^ 1) * 2 * TILE + thread] = next_stat;
        now = next;
    }
    UNROLL for (int e = 0; e < 2; e++)
    {
        const int key = line + lane / 4 + 8 * e;
        bf16 *to = call.dqkv + (t.first + base + key) * width + (a->n_head + h) * dim;
        if (base + key >= t.rows) continue;
        store<WIDTH>(to, dk, e, dim);
        store<WIDTH>(to + a->n_kv * dim, dv, e, dim);
    }
}

template <int WIDTH> void gradients(cuda *c, const bwd_call &call)
{
    const size_t staged = 6 * TILE * WIDTH * sizeof(bf16);
    launch(c, "attn_bwd", dq_kernel<WIDTH>, tile_grid(&call.seg, group_of(&call.a), TILE, &call.a), ATTN_THREADS, staged, call);
    launch(c, "attn_bwd", dkdv_kernel<WIDTH>, tile_grid(&call.seg, 1, TILE, &call.a), ATTN_THREADS,
           staged + 4 * TILE * sizeof(float), call);
}

bool chunks_fit(const void *p) { return reinterpret_cast<uintptr_t>(p) % sizeof(chunk) == 0; }

} // namespace

void cuda_attn_bwd_bf16(cuda *c, bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta,
                        const segments *seg, const attn_shape *a)
{
    CHECK(chunks_fit(dqkv) && chunks_fit(dout) && chunks_fit(qkv));
    const bwd_call call = {dqkv, dout, qkv, lse, delta, *seg, *a, c->faults};
    if (a->head_dim <= 64)
        gradients<64>(c, call);
    else if (a->head_dim <= 80)
        gradients<80>(c, call);
    else
        gradients<128>(c, call);
}
