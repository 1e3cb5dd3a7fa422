/* Ops that move rows: embedding, gather, scatter, mixtures, pooling. */
#include "kernels/cuda/cuda.cuh"

namespace {

enum { THREADS = 256 };

/* One thread per element of the output. */
#define ELEMENT(i, n)                                                                      \
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; \
    if (i >= n) return

/* A negative index gives a zero row where `lowest` allows it. */
template <class T, class U>
__global__ void take_kernel(T *y, const U *x, const int32_t *idx, int64_t cols, int64_t n, int lowest, int64_t limit,
                            int op, fault *f)
{
    ELEMENT(i, n);
    int32_t from = idx[i / cols];
    if (from < 0 && lowest < 0)
        put(y + i, 0.0f);
    else if (index_ok(f, op, from, limit))
        put(y + i, get(x + from * cols + i % cols));
}

template <class T>
__global__ void put_kernel(T *y, const T *x, const int32_t *idx, int64_t cols, int64_t n, int64_t limit, fault *f)
{
    ELEMENT(i, n);
    int32_t to = idx[i / cols];
    if (index_ok(f, OP_rows_put, to, limit)) put(y + to * cols + i % cols, get(x + i));
}

/* y[idx[i]] += weight[i] x[i / taps] for ascending i: the block of the first i that names a row adds all of them, PANEL
 * columns at a time, so a sum is one chain that is rounded to T once. weight NULL: plain sums. */
enum { COLS = 8, PANEL = COLS * THREADS };

template <class T, class U>
__global__ void scatter_kernel(T *y, const U *x, const int32_t *idx, const float *weight, int64_t taps, int64_t cols,
                               int64_t n, int lowest, int64_t limit, int op, fault *f)
{
    __shared__ int named[THREADS];
    const int64_t first = blockIdx.x;
    const int me = static_cast<int>(threadIdx.x);
    const int32_t row = idx[first];
    if (row < 0 && lowest < 0) return;
    if (!index_ok(f, op, row, limit)) return;
    int earlier = 0;
    for (int64_t i = me; i < first; i += THREADS) earlier |= idx[i] == row;
    named[me] = earlier;
    __syncthreads();
    for (int i = 0; i < THREADS; i++)
        if (named[i]) return;
    for (int64_t panel = 0; panel < cols; panel += PANEL) {
        float sum[COLS];
        for (int c = 0; c < COLS; c++) {
            int64_t k = panel + c * THREADS + me;
            sum[c] = k < cols ? get(y + row * cols + k) : 0.0f;
        }
        for (int64_t at = first; at < n; at += THREADS) {
            __syncthreads();
            named[me] = at + me < n && idx[at + me] == row;
            __syncthreads();
            for (int i = 0; i < THREADS; i++) {
                if (!named[i]) continue;
                const U *from = x + (at + i) / taps * cols;
                for (int c = 0; c < COLS; c++) {
                    int64_t k = panel + c * THREADS + me;
                    if (k < cols) sum[c] = weight ? fmaf(weight[at + i], get(from + k), sum[c]) : sum[c] + get(from + k);
                }
            }
        }
        for (int c = 0; c < COLS; c++) {
            int64_t k = panel + c * THREADS + me;
            if (k < cols) put(y + row * cols + k, sum[c]);
        }
    }
}

template <class T>
__global__ void mix_kernel(T *y, const float *table, const int32_t *ids, const float *w, int64_t taps, int64_t cols,
                           int64_t n, int64_t limit, fault *f)
{
    ELEMENT(i, n);
    float sum = 0;
    for (int64_t t = i / cols * taps; t < (i / cols + 1) * taps; t++) {
        if (!index_ok(f, OP_mix_fwd, ids[t], limit)) return;
        sum = fmaf(w[t], table[ids[t] * cols + i % cols], sum);
    }
    put(y + i, get(y + i) + sum);
}

/* [first, last) of a segment, empty after reporting that they are none. */
__device__ bool segment_of(const int32_t *cu, int64_t s, int64_t rows, int op, fault *f, int32_t *first, int32_t *last)
{
    *first = cu[s];
    *last = cu[s + 1];
    if (*first >= 0 && *first <= *last && *last <= rows) return true;
    report(f, FAULT_SEGMENTS, op, *last, rows);
    return false;
}

template <class T>
__global__ void pool_fwd_kernel(T *y, const T *x, const int32_t *cu, int64_t cols, int64_t n, int64_t rows, fault *f)
{
    ELEMENT(i, n);
    int32_t first, last;
    if (!segment_of(cu, i / cols, rows, OP_pool_fwd, f, &first, &last)) return;
    float sum = 0;
    for (int32_t r = first; r < last; r++) sum += get(x + r * cols + i % cols);
    put(y + i, last > first ? sum / static_cast<float>(last - first) : 0.0f);
}

template <class T>
__global__ void pool_bwd_kernel(T *dx, const T *dy, const int32_t *cu, int64_t cols, int64_t n, int64_t rows, fault *f)
{
    ELEMENT(i, n);
    int32_t first, last;
    if (!segment_of(cu, i / cols, rows, OP_pool_bwd, f, &first, &last)) return;
    for (int32_t r = first; r < last; r++) put(dx + r * cols + i % cols, get(dy + i) / static_cast<float>(last - first));
}

template <class T, class U>
void take(cuda *c, int op, tensor *y, const tensor *x, const tensor *idx, int lowest)
{
    int64_t n = rows_of(y) * cols_of(y);
    launch(c, "rows", take_kernel<T, U>, blocks_for(n, THREADS), THREADS, 0, y->data, x->data, I32(idx), cols_of(y), n,
           lowest, rows_of(x), op, c->faults);
}

template <class T, class U>
void scatter(cuda *c, int op, tensor *y, const tensor *x, const tensor *idx, const float *weight, int64_t taps, int lowest)
{
    int64_t n = tensor_count(idx);
    launch(c, "rows", scatter_kernel<T, U>, static_cast<unsigned>(n), THREADS, 0, y->data, x->data, I32(idx), weight,
           taps, cols_of(y), n, lowest, rows_of(y), op, c->faults);
}

/* One thread for each column of each segment; `whole` has the rows that `pooled` has the means of. */
template <class T, class K>
void pool(cuda *c, const char *what, K *kernel, tensor *out, const tensor *in, const tensor *cu, const tensor *pooled,
          const tensor *whole)
{
    CHECK_I32(cu), CHECK(out->type == in->type);
    int64_t n_seg = tensor_count(cu) - 1, cols = cols_of(pooled), n = n_seg * cols;
    CHECK(n_seg >= 0 && rows_of(pooled) == n_seg && cols_of(whole) == cols);
    launch(c, what, kernel, blocks_for(n, THREADS), THREADS, 0, out->data, in->data, I32(cu), cols, n, rows_of(whole),
           c->faults);
}

void check_rows(const tensor *a, const tensor *b, const tensor *idx)
{
    CHECK_I32(idx);
    CHECK(cols_of(a) == cols_of(b));
}

} // namespace

