#include "sandbox/zygote/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 32, MAX_ENTRIES = 4096, ROOT = -1, RACE_NS = 20000000 };
static const char place[] = "/tmp", mount_point[] = "/var"; /* the latter for a moment: the copy is in no tree */

/* One file, folder or link. Contents and targets of links are in the store, under the entry's number. */
typedef struct entry {
    bool used, seen;
    bool racy; /* changed so shortly before it was copied that a later change may carry the same time */
    int32_t parent;
    mode_t mode;
    ino_t ino;
    off_t size;
    struct timespec changed, modified;
    char name[256];
} entry;

typedef struct dirent64_ {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
} dirent64_;

/* Names of an open folder, without the heap. */
typedef struct listing {
    int dir;
    long n, at;
    _Alignas(8) char buf[4096];
} listing;

static const char *next_name(listing *l)
{
    for (;;) {
        if (l->at >= l->n) {
            l->at = 0;
            l->n = syscall(SYS_getdents64, l->dir, l->buf, sizeof l->buf);
            if (l->n <= 0) return NULL;
        }
        const dirent64_ *d = (const dirent64_ *)(l->buf + l->at);
        l->at += d->len;
        if (strcmp(d->name, ".") != 0 && strcmp(d->name, "..") != 0) return d->name;
    }
}

static int open_dir(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool nothing_there(void)
{
    struct statfs s;
    return statfs(place, &s) == 0 && s.f_files - s.f_ffree <= 1; /* the root's inode */
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool unchanged(const entry *e, const struct stat *s)
{
    return !e->racy && e->ino == s->st_ino && e->size == s->st_size && e->mode == s->st_mode &&
           same_time(&e->changed, &s->st_ctim);
}

static void note(entry *e, const struct stat *s)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now); /* boxes have another idea of it (repeat.c) */
    e->mode = s->st_mode;
    e->ino = s->st_ino;
    e->size = s->st_size;
    e->changed = s->st_ctim;
    e->modified = s->st_mtim;
    e->racy = (now.tv_sec - s->st_ctim.tv_sec) * 1000000000ll + now.tv_nsec - s->st_ctim.tv_nsec < RACE_NS;
}

/* Makes one file like another, writing only what differs; holes become holes. */
static int make_like(int to, int from, off_t size)
{
    static char want[1 << 16], have[sizeof want];
    struct stat s;
    if (fstat(to, &s) || (s.st_size != size && ftruncate(to, size))) return -1;
    for (off_t at = 0, data, end; at < size; at = end) {
        data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno != ENXIO) return -1;
        if (data < 0 || data > size) data = size;
        if (data > at && s.st_blocks > 0 && fallocate(to, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, data - at))
            return -1;
        end = data < size ? lseek(from, data, SEEK_HOLE) : size;
        if (end < 0) return -1;
        if (end > size) end = size;
        for (ssize_t n; data < end; data += n) {
            n = pread(from, want, end - data < (off_t)sizeof want ? (size_t)(end - data) : sizeof want, data);
            if (n <= 0) return n < 0 ? -1 : 0;
            bool same = pread(to, have, (size_t)n, data) == n && memcmp(want, have, (size_t)n) == 0;
            if (!same && pwrite(to, want, (size_t)n, data) != n) return -1;
        }
    }
    return 0;
}

static int open_slot(const files *f, int i, int flags)
{
    char name[16];
    snprintf(name, sizeof name, "%d", i);
    return openat(f->store, name, flags | O_CLOEXEC, 0600);
}

static void drop_slot(files *f, int i)
{
    char name[16];
    snprintf(name, sizeof name, "%d", i);
    unlinkat(f->store, name, 0);
    f->all[i].used = false;
}

static int find(const files *f, int parent, const char *name)
{
    static int last; /* folders are mostly listed in the order they were last time */
    for (int k = 1; k <= f->n; k++) {
        int i = (last + k) % f->n;
        if (f->all[i].used && f->all[i].parent == parent && strcmp(f->all[i].name, name) == 0) return last = i;
    }
    return -1;
}

/* ---- saving ---- */

static int prepare(files *f, const box_limits *l)
{
    char opt[96];
    if (f->store >= 0) return 0;
    if (!f->all)
        f->all = mmap(NULL, MAX_ENTRIES * sizeof *f->all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->all == MAP_FAILED) {
        f->all = NULL;
        return -1;
    }
    snprintf(opt, sizeof opt, "size=%lldm,nr_inodes=%d,mode=700,uid=1000,gid=1000", (long long)l->tmp_mib + 17,
             MAX_ENTRIES + 8);
    if (mount("tmpfs", mount_point, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, opt)) return -1;
    f->store = open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return umount2(mount_point, MNT_DETACH) || f->store < 0 ? -1 : 0;
}

