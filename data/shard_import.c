#include "data/dataset.h"
#include "data/file.h"
#include "data/shard_h5.h"

#ifdef HAVE_HDF5

#include "core/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_CAP = 4400, DIR_CAP = 4096 };

typedef struct builder {
    shard_content c;
    char folder[DIR_CAP];
    int64_t rows;
    int cap_picture;
    int *by_name, *by_content; /* open addressing, -1 = free, size table */
    int table;
} builder;

static void builder_reset(builder *b)
{
    for (int i = 0; i < b->c.n_picture; i++) free(b->c.picture[i].path);
    b->c.n_picture = 0;
    b->rows = 0;
    b->c.row.n = b->c.row_offset.n = 0;
    for (int i = 0; i < b->table; i++) b->by_name[i] = b->by_content[i] = -1;
}

static void builder_free(builder *b)
{
    builder_reset(b);
    free(b->c.row.v);
    free(b->c.row_offset.v);
    free(b->c.picture);
    free(b->by_name);
    free(b->by_content);
}

/* Where the picture with this key sits in a table, or the free slot for it. */
static int *slot(const builder *b, int *table, hash128 key, bool name)
{
    uint64_t i = key.w[0];
    for (;; i++) {
        int *at = &table[i % (uint64_t)b->table];
        if (*at < 0 || hash_same(name ? b->c.picture[*at].name : b->c.picture[*at].content, key)) return at;
    }
}

static status grow_tables(builder *b)
{
    if (b->c.n_picture < b->cap_picture) return ST_OK;
    int cap = b->cap_picture ? b->cap_picture * 2 : 256, table = cap * 2;
    shard_picture *p = realloc(b->c.picture, (size_t)cap * sizeof *p);
    if (p) b->c.picture = p;
    int *x = malloc((size_t)table * sizeof *x), *y = malloc((size_t)table * sizeof *y);
    if (!p || !x || !y) {
        free(x);
        free(y);
        return FAIL(ST_ENOMEM, "no memory for a table of %d pictures", cap);
    }
    free(b->by_name);
    free(b->by_content);
    b->by_name = x, b->by_content = y;
    b->cap_picture = cap, b->table = table;
    for (int i = 0; i < table; i++) x[i] = y[i] = -1;
    for (int i = 0; i < b->c.n_picture; i++) {
        *slot(b, x, b->c.picture[i].name, true) = i;
        *slot(b, y, b->c.picture[i].content, false) = i;
    }
    return ST_OK;
}

/* Index of a picture by the path in the row; new content is remembered, equal content shared. */
static status find_picture(builder *b, const char *ref, int64_t line, int *out)
{
    char path[PATH_CAP + DIR_CAP];
    TRY(grow_tables(b));
    hash128 name = hash_content(ref, strlen(ref));
    int *at = slot(b, b->by_name, name, true);
    if (*at >= 0) {
        *out = *at;
        return ST_OK;
    }
    if (ref[0] == '/')
        snprintf(path, sizeof path, "%s", ref);
    else
        snprintf(path, sizeof path, "%s/%s", b->folder, ref);
    char *v = NULL;
    size_t n = 0;
    TRY(file_read(path, &v, &n));
    if (n > UINT32_MAX) return free(v), FAIL(ST_EINVAL, "%s: more than 4 GiB in one picture", path);
    shard_picture p = {hash_content(v, n), name, line, NULL, n};
    free(v);
    int *twin = slot(b, b->by_content, p.content, false);
    if (*twin >= 0) { /* another path to the same bytes; the next time it is looked up by content again */
        *out = *twin;
        return ST_OK;
    }
    if (!(p.path = strdup(path))) return FAIL(ST_ENOMEM, "%s: no memory", path);
    b->c.picture[b->c.n_picture] = p;
    *at = *twin = *out = b->c.n_picture++;
    return ST_OK;
}

/* The row again with every picture's path replaced by its content hash. names: in order of appearance. */
static void put_row(json_out *o, const json *row, char (*names)[HASH_HEX])
{
    int at = 0;
    json_open(o, '{');
    for (int64_t i = 0; i < json_len(row); i++) {
        const json *v = json_at(row, i);
        json_key(o, json_key_at(row, i));
        if (strcmp(json_key_at(row, i), "messages") != 0) {
            json_put_node(o, v);
            continue;
        }
        json_open(o, '[');
        for (int64_t m = 0; m < json_len(v); m++) {
            const json *msg = json_at(v, m), *content = json_get(msg, "content");
            json_open(o, '{');
            for (int64_t k = 0; k < json_len(msg); k++) {
                json_key(o, json_key_at(msg, k));
                if (json_at(msg, k) != content || json_kind(content) != JSON_ARRAY) {
                    json_put_node(o, json_at(msg, k));
                    continue;
                }
                json_open(o, '[');
                for (int64_t c = 0; c < json_len(content); c++) {
                    const json *piece = json_at(content, c);
                    if (!json_get(piece, "path")) {
                        json_put_node(o, piece);
                        continue;
                    }
                    json_open(o, '{');
                    json_member_str(o, "type", "image");
                    json_member_str(o, "path", names[at++]);
                    json_close(o, '}');
                }
                json_close(o, ']');
            }
            json_close(o, '}');
        }
        json_close(o, ']');
    }
    json_close(o, '}');
}

