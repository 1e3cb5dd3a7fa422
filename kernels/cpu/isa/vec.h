/* Sixteen fp32 lanes on every instruction set. The kernels are written once over these and compiled once per ISA; each
 * operation is one correctly rounded IEEE operation per lane, so all instruction sets give equal bits.
 *   v16 floats, i16 their bits as int32, m16 lane masks */
#ifndef KERNELS_CPU_ISA_VEC_H
#define KERNELS_CPU_ISA_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PASTE2(a, b) a##_##b
#define PASTE(a, b) PASTE2(a, b)
#define SYM(name) PASTE(name, ISA)
#define INLINE static inline __attribute__((always_inline, unused))
/* The loops over lanes, rows and vectors of a tile must disappear, or their arrays do not live in registers. */
#if defined(ISA_avx512) || defined(ISA_avx2)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

enum { LANES = 16 };

#if defined(ISA_avx512)
#include "kernels/cpu/isa/vec_avx512.inc"
#elif defined(ISA_avx2)
#include "kernels/cpu/isa/vec_avx2.inc"
#else
#include "kernels/cpu/isa/vec_generic.inc"
#endif

INLINE v16 v_neg(v16 a) { return v_from_bits(i_xor(v_bits(a), i_set1(INT32_MIN))); }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { return v_fma(v_neg(a), b, c); } /* c - a*b */
INLINE i16 i_iota(void)                                                  /* 0, 1, ... 15 */
{
    int32_t at[LANES];
    for (int i = 0; i < LANES; i++) at[i] = i;
    i16 r;
    memcpy(&r, at, sizeof r);
    return r;
}
INLINE v16 v_zero(void) { return v_set1(0.0f); }

#endif
