/* data synth, data import, data tokenizer: commands that write. */
#include "core/log.h"
#include "data/dataset.h"
#include "data/shard.h"
#include "data/synth.h"
#include "data/tokenizer.h"
#include "launch/args.h"
#include "launch/cmd_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int category_of(const char *name, size_t n)
{
    for (int c = 0; c < SYNTH_CATEGORY_COUNT; c++) {
        const char *known = synth_category_name((synth_category)c);
        if (strlen(known) == n && strncmp(known, name, n) == 0) return c;
    }
    return -1;
}

/* "rd_easy=.5,cnt_easy=1" */
static status parse_mix(const char *text, float *mix)
{
    memset(mix, 0, SYNTH_CATEGORY_COUNT * sizeof *mix);
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "=,");
        int c = category_of(p, n);
        if (c < 0) {
            char known[256];
            size_t at = 0;
            for (int i = 0; i < SYNTH_CATEGORY_COUNT; i++)
                at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                                       synth_category_name((synth_category)i));
            return args_usage("--mix: unknown category \"%.*s\"; known: %s", (int)n, p, known);
        }
        const char *number = p + n + (p[n] == '=');
        char *end = NULL;
        double w = strtod(number, &end);
        if (p[n] != '=' || end == number || (*end && *end != ',') || !(w >= 0 && w <= 1e6))
            return args_usage("--mix: category %.*s needs a weight, as in %.*s=1", (int)n, p, (int)n, p);
        mix[c] = (float)w;
        p = *end ? end + 1 : end;
    }
    return ST_OK;
}

status data_synth(int argc, char **argv)
{
    static const char *const kinds[] = {"sft", "direct", "prompts", "labels"};
    const char *kind = "sft", *split = "train", *mix_text = NULL, *out = NULL;
    int64_t n = 1000, seed = 0, tile_scale = 0, threads = 0;
    double describe = -1;
    bool helped = false;
    const arg table[] = {
        {"kind", ARG_STR, &kind, "KIND",
         "sft (tool or direct by a fair coin), direct, prompts (no answers) or labels (sft)"},
        {"n", ARG_INT, &n, "N", "rows (1000)"},
        {"seed", ARG_INT, &seed, "S", "other seeds give other scenes (0)"},
        {"split", ARG_STR, &split, "NAME", "names the rows; other names give other scenes (train)"},
        {"mix", ARG_STR, &mix_text, "CAT=W,...", "relative weights of categories (the kind's own mix)"},
        {"tile-scale", ARG_INT, &tile_scale, "K",
         "size of the detail: 1 hard, 2, 4, 8, 16, 32 easy (the category's own)"},
        {"describe", ARG_NUM, &describe, "SHARE", "share of \"Describe.\" rows in sft and direct (0.06)"},
        {"threads", ARG_INT, &threads, "N", "0: every CPU (0)"},
        {"out", ARG_STR, &out, "DIR", "where data.jsonl and img/ go"},
        {.name = NULL}};
    TRY(args_parse(
        argc, argv, "draws the demo's scenes and writes what the oracle says about them",
        "codedance data synth --kind prompts --n 600 --seed 1 --split eval --mix rd_easy=1,rd_hard=1 --out data/eval",
        table, NULL, &helped));
    if (helped) return ST_OK;
    if (!out) return args_usage("--out DIR is needed");
    int k = 0;
    while (k < 4 && strcmp(kind, kinds[k]) != 0) k++;
    if (k == 4) return args_usage("--kind must be sft, direct, prompts or labels, not \"%s\"", kind);
    if (n < 1 || n > 100000000) return args_usage("--n must be between 1 and 100000000");
    if (seed < 0) return args_usage("--seed must not be negative");
    if (threads < 0 || threads > 1024) return args_usage("--threads must be between 0 and 1024");
    if (tile_scale < 0 || tile_scale > 32) return args_usage("--tile-scale must be 1, 2, 4, 8, 16 or 32");
    if (describe >= 0 && k != SYNTH_SFT && k != SYNTH_DIRECT)
        return args_usage("--describe is for sft and direct rows");
    float mix[SYNTH_CATEGORY_COUNT];
    if (mix_text) TRY(parse_mix(mix_text, mix));
    synth_opts o = {.kind = (synth_kind)k,
                    .n = n,
                    .seed = (uint64_t)seed,
                    .split = split,
                    .mix = mix_text ? mix : NULL,
                    .tile_scale = (int)tile_scale,
                    .describe = describe >= 0 ? describe : SYNTH_DESCRIBE,
                    .threads = (int)threads,
                    .progress = true};
    TRY(synth_write(out, &o));
    printf("%s/data.jsonl: %lld rows\n", out, (long long)n);
    return ST_OK;
}

