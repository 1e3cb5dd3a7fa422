/* Qwen2.5-VL, Qwen3-VL and their text models again, in double, from the definitions: dense masks instead of segments,
 * no permutation, one row at a time, every weight by its published name. Slow and independent of core/block.c,
 * core/tower.c and core/vision.c: what the model is compared with. */
#ifndef TESTS_COMMON_MODEL_REF_H
#define TESTS_COMMON_MODEL_REF_H

#include "core/model.h"

typedef struct ref_weight {
    const char *name; /* the model's */
    double *v;
    int64_t n, cols;
    const float *grad; /* the model's gradient, NULL when not training */
} ref_weight;

typedef struct ref_model {
    model_config cfg;
    ref_weight *w;
    int n;
} ref_model;

/* Copies the weights of a model on a CPU backend. */
void ref_open(ref_model *r, model *m);
void ref_close(ref_model *r);
ref_weight *ref_find(const ref_model *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Merged image rows, raster order: out[n_tok][hidden]; DeepStack's: deep[n_deep][n_tok][hidden], may be NULL. */
void ref_vision(const ref_model *r, const token_batch *x, double *out, double *deep);
/* Final-norm hidden of x->row: out[n_row][hidden]. Plain packed batches only. */
void ref_hidden(const ref_model *r, const token_batch *x, double *out);
/* sum over rows of weight[i] * log softmax(h_i W^T)[target[i]]. */
double ref_loss(const ref_model *r, const token_batch *x, const int32_t *target, const float *weight);

#endif
