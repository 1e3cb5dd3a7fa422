#include "data/dataset.h"
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

enum { ZSTD_LEVEL = 3, PATH_CAP = 4400, DIR_CAP = 4096 };

/* A growing byte buffer; also used for tables of numbers. */
typedef struct bytes { uint8_t *v; size_t n, cap; } bytes;

static status append(bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        size_t cap = b->cap ? b->cap : 4096;
        while (cap < b->n + n) cap *= 2;
        uint8_t *v = realloc(b->v, cap);
        if (!v) return FAIL(ST_ENOMEM, "no memory for %zu bytes of a shard's tables", cap);
        b->v = v, b->cap = cap;
    }
    memcpy(b->v + b->n, p, n);
    b->n += n;
    return ST_OK;
}

static status append_u64(bytes *b, uint64_t v) { return append(b, &v, sizeof v); }

/* A picture of the shard being built: seen first in line `line` of the JSONL. */
typedef struct picture { hash128 content, name; int64_t line; char *path; size_t n; } picture;

/* Rows are collected (text and the list of pictures, no pixels), then the file is written picture by picture. */
typedef struct builder {
    const shard_opts *o;
    const char *jsonl;
    char folder[DIR_CAP];
    int64_t rows;
    bytes row, row_offset;
    int n_picture, cap_picture;
    picture *picture;
    int *by_name, *by_content; /* open addressing, -1 = free, size table */
    int table;
} builder;

static void builder_reset(builder *b)
{
    for (int i = 0; i < b->n_picture; i++) free(b->picture[i].path);
    b->n_picture = 0;
    b->rows = 0;
    b->row.n = b->row_offset.n = 0;
    for (int i = 0; i < b->table; i++) b->by_name[i] = b->by_content[i] = -1;
}

static void builder_free(builder *b)
{
    builder_reset(b);
    free(b->row.v);
    free(b->row_offset.v);
    free(b->picture);
    free(b->by_name);
    free(b->by_content);
}

static bool same(hash128 a, hash128 b) { return a.w[0] == b.w[0] && a.w[1] == b.w[1]; }

/* Where the picture with this key sits in a table, or the free slot for it. */
static int *slot(const builder *b, int *table, hash128 key, bool name)
{
    uint64_t i = key.w[0];
    for (;; i++) {
        int *at = &table[i % (uint64_t)b->table];
        if (*at < 0 || same(name ? b->picture[*at].name : b->picture[*at].content, key)) return at;
    }
}

static status grow_tables(builder *b)
{
    if (b->n_picture < b->cap_picture) return ST_OK;
    int cap = b->cap_picture ? b->cap_picture * 2 : 256, table = cap * 2;
    picture *p = realloc(b->picture, (size_t)cap * sizeof *p);
    if (p) b->picture = p;
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
    for (int i = 0; i < b->n_picture; i++) {
        *slot(b, x, b->picture[i].name, true) = i;
        *slot(b, y, b->picture[i].content, false) = i;
    }
    return ST_OK;
}