static status choose_variant(image_variant *v, const char *name)
{
    for (int i = 0; image_variant_names[i]; i++)
        if (strcmp(name, image_variant_names[i]) == 0) {
            *v = (image_variant)i;
            return ST_OK;
        }
    return args_usage("--image-processor %s: expected pil, pil13 or torchvision", name);
}

status data_import(int argc, char **argv)
{
    const char *out = NULL, *model = NULL, *variant = "pil";
    int64_t rows = 4096, threads = 0;
    bool views = false, drop = false, helped = false;
    arg_list pos = {0};
    const arg table[] = {
        {"out", ARG_STR, &out, "DIR", "folder for the shards"},
        {"model", ARG_STR, &model, "DIR",
         "takes the image processor's settings from here (the published Qwen2.5-VL values)"},
        {"image-processor", ARG_STR, &variant, "NAME",
         "with --views: pil, pil13, torchvision, as model.image_processor (pil)"},
        {"views", ARG_FLAG, &views, NULL, "also store what the model sees, so that training need not decode"},
        {"drop-originals", ARG_FLAG, &drop, NULL, "store views only: smaller, for training without tools"},
        {"rows-per-shard", ARG_INT, &rows, "N", "rows in one file (4096)"},
        {"threads", ARG_INT, &threads, "N", "0: every CPU (0)"},
        {.name = NULL}};
    TRY(args_parse(argc, argv, "packs FILE.jsonl and the pictures it names into HDF5 shards, each picture once",
                   "codedance data import mine/data.jsonl --model model/ --views --out mine/shards", table, &pos,
                   &helped));
    if (helped) return ST_OK;
    if (pos.n != 1) return args_usage("one FILE.jsonl is needed");
    if (!out) return args_usage("--out DIR is needed");
    if (rows < 1 || rows > 1 << 24) return args_usage("--rows-per-shard must be between 1 and 16777216");
    if (threads < 0 || threads > 1024) return args_usage("--threads must be between 0 and 1024");
    if (model && !views) return args_usage("--model only matters together with --views");
    if (drop && !views) return args_usage("--drop-originals needs --views: else nothing of the pictures would be kept");
    image_processor p;
    image_processor_default(&p);
    if (model) TRY(image_processor_load(&p, model));
    TRY(choose_variant(&p.variant, variant));
    shard_opts o = {.p = &p,
                    .views = views,
                    .keep_original = !drop,
                    .rows_per_shard = (int)rows,
                    .threads = (int)threads,
                    .progress = true};
    TRY(shard_import(pos.v[0], out, &o));
    dataset *d = NULL;
    TRY(dataset_open(&d, out));
    printf("%s: %lld rows\n", out, (long long)dataset_count(d));
    dataset_close(d);
    return ST_OK;
}

/* ---- tokenizer ------------------------------------------------------------------------------------------------ */

typedef struct text {
    char *s;
    size_t n, cap;
} text;
typedef struct corpus {
    char **v;
    int64_t n, cap;
} corpus;

static void put(text *t, const char *s)
{
    size_t n = strlen(s);
    if (t->n + n + 1 > t->cap) {
        t->cap = 2 * (t->n + n + 1);
        t->s = realloc(t->s, t->cap);
        CHECK(t->s);
    }
    memcpy(t->s + t->n, s, n + 1);
    t->n += n;
}

