/* Writing Hugging Face model directories: from a model in memory, or from another directory without one.
 *
 * Tensors keep the names they were read under, the config its text. A run trains in fp32 from weights of any dtype; its
 * checkpoints carry that dtype as metadata (source_dtype), so that exporting one gives back what the run started from.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/file.h"
#include "data/hf_source.h"

enum { PIECE = 4096 };

static const char source_key[] = "source_dtype";

static const struct {
    const char *name, *stored, *torch;
} dtypes[] = {{"fp32", "F32", "float32"}, {"bf16", "BF16", "bfloat16"}, {"fp16", "F16", "float16"}};
enum { N_DTYPE = sizeof dtypes / sizeof *dtypes };

static int find_dtype(const char *name)
{
    for (int i = 0; name && i < N_DTYPE; i++)
        if (!strcmp(dtypes[i].name, name) || !strcmp(dtypes[i].stored, name)) return i;
    return -1;
}

static status need_dtype(const char *name, int *out)
{
    *out = find_dtype(name);
    return *out >= 0 ? ST_OK : FAIL(ST_EINVAL, "dtype %s: weights are written as fp32, bf16 or fp16", name);
}

const char *hf_stored_name(const char *name)
{
    int d = find_dtype(name);
    return d < 0 ? NULL : dtypes[d].stored;
}

const char *hf_torch_name(const char *name)
{
    int d = find_dtype(name);
    return d < 0 ? NULL : dtypes[d].torch;
}

/* What a checkpoint's weights were before training, else what they are. The embedding stands for all. */
static const char *origin(const hf_match *m)
{
    const char *was = st_metadata(m->pair[0].file, source_key);
    return find_dtype(was) >= 0 ? was : m->pair[0].got->dtype;
}

static st_entry entry_of(const model_tensor *t, const char *name, const char *stored)
{
    st_entry e = {.name = name, .dtype = stored, .ndim = t->ndim};
    memcpy(e.shape, t->shape, (size_t)t->ndim * sizeof *e.shape);
    e.bytes = (size_t)tensor_count(&t->w) * (size_t)st_dtype_bytes(stored);
    return e;
}

/* ---- a model in memory ---- */

typedef struct export
{
    backend *b;
    const char *stored;
    st_entry *entry;
    tensor *weight; /* (n) as entry */
    int n;
}
export;

static status count_entry(void *ctx, const model_tensor *t)
{
    (void)t;
    ++*(int *)ctx;
    return ST_OK;
}

static status add_entry(void *ctx, const model_tensor *t)
{
    export *x = ctx;
    CHECK(t->w.type == DT_F32);
    x->entry[x->n] = entry_of(t, t->name, x->stored);
    x->weight[x->n++] = t->w;
    return ST_OK;
}

/* Hands weight i to the writer piece by piece, from wherever it is stored, rounded on the way. */
static status fill_entry(void *ctx, int i, size_t at, void *buf, size_t bytes)
{
    const export *x = ctx;
    size_t size = (size_t)st_dtype_bytes(x->stored), done = 0;
    while (done < bytes / size) {
        float part[PIECE];
        size_t n = bytes / size - done < PIECE ? bytes / size - done : PIECE;
        tensor from = tensor_1d((float *)x->weight[i].data + at / size + done, DT_F32, (int64_t)n);
        x->b->download(x->b, part, &from);
        TRY(hf_from_float((char *)buf + done * size, x->stored, part, (int64_t)n, x->entry[i].name));
        done += n;
    }
    return ST_OK;
}

/* Names and dtype of the weights the model came from, if side_dir has them. */
static status take_names(export *x, model *m, const char *side_dir, hf_source *s, hf_match *match, const char **was)
{
    *was = NULL;
    if (!side_dir || !hf_source_exists(side_dir)) return ST_OK;
    TRY(hf_source_open(s, side_dir));
    TRY(hf_match_open(match, s, m, side_dir));
    for (int i = 0; i < x->n; i++) x->entry[i].name = match->pair[i].got->name;
    *was = origin(match);
    return ST_OK;
}

