/* Attention of one head, forward. Keys are walked in blocks of 16 by position, one online softmax per row:
 *   s_j = scale * (chain over d of q_d k_jd), lanes = keys;  m' = max(m, max s);  c = e^(m - m');  p_j = e^(s_j - m')
 *   l = l c + p (16 interleaved partials);  o_d = o_d c, then the chain over visible keys j ascending of p_j v_jd
 * A row's result depends on its own position and keys alone, so every caller and every tile height gives equal bits. */
#include "kernels/cpu/isa/kern.h"
#include "kernels/cpu/isa/vmath.h"

enum { MAX_DIM = 256 }; /* head_dim, checked by the driver */

/* NR rows of o in registers over columns [c, c+16): o *= decay, then the chain over keys. count[i] keys are visible. */
#define PV(NR)                                                                                                         \
    INLINE void pv_##NR(float *o, const float *v, int64_t v_row, const float (*p)[LANES], const float *decay,          \
                        const int *count, int dim)                                                                     \
    {                                                                                                                  \
        int lowest = count[0], highest = count[0];                                                                     \
        for (int i = 1; i < NR; i++) {                                                                                 \
            if (count[i] < lowest) lowest = count[i];                                                                  \
            if (count[i] > highest) highest = count[i];                                                                \
        }                                                                                                              \
        for (int c = 0; c < dim; c += LANES) {                                                                         \
            int lanes = dim - c < LANES ? dim - c : LANES;                                                             \
            v16 acc[NR];                                                                                               \
            UNROLL for (int i = 0; i < NR; i++) acc[i] = v_mul(v_load(o + i * MAX_DIM + c), v_set1(decay[i]));         \
            int j = 0;                                                                                                 \
            for (; j < lowest; j++) {                                                                                  \
                v16 vv = lanes == LANES ? v_load(v + j * v_row + c) : v_load_n(v + j * v_row + c, lanes);              \
                UNROLL for (int i = 0; i < NR; i++) acc[i] = v_fma(v_set1(p[i][j]), vv, acc[i]);                       \
            }                                                                                                          \
            for (; j < highest; j++) {                                                                                 \
                v16 vv = v_load_n(v + j * v_row + c, lanes);                                                           \
                UNROLL for (int i = 0; i < NR; i++)                                                                    \
                    if (j < count[i]) acc[i] = v_fma(v_set1(p[i][j]), vv, acc[i]);                                     \
            }                                                                                                          \
            UNROLL for (int i = 0; i < NR; i++) v_store(o + i * MAX_DIM + c, acc[i]);                                  \
        }                                                                                                              \
    }

#define ROWS(NR)                                                                                                       \
    PV(NR)                                                                                                             \
    static void rows_##NR(const attn_args *a, int row)                                                                 \
    {                                                                                                                  \
        const int dim = a->head_dim;                                                                                   \
        float o[NR * MAX_DIM] __attribute__((aligned(64)));                                                            \
        float p[NR][LANES] __attribute__((aligned(64)));                                                               \
        float m[NR], decay[LANES];                                                                                     \
        v16 l[NR];                                                                                                     \
        int visible[NR], count[NR];                                                                                    \
        const float *q = a->q + row * a->q_row;                                                                        \
        for (int i = 0; i < NR; i++) {                                                                                 \
            m[i] = -INFINITY;                                                                                          \
            l[i] = v_zero();                                                                                           \
            visible[i] = a->causal && a->first + row + i + 1 < a->n_key ? a->first + row + i + 1 : a->n_key;           \
            for (int c = 0; c < dim; c += LANES) v_store(o + i * MAX_DIM + c, v_zero());                               \
        }                                                                                                              \
        const v16 scale = v_set1(a->scale), minus_inf = v_set1(-INFINITY);                                             \
        for (int b = 0; b * ATTN_BLOCK < visible[NR - 1]; b++) { /* the last row sees the most */                      \
            const float *k = a->k[b];                                                                                  \
            v16 s[NR];                                                                                                 \
            UNROLL for (int i = 0; i < NR; i++) s[i] = v_zero();                                                       \
            for (int d = 0; d < dim; d++) {                                                                            \
                v16 kv = v_load(k + d * LANES);                                                                        \
                UNROLL for (int i = 0; i < NR; i++) s[i] = v_fma(v_set1(q[i * a->q_row + d]), kv, s[i]);               \
            }                                                                                                          \
            float change[LANES] = {0};                                                                                 \
            UNROLL for (int i = 0; i < NR; i++)                                                                        \
            {                                                                                                          \
                int left = visible[i] - b * ATTN_BLOCK;                                                                \
                count[i] = left < 0 ? 0 : left < ATTN_BLOCK ? left : ATTN_BLOCK;                                       \
                if (count[i] == 0) continue;                                                                           \
                s[i] = v_mul(s[i], scale);                                                                             \
                if (count[i] < ATTN_BLOCK) s[i] = v_sel(m_first(count[i]), s[i], minus_inf);                           \
                float top = v_hmax(s[i]);                                                                              \
                top = m[i] > top ? m[i] : top;                                                                         \
                change[i] = m[i] - top;                                                                                \
                m[i] = top;                                                                                            \
            }                                                                                                          \
            v_store(decay, v_exp(v_load(change)));                                                                     \
            UNROLL for (int i = 0; i < NR; i++)                                                                        \
            {                                                                                                          \
                if (count[i] == 0) continue; /* decay is e^0 = 1 */                                                    \
                v16 vp = v_exp(v_sub(s[i], v_set1(m[i])));                                                             \
                l[i] = v_fma(l[i], v_set1(decay[i]), vp);                                                              \
                v_store(p[i], vp);                                                                                     \
            }                                                                                                          \
            pv_##NR(o, a->v[b], a->v_row, (const float(*)[LANES])p, decay, count, dim);                                \
        }                                                                                                              \
        for (int i = 0; i < NR; i++) {                                                                                 \
            float sum = v_hsum(l[i]);                                                                                  \
            v16 inv = v_set1(1.0f / sum);                                                                              \
            float *out = a->o + (row + i) * a->o_row;                                                                  \
            for (int c = 0; c < dim; c += LANES)                                                                       \
                v_store_n(out + c, v_mul(v_load(o + i * MAX_DIM + c), inv), dim - c < LANES ? dim - c : LANES);        \
            if (a->lse) a->lse[(row + i) * a->lse_row] = m[i] + log1(sum);                                             \
        }                                                                                                              \
    }

ROWS(1)
ROWS(4)
ROWS(8)

void SYM(attn)(const attn_args *a)
{
    int row = 0;
    for (; row + 8 <= a->n_row; row += 8) rows_8(a, row);
    for (; row + 4 <= a->n_row; row += 4) rows_4(a, row);
    for (; row < a->n_row; row++) rows_1(a, row);
}
