#include "tests/common/procs.h"

#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/status.h"

static bool read_proc(pid_t pid, proc *p)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *after = strrchr(text, ')');
    char state = 0;
    *p = (proc){.pid = pid};
    if (!after || sscanf(after + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                         &state, &p->parent, &p->start) != 3)
        return false;
    if (state == 'Z' || state == 'X') return false;
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    if ((f = fopen(path, "r"))) {
        n = fread(text, 1, sizeof text - 1, f);
        text[n] = 0;
        if (strlen(text) + 1 < n) snprintf(p->role, sizeof p->role, "%.15s", text + strlen(text) + 1);
        fclose(f);
    }
    return true;
}

void procs_below(pid_t root, procs *out)
{
    static procs all;
    all.n = out->n = 0;
    DIR *d = opendir("/proc");
    CHECK(d);
    for (struct dirent *e; (e = readdir(d)) && all.n < 4096;)
        if (atoi(e->d_name) > 0 && read_proc(atoi(e->d_name), &all.p[all.n])) all.n++;
    closedir(d);
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < all.n; i++) {
            bool known = false, child = all.p[i].parent == root;
            for (int k = 0; k < out->n; k++) {
                known |= out->p[k].pid == all.p[i].pid;
                child |= out->p[k].pid == all.p[i].parent;
            }
            if (child && !known) {
                out->p[out->n++] = all.p[i];
                more = true;
            }
        }
    }
}

pid_t procs_role(pid_t root, const char *role, int nth)
{
    static procs ps;
    procs_below(root, &ps);
    for (int i = 0; i < ps.n; i++)
        if (!strcmp(ps.p[i].role, role) && nth-- == 0) return ps.p[i].pid;
    return 0;
}

int procs_alive(const procs *ps)
{
    int n = 0;
    for (int i = 0; i < ps->n; i++) {
        proc now;
        n += read_proc(ps->p[i].pid, &now) && now.start == ps->p[i].start;
    }
    return n;
}

int procs_groups(pid_t boxd)
{
    char pattern[128];
    int n = 0;
    static const char *const where[] = {"/sys/fs/cgroup/box.%d", "/sys/fs/cgroup/*/box.%d", "/sys/fs/cgroup/*/*/box.%d",
                                        "/sys/fs/cgroup/*/*/*/box.%d"};
    for (size_t i = 0; i < 4; i++) {
        glob_t g;
        snprintf(pattern, sizeof pattern, where[i], boxd);
        if (glob(pattern, 0, NULL, &g) == 0) n += (int)g.gl_pathc;
        globfree(&g);
    }
    return n;
}

bool procs_gone(const procs *ps, pid_t boxd, double seconds)
{
    for (double until = clock_now() + seconds; clock_now() < until; usleep(10000))
        if (procs_alive(ps) == 0 && procs_groups(boxd) == 0) return true;
    printf("%d processes and %d control groups are left\n", procs_alive(ps), procs_groups(boxd));
    return false;
}
