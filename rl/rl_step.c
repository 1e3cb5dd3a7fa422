/* One step of reinforcement learning: roll out the prompts, score, turn rewards into advantages, update on minibatches.
 *
 * Prompt p of the step belongs to minibatch p % minibatches, and ranks own contiguous prompts: so every rank learns
 * from exactly what it rolled out, and only numbers travel between ranks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/file.h"
#include "rl/record.h"
#include "rl/render.h"
#include "rl/stage.h"
#include "rl/tally.h"

typedef struct rl {
    dataset *d;
    loader *order;
    engine *e;
    int group, n_prompt, n_traj; /* this rank's */
    prompt_row *row;             /* (n_prompt) */
    rollout_prompt *ask;         /* (n_prompt) */
    traj *t;                     /* (n_traj) */
    char (*name)[96];            /* (n_traj) for messages */
    const image **view;          /* of all trajectories, one after the other */
    size_t cap_view;
    batch_seq *seq; /* (n_traj) of one minibatch */
    bool checked;   /* one step of this process has been checked */
} rl;

static void rl_close(void *state)
{
    rl *s = state;
    if (!s) return;
    engine_destroy(s->e);
    loader_destroy(s->order);
    dataset_close(s->d);
    free(s->row);
    free(s->ask);
    free(s->t);
    free(s->name);
    free(s->view);
    free(s->seq);
    free(s);
}

static status rl_open(trainer *t, void **state)
{
    TRY(trainer_need_learner(t));
    if (t->rollout.max_tokens > t->train.max_tokens)
        return config_fail(t->cfg, "train", "max_tokens",
                           "%lld is less than rollout.max_tokens %lld: a rollout could not be learned from",
                           (long long)t->train.max_tokens, (long long)t->rollout.max_tokens);
    if (t->rollout.force != FORCE_NONE || t->rollout.shuffle_tools)
        return config_fail(t->cfg, "rollout", t->rollout.force != FORCE_NONE ? "force" : "shuffle_tools",
                           "is for evaluation: training learns from what the policy does by itself");
    if (t->rollout.temperature == 0)
        return config_fail(t->cfg, "rollout", "temperature",
                           "must be above 0 for training: greedy members of a group are all equal");
    rl *s = calloc(1, sizeof *s);
    if (!s) return FAIL(ST_ENOMEM, "no memory for rl");
    s->group = (int)t->rollout.group;
    s->n_prompt = (int)(t->rl.prompts / t->p.world->size);
    s->n_traj = s->n_prompt * s->group;
    size_t p = (size_t)s->n_prompt, n = (size_t)s->n_traj;
    s->row = calloc(p, sizeof *s->row);
    s->ask = calloc(p, sizeof *s->ask);
    s->t = calloc(n, sizeof *s->t);
    s->name = calloc(n, sizeof *s->name);
    s->seq = calloc(n, sizeof *s->seq);
    status st = s->row && s->ask && s->t && s->name && s->seq
                    ? ST_OK
                    : FAIL(ST_ENOMEM, "no memory for %d trajectories", s->n_traj);
    if (st == ST_OK) st = trainer_open_data(t, "rl", t->rl.data, &s->d, &s->order, true);
    rollout_parts parts = {t->p.m, t->p.c, t->p.ip, t->p.boxes};
    if (st == ST_OK) st = engine_create(&s->e, &parts, &t->rollout);
    if (st != ST_OK)
        rl_close(s);
    else
        *state = s;
    return st;
}

static status load(trainer *t, rl *s, int64_t step)
{
    int64_t first = (int64_t)s->n_prompt * t->p.world->rank;
    status st = ST_OK;
    for (int64_t i = 0; i < t->rl.prompts; i++) {
        int64_t row = loader_next(s->order); /* every rank walks the whole order */
        int64_t k = i - first;
        if (k < 0 || k >= s->n_prompt || st != ST_OK) continue;
        prompt_row *r = &s->row[k];
        st = prompt_load(r, s->d, row, t->p.ip, t->p.boxes != NULL);
        s->ask[k] = (rollout_prompt){.sample = &r->s,
                                     .prompt = i,
                                     .seed = t->p.seed,
                                     .step = (uint64_t)step,
                                     .prompt_id = (uint64_t)row,
                                     .picture = r->picture,
                                     .view = r->view,
                                     .n_image = r->n_image};
    }
    return st;
}

