#include "data/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"

enum { MAX_HEADER = 100000000, PREFIX = 8 };

struct st_file {
    void *map;
    size_t size;
    json *head;
    st_tensor *t; /* in order of data */
    int n;
    const st_tensor **by_name;
    const json *meta;
};

static const struct {
    const char *name;
    int bytes;
} dtypes[] = {{"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"BF16", 2},   {"F16", 2},
              {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

static int dtype_bytes(const char *name)
{
    for (size_t i = 0; name && i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(dtypes[i].name, name)) return dtypes[i].bytes;
    return 0;
}

/* ---- reading ---- */

static status map_file(st_file *f, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return FAIL(ST_EIO, "cannot open %s: %s", path, strerror(errno));
    struct stat s;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) {
        close(fd);
        return FAIL(ST_EIO, "%s is not a regular file", path);
    }
    f->size = (size_t)s.st_size;
    if (f->size >= PREFIX) f->map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, fd, 0);
    int why = errno;
    close(fd);
    if (f->size < PREFIX) return FAIL(ST_EINVAL, "%s is too short to be a safetensors file", path);
    if (f->map == MAP_FAILED) {
        f->map = NULL;
        return FAIL(ST_EIO, "cannot map %s: %s", path, strerror(why));
    }
    return ST_OK;
}

static status read_shape(st_tensor *t, const json *entry, const char *path)
{
    const json *shape = json_get(entry, "shape");
    if (json_kind(shape) != JSON_ARRAY || json_len(shape) > 8)
        return FAIL(ST_EINVAL, "%s: tensor %s has no shape of at most 8 dimensions", path, t->name);
    t->ndim = (int)json_len(shape);
    for (int i = 0; i < t->ndim; i++) {
        t->shape[i] = json_int(json_at(shape, i));
        if (!json_is_int(json_at(shape, i)) || t->shape[i] < 0)
            return FAIL(ST_EINVAL, "%s: tensor %s has a bad dimension", path, t->name);
    }
    return ST_OK;
}

/* One entry of the header; its data must lie inside the n_data bytes after the header. */
static status read_entry(st_tensor *t, const char *name, const json *entry, const char *data, size_t n_data,
                         const char *path)
{
    t->name = name;
    if (json_kind(entry) != JSON_OBJECT || json_len(entry) != 3)
        return FAIL(ST_EINVAL, "%s: tensor %s must have exactly dtype, shape and data_offsets", path, name);
    const char *type = json_str(json_get(entry, "dtype"));
    int size = dtype_bytes(type);
    if (!size) return FAIL(ST_EINVAL, "%s: tensor %s has unknown dtype %s", path, name, type ? type : "(none)");
    snprintf(t->dtype, sizeof t->dtype, "%s", type);
    TRY(read_shape(t, entry, path));
    size_t bytes = (size_t)size;
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(bytes, (size_t)t->shape[i], &bytes))
            return FAIL(ST_EINVAL, "%s: tensor %s is too large", path, name);

    const json *at = json_get(entry, "data_offsets"), *b = json_at(at, 0), *e = json_at(at, 1);
    if (json_kind(at) != JSON_ARRAY || json_len(at) != 2 || !json_is_int(b) || !json_is_int(e) || json_int(b) < 0 ||
        json_int(e) < json_int(b) || (uint64_t)json_int(e) > n_data)
        return FAIL(ST_EINVAL, "%s: tensor %s has data_offsets outside the file", path, name);
    if ((size_t)(json_int(e) - json_int(b)) != bytes)
        return FAIL(ST_EINVAL, "%s: tensor %s has %lld bytes of data but its shape and dtype need %zu", path, name,
                    (long long)(json_int(e) - json_int(b)), bytes);
    t->bytes = bytes;
    t->data = data + json_int(b);
    return ST_OK;
}

