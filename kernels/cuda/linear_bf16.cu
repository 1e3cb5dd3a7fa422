/* Matrix products in bf16: tensor cores, m16n8k16, with one fp32 accumulator per output that walks k upwards in steps of
 * sixteen; k is never divided. The bits of an output therefore depend on its row, its column and k, not on the tile. */
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/tiles.cuh"

namespace {

/* A block takes rows x cols outputs and keeps `stages` steps of `depth` on their way to shared memory; a warp takes
 * rows / down x cols / across of the outputs. blocks: on one multiprocessor, as shared memory allows. */
struct full {
    enum { rows = 128, cols = 128, depth = 32, down = 2, across = 4, threads = 256, stages = 4, blocks = 2 };
};
struct mid {
    enum { rows = 64, cols = 64, depth = 64, down = 2, across = 2, threads = 128, stages = 4, blocks = 3 };
};
struct few { /* rows: many bytes of weights on their way in each block */
    enum { rows = 16, cols = 32, depth = 128, down = 1, across = 2, threads = 64, stages = 4, blocks = 4 };
};

/* What lies outside lines x width becomes zero. */
template <int LINES, int WIDTH, int THREADS>
__device__ __forceinline__ void load(chunk *to, const bf16 *from, int64_t pitch, int lines, int width, bool aligned)
{
    constexpr int chunks = WIDTH / 8, lines_each = THREADS / chunks; /* each thread: one chunk of every so many lines */
    const int first = static_cast<int>(threadIdx.x) % chunks * 8, n = covered(width - first, 8);
    int line = static_cast<int>(threadIdx.x) / chunks;
    const bf16 *p = from + line * pitch + first;
    if (aligned) {
        UNROLL for (int i = 0; i < LINES / lines_each; i++, line += lines_each, p += lines_each * pitch)
            copy_async(to + place<WIDTH>(line, first / 8), p, line < lines ? n * static_cast<int>(sizeof(bf16)) : 0);
        return;
    }
    for (; line < LINES; line += lines_each, p += lines_each * pitch) {
        chunk c;
        UNROLL for (int j = 0; j < 8; j++)
            if (line < lines && j < n)
                c.x[j] = p[j];
            else
                put(&c.x[j], 0.0f);
        to[place<WIDTH>(line, first / 8)] = c;
    }
}

template <class T> struct alignas(2 * sizeof(T)) pair {
    T lo, hi;
};

/* Two outputs of one row; those beyond the last column are not there. */
template <form F, class Y>
__device__ __forceinline__ void store(const product &p, int row, int col, const float *acc, bool pairs)
{
    Y *y = static_cast<Y *>(p.y) + row * p.y_row + col;
    const bool both = col + 1 < p.cols;
    if (row >= p.rows || col >= p.cols) return;
    float lo = acc[0] + 0.0f, hi = acc[1] + 0.0f; /* not -0: that the zeros behind the last k make +0 */
    if (F == NT && p.bias) {
        lo += p.bias[col];
        if (both) hi += p.bias[col + 1];
    }
    if (F == TN) {
        lo += get(y);
        if (both) hi += get(y + 1);
    }
    if (both && pairs) {
        pair<Y> out;
        put(&out.lo, lo);
        put(&out.hi, hi);
        *reinterpret_cast<pair<Y> *>(y) = out;
    } else {
        put(y, lo);
        if (both) put(y + 1, hi);
    }
}

struct alignment {
    bool a, b, y; /* 16 bytes of a and b; pairs of y */
};

/* Begins to bring a step's lines to shared memory; a and b: where the tile's row 0 and column 0 begin at k = 0. */
template <class S, form F>
__device__ __forceinline__ void bring(chunk *shared, const product &p, const bf16 *a, const bf16 *b, int rows, int cols,
                                      int step, alignment fits)
{
    const int64_t k = static_cast<int64_t>(step) * S::depth;
    const int depth = covered(p.depth - k, S::depth);
    chunk *to_a = shared + step % S::stages * ((S::rows + S::cols) * S::depth / 8), *to_b = to_a + S::rows * S::depth / 8;
    if (F == TN)
        load<S::depth, S::rows, S::threads>(to_a, a + k * p.a_row, p.a_row, depth, rows, fits.a);
    else
        load<S::rows, S::depth, S::threads>(to_a, a + k, p.a_row, rows, depth, fits.a);
    if (F == NT)
        load<S::cols, S::depth, S::threads>(to_b, b + k, p.b_row, cols, depth, fits.b);
    else
        load<S::depth, S::cols, S::threads>(to_b, b + k * p.b_row, p.b_row, depth, cols, fits.b);
}

template <class S, form F, class Y>
__global__ void __launch_bounds__(S::threads, S::blocks) product_kernel(product p, alignment fits)
{
    constexpr int high = S::rows / S::down / 16, wide = S::cols / S::across / 16; /* sixteens of a warp */
    constexpr bool a_down = F == TN, b_down = F != NT;
    constexpr int a_width = a_down ? S::rows : S::depth, b_width = b_down ? S::cols : S::depth;
    constexpr int a_chunks = S::rows * S::depth / 8, stage_chunks = (S::rows + S::cols) * S::depth / 8;
    DYNAMIC_SHARED(chunk, shared); /* stages, of a and b each */

    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int warp_row = warp / S::across * high * 16, warp_col = warp % S::across * wide * 16;
    int row0, col0;
    tile_corner(&row0, &col0, p, S::rows, S::cols);
    const int rows = covered(p.rows - row0, S::rows), cols = covered(p.cols - col0, S::cols);
    const bf16 *a = static_cast<const bf16 *>(p.a) + (a_down ? row0 : row0 * p.a_row);
    const bf16 *b = static_cast<const bf16 *>(p.b) + (b_down ? col0 : col0 * p.b_row);
    const int steps = static_cast<int>((p.depth + S::depth - 1) / S::depth);

    float acc[high][2 * wide][4] = {};
    for (int i = 0; i < S::stages - 1; i++) { /* a group of copies for each step; empty ones when there are no more */
        if (i < steps) bring<S, F>(shared, p, a, b, rows, cols, i, fits);
        copy_commit();
    }
    for (int i = 0; i < steps; i++) {
        copy_wait<S::stages - 2>();
        __syncthreads(); /* step i is there for all, and all have left the stage that is filled next */
        if (i + S::stages - 1 < steps) bring<S, F>(shared, p, a, b, rows, cols, i + S::stages - 1, fits);
        copy_commit();
        const chunk *at_a = shared + i % S::stages * stage_chunks, *at_b = at_a + a_chunks;
        UNROLL for (int k = 0; k < S::depth; k += 16) {
            uint32_t fa[high][4], fb[wide][4];
            UNROLL for (int r = 0; r < high; r++) fragment<true, a_down, a_width>(fa[r], at_a, warp_row + 16 * r, k);
            UNROLL for (int o = 0; o < wide; o++) fragment<false, b_down, b_width>(fb[o], at_b, warp_col + 16 * o, k);
            UNROLL for (int r = 0; r < high; r++) UNROLL for (int o = 0; o < 2 * wide; o++)
                mma_bf16(acc[r][o], fa[r], fb[o / 2] + o % 2 * 2);
        }
    }
    const int row = row0 + warp_row + lane / 4, col = col0 + warp_col + lane % 4 * 2;
    UNROLL for (int i = 0; i < high; i++) UNROLL for (int j = 0; j < 2 * wide; j++)
    {
        store<F, Y>(p, row + 16 * i, col + 8 * j, acc[i][j], fits.y);
        store<F, Y>(p, row + 16 * i + 8, col + 8 * j, acc[i][j] + 2, fits.y);
    }
}

bool multiple(const void *p, int64_t row, size_t item, size_t of)
{
    return reinterpret_cast<uintptr_t>(p) % of == 0 && static_cast<size_t>(row) * item % of == 0;
}

template <class S, form F, class Y> void run(cuda *c, const char *what, const product *p)
{
    const alignment fits = {multiple(p->a, p->a_row, sizeof(bf16), 16), multiple(p->b, p->b_row, sizeof(bf16), 16),
                            multiple(p->y, p->y_row, sizeof(Y), 2 * sizeof(Y))};
    launch(c, what, product_kernel<S, F, Y>, static_cast<unsigned>(tiles_of(p, S::rows, S::cols)), S::threads,
           sizeof(chunk) * S::stages * (S::rows + S::cols) * S::depth / 8, *p, fits);
}

/* Large tiles where they keep all multiprocessors busy and are not mostly empty. */
template <form F, class Y> void choose(cuda *c, const char *what, const product *p)
{
    if (p->rows <= few::rows)
        run<few, F, Y>(c, what, p);
    else if (p->rows <= mid::rows || tiles_of(p, full::rows, full::cols) < c->processors)
        run<mid, F, Y>(c, what, p);
    else
        run<full, F, Y>(c, what, p);
}

} // namespace

void cuda_product_bf16(cuda *c, const char *what, form f, const product *p, dtype y_type)
{
    if (f == TN) {
        CHECK(y_type == DT_F32);
        choose<TN, float>(c, what, p);
    } else if (f == NN) {
        CHECK(y_type == DT_BF16);
        choose<NN, bf16>(c, what, p);
    } else if (y_type == DT_F32) {
        choose<NT, float>(c, what, p);
    } else {
        CHECK(y_type == DT_BF16);
        choose<NT, bf16>(c, what, p);
    }
}
