/* Evaluation: a dataset under the rollout engine, by category, with Wilson 95 % intervals. */
#ifndef RL_EVAL_H
#define RL_EVAL_H

#include "core/comm.h"
#include "reward/reward.h"
#include "rollout/engine.h"

enum { EVAL_MAX_CATEGORIES = 64 };
typedef struct eval_row {
    char category[32];
    int64_t n;
    double accuracy, low, high;        /* 95 % Wilson */
    double tool_rate;                  /* share of trajectories with >= 1 call */
    double mean_calls, code_fail_rate; /* failed calls / calls; NaN without calls */
    double acc_tool, acc_direct;       /* accuracy of those with / without a call; NaN if none */
    double mean_tokens;
} eval_row;
typedef struct eval_result {
    int n_row;
    eval_row row[EVAL_MAX_CATEGORIES];
    eval_row all;
    double infra;
} eval_result;

/* Collective: prompts are split over ranks by index, results are equal on all ranks. limit 0 = all rows. keep > 0:
 * trajectories of the first `keep` of each category are written with their images under dir (may be NULL). */
typedef struct eval_opts {
    int64_t limit, keep, batch;
    uint64_t seed;
    const char *dir;
    const char *progress;
} eval_opts;
status eval_run(eval_result *out, engine *e, dataset *d, const chat *c, const image_processor *ip, const reward_opts *r,
                comm *world, const eval_opts *o);
void eval_to_json(const eval_result *r, json_out *o); /* array of rows, the row "all" last */
/* {"arm", "seed", "stage", "step", "infra", "rows"}: what reports read. */
typedef struct eval_label {
    const char *arm, *stage;
    int64_t seed, step;
    const char *force;  /* "free", "direct", "tool" */
    int64_t tile_scale; /* size of the detail in the pictures, 0: not said */
    bool shuffled;      /* returned pictures were exchanged between trajectories */
} eval_label;
status eval_write(const char *path, const eval_result *r, const eval_label *l);

#endif
