#include "sandbox/zygote/pack.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE = 2 << 20, GAP = 4 << 20, BIG = 8 << 20 };

typedef struct span {
    uintptr_t lo, hi;
} span;

typedef struct map {
    span at;
    bool take, readable;
} map;

static FILE *open_file(int proc, const char *name)
{
    int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (fd >= 0 && !f) close(fd);
    return f;
}

static long huge_kib(int proc)
{
    FILE *f = open_file(proc, "self/smaps_rollup");
    char line[512];
    long v = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "AnonHugePages: %ld", &v) == 1) break;
    if (f) fclose(f);
    return v;
}

/* All mappings in order; malloc'ed. What is below the heap is the program, what is above the lowest library but not a
 * library belongs to one: its zeroed data, or a block of malloc's own. */
static int read_maps(int proc, map **out)
{
    FILE *f = open_file(proc, "self/maps");
    char line[4400];
    int n = 0, cap = 0;
    bool above_heap = false;
    map *m = NULL;
    while (f && fgets(line, sizeof line, f)) {
        uintptr_t lo, hi;
        char flags[8], name[4200] = "";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %4199s", &lo, &hi, flags, name) < 3) continue;
        if (n == cap) {
            map *more = realloc(m, sizeof *m * (size_t)(cap = cap ? 2 * cap : 512));
            if (!more) break;
            m = more;
        }
        const char *base = strrchr(name, '/');
        base = base ? base + 1 : name;
        bool own = !strncmp(base, "ld-linux", 8) || !strncmp(base, "libc.", 5) || !strncmp(base, "libc-", 5) ||
                   !strncmp(base, "codedance-", 10) || name[0] == '[';
        m[n++] = (map){{lo, hi}, above_heap && !own && flags[3] == 'p' && hi - lo < BIG, flags[0] == 'r'};
        above_heap |= !strcmp(name, "[heap]");
    }
    if (f) fclose(f);
    *out = m;
    return n;
}

/* Neighbours to take become one span; its ends go outwards to a huge page's where nothing else lies. */
static int find_spans(const map *m, int n, span *out, int max)
{
    int k = 0;
    for (int i = 0; i < n && k < max;) {
        if (!m[i].take) {
            i++;
            continue;
        }
        int first = i;
        while (i + 1 < n && m[i + 1].take && m[i + 1].at.lo - m[i].at.hi <= GAP) i++;
        span s = {m[first].at.lo, m[i].at.hi};
        uintptr_t low = s.lo & ~(uintptr_t)(HUGE - 1), high = (s.hi + HUGE - 1) & ~(uintptr_t)(HUGE - 1);
        if (first > 0 && m[first - 1].at.hi <= low) s.lo = low;
        if (i + 1 < n && m[i + 1].at.lo >= high) s.hi = high;
        i++;
        if (i - first > 4 && s.hi - s.lo >= HUGE) out[k++] = s;
    }
    return k;
}

static bool copy_span(int mem, const map *m, int n, span s, char *to)
{
    for (int i = 0; i < n; i++) {
        if (m[i].at.lo < s.lo || m[i].at.hi > s.hi || !m[i].readable) continue; /* a library's unused part */
        for (uintptr_t at = m[i].at.lo; at < m[i].at.hi;) { /* by way of the file: what cannot be read is no signal */
            ssize_t k = pread(mem, to + (at - s.lo), m[i].at.hi - at, (off_t)at);
            if (k <= 0) return false;
            at += (uintptr_t)k;
        }
    }
    return true;
}

void pack_libraries(int proc)
{
    enum { SPANS = 64, RWX = PROT_READ | PROT_WRITE | PROT_EXEC };
    map *m = NULL;
    span s[SPANS];
    int n = read_maps(proc, &m), k = find_spans(m, n, s, SPANS);
    size_t total = HUGE;
    for (int i = 0; i < k; i++) total += (s[i].hi - s[i].lo + 2 * HUGE - 1) & ~(size_t)(HUGE - 1);
    int mem = k ? openat(proc, "self/mem", O_RDONLY | O_CLOEXEC) : -1;
    char *clear = mem < 0 ? NULL : (char *)(s[0].lo - total - 64 * (size_t)HUGE); /* of where the copies will lie */
    char *area = mem < 0 ? MAP_FAILED : mmap(clear, total, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area != MAP_FAILED) {
        long before = huge_kib(proc), could = 0;
        bool ok = area == clear && madvise(area, total, MADV_HUGEPAGE) == 0;
        char *at = area, *to[SPANS];
        for (int i = 0; ok && i < k; i++) {
            at += (s[i].lo - (uintptr_t)at) & (HUGE - 1);
            to[i] = at;
            at += s[i].hi - s[i].lo;
            ok = copy_span(mem, m, n, s[i], to[i]);
            could += (long)((s[i].hi - s[i].lo) / HUGE);
        }
        ok = ok && huge_kib(proc) - before >= could * (HUGE >> 10) / 2;
        /* One step each: what lay there is gone and the copy is in its place. */
        for (int i = 0; ok && i < k; i++) {
            size_t len = s[i].hi - s[i].lo;
            if (mremap(to[i], len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)s[i].lo) == MAP_FAILED) _exit(1);
        }
        munmap(area, total);
    }
    if (mem >= 0) close(mem);
    free(m);
}
