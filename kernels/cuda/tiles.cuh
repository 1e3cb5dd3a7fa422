/* Tiles of bf16 operands in shared memory, for linear_bf16.cu and attn_bwd_bf16.cu: lines of WIDTH elements in chunks of
 * eight, and the fragments that tensor cores take of them. Eight chunks fill the banks once; they are permuted so that
 * ldmatrix, which reads the same chunk of eight lines at a time, meets every bank once: where the chunks of a line are a
 * multiple of 2^i and no more, 8 / 2^i lines in a row lie in different banks, and the next ones are turned by one. */
#ifndef KERNELS_CUDA_TILES_CUH
#define KERNELS_CUDA_TILES_CUH

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/ptx.cuh"

struct alignas(16) chunk {
    bf16 x[8];
};

/* Chunk `at` of a line, or with more = 1, if `at` is even, the one after it. */
template <int WIDTH> static __device__ __forceinline__ int place(int line, int at, int more = 0)
{
    constexpr int chunks = WIDTH / 8, factor = chunks & -chunks, aligned = factor < 8 ? factor : 8;
    return line * chunks + at / aligned * aligned + (at % aligned ^ more ^ line % 8 / (8 / aligned));
}

/* The fragments of sixteen lines of an operand from `line` on and sixteen k from k on, both multiples of 16: of a, the
 * 16x16 operand of mma_bf16; of b, two 16x8 operands one after the other. DOWN: k is the line in memory. */
template <bool IS_A, bool DOWN, int WIDTH>
static __device__ __forceinline__ void fragment(uint32_t r[4], const chunk *tile, int line, int k)
{
    /* Matrix 1 of ldmatrix: of a the second eight lines, of b the second eight k; matrix 2 the other way round. */
    const int lane = static_cast<int>(threadIdx.x) % 32, bit1 = lane / 8 % 2, bit2 = lane / 16;
    const int high_line = IS_A ? bit1 : bit2, high_k = IS_A ? bit2 : bit1;
    if (DOWN)
        ldmatrix_trans(r, tile + place<WIDTH>(k + 8 * high_k + lane % 8, line / 8, high_line));
    else
        ldmatrix(r, tile + place<WIDTH>(line + 8 * high_line + lane % 8, k / 8, high_k));
}

#endif
