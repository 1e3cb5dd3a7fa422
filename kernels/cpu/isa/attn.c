/* Attention of the query heads that share one kv head, forward. Keys are walked in blocks of 16 by position, one online
 * softmax per query:
 *   s_j = scale * (chain over d of q_d k_jd), lanes = keys;  m' = max(m, max s);  c = e^(m - m');  p_j = e^(s_j - m')
 *   l = l c + p (16 interleaved partials);  o_d = o_d c, then the chain over visible keys j ascending of p_j v_jd
 * A query's result depends on its own position and keys alone, so every caller and every tile gives equal bits. A tile is
 * NR queries; NB blocks of scores are computed ahead so that few queries still keep eight chains going. */
#include "kernels/cpu/isa/kern.h"
#include "kernels/cpu/isa/vmath.h"

enum { MAX_DIM = 256, MAX_TILE = 8 }; /* head_dim, checked by the driver */

typedef struct tile {
    float q[MAX_TILE][MAX_DIM], o[MAX_TILE][MAX_DIM];
    v16 l[MAX_TILE];
    float m[MAX_TILE];
    int visible[MAX_TILE], last; /* keys each query sees; the largest of them */
} tile;

static void tile_load(tile *t, const attn_args *a, int item, int n)
{
    t->last = 0;
    for (int i = 0; i < n; i++) {
        int row = (item + i) / a->heads, head = (item + i) % a->heads;
        memcpy(t->q[i], a->q + row * a->q_row + head * a->head_dim, (size_t)a->head_dim * sizeof(float));
        for (int c = 0; c < a->head_dim; c += LANES) v_store(t->o[i] + c, v_zero());
        t->l[i] = v_zero();
        t->m[i] = -INFINITY;
        t->visible[i] = a->causal && a->first + row + 1 < a->n_key ? a->first + row + 1 : a->n_key;
        if (t->visible[i] > t->last) t->last = t->visible[i];
    }
}

static void tile_store(const tile *t, const attn_args *a, int item, int n)
{
    for (int i = 0; i < n; i++) {
        int row = (item + i) / a->heads, head = (item + i) % a->heads;
        float sum = v_hsum(t->l[i]), *out = a->o + row * a->o_row + head * a->head_dim;
        v16 inv = v_set1(1.0f / sum);
        for (int c = 0; c < a->head_dim; c += LANES)
            v_store_n(out + c, v_mul(v_load(t->o[i] + c), inv), a->head_dim - c < LANES ? a->head_dim - c : LANES);
        if (a->lse) a->lse[row * a->lse_row + head] = t->m[i] + log1(sum);
    }
}

/* o = o decay, then the chain over keys, NR queries and NC vectors of columns in registers */
#define PV(NR, NC)                                                                                                     \
    INLINE void pv_##NR##_##NC(tile *t, const float *v, int64_t v_row, const float (*p)[LANES], const float *decay,    \
                               const int *count, int c, int lanes)                                                     \
    {                                                                                                                  \
        int lowest = count[0], highest = count[0];                                                                     \
        for (int i = 1; i < NR; i++) {                                                                                 \
            if (count[i] < lowest) lowest = count[i];                                                                  \
            if (count[i] > highest) highest = count[i];                                                                \
        }                                                                                                              \
        v16 acc[NR][NC];                                                                                               \
        UNROLL for (int i = 0; i < NR; i++)                                                                            \
            UNROLL for (int k = 0; k < NC; k++)                                                                        \
                acc[i][k] = v_mul(v_load(t->o[i] + c + k * LANES), v_set1(decay[i]));                                  \
        v += c;                                                                                                        \
        int j = 0;                                                                                                     \
        for (; j < lowest; j++, v += v_row) {                                                                          \
            v16 vv[NC];                                                                                                \
            UNROLL for (int k = 0; k < NC; k++) vv[k] = lanes == LANES ? v_load(v + k * LANES) : v_load_n(v, lanes);   \
            UNROLL for (int i = 0; i < NR; i++)                                                                        \
            {                                                                                                          \
                v16 vp = v_set1(p[i][j]);                                                                              \
                UNROLL for (int k = 0; k < NC; k++) acc[i][k] = v_fma(vp, vv[k], acc[i][k]);                           \
            }                                                                                                          \
        }                                                                                                              \
        for (; j < highest; j++, v += v_row) {                                                                         \
            v16 vv[NC];                                                                                                \
            UNROLL for (int k = 0; k < NC; k++) vv[k] = lanes == LANES ? v_load(v + k * LANES) : v_load_n(v, lanes);   \
            UNROLL for (int i = 0; i < NR; i++)                                                                        \
                if (j < count[i]) {                                                                                    \
                    v16 vp = v_set1(p[i][j]);                                                                          \
                    UNROLL for (int k = 0; k < NC; k++) acc[i][k] = v_fma(vp, vv[k], acc[i][k]);                       \
                }                                                                                                      \
        }                                                                                                              \
        UNROLL for (int i = 0; i < NR; i++)                                                                            \
            UNROLL for (int k = 0; k < NC; k++) v_store(t->o[i] + c + k * LANES, acc[i][k]);                           \
    }