static status read_file(const char *path, uint8_t **out, size_t *n)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    status st = ST_OK;
    uint8_t *v = NULL;
    size_t got = 0, want = 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) st = FAIL(ST_EIO, "%s: not a regular file", path);
    else if (info.st_size > UINT32_MAX) st = FAIL(ST_EINVAL, "%s: more than 4 GiB in one picture", path);
    else if (!(v = malloc((want = (size_t)info.st_size) + 1))) st = FAIL(ST_ENOMEM, "%s: no memory", path);
    while (st == ST_OK && got < want) {
        ssize_t k = read(fd, v + got, want - got);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) st = FAIL(ST_EIO, "%s: %s", path, k < 0 ? strerror(errno) : "became shorter while being read");
        else got += (size_t)k;
    }
    close(fd);
    if (st != ST_OK) free(v);
    else *out = v, *n = want;
    return st;
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
    if (ref[0] == '/') snprintf(path, sizeof path, "%s", ref);
    else snprintf(path, sizeof path, "%s/%s", b->folder, ref);
    uint8_t *v = NULL;
    size_t n = 0;
    TRY(read_file(path, &v, &n));
    picture p = {hash_content(v, n), name, line, NULL, n};
    free(v);
    int *twin = slot(b, b->by_content, p.content, false);
    if (*twin >= 0) { /* another path to the same bytes; the next time it is looked up by content again */
        *out = *twin;
        return ST_OK;
    }
    if (!(p.path = strdup(path))) return FAIL(ST_ENOMEM, "%s: no memory", path);
    b->picture[b->n_picture] = p;
    *at = *twin = *out = b->n_picture++;
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
                    json_key(o, "type");
                    json_put_str(o, "image");
                    json_key(o, "path");
                    json_put_str(o, names[at++]);
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
        if (st == ST_OK) hash_hex(b->picture[at].content, names[k]);
        else st = fail_within(st, "%s:%lld", b->jsonl, (long long)i + 1);
    }
    if (st == ST_OK) {
        json_out o;
        json_begin(&o, false);
        put_row(&o, s.row, names);
        if (!b->rows) st = append_u64(&b->row_offset, 0);
        if (st == ST_OK) st = append(&b->row, o.text, o.len);
        if (st == ST_OK) st = append(&b->row, "\n", 1);
        if (st == ST_OK) st = append_u64(&b->row_offset, b->row.n);
        b->rows++;
        json_end(&o);
    }
    sample_free(&s);
    return st;
}

/* ---- the file ------------------------------------------------------------------------------------------------- */

typedef struct writer {
    const char *path;
    hid_t file, image, view;
    uint64_t image_at, view_at, checksum[SHARD_PART_COUNT];
    bytes image_offset, image_hash, view_offset, view_size, view_piece;
    hash_stream image_sum, view_sum;
} writer;

static status h5_fail(const writer *w, const char *what)
{
    return FAIL(ST_EIO, "%s: cannot write %s: %s", w->path, what, shard_reason());
}

static hid_t type_of(int size) { return size == 8 ? H5T_STD_U64LE : size == 4 ? H5T_STD_I32LE : H5T_STD_U8LE; }

