/* Attention of one head, backward, one block of 16 keys at a time:
 *   p = e^(s - lse);  dv_j += p_j dout;  ds = p (dout.v_j - delta) scale;  dk_j += ds_j q;  dq += ds_j k_j
 * dk and dv chain over rows ascending (lanes = keys), dq over keys ascending (lanes = head_dim). */
#include "kernels/cpu/isa/kern.h"
#include "kernels/cpu/isa/vmath.h"

#define ROWS(NR)                                                                                                      \
    static void rows_##NR(const attn_bwd_args *a, int row)                                                            \
    {                                                                                                                 \
        const int dim = a->head_dim, base = a->block * ATTN_BLOCK;                                                    \
        const int n_key = a->n_row - base < ATTN_BLOCK ? a->n_row - base : ATTN_BLOCK;                                \
        const float *q = a->q + row * a->qkv_row, *dout = a->dout + row * a->o_row;                                   \
        const float *k_t = a->k_t + (int64_t)a->block * dim * LANES, *v_t = a->v_t + (int64_t)a->block * dim * LANES; \
        float ds[NR][LANES] __attribute__((aligned(64)));                                                             \
        v16 s[NR], dp[NR];                                                                                            \
        UNROLL for (int i = 0; i < NR; i++) s[i] = dp[i] = v_zero();                                                  \
        for (int d = 0; d < dim; d++) {                                                                               \
            v16 kv = v_load(k_t + d * LANES), vv = v_load(v_t + d * LANES);                                           \
            UNROLL for (int i = 0; i < NR; i++)                                                                       \
            {                                                                                                         \
                s[i] = v_fma(v_set1(q[i * a->qkv_row + d]), kv, s[i]);                                                \
                dp[i] = v_fma(v_set1(dout[i * a->o_row + d]), vv, dp[i]);                                             \
            }                                                                                                         \
        }                                                                                                             \
        const v16 scale = v_set1(a->scale);                                                                           \
        UNROLL for (int i = 0; i < NR; i++)                                                                           \
        {                                                                                                             \
            int left = a->causal ? row + i + 1 - base : n_key;                                                        \
            m16 seen = m_first(left < n_key ? left : n_key);                                                          \
            v16 p = v_exp(v_sub(v_mul(s[i], scale), v_set1(a->lse[(row + i) * a->head_row])));                        \
            v16 g = v_mul(v_mul(p, v_sub(dp[i], v_set1(a->delta[(row + i) * a->head_row]))), scale);                  \
            s[i] = v_sel(seen, p, v_zero());                                                                          \
            dp[i] = v_sel(seen, g, v_zero());                                                                         \
            v_store(ds[i], dp[i]);                                                                                    \
        }                                                                                                             \
        for (int d = 0; d < dim; d++) {                                                                               \
            v16 dv = v_load(a->dv_t + d * LANES), dk = v_load(a->dk_t + d * LANES);                                   \
            UNROLL for (int i = 0; i < NR; i++)                                                                       \
            {                                                                                                         \
                dv = v_fma(v_set1(dout[i * a->o_row + d]), s[i], dv);                                                 \
                dk = v_fma(v_set1(q[i * a->qkv_row + d]), dp[i], dk);                                                 \
            }                                                                                                         \
            v_store(a->dv_t + d * LANES, dv);                                                                         \
            v_store(a->dk_t + d * LANES, dk);                                                                         \
        }                                                                                                             \
        for (int c = 0; c < dim; c += LANES) {                                                                        \
            int lanes = dim - c < LANES ? dim - c : LANES;                                                            \
            float *dq = a->dq + row * a->qkv_row + c;                                                                 \
            v16 acc[NR];                                                                                              \
            UNROLL for (int i = 0; i < NR; i++) acc[i] = v_load_n(dq + i * a->qkv_row, lanes);                        \
            for (int j = 0; j < n_key; j++) {                                                                         \
                v16 kv = v_load_n(a->k + (base + j) * a->qkv_row + c, lanes);                                         \
                UNROLL for (int i = 0; i < NR; i++) acc[i] = v_fma(v_set1(ds[i][j]), kv, acc[i]);                     \
            }                                                                                                         \
            UNROLL for (int i = 0; i < NR; i++) v_store_n(dq + i * a->qkv_row, acc[i], lanes);                        \
        }                                                                                                             \
    }

ROWS(1)
ROWS(8)

void SYM(attn_bwd)(const attn_bwd_args *a)
{
    int row = a->causal ? a->block * ATTN_BLOCK : 0; /* earlier rows don't see this block */
    for (; row + 8 <= a->n_row; row += 8) rows_8(a, row);
    for (; row < a->n_row; row++) rows_1(a, row);
}
