/* Matrix products. fp32 here: tiles in shared memory, a few outputs per thread, each output one chain of fmaf over
 * ascending k, so that no bit depends on the tile; w may be stored in bf16. Activations in bf16: linear_bf16.cu. */
#include "kernels/cuda/product.cuh"

namespace {

/* A block takes rows x cols outputs and steps of `depth`; a thread high x wide of them. Lines of shared memory are PAD
 * longer: fours stay aligned, and stores down the lines meet fewer of the same banks. */
enum { PAD = 4 };
struct full {
    enum { rows = 128, cols = 128, depth = 8, high = 8, wide = 8, threads = 256, blocks = 2 };
};
struct few { /* rows */
    enum { rows = 16, cols = 32, depth = 64, high = 1, wide = 4, threads = 128, blocks = 1 };
};
template <class S> struct buffer {
    float a[S::depth][S::rows + PAD], b[S::depth][S::cols + PAD];
};

/* A thread's elements of an operand's next step, and then to shared memory. Memory is read along its own lines: `lines`
 * of them, `width` elements of each. DOWN: k is the line. */
template <int LINES, int WIDTH, int THREADS, class T>
__device__ __forceinline__ void fetch(float *mine, const T *from, int64_t pitch, int lines, int width)
{
    constexpr int each = THREADS / WIDTH;
    const int line = static_cast<int>(threadIdx.x) / WIDTH, at = static_cast<int>(threadIdx.x) % WIDTH;
    const T *p = from + line * pitch + at;
    UNROLL for (int i = 0; i < LINES / each; i++, p += each * pitch)
        mine[i] = line + i * each < lines && at < width ? get(p) : 0.0f;
}
template <bool DOWN, int LINES, int WIDTH, int THREADS, int PITCH>
__device__ __forceinline__ void stash(float (*to)[PITCH], const float *mine)
{
    constexpr int each = THREADS / WIDTH;
    const int line = static_cast<int>(threadIdx.x) / WIDTH, at = static_cast<int>(threadIdx.x) % WIDTH;
    UNROLL for (int i = 0; i < LINES / each; i++)
        to[DOWN ? line + i * each : at][DOWN ? at : line + i * each] = mine[i];
}
template <bool DOWN, int LINES, int DEPTH, int THREADS, class T>
__device__ __forceinline__ void fetch_step(float *mine, const T *from, int64_t pitch, int lines, int depth)
{
    if (DOWN)
        fetch<DEPTH, LINES, THREADS>(mine, from, pitch, depth, lines);
    else
        fetch<LINES, DEPTH, THREADS>(mine, from, pitch, lines, depth);
}

/* A thread's M of the N lines of a tile: fours, N / M of them apart. */
template <int M, int N> __device__ __forceinline__ int line_of(int me, int i)
{
    return M < 4 ? me * M + i : i / 4 * (4 * N / M) + me * 4 + i % 4;
}
template <int M, int N> __device__ __forceinline__ void pick(float *out, const float *k_line, int me)
{
    if constexpr (M % 4 == 0) {
        UNROLL for (int i = 0; i < M; i += 4) {
            const float4 v = *reinterpret_cast<const float4 *>(k_line + line_of<M, N>(me, i));
            out[i] = v.x, out[i + 1] = v.y, out[i + 2] = v.z, out[i + 3] = v.w;
        }
    } else {
        UNROLL for (int i = 0; i < M; i++) out[i] = k_line[line_of<M, N>(me, i)];
    }
}

template <class S>
__device__ __forceinline__ void step(float acc[S::high][S::wide], const buffer<S> *from, int k, int me_row, int me_col)
{
    float a[S::high], b[S::wide];
    pick<S::high, S::rows>(a, from->a[k], me_row);
    pick<S::wide, S::cols>(b, from->b[k], me_col);
    UNROLL for (int i = 0; i < S::high; i++) UNROLL for (int j = 0; j < S::wide; j++) acc[i][j] =
        fmaf(a[i], b[j], acc[i][j]);
}

template <class S, form F, class W> __global__ void __launch_bounds__(S::threads, S::blocks) product_kernel(product p)
{
    DYNAMIC_SHARED(buffer<S>, shared); /* two: one is read while the next is written */
    constexpr bool a_down = F == TN, b_down = F != NT;
    constexpr int across = S::cols / S::wide;
    const int me_row = static_cast<int>(threadIdx.x) / across, me_col = static_cast<int>(threadIdx.x) % across;
    int row0, col0;
    tile_corner(&row0, &col0, p, S::rows, S::cols);
    const int rows = covered(p.rows - row0, S::rows), cols = covered(p.cols - col0, S::cols);
    const float *a = static_cast<const float *>(p.a) + (a_down ? row0 : row0 * p.a_row);
    const W *b = static_cast<const W *>(p.b) + (b_down ? col0 : col0 * p.b_row);
    const int64_t a_next = a_down ? p.a_row : 1, b_next = b_down ? p.b_row : 1; /* k to k + 1 */
    float *y = static_cast<float *>(p.y) + row0 * p.y_row + col0;

    float acc[S::high][S::wide], next_a[S::rows * S::depth / S::threads], next_b[S::cols * S::depth / S::threads];
    UNROLL for (int i = 0; i < S::high; i++)
    {
        const int r = line_of<S::high, S::rows>(me_row, i);
        const float *line = y + (r < rows ? r : 0) * p.y_row;
        UNROLL for (int j = 0; j < S::wide; j++)
        {
            const int o = line_of<S::wide, S::cols>(me_col, j);
            acc[i][j] = F == TN ? line[o < cols ? o : 0] : 0.0f;
        }
    }
    int turn = 0;
    for (int64_t k = -S::depth; k < p.depth; k += S::depth) { /* step k is multiplied while k + depth is loaded */
        const int now = k < 0 ? 0 : covered(p.depth - k, S::depth), then = covered(p.depth - k - S::depth, S::depth);
        if (then) {
            const int64_t from = k + S::depth;
            fetch_step<a_down, S::rows, S::depth, S::threads>(next_a, a + from * a_next, p.a_row, rows, then);
            fetch_step<b_down, S::cols, S::depth, S::threads>(next_b, b + from * b_next, p.b_row, cols, then);
        }
        if (now == S::depth) {
            UNROLL for (int i = 0; i < S::depth; i++) step<S>(acc, &shared[turn], i, me_row, me_col);
        } else { /* exact bounds: a product of zeros added could change the sign of a zero */
            for (int i = 0; i < now; i++) step<S>(acc, &shared[turn], i, me_row, me_col);
        }
        turn ^= 1;
        if (then) {
            stash<a_down, a_down ? S::depth : S::rows, a_down ? S::rows : S::depth, S::threads>(shared[turn].a, next_a);
            stash<b_down, b_down ? S::depth : S::cols, b_down ? S::cols : S::depth, S::threads>(shared[turn].b, next_b);
        }
        __syncthreads();
    }
    UNROLL for (int i = 0; i < S::high; i++)
    {
        const int r = line_of<S::high, S::rows>(me_row, i);
        float *line = y + r * p.y_row;
        UNROLL for (int j = 0; j < S::wide; j++)
        {
            const int o = line_of<S::wide, S::cols>(me_col, j);
            if (r < rows && o < cols) line[o] = F == NT && p.bias ? acc[i][j] + p.bias[col0 + o] : acc[i][j];
        }
    }
}

template <class S, form F, class W> void run(cuda *c, const char *what, const product *p)
{
    launch(c, what, product_kernel<S, F, W>, static_cast<unsigned>(tiles_of(p, S::rows, S::cols)), S::threads,
           2 * sizeof(buffer<S>), *p);
}

/* Large tiles where they keep all multiprocessors busy. */
template <form F, class W> void product_f32(cuda *c, const char *what, const product *p)
{
    if (p->rows <= few::rows || tiles_of(p, full::rows, full::cols) < c->processors)
        run<few, F, W>(c, what, p);
    else
        run<full, F, W>(c, what, p);
}

/* dbias[j] += dy[i][j] for ascending i. One warp adds the 32 columns of a block from shared memory while the others load
 * the rows to come. */
enum { SUM_WARPS = 8, SUM_EACH = 16, SUM_ROWS = (SUM_WARPS - 1) * SUM_EACH, SUM_COLS = 32 };

template <class T>
__global__ void column_sums_kernel(float *dbias, const T *dy, int64_t dy_row, int64_t rows, int64_t cols)
{
    DYNAMIC_SHARED(float, shared); /* two steps [SUM_ROWS][SUM_COLS] */
    const int warp = static_cast<int>(threadIdx.x) / SUM_COLS, lane = static_cast<int>(threadIdx.x) % SUM_COLS;
    const int64_t col = static_cast<int64_t>(blockIdx.x) * SUM_COLS + lane;
    const bool mine = col < cols;
    float sum = mine ? dbias[col] : 0.0f;
    for (int64_t row = -SUM_ROWS; row < rows; row += SUM_ROWS) {
        const int turn = static_cast<int>(row / SUM_ROWS) & 1, now = row < 0 ? 0 : covered(rows - row, SUM_ROWS);
        const float *from = shared + turn * SUM_ROWS * SUM_COLS;
        float *to = shared + (turn ^ 1) * SUM_ROWS * SUM_COLS;
        if (warp == 0) {
            for (int i = 0; i < now; i++) sum += from[i * SUM_COLS + lane];
        } else {
            UNROLL for (int i = 0; i < SUM_EACH; i++)
            {
                const int at = (warp - 1) * SUM_EACH + i;
                const int64_t r = row + SUM_ROWS + at;
                to[at * SUM_COLS + lane] = mine && r < rows ? get(dy + r * dy_row + col) : 0.0f;
            }
        }
        __syncthreads();
    }
    if (warp == 0 && mine) dbias[col] = sum;
}

template <class T> void column_sums(cuda *c, float *dbias, const void *dy, int64_t dy_row, int64_t rows, int64_t cols)
{
    launch(c, "linear_dw", column_sums_kernel<T>, blocks_for(cols, SUM_COLS), SUM_WARPS * SUM_COLS,
           2 * SUM_ROWS * SUM_COLS * sizeof(float), dbias, static_cast<const T *>(dy), dy_row, rows, cols);
}

/* NT or NN with the weights w */
template <form F> void with_weights(cuda *c, const char *what, product p, dtype y_type, dtype x_type, const tensor *w)
{
    p.b = w->data;
    if (x_type == DT_F32) {
        CHECK(y_type == DT_F32);
        WITH_TYPE(W, w, product_f32<F, W>(c, what, &p));
        return;
    }
    CHECK(x_type == DT_BF16);
    p.b = cuda_bf16_weights(c, w);
    if (p.b || p.depth == 0) cuda_product_bf16(c, what, F, &p, y_type);
}

} // namespace