static status write_model(export *x, model *m, const char *side_dir, const char *out_dir)
{
    int n = 0;
    hf_source s = {.n = 0};
    hf_match match = {0};
    const char *was = NULL;
    TRY(model_visit(m, count_entry, &n));
    x->entry = calloc((size_t)n, sizeof *x->entry);
    x->weight = calloc((size_t)n, sizeof *x->weight);
    status st =
        x->entry && x->weight ? model_visit(m, add_entry, x) : FAIL(ST_ENOMEM, "out of memory for %d tensors", n);
    if (st == ST_OK) st = take_names(x, m, side_dir, &s, &match, &was);
    const char *const meta[] = {source_key, was, NULL};
    bool noted = was && strcmp(was, x->stored) != 0;
    if (st == ST_OK) st = hf_write_weights(out_dir, x->entry, x->n, HF_SHARD_BYTES, noted ? meta : NULL, fill_entry, x);
    free(x->entry);
    free(x->weight);
    hf_match_close(&match);
    hf_source_close(&s);
    return st == ST_OK ? x->b->sync(x->b) : st;
}

status hf_export(model *m, const char *side_dir, const char *out_dir, const char *type)
{
    int d;
    bool carried = false;
    TRY(need_dtype(type, &d));
    bool many = model_param_count(m) * st_dtype_bytes(dtypes[d].stored) > HF_SHARD_BYTES;
    TRY(hf_check_room(out_dir, many));
    TRY(file_make_dir(out_dir));
    TRY(hf_write_config(side_dir, out_dir, model_cfg(m), dtypes[d].torch, &carried));
    if (side_dir) TRY(hf_copy_side_files(side_dir, out_dir));
    export x = {.b = model_backend(m), .stored = dtypes[d].stored};
    return write_model(&x, m, carried ? side_dir : NULL, out_dir);
}

/* ---- a directory ---- */

typedef struct conversion {
    const st_entry *entry;
    const hf_pair *pair;
} conversion;

static status fill_converted(void *ctx, int i, size_t at, void *buf, size_t bytes)
{
    const conversion *c = ctx;
    size_t size = (size_t)st_dtype_bytes(c->entry[i].dtype);
    return hf_read(buf, c->entry[i].dtype, &c->pair[i], (int64_t)(at / size), (int64_t)(bytes / size));
}

static status write_converted(const hf_match *match, const char *to, const char *stored, int64_t shard_bytes)
{
    st_entry *e = calloc((size_t)match->n, sizeof *e);
    if (!e) return FAIL(ST_ENOMEM, "out of memory for %d tensors", match->n);
    for (int i = 0; i < match->n; i++) {
        const hf_pair *p = &match->pair[i];
        e[i] = entry_of(&p->want, p->got->name, stored ? stored : p->got->dtype);
    }
    conversion c = {e, match->pair};
    status st = hf_write_weights(to, e, match->n, shard_bytes, NULL, fill_converted, &c);
    free(e);
    return st;
}

static status convert(model *names, const hf_source *s, const char *from, const char *to, const hf_export_opts *o,
                      const char **dtype_out)
{
    hf_match match = {0};
    bool carried;
    TRY(hf_match_open(&match, s, names, from));
    bool was_trained = find_dtype(st_metadata(match.pair[0].file, source_key)) >= 0;
    int d = find_dtype(o->dtype ? o->dtype : origin(&match));
    status st = file_make_dir(to);
    if (st == ST_OK) st = hf_write_config(from, to, model_cfg(names), dtypes[d].torch, &carried);
    if (st == ST_OK) st = hf_copy_side_files(from, to);
    if (st == ST_OK)
        st = write_converted(&match, to, o->dtype || was_trained ? dtypes[d].stored : NULL,
                             o->shard_bytes ? o->shard_bytes : HF_SHARD_BYTES);
    if (st == ST_OK) *dtype_out = dtypes[d].name;
    hf_match_close(&match);
    return st;
}

status hf_convert(const char *from, const char *to, const hf_export_opts *o, hf_exported *out)
{
    model_config c;
    model *names = NULL;
    hf_source s;
    int d;
    if (o->dtype) TRY(need_dtype(o->dtype, &d));
    if (file_same(from, to)) return FAIL(ST_EINVAL, "%s is the directory to export itself", to);
    if (hf_source_exists(to))
        return FAIL(ST_EINVAL, "%s already holds a model; choose another directory or remove it", to);
    TRY(hf_load_config(&c, from));
    TRY(hf_source_open(&s, from));
    status st = model_create_names(&names, &c);
    if (st == ST_OK) st = convert(names, &s, from, to, o, &out->dtype);
    if (st == ST_OK) out->params = model_param_count(names);
    model_destroy(names);
    hf_source_close(&s);
    return st;
}
