#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"
#include "rl/optim.h"
#include "rl/stage.h"
#include "rollout/engine.h"

/* ---- a backend that only counts: the real model and activation planners run on it, so the plan can't drift from them
 * ---- */

typedef struct block {
    struct block *next;
    void *at;
    size_t bytes;
} block;
typedef struct counter {
    block *blocks;
} counter;

/* Address space without memory; touching it would fault. */
static status count_alloc(backend *b, size_t bytes, void **out)
{
    counter *c = b->impl;
    block *k = malloc(sizeof *k);
    CHECK(k != NULL);
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        free(k);
        return FAIL(ST_ENOMEM, "no address space for %zu bytes", bytes);
    }
    *k = (block){c->blocks, p, bytes};
    c->blocks = k;
    *out = p;
    return ST_OK;
}

static void count_release(backend *b, void *p)
{
    counter *c = b->impl;
    for (block **at = &c->blocks; *at != NULL; at = &(*at)->next) {
        block *k = *at;
        if (k->at != p) continue;
        munmap(k->at, k->bytes);
        *at = k->next;
        free(k);
        return;
    }
}

static void count_upload(backend *b, tensor *dst, const void *src) { (void)b, (void)dst, (void)src; }
static void count_changed(backend *b) { (void)b; }
static status count_sync(backend *b)
{
    (void)b;
    return ST_OK;
}

/* ---- the plan ---- */

typedef struct plan_limits {
    int64_t tokens, patches, kv_tokens, grad_shards;
} plan_limits;

typedef struct plan {
    model_config mc;
    int64_t params, text, vision, tensors;
    size_t acts;
    int64_t kv_token_bytes, kv_bytes;
    plan_limits lim;
} plan;

static status count_tensor(void *ctx, const model_tensor *t)
{
    plan *p = ctx;
    int64_t n = tensor_count(&t->w);
    p->tensors++;
    p->params += n;
    if (strstr(t->name, "visual.") != NULL)
        p->vision += n;
    else
        p->text += n;
    return ST_OK;
}

static status make_plan(plan *p)
{
    counter c = {0};
    backend b = {.name = "plan",
                 .impl = &c,
                 .alloc = count_alloc,
                 .release = count_release,
                 .upload = count_upload,
                 .params_changed = count_changed,
                 .sync = count_sync};
    model *m = NULL;
    model_acts *acts = NULL;
    status st;
    TRY_OR(model_create(&m, &b, &p->mc, true), out);
    TRY_OR(model_visit(m, count_tensor, p), out);
    int64_t merge2 = p->mc.has_vision ? (int64_t)p->mc.vision.merge * p->mc.vision.merge : 1;
    /* The limits rl/learn.c gives the trainer's activations. */
    model_limits lim = {.tok = (int)p->lim.tokens,
                        .seq = (int)(p->lim.tokens / 2 + 1),
                        .patch = p->mc.has_vision ? (int)p->lim.patches : 0,
                        .img = (int)(p->lim.patches / merge2),
                        .row = (int)p->lim.tokens};
    TRY_OR(model_acts_create(&acts, m, &lim, true), out);
    p->acts = model_acts_bytes(acts);
    attn_shape a = {.n_head = p->mc.n_head, .n_kv = p->mc.n_kv, .head_dim = p->mc.head_dim};
    p->kv_token_bytes = p->mc.n_layer * kv_block_floats(&a) * (int64_t)sizeof(float) / ATTN_BLOCK;
    p->kv_bytes = p->kv_token_bytes * ((p->lim.kv_tokens + ATTN_BLOCK - 1) / ATTN_BLOCK * ATTN_BLOCK);
out:
    model_acts_destroy(acts);
    model_destroy(m);
    return st;
}

