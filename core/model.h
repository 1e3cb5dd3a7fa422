/* The model, once: Qwen2.5-VL, Qwen3-VL, Qwen2.5 and Qwen3 as a list of op calls over the seam. Training forward,
 * prefill and decode are the same block code; only where attention finds its keys differs (packed rows, or the paged KV
 * cache).
 *
 * Families are fields of model_config, not forks. Parameters are one flat arena; fused matrices (qkv, gate|up) are
 * stored row-concatenated so that the Hugging Face tensors are row views of them. */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "core/arena.h"
#include "core/model_config.h"

typedef struct model model;

/* Plans and commits parameters (fp32, zero). for_training adds gradients. Borrows b. */
status model_create(model **out, backend *b, const model_config *c, bool for_training);
/* For inference only: matrices as DT_BF16, or as DT_BF16_ROWS that hf_load_weights points into the mapped checkpoint
 * (host memory only); norms and biases in fp32. On the CPU, the bits of an fp32 model that holds the same values. */
status model_create_stored(model **out, backend *b, const model_config *c, dtype matrix);
/* What the weights borrow lives with the model: drop(what) is called when it is destroyed or something else is kept. */
void model_keep(model *m, void *what, void (*drop)(void *what));
/* Names, shapes and initial values of the tensors without memory for them: model_visit (data NULL), model_cfg,
 * model_param_count and model_init_values work. */
status model_create_names(model **out, const model_config *c);
void model_destroy(model *m);
const model_config *model_cfg(const model *m);
backend *model_backend(const model *m);
tensor model_params(const model *m); /* flat f32[P]; not of a model in bf16 */
tensor model_grads(const model *m);  /* flat f32[P], same order; data NULL unless for_training */
/* Writes all initial weights: normal(0, std) for matrices with std = 1/sqrt(fan_in) (o/down projections x0.4, merger
 * output x0.1), embeddings 0.05, norms 1, biases 0; the first query head of each kv group starts as that group's key
 * head (induction-friendly). Keyed by (seed, tensor name), so independent of order. */
void model_init(model *m, uint64_t seed);

/* The one enumerator: every Hugging Face tensor by its published name, as row views of weight and gradient (gradient
 * data NULL when not training), in a fixed order. Stops at the first non-OK status and returns it. matrix: weight decay
 * applies (2-D and larger weights), not to norms and biases. Tied heads are not listed. hf_shape (ndim <= 5) is the
 * shape in the file (patch_embed.proj is [d,3,2,14,14]). */
typedef struct model_tensor {
    const char *name; /* lives as long as the model */
    tensor w, g;
    bool matrix;
    int ndim;
    int64_t shape[5];
} model_tensor;
typedef status model_visit_fn(void *ctx, const model_tensor *t);
status model_visit(model *m, model_visit_fn *fn, void *ctx);
int64_t model_param_count(const model *m);
/* Elements [at, at+n) of what model_init writes into t, before rounding to bf16. Thread-safe. */
void model_init_values(const model *m, const model_tensor *t, uint64_t seed, int64_t at, int64_t n, float *out);

/* Where decode and prefill find keys and values. All pointers borrowed for the call. */
typedef struct kv_view {
    tensor *layer;        /* [n_layer] caches, each [n_block, kv_block_floats] */
    const int32_t *slot;  /* (N) cache slot each new row is written to */
    const int32_t *table; /* (S, max_block) block ids of each sequence's context, from position 0 */
    int max_block;
    const int32_t *ctx; /* (S) context length including the new rows */
} kv_view;

/* Packed sequences, host memory, borrowed for the call. */
typedef struct token_batch {
    int n_tok, n_seq;
    const int32_t *ids; /* (N); image pad positions hold image_token and are replaced by visual rows */
    const int32_t *pos; /* (N,3) from mrope_positions */
    const int32_t *cu;  /* (S+1) */
    /* images, each distinct one encoded once; n_img 0: no vision work */
    int n_img;
    const int32_t *grid;    /* (n_img,3) patches */
    const float *patches;   /* (n_patch, patch_dim), merge-block order, normalised */
    int n_vis;              /* image tokens in ids, <= all of them appear here */
    const int32_t *vis_tok; /* (n_vis) token index */
    const int32_t *vis_row; /* (n_vis) row of the encoded images' tokens, several tokens may name one row */
    const kv_view *kv;      /* NULL: attend inside the packed rows (training) */
    /* rows whose hidden state the head reads, ascending not required */
    int n_row;
    const int32_t *row; /* (R) */
} token_batch;

typedef struct model_limits {
    int tok, seq, patch, img, row, max_block;
} model_limits;

/* Activations for batches within limits; keep_for_backward keeps what backward needs. Owns an arena. */
typedef struct model_acts model_acts;
status model_acts_create(model_acts **out, model *m, const model_limits *lim, bool keep_for_backward);
void model_acts_destroy(model_acts *a);
size_t model_acts_bytes(const model_acts *a);

/* Hidden states of batch->row after the final norm: out[R,C], borrowed from a until the next call. CHECKs limits. Rows
 * nobody asks for skip the second half of the last layer; n_row 0 only fills the cache. */
tensor model_forward(model *m, model_acts *a, const token_batch *x);
/* Rows [N,C] that entered decoder layer l in the last forward of N tokens (layer 0: embeddings and image rows), for
 * inspection and tests. Borrowed from a until the next call; CHECKs that a keeps activations. */
tensor model_layer_input(const model_acts *a, int l, int n_tok);
/* DeepStack rows [n_feat,C] that decoder layer k gains, raster order like model_vision_forward's, of the last forward
 * of the tower. Borrowed likewise. */
tensor model_deep_rows(const model_acts *a, int k, int n_feat);
/* Accumulates gradients from dh[R,C] = d loss / d (what model_forward returned for x). Same x as the last forward. */
void model_backward(model *m, model_acts *a, const token_batch *x, const tensor *dh);
/* The head's weight [V,C] and its gradient (the embedding's when tied). */
tensor model_head(const model *m);
tensor model_head_grad(const model *m);
tensor model_embedding(const model *m);
tensor model_embedding_grad(const model *m);

/* The vision tower alone, for the warm-up stage and for inspection: merged rows [n_tok, out_hidden], raster order.
 * Backward leaves DeepStack's mergers out, which nothing reads here. */
tensor model_vision_forward(model *m, model_acts *a, const token_batch *x);
void model_vision_backward(model *m, model_acts *a, const token_batch *x, const tensor *dout);

/* Multiply-adds x2 of one training step (forward+backward = 3x forward), matmuls and attention only; for MFU. */
double model_train_flops(const model_config *c, const token_batch *x);

#endif
