/* The outer-product micro-kernel behind every matrix product: MR rows x NV vectors of accumulators in registers, one
 * chain of fused multiply-adds per output over ascending k. Tile shape is free: no output depends on it. */
#include "kernels/cpu/isa/kern.h"

typedef void tile_fn(const gemm_args *g, int row, int panel, int lanes);

/* lanes: columns in the last panel of this tile (16 unless PART) */
#define TILE(MR, NV, PART)                                                                                          \
    static void tile_##MR##_##NV##_##PART(const gemm_args *g, int row, int panel, int lanes)                        \
    {                                                                                                               \
        (void)lanes;                                                                                                \
        const int64_t a_row = g->a_row, a_col = g->a_col, b_panel = g->b_panel, b_row = g->b_row, c_row = g->c_row; \
        const float *a = g->a + row * a_row, *b = g->b + panel * b_panel;                                           \
        float *c = g->c + row * c_row + panel * LANES;                                                              \
        v16 acc[MR][NV];                                                                                            \
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] =                         \
            !g->chain ? v_zero()                                                                                    \
            : PART    ? v_load_n(c + i * c_row + j * LANES, lanes)                                                  \
                      : v_load(c + i * c_row + j * LANES);                                                             \
        for (int k = 0; k < g->depth; k++, a += a_col, b += b_row) {                                                \
            v16 bv[NV];                                                                                             \
            UNROLL for (int j = 0; j < NV; j++) bv[j] =                                                             \
                PART ? v_load_n(b + j * b_panel, lanes) : v_load(b + j * b_panel);                                  \
            UNROLL for (int i = 0; i < MR; i++)                                                                     \
            {                                                                                                       \
                v16 av = v_set1(a[i * a_row]);                                                                      \
                UNROLL for (int j = 0; j < NV; j++) acc[i][j] = v_fma(av, bv[j], acc[i][j]);                        \
            }                                                                                                       \
        }                                                                                                           \
        UNROLL for (int j = 0; j < NV; j++)                                                                         \
        {                                                                                                           \
            const float *bias = g->bias ? g->bias + (panel + j) * LANES : NULL;                                     \
            v16 add = !bias ? v_zero() : PART ? v_load_n(bias, lanes) : v_load(bias);                               \
            UNROLL for (int i = 0; i < MR; i++)                                                                     \
            {                                                                                                       \
                v16 out = bias ? v_add(acc[i][j], add) : acc[i][j];                                                 \
                if (PART)                                                                                           \
                    v_store_n(c + i * c_row + j * LANES, out, lanes);                                               \
                else                                                                                                \
                    v_store(c + i * c_row + j * LANES, out);                                                        \
            }                                                                                                       \
        }                                                                                                           \
    }

TILE(1, 1, 0)
TILE(2, 1, 0) TILE(3, 1, 0) TILE(4, 1, 0) TILE(5, 1, 0) TILE(6, 1, 0) TILE(1, 1, 1) TILE(2, 1, 1) TILE(3, 1, 1)
    TILE(4, 1, 1) TILE(5, 1, 1) TILE(6, 1, 1) TILE(1, 2, 0) TILE(2, 2, 0) TILE(3, 2, 0) TILE(1, 4, 0)
#ifdef ISA_avx512
        TILE(7, 1, 0) TILE(8, 1, 0) TILE(9, 1, 0) TILE(10, 1, 0) TILE(11, 1, 0) TILE(12, 1, 0) TILE(7, 1, 1)
            TILE(8, 1, 1) TILE(9, 1, 1) TILE(10, 1, 1) TILE(11, 1, 1) TILE(12, 1, 1) TILE(4, 2, 0) TILE(5, 2, 0)
                TILE(6, 2, 0) TILE(7, 2, 0) TILE(8, 2, 0) TILE(9, 2, 0) TILE(10, 2, 0) TILE(11, 2, 0) TILE(12, 2, 0)
                    TILE(2, 4, 0) TILE(3, 4, 0) TILE(4, 4, 0) TILE(5, 4, 0) TILE(6, 4, 0) TILE(1, 8, 0) TILE(2, 8, 0)
                        TILE(3, 8, 0) enum {
                            MAX_ROWS = 12
                        };
#else
        enum {
            MAX_ROWS = 6
        };
#endif

/* by rows and log2 of the vectors; empty: registers would spill */
static tile_fn *const tiles[MAX_ROWS + 1][4] = {
#ifdef ISA_avx512
    [1] = {tile_1_1_0, tile_1_2_0, tile_1_4_0, tile_1_8_0},
    [2] = {tile_2_1_0, tile_2_2_0, tile_2_4_0, tile_2_8_0},
    [3] = {tile_3_1_0, tile_3_2_0, tile_3_4_0, tile_3_8_0},
    [4] = {tile_4_1_0, tile_4_2_0, tile_4_4_0},
    [5] = {tile_5_1_0, tile_5_2_0, tile_5_4_0},
    [6] = {tile_6_1_0, tile_6_2_0, tile_6_4_0},
    [7] = {tile_7_1_0, tile_7_2_0},
    [8] = {tile_8_1_0, tile_8_2_0},
    [9] = {tile_9_1_0, tile_9_2_0},
    [10] = {tile_10_1_0, tile_10_2_0},
    [11] = {tile_11_1_0, tile_11_2_0},
    [12] = {tile_12_1_0, tile_12_2_0},
#else
    [1] = {tile_1_1_0, tile_1_2_0, tile_1_4_0},
    [2] = {tile_2_1_0, tile_2_2_0},
    [3] = {tile_3_1_0, tile_3_2_0},
    [4] = {tile_4_1_0},
    [5] = {tile_5_1_0},
    [6] = {tile_6_1_0},
#endif
};

static tile_fn *const tiles_part[MAX_ROWS + 1] = {
    NULL,       tile_1_1_1, tile_2_1_1, tile_3_1_1,  tile_4_1_1,  tile_5_1_1,  tile_6_1_1,
#ifdef ISA_avx512
    tile_7_1_1, tile_8_1_1, tile_9_1_1, tile_10_1_1, tile_11_1_1, tile_12_1_1,
#endif
};

void SYM(gemm)(const gemm_args *g)
{
    if (g->rows <= 0 || g->cols <= 0) return;
    int n_tile = (g->rows + MAX_ROWS - 1) / MAX_ROWS; /* as even as possible: 16 rows are 8 + 8, not 12 + 4 */
    int short_rows = g->rows / n_tile, n_long = g->rows % n_tile;
    int full = g->cols / LANES, rest = g->cols % LANES;
    int widest = 3;
    while (!tiles[short_rows + (n_long > 0)][widest]) widest--;
    for (int panel = 0, log = widest; panel < full; panel += 1 << log) {
        while (panel + (1 << log) > full) log--;
        for (int t = 0, row = 0; t < n_tile; t++) {
            int rows = short_rows + (t < n_long);
            tiles[rows][log](g, row, panel, LANES);
            row += rows;
        }
    }
    for (int t = 0, row = 0; rest && t < n_tile; t++) {
        int rows = short_rows + (t < n_long);
        tiles_part[rows](g, row, full, rest);
        row += rows;
    }
}
