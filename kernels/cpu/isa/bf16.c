/* A few rows of x times 16 outputs whose weights are read as bf16, straight from where they lie: 32 columns of 16 rows
 * are turned in registers and used at once. The same chain as gemm.c's, so the same bits. */
#include "kernels/cpu/isa/kern.h"

enum { STEP = 2 * LANES, AHEAD = 4 * STEP };

#define FEW(R)                                                                                                         \
    static void few_##R(const bf16_args *g)                                                                            \
    {                                                                                                                  \
        v16 acc[R], t[LANES];                                                                                          \
        UNROLL for (int r = 0; r < R; r++) acc[r] = v_zero();                                                          \
        int64_t c = 0;                                                                                                 \
        for (; c + STEP <= g->depth; c += STEP) {                                                                      \
            UNROLL for (int o = 0; o < LANES; o++)                                                                     \
            {                                                                                                          \
                __builtin_prefetch(g->w[o] + c + AHEAD);                                                               \
                memcpy(&t[o], g->w[o] + c, sizeof t[o]);                                                               \
            }                                                                                                          \
            v_transpose(t);                                                                                            \
            UNROLL for (int k = 0; k < LANES; k++)                                                                     \
            {                                                                                                          \
                const float *x = g->x + c + 2 * k;                                                                     \
                v16 even = v_from_bits(i_shl(v_bits(t[k]), 16)), odd = v_from_bits(i_and(v_bits(t[k]), high()));       \
                UNROLL for (int r = 0; r < R; r++) acc[r] = v_fma(v_set1(x[r * g->x_row]), even, acc[r]);              \
                UNROLL for (int r = 0; r < R; r++) acc[r] = v_fma(v_set1(x[r * g->x_row + 1]), odd, acc[r]);           \
            }                                                                                                          \
        }                                                                                                              \
        int rest = (int)(g->depth - c);                                                                                \
        memset(t, 0, sizeof t);                                                                                        \
        for (int o = 0; o < LANES; o++) memcpy(&t[o], g->w[o] + c, (size_t)rest * sizeof **g->w);                      \
        v_transpose(t);                                                                                                \
        for (int k = 0; k < rest; k++) {                                                                               \
            i16 pair = v_bits(t[k / 2]);                                                                               \
            v16 w = v_from_bits(k % 2 ? i_and(pair, high()) : i_shl(pair, 16));                                        \
            UNROLL for (int r = 0; r < R; r++) acc[r] = v_fma(v_set1(g->x[r * g->x_row + c + k]), w, acc[r]);          \
        }                                                                                                              \
        UNROLL for (int r = 0; r < R; r++)                                                                             \
        {                                                                                                              \
            v16 y = g->bias ? v_add(acc[r], v_load_n(g->bias, g->outputs)) : acc[r];                                   \
            v_store_n(g->y + r * g->y_row, y, g->outputs);                                                             \
        }                                                                                                              \
    }

INLINE i16 high(void) { return i_set1((int32_t)0xffff0000u); }

FEW(1)
FEW(2)
FEW(3)
FEW(4)
FEW(5)
FEW(6)
FEW(7)
FEW(8)

void SYM(bf16_few)(const bf16_args *g)
{
    static void (*const by_rows[])(const bf16_args *) = {few_1, few_2, few_3, few_4, few_5, few_6, few_7, few_8};
    by_rows[g->rows - 1](g);
}
