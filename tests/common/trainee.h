/* A small awkward model, a batch for it, and a step of training: what the model tests share. */
#ifndef TESTS_COMMON_TRAINEE_H
#define TESTS_COMMON_TRAINEE_H

#include "tests/common/packed.h"

typedef struct trainee {
    model *m;
    model_acts *a;
} trainee;

/* head_dim is not hidden/heads, odd layer count, uneven sections, a tower whose windows cut images. */
model_config trainee_config(bool tied, int n_head, int n_kv);
/* The same sizes as Qwen3-VL: no windows, positions larger and smaller than the images, and DeepStack from the last
 * n_deep blocks into the first n_deep of three decoder layers. */
model_config trainee_qwen3(bool tied, int n_head, int n_kv, int n_deep);
/* The text model alone. */
model_config trainee_text(model_family family);
/* Three sequences; an image of 3x2 windows, a small one, and one that two sequences share. Text only without vision. */
void trainee_batch(packed *p, const model_config *c);
/* Random weights, norm scales and biases too, and activations that just hold p. */
trainee trainee_open(backend *b, const model_config *c, const packed *p);
void trainee_close(trainee *t);

/* Targets and weights of a loss over every row asked for: sum of weight * log-prob of target. */
typedef struct goal {
    int32_t target[PACKED_TOK];
    float weight[PACKED_TOK];
} goal;
void trainee_goal(goal *g, const packed *p);
/* Forward, loss and its gradient through the head, backward; gradients accumulate in the model. Returns the loss. */
double trainee_step(trainee *t, const packed *p, const goal *g);

#endif
