/* Norms: RMSNorm, LayerNorm, and RMSNorm of single heads. A sum over a row is sixteen partials in sixteen threads, so a
 * whole block works on a row only to load it: decoding has few rows. Weight gradients are one chain per column.
 *
 * RMSNorm is LayerNorm with mean 0 and bias -0: subtracting 0 and adding -0 change no bits. */
#include "kernels/cuda/cuda.cuh"

namespace {

/* BATCH: elements a thread reads before it writes, as what it reads and writes may be one for all the compiler knows */
enum { THREADS = 256, TILE = 4096, LANES = 16, BATCH = 8 };

/* CPU vectors load zeros behind the end of a row. */
template <class T> __device__ float or_zero(const T *p, int64_t i, int64_t n) { return i < n ? get(p + i) : 0.0f; }

__device__ int64_t whole_vectors(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Elements of the tile that begins at `first`, up to whole vectors. */
__device__ int tile_length(int64_t first, int64_t cols)
{
    const int64_t left = whole_vectors(cols - first), most = TILE;
    return static_cast<int>(left < most ? left : most);
}

/* The sum of the partials of threads 0..15, for all threads of the block. */
__device__ float block_sum(float partial, float *shared)
{
    if (threadIdx.x < 32) {
        float sum = half_sum(partial);
        if (threadIdx.x == 0) *shared = sum;
    }
    __syncthreads();
    return *shared;
}

/* tile = x - minus, 0 behind the row */
template <class T> __device__ void load_tile(float *tile, int len, const T *x, float minus, int64_t first, int64_t cols)
{
    for (int i = static_cast<int>(threadIdx.x); i < len; i += THREADS)
        tile[i] = first + i < cols ? get(x + first + i) - minus : 0.0f;
    __syncthreads();
}

/* One block per row; mean and bias NULL: RMSNorm. */
template <class T>
__global__ void fwd_kernel(T *y, float *mean, float *rstd, const T *x, const float *w, const float *bias, float eps,
                           int64_t cols)
{
    __shared__ float tile[TILE], sums[2];
    const int64_t r = blockIdx.x;
    const int me = static_cast<int>(threadIdx.x);
    const float count = static_cast<float>(cols);
    x += r * cols;
    y += r * cols;
    float m = 0;
    if (mean) {
        float sum = 0;
        for (int64_t first = 0; first < cols; first += TILE) {
            int len = tile_length(first, cols);
            load_tile(tile, len, x, 0.0f, first, cols);
            for (int i = me; me < LANES && i < len; i += LANES) sum = tile[i] + sum;
            __syncthreads();
        }
        m = block_sum(sum, &sums[0]) / count;
    }
    float squares = 0;
    for (int64_t first = 0; first < cols; first += TILE) {
        int len = tile_length(first, cols);
        load_tile(tile, len, x, m, first, cols);
        for (int i = me; me < LANES && i < len; i += LANES) squares = fmaf(tile[i], tile[i], squares);
        __syncthreads();
    }
    const float s = 1.0f / sqrtf(block_sum(squares, &sums[1]) / count + eps);
    if (me == 0) {
        if (mean) mean[r] = m;
        rstd[r] = s;
    }
    for (int64_t at = me; at < cols; at += BATCH * THREADS) {
        float v[BATCH];
        for (int k = 0; k < BATCH; k++) {
            int64_t i = at + k * THREADS;
            v[k] = i < cols ? fmaf((get(x + i) - m) * s, w[i], bias ? bias[i] : -0.0f) : 0.0f;
        }
        for (int k = 0; k < BATCH; k++)
            if (at + k * THREADS < cols) put(y + at + k * THREADS, v[k]);
    }
}

/* g = dy w, xh = (x - mean) r: dx = r (g - mean(g) - xh mean(g xh)), for RMSNorm (mean NULL) without mean(g). One block
 * per row, which is read before dx is written: dx may be dy. */
template <class T>
__global__ void bwd_kernel(T *dx, const T *dy, const T *x, const float *w, const float *mean, const float *rstd,
                           int64_t cols)
{
    __shared__ float2 tile[TILE]; /* g, xh */
    __shared__ float sums[2];
    const int64_t r = blockIdx.x;
    const int me = static_cast<int>(threadIdx.x);
    const float count = static_cast<float>(cols), s = rstd[r], m = mean ? mean[r] : 0.0f;
    dx += r * cols;
    dy += r * cols;
    x += r * cols;
    float sum = 0, dot = 0;
    for (int64_t first = 0; first < cols; first += TILE) {
        const int len = tile_length(first, cols);
        for (int i = me; i < len; i += THREADS) {
            tile[i].x = or_zero(dy, first + i, cols) * or_zero(w, first + i, cols);
            tile[i].y = (or_zero(x, first + i, cols) - m) * s;
        }
        __syncthreads();
        for (int i = me; me < LANES && i < len; i += LANES) {
            sum = sum + tile[i].x;
            dot = fmaf(tile[i].x, tile[i].y, dot);
        }
        __syncthreads();
    }
    const float m1 = mean ? block_sum(sum, &sums[0]) / count : 0.0f, m2 = block_sum(dot, &sums[1]) / count;
    for (int64_t at = me; at < cols; at += BATCH * THREADS) {
        float v[BATCH];
        for (int k = 0; k < BATCH; k++) {
            int64_t i = at + k * THREADS;
            v[k] = i < cols ? s * fmaf(-((get(x + i) - m) * s), m2, get(dy + i) * w[i] - m1) : 0.0f;
        }
        for (int k = 0; k < BATCH; k++)
            if (at + k * THREADS < cols) put(dx + at + k * THREADS, v[k]);
    }
}

/* Rows whose weight gradients are summed: heads of them, side by side, in each of rows / heads rows of memory. */
template <class T> struct row_set {
    const T *dy, *x;
    const float *mean, *rstd; /* mean may be NULL: 0 */
    int64_t dy_row, x_row, stat_row, cols;
    unsigned rows, heads;
};

/* One warp has the chains, a column each; the others bring it (dy, xh) of the next rows meanwhile. */
enum { ADDERS = 32, LOADERS = 256, STAGE = 2048 };

/* Rows behind the last, of which there is one, give terms -0 1, which change no sum. All loads first: they are far. */
template <class T, int COLS> __device__ void load_stage(float2 *stage, const row_set<T> *a, unsigned first)
{
    enum { EACH = STAGE / LOADERS };
    const unsigned me = threadIdx.x - ADDERS;
    const int64_t c = static_cast<int64_t>(blockIdx.x) * COLS + me % COLS;
    float dy[EACH], x[EACH], mean[EACH], rstd[EACH];
    for (int k = 0; k < EACH; k++) {
        unsigned row = first + (static_cast<unsigned>(k) * LOADERS + me) / COLS;
        row = row < a->rows ? row : a->rows - 1;
        int64_t r = row / a->heads, h = row % a->heads, in = h * a->cols + (c < a->cols ? c : 0);
        dy[k] = get(a->dy + r * a->dy_row + in);
        x[k] = get(a->x + r * a->x_row + in);
        mean[k] = a->mean ? a->mean[r * a->stat_row + h] : 0.0f;
        rstd[k] = a->rstd[r * a->stat_row + h];
    }
    for (int k = 0; k < EACH; k++) {
        unsigned at = static_cast<unsigned>(k) * LOADERS + me;
        bool there = first + at / COLS < a->rows;
        stage[at].x = there ? dy[k] : -0.0f;
        stage[at].y = there ? (x[k] - mean[k]) * rstd[k] : 1.0f;
    }
}

/* dw += sum dy xh, dbias += sum dy (may be NULL) over ascending rows; a block has COLS columns. */
template <class T, int COLS> __global__ void dw_kernel(float *dw, float *dbias, row_set<T> a)
{
    enum { ROWS = STAGE / COLS };
    __shared__ float2 stage[2][STAGE];
    const int me = static_cast<int>(threadIdx.x);
    const int64_t c = static_cast<int64_t>(blockIdx.x) * COLS + me;
    const bool mine = me < COLS && c < a.cols;
    float sum = mine ? dw[c] : 0.0f, plain = mine && dbias ? dbias[c] : 0.0f;
    if (me >= ADDERS && a.rows) load_stage<T, COLS>(stage[0], &a, 0);
    __syncthreads();
    int turn = 0;
    for (unsigned first = 0; first < a.rows; first += ROWS, turn ^= 1) {
        if (me >= ADDERS) {
            if (a.rows - first > ROWS) load_stage<T, COLS>(stage[turn ^ 1], &a, first + ROWS);
        } else if (me < COLS) {
            for (int i = 0; i < ROWS; i++) {
                float2 t = stage[turn][i * COLS + me];
                sum = fmaf(t.x, t.y, sum);
                plain = plain + t.x;
            }
        }
        __syncthreads();
    }
    if (mine) dw[c] = sum;
    if (mine && dbias) dbias[c] = plain;
}

template <class T, int COLS> void launch_dw(cuda *c, const char *what, float *dw, float *dbias, const row_set<T> *a)
{
    launch(c, what, dw_kernel<T, COLS>, blocks_for(a->cols, COLS), ADDERS + LOADERS, 0, dw, dbias, *a);
}

unsigned few(int64_t n)
{
    CHECK(n >= 0 && n < INT32_MAX);
    return static_cast<unsigned>(n);
}

void norm_fwd(cuda *c, const char *what, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
              const tensor *bias, float eps)
{
    CHECK_F32(rstd), CHECK_F32(w), CHECK(x->type == y->type);
    int64_t n = rows_of(x), cols = cols_of(x);
    CHECK(tensor_count(y) == n * cols && tensor_count(rstd) == n && tensor_count(w) == cols);
    WITH_TYPE(T, x,
              launch(c, what, fwd_kernel<T>, few(n), THREADS, 0, y->data, mean ? F32(mean) : nullptr, F32(rstd), x->data,
                     F32(w), bias ? F32(bias) : nullptr, eps, cols));
}

void norm_bwd(cuda *c, const char *what, tensor *dx, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x,
              const tensor *w, const tensor *mean, const tensor *rstd)
{
    CHECK_F32(w), CHECK_F32(rstd), CHECK(dy->type == x->type && dx->type == x->type);
    int64_t n = rows_of(x), cols = cols_of(x);
    CHECK(tensor_count(dx) == n * cols && tensor_count(dy) == n * cols && tensor_count(rstd) == n);
    CHECK(tensor_count(w) == cols && (!dw || (dw->type == DT_F32 && tensor_count(dw) == cols)));
    const float *means = mean ? F32(mean) : nullptr;
    if (dw) /* before dx: dx may be dy */
        WITH_TYPE(T, x, row_set<T> a = {static_cast<T *>(dy->data), static_cast<T *>(x->data), means, F32(rstd), cols,
                                        cols, 1, cols, few(n), 1};
                  launch_dw<T, 32>(c, what, F32(dw), dbias ? F32(dbias) : nullptr, &a));
    WITH_TYPE(T, x,
              launch(c, what, bwd_kernel<T>, few(n), THREADS, 0, dx->data, dy->data, x->data, F32(w), means, F32(rstd),
                     cols));
}

/* ---- single heads: half a warp has one ---- */

/* The heads of rows [q | k | v] that are normed. */
struct head_set {
    const float *wq, *wk;
    float *rstd;
    int64_t rows, width, n, n_head; /* floats of a row; heads with a norm in it, n_head of them queries */
    int dim;
};

/* Head `at` of all: where it begins in qkv and in raw, and its scale. Behind the last head: false. */
__device__ bool find_head(const head_set *s, int64_t *at, int64_t *in_qkv, const float **w)
{
    *at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / LANES;
    int64_t r = *at / s->n, h = *at % s->n;
    *in_qkv = r * s->width + h * s->dim;
    *w = h < s->n_head ? s->wq : s->wk;
    return r < s->rows;
}

template <class T> __global__ void heads_fwd_kernel(T *qkv, T *raw, head_set set, float eps)
{
    int64_t at, in_qkv;
    const float *w;
    const bool mine = find_head(&set, &at, &in_qkv, &w);
    const int lane = static_cast<int>(threadIdx.x) % LANES, dim = mine ? set.dim : 0;
    T *x = qkv + in_qkv, *keep = raw + at * set.dim;
    float squares = 0;
    for (int i = lane; i < dim; i += LANES) {
        keep[i] = x[i];
        squares = fmaf(get(x + i), get(x + i), squares);
    }
    const float s = 1.0f / sqrtf(half_sum(squares) / static_cast<float>(set.dim) + eps);
    if (mine && lane == 0) set.rstd[at] = s;
    for (int i = lane; i < dim; i += LANES) put(x + i, get(x + i) * s * w[i]);
}

template <class T> __global__ void heads_bwd_kernel(T *dqkv, const T *raw, head_set set)
{
    int64_t at, in_qkv;
    const float *w;
    const bool mine = find_head(&set, &at, &in_qkv, &w);
    const int lane = static_cast<int>(threadIdx.x) % LANES, dim = mine ? set.dim : 0;
    const float s = mine ? set.rstd[at] : 0.0f;
    T *d = dqkv + in_qkv;
    const T *x = raw + at * set.dim;
    float dot = 0;
    for (int i = lane; i < whole_vectors(dim); i += LANES)
        dot = fmaf(or_zero(d, i, dim) * or_zero(w, i, dim), or_zero(x, i, dim) * s, dot);
    const float mean = half_sum(dot) / static_cast<float>(set.dim);
    for (int i = lane; i < dim; i += LANES) put(d + i, s * fmaf(-(get(x + i) * s), mean, get(d + i) * w[i]));
}

head_set check_heads(const tensor *qkv, const tensor *raw, const tensor *rstd, const tensor *wq, const tensor *wk,
                     const attn_shape *a)
{
    CHECK_F32(rstd), CHECK_F32(wq), CHECK_F32(wk), CHECK(raw->type == qkv->type);
    int64_t n = a->n_head + a->n_kv;
    head_set s = {F32(wq), F32(wk), F32(rstd), rows_of(qkv), cols_of(qkv), n, a->n_head, a->head_dim};
    CHECK(s.width == (n + a->n_kv) * s.dim && tensor_count(wq) == s.dim && tensor_count(wk) == s.dim);
    CHECK(tensor_count(raw) == s.rows * n * s.dim && tensor_count(rstd) == s.rows * n);
    return s;
}

/* Chains of rows x heads steps with few columns to them: narrow strips, or the loads of a few blocks would be the limit. */
template <class T> void heads_dw(cuda *c, float *dwq, float *dwk, const T *dqkv, const T *raw, const head_set *s)
{
    enum { STRIP = 8 };
    const int64_t queries = s->n_head * s->dim, kv = s->n - s->n_head;
    row_set<T> a = {dqkv, raw, nullptr, s->rstd, s->width, s->n * s->dim, s->n, s->dim, few(s->rows * s->n_head),
                    few(s->n_head)};
    launch_dw<T, STRIP>(c, "headnorm_bwd", dwq, nullptr, &a);
    a.dy += queries;
    a.x += queries;
    a.rstd += s->n_head;
    a.rows = few(s->rows * kv);
    a.heads = few(kv);
    launch_dw<T, STRIP>(c, "headnorm_bwd", dwk, nullptr, &a);
}

} // namespace

void cuda_rmsnorm_fwd(backend *b, tensor *y, tensor *rstd, const tensor *x, const tensor *w, float eps)
{
    norm_fwd(cuda_of(b), "rmsnorm_fwd", y, nullptr, rstd, x, w, nullptr, eps);
}

void cuda_rmsnorm_bwd(backend *b, tensor *dx, tensor *dw, const tensor *dy, const tensor *x, const tensor *w,
                      const tensor *rstd)
{
    norm_bwd(cuda_of(b), "rmsnorm_bwd", dx, dw, nullptr, dy, x, w, nullptr, rstd);
}

void cuda_layernorm_fwd(backend *b, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w,
                        const tensor *bias, float eps)
{
    CHECK_F32(mean), CHECK_F32(bias);
    CHECK(tensor_count(mean) == rows_of(x) && tensor_count(bias) == cols_of(x));
    norm_fwd(cuda_of(b), "layernorm_fwd", y, mean, rstd, x, w, bias, eps);
}

void cuda_layernorm_bwd(backend *b, tensor *dx, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x,
                        const tensor *w, const tensor *mean, const tensor *rstd)
{
    CHECK_F32(mean), CHECK_F32(dbias);
    CHECK(tensor_count(mean) == rows_of(x) && tensor_count(dbias) == cols_of(x));
    norm_bwd(cuda_of(b), "layernorm_bwd", dx, dw, dbias, dy, x, w, mean, rstd);
}

void cuda_headnorm_fwd(backend *b, tensor *qkv, tensor *raw, tensor *rstd, const tensor *wq, const tensor *wk,
                       const attn_shape *a, float eps)
{
    head_set s = check_heads(qkv, raw, rstd, wq, wk, a);
    WITH_TYPE(T, qkv,
              launch(cuda_of(b), "headnorm_fwd", heads_fwd_kernel<T>, blocks_for(s.rows * s.n, THREADS / LANES), THREADS, 0,
                     qkv->data, raw->data, s, eps));
}

void cuda_headnorm_bwd(backend *b, tensor *dqkv, tensor *dwq, tensor *dwk, const tensor *raw, const tensor *rstd,
                       const tensor *wq, const tensor *wk, const attn_shape *a)
{
    head_set s = check_heads(dqkv, raw, rstd, wq, wk, a);
    CHECK_F32(dwq), CHECK_F32(dwk);
    CHECK(tensor_count(dwq) == s.dim && tensor_count(dwk) == s.dim);
    cuda *c = cuda_of(b);
    WITH_TYPE(T, dqkv, heads_dw(c, F32(dwq), F32(dwk), static_cast<T *>(dqkv->data), static_cast<T *>(raw->data), &s);
              launch(c, "headnorm_bwd", heads_bwd_kernel<T>, blocks_for(s.rows * s.n, THREADS / LANES), THREADS, 0,
                     dqkv->data, raw->data, s)); /* after dw: it overwrites dqkv */
}