static void unload(rl *s)
{
    for (int i = 0; i < s->n_traj; i++) traj_free(&s->t[i]);
    for (int i = 0; i < s->n_prompt; i++) prompt_free(&s->row[i]);
}

/* One pointer per picture: a prompt's views are shared by its group, returned pictures are the trajectory's own. */
static status gather_views(rl *s, size_t *at)
{
    size_t n = 0;
    for (int i = 0; i < s->n_traj; i++) n += (size_t)s->t[i].n_image;
    if (n > s->cap_view) {
        free(s->view);
        s->cap_view = 2 * n;
        s->view = malloc(sizeof(const image *) * s->cap_view);
        if (!s->view) return s->cap_view = 0, FAIL(ST_ENOMEM, "no memory for %zu pictures", n);
    }
    n = 0;
    for (int i = 0; i < s->n_traj; i++) {
        const prompt_row *r = &s->row[i / s->group];
        at[i] = n;
        for (int k = 0; k < s->t[i].n_image; k++) s->view[n++] = k < r->n_image ? &r->view[k] : &s->t[i].images[k].view;
        snprintf(s->name[i], sizeof *s->name, "sample %.60s, rollout %d", r->s.id, s->t[i].index);
    }
    return ST_OK;
}

static bool flat(const traj *t)
{
    for (int i = 0; i < t->n_tok; i++)
        if (t->mask[i] && t->adv[i] != 0) return false;
    return true;
}

/* Sequences of minibatch k that pull the weights; the others become empty. idle: those others (for the check) instead.
 */
static int make_sequences(const trainer *t, rl *s, const size_t *at, int k, double weight_tokens,
                          double weight_responses, bool idle)
{
    int n = 0;
    for (int i = 0; i < s->n_traj; i++) {
        const traj *x = &s->t[i];
        if (i / s->group % (int)t->rl.minibatches != k) continue;
        bool pulls = !x->masked && (t->algo.entropy_coef != 0 || !flat(x));
        batch_seq *q = &s->seq[n++];
        *q = (batch_seq){.name = s->name[i]};
        if (pulls == idle || x->n_tok == 0) continue;
        *q = (batch_seq){.n_tok = x->n_tok,
                         .id = x->id,
                         .mask = x->mask,
                         .old_logp = x->logp,
                         .adv = x->adv,
                         .n_image = x->n_image,
                         .run = x->run,
                         .view = s->view + at[i],
                         .name = s->name[i]};
        q->weight = algo_weight(&t->algo, (int64_t)weight_tokens, (int64_t)weight_responses, algo_targets(x));
    }
    return n;
}

typedef struct update_sums {
    learn_sums learn;
    double norm, max_diff;
    int64_t updates;
} update_sums;

static void add_update(update_sums *u, const learn_sums *l, double norm)
{
    u->learn.loss.loss += l->loss.loss;
    u->learn.loss.ratio_max = fmax(u->learn.loss.ratio_max, l->loss.ratio_max);
    u->learn.loss.clip_frac += l->loss.clip_frac;
    u->learn.loss.kl_old += l->loss.kl_old;
    u->learn.loss.n += l->loss.n;
    u->learn.logp += l->logp;
    u->learn.tokens += l->tokens;
    u->learn.flops += l->flops;
    u->norm += norm;
    u->updates++;
}

