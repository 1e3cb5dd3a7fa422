/* Attention of the query heads that share one kv head, forward. Keys are walked in blocks of 16 by position, one online
 * softmax per query:
 *   s_j = scale * (chain over d of q_d k_jd), lanes = keys;  m' = max(m, max s);  c = e^(m - m');  p_j = e^(s_j - m')
 *   l = l c + p (16 interleaved partials);  o_d = o_d c, then the chain over visible keys j ascending of p_j v_jd
 * A query's result depends on its own position and keys alone, so every caller and every tile gives equal bits. A tile
 * is NR queries; NB blocks of scores are computed ahead so that few queries still keep eight chains going. */
#include "kernels/cpu/isa/kern.h"
#include "kernels/vmath.h"

enum { MAX_DIM = 256, MAX_TILE = 8 }; /* head_dim, checked by the driver */

typedef struct tile {
    float q[MAX_TILE][MAX_DIM], o[MAX_TILE][MAX_DIM];
    v16 l[MAX_TILE];
    float m[MAX_TILE];
    int visible[MAX_TILE]; /* keys each query sees, ascending */
} tile;

static void tile_load(tile *t, const attn_args *a, int item, int n)
{
    for (int i = 0; i < n; i++) {
        int row = (item + i) / a->heads, head = (item + i) % a->heads;
        memcpy(t->q[i], a->q + row * a->q_row + head * a->head_dim, (size_t)a->head_dim * sizeof(float));
        for (int c = 0; c < a->head_dim; c += LANES) v_store(t->o[i] + c, v_zero());
        t->l[i] = v_zero();
        t->m[i] = -INFINITY;
        t->visible[i] = a->causal && a->first + row + 1 < a->n_key ? a->first + row + 1 : a->n_key;
    }
}

static void tile_store(const tile *t, const attn_args *a, int item, int n)
{
    float sum[LANES], inv[LANES], log_sum[LANES];
    for (int i = 0; i < LANES; i++) sum[i] = 1.0f;
    for (int i = 0; i < n; i++) sum[i] = v_hsum(t->l[i]);
    v_store(inv, v_div(v_set1(1.0f), v_load(sum)));
    v_store(log_sum, v_log(v_load(sum)));
    for (int i = 0; i < n; i++) {
        int row = (item + i) / a->heads, head = (item + i) % a->heads;
        float *out = a->o + row * a->o_row + head * a->head_dim;
        v16 scale = v_set1(inv[i]);
        for (int c = 0; c < a->head_dim; c += LANES)
            v_store_n(out + c, v_mul(v_load(t->o[i] + c), scale), a->head_dim - c < LANES ? a->head_dim - c : LANES);
        if (a->lse) a->lse[row * a->lse_row + head] = t->m[i] + log_sum[i];
    }
}

/* o = o decay, then the chain over keys, NR queries and NC vectors of columns in registers, `lanes` columns in the last
 * one. FULL: all queries see all 16 keys. */
#define PV(NR, NC, FULL)                                                                                      \
    INLINE void pv_##NR##_##NC##_##FULL(tile *t, const float *v, int64_t v_row, const float(*p)[LANES],       \
                                        const float *decay, const int *count, int c, int lanes)               \
    {                                                                                                         \
        v16 acc[NR][NC];                                                                                      \
        UNROLL for (int i = 0; i < NR; i++) UNROLL for (int k = 0; k < NC; k++) acc[i][k] =                   \
            v_mul(v_load(t->o[i] + c + k * LANES), v_set1(decay[i]));                                         \
        v += c;                                                                                               \
        const int all = FULL ? ATTN_BLOCK : count[0]; /* the first query sees the least, the last the most */ \
        _Pragma("GCC unroll 4") for (int j = 0; j < all; j++, v += v_row)                                     \
        {                                                                                                     \
            v16 vv[NC];                                                                                       \
            UNROLL for (int k = 0; k < NC; k++) vv[k] =                                                       \
                k + 1 < NC || lanes == LANES ? v_load(v + k * LANES) : v_load_n(v + k * LANES, lanes);        \
            UNROLL for (int i = 0; i < NR; i++)                                                               \
            {                                                                                                 \
                v16 vp = v_set1(p[i][j]);                                                                     \
                UNROLL for (int k = 0; k < NC; k++) acc[i][k] = v_fma(vp, vv[k], acc[i][k]);                  \
            }                                                                                                 \
        }                                                                                                     \
        for (int j = all; !FULL && j < count[NR - 1]; j++, v += v_row) {                                      \
            v16 vv[NC];                                                                                       \
            UNROLL for (int k = 0; k < NC; k++) vv[k] = v_load_n(v + k * LANES, k + 1 < NC ? LANES : lanes);  \
            UNROLL for (int i = 0; i < NR; i++) if (j < count[i])                                             \
            {                                                                                                 \
                v16 vp = v_set1(p[i][j]);                                                                     \
                UNROLL for (int k = 0; k < NC; k++) acc[i][k] = v_fma(vp, vv[k], acc[i][k]);                  \
            }                                                                                                 \
        }                                                                                                     \
        UNROLL for (int i = 0; i < NR; i++) UNROLL for (int k = 0; k < NC; k++)                               \
            v_store(t->o[i] + c + k * LANES, acc[i][k]);                                                      \
    }

/* Blocks [b, b + NB) for a tile of NR queries. A query that sees no key of a block keeps its state: m stays, decay is 1
 * and l c + 0 exact. */
