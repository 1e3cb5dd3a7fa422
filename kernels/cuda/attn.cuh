/* What the attention kernels share. A block works on a tile, some items of one segment that share a kv head; an item is a
 * query (row, head of the group), or a key. Sixteen lanes, a half warp, hold the scores of a query against the sixteen
 * keys of a block, lane j key j, and then the columns of its output, lane j columns 2j, 2j+1, 2j+32, ... */
#ifndef KERNELS_CUDA_ATTN_CUH
#define KERNELS_CUDA_ATTN_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/vmath.h"

#ifdef __CUDACC__
#define UNROLL _Pragma("unroll") /* the arrays of a loop over them live in registers */
#else
#define UNROLL
#endif

enum {
    MAX_HEAD_DIM = 256,
    ATTN_THREADS = 128,
    ATTN_BLOCKS = 3, /* on one multiprocessor: up to 168 registers a thread */
    HALVES = ATTN_THREADS / 16,
    PAIRS = 32 /* columns of one pair per lane of a half warp */
};

static inline __host__ __device__ int64_t qkv_width(const attn_shape *a)
{
    return (static_cast<int64_t>(a->n_head) + 2 * a->n_kv) * a->head_dim;
}
static inline __host__ __device__ int64_t o_width(const attn_shape *a)
{
    return static_cast<int64_t>(a->n_head) * a->head_dim;
}
static inline __host__ __device__ int group_of(const attn_shape *a) { return a->n_head / a->n_kv; }

/* Floats from one staged row to the next: whole turns of PAIRS columns, and an odd number of quads, so that sixteen lanes
 * that read a quad each of sixteen rows find them in different banks. */
static inline __host__ __device__ int pitch_of(int dim) { return (dim + PAIRS - 1) / PAIRS * PAIRS + 4; }

static inline void check_attn(const attn_shape *a, const tensor *qkv, const tensor *cu)
{
    CHECK(a->n_head > 0 && a->n_kv > 0 && a->n_head % a->n_kv == 0);
    CHECK(a->head_dim > 0 && a->head_dim <= MAX_HEAD_DIM && cols_of(qkv) == qkv_width(a));
    CHECK_I32(cu);
    CHECK(tensor_count(cu) > 1 || (tensor_count(cu) == 1 && rows_of(qkv) == 0));
}

/* The host can't read cu. With `per` items to a row and `each` to a tile, segment s owns the slots
 *     floor(cu[s] per / each) + s ... floor(cu[s+1] per / each) + s,
 * enough for its tiles, as floor(b) - floor(a) + 1 >= ceil(b - a); the slots behind its last tile do nothing. */
struct segments {
    const int32_t *cu;
    int64_t n_seg, rows;
};

static inline segments segments_of(const tensor *cu, int64_t rows) { return {I32(cu), tensor_count(cu) - 1, rows}; }

/* In bf16 these shapes, whole steps of a product over head_dim, have their products on tensor cores. Never decided by other
 * things, so that a row has the same bits in every call. */
static inline bool attn_on_tensor_cores(const attn_shape *a) { return a->head_dim % 16 == 0 && a->head_dim <= 128; }
/* The gradients of such a shape; delta[rows, n_head] = o . dout. */
void cuda_attn_bwd_bf16(cuda *c, bf16 *dqkv, const bf16 *dout, const bf16 *qkv, const float *lse, const float *delta,
                        const segments *seg, const attn_shape *a);

/* One block to a slot and kv head. */
static inline dim3 tile_grid(const segments *s, int per, int each, const attn_shape *a)
{
    return dim3(static_cast<unsigned>(s->rows * per / each + s->n_seg), static_cast<unsigned>(a->n_kv));
}

struct tile {
    int64_t seg, first; /* the segment, its first row */
    int rows;           /* of the segment */
    int64_t begin, end; /* items of the segment */
};