/* Forward passes over everything the first update doesn't run anyway, before it. */
static status check_rest(trainer *t, rl *s, const size_t *at, int64_t n_mini, update_sums *u)
{
    learn_job j = {.algo = &t->algo, .temperature = t->rollout.temperature, .check = true};
    for (int k = 0; k < t->rl.minibatches; k++)
        for (int idle = 0; idle < 2; idle++) {
            if (k == 0 && !idle) continue;
            make_sequences(t, s, at, k, 0, 0, idle);
            learn_sums sums;
            TRY(trainer_update(t, &j, s->seq, n_mini, 0, &sums, NULL));
            u->learn.flops += sums.flops;
        }
    return ST_OK;
}

static status learn(trainer *t, rl *s, double lr, update_sums *u)
{
    int n_mb = (int)t->rl.minibatches;
    int64_t n_mini = t->rl.prompts / n_mb * s->group;
    size_t *at = calloc((size_t)s->n_traj, sizeof *at);
    int64_t *count = calloc((size_t)n_mb * 2, sizeof *count); /* per minibatch: targets, responses */
    if (!at || !count) {
        free(at);
        free(count);
        return FAIL(ST_ENOMEM, "no memory for minibatches");
    }
    status st = gather_views(s, at);
    for (int i = 0; i < s->n_traj && st == ST_OK; i++) {
        if (s->t[i].masked) continue;
        int64_t *c = &count[2 * (i / s->group % n_mb)];
        c[0] += algo_targets(&s->t[i]);
        c[1]++;
    }
    st = comm_agree(t->p.world, st);
    if (st == ST_OK) st = trainer_sum(t, count, 2 * n_mb);
    bool check = t->check.logp == CHECK_EVERY || (t->check.logp == CHECK_FIRST && !s->checked);
    if (st == ST_OK && check) st = check_rest(t, s, at, n_mini, u);
    for (int e = 0; e < t->rl.epochs; e++)
        for (int k = 0; k < n_mb && st == ST_OK; k++) {
            learn_job j = {.algo = &t->algo,
                           .temperature = t->rollout.temperature,
                           .backward = true,
                           .check = check && e == 0 && k == 0};
            learn_sums sums;
            double norm = 0;
            make_sequences(t, s, at, k, (double)count[2 * k], (double)count[2 * k + 1], false);
            st = trainer_update(t, &j, s->seq, n_mini, lr, &sums, &norm);
            if (st == ST_OK) add_update(u, &sums, norm);
        }
    s->checked = true;
    free(at);
    free(count);
    return st;
}

static void record_rows(trainer *t, const eval_result *r)
{
    for (int i = 0; i < r->n_row; i++) {
        char name[64];
        snprintf(name, sizeof name, "tool_rate/%s", r->row[i].category);
        metrics_num(t->out, name, r->row[i].tool_rate);
        snprintf(name, sizeof name, "accuracy/%s", r->row[i].category);
        metrics_num(t->out, name, r->row[i].accuracy);
    }
    metrics_num(t->out, "accuracy", r->all.accuracy);
    metrics_num(t->out, "tool_rate", r->all.tool_rate);
    metrics_num(t->out, "mean_calls", r->all.mean_calls);
    metrics_num(t->out, "code_fail_rate", r->all.code_fail_rate);
    metrics_num(t->out, "mean_tokens", r->all.mean_tokens);
}

