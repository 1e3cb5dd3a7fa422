#include "sandbox/zygote/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/zygote/maps.h"

enum { RANGES = 1024, POPULATE_READ = 22, POPULATE_WRITE = 23 }; /* madvise; Linux 5.14 */

typedef struct range {
    uintptr_t lo;
    size_t len;
    bool own; /* else of a file */
} range;

typedef struct ranges {
    int n;
    range at[RANGES];
} ranges;

static ranges known;

/* Flags of a page in /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
static const uint64_t PRESENT = 1ull << 63, OF_FILE = 1ull << 61, EXCLUSIVE = 1ull << 56;

static void add(ranges *r, uintptr_t at, size_t page, bool own)
{
    range *last = r->n ? &r->at[r->n - 1] : NULL;
    if (last && last->own == own && last->lo + last->len == at)
        last->len += page;
    else if (r->n < RANGES)
        r->at[r->n++] = (range){at, page, own};
}

/* What this fork does not share with its parent, and what it has mapped of files. */
static void look(int proc, ranges *r)
{
    enum { MANY = 512 };
    static uint64_t entry[MANY];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int pagemap = openat(proc, "self/pagemap", O_RDONLY | O_CLOEXEC);
    FILE *f = maps_open(proc);
    mapping m;
    while (pagemap >= 0 && maps_next(f, &m)) {
        if (m.flags[0] != 'r' || m.flags[3] != 'p') continue;
        for (uintptr_t at = m.lo; at < m.hi;) {
            size_t left = (m.hi - at) / page, n = left < MANY ? left : MANY, bytes = n * sizeof *entry;
            if (pread(pagemap, entry, bytes, (off_t)(at / page * sizeof *entry)) != (ssize_t)bytes) break;
            for (size_t i = 0; i < n; i++, at += page)
                if (entry[i] & PRESENT && entry[i] & (EXCLUSIVE | OF_FILE)) add(r, at, page, !(entry[i] & OF_FILE));
        }
    }
    if (f) fclose(f);
    if (pagemap >= 0) close(pagemap);
}

/* ECHILD once it is gone where SIGCHLD is ignored. */
static void wait_for(pid_t pid)
{
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

void pages_learn(int proc, void (*turn)(bool first))
{
    ranges *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED) return;
    pid_t state = fork(), later;
    if (state == 0) {
        turn(true);
        later = fork();
        if (later == 0) {
            turn(false);
            look(proc, r);
        }
        wait_for(later);
        _exit(0);
    }
    wait_for(state);
    known = *r;
    munmap(r, sizeof *r);
}

void pages_bring(bool files)
{
    for (int i = 0; i < known.n; i++)
        if (known.at[i].own || files)
            madvise((void *)known.at[i].lo, known.at[i].len, known.at[i].own ? POPULATE_WRITE : POPULATE_READ);
}
