/* The files beside the weights: copied byte for byte, config.json with its dtype kept true. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/hf_source.h"

enum { MAX_JSON = 1 << 20 };

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

static bool same_model(const model_config *a, const model_config *b)
{
    json_out x, y;
    json_begin(&x, false);
    json_begin(&y, false);
    model_config_to_json(a, &x);
    model_config_to_json(b, &y);
    bool same = x.len == y.len && !memcmp(x.text, y.text, x.len);
    json_end(&x);
    json_end(&y);
    return same;
}

/* Where a node's text starts. */
static size_t offset(const char *text, const json *j)
{
    int line, col;
    const char *p = text;
    json_place(j, &line, &col);
    for (; line > 1; line--) p = strchr(p, '\n') + 1;
    return (size_t)(p - text) + (size_t)col - 1;
}

typedef struct change {
    size_t at, len; /* the old string with its quotes */
} change;

/* Every place that names the weights' dtype: under either key, at the top and in the parts. In document order, as no
 * object holds another's key between its own two. */
static int find_dtypes(change *out, const char *text, const json *root, const char *want)
{
    static const char *const parts[] = {NULL, "text_config", "vision_config"}, *const keys[] = {"torch_dtype", "dtype"};
    int n = 0;
    for (int p = 0; p < 3; p++)
        for (int k = 0; k < 2; k++) {
            const json *j = json_get(parts[p] ? json_get(root, parts[p]) : root, keys[k]);
            if (json_kind(j) != JSON_STRING || !strcmp(json_str(j), want)) continue;
            size_t at = offset(text, j), len = 1;
            while (text[at + len] != '"') len += text[at + len] == '\\' ? 2 : 1;
            out[n++] = (change){at, len + 1};
        }
    return n;
}

static int order_change(const void *a, const void *b)
{
    const change *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static status write_changed(const char *path, const char *text, size_t len, change *c, int n, const char *want)
{
    qsort(c, (size_t)n, sizeof *c, order_change);
    char *out = malloc(len + (size_t)n * (strlen(want) + 2) + 1);
    if (!out) return FAIL(ST_ENOMEM, "out of memory for %s", path);
    size_t used = 0, from = 0;
    for (int i = 0; i < n; i++) {
        memcpy(out + used, text + from, c[i].at - from);
        used += c[i].at - from;
        used += (size_t)sprintf(out + used, "\"%s\"", want);
        from = c[i].at + c[i].len;
    }
    memcpy(out + used, text + from, len - from);
    status st = file_write(path, out, used + len - from);
    free(out);
    return st;
}

/* Writes side_dir's config.json, its dtypes changed where they differ, if it says the same model. */
static status carry_config(const char *side_dir, const char *to, const model_config *c, const char *torch_dtype,
                           bool *done)
{
    char path[PATH_MAX], *text = NULL;
    size_t len = 0;
    json *j = NULL;
    model_config other;
    change changes[6];
    TRY(file_join(path, sizeof path, side_dir, "config.json"));
    TRY(file_read(path, &text, &len));
    status st = len <= MAX_JSON ? json_parse(&j, text, len, path) : FAIL(ST_EINVAL, "%s is larger than 1 MiB", path);
    if (st == ST_OK && model_config_from_json(&other, j) == ST_OK && same_model(c, &other)) {
        st = write_changed(to, text, len, changes, find_dtypes(changes, text, j, torch_dtype), torch_dtype);
        *done = st == ST_OK;
    }
    json_free(j);
    free(text);
    return st;
}

status hf_write_config(const char *side_dir, const char *out_dir, const model_config *c, const char *torch_dtype,
                       bool *carried)
{
    char path[PATH_MAX];
    *carried = false;
    TRY(file_join(path, sizeof path, out_dir, "config.json"));
    if (side_dir && file_exists(side_dir, "config.json")) TRY(carry_config(side_dir, path, c, torch_dtype, carried));
    if (*carried) return ST_OK;
    json_out o;
    json_begin(&o, true);
    model_config_write(c, torch_dtype, &o);
    status st = file_write(path, o.text, o.len);
    json_end(&o);
    return st;
}
