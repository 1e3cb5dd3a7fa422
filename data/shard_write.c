#include "data/file.h"
#include "data/shard_h5.h"

#ifdef HAVE_HDF5

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ZSTD_LEVEL = 3, BATCH = 32 };

status shard_append(shard_bytes *b, const void *p, size_t n)
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

status shard_append_u64(shard_bytes *b, uint64_t v) { return shard_append(b, &v, sizeof v); }

/* A picture read, checked and decoded; what goes into the file of it. */
typedef struct decoded {
    char *bytes;
    size_t n;
    image view; /* empty unless views are wanted */
    int w, h;   /* of the whole picture */
    status st;
    char error[512];
} decoded;

typedef struct writer {
    const char *path;
    hid_t file, image, view;
    uint64_t image_at, view_at, checksum[SHARD_PART_COUNT];
    shard_bytes image_offset, image_hash, view_offset, view_size, view_piece;
    hash_stream image_sum, view_sum;
    const shard_content *c;
    int first; /* picture of batch[0] */
    decoded batch[BATCH];
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
    hid_t set =
        ok < 0
            ? -1
            : shard_seen(H5Dcreate2(w->file, info->name, type_of(info->size), space, H5P_DEFAULT, plist, H5P_DEFAULT));
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

static status write_table(writer *w, shard_part p, const shard_bytes *b)
{
    const shard_part_info *info = &shard_parts[p];
    hid_t set = create_part(w, p, b->n / (size_t)(info->size * info->per));
    herr_t ok = set < 0 ? -1 : 0;
    if (ok >= 0 && b->n)
        ok = (herr_t)shard_seen(H5Dwrite(set, type_of(info->size), H5S_ALL, H5S_ALL, H5P_DEFAULT, b->v));
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

/* Decodes every picture even when no view is wanted: a damaged file should be found now, not in the middle of a run. */
static status read_picture(decoded *to, const shard_picture *p, const shard_opts *o)
{
    image full = {0};
    TRY(file_read(p->path, &to->bytes, &to->n));
    if (!hash_same(hash_content(to->bytes, to->n), p->content))
        return FAIL(ST_EIO, "%s: changed during the import", p->path);
    TRY(image_decode(&full, to->bytes, to->n, p->path));
    to->w = full.w, to->h = full.h;
    status st = o->views ? image_view(&to->view, &full, o->p) : ST_OK;
    image_free(&full);
    return st;
}

static void read_pictures(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    writer *w = ctx;
    for (int i = begin; i < end; i++) {
        decoded *to = &w->batch[i];
        to->st = read_picture(to, &w->c->picture[w->first + i], w->c->o);
        if (to->st != ST_OK) snprintf(to->error, sizeof to->error, "%s", fail_message());
    }
}

static void decoded_free(decoded *p)
{
    free(p->bytes);
    image_free(&p->view);
    p->bytes = NULL;
}

static status add_picture(writer *w, const decoded *p, hash128 content)
{
    size_t n = 3 * (size_t)p->view.w * (size_t)p->view.h;
    int32_t size[4] = {p->view.w, p->view.h, p->w, p->h};
    if (n) TRY(shard_append(&w->view_piece, p->view.rgb, n));
    if (n) hash_more(&w->view_sum, p->view.rgb, n);
    TRY(shard_append(&w->view_size, size, sizeof size));
    TRY(shard_append_u64(&w->view_offset, w->view_at + w->view_piece.n));
    if (w->view_piece.n >= SHARD_PIECE) TRY(flush_views(w, false));
    if (w->c->o->keep_original) {
        hash_more(&w->image_sum, p->bytes, p->n);
        if (write_range(w->image, w->image_at, p->n, p->bytes) < 0) return h5_fail(w, "image");
        w->image_at += p->n;
    }
    TRY(shard_append_u64(&w->image_offset, w->image_at));
    return shard_append(&w->image_hash, content.w, sizeof content.w);
}

/* Pictures are read by all threads, then written in their order. */
static status add_pictures(writer *w)
{
    const shard_content *c = w->c;
    status st = ST_OK;
    for (w->first = 0; w->first < c->n_picture && st == ST_OK; w->first += BATCH) {
        int n = c->n_picture - w->first < BATCH ? c->n_picture - w->first : BATCH;
        thread_pool_for(c->pool, n, 1, read_pictures, w);
        for (int i = 0; i < n; i++) {
            decoded *p = &w->batch[i];
            const shard_picture *of = &c->picture[w->first + i];
            if (st == ST_OK) {
                st = p->st == ST_OK ? add_picture(w, p, of->content) : FAIL(p->st, "%s", p->error);
                if (st != ST_OK) st = fail_within(st, "%s:%lld", c->jsonl, (long long)of->line);
            }
            decoded_free(p);
        }
    }
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

static status write_parts(writer *w)
{
    const shard_content *c = w->c;
    uint64_t total = 0, processor = c->o->views ? image_processor_hash(c->o->p) : 0;
    for (int i = 0; i < c->n_picture && c->o->keep_original; i++) total += c->picture[i].n;
    hash_begin(&w->image_sum, 0);
    hash_begin(&w->view_sum, 0);
    TRY(write_table(w, SHARD_ROWS, &c->row));
    TRY(write_table(w, SHARD_ROW_OFFSET, &c->row_offset));
    if ((w->image = create_part(w, SHARD_IMAGE, total)) < 0) return h5_fail(w, "image");
    if ((w->view = create_part(w, SHARD_VIEW, 0)) < 0) return h5_fail(w, "view");
    TRY(shard_append_u64(&w->image_offset, 0));
    TRY(shard_append_u64(&w->view_offset, 0));
    TRY(add_pictures(w));
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

status shard_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int bad = fd < 0 || fsync(fd) != 0;
    status st = bad ? FAIL(ST_EIO, "%s: %s", path, strerror(errno)) : ST_OK;
    if (fd >= 0) close(fd);
    return st;
}

status shard_write(const shard_content *c, const char *path)
{
    writer *w = calloc(1, sizeof *w);
    if (!w) return FAIL(ST_ENOMEM, "%s: no memory for a writer", path);
    w->path = path, w->c = c, w->image = w->view = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), create = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST); /* its metadata carry checksums */
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_obj_track_times(create, false); /* the root group's */
    w->file = shard_seen(H5Fcreate(path, H5F_ACC_TRUNC, create, access));
    H5Pclose(access);
    H5Pclose(create);
    status st = w->file >= 0 ? write_parts(w) : h5_fail(w, "the file");
    if (st == ST_OK && shard_seen(H5Fflush(w->file, H5F_SCOPE_GLOBAL)) < 0) st = h5_fail(w, "the file");
    if (w->image >= 0 && shard_seen(H5Dclose(w->image)) < 0 && st == ST_OK) st = h5_fail(w, "image");
    if (w->view >= 0 && shard_seen(H5Dclose(w->view)) < 0 && st == ST_OK) st = h5_fail(w, "view");
    if (w->file >= 0 && shard_seen(H5Fclose(w->file)) < 0 && st == ST_OK) st = h5_fail(w, "the file");
    if (st == ST_OK) st = shard_sync(path);
    if (st != ST_OK) unlink(path);
    free(w->image_offset.v);
    free(w->image_hash.v);
    free(w->view_offset.v);
    free(w->view_size.v);
    free(w->view_piece.v);
    free(w);
    return st;
}

#endif
