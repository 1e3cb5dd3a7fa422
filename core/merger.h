/* Where the vision tower hands over to the text model (qwen_vl_spec 3.6, 12.3): merge^2 patches become one row,
 *
 *     out = gelu(concat(norm(x)) W1^T + b1) W2^T + b2
 *
 * with the norm over a patch, or, in DeepStack's mergers, over the concatenated row. Private to core: tower.c. */
#ifndef CORE_MERGER_H
#define CORE_MERGER_H

#include "core/block.h"
#include "core/vision.h"

/* Weights or gradients; norm_b has NULL data where the norm is RMSNorm. d = hidden, M = merge^2 d. */
typedef struct merger_params {
    tensor norm_w, norm_b; /* [d], [d]; [M], [M] where the norm is wide */
    tensor fc1_w, fc1_b;   /* [M,M], [M] */
    tensor fc2_w, fc2_b;   /* [out,M], [out] */
} merger_params;

/* P patches, T = P / merge^2 rows. */
typedef struct merger_acts {
    tensor z, mean, rstd; /* [P,d] normed; one number for each row of the norm (P of them are kept) */
    tensor u, act;        /* [T,M] around GELU */
} merger_acts;

/* Memory of backward, which one merger uses and the next one reuses. */
typedef struct merger_work {
    tensor dz, du, dact; /* [P,d], [T,M], [T,M] */
} merger_work;

/* wide: the norm is over the concatenated row. matrix: what matrices are stored in. */
void merger_plan_params(arena *a, merger_params *p, const vision_config *v, bool wide, dtype matrix);
void merger_plan_acts(arena *a, merger_acts *t, const vision_config *v, int64_t patches);
void merger_plan_work(arena *a, merger_work *w, const vision_config *v, int64_t patches);

/* out[T,out] from x[P,d]. */
void merger_forward(backend *b, tensor *out, merger_acts *t, const merger_params *p, const tensor *x, bool wide);
/* dx[P,d] overwritten, from dout[T,out]; g accumulates. */
void merger_backward(backend *b, tensor *dx, merger_params *g, const merger_acts *t, merger_work *w,
                     const merger_params *p, const tensor *x, const tensor *dout, bool wide);

#endif
