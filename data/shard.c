#include "data/shard.h"

#include "data/shard_h5.h"

#ifdef HAVE_HDF5

#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shard {
    char *path;
    hid_t file, part[SHARD_PART_COUNT];
    uint64_t size[SHARD_PART_COUNT];     /* entries, from the data spaces */
    uint64_t checksum[SHARD_PART_COUNT]; /* as written in the file */
    uint64_t processor;
    int64_t rows, images;
    uint64_t *row_offset, *image_offset, *view_offset;
    uint64_t (*hash)[2];
    int32_t (*view_size)[4];
    int64_t *sorted; /* image numbers by hash */
};

const shard_part_info shard_parts[SHARD_PART_COUNT] = {
#define SHARD_ROW(id, name, size, per) {name, size, per},
    SHARD_PARTS(SHARD_ROW)
#undef SHARD_ROW
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* HDF5 is one library per process, so is its lock */

status shard_lock(void)
{
    pthread_mutex_lock(&lock);
    H5dont_atexit(); /* a file that could not be flushed (disk full) must not be tried again at exit */
    if (H5open() < 0) return pthread_mutex_unlock(&lock), FAIL(ST_EUNAVAIL, "the HDF5 library does not start");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    status st = shard_register_zstd();
    if (st != ST_OK) pthread_mutex_unlock(&lock);
    return st;
}

void shard_unlock(void) { pthread_mutex_unlock(&lock); }

static herr_t keep_first(unsigned n, const H5E_error2_t *e, void *to)
{
    if (n == 0 && e->desc) *(const char **)to = e->desc;
    return 0;
}

static _Thread_local char reason[256];

int64_t shard_seen(int64_t r)
{
    const char *why = "unknown reason";
    if (r >= 0) return r;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &why);
    snprintf(reason, sizeof reason, "%s", why);
    return r;
}

const char *shard_reason(void) { return reason; }

static hid_t memory_type(int size)
{
    return size == 8 ? H5T_NATIVE_UINT64 : size == 4 ? H5T_NATIVE_INT32 : H5T_NATIVE_UINT8;
}

static status read_range(const shard *s, shard_part p, uint64_t first, uint64_t n, void *out)
{
    if (n == 0) return ST_OK;
    hsize_t start[2] = {first, 0}, count[2] = {n, (hsize_t)shard_parts[p].per};
    int rank = shard_parts[p].per > 1 ? 2 : 1;
    hid_t disk = H5Dget_space(s->part[p]), memory = H5Screate_simple(rank, count, NULL);
    herr_t ok = H5Sselect_hyperslab(disk, H5S_SELECT_SET, start, NULL, count, NULL);
    if (ok >= 0)
        ok = (herr_t)shard_seen(H5Dread(s->part[p], memory_type(shard_parts[p].size), memory, disk, H5P_DEFAULT, out));
    status st =
        ok >= 0 ? ST_OK : FAIL(ST_ECORRUPT, "%s: /%s is damaged: %s", s->path, shard_parts[p].name, shard_reason());
    H5Sclose(memory);
    H5Sclose(disk);
    return st;
}

/* Type, rank and size must be what the writer makes: everything later trusts them. */
static status open_part(shard *s, shard_part p, uint64_t file_size)
{
    const shard_part_info *info = &shard_parts[p];
    hsize_t dim[2] = {0, (hsize_t)info->per}, chunk[2] = {0};
    int rank = info->per > 1 ? 2 : 1;
    s->part[p] = shard_seen(H5Dopen2(s->file, info->name, H5P_DEFAULT));
    if (s->part[p] < 0) return FAIL(ST_ECORRUPT, "%s: no readable /%s: %s", s->path, info->name, shard_reason());
    hid_t space = H5Dget_space(s->part[p]), type = H5Dget_type(s->part[p]), plist = H5Dget_create_plist(s->part[p]);
    bool good = space >= 0 && type >= 0 && plist >= 0 && H5Tget_class(type) == H5T_INTEGER &&
                H5Tget_size(type) == (size_t)info->size && H5Sget_simple_extent_ndims(space) == rank &&
                H5Sget_simple_extent_dims(space, dim, NULL) == rank && dim[1] == (hsize_t)info->per;
    bool chunked = p == SHARD_ROWS || p == SHARD_VIEW;
    if (good && chunked)
        good = H5Pget_layout(plist) == H5D_CHUNKED && H5Pget_chunk(plist, 2, chunk) == 1 && chunk[0] <= SHARD_CHUNK_MAX;
    else if (good)
        good = H5Pget_layout(plist) == H5D_CONTIGUOUS && dim[0] <= file_size / (uint64_t)(info->size * info->per);
    if (plist >= 0) H5Pclose(plist);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    s->size[p] = dim[0];
    return good ? ST_OK : FAIL(ST_ECORRUPT, "%s: /%s has an unexpected type or size", s->path, info->name);
}

