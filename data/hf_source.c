/* The weight files of a Hugging Face directory, and which of their tensors is which of a model's. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/hf_source.h"

/* An index names some 100 bytes a tensor; the tree of a hostile one takes 50 times its text. */
enum { MAX_INDEX = 4 << 20 };

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

void hf_source_close(hf_source *s)
{
    for (int i = 0; i < s->n; i++) {
        st_close(s->file[i]);
        free(s->name[i]);
    }
    s->n = 0; /* closing twice is legal */
}

static status open_file(hf_source *s, const char *dir, const char *name, int *which)
{
    for (*which = 0; *which < s->n; ++*which)
        if (!strcmp(s->name[*which], name)) return ST_OK;
    char path[PATH_MAX];
    if (s->n == HF_MAX_SHARDS) return FAIL(ST_EINVAL, "%s: more than %d weight files", dir, HF_MAX_SHARDS);
    if (!*name || strchr(name, '/')) return FAIL(ST_EINVAL, "%s: weight file name %s must be a plain name", dir, name);
    TRY(file_join(path, sizeof path, dir, name));
    TRY(st_open(&s->file[s->n], path));
    s->name[s->n] = strdup(name);
    CHECK(s->name[s->n]);
    s->n++;
    return ST_OK;
}

/* Every tensor of the map is in its file and every tensor of the files is in the map. */
static status read_index(hf_source *s, const char *dir)
{
    char path[PATH_MAX];
    json *j = NULL;
    TRY(file_join(path, sizeof path, dir, index_name));
    TRY(json_read_file(&j, path, MAX_INDEX));
    const json *map = json_get(j, "weight_map");
    status st = ST_OK;
    int64_t in_files = 0;
    if (json_kind(map) != JSON_OBJECT) TRY_OR(FAIL(ST_EINVAL, "%s: weight_map is missing", path), out);
    for (int64_t i = 0; i < json_len(map); i++) {
        const char *file = json_str(json_at(map, i)), *tensor_name = json_key_at(map, i);
        int which;
        if (!file) TRY_OR(FAIL(ST_EINVAL, "%s: %s has no file name", path, tensor_name), out);
        TRY_OR(open_file(s, dir, file, &which), out);
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

static status open_dir(hf_source *s, const char *dir)
{
    bool one = file_exists(dir, single_name), many = file_exists(dir, index_name);
    int which;
    if (one && many)
        return FAIL(ST_EINVAL, "%s has both %s and %s: remove the stale one", dir, single_name, index_name);
    if (!one && !many) return FAIL(ST_EINVAL, "%s has neither %s nor %s", dir, single_name, index_name);
    return many ? read_index(s, dir) : open_file(s, dir, single_name, &which);
}

status hf_source_open(hf_source *s, const char *dir)
{
    memset(s, 0, sizeof *s);
    status st = open_dir(s, dir);
    if (st != ST_OK) hf_source_close(s);
    return st;
}

bool hf_source_exists(const char *dir) { return file_exists(dir, single_name) || file_exists(dir, index_name); }

/* ---- which tensor is which ---- */

/* A name under any of the prefixes transformers has used, in the order of qwen_vl_spec 2.2: the part behind it, and the
 * part of the model it belongs to. */
static const char *bare(const char *name, char *part)
{
    static const struct {
        const char *prefix;
        char part;
    } all[] = {{"model.language_model.", 't'},
               {"model.visual.", 'v'},
               {"language_model.", 't'},
               {"visual.", 'v'},
               {"lm_head.", 'h'},
               {"model.", 't'}};
    *part = '?';
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t n = strlen(all[i].prefix);
        if (strncmp(name, all[i].prefix, n) != 0) continue;
        *part = all[i].part;
        return name + n;
    }
    return name;
}

static int order_bare(const char *a, const char *b)
{
    char pa, pb;
    const char *na = bare(a, &pa), *nb = bare(b, &pb);
    return pa != pb ? pa - pb : strcmp(na, nb);
}

static int order_want(const void *a, const void *b)
{
    return order_bare(((const hf_pair *)a)->want.name, ((const hf_pair *)b)->want.name);
}

static int order_model(const void *a, const void *b) { return ((const hf_pair *)a)->i - ((const hf_pair *)b)->i; }

typedef struct matching {
    hf_match *out;
    int cap;
    const char *dir;
    bool tied;
    char text[1024]; /* names for the message, the first few in full */
    int n_bad;
} matching;

static status collect(void *ctx, const model_tensor *t)
{
    matching *m = ctx;
    hf_match *o = m->out;
    if (o->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 256;
        hf_pair *grown = realloc(o->pair, (size_t)m->cap * sizeof *grown);
        if (!grown) return FAIL(ST_ENOMEM, "out of memory for tensor names");
        o->pair = grown;
    }
    o->pair[o->n] = (hf_pair){.want = *t, .i = o->n};
    o->n++;
    return ST_OK;
}

static void note(matching *m, const char *name)
{
    size_t used = strlen(m->text);
    if (m->n_bad++ < 8) snprintf(m->text + used, sizeof m->text - used, "%s%.100s", used ? ", " : "", name);
}

static status bad_shape(const matching *m, const st_tensor *t, const model_tensor *w)
{
    char have[192] = "", need[192] = "";
    for (int d = 0; d < t->ndim; d++)
        snprintf(have + strlen(have), sizeof have - strlen(have), "%s%lld", d ? "," : "", (long long)t->shape[d]);
    for (int d = 0; d < w->ndim; d++)
        snprintf(need + strlen(need), sizeof need - strlen(need), "%s%lld", d ? "," : "", (long long)w->shape[d]);
    return FAIL(ST_EINVAL, "%s: tensor %s is [%s] but config.json makes it [%s]", m->dir, t->name, have, need);
}

static status match_one(matching *m, const st_file *f, const st_tensor *t)
{
    hf_match *o = m->out;
    if (strstr(t->name, "rotary_emb.inv_freq")) return ST_OK; /* a buffer old fine-tunes saved */
    if (m->tied && !order_bare(t->name, "lm_head.weight")) {
        if (o->head.got) return FAIL(ST_EINVAL, "%s: %s appears twice", m->dir, t->name);
        o->head.got = t;
        o->head.file = f;
        return ST_OK;
    }
    const hf_pair key = {.want = {.name = t->name}};
    hf_pair *p = bsearch(&key, o->pair, (size_t)o->n, sizeof key, order_want);
    if (!p) {
        note(m, t->name);
        return ST_OK;
    }
    if (p->got) return FAIL(ST_EINVAL, "%s: %s appears twice, also as %s", m->dir, t->name, p->got->name);
    bool same = t->ndim == p->want.ndim;
    for (int d = 0; same && d < t->ndim; d++) same = t->shape[d] == p->want.shape[d];
    if (!same) return bad_shape(m, t, &p->want);
    if (strcmp(t->dtype, "F32") != 0 && strcmp(t->dtype, "BF16") != 0 && strcmp(t->dtype, "F16") != 0)
        return FAIL(ST_EINVAL, "%s: tensor %s is %s; F32, BF16 and F16 can be read", m->dir, t->name, t->dtype);
    p->got = t;
    p->file = f;
    return ST_OK;
}

/* A tied checkpoint may repeat the embedding as its head; another head would be lost. */
static status check_tied_head(const matching *m)
{
    enum { PIECE = 1 << 18 };
    const hf_pair *h = &m->out->head, *e = m->out->pair;
    if (!h->got) return ST_OK;
    while (strstr(e->want.name, "embed_tokens.weight") == NULL) e++;
    bool same = h->got->bytes == e->got->bytes && !strcmp(h->got->dtype, e->got->dtype);
    char *a = malloc(PIECE), *b = malloc(PIECE);
    status st = a && b ? ST_OK : FAIL(ST_ENOMEM, "out of memory");
    for (size_t at = 0; same && st == ST_OK && at < e->got->bytes; at += PIECE) {
        size_t n = e->got->bytes - at < PIECE ? e->got->bytes - at : PIECE;
        st = st_read(h->file, h->got, at, a, n);
        if (st == ST_OK) st = st_read(e->file, e->got, at, b, n);
        same = st != ST_OK || !memcmp(a, b, n);
    }
    free(a);
    free(b);
    if (st != ST_OK || same) return st;
    return FAIL(ST_EINVAL, "%s: config.json says tie_word_embeddings true but %s differs from the embedding", m->dir,
                h->got->name);
}

static status match_all(matching *m, const hf_source *s, model *want)
{
    hf_match *o = m->out;
    TRY(model_visit(want, collect, m));
    CHECK(o->n > 0);
    qsort(o->pair, (size_t)o->n, sizeof *o->pair, order_want);
    for (int f = 0; f < s->n; f++)
        for (int k = 0; k < st_count(s->file[f]); k++) TRY(match_one(m, s->file[f], st_at(s->file[f], k)));
    qsort(o->pair, (size_t)o->n, sizeof *o->pair, order_model);
    if (m->n_bad)
        return FAIL(ST_EINVAL, "%s: %d unexpected tensor%s: %s%s", m->dir, m->n_bad, m->n_bad == 1 ? "" : "s", m->text,
                    m->n_bad > 8 ? ", ..." : "");
    for (int i = 0; i < o->n; i++)
        if (!o->pair[i].got) note(m, o->pair[i].want.name);
    if (m->n_bad)
        return FAIL(ST_EINVAL, "%s: %d missing tensor%s: %s%s%s", m->dir, m->n_bad, m->n_bad == 1 ? "" : "s", m->text,
                    m->n_bad > 8 ? ", ..." : "",
                    strstr(m->text, "lm_head") ? " (config.json says tie_word_embeddings false)" : "");
    return check_tied_head(m);
}

status hf_match_open(hf_match *out, const hf_source *s, model *want, const char *dir)
{
    memset(out, 0, sizeof *out);
    matching m = {.out = out, .dir = dir, .tied = model_cfg(want)->tied};
    status st = match_all(&m, s, want);
    if (st != ST_OK) hf_match_close(out);
    return st;
}

void hf_match_close(hf_match *m)
{
    free(m->pair);
    memset(m, 0, sizeof *m);
}

/* ---- reading one ---- */

void hf_to_float(float *out, const void *from, const char *stored, int64_t n)
{
    const uint16_t *h = from;
    if (!strcmp(stored, "F32"))
        memcpy(out, from, (size_t)n * sizeof *out);
    else if (!strcmp(stored, "BF16"))
        for (int64_t i = 0; i < n; i++) out[i] = f32_from_bf16(h[i]);
    else
        for (int64_t i = 0; i < n; i++) out[i] = f32_from_f16(h[i]);
}

void hf_store(const char *stored, void *out, const float *from, int64_t n)
{
    uint16_t *h = out;
    if (!strcmp(stored, "F32"))
        memcpy(out, from, (size_t)n * sizeof *from);
    else if (!strcmp(stored, "BF16"))
        for (int64_t i = 0; i < n; i++) h[i] = bf16_from_f32(from[i]);
    else
        for (int64_t i = 0; i < n; i++) h[i] = f16_from_f32(from[i]);
}

status hf_from_float(void *out, const char *stored, const float *from, int64_t n, const char *name)
{
    hf_store(stored, out, from, n);
    const uint16_t *h = out;
    for (int64_t i = 0; !strcmp(stored, "F16") && i < n; i++)
        if ((h[i] & 0x7fff) == 0x7c00 && isfinite(from[i]))
            return FAIL(ST_EINVAL, "%s holds %g, more than fp16 can (65504); use bf16 or fp32", name, (double)from[i]);
    return ST_OK;
}

status hf_read(void *to, const char *as, const hf_pair *p, int64_t at, int64_t n)
{
    enum { PART = 1 << 14 };
    size_t from = (size_t)st_dtype_bytes(p->got->dtype), size = (size_t)st_dtype_bytes(as);
    if (!strcmp(p->got->dtype, as)) return st_read(p->file, p->got, (size_t)at * from, to, (size_t)n * from);
    uint32_t raw[PART];
    float wide[PART];
    for (int64_t done = 0; done < n; done += PART) {
        int64_t k = n - done < PART ? n - done : PART;
        TRY(st_read(p->file, p->got, (size_t)(at + done) * from, raw, (size_t)k * from));
        hf_to_float(wide, raw, p->got->dtype, k);
        TRY(hf_from_float((char *)to + (size_t)done * size, as, wide, k, p->got->name));
    }
    return ST_OK;
}
