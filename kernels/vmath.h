/* exp, log and the normal distribution, ours because libm differs between systems, instruction sets and GPUs. Coefficients
 * are our own Chebyshev fits (weighted least squares, then rounded to fp32); tests/test_vmath.c holds the error bounds.
 */
#ifndef KERNELS_VMATH_H
#define KERNELS_VMATH_H

#ifdef ISA
#include "kernels/cpu/isa/vec.h"
#else /* one lane: a thread of a GPU */
#include "kernels/cuda/vec.cuh"
#endif

/* e^x, error < 1 ulp; NaN stays, overflow gives inf, deep underflow 0, denormal results are right. */
INLINE v16 v_exp(v16 x)
{
    const v16 magic = v_set1(0x1.8p23f); /* adding it rounds to the nearest integer, kept in the low mantissa bits */
    v16 c = v_max(v_min(x, v_set1(89.0f)), v_set1(-104.5f));
    v16 t = v_fma(c, v_set1(0x1.715476p0f), magic);
    v16 n = v_sub(t, magic);
    i16 ni = i_sub(v_bits(t), v_bits(magic));
    v16 r = v_fnma(n, v_set1(0x1.62e43p-1f), c); /* ln 2 in two parts */
    r = v_fma(n, v_set1(0x1.05c61p-29f), r);
    v16 p = v_fma(v_set1(0x1.6db4e8p-10f), r, v_set1(0x1.123bdep-7f));
    p = v_fma(p, r, v_set1(0x1.55545ep-5f));
    p = v_fma(p, r, v_set1(0x1.55548ep-3f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, v_mul(r, r), r);
    v16 y = v_scale2(v_add(p, v_set1(1.0f)), n, ni);
    return v_sel(v_isnan(x), x, y);
}

/* ln x, error < 1 ulp, also near 1; 0 gives -inf, negative NaN. */
INLINE v16 v_log(v16 x)
{
    const v16 inf = v_set1(INFINITY);
    m16 small = v_lt(x, v_set1(0x1p-126f));
    v16 a = v_sel(small, v_mul(x, v_set1(0x1p25f)), x);
    /* a = m 2^k with m in [sqrt(1/2), sqrt(2)) */
    i16 b = i_add(v_bits(a), i_set1(0x3f800000 - 0x3f3504f3));
    i16 k = i_sub(i_sra(b, 23), i_set1(127));
    v16 m = v_from_bits(i_add(i_and(b, i_set1(0x007fffff)), i_set1(0x3f3504f3)));
    v16 e = v_sub(v_from_int(k), v_sel(small, v_set1(25.0f), v_zero()));
    /* ln m = 2 atanh s with s = f / (2 + f), written so that f keeps its exact weight */
    v16 f = v_sub(m, v_set1(1.0f));
    v16 s = v_div(f, v_add(f, v_set1(2.0f)));
    v16 z = v_mul(s, s);
    v16 r = v_fma(v_set1(0x1.31eb1ep-2f), z, v_set1(0x1.995e72p-2f));
    r = v_mul(v_fma(r, z, v_set1(0x1.55557ap-1f)), z);
    v16 h = v_mul(v_mul(f, f), v_set1(0.5f));
    v16 y = v_fma(s, v_add(h, r), v_mul(e, v_set1(-0x1.05c61p-29f)));
    y = v_add(v_sub(y, h), f);
    y = v_fma(e, v_set1(0x1.62e43p-1f), y);
    y = v_sel(v_eq(x, inf), inf, y);
    y = v_sel(v_eq(x, v_zero()), v_set1(-INFINITY), y);
    return v_sel(v_isnan(x), x, v_sel(v_lt(x, v_zero()), v_set1(NAN), y));
}

INLINE v16 v_sigmoid(v16 x) { return v_div(v_set1(1.0f), v_add(v_set1(1.0f), v_exp(v_neg(x)))); }

INLINE float exp1(float x)
{
    float out[LANES];
    v_store(out, v_exp(v_set1(x)));
    return out[0];
}

INLINE float log1(float x)
{
    float out[LANES];
    v_store(out, v_log(v_set1(x)));
    return out[0];
}

/* e^-y in double for 0 <= y <= 700, relative error < 1e-11 */
INLINE double exp_neg(double y)
{
    double t = -y * 0x1.71547652b82fep0 + 0x1.8p52;
    double n = t - 0x1.8p52;
    double r = (-y - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    int64_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (int64_t)((uint64_t)bits << 52) + (INT64_C(1023) << 52); /* 2^n from the low bits of t */
    double s;
    memcpy(&s, &bits, sizeof s);
    return p * s;
}

/* Standard normal density phi(x) and distribution Phi(x) in double, relative error < 2e-9 in both tails. */
INLINE void normal_both(double x, double *density, double *below)
{
    static const double c[13] = {
        0.48605579366062224,     -0.09652674888701787,  -0.01643220410028124,  0.04516362667032617,
        -0.022729209803112674,   0.0011630249412527827, 0.0030070000468796487, -0.0003630406448004593,
        -0.0005131620464982457,  3.342356675972449e-05, 9.452379238211677e-05, 8.551047868387284e-07,
        -1.1601579409057765e-05,
    };
    double a = x < 0 ? -x : x;
    a = a < 37.0 ? a : 37.0; /* beyond it both tails are below the smallest fp32; NaN goes on through x */
    double e = exp_neg(0.5 * a * a);
    double t = (a - 3.0) / (a + 3.0), g = c[12];
    for (int i = 11; i >= 0; i--) g = g * t + c[i];
    double tail = e * g / (1.0 + a); /* Phi(-a) */
    *below = x > 0 ? 1.0 - tail : tail;
    *density = e * 0.3989422804014327;
}

/* sin and cos of an fp32 angle, in double: error far below half an fp32 ulp for |x| < 2^30; NaN and Inf give NaN. */
INLINE void sincos_f32(float angle, float *sin_out, float *cos_out)
{
    double x = (double)angle;
    double t = x * 0x1.45f306dc9c883p-1 + 0x1.8p52; /* quarter turns */
    double n = t - 0x1.8p52;
    double r = (x - n * 0x1.921fb54p0) - n * 0x1.10b4611a62633p-30;
    double z = r * r;
    double s = -1.0 / 39916800;
    s = s * z + 1.0 / 362880;
    s = s * z - 1.0 / 5040;
    s = s * z + 1.0 / 120;
    s = s * z - 1.0 / 6;
    s = s * z * r + r;
    double c = 1.0 / 479001600;
    c = c * z - 1.0 / 3628800;
    c = c * z + 1.0 / 40320;
    c = c * z - 1.0 / 720;
    c = c * z + 1.0 / 24;
    c = c * z - 0.5;
    c = c * z + 1.0;
    int64_t q;
    memcpy(&q, &t, sizeof q);
    double a = q & 1 ? c : s, b = q & 1 ? s : c;
    *sin_out = (float)(q & 2 ? -a : a);
    *cos_out = (float)((q + 1) & 2 ? -b : b);
}

#endif
