#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "data/file.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"
#include "launch/show.h"
#include "rl/render.h"
#include "rollout/engine.h"

typedef struct ask {
    const char *model, *data, *text, *out, *dtype, *device;
    arg_list configs, sets, images;
    int64_t limit, samples;
} ask;

/* Prompts that run together. */
typedef struct prompts {
    int n;
    prompt_row *row;
    rollout_prompt *p;
} prompts;

static status prompts_create(prompts *b, int cap)
{
    b->n = 0;
    b->row = calloc((size_t)cap, sizeof *b->row);
    b->p = calloc((size_t)cap, sizeof *b->p);
    return b->row && b->p ? ST_OK : FAIL(ST_ENOMEM, "no memory for %d prompts", cap);
}

static void prompts_clear(prompts *b)
{
    for (int i = 0; b->row && i < b->n; i++) prompt_free(&b->row[i]);
    b->n = 0;
}

static void prompts_free(prompts *b)
{
    prompts_clear(b);
    free(b->row);
    free(b->p);
}

/* Takes the row over. */
static void add_prompt(prompts *b, prompt_row *row, int64_t seed, int64_t id)
{
    prompt_row *r = &b->row[b->n];
    *r = *row;
    b->p[b->n++] = (rollout_prompt){.sample = &r->s,
                                    .prompt = id,
                                    .seed = (uint64_t)seed,
                                    .prompt_id = (uint64_t)id,
                                    .n_image = r->n_image,
                                    .picture = r->picture,
                                    .view = r->view};
}

/* The question as a row, so that it takes the way of every other row. */
static status ask_sample(sample *out, const ask *a)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_member_str(&o, "id", "ask");
    json_key(&o, "messages");
    json_open(&o, '[');
    json_open(&o, '{');
    json_member_str(&o, "role", "user");
    json_key(&o, "content");
    json_open(&o, '[');
    for (int i = 0; i < a->images.n; i++) {
        json_open(&o, '{');
        json_member_str(&o, "type", "image");
        json_member_str(&o, "path", a->images.v[i]);
        json_close(&o, '}');
    }
    json_open(&o, '{');
    json_member_str(&o, "type", "text");
    json_member_str(&o, "text", a->text);
    json_close(&o, '}');
    json_close(&o, ']');
    json_close(&o, '}');
    json_close(&o, ']');
    json_close(&o, '}');
    status st = sample_parse(out, o.text, o.len, "--ask");
    json_end(&o);
    return st;
}

/* Before anything big is opened: the question and its pictures can be read. */
static status ask_read(prompt_row *r, const ask *a)
{
    TRY(ask_sample(&r->s, a));
    size_t n = (size_t)a->images.n + 1;
    r->picture = calloc(n, sizeof *r->picture);
    r->view = calloc(n, sizeof *r->view);
    if (!r->picture || !r->view) return FAIL(ST_ENOMEM, "no memory for %d pictures", a->images.n);
    for (; r->n_image < a->images.n; r->n_image++)
        TRY(image_read_file(&r->picture[r->n_image], a->images.v[r->n_image]));
    return ST_OK;
}

static status ask_views(prompt_row *r, const image_processor *ip)
{
    for (int i = 0; i < r->n_image; i++) {
        status st = image_view(&r->view[i], &r->picture[i], ip);
        if (st != ST_OK) return fail_within(st, "%s", r->s.images[i]);
    }
    return ST_OK;
}

/* Writes what the model saw as out/img/..., names[i] relative to out; names is malloc'ed, caller frees with free_names.
 * The prompt's pictures are the same for all samples and written once. */
static status write_images(char ***names, const traj *t, const char *out)
{
    int shared = rollout_prompt_images(t->sample);
    *names = calloc((size_t)t->n_image + 1, sizeof **names);
    if (!*names) return FAIL(ST_ENOMEM, "no memory for %d image names", t->n_image);
    if (!out) return ST_OK;
    char path[PATH_MAX];
    for (int i = 0; i < t->n_image; i++) {
        int n = i < shared
                    ? asprintf(&(*names)[i], "img/%06lld_%d.png", (long long)t->prompt, i)
                    : asprintf(&(*names)[i], "img/%06lld_s%d_%d.png", (long long)t->prompt, t->index, i - shared);
        if (n < 0) return FAIL(ST_ENOMEM, "no memory for a file name");
        if (i < shared && t->index > 0) continue;
        TRY(file_join(path, sizeof path, out, (*names)[i]));
        TRY(image_write_png(&t->images[i].view, path));
    }
    return ST_OK;
}

