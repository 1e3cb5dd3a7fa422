/* Evaluation while training: eval.data under a rollout engine of its own, one file per measurement. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "rl/stage.h"

static void record(trainer *t, const eval_result *r)
{
    for (int i = 0; i <= r->n_row; i++) {
        const eval_row *row = i < r->n_row ? &r->row[i] : &r->all;
        char name[64];
        snprintf(name, sizeof name, "eval_acc/%s", row->category);
        metrics_num(t->out, name, row->accuracy);
        snprintf(name, sizeof name, "eval_tool/%s", row->category);
        metrics_num(t->out, name, row->tool_rate);
    }
    metrics_num(t->out, "eval_code_fail_rate", r->all.code_fail_rate);
    metrics_num(t->out, "eval_infra", r->infra);
}

static void print_rows(const eval_result *r)
{
    for (int i = 0; i <= r->n_row; i++) {
        const eval_row *row = i < r->n_row ? &r->row[i] : &r->all;
        log_info("  %-12s acc %.3f [%.3f %.3f]  tool %.3f  calls %.2f  fail %.3f  n %lld", row->category, row->accuracy,
                 row->low, row->high, row->tool_rate, row->mean_calls, row->code_fail_rate, (long long)row->n);
    }
}

static status measure(trainer *t, eval_result *r, const char *dir)
{
    rollout_opts o = t->rollout;
    o.group = 1;
    o.temperature = t->eval.temperature;
    rollout_parts p = {t->p.m, t->p.c, t->p.ip, t->p.boxes};
    engine *e = NULL;
    dataset *d = NULL;
    status st = dataset_open(&d, t->eval.data);
    if (st == ST_OK) st = engine_create(&e, &p, &o);
    st = comm_agree(t->p.world, st);
    /* A seed of its own: training must not sample what evaluation samples. */
    eval_opts eo = {.limit = t->eval.limit,
                    .keep = t->eval.keep,
                    .batch = t->eval.batch,
                    .seed = t->p.seed ^ 0x6576616cu,
                    .dir = dir,
                    .progress = "evaluation"};
    if (st == ST_OK) st = eval_run(r, e, d, t->p.c, t->p.ip, &t->reward, t->p.world, &eo);
    engine_destroy(e);
    dataset_close(d);
    return st;
}

status trainer_evaluate(trainer *t, const char *stage, int64_t step)
{
    if (!t->eval.data || !*t->eval.data) return ST_OK;
    char *root = NULL, *dir = NULL, *file = NULL;
    CHECK(asprintf(&root, "%s/eval", t->p.run_dir) >= 0);
    CHECK(asprintf(&dir, "%s/%s_%06lld", root, stage, (long long)step) >= 0);
    CHECK(asprintf(&file, "%s.json", dir) >= 0);
    status st = ST_OK;
    if (mkdir(root, 0777) != 0 && errno != EEXIST) st = FAIL(ST_EIO, "%s: %s", root, strerror(errno));
    eval_result *r = calloc(1, sizeof *r);
    if (!r) st = FAIL(ST_ENOMEM, "no memory for an evaluation");
    double now = clock_now();
    st = comm_agree(t->p.world, st);
    if (st == ST_OK) st = measure(t, r, dir);
    if (st == ST_OK) {
        eval_label l = {.arm = t->train.arm, .stage = stage, .seed = (int64_t)t->p.seed, .step = step, .force = "free"};
        if (t->p.world->rank == 0) st = eval_write(file, r, &l);
        st = comm_agree(t->p.world, st);
    }
    if (st == ST_OK) {
        log_info("evaluation after %s step %lld (%.1f s): %s", stage, (long long)step, clock_now() - now, file);
        print_rows(r);
        record(t, r);
        char name[64];
        snprintf(name, sizeof name, "%s_eval", stage);
        st = metrics_step(t->out, name, step);
    }
    free(r);
    free(root);
    free(dir);
    free(file);
    return st;
}