/* What rl/optim.c allocates on one of n ranks: the tree's partial sums, the moments of its slice, exchange buffers. */
static double optimizer_bytes(const plan *p, int64_t ranks)
{
    int64_t share = (p->params + ranks - 1) / ranks, slice = (share + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK * SUMSQ_BLOCK;
    int64_t shards = p->lim.grad_shards > ranks ? p->lim.grad_shards : ranks, levels = 0;
    while ((ranks << levels) < shards) levels++;
    double f = sizeof(float);
    double bytes = (double)(levels + 1) * (double)p->params * f + 2.0 * (double)slice * f;
    if (ranks > 1) bytes += 3.0 * (double)(slice * ranks) * f;
    return bytes;
}

static const char *human(double bytes, char *buf, size_t n)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (bytes >= 1024 && u < 4) bytes /= 1024, u++;
    snprintf(buf, n, u == 0 || bytes >= 100 ? "%.0f %s" : bytes >= 10 ? "%.1f %s" : "%.2f %s", bytes, unit[u]);
    return buf;
}

static const char *grouped(int64_t v, char *buf, size_t n)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)v), at = 0;
    for (int i = 0; i < len && at + 2 < (int)n; i++) {
        if (i > 0 && (len - i) % 3 == 0) buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

static const int64_t rank_counts[] = {1, 8, 64};
enum { N_RANKS = sizeof rank_counts / sizeof *rank_counts };

static void print_text(const plan *p, const char *source)
{
    char a[64], b[64], c[64], d[64], e[64], f[64];
    const model_config *m = &p->mc;
    printf("%s (%s)\n", source, model_config_type(m));
    printf("  text      %d layers, hidden %d, %d heads / %d kv of %d, mlp %d, vocabulary %d%s\n", m->n_layer, m->hidden,
           m->n_head, m->n_kv, m->head_dim, m->intermediate, m->vocab, m->tied ? ", tied head" : "");
    if (m->has_vision) {
        const vision_config *v = &m->vision;
        printf("  vision    %d blocks (%d with full attention), hidden %d, %d heads, mlp %d, patch %d, merge %d\n",
               v->depth, v->window ? v->n_full : v->depth, v->hidden, v->n_head, v->intermediate, v->patch, v->merge);
        if (v->n_pos) printf("            %d learned positions, %d DeepStack mergers\n", v->n_pos, v->n_deep);
    }
    printf("\n  parameters            %18s\n", grouped(p->params, a, sizeof a));
    printf("    text, embeddings    %18s\n", grouped(p->text, a, sizeof a));
    printf("    vision, merger      %18s\n", grouped(p->vision, a, sizeof a));
    printf("  tensors               %18s\n", grouped(p->tensors, a, sizeof a));
    printf("  checkpoint as bf16    %18s B  (%s)\n", grouped(2 * p->params, a, sizeof a),
           human(2.0 * (double)p->params, b, sizeof b));
    printf("  checkpoint as fp32    %18s B  (%s)\n", grouped(4 * p->params, a, sizeof a),
           human(4.0 * (double)p->params, b, sizeof b));
    printf("  KV per token (fp32)   %18s B\n", grouped(p->kv_token_bytes, a, sizeof a));
    printf("  KV per token (bf16)   %18s B\n", grouped(p->kv_token_bytes / 2, a, sizeof a));
    printf("\n  memory per rank, fp32, %lld tokens and %lld patches per micro-batch, %lld KV tokens, %lld gradient "
           "shards\n",
           (long long)p->lim.tokens, (long long)p->lim.patches, (long long)p->lim.kv_tokens,
           (long long)p->lim.grad_shards);
    printf("  %5s  %10s  %10s  %10s  %11s  %10s  %10s\n", "ranks", "weights", "gradients", "optimizer", "activations",
           "KV pool", "total");
    for (int i = 0; i < N_RANKS; i++) {
        double w = 4.0 * (double)p->params, o = optimizer_bytes(p, rank_counts[i]);
        printf("  %5lld  %10s  %10s  %10s  %11s  %10s  %10s\n", (long long)rank_counts[i], human(w, a, sizeof a),
               human(w, b, sizeof b), human(o, c, sizeof c), human((double)p->acts, d, sizeof d),
               human((double)p->kv_bytes, e, sizeof e),
               human(2 * w + o + (double)p->acts + (double)p->kv_bytes, f, sizeof f));
    }
}

static void print_json(const plan *p, const char *source)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_member_str(&o, "model", source);
    struct {
        const char *key;
        int64_t v;
    } rows[] = {{"parameters", p->params},
                {"text", p->text},
                {"vision", p->vision},
                {"tensors", p->tensors},
                {"bytes_bf16", 2 * p->params},
                {"bytes_fp32", 4 * p->params},
                {"kv_bytes_per_token_fp32", p->kv_token_bytes},
                {"kv_bytes_per_token_bf16", p->kv_token_bytes / 2},
                {"activation_bytes", (int64_t)p->acts},
                {"kv_bytes", p->kv_bytes}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) { json_member_int(&o, rows[i].key, rows[i].v); }
    json_key(&o, "ranks");
    json_open(&o, '[');
    for (int i = 0; i < N_RANKS; i++) {
        double w = 4.0 * (double)p->params, x = optimizer_bytes(p, rank_counts[i]);
        json_open(&o, '{');
        json_member_int(&o, "ranks", rank_counts[i]);
        json_member_num(&o, "weight_bytes", w);
        json_member_num(&o, "gradient_bytes", w);
        json_member_num(&o, "optimizer_bytes", x);
        json_member_num(&o, "total_bytes", 2 * w + x + (double)p->acts + (double)p->kv_bytes);
        json_close(&o, '}');
    }
    json_close(&o, ']');
    json_close(&o, '}');
    puts(o.text);
    json_end(&o);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static status read_model(model_config *mc, const char *path)
{
    char file[4096];
    struct stat sb;
    snprintf(file, sizeof file, stat(path, &sb) == 0 && S_ISDIR(sb.st_mode) ? "%s/config.json" : "%s", path);
    json *j = NULL;
    TRY(json_read_file(&j, file, 1 << 20));
    status st = model_config_from_json(mc, j);
    json_free(j);
    return st != ST_OK ? fail_within(st, "%s", file) : ST_OK;
}

/* The limits of a config (or the defaults), and its model.path. */
static status read_limits(plan_limits *lim, char *path, size_t n, const char *file, const arg_list *sets)
{
    config *c = NULL;
    setup_opts o = {0};
    train_opts train = {0};
    rollout_opts roll = {0};
    optim_opts opt = {0};
    TRY(config_load(&c, &file, file != NULL, sets->v, sets->n));
    status st;
    TRY_OR(config_bind(c, "model", model_fields, &o), out);
    TRY_OR(config_bind(c, "train", train_fields, &train), out);
    TRY_OR(config_bind(c, "rollout", rollout_fields, &roll), out);
    TRY_OR(config_bind(c, "optim_rl", optim_rl_fields, &opt), out);
    TRY_OR(config_check(c, config_sections), out);
    TRY_OR(config_finish(c), out);
    *lim = (plan_limits){train.max_tokens, train.max_patches, roll.kv_tokens, opt.grad_shards};
    if (file != NULL && (o.model_path == NULL || o.model_path[0] == '\0'))
        st = config_fail(c, "model", "path", "names no model to plan for");
    else
        snprintf(path, n, "%s", o.model_path != NULL ? o.model_path : "");
out:
    config_destroy(c);
    return st;
}

status cmd_plan(int argc, char **argv)
{
    arg_list pos = {0}, sets = {0};
    bool as_json = false, helped = false;
    const arg table[] = {{"set", ARG_LIST, &sets, "SECTION.KEY=VALUE", "override one key of the config"},
                         {"json", ARG_FLAG, &as_json, NULL, "print JSON"},
                         {.name = NULL}};
    TRY(args_parse(
        argc, argv,
        "parameters and memory per rank of a config, a model directory or a config.json, without allocating anything",
        "codedance plan Qwen2.5-VL-7B-Instruct/config.json\n  codedance plan configs/demo.yaml --set "
        "train.max_tokens=16384",
        table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1) return args_usage("needs one config (.yaml), model directory or config.json");
    const char *source = pos.v[0];
    bool yaml = ends_with(source, ".yaml") || ends_with(source, ".yml");
    char path[4096];
    plan p = {0};
    TRY(read_limits(&p.lim, path, sizeof path, yaml ? source : NULL, &sets));
    TRY(read_model(&p.mc, yaml ? path : source));
    TRY(make_plan(&p));
    if (as_json)
        print_json(&p, yaml ? path : source);
    else
        print_text(&p, yaml ? path : source);
    return ST_OK;
}
