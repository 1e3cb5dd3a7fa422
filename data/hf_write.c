/* Writing weights as Hugging Face does: one file, or shards and an index. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/hf_source.h"

typedef struct shard {
    int first, n; /* entries */
} shard;

typedef struct writing {
    const char *dir;
    const st_entry *e;
    int n;
    const char *const *meta;
    st_fill_fn *fill;
    void *ctx;
    int first; /* entry of the file being written */
} writing;

/* In the order given, a file is full when the next tensor would pass the limit; a larger tensor is alone. */
static int cut(shard *out, const st_entry *e, int n, int64_t limit)
{
    int files = 0;
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        if (i == 0 || bytes + (int64_t)e[i].bytes > limit) {
            out[files++] = (shard){i, 0};
            bytes = 0;
        }
        out[files - 1].n++;
        bytes += (int64_t)e[i].bytes;
    }
    return files;
}

static void file_name(char *out, size_t cap, int i, int files)
{
    if (files == 1)
        snprintf(out, cap, "model.safetensors");
    else
        snprintf(out, cap, "model-%05d-of-%05d.safetensors", i + 1, files);
}

static status fill_shifted(void *ctx, int i, size_t at, void *buf, size_t n)
{
    const writing *w = ctx;
    return w->fill(w->ctx, w->first + i, at, buf, n);
}

typedef struct mapped {
    const char *name;
    int file;
} mapped;

static int order_mapped(const void *a, const void *b)
{
    return strcmp(((const mapped *)a)->name, ((const mapped *)b)->name);
}

static status write_index(const writing *w, const shard *s, int files)
{
    char path[PATH_MAX], name[64];
    int64_t total = 0;
    mapped *map = malloc((size_t)w->n * sizeof *map);
    if (!map) return FAIL(ST_ENOMEM, "out of memory for the index");
    for (int f = 0; f < files; f++)
        for (int i = s[f].first; i < s[f].first + s[f].n; i++) {
            map[i] = (mapped){w->e[i].name, f};
            total += (int64_t)w->e[i].bytes;
        }
    qsort(map, (size_t)w->n, sizeof *map, order_mapped);
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_key(&o, "metadata");
    json_open(&o, '{');
    json_member_int(&o, "total_size", total);
    json_close(&o, '}');
    json_key(&o, "weight_map");
    json_open(&o, '{');
    for (int i = 0; i < w->n; i++) {
        file_name(name, sizeof name, map[i].file, files);
        json_member_str(&o, map[i].name, name);
    }
    json_close(&o, '}');
    json_close(&o, '}');
    status st = file_join(path, sizeof path, w->dir, "model.safetensors.index.json");
    if (st == ST_OK) st = file_write(path, o.text, o.len);
    json_end(&o);
    free(map);
    return st;
}

status hf_check_room(const char *dir, bool many)
{
    if (!file_exists(dir, "model.safetensors.index.json") && !(many && file_exists(dir, "model.safetensors")))
        return ST_OK;
    return FAIL(ST_EINVAL, "%s already holds other weights; readers could not tell which count", dir);
}

static status write_files(writing *w, const shard *s, int files)
{
    TRY(hf_check_room(w->dir, files > 1));
    for (int f = 0; f < files; f++) {
        char path[PATH_MAX], name[64];
        file_name(name, sizeof name, f, files);
        TRY(file_join(path, sizeof path, w->dir, name));
        w->first = s[f].first;
        TRY(st_write_filled(path, w->e + s[f].first, s[f].n, w->meta, fill_shifted, w));
    }
    return files > 1 ? write_index(w, s, files) : ST_OK;
}

status hf_write_weights(const char *dir, const st_entry *e, int n, int64_t shard_bytes, const char *const *meta,
                        st_fill_fn *fill, void *ctx)
{
    CHECK(n > 0 && shard_bytes > 0);
    shard *s = malloc((size_t)n * sizeof *s);
    if (!s) return FAIL(ST_ENOMEM, "out of memory for %d tensors", n);
    writing w = {.dir = dir, .e = e, .n = n, .meta = meta, .fill = fill, .ctx = ctx};
    status st = write_files(&w, s, cut(s, e, n, shard_bytes));
    free(s);
    return st;
}
