/* Attention of one head, backward, one block of 16 keys at a time:
 *   p = e^(s - lse);  dv_j += p_j dout;  ds = p (dout.v_j - delta) scale;  dk_j += ds_j q;  dq += ds_j k_j
 * s and dout.v have keys in the lanes, the three gradients head_dim. dk and dv chain over rows ascending, dq over keys
 * ascending. */
#include "kernels/cpu/isa/kern.h"
#include "kernels/vmath.h"

enum { MAX_DIM = 256 }; /* head_dim, checked by the driver */

/* to[j] += w[0][j] x[0] + w[1][j] x[1] ... for NJ keys, two vectors wide */
#define ADD(NR, NJ)                                                                                                 \
    INLINE void add_##NR##_##NJ(float *to, int64_t to_row, const float(*w)[LANES], const v16(*x)[2], int j, int n0, \
                                int n1)                                                                             \
    {                                                                                                               \
        v16 acc[NJ][2];                                                                                             \
        UNROLL for (int k = 0; k < NJ; k++)                                                                         \
        {                                                                                                           \
            acc[k][0] = v_load_n(to + (j + k) * to_row, n0);                                                        \
            acc[k][1] = v_load_n(to + (j + k) * to_row + LANES, n1);                                                \
        }                                                                                                           \
        UNROLL for (int i = 0; i < NR; i++) UNROLL for (int k = 0; k < NJ; k++)                                     \
        {                                                                                                           \
            v16 vw = v_set1(w[i][j + k]);                                                                           \
            acc[k][0] = v_fma(vw, x[i][0], acc[k][0]);                                                              \
            acc[k][1] = v_fma(vw, x[i][1], acc[k][1]);                                                              \
        }                                                                                                           \
        UNROLL for (int k = 0; k < NJ; k++)                                                                         \
        {                                                                                                           \
            v_store_n(to + (j + k) * to_row, acc[k][0], n0);                                                        \
            v_store_n(to + (j + k) * to_row + LANES, acc[k][1], n1);                                                \
        }                                                                                                           \
    }

