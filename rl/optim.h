/* AdamW with sharded moments (ZeRO-1) and the gradient reduction of the bit contract.
 *
 * The global batch is cut into grad_shards parts (a power of two, >= ranks). Each part is one accumulation chain in
 * model_grads; optim_shard_done moves it into the tree: shards combine pairwise in a fixed binary tree, ranks own whole
 * subtrees, so 1, 2, 4 ranks give the same bits. */
#ifndef RL_OPTIM_H
#define RL_OPTIM_H

#include "core/comm.h"
#include "core/config.h"
#include "core/model.h"

typedef struct optim_opts {
    double lr, beta1, beta2, eps, weight_decay, clip_norm; /* clip_norm 0 = off */
    int64_t grad_shards;
    int schedule; /* 0 constant, 1 linear, 2 cosine: from lr after the warm-up to min_lr at the end */
    int64_t warmup_steps;
    double min_lr; /* share of lr at the end, e.g. 0.1 */
} optim_opts;
/* Sections optim_warmup, optim_sft, optim_rl: the same keys, each stage's own defaults. */
extern const cfg_field optim_warmup_fields[], optim_sft_fields[], optim_rl_fields[];

/* Learning rate of step (0-based) of total. */
double optim_lr(const optim_opts *o, int64_t step, int64_t total);

typedef struct optim optim;
/* Borrows m and world. Moments of this rank's slice only. */
status optim_create(optim **out, model *m, comm *world, const optim_opts *o);
void optim_destroy(optim *x);
/* Shards this rank owns: [first, first+n) of grad_shards. */
void optim_shards(const optim *x, int *first, int *n);
/* Call once per owned shard in ascending order when its backward passes are done: takes model_grads and zeroes them. */
void optim_shard_done(optim *x);
/* Collective. Finishes the tree over ranks, clips by the global norm, updates this rank's slice, gathers weights.
 * grad_norm (may be NULL) is before clipping. t counts from 1 inside. A non-finite gradient changes nothing but the
 * gradients, which are spent; the message names the first tensor that has one. It is ST_EINVAL, or with skipped not
 * NULL ST_OK and *skipped true.
 */
status optim_step(optim *x, double lr, double *grad_norm, bool *skipped);
/* Collective. Full moments for a checkpoint, gathered to every rank: m, v f32[P], caller's buffers of P floats. */
status optim_state(optim *x, float *m, float *v, int64_t *t);
status optim_restore(optim *x, const float *m, const float *v, int64_t t);

#endif
