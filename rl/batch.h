/* Trajectories and rendered conversations -> packed token_batch. Micro-batches are cut in order under the limits of the
 * model's activations; an image shared by neighbouring sequences is encoded once per micro-batch. */
#ifndef RL_BATCH_H
#define RL_BATCH_H

#include "core/model.h"
#include "data/traj.h"

/* One sequence to learn from; everything borrowed. */
typedef struct batch_seq {
    int n_tok;
    const int32_t *id;
    const uint8_t *mask;   /* 1 = this token is a target */
    const float *old_logp; /* NULL for SFT */
    const float *adv;      /* NULL for SFT */
    int n_image;
    const mrope_image *run;
    const image *const *view; /* (n_image); equal pointers are one picture */
    double weight;            /* of each target's loss: 1/global tokens, or 1/(responses * own tokens) */
    const char *name;         /* for messages */
} batch_seq;

typedef struct batch batch; /* owns the host arrays of one micro-batch */
status batch_create(batch **out, const model_config *c, const image_processor *ip, const model_limits *lim);
void batch_destroy(batch *b);
/* Packs sequences from seq[*at..n) while they fit, advances *at. ST_EINVAL when a single one exceeds the limits (says
 * which limit and its config key). A target at position t is predicted by the hidden state of row t-1; tokens from the
 * last target on are dropped, a sequence without targets takes no room. May give an empty batch (n_row 0). */
status batch_pack(batch *b, const batch_seq *seq, int n, int *at);
const token_batch *batch_tokens(const batch *b);
/* (R) in row order: target id, old log-prob, advantage, weight, and which sequence it belongs to (index into seq). */
const int32_t *batch_target(const batch *b);
const float *batch_old(const batch *b);
const float *batch_adv(const batch *b);
const double *batch_weight(const batch *b);
const int *batch_seq_of(const batch *b);

#endif