/* False: this slot has no tile. cu is untrusted; block (0, 0) looks at all of it. */
static __device__ bool tile_find(tile *t, const segments *s, int per, int each, int64_t slot, int op, fault *f)
{
    const int32_t *cu = s->cu;
    if (blockIdx.x == 0 && blockIdx.y == 0) {
        for (int64_t i = threadIdx.x; i < s->n_seg; i += blockDim.x)
            if (cu[i] > cu[i + 1] || (i == 0 && cu[0] != 0)) report(f, FAULT_SEGMENTS, op, cu[i + 1], s->rows);
        if (threadIdx.x == 0 && cu[s->n_seg] != s->rows) report(f, FAULT_SEGMENTS, op, cu[s->n_seg], s->rows);
    }
    int64_t low = 0, high = s->n_seg; /* the last segment whose slots begin at this one or before */
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (static_cast<int64_t>(cu[middle]) * per / each + middle <= slot)
            low = middle;
        else
            high = middle;
    }
    const int64_t first = cu[low], last = cu[low + 1];
    if (first < 0 || first > last || last > s->rows) return false;
    t->seg = low;
    t->first = first;
    t->rows = static_cast<int>(last - first);
    t->begin = (slot - (first * per / each + low)) * each;
    t->end = t->begin + each < t->rows * static_cast<int64_t>(per) ? t->begin + each : t->rows * static_cast<int64_t>(per);
    return t->begin >= 0 && t->begin < t->end;
}

/* What the queries of a half warp see of the keys: `ahead` of them lie before the segment's first row. Queries behind the
 * last item of the tile see what that one sees; nobody stores what comes of it. */
template <int NQ> struct sight {
    int64_t first; /* item of the half warp */
    int n_item;    /* of its NQ that exist */
    int tile, warp, query[NQ];
};

static __device__ __forceinline__ int seen_by(const attn_shape *a, int64_t item, int ahead, int n_key)
{
    return a->causal ? ahead + static_cast<int>(item / group_of(a)) + 1 : n_key;
}

template <int NQ>
static __device__ __forceinline__ void sight_of(sight<NQ> *s, const tile *t, const attn_shape *a, int ahead, int n_key)
{
    const int half = static_cast<int>(threadIdx.x) / 16, items = static_cast<int>(t->end - t->begin);
    const int in_warp = items - half / 2 * 2 * NQ;
    s->first = t->begin + half * NQ;
    s->n_item = items - half * NQ;
    s->tile = seen_by(a, t->end - 1, ahead, n_key);
    s->warp = in_warp <= 0 ? 0 : in_warp < 2 * NQ ? s->tile : seen_by(a, t->begin + (half / 2 + 1) * 2 * NQ - 1, ahead, n_key);
    UNROLL for (int i = 0; i < NQ; i++) s->query[i] = i < s->n_item ? seen_by(a, s->first + i, ahead, n_key) : s->tile;
}

/* Four elements at once from an address that is a multiple of their size. */
static __device__ __forceinline__ float4 get4(const float *p) { return *reinterpret_cast<const float4 *>(p); }
static __device__ __forceinline__ float4 get4(const bf16 *p)
{
    const uint2 u = *reinterpret_cast<const uint2 *>(p);
    return {v_from_bits(static_cast<int32_t>(u.x << 16)), v_from_bits(static_cast<int32_t>(u.x & 0xffff0000u)),
            v_from_bits(static_cast<int32_t>(u.y << 16)), v_from_bits(static_cast<int32_t>(u.y & 0xffff0000u))};
}
template <class T> static __device__ __forceinline__ bool quads(const T *p, int64_t stride)
{
    return reinterpret_cast<uintptr_t>(p) % (4 * sizeof(T)) == 0 && stride % 4 == 0;
}

/* A row of dim elements into shared memory, by a warp. */
template <class T> static __device__ __forceinline__ void stage_row(float *to, const T *from, int dim, bool by_quads)
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (by_quads)
        for (int d = 4 * lane; d < dim; d += 128) *reinterpret_cast<float4 *>(to + d) = get4(from + d);
    else
        for (int d = lane; d < dim; d += 32) to[d] = get(from + d);
}

/* n rows that lie `stride` apart, by the block. */
template <class T>
static __device__ __forceinline__ void stage_rows(float *to, const T *from, int64_t stride, int n, int dim)
{
    const int warp = static_cast<int>(threadIdx.x) / 32, pitch = pitch_of(dim);
    const bool by_quads = quads(from, stride) && dim % 4 == 0;
    for (int i = warp; i < n; i += ATTN_THREADS / 32) stage_row(to + i * pitch, from + i * stride, dim, by_quads);
}

