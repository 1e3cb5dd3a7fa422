#include "rl/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/hf.h"
#include "rl/checkpoint.h"
#include "rl/stage.h"

static const stage_def *const stages[] = {&stage_warmup, &stage_sft, &stage_rl};
enum { STAGES = sizeof stages / sizeof stages[0] };

static const stage_def *find_stage(const char *name)
{
    for (int i = 0; i < STAGES; i++)
        if (strcmp(stages[i]->name, name) == 0) return stages[i];
    return NULL;
}

static status check_stages(const trainer *t)
{
    if (t->train.stages.n == 0) return config_fail(t->cfg, "train", "stages", "names no stage (warmup, sft, rl)");
    for (int i = 0; i < t->train.stages.n; i++) {
        const char *name = t->train.stages.v[i];
        if (!find_stage(name))
            return config_fail(t->cfg, "train", "stages", "unknown stage '%s' (warmup, sft, rl)", name);
        for (int k = 0; k < i; k++)
            if (strcmp(t->train.stages.v[k], name) == 0)
                return config_fail(t->cfg, "train", "stages", "stage '%s' twice", name);
    }
    return ST_OK;
}

static bool has_stage(const trainer *t, const char *name)
{
    for (int i = 0; i < t->train.stages.n; i++)
        if (strcmp(t->train.stages.v[i], name) == 0) return true;
    return false;
}

static status check_rl(const trainer *t)
{
    if (!has_stage(t, "rl")) return ST_OK;
    int64_t unit = t->rl.minibatches * t->p.world->size;
    if (t->rl.prompts % unit)
        return config_fail(t->cfg, "rl", "prompts",
                           "%lld prompts can't be split over %d ranks and %lld minibatches; use a multiple of %lld",
                           (long long)t->rl.prompts, t->p.world->size, (long long)t->rl.minibatches, (long long)unit);
    if (t->rollout.temperature <= 0)
        return config_fail(t->cfg, "rollout", "temperature",
                           "rl needs a temperature above 0: greedy rollouts of a group are all the same");
    if (t->rollout.force || t->rollout.shuffle_tools)
        return config_fail(t->cfg, "rollout", t->rollout.force ? "force" : "shuffle_tools",
                           "is for evaluation only, not for rl");
    return ST_OK;
}

status trainer_create(trainer **out, comm *world, config *c)
{
    trainer *t = calloc(1, sizeof *t);
    if (!t) return FAIL(ST_ENOMEM, "no memory for the trainer");
    t->p.world = world;
    t->cfg = c;
    struct {
        const char *section;
        const cfg_field *fields;
        void *dst;
    } bind[] = {{"train", train_fields, &t->train},
                {"warmup", warmup_fields, &t->warmup},
                {"sft", sft_fields, &t->sft},
                {"rl", rl_fields, &t->rl},
                {"rl", algo_fields, &t->algo},
                {"optim_warmup", optim_warmup_fields, &t->optim_warmup},
                {"optim_sft", optim_sft_fields, &t->optim_sft},
                {"optim_rl", optim_rl_fields, &t->optim_rl},
                {"rollout", rollout_fields, &t->rollout},
                {"reward", reward_fields, &t->reward},
                {"eval", eval_fields, &t->eval},
                {"check", check_fields, &t->check}};
    status st = ST_OK;
    for (size_t i = 0; i < sizeof bind / sizeof *bind && st == ST_OK; i++)
        st = config_bind(c, bind[i].section, bind[i].fields, bind[i].dst);
    if (st == ST_OK) st = check_stages(t);
    if (st == ST_OK) st = check_rl(t);
    if (st != ST_OK)
        trainer_destroy(t);
    else
        *out = t;
    return st;
}

bool trainer_needs_boxes(const trainer *t)
{
    bool answers = has_stage(t, "rl") || (has_stage(t, "sft") && t->eval.data && *t->eval.data);
    return answers && t->rollout.max_turns > 0;
}

void trainer_destroy(trainer *t)
{
    if (!t) return;
    learner_destroy(t->learn);
    optim_destroy(t->x);
    metrics_close(t->out);
    free(t);
}

/* Where a run stands: `step` steps of stage number `stage` are done. */
typedef struct position {
    int stage;
    int64_t step, total;
    loader_state data;
} position;

static char *state_text(const trainer *t, const position *at)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_member_str(&o, "stage", t->train.stages.v[at->stage]);
    json_member_int(&o, "stage_index", at->stage);
    json_member_int(&o, "step", at->step);
    json_member_int(&o, "total", at->total);
    json_member_int(&o, "epoch", at->data.epoch);
    json_member_int(&o, "index", at->data.index);
    json_member_int(&o, "seed", (int64_t)t->p.seed);
    json_close(&o, '}');
    char *text = strndup(o.text, o.len);
    json_end(&o);
    CHECK(text);
    return text;
}

