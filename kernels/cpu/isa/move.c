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
