/* Rows of logits: log-softmax, its gradient, and sampling. */
#include <math.h>

#include "kernels/cpu/isa/kern.h"
#include "kernels/formulas.h"

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

void SYM(dlogits_row)(float *z, int64_t n, float lse, float entropy, int64_t target, float dlogp, float dent,
                      float inv_temp)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        bool near = target >= i && target < i + lanes;
        float one[LANES] = {0};
        if (near) one[target - i] = 1.0f;
        v16 x = v_load_n(z + i, lanes);
        v_store_n(z + i, dlogit(x, lse, entropy, dlogp, dent, inv_temp, near, v_load(one)), lanes);
    }
}

/* u[4 c + t] = uniform of word t of Philox counter first + c, c < 16: rng_words and rng_uniform of core/rng.c, sixteen
 * counters at a time. */
INLINE void uniform64(float u[4 * LANES], const uint32_t *key, uint32_t first)
{
    i16 c0 = i_add(i_set1((int32_t)first), i_iota()), c1 = i_set1(0);
    i16 c2 = i_set1((int32_t)key[2]), c3 = i_set1((int32_t)key[3]);
    uint32_t k0 = key[0], k1 = key[1];
    for (int r = 0; r < 10; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        i16 h0, h1, l0 = i_mul_wide(c0, 0xD2511F53u, &h0), l1 = i_mul_wide(c2, 0xCD9E8D57u, &h1);
        c0 = i_xor(i_xor(h1, c1), i_set1((int32_t)k0));
        c2 = i_xor(i_xor(h0, c3), i_set1((int32_t)k1));
        c1 = l1;
        c3 = l0;
    }
    const v16 half = v_set1(0.5f), unit = v_set1(0x1p-23f);
    float w[4][LANES];
    v_store(w[0], v_mul(v_add(v_from_int(i_shr(c0, 9)), half), unit));
    v_store(w[1], v_mul(v_add(v_from_int(i_shr(c1, 9)), half), unit));
    v_store(w[2], v_mul(v_add(v_from_int(i_shr(c2, 9)), half), unit));
    v_store(w[3], v_mul(v_add(v_from_int(i_shr(c3, 9)), half), unit));
    for (int i = 0; i < LANES; i++)
        for (int t = 0; t < 4; t++) u[4 * i + t] = w[t][i];
}

int64_t SYM(pick)(const float *z, int64_t n, const uint32_t *key)
{
    float u[4 * LANES], score[LANES], at[LANES];
    v16 best = v_set1(-INFINITY), best_at = v_zero(); /* best_at holds integers as bits */
    const i16 lane = i_iota();
    for (int64_t i = 0; i < n; i += LANES) {
        int lanes = n - i < LANES ? (int)(n - i) : LANES;
        v16 x = v_load_n(z + i, lanes);
        if (key) {
            if (i % (4 * LANES) == 0) uniform64(u, key, (uint32_t)(i / 4));
            x = v_add(x, gumbel(v_load(u + i % (4 * LANES))));
        }
        m16 better = m_and(v_lt(best, x), m_first(lanes));
        best = v_sel(better, x, best);
        best_at = v_sel(better, v_from_bits(i_add(lane, i_set1((int32_t)i))), best_at);
    }
    v_store(score, best);
    v_store(at, best_at);
    int32_t winner = 0;
    float top = -INFINITY;
    for (int j = 0; j < LANES; j++) {
        int32_t where;
        memcpy(&where, &at[j], sizeof where);
        if (score[j] > top || (score[j] == top && where < winner)) {
            top = score[j];
            winner = where;
        }
    }
    return winner;
}