/* Blocks [b, b + NB) for a tile of NR queries. */
#define STEP(NR, NB)                                                                                                   \
    INLINE void step_##NR##_##NB(tile *t, const attn_args *a, int b)                                                   \
    {                                                                                                                  \
        const int dim = a->head_dim;                                                                                   \
        float p[NB][NR][LANES] __attribute__((aligned(64))), decay[NB][LANES] __attribute__((aligned(64)));            \
        float top[NB][NR];                                                                                             \
        int count[NB][NR];                                                                                             \
        v16 s[NB][NR];                                                                                                 \
        UNROLL for (int n = 0; n < NB; n++)                                                                            \
            UNROLL for (int i = 0; i < NR; i++) s[n][i] = v_zero();                                                    \
        for (int d = 0; d < dim; d++) {                                                                                \
            UNROLL for (int n = 0; n < NB; n++)                                                                        \
            {                                                                                                          \
                v16 kv = v_load(a->k[b + n] + d * LANES);                                                              \
                UNROLL for (int i = 0; i < NR; i++) s[n][i] = v_fma(v_set1(t->q[i][d]), kv, s[n][i]);                  \
            }                                                                                                          \
        }                                                                                                              \
        const v16 scale = v_set1(a->scale), minus_inf = v_set1(-INFINITY);                                             \
        UNROLL for (int n = 0; n < NB; n++)                                                                            \
        {                                                                                                              \
            float change[LANES] = {0};                                                                                 \
            UNROLL for (int i = 0; i < NR; i++)                                                                        \
            {                                                                                                          \
                int left = t->visible[i] - (b + n) * ATTN_BLOCK;                                                       \
                count[n][i] = left < 0 ? 0 : left < ATTN_BLOCK ? left : ATTN_BLOCK;                                    \
                s[n][i] = v_mul(s[n][i], scale);                                                                       \
                if (count[n][i] < ATTN_BLOCK) s[n][i] = v_sel(m_first(count[n][i]), s[n][i], minus_inf);               \
                float high = v_hmax(s[n][i]);                                                                          \
                top[n][i] = t->m[i] > high ? t->m[i] : high;                                                           \
                change[i] = t->m[i] - top[n][i];                                                                       \
                t->m[i] = top[n][i];                                                                                   \
            }                                                                                                          \
            v_store(decay[n], v_exp(v_load(change)));                                                                  \
        }                                                                                                              \
        UNROLL for (int n = 0; n < NB; n++)                                                                            \
            UNROLL for (int i = 0; i < NR; i++)                                                                        \
            {                                                                                                          \
                v16 vp = v_exp(v_sub(s[n][i], v_set1(top[n][i])));                                                     \
                t->l[i] = v_fma(t->l[i], v_set1(decay[n][i]), vp);                                                     \
                v_store(p[n][i], vp);                                                                                  \
            }                                                                                                          \
        UNROLL for (int n = 0; n < NB; n++)                                                                            \
        {                                                                                                              \
            int c = 0;                                                                                                 \
            const float(*pn)[LANES] = (const float(*)[LANES])p[n];                                                     \
            for (; c + 2 * LANES <= dim; c += 2 * LANES)                                                               \
                pv_##NR##_2(t, a->v[b + n], a->v_row, pn, decay[n], count[n], c, LANES);                               \
            for (; c < dim; c += LANES)                                                                                \
                pv_##NR##_1(t, a->v[b + n], a->v_row, pn, decay[n], count[n], c, dim - c < LANES ? dim - c : LANES);   \
        }                                                                                                              \
    }

/* A block none of whose keys a query sees leaves its state as it is: m stays, decay and l c + 0 are exact. */
#define TILE(NR, NB)                                                                                                   \
    PV(NR, 1)                                                                                                          \
    PV(NR, 2)                                                                                                          \
    STEP(NR, 1)                                                                                                        \
    STEP(NR, NB)                                                                                                       \
    static void tile_##NR(const attn_args *a, int item)                                                                \
    {                                                                                                                  \
        tile t;                                                                                                        \
        tile_load(&t, a, item, NR);                                                                                    \
        int b = 0, blocks = (t.last + ATTN_BLOCK - 1) / ATTN_BLOCK;                                                    \
        for (; b + NB <= blocks; b += NB) step_##NR##_##NB(&t, a, b);                                                  \
        for (; b < blocks; b++) step_##NR##_1(&t, a, b);                                                               \
        tile_store(&t, a, item, NR);                                                                                   \
    }

TILE(1, 4)
TILE(2, 4)
TILE(4, 2)
PV(8, 1)
PV(8, 2)
STEP(8, 1)

static void tile_8(const attn_args *a, int item)
{
    tile t;
    tile_load(&t, a, item, 8);
    for (int b = 0; b * ATTN_BLOCK < t.last; b++) step_8_1(&t, a, b);
    tile_store(&t, a, item, 8);
}

void SYM(attn)(const attn_args *a)
{
    int item = 0, n = a->n_row * a->heads;
    for (; item + 8 <= n; item += 8) tile_8(a, item);
    for (; item + 4 <= n; item += 4) tile_4(a, item);
    for (; item + 2 <= n; item += 2) tile_2(a, item);
    for (; item < n; item++) tile_1(a, item);
}