void cuda_matmul_nt(cuda *c, void *y, dtype y_type, int64_t y_row, const void *x, dtype x_type, int64_t rows,
                    const tensor *w, const float *bias)
{
    const int64_t inputs = cols_of(w), outputs = rows_of(w);
    const product p = {y, x, nullptr, bias, y_row, inputs, inputs, rows, outputs, inputs};
    if (rows && outputs) with_weights<NT>(c, "linear_fwd", p, y_type, x_type, w);
}

void cuda_matmul_nn(cuda *c, void *dx, const void *dy, dtype type, int64_t dy_row, int64_t rows, const tensor *w)
{
    const int64_t inputs = cols_of(w), outputs = rows_of(w);
    const product p = {dx, dy, nullptr, nullptr, inputs, dy_row, inputs, rows, inputs, outputs};
    if (rows && inputs) with_weights<NN>(c, "linear_dx", p, type, type, w);
}

void cuda_matmul_tn(cuda *c, float *dw, float *dbias, const void *dy, dtype type, int64_t dy_row, const void *x,
                    int64_t rows, int64_t outputs, int64_t inputs)
{
    const product p = {dw, dy, x, nullptr, inputs, dy_row, inputs, outputs, inputs, rows};
    if (rows == 0) return;
    if (type == DT_F32) {
        product_f32<TN, float>(c, "linear_dw", &p);
        if (dbias) column_sums<float>(c, dbias, dy, dy_row, rows, outputs);
        return;
    }
    CHECK(type == DT_BF16);
    cuda_product_bf16(c, "linear_dw", TN, &p, DT_F32);
    if (dbias) column_sums<bf16>(c, dbias, dy, dy_row, rows, outputs);
}