/* The text between the special tokens is what merges are learned from, so the row is laid out as chat.c renders it. */
static char *render(const sample *s)
{
    text t = {0};
    for (int i = 0; i < s->n_message; i++) {
        const message *m = &s->messages[i];
        put(&t, "<|im_start|>");
        put(&t, m->role == ROLE_TOOL ? "user" : role_name(m->role));
        put(&t, m->role == ROLE_TOOL ? "\n<tool_response>" : "\n");
        for (int k = 0; k < m->n_part; k++)
            put(&t, m->parts[k].text ? m->parts[k].text : "<|vision_start|><|image_pad|><|vision_end|>");
        put(&t, m->role == ROLE_TOOL ? "</tool_response><|im_end|>\n" : "<|im_end|>\n");
    }
    /* words a vision warm-up learns to tell apart should be single tokens where the text has them: after a space */
    const json *labels = json_get(s->row, "x_labels");
    for (int64_t i = 0; i < json_len(labels); i++)
        if (json_str(json_at(labels, i))) {
            put(&t, "<|im_end|> ");
            put(&t, json_str(json_at(labels, i)));
        }
    return t.s;
}

static status collect(corpus *c, const char *path, int64_t limit)
{
    dataset *d = NULL;
    TRY(dataset_open(&d, path));
    int64_t n = dataset_count(d) < limit ? dataset_count(d) : limit;
    status st = ST_OK;
    progress *bar = progress_start(path, n);
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        sample s;
        st = dataset_sample(d, i, &s);
        if (st != ST_OK) break;
        if (c->n == c->cap) {
            c->cap = c->cap ? 2 * c->cap : 1024;
            c->v = realloc(c->v, (size_t)c->cap * sizeof *c->v);
            CHECK(c->v);
        }
        c->v[c->n++] = render(&s);
        sample_free(&s);
        progress_set(bar, i + 1, NULL);
    }
    progress_end(bar);
    dataset_close(d);
    return st;
}

status data_tokenizer(int argc, char **argv)
{
    static const added_token ADDED[] = {
        {"<|endoftext|>", true},  {"<|im_start|>", true},     {"<|im_end|>", true},       {"<|vision_start|>", true},
        {"<|vision_end|>", true}, {"<|image_pad|>", true},    {"<|video_pad|>", true},    {"<think>", false},
        {"</think>", false},      {"<code>", false},          {"</code>", false},         {"<answer>", false},
        {"</answer>", false},     {"<tool_response>", false}, {"</tool_response>", false}};
    const char *out = NULL;
    int64_t merges = 256, limit = 20000;
    bool helped = false;
    arg_list pos = {0};
    const arg table[] = {{"merges", ARG_INT, &merges, "N",
                          "pairs to merge at most; vocabulary: 256 bytes + merges + 15 added tokens (256)"},
                         {"limit", ARG_INT, &limit, "N", "rows read from each file (20000)"},
                         {"out", ARG_STR, &out, "FILE", "the tokenizer.json to write"},
                         {.name = NULL}};
    TRY(args_parse(
        argc, argv, "learns a byte-level BPE tokenizer (Qwen2 pre-tokenizer) from the conversations of FILE.jsonl ...",
        "codedance data tokenizer data/sft/data.jsonl --merges 256 --out model/tokenizer.json", table, &pos, &helped));
    if (helped) return ST_OK;
    if (!pos.n) return args_usage("at least one FILE.jsonl is needed");
    if (!out) return args_usage("--out FILE is needed");
    if (merges < 0 || merges > 1000000) return args_usage("--merges must be between 0 and 1000000");
    if (limit < 1) return args_usage("--limit must be at least 1");
    corpus c = {0};
    status st = ST_OK;
    for (int i = 0; i < pos.n && st == ST_OK; i++) st = collect(&c, pos.v[i], limit);
    if (st == ST_OK)
        st = tokenizer_train((const char *const *)c.v, c.n, ADDED, sizeof ADDED / sizeof ADDED[0], (int)merges, out);
    for (int64_t i = 0; i < c.n; i++) free(c.v[i]);
    free(c.v);
    if (st != ST_OK) return st;
    tokenizer *t = NULL;
    TRY(tokenizer_load(&t, out));
    printf("%s: vocabulary %d\n", out, tokenizer_vocab(t));
    tokenizer_destroy(t);
    return ST_OK;
}