static status add_row(builder *b, dataset *d, int64_t i)
{
    sample s;
    TRY(dataset_sample(d, i, &s));
    char names[64][HASH_HEX]; /* a sample has at most 64 images */
    status st = ST_OK;
    for (int k = 0; k < s.n_image && st == ST_OK; k++) {
        int at = 0;
        st = find_picture(b, s.images[k], i + 1, &at);
        if (st == ST_OK)
            hash_hex(b->c.picture[at].content, names[k]);
        else
            st = fail_within(st, "%s:%lld", b->c.jsonl, (long long)i + 1);
    }
    if (st == ST_OK) {
        json_out o;
        json_begin(&o, false);
        put_row(&o, s.row, names);
        if (!b->rows) st = shard_append_u64(&b->c.row_offset, 0);
        if (st == ST_OK) st = shard_append(&b->c.row, o.text, o.len);
        if (st == ST_OK) st = shard_append(&b->c.row, "\n", 1);
        if (st == ST_OK) st = shard_append_u64(&b->c.row_offset, b->c.row.n);
        b->rows++;
        json_end(&o);
    }
    sample_free(&s);
    return st;
}

static void shard_names(const char *dir, int n, char *path, char *tmp)
{
    snprintf(path, PATH_CAP, "%s/shard_%05d.h5", dir, n);
    snprintf(tmp, PATH_CAP, "%s/.shard_%05d.h5.tmp.%ld", dir, n, (long)getpid());
}

static int is_shard(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return e->d_name[0] != '.' && n > 3 && strcmp(e->d_name + n - 3, ".h5") == 0;
}

static status make_empty_dir(const char *dir)
{
    if (strlen(dir) >= DIR_CAP - 64) return FAIL(ST_EINVAL, "%.64s...: path too long", dir);
    TRY(file_make_dir(dir));
    struct dirent **entry = NULL;
    int n = scandir(dir, &entry, is_shard, NULL);
    if (n < 0) return FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) free(entry[i]);
    free(entry);
    return n ? FAIL(ST_EINVAL, "%s: already holds shards; remove them or choose another folder", dir) : ST_OK;
}

static status write_shard(builder *b, const char *dir, int n)
{
    char path[PATH_CAP], tmp[PATH_CAP];
    shard_names(dir, n, path, tmp);
    TRY(shard_lock());
    status st = shard_write(&b->c, tmp);
    shard_unlock();
    builder_reset(b);
    return st;
}

/* Every shard gets its name only when all are written: a folder never holds part of a dataset. */
static status publish(const char *dir, int n)
{
    char path[PATH_CAP], tmp[PATH_CAP];
    for (int i = 0; i < n; i++) {
        shard_names(dir, i, path, tmp);
        if (rename(tmp, path) != 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    }
    return shard_sync(dir);
}

status shard_import(const char *jsonl, const char *dir, const shard_opts *o)
{
    CHECK(o->rows_per_shard > 0 && (o->p || !o->views));
    if (!o->views && !o->keep_original)
        return FAIL(ST_EINVAL, "without views and without originals nothing of the pictures would be kept");
    size_t len = strlen(jsonl);
    if (len < 6 || strcmp(jsonl + len - 6, ".jsonl") != 0) return FAIL(ST_EINVAL, "%s: expected a .jsonl file", jsonl);
    dataset *d = NULL;
    TRY(dataset_open(&d, jsonl));
    builder b = {.c = {.o = o, .jsonl = jsonl}};
    const char *slash = strrchr(jsonl, '/');
    if (slash)
        snprintf(b.folder, sizeof b.folder, "%.*s", slash == jsonl ? 1 : (int)(slash - jsonl), jsonl);
    else
        snprintf(b.folder, sizeof b.folder, ".");
    int n_shard = 0;
    progress *bar = NULL;
    status st = make_empty_dir(dir);
    if (st != ST_OK) goto out;
    TRY_OR(thread_pool_create(&b.c.pool, o->threads > 0 ? o->threads : thread_cpus()), out);
    if (o->progress) bar = progress_start("import", dataset_count(d));
    for (int64_t i = 0; i < dataset_count(d); i++) {
        TRY_OR(add_row(&b, d, i), out);
        if (b.rows == o->rows_per_shard || i + 1 == dataset_count(d)) {
            n_shard++;
            TRY_OR(write_shard(&b, dir, n_shard - 1), out);
        }
        progress_set(bar, i + 1, NULL);
    }
    st = publish(dir, n_shard);
out:
    progress_end(bar);
    for (int i = 0; i < n_shard && st != ST_OK; i++) {
        char path[PATH_CAP], tmp[PATH_CAP];
        shard_names(dir, i, path, tmp);
        unlink(tmp);
    }
    thread_pool_destroy(b.c.pool);
    builder_free(&b);
    dataset_close(d);
    return st;
}

#endif