static status read_state(const trainer *t, const char *path, position *at)
{
    json *root;
    const json *s;
    TRY(checkpoint_state(path, &root, &s));
    const char *stage;
    int64_t index, seed;
    status st;
    TRY_OR(json_need_str(s, "stage", &stage), done);
    TRY_OR(json_need_int(s, "stage_index", 0, 100, &index), done);
    TRY_OR(json_need_int(s, "step", 0, INT64_MAX, &at->step), done);
    TRY_OR(json_need_int(s, "total", 0, INT64_MAX, &at->total), done);
    TRY_OR(json_need_int(s, "epoch", 0, INT64_MAX, &at->data.epoch), done);
    TRY_OR(json_need_int(s, "index", 0, INT64_MAX, &at->data.index), done);
    TRY_OR(json_need_int(s, "seed", INT64_MIN, INT64_MAX, &seed), done);
    at->stage = (int)index;
    if (index >= t->train.stages.n || strcmp(t->train.stages.v[index], stage) != 0)
        st = FAIL(ST_EINVAL, "%s was written in stage %lld '%s', which train.stages doesn't have there", path,
                  (long long)index, stage);
    else if ((uint64_t)seed != t->p.seed)
        st =
            FAIL(ST_EINVAL, "%s was written with run.seed %lld, not %lld", path, (long long)seed, (long long)t->p.seed);
done:
    json_free(root);
    return st;
}

static status save(trainer *t, const position *at)
{
    char *dir = NULL, name[48];
    CHECK(asprintf(&dir, "%s/checkpoints", t->p.run_dir) >= 0);
    snprintf(name, sizeof name, "step_%08lld", (long long)at->total);
    char *state = state_text(t, at);
    double now = clock_now();
    status st = checkpoint_save(dir, name, t->p.m, t->x, t->p.world, t->p.side_dir, state, (int)t->train.keep);
    spans_add(&t->phases, PHASE_CHECKPOINT, now);
    free(state);
    free(dir);
    return st;
}

static void record_common(trainer *t, double wall, double lr)
{
    const learn_sums *s = &t->sums;
    metrics_num(t->out, "lr", lr);
    metrics_num(t->out, "step_s", wall);
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use) == 0) metrics_num(t->out, "peak_rss_mib", (double)use.ru_maxrss / 1024);
    if (s->tokens > 0) {
        double gflops = s->flops / wall * 1e-9;
        metrics_num(t->out, "tokens", (double)s->tokens);
        metrics_num(t->out, "tokens_per_s", (double)s->tokens / wall);
        metrics_num(t->out, "gflops", gflops);
        if (t->peak_gflops > 0) metrics_num(t->out, "share_of_peak", gflops / (t->peak_gflops * t->p.world->size));
    }
    for (int p = 0; p < PHASE_COUNT; p++) {
        char name[64];
        if (t->phases.sec[p] == 0) continue;
        snprintf(name, sizeof name, "time/%s", phase_name((phase)p));
        metrics_num(t->out, name, t->phases.sec[p]);
    }
}

static void print_line(const trainer *t, const char *stage, int64_t step, int64_t steps, double wall, double lr)
{
    char speed[96] = "";
    if (t->sums.tokens > 0 && t->peak_gflops > 0)
        snprintf(speed, sizeof speed, "  %.0f tok/s  %.1f GF/s (%.0f %% of peak)", (double)t->sums.tokens / wall,
                 t->sums.flops / wall * 1e-9, 100e-9 * t->sums.flops / wall / (t->peak_gflops * t->p.world->size));
    log_info("%s %lld/%lld  %s  lr %.2e%s  %.2f s", stage, (long long)step, (long long)steps, t->line, lr, speed, wall);
}

/* Whether any rank was asked to stop. Collective. */
static status asked_to_stop(trainer *t, bool *stop)
{
    int64_t n = t->p.stop && *t->p.stop;
    TRY(trainer_sum(t, &n, 1));
    *stop = n > 0;
    return ST_OK;
}