void cuda_linear_fwd(backend *b, tensor *y, const tensor *x, const tensor *w, const tensor *bias)
{
    CHECK(rows_of(y) == rows_of(x) && cols_of(y) == rows_of(w) && cols_of(x) == cols_of(w));
    CHECK(!bias || (bias->type == DT_F32 && tensor_count(bias) == rows_of(w)));
    cuda_matmul_nt(cuda_of(b), y->data, y->type, cols_of(y), x->data, x->type, rows_of(x), w, bias ? F32(bias) : nullptr);
}

void cuda_linear_dx(backend *b, tensor *dx, const tensor *dy, const tensor *w)
{
    CHECK(dx->type == dy->type);
    CHECK(rows_of(dx) == rows_of(dy) && cols_of(dy) == rows_of(w) && cols_of(dx) == cols_of(w));
    cuda_matmul_nn(cuda_of(b), dx->data, dy->data, dy->type, cols_of(dy), rows_of(dy), w);
}

void cuda_linear_dw(backend *b, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x)
{
    CHECK_F32(dw), CHECK(dy->type == x->type);
    CHECK(rows_of(dy) == rows_of(x) && rows_of(dw) == cols_of(dy) && cols_of(dw) == cols_of(x));
    CHECK(!dbias || (dbias->type == DT_F32 && tensor_count(dbias) == cols_of(dy)));
    cuda_matmul_tn(cuda_of(b), F32(dw), dbias ? F32(dbias) : nullptr, dy->data, dy->type, cols_of(dy), x->data,
                   rows_of(dy), cols_of(dy), cols_of(x));
}
