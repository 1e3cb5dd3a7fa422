/* Matrices turned so that rows lie across the lanes, and back. */
#include "kernels/cpu/isa/kern.h"

void SYM(to_lanes)(float *to, const float *from, int64_t from_row, int rows, int64_t cols)
{
    for (int64_t c = 0; c < cols; c += LANES) {
        int n = cols - c < LANES ? (int)(cols - c) : LANES;
        v16 t[LANES];
        if (n == LANES && rows == LANES)
            UNROLL for (int r = 0; r < LANES; r++) t[r] = v_load(from + r * from_row + c);
        else
            for (int r = 0; r < LANES; r++) t[r] = r < rows ? v_load_n(from + r * from_row + c, n) : v_zero();
        v_transpose(t);
        if (n == LANES)
            UNROLL for (int k = 0; k < LANES; k++) v_store(to + (c + k) * LANES, t[k]);
        else
            for (int k = 0; k < n; k++) v_store(to + (c + k) * LANES, t[k]);
    }
}

void SYM(from_lanes)(float *to, int64_t to_row, const float *from, int rows, int64_t cols)
{
    for (int64_t c = 0; c < cols; c += LANES) {
        int n = cols - c < LANES ? (int)(cols - c) : LANES;
        v16 t[LANES];
        if (n == LANES)
            UNROLL for (int k = 0; k < LANES; k++) t[k] = v_load(from + (c + k) * LANES);
        else
            for (int k = 0; k < LANES; k++) t[k] = k < n ? v_load(from + (c + k) * LANES) : v_zero();
        v_transpose(t);
        for (int r = 0; r < rows; r++) v_store_n(to + r * to_row + c, t[r], n);
    }
}

/* Two neighbours of a row are one 32-bit lane, so one transposition turns 32 columns. */
INLINE void widen_pair(float *to, v16 pair, bool both)
{
    v_store(to, v_from_bits(i_shl(v_bits(pair), 16)));
    if (both) v_store(to + LANES, v_from_bits(i_and(v_bits(pair), i_set1((int32_t)0xffff0000u))));
}

void SYM(bf16_to_lanes)(float *to, const uint16_t *const *from, int rows, int64_t cols)
{
    enum { STEP = 2 * LANES, AHEAD = 4 * STEP };
    int64_t c = 0;
    v16 t[LANES];
    for (; rows == LANES && c + STEP <= cols; c += STEP) {
        UNROLL for (int r = 0; r < LANES; r++)
        {
            __builtin_prefetch(from[r] + c + AHEAD); /* rows are too many streams for the hardware to foresee */
            memcpy(&t[r], from[r] + c, sizeof t[r]);
        }
        v_transpose(t);
        UNROLL for (int k = 0; k < LANES; k++) widen_pair(to + (c + 2 * k) * LANES, t[k], true);
    }
    for (; c < cols; c += STEP) {
        int n = cols - c < STEP ? (int)(cols - c) : STEP;
        memset(t, 0, sizeof t);
        for (int r = 0; r < rows; r++) memcpy(&t[r], from[r] + c, (size_t)n * sizeof **from);
        v_transpose(t);
        for (int k = 0; 2 * k < n; k++) widen_pair(to + (c + 2 * k) * LANES, t[k], 2 * k + 1 < n);
    }
}

void SYM(bf16_widen)(float *to, const uint16_t *from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
}