static int order_data(const void *pa, const void *pb)
{
    const st_tensor *a = pa, *b = pb;
    if (a->data != b->data) return (const char *)a->data < (const char *)b->data ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static int order_name(const void *pa, const void *pb)
{
    const st_tensor *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

/* Entries cover the data exactly: no hole, no overlap, nothing after the end. */
static status check_layout(const st_file *f, const char *data, const char *path)
{
    const char *at = data;
    for (int i = 0; i < f->n; i++) {
        if ((const char *)f->t[i].data != at)
            return FAIL(ST_EINVAL, "%s: tensor %s %s", path, f->t[i].name,
                        (const char *)f->t[i].data < at ? "overlaps the one before it" : "leaves a hole before it");
        at += f->t[i].bytes;
    }
    if (at != (const char *)f->map + f->size) return FAIL(ST_EINVAL, "%s: bytes after the last tensor", path);
    return ST_OK;
}

static status read_meta(st_file *f, const json *meta, const char *path)
{
    if (json_kind(meta) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: __metadata__ must be an object", path);
    for (int64_t i = 0; i < json_len(meta); i++)
        if (json_kind(json_at(meta, i)) != JSON_STRING)
            return FAIL(ST_EINVAL, "%s: __metadata__ %s must be a string", path, json_key_at(meta, i));
    f->meta = meta;
    return ST_OK;
}

static status read_header(st_file *f, const char *path)
{
    uint64_t n = 0;
    for (int i = PREFIX - 1; i >= 0; i--) n = n << 8 | ((const uint8_t *)f->map)[i];
    if (n > MAX_HEADER || n > f->size - PREFIX)
        return FAIL(ST_EINVAL, "%s: header length %llu is too large", path, (unsigned long long)n);
    const char *text = (const char *)f->map + PREFIX, *data = text + n;
    if (n == 0 || text[0] != '{') return FAIL(ST_EINVAL, "%s: header must start with {", path);
    TRY(json_parse(&f->head, text, n, path));
    if (json_kind(f->head) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: header must be an object", path);

    int64_t members = json_len(f->head);
    f->t = calloc((size_t)members + 1, sizeof *f->t);
    f->by_name = calloc((size_t)members + 1, sizeof(void *));
    if (!f->t || !f->by_name) return FAIL(ST_ENOMEM, "out of memory for %lld tensors", (long long)members);
    for (int64_t i = 0; i < members; i++) {
        const char *name = json_key_at(f->head, i);
        const json *entry = json_at(f->head, i);
        if (!strcmp(name, "__metadata__"))
            TRY(read_meta(f, entry, path));
        else
            TRY(read_entry(&f->t[f->n++], name, entry, data, f->size - PREFIX - n, path));
    }
    qsort(f->t, (size_t)f->n, sizeof *f->t, order_data);
    for (int i = 0; i < f->n; i++) f->by_name[i] = &f->t[i];
    qsort(f->by_name, (size_t)f->n, sizeof(void *), order_name);
    for (int i = 1; i < f->n; i++) /* two spellings of one key, such as an escape */
        if (!order_name(&f->by_name[i - 1], &f->by_name[i]))
            return FAIL(ST_EINVAL, "%s: tensor %s appears twice", path, f->by_name[i]->name);
    return check_layout(f, data, path);
}

status st_open(st_file **out, const char *path)
{
    st_file *f = calloc(1, sizeof *f);
    if (!f) return FAIL(ST_ENOMEM, "out of memory");
    status st = map_file(f, path);
    if (st == ST_OK) st = read_header(f, path);
    if (st != ST_OK) {
        st_close(f);
        return st;
    }
    *out = f;
    return ST_OK;
}

int st_count(const st_file *f) { return f->n; }
const st_tensor *st_at(const st_file *f, int i) { return i >= 0 && i < f->n ? &f->t[i] : NULL; }
const char *st_metadata(const st_file *f, const char *key) { return json_str(json_get(f->meta, key)); }

const st_tensor *st_find(const st_file *f, const char *name)
{
    const st_tensor key = {.name = name}, *p = &key;
    const st_tensor **hit = bsearch(&p, f->by_name, (size_t)f->n, sizeof(void *), order_name);
    return hit ? *hit : NULL;
}

void st_close(st_file *f)
{
    if (!f) return;
    if (f->map) munmap(f->map, f->size);
    json_free(f->head);
    free(f->t);
    free(f->by_name);
    free(f);
}

/* ---- writing ---- */

typedef struct order {
    const st_entry *e;
    int i;
} order; /* an entry and its number in the caller's list */

/* The reference implementation's order: wide types first so that every tensor is aligned, then by name. */
static int order_write(const void *pa, const void *pb)
{
    const order *a = pa, *b = pb;
    int sa = dtype_bytes(a->e->dtype), sb = dtype_bytes(b->e->dtype);
    return sa != sb ? sb - sa : strcmp(a->e->name, b->e->name);
}

static void write_meta(json_out *o, const char *const *meta)
{
    json_key(o, "__metadata__");
    json_open(o, '{');
    json_key(o, "format"); /* transformers refuses files without it */
    json_put_str(o, "pt");
    for (; meta && meta[0]; meta += 2) {
        json_key(o, meta[0]);
        json_put_str(o, meta[1]);
    }
    json_close(o, '}');
}

static void write_entry_head(json_out *o, const st_entry *e, size_t at)
{
    json_key(o, e->name);
    json_open(o, '{');
    json_key(o, "dtype");
    json_put_str(o, e->dtype);
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

static status write_data(FILE *file, const order *w, st_fill_fn *fill, void *ctx, const char *path)
{
    uint64_t buf[8192];
    for (size_t at = 0; at < w->e->bytes;) {
        size_t n = w->e->bytes - at;
        const void *src = w->e->data;
        if (!src) {
            if (n > sizeof buf) n = sizeof buf;
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
    for (int i = 0; i < n; i++) TRY(write_data(file, &list[i], fill, ctx, path));
    if (fflush(file) != 0 || fsync(fileno(file)) != 0)
        return FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
    return ST_OK;
}

static void check_entry(const st_entry *e)
{
    size_t bytes = (size_t)dtype_bytes(e->dtype);
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
