/* The table of algorithms: how rewards become advantages, and the per-token policy loss. Host math in double, one scalar
 * per token; the heavy part is ops (logprob_fwd / logprob_bwd). */
#ifndef RL_ALGO_H
#define RL_ALGO_H

#include "core/config.h"
#include "data/traj.h"
#include "reward/reward.h"

typedef struct algo_opts {
    int algo;            /* row of algos[] */
    int norm;            /* advantage: 0 none (mean only), 1 std */
    double norm_eps;     /* added to std, 1e-6 */
    double clip_low, clip_high, dual_clip; /* ratio in [1-low, 1+high]; dual_clip 0 = off */
    int aggregate;       /* 0 token: / all tokens; 1 response: mean per response, then over responses; both global */
    double entropy_coef;
    int budget_cut;      /* trajectories cut by a budget: 0 penalise (reward as scored), 1 mask */
} algo_opts;
extern const cfg_field algo_fields[];

/* Group advantages: trajectories of one prompt are adjacent, groups of `group`. Fills adv_seq, then adv per token =
 * adv_seq + turn_weight * turn return on the turn's sampled tokens. A flat group (max == min) is exactly zero. Masked
 * trajectories don't count in the statistics. NaN rewards are ST_EINVAL. */
typedef status advantage_fn(const algo_opts *o, const reward_opts *r, traj *t, int n, int group);
/* One token: value of the loss term and its derivative by the current log-prob. weight carries the aggregation. */
typedef struct loss_stats { double loss, ratio_max, clip_frac, kl_old, n; } loss_stats;
typedef double loss_fn(const algo_opts *o, double logp, double old, double adv, double weight, double *dlogp, loss_stats *s);
typedef struct algo { const char *name; advantage_fn *advantage; loss_fn *loss; const char *help; } algo;
extern const algo algos[]; /* grpo, ...; ends with name NULL */

#endif
