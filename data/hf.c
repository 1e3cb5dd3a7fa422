/* Reading Hugging Face model directories: config, weights in one file or in shards. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/safetensors.h"

enum { MAX_JSON = 64 << 20, MAX_SHARDS = 1024, PIECE = 8192 };

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

status hf_load_config(model_config *c, const char *dir)
{
    char path[PATH_MAX];
    json *j = NULL;
    TRY(file_join(path, sizeof path, dir, "config.json"));
    TRY(json_read_file(&j, path, MAX_JSON));
    status st = model_config_from_json(c, j);
    json_free(j);
    return st == ST_OK ? ST_OK : fail_within(st, "%s", dir);
}

/* ---- reading weights ---- */

typedef struct shards {
    int n;
    st_file *file[MAX_SHARDS];
    char *name[MAX_SHARDS]; /* file names inside the directory */
} shards;

static void shards_close(shards *s)
{
    for (int i = 0; i < s->n; i++) {
        st_close(s->file[i]);
        free(s->name[i]);
    }
}

static status shards_open(shards *s, const char *dir, const char *name, int *which)
{
    for (*which = 0; *which < s->n; ++*which)
        if (!strcmp(s->name[*which], name)) return ST_OK;
    char path[PATH_MAX];
    if (s->n == MAX_SHARDS) return FAIL(ST_EINVAL, "%s: more than %d weight files", dir, MAX_SHARDS);
    if (!*name || strchr(name, '/')) return FAIL(ST_EINVAL, "%s: weight file name %s must be a plain name", dir, name);
    TRY(file_join(path, sizeof path, dir, name));
    TRY(st_open(&s->file[s->n], path));
    s->name[s->n] = strdup(name);
    CHECK(s->name[s->n]);
    s->n++;
    return ST_OK;
}

/* Every tensor of the map is in its file and every tensor of the files is in the map. */
static status read_index(shards *s, const char *dir)
{
    char path[PATH_MAX];
    json *j = NULL;
    TRY(file_join(path, sizeof path, dir, index_name));
    TRY(json_read_file(&j, path, MAX_JSON));
    const json *map = json_get(j, "weight_map");
    status st = ST_OK;
    int64_t in_files = 0;
    if (json_kind(map) != JSON_OBJECT) TRY_OR(FAIL(ST_EINVAL, "%s: weight_map is missing", path), out);
    for (int64_t i = 0; i < json_len(map); i++) {
        const char *file = json_str(json_at(map, i)), *tensor_name = json_key_at(map, i);
        int which;
        if (!file) TRY_OR(FAIL(ST_EINVAL, "%s: %s has no file name", path, tensor_name), out);
        TRY_OR(shards_open(s, dir, file, &which), out);
        if (!st_find(s->file[which], tensor_name))
            TRY_OR(FAIL(ST_EINVAL, "%s: %s is not in %s", path, tensor_name, file), out);
    }
    for (int i = 0; i < s->n; i++) in_files += st_count(s->file[i]);
    if (in_files == json_len(map)) goto out;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < st_count(s->file[i]); k++) {
            const char *name = st_at(s->file[i], k)->name, *file = json_str(json_get(map, name));
            if (!file || strcmp(file, s->name[i]) != 0)
                TRY_OR(FAIL(ST_EINVAL, "%s: tensor %s of %s is not mapped to it", path, name, s->name[i]), out);
        }
out:
    json_free(j);
    return st;
}

static status shards_open_dir(shards *s, const char *dir)
{
    bool one = file_exists(dir, single_name), many = file_exists(dir, index_name);
    int which;
    if (one && many)
        return FAIL(ST_EINVAL, "%s has both %s and %s: remove the stale one", dir, single_name, index_name);
    if (!one && !many) return FAIL(ST_EINVAL, "%s has neither %s nor %s", dir, single_name, index_name);
    return many ? read_index(s, dir) : shards_open(s, dir, single_name, &which);
}

/* The published name of a tensor under any prefix transformers has used (qwen_vl_spec 2.2). */
static void published_name(char *out, size_t cap, const char *name)
{
    static const char *const prefix[][2] = {
        {"model.language_model.", "model."}, {"model.visual.", "visual."}, {"language_model.", "model."}};
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++) {
        size_t n = strlen(prefix[i][0]);
        if (strncmp(name, prefix[i][0], n) != 0) continue;
        snprintf(out, cap, "%s%s", prefix[i][1], name + n);
        return;
    }
    snprintf(out, cap, "%s", name);
}

typedef struct load {
    const char *dir;
    const model_config *cfg;
    backend *b;
    int n, cap;
    model_tensor *want;    /* (n) */
    const st_tensor **got; /* (n) */
    const st_tensor *head; /* lm_head.weight of a tied model */
    char text[1024];       /* names for the message */
    int n_bad;
} load;

static status collect(void *ctx, const model_tensor *t)
{
    load *l = ctx;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 256;
        model_tensor *grown = realloc(l->want, (size_t)l->cap * sizeof *l->want);
        if (!grown) return FAIL(ST_ENOMEM, "out of memory for tensor names");
        l->want = grown;
    }
    l->want[l->n++] = *t;
    return ST_OK;
}

/* Adds a name to the message, the first few in full. */
static void note(load *l, const char *name)
{
    size_t used = strlen(l->text);
    if (l->n_bad++ < 8) snprintf(l->text + used, sizeof l->text - used, "%s%s", used ? ", " : "", name);
}

