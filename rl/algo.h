/* The table of algorithms: how rewards become advantages, and the per-token policy loss. Host math in double, one
 * scalar per token; the heavy part is ops (logprob_fwd / logprob_bwd). */
#ifndef RL_ALGO_H
#define RL_ALGO_H

#include "core/comm.h"
#include "core/config.h"
#include "data/traj.h"
#include "reward/reward.h"

typedef struct algo_opts {
    int algo;                              /* row of algos[] */
    int norm;                              /* advantage: 0 none (mean only), 1 std */
    double norm_eps;                       /* added to std, 1e-6 */
    double clip_low, clip_high, dual_clip; /* ratio in [1-low, 1+high]; dual_clip 0 = off */
    int aggregate; /* 0 token: / all tokens; 1 response: mean per response, then over responses; both global */
    double entropy_coef;
    int budget_cut; /* trajectories cut by a budget: 0 penalise (reward as scored), 1 mask */
} algo_opts;
extern const cfg_field algo_fields[];

enum { AGGREGATE_TOKEN, AGGREGATE_RESPONSE };

/* Sets masked: infrastructure failures always, budget cuts when budget_cut says so, and episodes without a sampled
 * token. */
void algo_mask(const algo_opts *o, traj *t, int n);
/* Mean and 1/std over every call's turn return of the step, all ranks: what turn_normalize "batch" subtracts and
 * multiplies; 0 and 1 for "none" and when the returns don't vary (as published). Collective. */
typedef struct turn_norm {
    double mean, inv_std;
} turn_norm;
status algo_turn_norm(const reward_opts *r, const traj *t, int n, comm *world, turn_norm *out);
/* The turn part of the advantage of each of a trajectory's turns (n_turn floats): turn_weight * normalised return for
 * turns with a call, 0 for the others. */
void algo_turn_part(const reward_opts *r, const turn_norm *z, const traj *t, float *out);

/* Group advantages: trajectories of one prompt are adjacent, groups of `group`. Fills adv_seq, then adv per token =
 * adv_seq + turn part on the turn's sampled tokens. A flat group (max == min) is exactly zero. Masked trajectories
 * don't count in the statistics and get 0. NaN rewards are ST_EINVAL. */
typedef status advantage_fn(const algo_opts *o, const reward_opts *r, const turn_norm *z, traj *t, int n, int group);
/* The same on plain numbers of one group: skip[i] leaves a member out (NULL: none). */
void grpo_group(const algo_opts *o, const float *reward, const bool *skip, int n, float *adv);

/* One token: value of the loss term and its derivative by the current log-prob. weight carries the aggregation. */
typedef struct loss_stats {
    double loss, ratio_max, clip_frac, kl_old, n;
} loss_stats; /* clip_frac, kl_old: sums over n */
typedef double loss_fn(const algo_opts *o, double logp, double old, double adv, double weight, double *dlogp,
                       loss_stats *s);
typedef struct algo {
    const char *name;
    advantage_fn *advantage;
    loss_fn *loss;
    const char *help;
} algo;
extern const algo algos[]; /* grpo, ...; ends with name NULL */

/* Weight of each target token of a trajectory: 1 / all tokens, or 1 / (responses * own tokens); counts are global. */
double algo_weight(const algo_opts *o, int64_t tokens, int64_t responses, int own);
int algo_targets(const traj *t); /* sampled tokens */

#endif
