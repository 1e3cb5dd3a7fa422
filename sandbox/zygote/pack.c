#include "sandbox/zygote/pack.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sandbox/zygote/maps.h"

enum { GAP = 4 << 20, BIG = 8 << 20 };

typedef struct span {
    uintptr_t lo, hi;
} span;

typedef struct map {
    span at;
    bool take, readable;
} map;

/* All mappings in order; malloc'ed. What is below the heap is the program, what is above the lowest library but not a
 * library belongs to one: its zeroed data, or a block of malloc's own. */
static int read_maps(int proc, map **out)
{
    FILE *f = maps_open(proc);
    mapping at;
    int n = 0, cap = 0;
    bool above_heap = false;
    map *m = NULL;
    while (maps_next(f, &at)) {
        if (n == cap) {
            map *more = realloc(m, sizeof *m * (size_t)(cap = cap ? 2 * cap : 512));
            if (!more) break;
            m = more;
        }
        const char *base = strrchr(at.name, '/');
        base = base ? base + 1 : at.name;
        bool own = !strncmp(base, "ld-linux", 8) || !strncmp(base, "libc.", 5) || !strncmp(base, "libc-", 5) ||
                   !strncmp(base, "codedance-", 10) || at.name[0] == '[';
        bool take = above_heap && !own && at.flags[3] == 'p' && at.hi - at.lo < BIG;
        m[n++] = (map){{at.lo, at.hi}, take, at.flags[0] == 'r'};
        above_heap |= !strcmp(at.name, "[heap]");
    }
    if (f) fclose(f);
    *out = m;
    return n;
}

/* Neighbours to take become one span. */
static int find_spans(const map *m, int n, span *out, int max)
{
    int k = 0;
    for (int i = 0; i < n && k < max; i++) {
        if (!m[i].take) continue;
        int first = i;
        while (i + 1 < n && m[i + 1].take && m[i + 1].at.lo - m[i].at.hi <= GAP) i++;
        if (i - first > 3) out[k++] = (span){m[first].at.lo, m[i].at.hi};
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
    enum { SPANS = 64, RWX = PROT_READ | PROT_WRITE | PROT_EXEC, ASIDE = MAP_PRIVATE | MAP_NORESERVE };
    map *m = NULL;
    span s[SPANS];
    size_t total = 0;
    int n = read_maps(proc, &m), k = find_spans(m, n, s, SPANS);
    for (int i = 0; i < k; i++) total += s[i].hi - s[i].lo;
    int mem = k ? openat(proc, "self/mem", O_RDONLY | O_CLOEXEC) : -1, file = memfd_create("libraries", MFD_CLOEXEC);
    bool ok = mem >= 0 && file >= 0 && ftruncate(file, (off_t)total) == 0;
    char *copy = ok ? mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    char *trial = ok ? mmap(NULL, total, RWX, ASIDE, file, 0) : MAP_FAILED; /* not everywhere allowed */
    ok = copy != MAP_FAILED && trial != MAP_FAILED;
    char *at = copy;
    for (int i = 0; ok && i < k; at += s[i].hi - s[i].lo, i++) ok = copy_span(mem, m, n, s[i], at);
    /* One step each: what lay there is gone and the copy is in its place. */
    off_t offset = 0;
    for (int i = 0; ok && i < k; i++) {
        size_t len = s[i].hi - s[i].lo;
        if (mmap((void *)s[i].lo, len, RWX, ASIDE | MAP_FIXED, file, offset) == MAP_FAILED) _exit(1);
        offset += (off_t)len;
    }
    if (copy != MAP_FAILED) munmap(copy, total);
    if (trial != MAP_FAILED) munmap(trial, total);
    if (file >= 0) close(file);
    if (mem >= 0) close(mem);
    free(m);
}
