/* The vision tower of Qwen2.5-VL and Qwen3-VL: patch embedding, blocks with windowed or full attention and 2-D rotary,
 * 2x2 merger. Used through core/model.h; this header is the part that model.c, tests and planners share. */
#ifndef CORE_VISION_H
#define CORE_VISION_H

#include <stdint.h>

#include "core/ops.h"

enum { VISION_MAX_BLOCKS = 64, VISION_MAX_DEEP = 16 };

typedef struct vision_config {
    int depth, hidden, intermediate, n_head;
    int patch, temporal_patch, merge, in_channels; /* 14 or 16, 2, 2, 3 */
    int window;     /* pixels, 112; visual tokens per window side = window / merge / patch; 0: no windows */
    int out_hidden; /* the text model's hidden size */
    int tokens_per_second;
    int n_full, full_blocks[VISION_MAX_BLOCKS]; /* block indices with full attention; the others are windowed */
    bool layer_norm;                            /* LayerNorm with bias instead of RMSNorm */
    bool gelu_mlp;                              /* fc2(gelu_tanh(fc1)) instead of down(silu(gate) * up) */
    bool patch_bias;
    int n_pos; /* rows of the learned position table, a square seen as side x side; 0: none */
    int n_deep, deep_blocks[VISION_MAX_DEEP]; /* DeepStack: text layer k gains merger k of what this block gives */
} vision_config;

static inline int vision_patch_dim(const vision_config *v)
{
    return v->in_channels * v->temporal_patch * v->patch * v->patch;
}

static inline bool vision_full_block(const vision_config *v, int l)
{
    for (int i = 0; i < v->n_full; i++)
        if (v->full_blocks[i] == l) return true;
    return v->window == 0;
}

/* The DeepStack merger that reads block l, or -1. */
static inline int vision_deep_block(const vision_config *v, int l)
{
    for (int i = 0; i < v->n_deep; i++)
        if (v->deep_blocks[i] == l) return i;
    return -1;
}

/* Index work for a list of images, pure host code (qwen_vl_spec 3.2-3.4).
 * grid[n_img][3] in patches (t,h,w), h and w multiples of merge. n_tok = sum t*(h/m)*(w/m), n_patch = n_tok*m*m.
 *   window_index[n_tok]     permutation: permuted visual token j is original token window_index[j]
 *   pos[n_patch][2]         (row, col) of each patch in PERMUTED order
 *   cu_window[*n_window+1]  segment boundaries in patches (capacity n_tok+1), in permuted order
 *   cu_full[*n_full+1]      one segment per frame of each image (capacity sum t + 1) */
void vision_index(const vision_config *v, const int32_t *grid, int n_img, int32_t *window_index, int32_t *pos,
                  int32_t *cu_window, int *n_window, int32_t *cu_full, int *n_full);
enum { VISION_TAPS = 4 };
/* Bilinear interpolation of the learned position table, corners aligned (qwen_vl_spec 12.3): patch p at pos[p] takes
 * sum_t weight[p][t] * table[tap[p][t]]. pos as vision_index left it. */
void vision_taps(const vision_config *v, const int32_t *grid, int n_img, const int32_t *pos, int32_t *tap,
                 float *weight);
int vision_tokens(const vision_config *v, const int32_t *grid, int n_img);
/* Multiply-adds of one forward of the tower: matmuls and attention inside windows or frames. */
double vision_mul_adds(const vision_config *v, const int32_t *grid, int n_img);

#endif
