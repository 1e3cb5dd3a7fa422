#include "rl/eval.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "rl/record.h"
#include "rl/render.h"
#include "rl/tally.h"

typedef struct evaluation {
    engine *e;
    dataset *d;
    const image_processor *ip;
    const reward_opts *r;
    const eval_opts *o;
    int group;
    bool *kept; /* (rows) trajectories of these rows are written */
    tally_note *note;
    int64_t n_note;
    record record; /* of kept trajectories */
} evaluation;

/* Which rows are the first `keep` of their category: the same choice for any rank count. */
static status choose_kept(evaluation *v, int64_t rows)
{
    char name[EVAL_MAX_CATEGORIES][32];
    int64_t seen[EVAL_MAX_CATEGORIES] = {0};
    int used = 0;
    for (int64_t i = 0; i < rows; i++) {
        sample s;
        TRY(dataset_sample(v->d, i, &s));
        char category[32];
        snprintf(category, sizeof category, "%s", s.category ? s.category : "all");
        sample_free(&s);
        int k = 0;
        while (k < used && strcmp(name[k], category) != 0) k++;
        if (k == EVAL_MAX_CATEGORIES) continue;
        if (k == used) memcpy(name[used++], category, sizeof category);
        v->kept[i] = seen[k]++ < v->o->keep;
    }
    return ST_OK;
}

/* Rows [from, from + n) rolled out together. */
static status run_batch(evaluation *v, int64_t from, int n)
{
    prompt_row *row = calloc((size_t)n, sizeof *row);
    rollout_prompt *p = calloc((size_t)n, sizeof *p);
    traj *t = calloc((size_t)n * (size_t)v->group, sizeof *t);
    status st = row && p && t ? ST_OK : FAIL(ST_ENOMEM, "no memory to evaluate %d prompts", n);
    bool ran = false;
    for (int i = 0; i < n && st == ST_OK; i++) {
        st = prompt_load(&row[i], v->d, from + i, v->ip, true);
        p[i] = (rollout_prompt){.sample = &row[i].s,
                                .prompt = i,
                                .seed = v->o->seed,
                                .prompt_id = (uint64_t)(from + i),
                                .picture = row[i].picture,
                                .view = row[i].view,
                                .n_image = row[i].n_image};
    }
    if (st == ST_OK) {
        rollout_stats stats;
        st = engine_run(v->e, p, n, t, &stats, NULL);
        ran = st == ST_OK;
    }
    if (st == ST_OK) st = reward_score(v->r, t, n * v->group);
    for (int k = 0; k < n * v->group && ran; k++) {
        int64_t at = from + k / v->group;
        if (st == ST_OK) v->note[v->n_note++] = tally_of(&t[k]);
        if (st == ST_OK && v->kept && v->kept[at]) st = record_add(&v->record, &t[k], at);
        traj_free(&t[k]);
    }
    for (int i = 0; row && i < n; i++) prompt_free(&row[i]);
    free(row);
    free(p);
    free(t);
    return st;
}

status eval_run(eval_result *out, engine *e, dataset *d, const chat *c, const image_processor *ip, const reward_opts *r,
                comm *world, const eval_opts *o)
{
    (void)c; /* the engine renders */
    int64_t rows = dataset_count(d);
    if (o->limit > 0 && o->limit < rows) rows = o->limit;
    int64_t first = rows * world->rank / world->size, end = rows * (world->rank + 1) / world->size;
    evaluation v = {.e = e, .d = d, .ip = ip, .r = r, .o = o, .group = engine_group(e)};
    bool keep = o->keep > 0 && o->dir;
    v.note = calloc((size_t)((end - first) * v.group) + 1, sizeof *v.note);
    if (keep) v.kept = calloc((size_t)rows + 1, sizeof *v.kept);
    status st =
        v.note && (!keep || v.kept) ? ST_OK : FAIL(ST_ENOMEM, "no memory to evaluate %lld rows", (long long)rows);
    if (st == ST_OK && keep) st = choose_kept(&v, rows);
    if (st == ST_OK && keep) st = record_open(&v.record, o->dir);
    progress *bar = o->progress ? progress_start(o->progress, end - first) : NULL;
    for (int64_t at = first; at < end && st == ST_OK; at += o->batch) {
        st = run_batch(&v, at, (int)(end - at < o->batch ? end - at : o->batch));
        if (bar) progress_set(bar, at + o->batch < end ? at + o->batch - first : end - first, NULL);
    }
    progress_end(bar);
    st = comm_agree(world, st);
    tally_note *all = NULL;
    int64_t n_all = 0;
    if (st == ST_OK) st = tally_gather(v.note, v.n_note, world, &all, &n_all);
    if (st == ST_OK) st = tally_rows(out, all, n_all);
    if (st == ST_OK && keep) st = record_write(&v.record, world);
    free(all);
    free(v.note);
    free(v.kept);
    record_free(&v.record);
    return comm_agree(world, st);
}

static void put_num(json_out *o, const char *key, double value) { json_member_num(o, key, value); }

static void put_row(json_out *o, const eval_row *r)
{
    json_open(o, '{');
    json_member_str(o, "category", r->category);
    json_member_int(o, "n", r->n);
    put_num(o, "accuracy", r->accuracy);
    put_num(o, "low", r->low);
    put_num(o, "high", r->high);
    put_num(o, "tool_rate", r->tool_rate);
    put_num(o, "mean_calls", r->mean_calls);
    put_num(o, "code_fail_rate", r->code_fail_rate);
    put_num(o, "acc_tool", r->acc_tool);
    put_num(o, "acc_direct", r->acc_direct);
    put_num(o, "mean_tokens", r->mean_tokens);
    json_close(o, '}');
}

void eval_to_json(const eval_result *r, json_out *o)
{
    json_open(o, '[');
    for (int i = 0; i < r->n_row; i++) put_row(o, &r->row[i]);
    put_row(o, &r->all);
    json_close(o, ']');
}

status eval_write(const char *path, const eval_result *r, const eval_label *l)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_member_str(&o, "arm", l->arm);
    json_member_int(&o, "seed", l->seed);
    json_member_str(&o, "stage", l->stage);
    json_member_int(&o, "step", l->step);
    json_member_str(&o, "force", l->force);
    if (l->tile_scale > 0) { json_member_int(&o, "tile_scale", l->tile_scale); }
    json_member_bool(&o, "shuffled", l->shuffled);
    put_num(&o, "infra", r->infra);
    json_key(&o, "rows");
    eval_to_json(r, &o);
    json_close(&o, '}');
    FILE *f = fopen(path, "w");
    status st = ST_OK;
    if (!f || fwrite(o.text, 1, o.len, f) != o.len || fputc('\n', f) == EOF)
        st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    if (f && fclose(f) != 0 && st == ST_OK) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    json_end(&o);
    return st;
}