static status read_attributes(shard *s)
{
    char format[sizeof SHARD_FORMAT] = {0};
    hid_t text = H5Tcopy(H5T_C_S1), a = H5Aopen(s->file, "format", H5P_DEFAULT), kind = a < 0 ? -1 : H5Aget_type(a);
    bool good = a >= 0 && kind >= 0 && H5Tset_size(text, sizeof SHARD_FORMAT) >= 0 &&
                H5Tget_class(kind) == H5T_STRING && H5Tis_variable_str(kind) == 0 &&
                H5Tget_size(kind) == sizeof SHARD_FORMAT && H5Aread(a, text, format) >= 0;
    if (kind >= 0) H5Tclose(kind);
    if (a >= 0) H5Aclose(a);
    H5Tclose(text);
    if (!good || memcmp(format, SHARD_FORMAT, sizeof format) != 0)
        return FAIL(ST_ECORRUPT, "%s: not a shard of `codedance data import` (attribute format is not \"%s\")", s->path,
                    SHARD_FORMAT);
    static const struct {
        const char *name;
        hssize_t n;
    } number[2] = {{"processor", 1}, {"checksum", SHARD_PART_COUNT}};
    for (int i = 0; i < 2; i++) {
        a = H5Aopen(s->file, number[i].name, H5P_DEFAULT);
        hid_t space = a < 0 ? -1 : H5Aget_space(a);
        good = a >= 0 && space >= 0 && H5Sget_simple_extent_npoints(space) == number[i].n &&
               H5Aread(a, H5T_NATIVE_UINT64, i ? s->checksum : &s->processor) >= 0;
        if (space >= 0) H5Sclose(space);
        if (a >= 0) H5Aclose(a);
        if (!good) return FAIL(ST_ECORRUPT, "%s: attribute %s is missing or damaged", s->path, number[i].name);
    }
    return ST_OK;
}

/* A table that fits in memory, checked against its checksum. */
static status load_table(shard *s, shard_part p, void *out)
{
    size_t bytes = (size_t)s->size[p] * (size_t)(shard_parts[p].size * shard_parts[p].per);
    void *v = malloc(bytes ? bytes : 1);
    if (!v) return FAIL(ST_ENOMEM, "%s: no memory for /%s", s->path, shard_parts[p].name);
    status st = read_range(s, p, 0, s->size[p], v);
    if (st == ST_OK && hash_bytes(v, bytes, 0) != s->checksum[p])
        st = FAIL(ST_ECORRUPT, "%s: checksum of /%s differs", s->path, shard_parts[p].name);
    if (st != ST_OK)
        free(v);
    else
        *(void **)out = v;
    return st;
}

static status check_offsets(const shard *s, shard_part table, const uint64_t *offset, uint64_t total, uint64_t longest)
{
    uint64_t n = s->size[table] - 1;
    bool good = offset[0] == 0 && offset[n] == total;
    for (uint64_t i = 0; good && i < n; i++) good = offset[i] <= offset[i + 1] && offset[i + 1] - offset[i] <= longest;
    return good ? ST_OK : FAIL(ST_ECORRUPT, "%s: wrong offsets in /%s", s->path, shard_parts[table].name);
}

static int by_hash(const void *a, const void *b, void *ctx)
{
    uint64_t(*hash)[2] = ctx;
    const uint64_t *x = hash[*(const int64_t *)a], *y = hash[*(const int64_t *)b];
    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    return x[1] < y[1] ? -1 : x[1] > y[1];
}

static status check_views(const shard *s)
{
    for (int64_t i = 0; i < s->images; i++) {
        const int32_t *v = s->view_size[i];
        uint64_t bytes = s->view_offset[i + 1] - s->view_offset[i];
        bool none = !s->processor && !bytes;
        if (v[0] < 0 || v[1] < 0 || v[0] > IMAGE_MAX_SIDE || v[1] > IMAGE_MAX_SIDE || v[2] < 1 || v[3] < 1 ||
            (!none && (bytes == 0 || bytes != 3 * (uint64_t)v[0] * (uint64_t)v[1])))
            return FAIL(ST_ECORRUPT, "%s: wrong size of view %lld", s->path, (long long)i);
    }
    return ST_OK;
}