/* Long parts that compress are chunked and may grow, the others contiguous. */
static hid_t create_part(const writer *w, shard_part p, uint64_t n)
{
    const shard_part_info *info = &shard_parts[p];
    bool chunked = p == SHARD_ROWS || p == SHARD_VIEW;
    hsize_t dim[2] = {n, (hsize_t)info->per}, most[2] = {chunked ? H5S_UNLIMITED : n, (hsize_t)info->per};
    hsize_t chunk = SHARD_CHUNK;
    unsigned level = ZSTD_LEVEL;
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(info->per > 1 ? 2 : 1, dim, most);
    herr_t ok = H5Pset_obj_track_times(plist, false); /* the same input gives the same bytes */
    if (ok >= 0 && chunked) {
        ok = H5Pset_chunk(plist, 1, &chunk);
        if (ok >= 0) ok = H5Pset_filter(plist, 32015, H5Z_FLAG_MANDATORY, 1, &level);
    }
    hid_t set = ok < 0 ? -1 : shard_seen(H5Dcreate2(w->file, info->name, type_of(info->size), space, H5P_DEFAULT, plist, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(plist);
    return set;
}

static herr_t write_range(hid_t set, uint64_t first, uint64_t n, const void *p)
{
    if (!n) return 0;
    hsize_t start = first, count = n;
    hid_t disk = H5Dget_space(set), memory = H5Screate_simple(1, &count, NULL);
    herr_t ok = H5Sselect_hyperslab(disk, H5S_SELECT_SET, &start, NULL, &count, NULL);
    if (ok >= 0) ok = (herr_t)shard_seen(H5Dwrite(set, H5T_NATIVE_UINT8, memory, disk, H5P_DEFAULT, p));
    H5Sclose(memory);
    H5Sclose(disk);
    return ok;
}

static status write_table(writer *w, shard_part p, const bytes *b)
{
    const shard_part_info *info = &shard_parts[p];
    hid_t set = create_part(w, p, b->n / (size_t)(info->size * info->per));
    herr_t ok = set < 0 ? -1 : 0;
    if (ok >= 0 && b->n) ok = (herr_t)shard_seen(H5Dwrite(set, type_of(info->size), H5S_ALL, H5S_ALL, H5P_DEFAULT, b->v));
    w->checksum[p] = hash_bytes(b->n ? b->v : (const void *)"", b->n, 0);
    status st = ok >= 0 ? ST_OK : h5_fail(w, info->name);
    if (set >= 0) H5Dclose(set);
    return st;
}

static status flush_views(writer *w, bool all)
{
    size_t n = all ? w->view_piece.n : w->view_piece.n / SHARD_CHUNK * SHARD_CHUNK;
    hsize_t size = w->view_at + n;
    if (!n) return ST_OK;
    if (shard_seen(H5Dset_extent(w->view, &size)) < 0 || write_range(w->view, w->view_at, n, w->view_piece.v) < 0)
        return h5_fail(w, "view");
    w->view_at += n;
    memmove(w->view_piece.v, w->view_piece.v + n, w->view_piece.n - n);
    w->view_piece.n -= n;
    return ST_OK;
}

static status add_view(writer *w, const image *full, const image_processor *p)
{
    image v;
    TRY(image_view(&v, full, p));
    size_t n = 3 * (size_t)v.w * (size_t)v.h;
    int32_t size[4] = {v.w, v.h, full->w, full->h};
    status st = append(&w->view_piece, v.rgb, n);
    if (st == ST_OK) st = append(&w->view_size, size, sizeof size);
    if (st == ST_OK) st = append_u64(&w->view_offset, w->view_at + w->view_piece.n);
    hash_more(&w->view_sum, v.rgb, n);
    image_free(&v);
    if (st == ST_OK && w->view_piece.n >= SHARD_PIECE) st = flush_views(w, false);
    return st;
}

/* Decodes every picture even when no view is wanted: a damaged file should be found now, not in the middle of a run. */
static status add_picture(writer *w, const builder *b, const picture *p)
{
    uint8_t *v = NULL;
    size_t n = 0;
    TRY(read_file(p->path, &v, &n));
    image full = {0};
    status st = same(hash_content(v, n), p->content) ? ST_OK : FAIL(ST_EIO, "%s: changed during the import", p->path);
    if (st == ST_OK) st = image_decode(&full, v, n, p->path);
    if (st == ST_OK && b->o->views) {
        st = add_view(w, &full, b->o->p);
    } else if (st == ST_OK) {
        int32_t size[4] = {0, 0, full.w, full.h};
        st = append(&w->view_size, size, sizeof size);
        if (st == ST_OK) st = append_u64(&w->view_offset, 0);
    }
    if (st == ST_OK && b->o->keep_original) {
        hash_more(&w->image_sum, v, n);
        if (write_range(w->image, w->image_at, n, v) < 0) st = h5_fail(w, "image");
        w->image_at += n;
    }
    if (st == ST_OK) st = append_u64(&w->image_offset, w->image_at);
    if (st == ST_OK) st = append(&w->image_hash, p->content.w, sizeof p->content.w);
    image_free(&full);
    free(v);
    return st;
}

static status write_attribute(writer *w, const char *name, hid_t type, hsize_t n, const void *v)
{
    hid_t space = n ? H5Screate_simple(1, &n, NULL) : H5Screate(H5S_SCALAR);
    hid_t a = shard_seen(H5Acreate2(w->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT));
    herr_t ok = a < 0 ? -1 : (herr_t)shard_seen(H5Awrite(a, type, v));
    status st = ok >= 0 ? ST_OK : h5_fail(w, name);
    if (a >= 0) H5Aclose(a);
    H5Sclose(space);
    return st;
}

static status write_parts(writer *w, const builder *b)
{
    uint64_t total = 0, processor = b->o->views ? image_processor_hash(b->o->p) : 0;
    for (int i = 0; i < b->n_picture && b->o->keep_original; i++) total += b->picture[i].n;
    hash_begin(&w->image_sum, 0);
    hash_begin(&w->view_sum, 0);
    TRY(write_table(w, SHARD_ROWS, &b->row));
    TRY(write_table(w, SHARD_ROW_OFFSET, &b->row_offset));
    if ((w->image = create_part(w, SHARD_IMAGE, total)) < 0) return h5_fail(w, "image");
    if ((w->view = create_part(w, SHARD_VIEW, 0)) < 0) return h5_fail(w, "view");
    TRY(append_u64(&w->image_offset, 0));
    TRY(append_u64(&w->view_offset, 0));
    for (int i = 0; i < b->n_picture; i++) {
        status st = add_picture(w, b, &b->picture[i]);
        if (st != ST_OK) return fail_within(st, "%s:%lld", b->jsonl, (long long)b->picture[i].line);
    }
    TRY(flush_views(w, true));
    w->checksum[SHARD_IMAGE] = hash_end(&w->image_sum);
    w->checksum[SHARD_VIEW] = hash_end(&w->view_sum);
    TRY(write_table(w, SHARD_IMAGE_OFFSET, &w->image_offset));
    TRY(write_table(w, SHARD_IMAGE_HASH, &w->image_hash));
    TRY(write_table(w, SHARD_VIEW_OFFSET, &w->view_offset));
    TRY(write_table(w, SHARD_VIEW_SIZE, &w->view_size));
    hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, sizeof SHARD_FORMAT);
    status st = write_attribute(w, "format", text, 0, SHARD_FORMAT);
    H5Tclose(text);
    TRY(st);
    TRY(write_attribute(w, "processor", H5T_STD_U64LE, 0, &processor));
    return write_attribute(w, "checksum", H5T_STD_U64LE, SHARD_PART_COUNT, w->checksum);
}

static status sync_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd) != 0;
    status st = bad ? FAIL(ST_EIO, "%s: %s", path, strerror(errno)) : ST_OK;
    if (fd >= 0) close(fd);
    return st;
}

