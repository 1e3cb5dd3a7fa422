/* One pre-norm transformer block. The decoder and the vision tower use the same one, in training, prefill and decode:
 *
 *     m = x + attention(norm(x)) Wo^T + bo
 *     y = m + act(norm(m) Wgu^T + bgu) Wdown^T + bdown
 *
 * norm is RMSNorm or LayerNorm, act SwiGLU or tanh GELU; queries and keys may be normed head by head before rotary.
 * Private to core: model.c, model_pass.c and tower.c. */
#ifndef CORE_BLOCK_H
#define CORE_BLOCK_H

#include <math.h>

#include "core/arena.h"

typedef struct block_shape {
    int width, inner;        /* C, I */
    bool qkv_bias, mlp_bias; /* mlp_bias: also on the attention's output projection */
    bool qk_norm;            /* RMSNorm of each query and key head */
    bool layer_norm;         /* instead of RMSNorm */
    bool gelu_mlp;           /* tanh GELU instead of SwiGLU */
    float eps;
    attn_shape attn;
} block_shape;

static inline float attn_scale(int head_dim) { return (float)(1.0 / sqrt(head_dim)); }
static inline int block_qkv(const block_shape *s) { return (s->attn.n_head + 2 * s->attn.n_kv) * s->attn.head_dim; }
static inline int block_gu(const block_shape *s) { return s->gelu_mlp ? s->inner : 2 * s->inner; }
static inline int block_heads(const block_shape *s) { return s->attn.n_head * s->attn.head_dim; }

/* Weights, or their gradients. What the family lacks has NULL data. H = n_head D, Q = (n_head + 2 n_kv) D, U = 2I or,
 * with gelu_mlp, I. */
typedef struct block_params {
    tensor norm1, norm1_b; /* [C], [C] */
    tensor qkv_w, qkv_b;   /* [Q,C] rows q then k then v, [Q] */
    tensor q_norm, k_norm; /* [D], [D] */
    tensor o_w, o_b;       /* [C,H], [C] */
    tensor norm2, norm2_b; /* [C], [C] */
    tensor gu_w, gu_b;     /* [U,C] rows gate then up, or fc1; [U] */
    tensor down_w, down_b; /* [C,I], [C] */
} block_params;

/* What one block computes; everything backward reads is here. */
typedef struct block_acts {
    tensor x, n1, mean1, r1; /* [N,C] input, [N,C] normed, [N] mean (LayerNorm only), [N] 1/rms or 1/deviation */
    tensor raw, rhead;       /* [N,(n_head+n_kv)D] query and key heads before their norm, [N,n_head+n_kv] 1/rms */
    tensor qkv, o, lse;      /* [N,Q] rotated, [N,H], [N,n_head] */
    tensor m, n2, mean2, r2; /* [R,C] after attention, [R,C], [R], [R] */
    tensor gu, act;          /* [R,U], [R,I] */
} block_acts;

/* Memory one block uses and the next one reuses. */
typedef struct block_work {
    tensor t;         /* [N,C] a branch's output, before it joins the stream; backward: its gradient */
    tensor dn, do_;   /* [N,C], [N,H] */
    tensor dqkv;      /* [N,Q] */
    tensor dgu, dact; /* [N,U], [N,I] */
} block_work;

/* Who attends to whom: segments of packed rows, or the paged cache of one layer. */
typedef struct block_ctx {
    tensor cos, sin;         /* [N,D/2] */
    tensor cu;               /* [S+1] */
    const tensor *kv;        /* this layer's cache, NULL: inside the packed rows */
    tensor slot, table, ctx; /* paged only */
} block_ctx;

/* A norm of the family: LayerNorm where it has a bias, else RMSNorm (mean is then not touched). */
void norm_fwd(backend *b, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *bias,
              float eps);
void norm_bwd(backend *b, tensor *dx, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x, const tensor *w,
              const tensor *mean, const tensor *rstd);

/* matrix: what matrices are stored in; norms and biases are fp32. */
void block_plan_params(arena *a, block_params *p, const block_shape *s, dtype matrix);
/* rows attend, rest of them go on. */
void block_plan_acts(arena *a, block_acts *t, const block_shape *s, int64_t rows, int64_t rest);
void block_plan_work(arena *a, block_work *w, const block_shape *s, int64_t rows, bool backward);
/* The first `rows` (and `rest`) rows of each. */
block_acts block_acts_rows(const block_acts *t, int64_t rows, int64_t rest);
block_work block_work_rows(const block_work *w, int64_t rows);

/* The two halves. N rows attend; R rows go on (R = N but in the last decoder layer, where only rows that the head reads
 * matter and the rest is never computed).
 * Attention: t->o[N,H] from t->x[N,C]. */
void block_attend(backend *b, block_acts *t, const block_params *p, const block_shape *s, const block_ctx *c);
/* y[R,C] from t->o and the stream x, R rows both. y may be x's memory when nothing is kept for backward. */
void block_finish(backend *b, tensor *y, const tensor *x, block_acts *t, block_work *w, const block_params *p,
                  const block_shape *s);
/* dx[R,C]: gradient of y on entry, of the stream x on return; w->do_[R,H] = gradient of t->o. g accumulates. */
void block_finish_back(backend *b, tensor *dx, block_params *g, const block_acts *t, block_work *w,
                       const block_params *p, const block_shape *s);
/* dx[N,C] gains what comes through attention from w->do_[N,H]. */
void block_attend_back(backend *b, tensor *dx, block_params *g, const block_acts *t, block_work *w,
                       const block_params *p, const block_shape *s, const block_ctx *c);

#endif