static status load(shard *s)
{
    /* A truncated file is refused by HDF5 itself: its end is recorded in the superblock. */
    s->file = shard_seen(H5Fopen(s->path, H5F_ACC_RDONLY, H5P_DEFAULT));
    if (s->file < 0) return FAIL(ST_ECORRUPT, "%s: not a readable HDF5 file: %s", s->path, shard_reason());
    hsize_t bytes = 0;
    H5Fget_filesize(s->file, &bytes);
    TRY(read_attributes(s));
    for (int p = 0; p < SHARD_PART_COUNT; p++) TRY(open_part(s, (shard_part)p, bytes));
    if (!s->size[SHARD_ROW_OFFSET] || !s->size[SHARD_IMAGE_OFFSET] ||
        s->size[SHARD_IMAGE_HASH] != s->size[SHARD_IMAGE_OFFSET] - 1 ||
        s->size[SHARD_VIEW_OFFSET] != s->size[SHARD_IMAGE_OFFSET] ||
        s->size[SHARD_VIEW_SIZE] != s->size[SHARD_IMAGE_HASH])
        return FAIL(ST_ECORRUPT, "%s: tables of different lengths", s->path);
    s->rows = (int64_t)s->size[SHARD_ROW_OFFSET] - 1;
    s->images = (int64_t)s->size[SHARD_IMAGE_HASH];
    TRY(load_table(s, SHARD_ROW_OFFSET, &s->row_offset));
    TRY(load_table(s, SHARD_IMAGE_OFFSET, &s->image_offset));
    TRY(load_table(s, SHARD_VIEW_OFFSET, &s->view_offset));
    TRY(load_table(s, SHARD_IMAGE_HASH, &s->hash));
    TRY(load_table(s, SHARD_VIEW_SIZE, &s->view_size));
    TRY(check_offsets(s, SHARD_ROW_OFFSET, s->row_offset, s->size[SHARD_ROWS], SHARD_ROW_MAX));
    TRY(check_offsets(s, SHARD_IMAGE_OFFSET, s->image_offset, s->size[SHARD_IMAGE], UINT32_MAX));
    TRY(check_offsets(s, SHARD_VIEW_OFFSET, s->view_offset, s->size[SHARD_VIEW], 3ull * IMAGE_MAX_PIXELS));
    TRY(check_views(s));
    s->sorted = malloc(((size_t)s->images + 1) * sizeof *s->sorted);
    if (!s->sorted) return FAIL(ST_ENOMEM, "%s: no memory for its image index", s->path);
    for (int64_t i = 0; i < s->images; i++) s->sorted[i] = i;
    qsort_r(s->sorted, (size_t)s->images, sizeof *s->sorted, by_hash, s->hash);
    return ST_OK;
}

static void release(shard *s)
{
    for (int p = 0; p < SHARD_PART_COUNT; p++)
        if (s->part[p] >= 0) H5Dclose(s->part[p]);
    if (s->file >= 0) H5Fclose(s->file);
    free(s->row_offset);
    free(s->image_offset);
    free(s->view_offset);
    free(s->hash);
    free(s->view_size);
    free(s->sorted);
    free(s->path);
    free(s);
}

status shard_open(shard **out, const char *path)
{
    shard *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return FAIL(ST_ENOMEM, "%s: no memory", path);
    }
    s->file = -1;
    for (int p = 0; p < SHARD_PART_COUNT; p++) s->part[p] = -1;
    status st = shard_lock();
    if (st != ST_OK) {
        free(s->path);
        free(s);
        return st;
    }
    st = load(s);
    if (st != ST_OK)
        release(s);
    else
        *out = s;
    shard_unlock();
    return st;
}

void shard_close(shard *s)
{
    if (!s || shard_lock() != ST_OK) return;
    release(s);
    shard_unlock();
}

int64_t shard_rows(const shard *s) { return s->rows; }
uint64_t shard_processor(const shard *s) { return s->processor; }

/* offset[i]..offset[i+1] of a part as a fresh buffer with one spare byte. */
static status read_item(shard *s, shard_part p, const uint64_t *offset, int64_t i, uint8_t **out, size_t *n)
{
    *n = (size_t)(offset[i + 1] - offset[i]);
    uint8_t *v = malloc(*n + 1);
    if (!v) return FAIL(ST_ENOMEM, "%s: no memory for %zu bytes of /%s", s->path, *n, shard_parts[p].name);
    status st = shard_lock();
    if (st == ST_OK) {
        st = read_range(s, p, offset[i], *n, v);
        shard_unlock();
    }
    if (st != ST_OK)
        free(v);
    else
        *out = v;
    return st;
}

