/* Questions for the tiny policy, and what two rollouts, or a rollout and the trainer, must agree on. */
#ifndef TESTS_TINY_ROLLOUT_H
#define TESTS_TINY_ROLLOUT_H

#include "rollout/engine.h"
#include "tests/common/tiny_policy.h"

enum { TINY_MAX_PROMPTS = 16 };
typedef struct tiny_prompts {
    int n;
    sample row[TINY_MAX_PROMPTS];
    image picture[TINY_MAX_PROMPTS], view[TINY_MAX_PROMPTS]; /* 60x60 noise, seen as 56x56 */
    rollout_prompt p[TINY_MAX_PROMPTS];
} tiny_prompts;

void tiny_prompts_open(tiny_prompts *a, const tiny_policy *t, int n);
void tiny_prompts_close(tiny_prompts *a);

/* Everything but times. */
bool traj_same(const traj *a, const traj *b);
/* Log-probs of sampled tokens that differ in any bit from the trainer's packed forward over whole sequences, at most
 * max_tok tokens a pass; *seen: how many there are. */
int trainer_logps_differ(tiny_policy *w, const traj *t, int n, int max_tok, float inv_temp, int *seen);

#endif
