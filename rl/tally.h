/* Counting finished trajectories by category, over all ranks. */
#ifndef RL_TALLY_H
#define RL_TALLY_H

#include "rl/eval.h"

/* What is worth counting about one trajectory; plain bytes, exchanged between ranks. */
typedef struct tally_note {
    char category[32];
    float acc, reward;
    int32_t calls, fails, tokens, outcome; /* tokens: sampled */
} tally_note;

tally_note tally_of(const traj *t);
/* All ranks' notes in rank order; *all is malloc'ed. Collective. */
status tally_gather(const tally_note *mine, int64_t n, comm *world, tally_note **all, int64_t *n_all);
/* Rows in alphabetical order of category, and the total; infrastructure failures are counted apart. ST_EINVAL with more
 * than EVAL_MAX_CATEGORIES categories. */
status tally_rows(eval_result *out, const tally_note *note, int64_t n);

#endif
