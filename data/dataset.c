#include "data/dataset.h"

#include "data/shard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16 << 20 };

typedef struct shard_file {
    shard *s;
    char *path;
    int64_t first;
} shard_file; /* first: number of its first row */

/* One of two kinds: lines of a file (fd >= 0) or shards. */
struct dataset {
    char *path, *folder; /* of the JSONL file; pictures are relative to folder */
    int fd;
    int64_t count;
    int64_t *line; /* count+1 offsets */
    int n_file;
    shard_file *files;
};

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static status push_offset(dataset *d, int64_t *cap, int64_t at)
{
    if (d->count + 1 >= *cap) {
        int64_t more = *cap ? *cap * 2 : 1024;
        int64_t *grown = realloc(d->line, (size_t)more * sizeof *grown);
        if (!grown) return FAIL(ST_ENOMEM, "%s: no memory for the positions of its lines", d->path);
        d->line = grown, *cap = more;
    }
    d->line[d->count] = at;
    return ST_OK;
}

static status index_lines(dataset *d)
{
    enum { CHUNK = 1 << 20 };
    char *buf = malloc(CHUNK);
    int64_t cap = 0, at = 0, start = 0;
    status st = buf ? push_offset(d, &cap, 0) : FAIL(ST_ENOMEM, "%s: no memory for reading", d->path);
    while (st == ST_OK) {
        ssize_t n = read(d->fd, buf, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = FAIL(ST_EIO, "%s: %s", d->path, strerror(errno));
        if (n <= 0) break;
        for (const char *p = buf, *end = buf + n; st == ST_OK && p < end;) {
            const char *nl = memchr(p, '\n', (size_t)(end - p));
            if (!nl) break;
            start = at + (nl + 1 - buf);
            d->count++;
            st = push_offset(d, &cap, start);
            p = nl + 1;
        }
        at += n;
    }
    if (st == ST_OK && at > start) { /* the last line may lack its newline */
        d->count++;
        st = push_offset(d, &cap, at);
    }
    for (int64_t i = 0; st == ST_OK && i < d->count; i++)
        if (d->line[i + 1] - d->line[i] > LINE_MAX_BYTES)
            st = FAIL(ST_EINVAL, "%s:%lld: line of %lld bytes; the limit is %d", d->path, (long long)i + 1,
                      (long long)(d->line[i + 1] - d->line[i]), LINE_MAX_BYTES);
    free(buf);
    return st;
}

static status open_jsonl(dataset *d)
{
    const char *slash = strrchr(d->path, '/');
    d->folder = slash ? strndup(d->path, slash == d->path ? 1 : (size_t)(slash - d->path)) : strdup(".");
    if (!d->folder) return FAIL(ST_ENOMEM, "%s: no memory", d->path);
    d->fd = open(d->path, O_RDONLY | O_CLOEXEC);
    if (d->fd < 0) return FAIL(ST_EIO, "%s: %s", d->path, strerror(errno));
    TRY(index_lines(d));
    if (!d->count) return FAIL(ST_EINVAL, "%s: the file is empty", d->path);
    return ST_OK;
}

static status add_shard(dataset *d, const char *path)
{
    shard_file *grown = realloc(d->files, ((size_t)d->n_file + 1) * sizeof *grown);
    if (grown) d->files = grown;
    shard_file f = {.path = strdup(path), .first = d->count};
    status st = grown && f.path ? shard_open(&f.s, path) : FAIL(ST_ENOMEM, "%s: no memory", path);
    if (st != ST_OK) {
        free(f.path);
        return st;
    }
    d->count += shard_rows(f.s);
    d->files[d->n_file++] = f;
    return ST_OK;
}

static int is_shard(const struct dirent *e) { return e->d_name[0] != '.' && ends_with(e->d_name, ".h5"); }

static status open_folder(dataset *d)
{
    struct dirent **entry = NULL;
    int n = scandir(d->path, &entry, is_shard, alphasort);
    if (n < 0) return FAIL(ST_EIO, "%s: %s", d->path, strerror(errno));
    status st =
        n ? ST_OK : FAIL(ST_EINVAL, "%s: no .h5 file inside (expected shards of `codedance data import`)", d->path);
    for (int i = 0; i < n; i++) {
        char path[4352];
        snprintf(path, sizeof path, "%s/%s", d->path, entry[i]->d_name);
        if (st == ST_OK) st = add_shard(d, path);
        free(entry[i]);
    }
    free(entry);
    return st;
}

status dataset_open(dataset **out, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    dataset *d = calloc(1, sizeof *d);
    if (!d || !(d->path = strdup(path))) {
        free(d);
        return FAIL(ST_ENOMEM, "%s: no memory", path);
    }
    d->fd = -1;
    status st;
    if (S_ISDIR(info.st_mode))
        st = open_folder(d);
    else if (ends_with(path, ".h5"))
        st = add_shard(d, path);
    else if (ends_with(path, ".jsonl"))
        st = open_jsonl(d);
    else
        st = FAIL(ST_EINVAL, "%s: expected a .jsonl file, a .h5 shard or a folder of shards", path);
    if (st != ST_OK) {
        dataset_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

void dataset_close(dataset *d)
{
    if (!d) return;
    for (int i = 0; i < d->n_file; i++) {
        shard_close(d->files[i].s);
        free(d->files[i].path);
    }
    if (d->fd >= 0) close(d->fd);
    free(d->files);
    free(d->line);
    free(d->folder);
    free(d->path);
    free(d);
}

int64_t dataset_count(const dataset *d) { return d->count; }

static const shard_file *find_shard(const dataset *d, int64_t row)
{
    int low = 0, high = d->n_file - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if (d->files[mid].first <= row)
            low = mid;
        else
            high = mid - 1;
    }
    return &d->files[low];
}

static status read_line(dataset *d, int64_t i, char **text, size_t *n)
{
    size_t want = (size_t)(d->line[i + 1] - d->line[i]);
    char *buf = malloc(want + 1);
    if (!buf) return FAIL(ST_ENOMEM, "%s:%lld: no memory for the line", d->path, (long long)i + 1);
    for (size_t got = 0; got < want;) {
        ssize_t k = pread(d->fd, buf + got, want - got, (off_t)(d->line[i] + (int64_t)got));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            free(buf);
            return FAIL(ST_EIO, "%s:%lld: %s", d->path, (long long)i + 1,
                        k < 0 ? strerror(errno) : "the file became shorter while it was open");
        }
        got += (size_t)k;
    }
    while (want && (buf[want - 1] == '\n' || buf[want - 1] == '\r')) want--;
    buf[want] = 0;
    *text = buf, *n = want;
    return ST_OK;
}

status dataset_sample(dataset *d, int64_t i, sample *out)
{
    CHECK(i >= 0 && i < d->count);
    char *text, what[4400];
    size_t n;
    if (d->fd >= 0) {
        snprintf(what, sizeof what, "%s:%lld", d->path, (long long)i + 1);
        TRY(read_line(d, i, &text, &n));
    } else {
        const shard_file *f = find_shard(d, i);
        snprintf(what, sizeof what, "%s:%lld", f->path, (long long)(i - f->first) + 1);
        TRY(shard_row(f->s, i - f->first, &text, &n));
    }
    status st = sample_parse(out, text, n, what);
    free(text);
    return st;
}

static status picture_path(const dataset *d, const char *ref, char *path, size_t cap)
{
    int n = ref[0] == '/' ? snprintf(path, cap, "%s", ref) : snprintf(path, cap, "%s/%s", d->folder, ref);
    return n > 0 && (size_t)n < cap ? ST_OK : FAIL(ST_EINVAL, "%.200s: image path too long", ref);
}

static status find_picture(dataset *d, const char *ref, shard **s, int64_t *at)
{
    for (int i = 0; i < d->n_file; i++) {
        *at = shard_find_image(d->files[i].s, ref);
        *s = d->files[i].s;
        if (*at >= 0) return ST_OK;
    }
    return FAIL(ST_ECORRUPT, "%s: no shard holds image %s", d->path, ref);
}

static status decode_from_shard(shard *s, int64_t at, const char *ref, image *out)
{
    uint8_t *bytes;
    size_t n;
    TRY(shard_image_bytes(s, at, &bytes, &n));
    status st = image_decode(out, bytes, n, ref);
    free(bytes);
    return st;
}

status dataset_image(dataset *d, const char *ref, image *out)
{
    char path[4400];
    if (d->fd >= 0) {
        TRY(picture_path(d, ref, path, sizeof path));
        return image_read_file(out, path);
    }
    shard *s = NULL;
    int64_t at = -1;
    TRY(find_picture(d, ref, &s, &at));
    return decode_from_shard(s, at, ref, out);
}

status dataset_view(dataset *d, const char *ref, const image_processor *p, image *out, int *orig_w, int *orig_h)
{
    image full = {0};
    if (d->fd < 0) {
        shard *s = NULL;
        int64_t at = -1;
        TRY(find_picture(d, ref, &s, &at));
        if (shard_processor(s) && shard_processor(s) == image_processor_hash(p))
            return shard_view(s, at, out, orig_w, orig_h);
        TRY(decode_from_shard(s, at, ref, &full));
    } else {
        TRY(dataset_image(d, ref, &full));
    }
    status st = image_view(out, &full, p);
    if (st == ST_OK && orig_w) *orig_w = full.w;
    if (st == ST_OK && orig_h) *orig_h = full.h;
    image_free(&full);
    return st == ST_OK ? st : fail_within(st, "%s", ref);
}