void cuda_embed_fwd(backend *b, tensor *x, const tensor *table, const tensor *ids)
{
    check_rows(x, table, ids);
    CHECK(rows_of(x) == tensor_count(ids));
    WITH_TYPE(T, x, WITH_TYPE(U, table, take<T, U>(cuda_of(b), OP_embed_fwd, x, table, ids, -1)));
}

void cuda_embed_bwd(backend *b, tensor *dtable, const tensor *dx, const tensor *ids)
{
    check_rows(dtable, dx, ids), CHECK_F32(dtable);
    CHECK(rows_of(dx) == tensor_count(ids));
    WITH_TYPE(T, dx, scatter<float, T>(cuda_of(b), OP_embed_bwd, dtable, dx, ids, nullptr, 1, -1));
}

void cuda_rows_take(backend *b, tensor *y, const tensor *x, const tensor *idx)
{
    check_rows(y, x, idx);
    CHECK(rows_of(y) == tensor_count(idx) && y->type == x->type);
    WITH_TYPE(T, y, take<T, T>(cuda_of(b), OP_rows_take, y, x, idx, 0));
}

void cuda_rows_put(backend *b, tensor *y, const tensor *x, const tensor *idx)
{
    check_rows(y, x, idx);
    CHECK(rows_of(x) == tensor_count(idx) && y->type == x->type);
    cuda *c = cuda_of(b);
    int64_t n = rows_of(x) * cols_of(x);
    WITH_TYPE(T, y,
              launch(c, "rows_put", put_kernel<T>, blocks_for(n, THREADS), THREADS, 0, y->data, x->data, I32(idx),
                     cols_of(y), n, rows_of(y), c->faults));
}

void cuda_rows_add(backend *b, tensor *y, const tensor *x, const tensor *idx)
{
    check_rows(y, x, idx);
    CHECK(rows_of(x) == tensor_count(idx));
    WITH_TYPE(T, y, WITH_TYPE(U, x, scatter<T, U>(cuda_of(b), OP_rows_add, y, x, idx, nullptr, 1, 0)));
}

void cuda_mix_fwd(backend *b, tensor *y, const tensor *table, const tensor *ids, const tensor *w)
{
    CHECK_F32(table), CHECK_I32(ids), CHECK_F32(w);
    int64_t rows = rows_of(ids), n = rows * cols_of(y);
    CHECK(rows_of(y) == rows && cols_of(table) == cols_of(y) && tensor_count(w) == tensor_count(ids));
    cuda *c = cuda_of(b);
    WITH_TYPE(T, y,
              launch(c, "mix_fwd", mix_kernel<T>, blocks_for(n, THREADS), THREADS, 0, y->data, F32(table), I32(ids), F32(w),
                     cols_of(ids), cols_of(y), n, rows_of(table), c->faults));
}

void cuda_mix_bwd(backend *b, tensor *dtable, const tensor *dy, const tensor *ids, const tensor *w)
{
    CHECK_F32(dtable), CHECK_I32(ids), CHECK_F32(w);
    CHECK(rows_of(dy) == rows_of(ids) && cols_of(dtable) == cols_of(dy) && tensor_count(w) == tensor_count(ids));
    WITH_TYPE(T, dy, scatter<float, T>(cuda_of(b), OP_mix_bwd, dtable, dy, ids, F32(w), cols_of(ids), 0));
}

void cuda_pool_fwd(backend *b, tensor *y, const tensor *x, const tensor *cu)
{
    WITH_TYPE(T, y, pool<T>(cuda_of(b), "pool_fwd", pool_fwd_kernel<T>, y, x, cu, y, x));
}

void cuda_pool_bwd(backend *b, tensor *dx, const tensor *dy, const tensor *cu)
{
    WITH_TYPE(T, dx, pool<T>(cuda_of(b), "pool_bwd", pool_bwd_kernel<T>, dx, dy, cu, dy, dx));
}
