/* kernels/cuda/ptx.cuh for the emulated GPU. Fragments lie in the lanes of a warp as the PTX ISA says ("Matrix Fragments
 * for mma.m16n8k16 with floating point type", "Warp-level matrix load instruction: ldmatrix"); with g = lane / 4 and
 * t = lane % 4, two bf16 in a register, the lower half first:
 *
 *   a[16,16]  a[0]: row g,     k 2t, 2t+1     a[1]: row g + 8, k 2t, 2t+1
 *             a[2]: row g,     k 2t+8, 2t+9   a[3]: row g + 8, k 2t+8, 2t+9
 *   b[16,8]   b[0]: k 2t, 2t+1, column g      b[1]: k 2t+8, 2t+9, column g
 *   c[16,8]   c[0], c[1]: row g, columns 2t, 2t+1    c[2], c[3]: row g + 8, the same columns
 *
 * The sixteen products are added by fmaf in ascending k, so that a product in bf16 has the bits of the CPU's chain over
 * the same values. Hardware adds them at once and drops bits of small terms: it differs in the last bits. */
#ifndef KERNELS_CUDA_PTX_CUH
#define KERNELS_CUDA_PTX_CUH

#include <cuda_runtime.h>

#include "core/tensor.h"

inline void ldmatrix_at(uint32_t r[4], const void *row, bool trans)
{
    if (reinterpret_cast<uintptr_t>(row) % 16) emu_die("ldmatrix: a row that is not 16-byte aligned");
    const emu_slot *all = emu_gather(row, 16);
    const int g = emu_lane() / 4, t = emu_lane() % 4;
    for (int i = 0; i < 4; i++) {
        uint16_t two[2];
        for (int j = 0; j < 2; j++) {
            int line = trans ? 2 * t + j : g, column = trans ? g : 2 * t + j;
            memcpy(&two[j], all[8 * i + line].bytes + 2 * column, 2);
        }
        memcpy(&r[i], two, 4);
    }
}
inline void ldmatrix(uint32_t r[4], const void *row) { ldmatrix_at(r, row, false); }
inline void ldmatrix_trans(uint32_t r[4], const void *row) { ldmatrix_at(r, row, true); }

inline void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const emu_slot *all = emu_gather(mine, sizeof mine);
    const int g = emu_lane() / 4, t = emu_lane() % 4;
    float row[2][16], column[2][16]; /* rows g and g + 8 of a, columns 2t and 2t + 1 of b */
    for (int k = 0; k < 16; k++) {
        const int from = k % 8 / 2, half = k % 2, high = k / 8;
        for (int i = 0; i < 2; i++) {
            uint16_t x, y;
            memcpy(&x, all[g * 4 + from].bytes + 4 * (2 * high + i) + 2 * half, 2);
            memcpy(&y, all[(2 * t + i) * 4 + from].bytes + 4 * (4 + high) + 2 * half, 2);
            row[i][k] = f32_from_bf16(x);
            column[i][k] = f32_from_bf16(y);
        }
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++) c[i] = fmaf(row[i / 2][k], column[i % 2][k], c[i]);
}

inline void copy_async(void *to, const void *from, int bytes) { emu_copy_begin(to, from, bytes); }
inline void copy_commit() { emu_copy_commit(); }
template <int LEFT> void copy_wait() { emu_copy_wait(LEFT); }

inline float exp2_fast(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}
inline uint32_t pack_bf16(float lo, float hi)
{
    return bf16_from_f32(lo) | static_cast<uint32_t>(bf16_from_f32(hi)) << 16;
}

#endif