static void free_names(char **names, int n)
{
    for (int i = 0; names && i < n; i++) free(names[i]);
    free(names);
}

static status put_traj(FILE *f, const traj *t, const char *out, bool pretty)
{
    char **names = NULL;
    status st = write_images(&names, t, out);
    const char *const *shown = (const char *const *)names;
    if (st == ST_OK && pretty) {
        show_traj(f, t, shown, isatty(fileno(f)));
        fputc('\n', f);
    } else if (st == ST_OK) {
        json_out o;
        json_begin(&o, false);
        traj_to_json(t, shown, &o);
        fwrite(o.text, 1, o.len, f);
        fputc('\n', f);
        json_end(&o);
    }
    free_names(names, t->n_image);
    return st;
}

static status run_batch(engine *e, prompts *b, FILE *f, const char *out, bool pretty, rollout_stats *total)
{
    int n = b->n * (int)engine_opts(e)->group;
    traj *t = calloc((size_t)n, sizeof *t);
    if (!t) return FAIL(ST_ENOMEM, "no memory for %d trajectories", n);
    rollout_stats stats = {0};
    status st = engine_run(e, b->p, b->n, t, &stats, pretty ? "generate" : NULL);
    for (int i = 0; i < n && st == ST_OK; i++) st = put_traj(f, &t[i], out, pretty);
    for (int i = 0; i < n; i++) traj_free(&t[i]);
    free(t);
    total->sampled += stats.sampled;
    total->tool_calls += stats.tool_calls;
    total->idle_s += stats.idle_s;
    total->wall_s += stats.wall_s;
    return st;
}

static status answer_rows(engine *e, const setup *s, const ask *a, FILE *f, rollout_stats *total)
{
    dataset *d = NULL;
    prompts b;
    TRY(dataset_open(&d, a->data));
    int64_t n = dataset_count(d);
    if (a->limit > 0 && a->limit < n) n = a->limit;
    const rollout_opts *o = engine_opts(e);
    int64_t at_once = o->max_batch / o->group; /* their pictures are in memory */
    if (at_once < 16) at_once = 16;
    status st = prompts_create(&b, (int)at_once);
    progress *bar = progress_start("generate", n);
    for (int64_t i = 0; i < n && st == ST_OK;) {
        for (; i < n && b.n < at_once && st == ST_OK; i++) {
            prompt_row row;
            st = prompt_load(&row, d, i, &s->ip, s->boxes != NULL);
            if (st == ST_OK) add_prompt(&b, &row, s->o.seed, i);
        }
        if (st == ST_OK) st = run_batch(e, &b, f, a->out, false, total);
        prompts_clear(&b);
        progress_set(bar, i, NULL);
    }
    progress_end(bar);
    prompts_free(&b);
    dataset_close(d);
    return st;
}

static status answer_one(engine *e, const setup *s, prompt_row *row, const ask *a, FILE *f, rollout_stats *total)
{
    prompts b;
    status st = prompts_create(&b, 1);
    if (st == ST_OK) {
        add_prompt(&b, row, s->o.seed, 0);
        memset(row, 0, sizeof *row);
        st = run_batch(e, &b, f, a->out, true, total);
    }
    prompts_free(&b);
    return st;
}

/* One question needs no pool for a training batch; and any picture the processor makes must fit into a pass. */
static void fit(rollout_opts *o, const setup *s, bool one)
{
    int64_t side = s->ip.patch * s->ip.merge, largest = s->ip.max_pixels / (side * side);
    if (o->prefill_tokens < largest) o->prefill_tokens = largest;
    if (!one) return;
    int64_t enough = o->group * (o->max_tokens + 64);
    if (o->kv_tokens > enough) o->kv_tokens = enough;
    if (o->max_batch > o->group) o->max_batch = o->group;
}

