/* The element-wise formulas, written once for every backend over lanes (kernels/vmath.h): sixteen on a CPU, one to a
 * thread on a GPU, equal bits on both. */
#ifndef KERNELS_FORMULAS_H
#define KERNELS_FORMULAS_H

#include "core/ops.h"
#include "kernels/vmath.h"

/* silu(g) u */
INLINE v16 swiglu(v16 g, v16 u) { return v_mul(v_mul(g, v_sigmoid(g)), u); }

/* s = sigmoid(g): du = dy g s; dg = dy u s (1 + g (1 - s)) */
INLINE void swiglu_grad(v16 *dg, v16 *du, v16 dy, v16 g, v16 u)
{
    const v16 one = v_set1(1.0f);
    v16 s = v_sigmoid(g);
    v16 ds = v_mul(dy, s);
    v16 slope = v_fma(g, v_sub(one, s), one);
    *du = v_mul(ds, g);
    *dg = v_mul(v_mul(ds, u), slope);
}

/* Beyond TAIL the normal tail is 0 in fp32; clipping keeps Inf * 0 away. NaN passes. */
#define TAIL 37.0
INLINE double clip(double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }

/* x Phi(x) */
INLINE float gelu(float x)
{
    double density, below, a = clip((double)x, -TAIL, INFINITY);
    normal_both(a, &density, &below);
    return (float)(a * below);
}

INLINE float gelu_grad(float dy, float x)
{
    double density, below, a = clip((double)x, -TAIL, TAIL);
    normal_both(a, &density, &below);
    return dy * (float)(below + a * density);
}

/* (1 + tanh u)/2 = sigmoid(2u), 2u = 2 sqrt(2/pi) x (1 + 0.044715 x^2); *above = 1 - sigmoid without cancellation */
INLINE v16 tanh_gate(v16 x, v16 *above)
{
    v16 u = v_mul(v_mul(x, v_fma(v_set1(0.044715f), v_mul(x, x), v_set1(1.0f))), v_set1(1.5957691216f));
    v16 e = v_exp(v_from_bits(i_xor(i_and(v_bits(u), i_set1(INT32_MAX)), i_set1(INT32_MIN)))); /* exp(-|2u|) */
    v16 big = v_div(v_set1(1.0f), v_add(v_set1(1.0f), e));
    v16 small = v_mul(e, big);
    m16 negative = v_lt(u, v_zero());
    *above = v_sel(negative, big, small);
    return v_sel(negative, small, big);
}

/* Beyond 32 the gate is 0 or 1 in fp32; clipping keeps Inf * 0 away. NaN passes. */
INLINE v16 gate_clip(v16 x) { return v_sel(v_isnan(x), x, v_max(v_min(x, v_set1(32.0f)), v_set1(-32.0f))); }

INLINE v16 gelu_tanh(v16 x)
{
    v16 above, c = gate_clip(x), gate = tanh_gate(c, &above);
    return v_mul(v_sel(v_lt(x, v_zero()), c, x), gate);
}

/* s = sigmoid(2u): d = s (1 + x (1 - s) (2u)') */
INLINE v16 gelu_tanh_grad(v16 dy, v16 x)
{
    const v16 one = v_set1(1.0f);
    v16 above, c = gate_clip(x), gate = tanh_gate(c, &above);
    v16 slope = v_mul(v_fma(v_set1(0.134145f), v_mul(c, c), one), v_set1(1.5957691216f));
    return v_mul(dy, v_mul(gate, v_fma(v_mul(c, above), slope, one)));
}

/* A pair of a head by its angle; inverse: by minus it */
INLINE void rotate(v16 *lo, v16 *hi, v16 cos, v16 sin)
{
    v16 a = *lo, b = *hi;
    *lo = v_fnma(b, sin, v_mul(a, cos));
    *hi = v_fma(a, sin, v_mul(b, cos));
}

/* bias1, bias2: adamw_bias of the two betas */
INLINE void adamw_element(v16 *w, v16 *m, v16 *v, v16 g, const adamw_step *s, float bias1, float bias2)
{
    v16 grad = v_mul(g, v_set1(s->grad_scale));
    v16 m1 = v_fma(v_set1(s->beta1), *m, v_mul(v_set1(1.0f - s->beta1), grad));
    v16 v1 = v_fma(v_set1(s->beta2), *v, v_mul(v_set1(1.0f - s->beta2), v_mul(grad, grad)));
    v16 step = v_div(v_div(m1, v_set1(bias1)), v_add(v_sqrt(v_div(v1, v_set1(bias2))), v_set1(s->eps)));
    *m = m1;
    *v = v1;
    *w = v_fnma(v_set1(s->lr), v_fma(v_set1(s->weight_decay), *w, step), *w);
}

/* Gradient of a dlogp log p(target) + dent entropy by the logit x = inv_temp z, times inv_temp:
 *     inv_temp (dlogp (1[target] - p) - dent p (ln p + H)),  p = e^(x - lse)
 * one: 1 at the target, 0 beside it; near: the target is in this vector of sixteen (the sign of a zero depends on it) */
INLINE v16 dlogit(v16 x, float lse, float entropy, float dlogp, float dent, float inv_temp, bool near, v16 one)
{
    const v16 a = v_set1(dlogp);
    m16 banned = v_eq(x, v_set1(-INFINITY));
    v16 lp = v_sub(x, v_set1(lse)), p = v_exp(lp);
    v16 g = v_mul(p, v_fma(v_set1(dent), v_add(lp, v_set1(entropy)), a));
    g = near ? v_sub(v_mul(a, one), g) : v_neg(g);
    return v_sel(banned, v_zero(), v_mul(g, v_set1(inv_temp)));
}

/* Gumbel noise -ln(-ln u) of uniforms u */
INLINE v16 gumbel(v16 u) { return v_neg(v_log(v_neg(v_log(u)))); }

#endif
