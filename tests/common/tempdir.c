#include "tests/common/tempdir.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[256];
static pid_t owner; /* a forked child must not clean up */

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *w)
{
    (void)s, (void)kind, (void)w;
    return remove(path);
}

void temp_remove(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void clean(void)
{
    if (getpid() == owner) temp_remove(root);
}

static void die(const char *what, const char *path)
{
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

const char *tempdir(void)
{
    if (root[0]) return root;
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof root, "%.200s/codedance-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(root)) die("mkdtemp", root);
    owner = getpid();
    atexit(clean);
    return root;
}

const char *temppath(const char *fmt, ...)
{
    static char buf[16][1024];
    static int at;
    char *out = buf[at++ % 16];
    int n = snprintf(out, sizeof buf[0], "%s/", tempdir());
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(out + n, sizeof buf[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return out;
}

void temp_write(const char *path, const void *bytes, size_t n)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", path);
    for (char *p = dir + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            mkdir(dir, 0755);
            *p = '/';
        }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) die("write", path);
}

void temp_text(const char *path, const char *text) { temp_write(path, text, strlen(text)); }

char *temp_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    struct stat s;
    if (!f || fstat(fileno(f), &s) != 0) die("read", path);
    char *v = malloc((size_t)s.st_size + 1);
    if (!v || fread(v, 1, (size_t)s.st_size, f) != (size_t)s.st_size) die("read", path);
    v[s.st_size] = 0;
    fclose(f);
    if (n) *n = (size_t)s.st_size;
    return v;
}

int temp_count(const char *dir)
{
    DIR *d = opendir(dir);
    int n = d ? -2 : -1;
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}
