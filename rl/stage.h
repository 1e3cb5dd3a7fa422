/* Private to the trainer and its stages: the options of every section rl owns, the trainer itself, and what a stage is.
 */
#ifndef RL_STAGE_H
#define RL_STAGE_H

#include "core/log.h"
#include "rl/eval.h"
#include "rl/learn.h"
#include "rl/metrics.h"
#include "rl/trainer.h"

typedef struct train_opts {
    cfg_strings stages;
    char *arm;
    int64_t checkpoint_every, keep, max_tokens, max_patches, log_every;
    int on_nonfinite; /* 0 stop, 1 skip */
} train_opts;
typedef struct warmup_opts {
    char *data;
    int64_t steps, batch;
    double scale;
} warmup_opts;
typedef struct sft_opts {
    char *data;
    int64_t steps, batch;
} sft_opts;
typedef struct rl_opts {
    char *data;
    int64_t steps, prompts, minibatches, epochs, record_every, record_prompts;
} rl_opts;
typedef struct evaluate_opts {
    char *data;
    int64_t every, limit, keep, batch;
    double temperature;
} evaluate_opts;
typedef enum check_when { CHECK_OFF, CHECK_FIRST, CHECK_EVERY } check_when;
typedef struct check_opts {
    int logp;
} check_opts;
extern const cfg_field train_fields[], warmup_fields[], sft_fields[], rl_fields[], eval_fields[], check_fields[];

typedef struct stage_def stage_def;

struct trainer {
    trainer_parts p;
    config *cfg;
    train_opts train;
    warmup_opts warmup;
    sft_opts sft;
    rl_opts rl;
    algo_opts algo;
    reward_opts reward;
    rollout_opts rollout;
    evaluate_opts eval;
    check_opts check;
    optim_opts optim_warmup, optim_sft, optim_rl;
    learner *learn; /* NULL until a stage needs it */
    optim *x;       /* of the running stage */
    metrics *out;
    spans phases;       /* of the running step */
    double peak_gflops; /* the backend's measured matmul rate */
    int n_skipped;      /* updates in a row whose gradient was not finite */
    char line[256];     /* what the running stage says about its last step */
    learn_sums sums;    /* of the last step, all ranks */
};

/* One step does everything collective itself; metrics go to t->out, the console text to t->line. */
struct stage_def {
    const char *name;
    int64_t (*steps)(const trainer *t);
    const optim_opts *(*optim)(const trainer *t);
    bool evaluated; /* free-running answers make sense */
    status (*open)(trainer *t, void **state);
    status (*step)(trainer *t, void *state, int64_t step, double lr);
    loader *(*cursor)(void *state);
    void (*close)(void *state);
};
extern const stage_def stage_warmup, stage_sft, stage_rl;

/* Forward and backward over this rank's shards, then one update. seq: this rank's part of n sequences that all ranks
 * hold together (trainer_part). j->check refuses the update when a log-prob differs. *sums: of all ranks. Collective.
 */
status trainer_update(trainer *t, const learn_job *j, const batch_seq *seq, int64_t n, double lr, learn_sums *sums,
                      double *grad_norm);
/* One update of the weights, by train.on_nonfinite also when the gradient is not finite. Collective. */
status trainer_apply(trainer *t, double lr, double *grad_norm);
/* This rank's sequences of n: [*first, *first + *count). */
void trainer_part(const trainer *t, int64_t n, int64_t *first, int64_t *count);
/* The sum of v over ranks, added in rank order. Collective. */
status trainer_sum(trainer *t, int64_t *v, int n);
status trainer_need_learner(trainer *t);
/* The configured dataset, or an error that names section.data. */
status trainer_open_data(trainer *t, const char *section, const char *path, dataset **d, loader **l, bool shuffle);
status trainer_evaluate(trainer *t, const char *stage, int64_t step);

#endif