/* Writes and closes the file at path; on failure it is removed. The caller holds the lock. */
static status write_file(const builder *b, const char *path)
{
    writer w = {.path = path, .image = -1, .view = -1};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST); /* its metadata carry checksums */
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    w.file = shard_seen(H5Fcreate(path, H5F_ACC_TRUNC, create, access));
    H5Pclose(access);
    H5Pclose(create);
    status st = w.file >= 0 ? write_parts(&w, b) : h5_fail(&w, "the file");
    if (st == ST_OK && shard_seen(H5Fflush(w.file, H5F_SCOPE_GLOBAL)) < 0) st = h5_fail(&w, "the file");
    if (w.image >= 0 && shard_seen(H5Dclose(w.image)) < 0 && st == ST_OK) st = h5_fail(&w, "image");
    if (w.view >= 0 && shard_seen(H5Dclose(w.view)) < 0 && st == ST_OK) st = h5_fail(&w, "view");
    if (w.file >= 0 && shard_seen(H5Fclose(w.file)) < 0 && st == ST_OK) st = h5_fail(&w, "the file");
    if (st == ST_OK) st = sync_file(path);
    if (st != ST_OK) unlink(path);
    free(w.image_offset.v);
    free(w.image_hash.v);
    free(w.view_offset.v);
    free(w.view_size.v);
    free(w.view_piece.v);
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
    char path[DIR_CAP];
    if (strlen(dir) >= DIR_CAP - 64) return FAIL(ST_EINVAL, "%.64s...: path too long", dir);
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1;; p++) {
        if (*p != '/' && *p) continue;
        char old = *p;
        *p = 0;
        if (mkdir(path, 0755) != 0 && errno != EEXIST) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
        *p = old;
        if (!old) break;
    }
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
    status st = write_file(b, tmp);
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
    return sync_file(dir);
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
    builder b = {.o = o, .jsonl = jsonl};
    const char *slash = strrchr(jsonl, '/');
    if (slash) snprintf(b.folder, sizeof b.folder, "%.*s", slash == jsonl ? 1 : (int)(slash - jsonl), jsonl);
    else snprintf(b.folder, sizeof b.folder, ".");
    int n_shard = 0;
    progress *bar = NULL;
    status st = make_empty_dir(dir);
    if (st != ST_OK) goto out;
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
    builder_free(&b);
    dataset_close(d);
    return st;
}

#else

status shard_import(const char *jsonl, const char *dir, const shard_opts *o)
{
    (void)dir, (void)o;
    return FAIL(ST_EUNAVAIL, "%s: " SHARD_UNAVAILABLE, jsonl);
}

#endif