/* s[i][n] = the chain over d of x[i][d] rows[n][d], rows ATTN_BLOCK staged rows apart: a lane's keys of NB blocks. */
template <int NR, int NB>
static __device__ __forceinline__ void dots(float (*s)[NB], const float *x, const float *rows, int dim)
{
    const int pitch = pitch_of(dim);
    UNROLL for (int i = 0; i < NR; i++) UNROLL for (int n = 0; n < NB; n++) s[i][n] = 0.0f;
    int d = 0;
    for (; d + 4 <= dim; d += 4) {
        float4 k[NB];
        UNROLL for (int n = 0; n < NB; n++) k[n] = get4(rows + n * ATTN_BLOCK * pitch + d);
        UNROLL for (int i = 0; i < NR; i++)
        {
            const float4 q = get4(x + i * pitch + d);
            UNROLL for (int n = 0; n < NB; n++)
            {
                s[i][n] = fmaf(q.x, k[n].x, s[i][n]);
                s[i][n] = fmaf(q.y, k[n].y, s[i][n]);
                s[i][n] = fmaf(q.z, k[n].z, s[i][n]);
                s[i][n] = fmaf(q.w, k[n].w, s[i][n]);
            }
        }
    }
    for (; d < dim; d++)
        UNROLL for (int i = 0; i < NR; i++) UNROLL for (int n = 0; n < NB; n++) s[i][n] =
            fmaf(x[i * pitch + d], rows[n * ATTN_BLOCK * pitch + d], s[i][n]);
}

template <bool ALL, int NR, int NC>
static __device__ __forceinline__ void add_counted(float (*acc)[2 * NC], const float *w, int w_row, const float *rows, int dim,
                                                   const int *count)
{
    const int lane = static_cast<int>(threadIdx.x) % 16, pitch = pitch_of(dim);
    const int most = ALL || count[NR - 1] > ATTN_BLOCK ? +ATTN_BLOCK : count[NR - 1];
    for (int j = 0; j < most; j += 4) {
        float4 quad[NR];
        UNROLL for (int i = 0; i < NR; i++) quad[i] = get4(w + i * w_row + j);
        UNROLL for (int u = 0; u < 4; u++)
        {
            float2 x[NC];
            UNROLL for (int c = 0; c < NC; c++) if (c * PAIRS < dim) x[c] =
                *reinterpret_cast<const float2 *>(rows + (j + u) * pitch + c * PAIRS + 2 * lane);
            UNROLL for (int i = 0; i < NR; i++) if (ALL || j + u < count[i])
            {
                const float weight = u == 0 ? quad[i].x : u == 1 ? quad[i].y : u == 2 ? quad[i].z : quad[i].w;
                UNROLL for (int c = 0; c < NC; c++) if (c * PAIRS < dim)
                {
                    acc[i][2 * c] = fmaf(weight, x[c].x, acc[i][2 * c]);
                    acc[i][2 * c + 1] = fmaf(weight, x[c].y, acc[i][2 * c + 1]);
                }
            }
        }
    }
}

/* acc[i] += the chain over the keys j of the block at b that query i sees, ascending, of w[i][j] rows[j]; a lane's columns
 * of it. Keys that a query does not see are not added, not even with weight 0. The rows of w, quads, lie w_row apart. */
template <int NR, int NC>
static __device__ __forceinline__ void add_rows(float (*acc)[2 * NC], const float *w, int w_row, const float *rows, int dim,
                                                const int *seen, int b)
{
    int count[NR];
    UNROLL for (int i = 0; i < NR; i++) count[i] = seen[i] - b;
    if (count[0] >= ATTN_BLOCK)
        add_counted<true, NR, NC>(acc, w, w_row, rows, dim, count);
    else
        add_counted<false, NR, NC>(acc, w, w_row, rows, dim, count);
}

/* A lane's columns of a row of dim elements. */
template <int NC, class T> static __device__ __forceinline__ void put_row(T *to, const float *x, int dim)
{
    const int lane = static_cast<int>(threadIdx.x) % 16;
    UNROLL for (int c = 0; c < NC; c++)
    {
        const int at = c * PAIRS + 2 * lane;
        if (at < dim) put(to + at, x[2 * c]);
        if (at + 1 < dim) put(to + at + 1, x[2 * c + 1]);
    }
}

#endif