/* Everything said about the step's trajectories; equal on all ranks. */
static status record_rollouts(trainer *t, rl *s, double *reward_mean, eval_result *rows)
{
    tally_note *mine = calloc((size_t)s->n_traj + 1, sizeof *mine), *all = NULL;
    if (!mine) return FAIL(ST_ENOMEM, "no memory for the tally");
    int64_t n = 0, outcome[TRAJ_OUTCOME_COUNT] = {0};
    for (int i = 0; i < s->n_traj; i++) mine[i] = tally_of(&s->t[i]);
    status st = tally_gather(mine, s->n_traj, t->p.world, &all, &n);
    if (st == ST_OK) st = tally_rows(rows, all, n);
    if (st == ST_OK) {
        double sum = 0, sq = 0;
        int64_t flat_groups = 0;
        for (int64_t i = 0; i < n; i++) {
            sum += all[i].reward;
            sq += (double)all[i].reward * all[i].reward;
            outcome[all[i].outcome]++;
        }
        for (int64_t g = 0; g < n; g += s->group) {
            int same = 1;
            while (same < s->group && all[g + same].reward == all[g].reward) same++;
            flat_groups += same == s->group;
        }
        *reward_mean = sum / (double)n;
        metrics_num(t->out, "reward", *reward_mean);
        metrics_num(t->out, "reward_std", sqrt(fmax(0, sq / (double)n - *reward_mean * *reward_mean)));
        metrics_num(t->out, "flat_groups", (double)flat_groups * s->group / (double)n);
        record_rows(t, rows);
        for (int o = 0; o < TRAJ_OUTCOME_COUNT; o++) {
            char name[64];
            snprintf(name, sizeof name, "outcome/%s", traj_outcome_name((traj_outcome)o));
            metrics_num(t->out, name, (double)outcome[o] / (double)n);
        }
    }
    free(mine);
    free(all);
    return st;
}

/* A sandbox that fails by itself would turn training into noise: most of a step lost is an error, not a number. */
static status check_infra(const eval_result *rows)
{
    if (!(rows->infra > 0.5)) return ST_OK;
    return FAIL(ST_EUNAVAIL,
                "%.0f %% of the step's rollouts failed in the sandbox itself; codedance doctor says what is wrong",
                100 * rows->infra);
}

/* Mean of -log p over sampled tokens: an unbiased estimate of the policy's entropy per token. */
static status entropy_estimate(trainer *t, const rl *s, double *out)
{
    double mine[2] = {0, 0}, *all = calloc(2 * (size_t)t->p.world->size, sizeof *all), sum = 0, n = 0;
    if (!all) return FAIL(ST_ENOMEM, "no memory for the entropy");
    for (int i = 0; i < s->n_traj; i++)
        for (int k = 0; k < s->t[i].n_tok; k++)
            if (s->t[i].mask[k]) mine[0] -= s->t[i].logp[k], mine[1] += 1;
    status st = comm_allgather(t->p.world, mine, all, sizeof mine);
    for (int r = 0; r < t->p.world->size; r++) sum += all[2 * r], n += all[2 * r + 1];
    free(all);
    *out = n > 0 ? sum / n : NAN;
    return st;
}

static void record_update(trainer *t, const update_sums *u, bool checked)
{
    double n = u->learn.loss.n;
    metrics_num(t->out, "loss", u->learn.loss.loss / (double)u->updates);
    metrics_num(t->out, "grad_norm", u->norm / (double)u->updates);
    metrics_num(t->out, "clip_frac", n > 0 ? u->learn.loss.clip_frac / n : 0);
    metrics_num(t->out, "kl_old", n > 0 ? u->learn.loss.kl_old / n : 0);
    metrics_num(t->out, "ratio_max", u->learn.loss.ratio_max);
    if (checked) metrics_num(t->out, "max_logp_diff", 0); /* anything else ended the run */
}

static status roll_out(trainer *t, rl *s, int64_t step, rollout_stats *stats)
{
    double now = clock_now();
    status st = load(t, s, step);
    spans_add(&t->phases, PHASE_DATA, now);
    if (st == ST_OK) st = engine_run(s->e, s->ask, s->n_prompt, s->t, stats, NULL);
    for (int p = 0; p < PHASE_COUNT && st == ST_OK; p++) t->phases.sec[p] += stats->phases.sec[p];
    now = clock_now();
    if (st == ST_OK) st = reward_score(&t->reward, s->t, s->n_traj);
    if (st == ST_OK) algo_mask(&t->algo, s->t, s->n_traj);
    st = comm_agree(t->p.world, st);
    turn_norm z = {0, 1};
    if (st == ST_OK) st = algo_turn_norm(&t->reward, s->t, s->n_traj, t->p.world, &z);
    if (st == ST_OK) st = algos[t->algo.algo].advantage(&t->algo, &t->reward, &z, s->t, s->n_traj, s->group);
    spans_add(&t->phases, PHASE_REWARD, now);
    return comm_agree(t->p.world, st);
}

