/* The vision tower as op calls: patch embedding, blocks, 2x2 merger (qwen_vl_spec 3), and for Qwen3-VL learned
 * positions and DeepStack's mergers (12.2, 12.3). Private to core. */
#ifndef CORE_TOWER_H
#define CORE_TOWER_H

#include "core/merger.h"

/* Weights or gradients. d = hidden. */
typedef struct tower_params {
    tensor patch_w, patch_b; /* [d, patch_dim], a Conv3d whose stride is its kernel; [d] or NULL data */
    tensor pos;              /* [n_pos,d] or NULL data */
    block_params *block;     /* (depth) */
    merger_params merger;
    merger_params deep[VISION_MAX_DEEP];
} tower_params;

/* Memory for images of P patches and T = P / merge^2 visual tokens, and what the last forward left in it. */
typedef struct tower_acts {
    bool keep;                 /* for backward: one block_acts for each block instead of one for all */
    tensor patches;            /* [P, patch_dim] */
    tensor patches_f32;        /* the same as they come, where activations are not fp32 */
    tensor index;              /* [T] permuted token j is raster token index[j] */
    tensor pos, cos, sin;      /* [P,2], [P,D/2] permuted */
    tensor tap, weight;        /* [P,VISION_TAPS] rows of the position table, permuted */
    tensor cu_window, cu_full; /* segments in patches, permuted */
    block_acts *block;
    block_work work;
    tensor x0;          /* [P,d] embedded patches in image order */
    tensor y;           /* [P,d] after the blocks */
    merger_acts merger; /* of the merger; of all DeepStack mergers unless keep */
    merger_acts deep_merger[VISION_MAX_DEEP];
    merger_work merger_work;
    tensor out, feat;             /* [T,out] permuted, [T,out] raster order */
    tensor deep[VISION_MAX_DEEP]; /* [T,out] raster order: what text layer k gains */
    tensor dx, dmerge;            /* [P,d] gradients of the stream and of one merger's input */
    int32_t *host_index, *host_pos, *host_window, *host_full, *host_tap;
    float *host_weight;
    int n_patch; /* of the last forward */
    int n_window, n_full;
} tower_acts;

block_shape tower_shape(const vision_config *v);
status tower_alloc_params(tower_params *p, const vision_config *v); /* the block array */
void tower_plan_params(arena *a, tower_params *p, const vision_config *v, dtype matrix);
status tower_plan_acts(arena *a, tower_acts *t, const vision_config *v, int n_patch, bool keep);
void tower_acts_free(tower_acts *t);

/* Merged rows [T,out], raster order in each frame of each image, borrowed from t; t->deep[k] likewise. freq, axis:
 * rotary constants [D/2]. */
tensor tower_forward(backend *b, tower_acts *t, const tower_params *p, const vision_config *v, const tensor *freq,
                     const tensor *axis, const float *patches, const int32_t *grid, int n_img);
/* From dfeat[T,out] and ddeep[n_deep] of [T,out] (NULL: nothing reads DeepStack), for the images of the last forward.
 */
void tower_backward(backend *b, tower_params *g, tower_acts *t, const tower_params *p, const vision_config *v,
                    const tensor *dfeat, const tensor *ddeep);

#endif
