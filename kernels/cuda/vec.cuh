/* kernels/cpu/isa/vec.h with one lane, a thread of a GPU: kernels/vmath.h and kernels/formulas.h give both sides the
 * same bits. Each operation is one correctly rounded IEEE operation; nvcc runs with -fmad=false, so that it fuses none. */
#ifndef KERNELS_CUDA_VEC_CUH
#define KERNELS_CUDA_VEC_CUH

#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static __device__ __forceinline__

enum { LANES = 1 };
typedef float v16;
typedef int32_t i16;
typedef bool m16;

INLINE v16 v_set1(float x) { return x; }
INLINE i16 i_set1(int32_t x) { return x; }
INLINE v16 v_zero() { return 0.0f; }
INLINE void v_store(float *p, v16 a) { *p = a; }
INLINE v16 v_add(v16 a, v16 b) { return a + b; }
INLINE v16 v_sub(v16 a, v16 b) { return a - b; }
INLINE v16 v_mul(v16 a, v16 b) { return a * b; }
INLINE v16 v_div(v16 a, v16 b) { return a / b; }
INLINE v16 v_sqrt(v16 a) { return sqrtf(a); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return fmaf(a, b, c); }
INLINE v16 v_neg(v16 a) { return -a; }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { return fmaf(-a, b, c); } /* c - a*b */
INLINE v16 v_max(v16 a, v16 b) { return a > b ? a : b; }
INLINE v16 v_min(v16 a, v16 b) { return a < b ? a : b; }
INLINE m16 v_lt(v16 a, v16 b) { return a < b; }
INLINE m16 v_eq(v16 a, v16 b) { return a == b; }
INLINE m16 v_isnan(v16 a) { return a != a; }
INLINE v16 v_sel(m16 m, v16 yes, v16 no) { return m ? yes : no; }
INLINE i16 v_bits(v16 a)
{
    i16 r;
    memcpy(&r, &a, sizeof r);
    return r;
}
INLINE v16 v_from_bits(i16 a)
{
    v16 r;
    memcpy(&r, &a, sizeof r);
    return r;
}
INLINE v16 v_from_int(i16 a) { return (float)a; }
INLINE i16 i_add(i16 a, i16 b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
INLINE i16 i_sub(i16 a, i16 b) { return (int32_t)((uint32_t)a - (uint32_t)b); }
INLINE i16 i_and(i16 a, i16 b) { return a & b; }
INLINE i16 i_xor(i16 a, i16 b) { return a ^ b; }
INLINE i16 i_shl(i16 a, int n) { return (int32_t)((uint32_t)a << n); }
INLINE i16 i_sra(i16 a, int n) { return a >> n; }

/* a * 2^n with one rounding, n an integer in [-252, 254]; ni the same as int32. */
INLINE v16 v_scale2(v16 a, v16 n, i16 ni)
{
    (void)n;
    i16 half = ni >> 1, rest = ni - half;
    return a * v_from_bits(i_shl(half + 127, 23)) * v_from_bits(i_shl(rest + 127, 23));
}

#endif