/* The first prompts of the step with all their rollouts, advantages known: what the policy is about to learn from. */
static status keep_rollouts(trainer *t, const rl *s, int64_t step)
{
    char name[64], root[4096], dir[4096];
    if (t->rl.record_every == 0 || (step > 0 && (step + 1) % t->rl.record_every != 0)) return ST_OK;
    snprintf(name, sizeof name, "step_%06lld", (long long)step + 1);
    TRY(file_join(root, sizeof root, t->p.run_dir, "rollouts"));
    TRY(file_join(dir, sizeof dir, root, name));
    record r;
    status st = record_open(&r, dir);
    int64_t first = (int64_t)s->n_prompt * t->p.world->rank;
    for (int i = 0; i < s->n_traj && st == ST_OK; i++)
        if (first + i / s->group < t->rl.record_prompts) st = record_add(&r, &s->t[i], first + i / s->group);
    st = comm_agree(t->p.world, st);
    if (st == ST_OK) st = record_write(&r, t->p.world);
    record_free(&r);
    return comm_agree(t->p.world, st);
}

static status step_inside(trainer *t, rl *s, int64_t step, double lr)
{
    rollout_stats stats = {0};
    update_sums u = {.learn = learn_sums_zero()};
    eval_result *rows = calloc(1, sizeof *rows);
    double reward = 0, entropy = 0;
    bool checked = t->check.logp == CHECK_EVERY || (t->check.logp == CHECK_FIRST && !s->checked);
    status st = rows ? ST_OK : FAIL(ST_ENOMEM, "no memory for rl");
    if (st == ST_OK) st = roll_out(t, s, step, &stats);
    if (st == ST_OK) st = record_rollouts(t, s, &reward, rows);
    if (st == ST_OK) st = check_infra(rows);
    if (st == ST_OK) st = keep_rollouts(t, s, step);
    if (st == ST_OK) st = entropy_estimate(t, s, &entropy);
    if (st == ST_OK) st = learn(t, s, lr, &u);
    int64_t n[3] = {stats.sampled, stats.prefilled, stats.tool_calls};
    if (st == ST_OK) st = trainer_sum(t, n, 3);
    if (st == ST_OK) {
        record_update(t, &u, checked);
        metrics_num(t->out, "entropy", entropy);
        metrics_num(t->out, "sampled_tokens", (double)n[0]);
        metrics_num(t->out, "prefilled_tokens", (double)n[1]);
        metrics_num(t->out, "tool_calls", (double)n[2]);
        metrics_num(t->out, "rollout_s", stats.wall_s);
        metrics_num(t->out, "tool_wait_s", stats.tool_wait_s);
        metrics_num(t->out, "idle_s", stats.idle_s);
        t->sums = u.learn;
        t->sums.tokens += n[0];
        t->sums.flops += 2.0 * (double)model_param_count(t->p.m) *
                         (double)(n[0] + n[1]); /* generation: the weights once per token */
        snprintf(t->line, sizeof t->line, "reward %.3f  acc %.3f  tool %.2f  fail %.2f  calls %.2f  |g| %.2f", reward,
                 rows->all.accuracy, rows->all.tool_rate, rows->all.code_fail_rate, rows->all.mean_calls,
                 u.norm / (double)u.updates);
    }
    free(rows);
    return st;
}

static status rl_step(trainer *t, void *state, int64_t step, double lr)
{
    status st = step_inside(t, state, step, lr);
    unload(state);
    return st;
}

static loader *rl_cursor(void *state) { return ((rl *)state)->order; }
static int64_t rl_steps(const trainer *t) { return t->rl.steps; }
static const optim_opts *rl_optim(const trainer *t) { return &t->optim_rl; }
const stage_def stage_rl = {"rl", rl_steps, rl_optim, true, rl_open, rl_step, rl_cursor, rl_close};
