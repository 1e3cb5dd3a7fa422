/* Rows of logits: log-softmax, its gradient, and sampling. */
#include <math.h>

#include "core/rng.h"
#include "kernels/cpu/isa/kern.h"
#include "kernels/cpu/isa/vmath.h"

void SYM(logits_row)(float *z, int64_t n, const uint8_t *ban, float inv_temp, float *lse, float *entropy)
{
    const v16 scale = v_set1(inv_temp), minus_inf = v_set1(-INFINITY);
    if (ban)
        for (int64_t i = 0; i < n; i++)
            if (ban[i]) z[i] = -INFINITY;
    v16 top = minus_inf;
    for (int64_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        v16 x = v_mul(v_load_n(z + i, lanes), scale);
        v_store_n(z + i, x, lanes);
        top = v_max(v_sel(m_first(lanes), x, minus_inf), top);
    }
    float m = v_hmax(top);
    v16 vm = v_set1(m), s0 = v_zero(), s1 = v_zero();
    for (int64_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        v16 d = v_sel(m_first(lanes), v_sub(v_load_n(z + i, lanes), vm), minus_inf);
        v16 e = v_exp(d);
        s0 = v_add(s0, e);
        s1 = v_sel(v_eq(d, minus_inf), s1, v_fma(e, d, s1)); /* 0 * -inf adds nothing */
    }
    float sum = v_hsum(s0), log_sum = log1(sum);
    *lse = m + log_sum;
    if (entropy) *entropy = log_sum - v_hsum(s1) / sum;
}

/* z' = inv_temp * (a (1[target] - p) - b p (ln p + H)),  p = e^(z - lse) */
void SYM(dlogits_row)(float *z, int64_t n, float lse, float entropy, int64_t target, float dlogp, float dent,
                      float inv_temp)
{
    const v16 vl = v_set1(lse), vh = v_set1(entropy), a = v_set1(dlogp), b = v_set1(dent), scale = v_set1(inv_temp);
    const v16 minus_inf = v_set1(-INFINITY);
    for (int64_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        v16 x = v_load_n(z + i, lanes);
        m16 banned = v_eq(x, minus_inf);
        v16 lp = v_sub(x, vl), p = v_exp(lp);
        v16 g = v_mul(p, v_fma(b, v_add(lp, vh), a));
        if (target >= i && target < i + lanes) {
            float one[LANES] = {0};
            one[target - i] = 1.0f;
            g = v_sub(v_mul(a, v_load(one)), g);
        } else {
            g = v_neg(g);
        }
        v_store_n(z + i, v_sel(banned, v_zero(), v_mul(g, scale)), lanes);
    }
}

int64_t SYM(pick)(const float *z, int64_t n, const uint32_t *key)
{
    int64_t best = 0;
    float best_score = -INFINITY;
    for (int64_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        float score[LANES];
        v16 x = v_load_n(z + i, lanes);
        if (key) {
            float u[LANES];
            for (int j = 0; j < LANES; j += 4) {
                uint32_t w[4];
                rng_words((rng_key){{key[0], key[1], key[2], key[3]}}, (uint64_t)(i + j) / 4, w);
                for (int t = 0; t < 4; t++) u[j + t] = ((float)(w[t] >> 9) + 0.5f) * 0x1p-23f;
            }
            x = v_sub(x, v_log(v_neg(v_log(v_load(u)))));
        }
        v_store(score, x);
        for (int j = 0; j < lanes; j++)
            if (score[j] > best_score) {
                best_score = score[j];
                best = i + j;
            }
    }
    return best;
}
