/* Reading safetensors files, strictly (qwen_vl_spec 9.1, 9.2). */
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

/* The longest entry a writer makes is some 400 bytes; metadata of training tools reaches a few hundred KiB. */
enum { MAX_HEADER = 100000000, PREFIX = 8, MAX_ENTRY = 4096, MAX_META = 4 << 20, MAX_DEPTH = 64, MAX_DIM = 8 };

struct st_file {
    char *path;
    int fd;
    void *map;
    size_t size;
    st_tensor *t; /* in order of data */
    int n, cap;
    const st_tensor **by_name;
    char *names;
    json *meta;
};

static const struct {
    const char *name;
    int bytes;
} dtypes[] = {{"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"BF16", 2},   {"F16", 2},
              {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

int st_dtype_bytes(const char *name)
{
    for (size_t i = 0; name && i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(dtypes[i].name, name)) return dtypes[i].bytes;
    return 0;
}

static status map_file(st_file *f)
{
    struct stat s;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) return FAIL(ST_EIO, "cannot open %s: %s", f->path, strerror(errno));
    if (fstat(f->fd, &s) != 0 || !S_ISREG(s.st_mode)) return FAIL(ST_EIO, "%s is not a regular file", f->path);
    f->size = (size_t)s.st_size;
    if (f->size < PREFIX) return FAIL(ST_EINVAL, "%s is too short to be a safetensors file", f->path);
    f->map = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, f->fd, 0);
    if (f->map != MAP_FAILED) return ST_OK;
    f->map = NULL;
    return FAIL(ST_EIO, "cannot map %s: %s", f->path, strerror(errno));
}

static status read_shape(st_tensor *t, const json *entry, const char *path)
{
    const json *shape = json_get(entry, "shape");
    if (json_kind(shape) != JSON_ARRAY || json_len(shape) > MAX_DIM)
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
    int size = st_dtype_bytes(type);
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

static status read_meta(st_file *f, json *meta)
{
    f->meta = meta;
    if (json_kind(meta) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: __metadata__ must be an object", f->path);
    for (int64_t i = 0; i < json_len(meta); i++)
        if (json_kind(json_at(meta, i)) != JSON_STRING)
            return FAIL(ST_EINVAL, "%s: __metadata__ %s must be a string", f->path, json_key_at(meta, i));
    return ST_OK;
}

/* The header is cut into its members here and each is parsed by itself, so that a hostile header of 100 MB costs no
 * tree of it. */
typedef struct scan {
    const char *path, *begin, *at, *end;
} scan;

static status broken(const scan *s, const char *why)
{
    return FAIL(ST_EINVAL, "%s: header byte %zu: %s", s->path, (size_t)(s->at - s->begin), why);
}

static void skip_space(scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) s->at++;
}

static bool take(scan *s, char c)
{
    skip_space(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

/* Behind the string that starts at p; NULL when it has no end. */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\') p++;
    return p < end ? p + 1 : NULL;
}

/* Moves behind the value at s->at, which is at most limit bytes long. */
static status skip_value(scan *s, size_t limit)
{
    const char *p = s->at, *end = (size_t)(s->end - p) > limit ? p + limit : s->end;
    int depth = 0;
    do {
        if (p == end || !p) return broken(s, end < s->end ? "a value longer than any tensor's" : "a value has no end");
        if (*p == '"') {
            p = string_end(p, end);
            continue;
        }
        depth += *p == '{' || *p == '[' ? 1 : *p == '}' || *p == ']' ? -1 : 0;
        if (depth > MAX_DEPTH) return broken(s, "nested deeper than 64 levels");
        p++;
    } while (!p || depth > 0);
    s->at = p;
    return ST_OK;
}

static status parse_piece(json **out, const scan *s, const char *from)
{
    char what[4200];
    snprintf(what, sizeof what, "%s: header from byte %zu", s->path, (size_t)(from - s->begin));
    return json_parse(out, from, (size_t)(s->at - from), what);
}

/* The key at s->at, decoded, into room (as long as the header, so it always fits); *room moves on. */
static status read_key(scan *s, char **room, const char **key)
{
    skip_space(s);
    if (s->at == s->end || *s->at != '"') return broken(s, "expected a tensor's name in quotes");
    const char *from = s->at, *after = string_end(from, s->end);
    if (!after) return broken(s, "a name has no end");
    if (after - from > MAX_ENTRY) return broken(s, "a name longer than any tensor's");
    json *j = NULL;
    s->at = after;
    TRY(parse_piece(&j, s, from));
    size_t n = (size_t)json_len(j);
    bool whole = strlen(json_str(j)) == n;
    if (whole) memcpy(*room, json_str(j), n + 1);
    json_free(j);
    if (!whole) return broken(s, "a name contains a NUL character");
    *key = *room;
    *room += n + 1;
    return take(s, ':') ? ST_OK : broken(s, "expected ':'");
}

static status grow(st_file *f)
{
    if (f->n < f->cap) return ST_OK;
    int cap = f->cap ? 2 * f->cap : 256;
    st_tensor *t = realloc(f->t, (size_t)cap * sizeof *t);
    if (!t) return FAIL(ST_ENOMEM, "out of memory for %d tensors of %s", cap, f->path);
    f->t = t;
    f->cap = cap;
    return ST_OK;
}

static status read_member(st_file *f, scan *s, char **room, const char *data)
{
    const char *name = NULL;
    json *j = NULL;
    TRY(read_key(s, room, &name));
    skip_space(s);
    const char *from = s->at;
    bool is_meta = !strcmp(name, "__metadata__");
    if (is_meta && f->meta) return FAIL(ST_EINVAL, "%s: __metadata__ appears twice", f->path);
    if (from == s->end || *from != '{')
        return is_meta
                   ? FAIL(ST_EINVAL, "%s: __metadata__ must be an object", f->path)
                   : FAIL(ST_EINVAL, "%s: tensor %s must have exactly dtype, shape and data_offsets", f->path, name);
    TRY(skip_value(s, is_meta ? MAX_META : MAX_ENTRY));
    TRY(parse_piece(&j, s, from));
    if (is_meta) return read_meta(f, j);
    status st = grow(f);
    if (st == ST_OK) memset(&f->t[f->n], 0, sizeof *f->t);
    if (st == ST_OK)
        st = read_entry(&f->t[f->n], name, j, data, (size_t)((const char *)f->map + f->size - data), f->path);
    json_free(j);
    f->n += st == ST_OK;
    return st;
}

static status index_names(st_file *f)
{
    for (int i = 1; i < f->n; i++) /* files are mostly in order already */
        if (order_data(&f->t[i - 1], &f->t[i]) > 0) {
            qsort(f->t, (size_t)f->n, sizeof *f->t, order_data);
            break;
        }
    f->by_name = malloc(((size_t)f->n + 1) * sizeof(void *));
    if (!f->by_name) return FAIL(ST_ENOMEM, "out of memory for %d tensors of %s", f->n, f->path);
    for (int i = 0; i < f->n; i++) f->by_name[i] = &f->t[i];
    if (f->n) qsort(f->by_name, (size_t)f->n, sizeof(void *), order_name);
    for (int i = 1; i < f->n; i++)
        if (!order_name(&f->by_name[i - 1], &f->by_name[i]))
            return FAIL(ST_EINVAL, "%s: tensor %s appears twice", f->path, f->by_name[i]->name);
    return ST_OK;
}

static status read_header(st_file *f)
{
    uint64_t n = 0;
    for (int i = PREFIX - 1; i >= 0; i--) n = n << 8 | ((const uint8_t *)f->map)[i];
    if (n > MAX_HEADER || n > f->size - PREFIX)
        return FAIL(ST_EINVAL, "%s: header length %llu is too large", f->path, (unsigned long long)n);
    const char *text = (const char *)f->map + PREFIX, *data = text + n;
    if (n == 0 || text[0] != '{') return FAIL(ST_EINVAL, "%s: header must start with {", f->path);
    char *room = f->names = malloc(n);
    if (!room) return FAIL(ST_ENOMEM, "out of memory for the header of %s", f->path);
    scan s = {f->path, text, text + 1, data};
    if (!take(&s, '}')) {
        do TRY(read_member(f, &s, &room, data));
        while (take(&s, ','));
        if (!take(&s, '}')) return broken(&s, "expected ',' or '}'");
    }
    skip_space(&s);
    if (s.at != s.end) return broken(&s, "text after the header's end");
    TRY(index_names(f));
    return check_layout(f, data, f->path);
}

status st_open(st_file **out, const char *path)
{
    st_file *f = calloc(1, sizeof *f);
    if (!f) return FAIL(ST_ENOMEM, "out of memory");
    f->fd = -1;
    f->path = strdup(path);
    status st = f->path ? map_file(f) : FAIL(ST_ENOMEM, "out of memory");
    if (st == ST_OK) st = read_header(f);
    if (st != ST_OK) {
        st_close(f);
        return st;
    }
    *out = f;
    return ST_OK;
}

status st_read(const st_file *f, const st_tensor *t, size_t at, void *buf, size_t n)
{
    CHECK(at <= t->bytes && n <= t->bytes - at);
    off_t from = (const char *)t->data - (const char *)f->map + (off_t)at;
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(f->fd, (char *)buf + done, n - done, from + (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return FAIL(ST_EIO, "cannot read %s of %s: %s", t->name, f->path,
                        got < 0 ? strerror(errno) : "the file became shorter");
        done += (size_t)got;
    }
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
    if (f->fd >= 0) close(f->fd);
    json_free(f->meta);
    free(f->names);
    free(f->path);
    free(f->t);
    free(f->by_name);
    free(f);
}