#define ROWS(NR)                                                                                                    \
    ADD(NR, 1)                                                                                                      \
    ADD(NR, 4)                                                                                                      \
    static void rows_##NR(const attn_bwd_args *a, int row)                                                          \
    {                                                                                                               \
        const int dim = a->head_dim, base = a->block * ATTN_BLOCK;                                                  \
        const int n_key = a->n_row - base < ATTN_BLOCK ? a->n_row - base : ATTN_BLOCK;                              \
        const int n_seen = a->causal && row + NR - base < n_key ? row + NR - base : n_key; /* by the last row */    \
        const int64_t width = a->qkv_row, o_row = a->o_row, at = (int64_t)a->block * dim * LANES;                   \
        const float *k_t = a->k_t + at, *v_t = a->v_t + at, *q = a->q + row * width, *dout = a->dout + row * o_row; \
        float p[NR][LANES] __attribute__((aligned(64))), ds[NR][LANES] __attribute__((aligned(64)));                \
        v16 s[NR], dp[NR];                                                                                          \
        UNROLL for (int i = 0; i < NR; i++) s[i] = dp[i] = v_zero();                                                \
        for (int d = 0; d < dim; d++) {                                                                             \
            v16 kv = v_load(k_t + d * LANES), vv = v_load(v_t + d * LANES);                                         \
            UNROLL for (int i = 0; i < NR; i++)                                                                     \
            {                                                                                                       \
                s[i] = v_fma(v_set1(q[i * width + d]), kv, s[i]);                                                   \
                dp[i] = v_fma(v_set1(dout[i * o_row + d]), vv, dp[i]);                                              \
            }                                                                                                       \
        }                                                                                                           \
        const v16 scale = v_set1(a->scale);                                                                         \
        UNROLL for (int i = 0; i < NR; i++)                                                                         \
        {                                                                                                           \
            int left = a->causal ? row + i + 1 - base : n_key;                                                      \
            m16 seen = m_first(left < n_key ? left : n_key);                                                        \
            v16 e = v_exp(v_sub(v_mul(s[i], scale), v_set1(a->lse[(row + i) * a->head_row])));                      \
            v16 g = v_mul(v_mul(e, v_sub(dp[i], v_set1(a->delta[(row + i) * a->head_row]))), scale);                \
            v_store(p[i], v_sel(seen, e, v_zero()));                                                                \
            v_store(ds[i], v_sel(seen, g, v_zero()));                                                               \
        }                                                                                                           \
        const float(*weight_v)[LANES] = (const float(*)[LANES])p, (*weight_k)[LANES] = (const float(*)[LANES])ds;   \
        for (int c = 0; c < dim; c += 2 * LANES) {                                                                  \
            const int n0 = dim - c < LANES ? dim - c : LANES;                                                       \
            const int n1 = dim - c - n0 < LANES ? dim - c - n0 : LANES;                                             \
            const float *k = a->k + base * width + c;                                                               \
            float *dk = a->dk + base * width + c, *dv = a->dv + base * width + c, *dq = a->dq + row * width + c;    \
            v16 x[NR][2];                                                                                           \
            int j = 0;                                                                                              \
            UNROLL for (int i = 0; i < NR; i++)                                                                     \
            {                                                                                                       \
                x[i][0] = v_load_n(dout + i * o_row + c, n0);                                                       \
                x[i][1] = v_load_n(dout + i * o_row + c + LANES, n1);                                               \
            }                                                                                                       \
            for (; j + 4 <= n_seen; j += 4) add_##NR##_4(dv, width, weight_v, (const v16(*)[2])x, j, n0, n1);       \
            for (; j < n_seen; j++) add_##NR##_1(dv, width, weight_v, (const v16(*)[2])x, j, n0, n1);               \
            UNROLL for (int i = 0; i < NR; i++)                                                                     \
            {                                                                                                       \
                x[i][0] = v_load_n(q + i * width + c, n0);                                                          \
                x[i][1] = v_load_n(q + i * width + c + LANES, n1);                                                  \
            }                                                                                                       \
            for (j = 0; j + 4 <= n_seen; j += 4) add_##NR##_4(dk, width, weight_k, (const v16(*)[2])x, j, n0, n1);  \
            for (; j < n_seen; j++) add_##NR##_1(dk, width, weight_k, (const v16(*)[2])x, j, n0, n1);               \
            UNROLL for (int i = 0; i < NR; i++)                                                                     \
            {                                                                                                       \
                x[i][0] = v_load_n(dq + i * width, n0);                                                             \
                x[i][1] = v_load_n(dq + i * width + LANES, n1);                                                     \
            }                                                                                                       \
            for (j = 0; j < n_seen; j++) {                                                                          \
                v16 k0 = v_load_n(k + j * width, n0), k1 = v_load_n(k + j * width + LANES, n1);                     \
                UNROLL for (int i = 0; i < NR; i++)                                                                 \
                {                                                                                                   \
                    v16 w = v_set1(ds[i][j]);                                                                       \
                    x[i][0] = v_fma(w, k0, x[i][0]);                                                                \
                    x[i][1] = v_fma(w, k1, x[i][1]);                                                                \
                }                                                                                                   \
            }                                                                                                       \
            UNROLL for (int i = 0; i < NR; i++)                                                                     \
            {                                                                                                       \
                v_store_n(dq + i * width, x[i][0], n0);                                                             \
                v_store_n(dq + i * width + LANES, x[i][1], n1);                                                     \
            }                                                                                                       \
        }                                                                                                           \
    }

ROWS(1)
ROWS(2)
ROWS(4)
ROWS(8)

void SYM(attn_bwd)(const attn_bwd_args *a)
{
    int row = a->causal ? a->block * ATTN_BLOCK : 0; /* earlier rows don't see this block */
    for (; row + 8 <= a->n_row; row += 8) rows_8(a, row);
    if (a->n_row - row >= 4) rows_4(a, row), row += 4;
    if (a->n_row - row >= 2) rows_2(a, row), row += 2;
    if (a->n_row - row >= 1) rows_1(a, row);
}
