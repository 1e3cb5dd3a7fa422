/* Writing Hugging Face model directories. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/safetensors.h"

enum { MAX_JSON = 64 << 20, PIECE = 4096 };

status hf_copy_side_files(const char *from_dir, const char *to_dir)
{
    static const char *const names[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "preprocessor_config.json",
                                        "processor_config.json",
                                        "video_preprocessor_config.json",
                                        "chat_template.json",
                                        "chat_template.jinja",
                                        "generation_config.json"};
    if (file_same(from_dir, to_dir)) return ST_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (file_exists(from_dir, names[i])) TRY(file_copy(from_dir, to_dir, names[i]));
    return ST_OK;
}

static const char *stored_dtype(const json *j)
{
    const char *type = json_str(json_get(j, "torch_dtype"));
    return type ? type : json_str(json_get(j, "dtype"));
}

/* This config.json describes the same model in the same dtype: then its own text, with whatever else it says, is the
 * better one to ship. */
static bool same_config(const json *j, const model_config *c, const char *torch_dtype)
{
    model_config other;
    const char *type = stored_dtype(j) ? stored_dtype(j) : stored_dtype(json_get(j, "text_config"));
    if (!type || strcmp(type, torch_dtype) != 0 || model_config_from_json(&other, j) != ST_OK) return false;
    json_out a, b;
    json_begin(&a, false);
    json_begin(&b, false);
    model_config_to_json(c, &a);
    model_config_to_json(&other, &b);
    bool same = a.len == b.len && !memcmp(a.text, b.text, a.len);
    json_end(&a);
    json_end(&b);
    return same;
}

static status write_config(const char *side_dir, const char *out_dir, const model_config *c, const char *torch_dtype)
{
    char path[PATH_MAX];
    if (side_dir && file_exists(side_dir, "config.json")) {
        json *j = NULL;
        TRY(file_join(path, sizeof path, side_dir, "config.json"));
        TRY(json_read_file(&j, path, MAX_JSON));
        bool same = same_config(j, c, torch_dtype);
        json_free(j);
        if (same) return file_same(side_dir, out_dir) ? ST_OK : file_copy(side_dir, out_dir, "config.json");
    }
    json_out o;
    TRY(file_join(path, sizeof path, out_dir, "config.json"));
    json_begin(&o, true);
    model_config_write(c, torch_dtype, &o);
    status st = file_write(path, o.text, o.len);
    json_end(&o);
    return st;
}

typedef struct export
{
    backend *b;
    bool bf16;
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
    st_entry *e = &x->entry[x->n];
    *e = (st_entry){.name = t->name,
                    .dtype = x->bf16 ? "BF16" : "F32",
                    .ndim = t->ndim,
                    .bytes = (size_t)tensor_count(&t->w) * (x->bf16 ? 2 : 4)};
    memcpy(e->shape, t->shape, (size_t)t->ndim * sizeof *e->shape);
    x->weight[x->n++] = t->w;
    return ST_OK;
}

/* Hands weight i to the writer piece by piece, from wherever it is stored, rounded on the way if bf16 is wanted. */
static status fill_entry(void *ctx, int i, size_t at, void *buf, size_t bytes)
{
    const export *x = ctx;
    const tensor *w = &x->weight[i];
    size_t size = x->bf16 ? 2 : 4, done = 0;
    while (done < bytes / size) {
        float part[PIECE];
        size_t n = bytes / size - done < PIECE ? bytes / size - done : PIECE;
        tensor from = tensor_1d((float *)w->data + at / size + done, DT_F32, (int64_t)n);
        x->b->download(x->b, part, &from);
        if (!x->bf16) memcpy((float *)buf + done, part, n * sizeof *part);
        for (size_t k = 0; x->bf16 && k < n; k++) ((uint16_t *)buf)[done + k] = bf16_from_f32(part[k]);
        done += n;
    }
    return ST_OK;
}

static status write_weights(model *m, const char *out_dir, bool bf16)
{
    char path[PATH_MAX];
    int n = 0;
    TRY(file_join(path, sizeof path, out_dir, "model.safetensors"));
    TRY(model_visit(m, count_entry, &n));
    export x = {.b = model_backend(m), .bf16 = bf16};
    x.entry = calloc((size_t)n, sizeof *x.entry);
    x.weight = calloc((size_t)n, sizeof *x.weight);
    status st =
        x.entry && x.weight ? model_visit(m, add_entry, &x) : FAIL(ST_ENOMEM, "out of memory for %d tensors", n);
    if (st == ST_OK) st = st_write_filled(path, x.entry, x.n, NULL, fill_entry, &x);
    free(x.entry);
    free(x.weight);
    return st == ST_OK ? x.b->sync(x.b) : st;
}

status hf_export(model *m, const char *side_dir, const char *out_dir, const char *type)
{
    bool bf16 = !strcmp(type, "bf16");
    if (!bf16 && strcmp(type, "f32") != 0) return FAIL(ST_EINVAL, "dtype %s: weights are written as f32 or bf16", type);
    TRY(file_make_dir(out_dir));
    if (file_exists(out_dir, "model.safetensors.index.json"))
        return FAIL(ST_EINVAL, "%s holds a sharded checkpoint; readers could not tell which weights count", out_dir);
    TRY(write_config(side_dir, out_dir, model_cfg(m), bf16 ? "bfloat16" : "float32"));
    if (side_dir) TRY(hf_copy_side_files(side_dir, out_dir));
    return write_weights(m, out_dir, bf16);
}