#define STEP(NR, NB, FULL)                                                                                  \
    static __attribute__((noinline)) void step_##NR##_##NB##_##FULL(tile *t, const attn_args *a, int b)     \
    {                                                                                                       \
        const int dim = a->head_dim;                                                                        \
        float p[NB][NR][LANES] __attribute__((aligned(64))), decay[NB][LANES] __attribute__((aligned(64))); \
        float top[NB][NR];                                                                                  \
        int count[NR];                                                                                      \
        v16 s[NB][NR];                                                                                      \
        UNROLL for (int n = 0; n < NB; n++) UNROLL for (int i = 0; i < NR; i++) s[n][i] = v_zero();         \
        for (int d = 0; d < dim; d++) {                                                                     \
            UNROLL for (int n = 0; n < NB; n++)                                                             \
            {                                                                                               \
                v16 kv = v_load(a->k[b + n] + d * LANES);                                                   \
                UNROLL for (int i = 0; i < NR; i++) s[n][i] = v_fma(v_set1(t->q[i][d]), kv, s[n][i]);       \
            }                                                                                               \
        }                                                                                                   \
        const v16 scale = v_set1(a->scale), minus_inf = v_set1(-INFINITY);                                  \
        UNROLL for (int n = 0; n < NB; n++)                                                                 \
        {                                                                                                   \
            float change[LANES] = {0};                                                                      \
            UNROLL for (int i = 0; i < NR; i++)                                                             \
            {                                                                                               \
                int left = t->visible[i] - b * ATTN_BLOCK;                                                  \
                count[i] = FULL ? ATTN_BLOCK : left < 0 ? 0 : left < ATTN_BLOCK ? left : ATTN_BLOCK;        \
                s[n][i] = v_mul(s[n][i], scale);                                                            \
                if (!FULL) s[n][i] = v_sel(m_first(count[i]), s[n][i], minus_inf);                          \
                float high = v_hmax(s[n][i]);                                                               \
                top[n][i] = t->m[i] > high ? t->m[i] : high;                                                \
                change[i] = t->m[i] - top[n][i];                                                            \
                t->m[i] = top[n][i];                                                                        \
            }                                                                                               \
            v_store(decay[n], v_exp(v_load(change)));                                                       \
        }                                                                                                   \
        UNROLL for (int n = 0; n < NB; n++) UNROLL for (int i = 0; i < NR; i++)                             \
        {                                                                                                   \
            v16 vp = v_exp(v_sub(s[n][i], v_set1(top[n][i])));                                              \
            t->l[i] = v_fma(t->l[i], v_set1(decay[n][i]), vp);                                              \
            v_store(p[n][i], vp);                                                                           \
        }                                                                                                   \
        for (int n = 0; n < NB; n++) {                                                                      \
            int c = 0;                                                                                      \
            const float(*pn)[LANES] = (const float(*)[LANES])p[n];                                          \
            for (; c + LANES < dim; c += 2 * LANES)                                                         \
                pv_##NR##_2_##FULL(t, a->v[b + n], a->v_row, pn, decay[n], count, c,                        \
                                   dim - c < 2 * LANES ? dim - c - LANES : LANES);                          \
            if (c < dim) pv_##NR##_1_##FULL(t, a->v[b + n], a->v_row, pn, decay[n], count, c, dim - c);     \
        }                                                                                                   \
    }

#define TILE(NR, NB, MID) /* whole blocks NB, then MID at a time; then those the mask cuts */                    \
    static void tile_##NR(const attn_args *a, int item)                                                          \
    {                                                                                                            \
        tile t;                                                                                                  \
        tile_load(&t, a, item, NR);                                                                              \
        int b = 0, full = t.visible[0] / ATTN_BLOCK, blocks = (t.visible[NR - 1] + ATTN_BLOCK - 1) / ATTN_BLOCK; \
        for (; b + NB <= full; b += NB) step_##NR##_##NB##_1(&t, a, b);                                          \
        for (; b + MID <= full; b += MID) step_##NR##_##MID##_1(&t, a, b);                                       \
        for (; b < full; b++) step_##NR##_1_1(&t, a, b);                                                         \
        for (; b < blocks; b++) step_##NR##_1_0(&t, a, b);                                                       \
        tile_store(&t, a, item, NR);                                                                             \
    }
#define ALL(NR)    \
    PV(NR, 1, 0)   \
    PV(NR, 1, 1)   \
    PV(NR, 2, 0)   \
    PV(NR, 2, 1)   \
    STEP(NR, 1, 0) \
    STEP(NR, 1, 1)

ALL(1)
ALL(2)
ALL(4)
#ifdef ISA_avx512
ALL(8)
STEP(1, 2, 1)
STEP(1, 4, 1)
STEP(2, 2, 1)
STEP(2, 4, 1)
STEP(4, 2, 1)
STEP(8, 2, 1)
TILE(1, 4, 2)
TILE(2, 4, 2)
TILE(4, 2, 1)
TILE(8, 2, 1)
#else /* half the registers or fewer */
STEP(1, 2, 1)
STEP(2, 2, 1)
TILE(1, 2, 1)
TILE(2, 2, 1)
TILE(4, 1, 1)
#endif

void SYM(attn)(const attn_args *a)
{
    int item = 0, n = a->n_row * a->heads;
#ifdef ISA_avx512
    for (; item + 8 <= n; item += 8) tile_8(a, item);
#endif
    for (; item + 4 <= n; item += 4) tile_4(a, item);
    for (; item + 2 <= n; item += 2) tile_2(a, item);
    for (; item < n; item++) tile_1(a, item);
}
