#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"
#include "rl/learn.h"
#include "rl/render.h"
#include "rl/stage.h"

/* One JSON line: ids, log-prob of each token given those before it (null for the first), loss mask. */
static void print_row(const rendered *r, const float *logp)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_member_str(&o, "id", r->s.id);
    json_key(&o, "ids");
    json_open(&o, '[');
    for (int i = 0; i < r->seq.id.n; i++) json_put_int(&o, r->seq.id.v[i]);
    json_close(&o, ']');
    json_key(&o, "logprobs");
    json_open(&o, '[');
    json_put_null(&o);
    for (int i = 1; i < r->seq.id.n; i++) json_put_num(&o, logp[i - 1]);
    json_close(&o, ']');
    json_key(&o, "mask");
    json_open(&o, '[');
    for (int i = 0; i < r->seq.id.n; i++) json_put_int(&o, r->seq.mask[i]);
    json_close(&o, ']');
    json_close(&o, '}');
    puts(o.text);
    json_end(&o);
}

static status score_row(learner *l, const rendered *r)
{
    size_t n = (size_t)r->seq.id.n;
    uint8_t *every = malloc(n + 1);
    float *logp = malloc(sizeof *logp * (n + 1));
    status st = every != NULL && logp != NULL ? ST_OK : FAIL(ST_ENOMEM, "no memory for %zu tokens", n);
    if (st == ST_OK) {
        memset(every, 1, n);
        every[0] = 0;
        batch_seq q = render_sequence(r, 1);
        q.mask = every;
        learn_job j = {.algo = NULL};
        st = learner_score(l, &j, &q, 1, logp);
    }
    if (st == ST_OK) print_row(r, logp);
    free(every);
    free(logp);
    return st;
}

static status score(setup *s, const char *dir, const char *path, const arg_list *files, const arg_list *sets,
                    int64_t limit)
{
    train_opts t;
    TRY(setup_config(s, files->v, files->n, sets->v, sets->n));
    TRY(config_bind(s->cfg, "train", train_fields, &t));
    TRY(setup_finish(s));
    if (s->world->size > 1) return FAIL(ST_EINVAL, "score runs in one process");
    TRY(setup_open(s, SETUP_MODEL, dir));
    dataset *d = NULL;
    learner *l = NULL;
    status st = dataset_open(&d, path);
    if (st == ST_OK) st = learner_create(&l, s->m, &s->chat, &s->ip, t.max_tokens, t.max_patches);
    for (int64_t i = 0; st == ST_OK && i < dataset_count(d) && (limit == 0 || i < limit); i++) {
        rendered r = {0};
        st = render_row(&r, d, i, &s->chat, &s->ip);
        if (st == ST_OK && r.seq.id.n > 0) st = score_row(l, &r);
        render_free(&r);
    }
    learner_destroy(l);
    dataset_close(d);
    return st;
}

status cmd_score(int argc, char **argv)
{
    arg_list pos = {0}, files = {0}, sets = {0};
    const char *dir = NULL, *keep = NULL, *device = NULL;
    int64_t limit = 0;
    bool helped = false;
    const arg table[] = {{"model", ARG_STR, &dir, "DIR", "Hugging Face directory"},
                         {"config", ARG_LIST, &files, "FILE", "config whose device and train sections are used"},
                         {"dtype", ARG_STR, &keep, "fp32|bf16", "what weights are kept in (model.dtype)"},
                         {"device", ARG_STR, &device, "auto|cpu|cuda:N", "where the model runs (device.device)"},
                         {"set", ARG_LIST, &sets, "SECTION.KEY=VALUE", "override one key"},
                         {"limit", ARG_INT, &limit, "N", "rows scored, 0 = all"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv, "prints the log-prob of every token of conversations, one JSON line each: DATA",
                   "codedance score --model runs/demo/export rows.jsonl", table, &pos, &helped));
    if (helped) return ST_OK;
    TRY(setup_dtype(&sets, keep));
    TRY(setup_device(&sets, device));
    if (pos.n != 1) return args_usage("give one dataset: a .jsonl file, a .h5 shard or a directory of shards");
    setup s = {0};
    status st = score(&s, dir, pos.v[0], &files, &sets, limit);
    setup_close(&s);
    return st;
}