static int save_content(files *f, int i, int dir, struct stat *s)
{
    entry *e = &f->all[i];
    if (S_ISLNK(s->st_mode)) {
        char target[4096];
        ssize_t n = readlinkat(dir, e->name, target, sizeof target);
        int to = n < 0 ? -1 : open_slot(f, i, O_RDWR | O_CREAT | O_TRUNC);
        bool ok = to >= 0 && write(to, target, (size_t)n) == n;
        if (to >= 0) close(to);
        return ok ? 0 : -1;
    }
    int from = openat(dir, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC),
        to = open_slot(f, i, O_RDWR | O_CREAT);
    bool ok =
        from >= 0 && to >= 0 && fstat(from, s) == 0 && S_ISREG(s->st_mode) && make_like(to, from, s->st_size) == 0;
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    return ok ? 0 : -1;
}

/* The entry of this name, made if need be; -1: too many. */
static int take(files *f, int parent, const char *name)
{
    int i = find(f, parent, name);
    if (i >= 0) return i;
    for (i = f->n < MAX_ENTRIES ? f->n : 0; i < f->n && f->all[i].used; i++) continue;
    if (i == MAX_ENTRIES) return -1;
    if (i == f->n) f->n++;
    f->all[i] = (entry){.used = true, .parent = parent, .racy = true};
    snprintf(f->all[i].name, sizeof f->all[i].name, "%s", name);
    return i;
}

static int save_dir(files *f, int dir, int parent, int depth) // NOLINT(misc-no-recursion): at most MAX_DEPTH
{
    listing l = {.dir = dir};
    int e = depth == MAX_DEPTH ? -1 : 0;
    for (const char *name; e == 0 && (name = next_name(&l)) != NULL;) {
        struct stat s;
        int i = take(f, parent, name);
        if (i < 0 || fstatat(dir, name, &s, AT_SYMLINK_NOFOLLOW)) return -1;
        f->all[i].seen = true;
        if (S_ISDIR(s.st_mode)) {
            if (!S_ISDIR(f->all[i].mode)) f->all[i].size = 0;
            note(&f->all[i], &s);
            int sub = open_dir(dir, name);
            e = sub < 0 ? -1 : save_dir(f, sub, i, depth + 1);
            if (sub >= 0) close(sub);
        } else if (!S_ISREG(s.st_mode) && !S_ISLNK(s.st_mode)) {
            e = -1; /* a box can make no others */
        } else if (f->mapped || !unchanged(&f->all[i], &s)) {
            e = save_content(f, i, dir, &s);
            note(&f->all[i], &s);
        }
    }
    return l.n < 0 ? -1 : e;
}

void files_save(files *f, const box_limits *l, bool mapped)
{
    f->lost = false;
    f->mapped = mapped;
    if (nothing_there()) {
        for (int i = 0; i < f->n; i++)
            if (f->all[i].used) drop_slot(f, i);
        f->n = 0;
        return;
    }
    for (int i = 0; i < f->n; i++) f->all[i].seen = false;
    int dir = prepare(f, l) ? -1 : open_dir(AT_FDCWD, place);
    f->lost = dir < 0 || save_dir(f, dir, ROOT, 0);
    if (dir >= 0) close(dir);
    for (int i = 0; i < f->n; i++)
        if (f->all[i].used && !f->all[i].seen) drop_slot(f, i);
}

/* ---- restoring ---- */

static int remove_tree(int dir, const char *name, int depth) // NOLINT(misc-no-recursion): at most MAX_DEPTH
{
    if (unlinkat(dir, name, 0) == 0) return 0;
    listing l = {.dir = depth == MAX_DEPTH ? -1 : open_dir(dir, name)};
    int e = l.dir < 0 ? -1 : 0;
    for (bool more = true; e == 0 && more;) { /* from the start each time: removing moves what follows */
        more = false;
        l.n = l.at = 0;
        lseek(l.dir, 0, SEEK_SET);
        for (const char *n; e == 0 && (n = next_name(&l)) != NULL; more = true) e = remove_tree(l.dir, n, depth + 1);
    }
    if (l.dir >= 0) close(l.dir);
    return e ? -1 : unlinkat(dir, name, AT_REMOVEDIR);
}