static status run_steps(trainer *t, const stage_def *s, void *state, position *at, progress *bar)
{
    int64_t steps = s->steps(t);
    while (at->step < steps) {
        double start = clock_now(), lr = optim_lr(s->optim(t), at->step, steps);
        spans_reset(&t->phases);
        t->sums = learn_sums_zero();
        TRY(s->step(t, state, at->step, lr));
        double wall = clock_now() - start;
        record_common(t, wall, lr);
        TRY(comm_agree(t->p.world, metrics_step(t->out, s->name, at->step)));
        at->step++;
        at->total++;
        at->data = loader_tell(s->cursor(state));
        progress_set(bar, at->step, t->line);
        bool last = at->step == steps;
        if (last || s == &stage_rl || at->step % t->train.log_every == 0)
            print_line(t, s->name, at->step, steps, wall, lr);
        if (s->evaluated && t->eval.every && at->step % t->eval.every == 0 && !last)
            TRY(trainer_evaluate(t, s->name, at->step));
        bool stop;
        TRY(asked_to_stop(t, &stop));
        bool due = t->train.checkpoint_every && at->step % t->train.checkpoint_every == 0;
        if (!last && (stop || due)) TRY(save(t, at));
        if (!last && stop)
            return FAIL(ST_EAGAIN, "stopped after %s step %lld; go on with --resume", s->name, (long long)at->step);
    }
    return ST_OK;
}

static status run_stage(trainer *t, position *at, const char *restore)
{
    const stage_def *s = find_stage(t->train.stages.v[at->stage]);
    void *state = NULL;
    progress *bar = NULL;
    bool fresh = at->step < s->steps(t);
    status st;
    TRY_OR(optim_create(&t->x, t->p.m, t->p.world, s->optim(t)), done);
    TRY_OR(comm_agree(t->p.world, s->open(t, &state)), done);
    if (restore) {
        TRY_OR(checkpoint_load(restore, t->p.m, t->x, t->p.world), done);
        TRY_OR(loader_seek(s->cursor(state), at->data), done);
    }
    if (!t->out && fresh)
        TRY_OR(comm_agree(t->p.world, metrics_open(&t->out, t->p.run_dir, t->p.world->rank, s->name, at->step)), done);
    bar = progress_start(s->name, s->steps(t));
    st = run_steps(t, s, state, at, bar);
    progress_end(bar);
    if (st == ST_OK && fresh && s->evaluated) st = trainer_evaluate(t, s->name, at->step);
    if (st == ST_OK && fresh) st = save(t, at);
done:
    if (state) s->close(state);
    optim_destroy(t->x);
    t->x = NULL;
    return st;
}

static status export_model(trainer *t)
{
    char *dir = NULL;
    CHECK(asprintf(&dir, "%s/export", t->p.run_dir) >= 0);
    status st = ST_OK;
    if (t->p.world->rank == 0) {
        if (mkdir(dir, 0777) != 0 && errno != EEXIST)
            st = FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
        else
            st = hf_export(t->p.m, t->p.side_dir, dir, "fp32");
    }
    st = comm_agree(t->p.world, st);
    if (st == ST_OK) log_info("model written to %s", dir);
    free(dir);
    return st;
}

/* Finds where to start: a fresh run refuses a directory that already holds one. */
static status find_start(trainer *t, bool resume, position *at, char **restore)
{
    char *dir = NULL;
    CHECK(asprintf(&dir, "%s/checkpoints", t->p.run_dir) >= 0);
    status st = ST_OK;
    *restore = NULL;
    if (t->p.world->rank == 0) st = checkpoint_find(dir, restore);
    if (st == ST_OK && *restore && !resume)
        st = FAIL(ST_EINVAL, "%s already holds checkpoints: go on with --resume, or choose another run.dir",
                  t->p.run_dir);
    free(dir);
    st = comm_agree(t->p.world, st);
    char path[4096] = "";
    if (st == ST_OK && *restore) snprintf(path, sizeof path, "%s", *restore);
    if (st == ST_OK) st = comm_bcast(t->p.world, path, sizeof path, 0);
    free(*restore);
    *restore = NULL;
    if (st != ST_OK || !*path) return st;
    *restore = strdup(path);
    CHECK(*restore);
    return comm_agree(t->p.world, read_state(t, path, at));
}

status trainer_run(trainer *t, const trainer_parts *p, bool resume)
{
    CHECK(p->world == t->p.world);
    t->p = *p;
    position at = {0};
    char *restore = NULL;
    status st = find_start(t, resume, &at, &restore);
    if (st == ST_OK) t->peak_gflops = p->b->peak_gflops(p->b);
    if (st == ST_OK && restore)
        log_info("resuming from %s: stage %s, step %lld", restore, t->train.stages.v[at.stage], (long long)at.step);
    for (; st == ST_OK && at.stage < t->train.stages.n; at.stage++) {
        st = run_stage(t, &at, restore);
        free(restore);
        restore = NULL;
        at.step = 0;
        at.data = (loader_state){0};
    }
    free(restore);
    if (st == ST_OK) st = export_model(t);
    return st;
}
