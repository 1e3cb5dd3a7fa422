#include "core/vision.h"

#include <math.h>

static int smaller(int a, int b) { return a < b ? a : b; }

int vision_tokens(const vision_config *v, const int32_t *grid, int n_img)
{
    int n = 0;
    for (int i = 0; i < n_img; i++) n += grid[3 * i] * (grid[3 * i + 1] / v->merge) * (grid[3 * i + 2] / v->merge);
    return n;
}

/* Patches of the merged token at (row y, column x) in merge-block order: (0,0) (0,1) (1,0) (1,1) for merge 2. */
static int32_t *token_patches(int32_t *pos, int merge, int y, int x)
{
    for (int iy = 0; iy < merge; iy++)
        for (int ix = 0; ix < merge; ix++) {
            *pos++ = y * merge + iy;
            *pos++ = x * merge + ix;
        }
    return pos;
}

/* Merged tokens per window side; without windows one window holds the frame. */
static int window_side(const vision_config *v, int rows, int cols)
{
    int side = v->window ? v->window / v->merge / v->patch : rows > cols ? rows : cols;
    CHECK(side > 0);
    return side;
}

void vision_index(const vision_config *v, const int32_t *grid, int n_img, int32_t *window_index, int32_t *pos,
                  int32_t *cu_window, int *n_window, int32_t *cu_full, int *n_full)
{
    int unit = v->merge * v->merge; /* patches per merged token */
    int token = 0, base = 0, nw = 0, nf = 0;
    cu_window[0] = cu_full[0] = 0;
    for (int i = 0; i < n_img; i++, grid += 3) {
        int rows = grid[1] / v->merge, cols = grid[2] / v->merge, side = window_side(v, rows, cols);
        CHECK(grid[0] > 0 && rows > 0 && cols > 0 && grid[1] % v->merge == 0 && grid[2] % v->merge == 0);
        for (int frame = 0; frame < grid[0]; frame++, base += rows * cols) {
            for (int wy = 0; wy < rows; wy += side)
                for (int wx = 0; wx < cols; wx += side) {
                    for (int y = wy; y < smaller(wy + side, rows); y++)
                        for (int x = wx; x < smaller(wx + side, cols); x++) {
                            window_index[token++] = base + y * cols + x;
                            pos = token_patches(pos, v->merge, y, x);
                        }
                    cu_window[++nw] = token * unit;
                }
            cu_full[++nf] = token * unit;
        }
    }
    *n_window = nw;
    *n_full = nf;
}

/* The two rows of the table that index i of n lies between, and their weights. fp32 as in transformers: the position is
 * i (side-1) / (n-1), each operation rounded. */
static void axis_taps(int side, int i, int n, int32_t tap[2], float weight[2])
{
    float at = (float)i * (float)(side - 1) / (float)(n > 1 ? n - 1 : 1), low = floorf(at);
    tap[0] = smaller((int)low, side - 1);
    tap[1] = smaller((int)low + 1, side - 1);
    weight[0] = 1.0f - (at - low);
    weight[1] = 1.0f - fabsf(at - low - 1.0f);
}

void vision_taps(const vision_config *v, const int32_t *grid, int n_img, const int32_t *pos, int32_t *tap,
                 float *weight)
{
    int side = (int)sqrt((double)v->n_pos);
    CHECK(side > 0);
    for (int i = 0; i < n_img; i++, grid += 3) {
        int n = grid[0] * grid[1] * grid[2]; /* an image's patches stay together, whatever the windows */
        for (int p = 0; p < n; p++, pos += 2, tap += VISION_TAPS, weight += VISION_TAPS) {
            int32_t y[2], x[2];
            float wy[2], wx[2];
            axis_taps(side, pos[0], grid[1], y, wy);
            axis_taps(side, pos[1], grid[2], x, wx);
            for (int t = 0; t < VISION_TAPS; t++) {
                tap[t] = y[t / 2] * side + x[t % 2];
                weight[t] = wy[t / 2] * wx[t % 2];
            }
        }
    }
}

/* Sum over the windows of one frame of (patches in the window)^2: rows and columns separate. */
static double window_pairs(const vision_config *v, int rows, int cols)
{
    int side = window_side(v, rows, cols);
    double by_row = 0, by_col = 0, unit = v->merge * v->merge;
    for (int y = 0; y < rows; y += side) by_row += (double)smaller(side, rows - y) * smaller(side, rows - y);
    for (int x = 0; x < cols; x += side) by_col += (double)smaller(side, cols - x) * smaller(side, cols - x);
    return by_row * by_col * unit * unit;
}

double vision_mul_adds(const vision_config *v, const int32_t *grid, int n_img)
{
    double d = v->hidden, M = d * v->merge * v->merge, sum = 0;
    int n_full = 0;
    for (int l = 0; l < v->depth; l++) n_full += vision_full_block(v, l);
    for (int i = 0; i < n_img; i++, grid += 3) {
        double P = (double)grid[0] * grid[1] * grid[2], frame = (double)grid[1] * grid[2];
        sum += P * (vision_patch_dim(v) * d + v->depth * (4 * d * d + (v->gelu_mlp ? 2 : 3) * d * v->intermediate));
        sum += (1 + v->n_deep) * P / (v->merge * v->merge) * (M * M + M * v->out_hidden);
        sum += 2 * d * grid[0] *
               (n_full * frame * frame + (v->depth - n_full) * window_pairs(v, grid[1] / v->merge, grid[2] / v->merge));
    }
    return sum;
}
