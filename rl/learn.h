/* One pass over the sequences of a gradient shard: pack, forward, loss per target token, backward. SFT and every RL
 * algorithm share it; they differ in one scalar per token. */
#ifndef RL_LEARN_H
#define RL_LEARN_H

#include "core/clock.h"
#include "data/chat.h"
#include "rl/algo.h"
#include "rl/batch.h"

typedef struct learner learner;
/* Borrows m, c, ip. max_tokens and max_patches bound one micro-batch. */
status learner_create(learner **out, model *m, const chat *c, const image_processor *ip, int64_t max_tokens,
                      int64_t max_patches);
void learner_destroy(learner *l);
size_t learner_bytes(const learner *l);

typedef struct learn_job {
    const algo_opts *algo; /* NULL: maximum likelihood over the whole vocabulary */
    double temperature;    /* with algo: log-probs at this temperature without the ids sampling never gives */
    bool backward;         /* false: forward only */
    bool check;            /* old log-probs must have the same bits */
} learn_job;

typedef struct learn_sums {
    loss_stats loss;        /* loss.n = targets */
    double logp;            /* sum over targets */
    double max_diff;        /* largest |logp - old|, with check */
    int diff_seq, diff_tok; /* the first target that differs: sequence index and its number there; -1: none */
    int64_t tokens, batches;
    double flops;
} learn_sums;

/* Adds to *sums (start from learn_sums_zero). */
status learner_run(learner *l, const learn_job *j, const batch_seq *seq, int n, learn_sums *sums, spans *ph);
/* Log-prob of every target of the sequences in order into out (as many as masks have ones). */
status learner_score(learner *l, const learn_job *j, const batch_seq *seq, int n, float *out);
learn_sums learn_sums_zero(void);

#endif
