#include "data/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

status file_join(char *out, size_t cap, const char *dir, const char *name)
{
    if ((size_t)snprintf(out, cap, "%s/%s", dir, name) >= cap)
        return FAIL(ST_EINVAL, "path too long: %s/%s", dir, name);
    return ST_OK;
}

bool file_exists(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return (size_t)snprintf(path, sizeof path, "%s/%s", dir, name) < sizeof path && access(path, F_OK) == 0;
}

status file_read(const char *path, char **out, size_t *n)
{
    FILE *f = fopen(path, "rbe");
    if (!f) return FAIL(ST_EIO, "cannot open %s: %s", path, strerror(errno));
    struct stat s;
    bool regular = fstat(fileno(f), &s) == 0 && S_ISREG(s.st_mode);
    if (regular && s.st_size > FILE_MAX_BYTES) {
        fclose(f);
        return FAIL(ST_EINVAL, "%s has %lld bytes, more than a file of its kind can (%d)", path, (long long)s.st_size,
                    FILE_MAX_BYTES);
    }
    char *text = regular ? malloc((size_t)s.st_size + 1) : NULL;
    bool ok = text && fread(text, 1, (size_t)s.st_size, f) == (size_t)s.st_size;
    fclose(f);
    if (!ok) {
        free(text);
        return FAIL(ST_EIO, "cannot read %s%s", path, regular ? "" : ": not a regular file");
    }
    text[s.st_size] = 0;
    *out = text;
    *n = (size_t)s.st_size;
    return ST_OK;
}

status file_write(const char *path, const void *bytes, size_t n)
{
    char tmp[PATH_MAX];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.tmp", path) >= sizeof tmp)
        return FAIL(ST_EINVAL, "path too long: %s", path);
    FILE *f = fopen(tmp, "wbe");
    if (!f) return FAIL(ST_EIO, "cannot create %s: %s", tmp, strerror(errno));
    bool ok = fwrite(bytes, 1, n, f) == n && fflush(f) == 0 && fsync(fileno(f)) == 0;
    int why = errno;
    ok = fclose(f) == 0 && ok;
    if (ok && rename(tmp, path) == 0) return ST_OK;
    if (ok) why = errno;
    unlink(tmp);
    return FAIL(ST_EIO, "cannot write %s: %s", path, strerror(why));
}

status file_copy(const char *from_dir, const char *to_dir, const char *name)
{
    char from[PATH_MAX], to[PATH_MAX], *text = NULL;
    size_t n = 0;
    TRY(file_join(from, sizeof from, from_dir, name));
    TRY(file_join(to, sizeof to, to_dir, name));
    TRY(file_read(from, &text, &n));
    status st = file_write(to, text, n);
    free(text);
    return st;
}

status file_make_dir(const char *dir)
{
    char path[PATH_MAX];
    if (!*dir || (size_t)snprintf(path, sizeof path, "%s", dir) >= sizeof path)
        return FAIL(ST_EINVAL, "bad directory name: '%s'", dir);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        mkdir(path, 0777); /* a failure shows at the last one */
        *p = '/';
    }
    struct stat s;
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode))) return ST_OK;
    return FAIL(ST_EIO, "cannot create %s: %s", path, strerror(errno));
}

bool file_same(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}
