#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"
#include "rl/eval.h"
#include "rl/stage.h"

typedef struct eval_args {
    arg_list files, sets;
    const char *dir, *data, *force, *arm, *stage, *out, *trajectories, *dtype, *device;
    int64_t limit, keep, seed, step, tile_scale;
    bool shuffle;
} eval_args;

static void print_share(double v)
{
    if (isnan(v))
        printf("      -");
    else
        printf("  %5.3f", v);
}

static void print_table(const eval_result *r)
{
    printf("%-12s %6s  %5s  %-15s  %5s  %5s  %5s  %5s  %5s  %6s\n", "category", "n", "acc", "95 % interval", "tool",
           "calls", "fail", "acc|t", "acc|d", "tokens");
    for (int i = 0; i <= r->n_row; i++) {
        const eval_row *w = i < r->n_row ? &r->row[i] : &r->all;
        printf("%-12s %6lld", w->category, (long long)w->n);
        print_share(w->accuracy);
        printf("  [%5.3f, %5.3f]", w->low, w->high);
        const double rest[] = {w->tool_rate, w->mean_calls, w->code_fail_rate, w->acc_tool, w->acc_direct};
        for (size_t k = 0; k < sizeof rest / sizeof *rest; k++) print_share(rest[k]);
        printf("  %6.1f\n", w->mean_tokens);
    }
    if (r->infra > 0)
        printf("left out: %.2f %% of the trajectories failed in the sandbox itself, not in the model's code\n",
               100 * r->infra);
}

static status measure(setup *s, const eval_args *a, const rollout_opts *ro, const reward_opts *rw,
                      const evaluate_opts *eo)
{
    engine *e = NULL;
    dataset *d = NULL;
    eval_result *r = calloc(1, sizeof *r);
    if (r == NULL) return FAIL(ST_ENOMEM, "out of memory");
    status st = ST_OK;
    rollout_parts parts = {s->m, &s->chat, &s->ip, s->boxes};
    rollout_opts o = *ro;
    o.group = 1;
    o.temperature = eo->temperature;
    if (st == ST_OK) st = dataset_open(&d, eo->data);
    if (st == ST_OK) st = engine_create(&e, &parts, &o);
    st = comm_agree(s->world, st);
    eval_opts how = {.limit = eo->limit,
                     .keep = a->trajectories != NULL ? eo->keep : 0,
                     .batch = eo->batch,
                     .seed = (uint64_t)s->o.seed ^ 0x6576616cu,
                     .dir = a->trajectories,
                     .progress = "evaluation"};
    if (st == ST_OK) st = eval_run(r, e, d, &s->chat, &s->ip, rw, s->world, &how);
    if (st == ST_OK && s->world->rank == 0) {
        print_table(r);
        eval_label l = {.arm = a->arm,
                        .stage = a->stage,
                        .seed = s->o.seed,
                        .step = a->step,
                        .tile_scale = a->tile_scale,
                        .force = rollout_force_name(ro),
                        .shuffled = ro->shuffle_tools};
        if (a->out != NULL) st = eval_write(a->out, r, &l);
    }
    engine_destroy(e);
    dataset_close(d);
    free(r);
    return comm_agree(s->world, st);
}

/* The options are shorthands for config keys. */
static status load(setup *s, const eval_args *a)
{
    char text[6][512];
    const char *sets[64 + 6];
    int n = 0, k = 0;
    for (; n < a->sets.n; n++) sets[n] = a->sets.v[n];
    if (a->force != NULL) snprintf(text[k], sizeof *text, "rollout.force=%s", a->force), sets[n++] = text[k++];
    if (a->shuffle) sets[n++] = "rollout.shuffle_tools=true";
    if (a->limit >= 0) snprintf(text[k], sizeof *text, "eval.limit=%lld", (long long)a->limit), sets[n++] = text[k++];
    if (a->keep >= 0) snprintf(text[k], sizeof *text, "eval.keep=%lld", (long long)a->keep), sets[n++] = text[k++];
    if (a->seed >= 0) snprintf(text[k], sizeof *text, "run.seed=%lld", (long long)a->seed), sets[n++] = text[k++];
    return setup_config(s, a->files.v, a->files.n, sets, n);
}

static status evaluate(setup *s, const eval_args *a)
{
    rollout_opts ro;
    reward_opts rw;
    evaluate_opts eo;
    TRY(load(s, a));
    TRY(config_bind(s->cfg, "rollout", rollout_fields, &ro));
    TRY(config_bind(s->cfg, "reward", reward_fields, &rw));
    TRY(config_bind(s->cfg, "eval", eval_fields, &eo));
    TRY(setup_finish(s));
    if (a->data != NULL) eo.data = (char *)a->data;
    if (eo.data == NULL || *eo.data == '\0') return args_usage("give --data PATH, or a --config with eval.data");
    TRY(setup_open(s, SETUP_MODEL | (ro.max_turns > 0 ? SETUP_BOXES : 0), a->dir));
    return measure(s, a, &ro, &rw, &eo);
}

status cmd_eval(int argc, char **argv)
{
    eval_args a = {.arm = "main", .stage = "eval", .limit = -1, .keep = -1, .seed = -1};
    bool helped = false;
    const arg table[] = {
        {"model", ARG_STR, &a.dir, "DIR", "Hugging Face directory, such as RUN/export or a checkpoint"},
        {"data", ARG_STR, &a.data, "PATH", "prompts with answers: .jsonl, .h5 or a directory of shards"},
        {"config", ARG_LIST, &a.files, "FILE", "config with the rollout, sandbox, reward and eval sections"},
        {"dtype", ARG_STR, &a.dtype, "fp32|bf16", "what weights are kept in (model.dtype)"},
        {"device", ARG_STR, &a.device, "auto|cpu|cuda:N", "where the model runs (device.device)"},
        {"set", ARG_LIST, &a.sets, "SECTION.KEY=VALUE", "override one key"},
        {"limit", ARG_INT, &a.limit, "N", "rows measured, 0 = all (eval.limit)"},
        {"force", ARG_STR, &a.force, "direct|tool", "make every first turn direct, or a call (rollout.force)"},
        {"shuffle-tools", ARG_FLAG, &a.shuffle, NULL, "exchange returned pictures between trajectories (control)"},
        {"seed", ARG_INT, &a.seed, "N", "seed of the sampling (run.seed)"},
        {"arm", ARG_STR, &a.arm, "NAME", "label in the result file"},
        {"stage", ARG_STR, &a.stage, "NAME", "label in the result file"},
        {"step", ARG_INT, &a.step, "N", "label in the result file"},
        {"tile-scale", ARG_INT, &a.tile_scale, "K", "label in the result file: size of the detail in the pictures"},
        {"out", ARG_STR, &a.out, "FILE.json", "write the result"},
        {"keep", ARG_INT, &a.keep, "K", "trajectories kept per category (eval.keep)"},
        {"trajectories", ARG_STR, &a.trajectories, "DIR", "where kept trajectories go"},
        {.name = NULL}};
    TRY(args_parse(
        argc, argv, "measures a model on a dataset, by category, with 95 % Wilson intervals",
        "codedance eval --config configs/demo.yaml --model runs/demo/export --data data/eval --out eval.json", table,
        NULL, &helped));
    if (helped) return ST_OK;
    TRY(setup_dtype(&a.sets, a.dtype));
    TRY(setup_device(&a.sets, a.device));
    setup s = {0};
    status st = evaluate(&s, &a);
    setup_close(&s);
    return st;
}
