/* What the matrix products of linear.cu (fp32) and linear_bf16.cu (tensor cores) share. */
#ifndef KERNELS_CUDA_PRODUCT_CUH
#define KERNELS_CUDA_PRODUCT_CUH

#include "kernels/cuda/cuda.cuh"

/* How the operands of y[rows, cols] lie in memory:
 *   NT  a[rows, depth]  b[cols, depth]    y = x w^T
 *   NN  a[rows, depth]  b[depth, cols]    dx = dy w
 *   TN  a[depth, rows]  b[depth, cols]    dw += dy^T x */
enum form { NT, NN, TN };

struct product {
    void *y;
    const void *a, *b;
    const float *bias;           /* one per column, or NULL */
    int64_t y_row, a_row, b_row; /* elements from one line of memory to the next */
    int64_t rows, cols, depth;
};

/* bf16 a and b; y float or bf16, of TN float */
void cuda_product_bf16(cuda *c, const char *what, form f, const product *p, dtype y_type);

static inline int64_t tiles_of(const product *p, int rows, int cols)
{
    return (p->rows + rows - 1) / rows * ((p->cols + cols - 1) / cols);
}

/* The corner of this block's tile. Blocks that run at the same time should share operands in L2, so a band of sixteen
 * tiles of rows goes through all columns before the next band. */
static __device__ __forceinline__ void tile_corner(int *row, int *col, const product &p, int rows, int cols)
{
    const int tall = static_cast<int>((p.rows + rows - 1) / rows), wide = static_cast<int>((p.cols + cols - 1) / cols);
    const int block = static_cast<int>(blockIdx.x), first = block / (16 * wide) * 16, at = block % (16 * wide);
    const int high = tall - first < 16 ? tall - first : 16;
    *row = (first + at % high) * rows;
    *col = at / high * cols;
}

/* How much of `left` a tile of `size` covers. */
static __device__ __forceinline__ int covered(int64_t left, int size)
{
    return left < 0 ? 0 : left < size ? static_cast<int>(left) : size;
}

#endif
