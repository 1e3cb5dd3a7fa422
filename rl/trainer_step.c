/* What every stage shares: who owns which sequences, one update, sums over ranks, opening data. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "rl/stage.h"

void trainer_part(const trainer *t, int64_t n, int64_t *first, int64_t *count)
{
    int s, k;
    optim_shards(t->x, &s, &k);
    int64_t shards = (int64_t)k * t->p.world->size;
    *first = s * n / shards;
    *count = (s + k) * n / shards - *first;
}

status trainer_sum(trainer *t, int64_t *v, int n)
{
    size_t bytes = sizeof *v * (size_t)n;
    int64_t *all = malloc(bytes * (size_t)t->p.world->size);
    if (!all) return FAIL(ST_ENOMEM, "no memory for a sum over ranks");
    status st = comm_allgather(t->p.world, v, all, bytes);
    for (int i = 0; i < n && st == ST_OK; i++) {
        v[i] = 0;
        for (int r = 0; r < t->p.world->size; r++) v[i] += all[r * n + i];
    }
    free(all);
    return st;
}

static void add_sums(learn_sums *all, const learn_sums *s)
{
    all->loss.loss += s->loss.loss;
    all->loss.ratio_max = fmax(all->loss.ratio_max, s->loss.ratio_max);
    all->loss.clip_frac += s->loss.clip_frac;
    all->loss.kl_old += s->loss.kl_old;
    all->loss.n += s->loss.n;
    all->logp += s->logp;
    if (!(s->max_diff <= all->max_diff)) all->max_diff = s->max_diff;
    all->tokens += s->tokens;
    all->batches += s->batches;
    all->flops += s->flops;
}

/* This rank's shards one after the other; own_sums[k] receives the sums of its k-th. */
static status pass(trainer *t, const learn_job *j, const batch_seq *seq, int64_t n, int n_shard, learn_sums *own_sums)
{
    int first, own;
    optim_shards(t->x, &first, &own);
    int64_t base = first * n / n_shard;
    for (int s = first; s < first + own; s++) {
        int64_t from = s * n / n_shard, to = (s + 1) * n / n_shard;
        learn_sums *p = &own_sums[s - first];
        TRY(learner_run(t->learn, j, seq + (from - base), (int)(to - from), p, &t->phases));
        if (p->diff_seq >= 0) {
            const batch_seq *bad = &seq[from - base + p->diff_seq];
            return FAIL(
                ST_EINVAL,
                "log-prob check: %s, target %d: the rollout's log-prob differs from the trainer's by %.3g; they must "
                "be equal bit for bit (check.logp)",
                bad->name ? bad->name : "a sequence", p->diff_tok, p->max_diff);
        }
        if (j->backward) optim_shard_done(t->x);
    }
    return ST_OK;
}

enum { MOST_SKIPPED = 10 };

status trainer_apply(trainer *t, double lr, double *grad_norm)
{
    bool skipped = false;
    TRY(optim_step(t->x, lr, grad_norm, t->train.on_nonfinite ? &skipped : NULL));
    t->n_skipped = skipped ? t->n_skipped + 1 : 0;
    if (!skipped) return ST_OK;
    metrics_num(t->out, "skipped", 1);
    if (t->n_skipped == MOST_SKIPPED)
        return fail_within(ST_EINVAL, "skipped %d updates in a row (train.on_nonfinite)", MOST_SKIPPED);
    if (t->p.world->rank == 0) log_warn("skipped an update: %s", fail_message());
    return ST_OK;
}

status trainer_update(trainer *t, const learn_job *j, const batch_seq *seq, int64_t n, double lr, learn_sums *sums,
                      double *grad_norm)
{
    int first, own;
    optim_shards(t->x, &first, &own);
    int n_shard = own * t->p.world->size;
    learn_sums *mine = calloc((size_t)own + (size_t)n_shard, sizeof *mine);
    if (!mine) return FAIL(ST_ENOMEM, "no memory for %d gradient shards", n_shard);
    learn_sums *all = mine + own;
    for (int s = 0; s < own; s++) mine[s] = learn_sums_zero();
    status st = comm_agree(t->p.world, pass(t, j, seq, n, n_shard, mine));
    double now = clock_now();
    if (st == ST_OK && j->backward) st = trainer_apply(t, lr, grad_norm);
    spans_add(&t->phases, PHASE_OPTIMIZER, now);
    if (st == ST_OK) st = comm_allgather(t->p.world, mine, all, sizeof *mine * (size_t)own);
    if (st == ST_OK) {
        *sums = learn_sums_zero();
        for (int s = 0; s < n_shard; s++) add_sums(sums, &all[s]);
    }
    free(mine);
    return st;
}

status trainer_need_learner(trainer *t)
{
    if (t->learn) return ST_OK;
    return learner_create(&t->learn, t->p.m, t->p.c, t->p.ip, t->train.max_tokens, t->train.max_patches);
}

status trainer_open_data(trainer *t, const char *section, const char *path, dataset **d, loader **l, bool shuffle)
{
    if (!path || !*path)
        return config_fail(t->cfg, section, "data",
                           "the stage %s needs data: a .jsonl file, a .h5 shard or a directory of shards", section);
    TRY(dataset_open(d, path));
    if (dataset_count(*d) == 0) {
        dataset_close(*d);
        *d = NULL;
        return config_fail(t->cfg, section, "data", "%s has no rows", path);
    }
    return loader_create(l, *d, t->p.seed, shuffle);
}
