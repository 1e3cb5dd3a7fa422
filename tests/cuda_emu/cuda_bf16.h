/* bf16 of the stand-in CUDA runtime: see cuda_runtime.h. */
#ifndef TESTS_CUDA_EMU_CUDA_BF16_H
#define TESTS_CUDA_EMU_CUDA_BF16_H

#include "core/tensor.h"

struct __nv_bfloat16 {
    uint16_t bits;
};
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {bf16_from_f32(x)}; }
static inline float __bfloat162float(__nv_bfloat16 h) { return f32_from_bf16(h.bits); }

#endif
