/* Writing safetensors files (qwen_vl_spec 9.3). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/json.h"
#include "data/safetensors.h"

enum { PREFIX = 8, PIECE = 1 << 23 };

typedef struct order {
    const st_entry *e;
    int i;
} order; /* an entry and its number in the caller's list */

/* The reference implementation's order: wide types first so that every tensor is aligned, then by name. */
static int order_write(const void *pa, const void *pb)
{
    const order *a = pa, *b = pb;
    int sa = st_dtype_bytes(a->e->dtype), sb = st_dtype_bytes(b->e->dtype);
    return sa != sb ? sb - sa : strcmp(a->e->name, b->e->name);
}

static void write_meta(json_out *o, const char *const *meta)
{
    json_key(o, "__metadata__");
    json_open(o, '{');
    json_key(o, "format"); /* transformers refuses files without it */
    json_put_str(o, "pt");
    for (; meta && meta[0]; meta += 2) { json_member_str(o, meta[0], meta[1]); }
    json_close(o, '}');
}

static void write_entry_head(json_out *o, const st_entry *e, size_t at)
{
    json_key(o, e->name);
    json_open(o, '{');
    json_member_str(o, "dtype", e->dtype);
    json_key(o, "shape");
    json_open(o, '[');
    for (int i = 0; i < e->ndim; i++) json_put_int(o, e->shape[i]);
    json_close(o, ']');
    json_key(o, "data_offsets");
    json_open(o, '[');
    json_put_int(o, (int64_t)at);
    json_put_int(o, (int64_t)(at + e->bytes));
    json_close(o, ']');
    json_close(o, '}');
}

static status write_head(FILE *file, const order *list, int n, const char *const *meta, const char *path)
{
    json_out o;
    size_t at = 0;
    json_begin(&o, false);
    json_open(&o, '{');
    write_meta(&o, meta);
    for (int i = 0; i < n; at += list[i++].e->bytes) write_entry_head(&o, list[i].e, at);
    json_close(&o, '}');
    size_t len = (o.len + 7) / 8 * 8;
    uint8_t prefix[PREFIX];
    for (int i = 0; i < PREFIX; i++) prefix[i] = (uint8_t)((uint64_t)len >> 8 * i);
    bool ok = fwrite(prefix, 1, PREFIX, file) == PREFIX && fwrite(o.text, 1, o.len, file) == o.len;
    for (size_t i = o.len; i < len; i++) ok = ok && fputc(' ', file) != EOF;
    json_end(&o);
    return ok ? ST_OK : FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
}

static status write_data(FILE *file, const order *w, st_fill_fn *fill, void *ctx, void *buf, const char *path)
{
    for (size_t at = 0; at < w->e->bytes;) {
        size_t n = w->e->bytes - at;
        const void *src = w->e->data;
        if (!src) {
            if (n > PIECE) n = PIECE;
            CHECK(fill);
            TRY(fill(ctx, w->i, at, buf, n));
            src = buf;
        }
        if (fwrite(src, 1, n, file) != n) return FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
        at += n;
    }
    return ST_OK;
}

static status write_all(FILE *file, const order *list, int n, const char *const *meta, st_fill_fn *fill, void *ctx,
                        const char *path)
{
    TRY(write_head(file, list, n, meta, path));
    void *buf = malloc(PIECE);
    status st = buf ? ST_OK : FAIL(ST_ENOMEM, "out of memory for writing %s", path);
    for (int i = 0; i < n && st == ST_OK; i++) st = write_data(file, &list[i], fill, ctx, buf, path);
    free(buf);
    TRY(st);
    if (fflush(file) != 0 || fsync(fileno(file)) != 0)
        return FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
    return ST_OK;
}

static void check_entry(const st_entry *e)
{
    size_t bytes = (size_t)st_dtype_bytes(e->dtype);
    CHECK(bytes && e->ndim >= 0 && e->ndim <= 8);
    for (int i = 0; i < e->ndim; i++) bytes *= (size_t)e->shape[i];
    CHECK(bytes == e->bytes);
}

status st_write_filled(const char *path, const st_entry *e, int n, const char *const *meta, st_fill_fn *fill, void *ctx)
{
    char tmp[4096];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
        return FAIL(ST_EINVAL, "path too long: %s", path);
    order *list = malloc((size_t)(n ? n : 1) * sizeof *list);
    if (!list) return FAIL(ST_ENOMEM, "out of memory for %d tensors", n);
    for (int i = 0; i < n; i++) {
        CHECK(e[i].data || fill || !e[i].bytes);
        check_entry(&e[i]);
        list[i] = (order){&e[i], i};
    }
    qsort(list, (size_t)n, sizeof *list, order_write);
    for (int i = 1; i < n; i++) CHECK(strcmp(list[i - 1].e->name, list[i].e->name));

    FILE *file = fopen(tmp, "wbe");
    status st = file ? write_all(file, list, n, meta, fill, ctx, tmp)
                     : FAIL(ST_EIO, "cannot create %s: %s", tmp, strerror(errno));
    free(list);
    if (file && fclose(file) != 0 && st == ST_OK) st = FAIL(ST_EIO, "cannot write %s: %s", tmp, strerror(errno));
    if (st == ST_OK && rename(tmp, path) != 0) st = FAIL(ST_EIO, "cannot rename %s: %s", tmp, strerror(errno));
    if (st != ST_OK) unlink(tmp);
    return st;
}

status st_write(const char *path, const st_entry *e, int n, const char *const *meta)
{
    return st_write_filled(path, e, n, meta, NULL, NULL);
}