/* Makes entry i in folder dir what it was; exists: something of its kind has its name. */
static int restore_one(files *f, int i, int dir, bool exists)
{
    entry *e = &f->all[i];
    struct stat s;
    if (S_ISDIR(e->mode)) {
        if (!exists && mkdirat(dir, e->name, 0700)) return -1;
    } else if (S_ISLNK(e->mode)) {
        char target[4096 + 1] = "";
        int from = open_slot(f, i, O_RDONLY);
        ssize_t n = from < 0 ? -1 : read(from, target, sizeof target - 1);
        if (from >= 0) close(from);
        if (n < 0 || (exists && unlinkat(dir, e->name, 0)) || symlinkat(target, dir, e->name)) return -1;
    } else {
        int from = open_slot(f, i, O_RDONLY);
        int to = openat(dir, e->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        const struct timespec times[2] = {e->modified, e->modified};
        bool ok = from >= 0 && to >= 0 && make_like(to, from, e->size) == 0 && futimens(to, times) == 0;
        if (from >= 0) close(from);
        if (to >= 0) close(to);
        if (!ok) return -1;
    }
    if (!S_ISLNK(e->mode) && fchmodat(dir, e->name, e->mode & 07777, 0)) return -1;
    if (fstatat(dir, e->name, &s, AT_SYMLINK_NOFOLLOW)) return -1;
    note(e, &s);
    return 0;
}

/* Removes what was not there, rewrites what changed. */
static int restore_dir(files *f, int dir, int parent, int depth) // NOLINT(misc-no-recursion): at most MAX_DEPTH
{
    listing l = {.dir = dir};
    for (const char *name; (name = next_name(&l)) != NULL;) {
        struct stat s;
        if (fstatat(dir, name, &s, AT_SYMLINK_NOFOLLOW)) return -1;
        int i = f->n ? find(f, parent, name) : -1;
        if (i < 0 || (f->all[i].mode & S_IFMT) != (s.st_mode & S_IFMT)) {
            if (remove_tree(dir, name, depth)) return -1;
            continue;
        }
        f->all[i].seen = true;
        bool same = !S_ISREG(s.st_mode) && unchanged(&f->all[i], &s); /* a mapping may have changed what a file says */
        if (!same && restore_one(f, i, dir, true)) return -1;
        if (!S_ISDIR(s.st_mode)) continue;
        int sub = open_dir(dir, name);
        int e = sub < 0 ? -1 : restore_dir(f, sub, i, depth + 1);
        if (sub >= 0) close(sub);
        if (e) return -1;
    }
    return l.n < 0 ? -1 : 0;
}

/* What is gone, and before it the folder it was in. */
static int recreate(files *f, int i) // NOLINT(misc-no-recursion): at most MAX_DEPTH
{
    entry *e = &f->all[i];
    if (e->seen) return 0;
    if (e->parent != ROOT && recreate(f, e->parent)) return -1;
    int chain[MAX_DEPTH], n = 0, dir = open_dir(AT_FDCWD, place);
    for (int p = e->parent; p != ROOT && n < MAX_DEPTH; p = f->all[p].parent) chain[n++] = p;
    while (dir >= 0 && n > 0) {
        int sub = open_dir(dir, f->all[chain[--n]].name);
        close(dir);
        dir = sub;
    }
    int bad = dir < 0 || restore_one(f, i, dir, false);
    if (dir >= 0) close(dir);
    e->seen = true;
    return bad ? -1 : 0;
}

int files_restore(files *f)
{
    if (f->lost) return -1;
    if (f->n == 0 && nothing_there()) return 0;
    for (int i = 0; i < f->n; i++) f->all[i].seen = false;
    int dir = open_dir(AT_FDCWD, place), bad = -1;
    /* Twice: removing may move what was not looked at yet. */
    for (int pass = 0; dir >= 0 && pass < 2 && (pass == 0 || !bad); pass++) {
        lseek(dir, 0, SEEK_SET);
        bad = restore_dir(f, dir, ROOT, 0);
    }
    if (dir >= 0) close(dir);
    for (int i = 0; i < f->n && !bad; i++)
        if (f->all[i].used) bad = recreate(f, i);
    return bad ? -1 : 0;
}

void files_drop(files *f)
{
    if (f->store >= 0) close(f->store);
    if (f->all) munmap(f->all, MAX_ENTRIES * sizeof *f->all);
    *f = FILES_NONE;
}