static status match(load *l, const st_tensor *t)
{
    char name[256];
    published_name(name, sizeof name, t->name);
    if (strstr(name, "rotary_emb.inv_freq")) return ST_OK; /* a buffer old fine-tunes saved */
    if (l->cfg->tied && !strcmp(name, "lm_head.weight")) {
        l->head = t;
        return ST_OK;
    }
    int i = 0;
    while (i < l->n && strcmp(l->want[i].name, name) != 0) i++;
    if (i == l->n) {
        note(l, t->name);
        return ST_OK;
    }
    const model_tensor *w = &l->want[i];
    if (l->got[i]) return FAIL(ST_EINVAL, "%s: %s appears twice, under two prefixes", l->dir, name);
    bool same = t->ndim == w->ndim;
    for (int d = 0; same && d < t->ndim; d++) same = t->shape[d] == w->shape[d];
    if (!same) {
        char have[96] = "", need[96] = "";
        for (int d = 0; d < t->ndim; d++)
            snprintf(have + strlen(have), sizeof have - strlen(have), "%s%lld", d ? "," : "", (long long)t->shape[d]);
        for (int d = 0; d < w->ndim; d++)
            snprintf(need + strlen(need), sizeof need - strlen(need), "%s%lld", d ? "," : "", (long long)w->shape[d]);
        return FAIL(ST_EINVAL, "%s: tensor %s is [%s] but config.json makes it [%s]", l->dir, t->name, have, need);
    }
    if (strcmp(t->dtype, "F32") != 0 && strcmp(t->dtype, "BF16") != 0 && strcmp(t->dtype, "F16") != 0)
        return FAIL(ST_EINVAL, "%s: tensor %s is %s; F32, BF16 and F16 can be read", l->dir, t->name, t->dtype);
    l->got[i] = t;
    return ST_OK;
}

static status match_all(load *l, const shards *s)
{
    for (int f = 0; f < s->n; f++)
        for (int k = 0; k < st_count(s->file[f]); k++) TRY(match(l, st_at(s->file[f], k)));
    if (l->n_bad)
        return FAIL(ST_EINVAL, "%s: %d unexpected tensors: %s%s", l->dir, l->n_bad, l->text,
                    l->n_bad > 8 ? ", ..." : "");
    for (int i = 0; i < l->n; i++)
        if (!l->got[i]) note(l, l->want[i].name);
    if (!l->n_bad) return ST_OK;
    return FAIL(ST_EINVAL, "%s: %d missing tensors: %s%s%s", l->dir, l->n_bad, l->text, l->n_bad > 8 ? ", ..." : "",
                strstr(l->text, "lm_head") ? " (config.json says tie_word_embeddings false)" : "");
}

/* Elements [at, at+n) as floats. The file's data may be unaligned. */
static void to_float(float *out, const st_tensor *t, int64_t at, int64_t n)
{
    if (!strcmp(t->dtype, "F32")) {
        memcpy(out, (const char *)t->data + at * 4, (size_t)n * 4);
        return;
    }
    bool bf16 = !strcmp(t->dtype, "BF16");
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)t->data + (at + i) * 2, 2);
        out[i] = bf16 ? f32_from_bf16(h) : f32_from_f16(h);
    }
}

/* Elements [at, at+n) of a weight wherever it is stored. */
static tensor piece(const tensor *w, int64_t at, int64_t n)
{
    return tensor_1d((char *)w->data + at * (int64_t)sizeof(float), DT_F32, n);
}

static void fill_weight(backend *b, const model_tensor *w, const st_tensor *t)
{
    float buf[PIECE];
    int64_t count = tensor_count(&w->w);
    for (int64_t at = 0; at < count; at += PIECE) {
        int64_t n = count - at < PIECE ? count - at : PIECE;
        to_float(buf, t, at, n);
        tensor part = piece(&w->w, at, n);
        b->upload(b, &part, buf);
    }
}

/* A tied checkpoint may repeat the embedding as its head; another head would be lost. */
static status check_tied_head(const load *l)
{
    if (!l->head) return ST_OK;
    const st_tensor *e = l->got[0];
    CHECK(e && !strcmp(l->want[0].name, "model.embed_tokens.weight"));
    if (l->head->bytes == e->bytes && !strcmp(l->head->dtype, e->dtype) && !memcmp(l->head->data, e->data, e->bytes))
        return ST_OK;
    return FAIL(ST_EINVAL,
                "%s: config.json says tie_word_embeddings true but lm_head.weight differs from the embedding", l->dir);
}

static status load_all(load *l, model *m, shards *s)
{
    TRY(shards_open_dir(s, l->dir));
    TRY(model_visit(m, collect, l));
    l->got = calloc((size_t)l->n, sizeof(void *));
    if (!l->got) return FAIL(ST_ENOMEM, "out of memory for %d tensors", l->n);
    TRY(match_all(l, s));
    TRY(check_tied_head(l));
    for (int i = 0; i < l->n; i++) fill_weight(l->b, &l->want[i], l->got[i]);
    l->b->params_changed(l->b);
    return l->b->sync(l->b);
}

status hf_load_weights(model *m, const char *dir)
{
    shards s = {.n = 0};
    load l = {.dir = dir, .cfg = model_cfg(m), .b = model_backend(m)};
    status st = load_all(&l, m, &s);
    free(l.want);
    free(l.got);
    shards_close(&s);
    return st; // NOLINT(clang-analyzer-unix.Malloc): shards_close freed the names; the analyzer lost the array
}