static status run(setup *s, const ask *a, prompt_row *row)
{
    rollout_opts o;
    if (!a->data) TRY(ask_read(row, a));
    TRY(setup_config(s, a->configs.v, a->configs.n, a->sets.v, a->sets.n));
    TRY(config_bind(s->cfg, "rollout", rollout_fields, &o));
    TRY(setup_finish(s));
    if (s->world->size > 1) return FAIL(ST_EINVAL, "generate is one process; start it without mpirun");
    if (a->samples > 0) o.group = a->samples;
    TRY(setup_open(s, SETUP_MODEL | (o.max_turns > 0 ? SETUP_BOXES : 0), a->model));
    if (!a->data) TRY(ask_views(row, &s->ip));
    fit(&o, s, !a->data);
    char path[PATH_MAX];
    if (a->out) {
        TRY(file_join(path, sizeof path, a->out, "img"));
        TRY(file_make_dir(path));
    }
    FILE *f = stdout;
    if (a->out && a->data) {
        TRY(file_join(path, sizeof path, a->out, "trajectories.jsonl"));
        f = fopen(path, "w");
        if (!f) return FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
    }
    engine *e = NULL;
    rollout_stats total = {0};
    rollout_parts parts = {.m = s->m, .c = &s->chat, .ip = &s->ip, .boxes = s->boxes};
    status st = engine_create(&e, &parts, &o);
    if (st == ST_OK) st = a->data ? answer_rows(e, s, a, f, &total) : answer_one(e, s, row, a, f, &total);
    engine_destroy(e);
    if (f != stdout && fclose(f) != 0 && st == ST_OK) st = FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
    if (st == ST_OK && a->data)
        log_info("%lld tokens in %.1f s (%.0f a second), %lld calls, %.0f %% idle", (long long)total.sampled,
                 total.wall_s, (double)total.sampled / total.wall_s, (long long)total.tool_calls,
                 100 * total.idle_s / total.wall_s);
    return st;
}

status cmd_generate(int argc, char **argv)
{
    ask a = {0};
    bool helped = false;
    const arg table[] = {
        {"model", ARG_STR, &a.model, "DIR", "Hugging Face directory of the model"},
        {"data", ARG_STR, &a.data, "FILE",
         "answer the rows of a dataset (.jsonl or shards); prints trajectories as JSON lines"},
        {"limit", ARG_INT, &a.limit, "N", "only the first N rows"},
        {"image", ARG_LIST, &a.images, "FILE", "a picture of the question (PNG, JPEG, WebP, GIF); may be repeated"},
        {"ask", ARG_STR, &a.text, "TEXT", "the question"},
        {"samples", ARG_INT, &a.samples, "N", "answers per question (default: 1 for --ask, rollout.group for --data)"},
        {"out", ARG_STR, &a.out, "DIR", "also write pictures there, and trajectories.jsonl instead of printing them"},
        {"config", ARG_LIST, &a.configs, "FILE", "config overlay; may be repeated"},
        {"dtype", ARG_STR, &a.dtype, "fp32|bf16", "what weights are kept in (model.dtype)"},
        {"device", ARG_STR, &a.device, "auto|cpu|cuda:N", "where the model runs (device.device)"},
        {"set", ARG_LIST, &a.sets, "SECTION.KEY=VALUE", "override one key, e.g. rollout.temperature=0"},
        {.name = NULL}};
    TRY(args_parse(argc, argv, "lets a model think, run code and answer",
                   "codedance generate --model out/ --image card.png --ask \"What digit is on the card?\"\n"
                   "  codedance generate --model out/ --data eval.jsonl --limit 100 --out answers/",
                   table, NULL, &helped));
    if (helped) return ST_OK;
    TRY(setup_dtype(&a.sets, a.dtype));
    TRY(setup_device(&a.sets, a.device));
    if (!a.data == !a.text) return args_usage("give either --data FILE or --ask TEXT");
    if (a.data && a.images.n) return args_usage("--image goes with --ask; the rows of --data name their own pictures");
    if (a.limit < 0 || a.samples < 0) return args_usage("--limit and --samples must not be negative");
    if (a.limit && !a.data) return args_usage("--limit goes with --data");
    if (!a.data && a.samples == 0) a.samples = 1;
    setup s;
    prompt_row row = {0};
    memset(&s, 0, sizeof s);
    status st = run(&s, &a, &row);
    prompt_free(&row);
    setup_close(&s);
    return st;
}