status shard_row(shard *s, int64_t i, char **text, size_t *n)
{
    CHECK(i >= 0 && i < s->rows);
    uint8_t *v = NULL;
    TRY(read_item(s, SHARD_ROWS, s->row_offset, i, &v, n));
    while (*n && v[*n - 1] == '\n') --*n; /* rows are stored as the lines of a JSONL file */
    v[*n] = 0;
    *text = (char *)v;
    return ST_OK;
}

static bool parse_hash(const char *hex, uint64_t out[2])
{
    if (strlen(hex) != 32 || strspn(hex, "0123456789abcdef") != 32) return false;
    char half[17] = {0};
    for (int i = 0; i < 2; i++) {
        memcpy(half, hex + 16 * i, 16);
        out[i] = strtoull(half, NULL, 16);
    }
    return true;
}

int64_t shard_find_image(const shard *s, const char *hash_hex)
{
    uint64_t want[2];
    if (!parse_hash(hash_hex, want)) return -1;
    int64_t low = 0, high = s->images;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        const uint64_t *h = s->hash[s->sorted[mid]];
        if (h[0] < want[0] || (h[0] == want[0] && h[1] < want[1]))
            low = mid + 1;
        else
            high = mid;
    }
    if (low == s->images) return -1;
    const uint64_t *h = s->hash[s->sorted[low]];
    return h[0] == want[0] && h[1] == want[1] ? s->sorted[low] : -1;
}

status shard_image_bytes(shard *s, int64_t i, uint8_t **bytes, size_t *n)
{
    CHECK(i >= 0 && i < s->images);
    if (s->image_offset[i] == s->image_offset[i + 1])
        return FAIL(ST_EINVAL, "%s: written without the original pictures; import again without --drop-originals",
                    s->path);
    uint8_t *v = NULL;
    TRY(read_item(s, SHARD_IMAGE, s->image_offset, i, &v, n));
    hash128 h = hash_content(v, *n);
    if (h.w[0] != s->hash[i][0] || h.w[1] != s->hash[i][1]) {
        free(v);
        return FAIL(ST_ECORRUPT, "%s: the bytes of image %lld are damaged (content hash differs)", s->path,
                    (long long)i);
    }
    *bytes = v;
    return ST_OK;
}

status shard_view(shard *s, int64_t i, image *out, int *orig_w, int *orig_h)
{
    CHECK(i >= 0 && i < s->images && s->processor);
    uint8_t *v = NULL;
    size_t n;
    TRY(read_item(s, SHARD_VIEW, s->view_offset, i, &v, &n));
    const int32_t *size = s->view_size[i];
    *out = (image){size[0], size[1], v};
    if (orig_w) *orig_w = size[2];
    if (orig_h) *orig_h = size[3];
    return ST_OK;
}

status shard_verify(shard *s)
{
    uint8_t *piece = malloc(SHARD_PIECE);
    if (!piece) return FAIL(ST_ENOMEM, "%s: no memory to verify", s->path);
    status st = ST_OK;
    static const shard_part LONG[] = {SHARD_ROWS, SHARD_IMAGE, SHARD_VIEW}; /* the tables were checked when opening */
    for (int k = 0; k < 3 && st == ST_OK; k++) {
        hash_stream h;
        hash_begin(&h, 0);
        for (uint64_t at = 0; at < s->size[LONG[k]] && st == ST_OK;) {
            uint64_t n = s->size[LONG[k]] - at < SHARD_PIECE ? s->size[LONG[k]] - at : SHARD_PIECE;
            st = shard_lock();
            if (st != ST_OK) break;
            st = read_range(s, LONG[k], at, n, piece);
            shard_unlock();
            hash_more(&h, piece, n);
            at += n;
        }
        if (st == ST_OK && hash_end(&h) != s->checksum[LONG[k]])
            st = FAIL(ST_ECORRUPT, "%s: checksum of /%s differs", s->path, shard_parts[LONG[k]].name);
    }
    for (int64_t i = 0; st == ST_OK && i < s->images && s->size[SHARD_IMAGE]; i++) {
        uint8_t *bytes;
        size_t n;
        st = shard_image_bytes(s, i, &bytes, &n);
        if (st == ST_OK) free(bytes);
    }
    free(piece);
    return st;
}

#endif
