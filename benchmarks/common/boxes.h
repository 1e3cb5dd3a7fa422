/* What the benchmarks of boxes share: starting them, turns, percentiles, and what the machine says about processes. */
#ifndef BENCHMARKS_COMMON_BOXES_H
#define BENCHMARKS_COMMON_BOXES_H

#include <stddef.h>

#include "sandbox/box.h"

/* box_boot with the codedance built beside this program: >= 0 is an exit status to return at once. */
int bench_boot(int argc, char **argv);
/* Defaults with numpy and PIL.Image as in the demo; full: cv2, matplotlib.pyplot, scipy.ndimage and sympy too, as far
 * as /usr/bin/python3 has them. Preset: np, W, H. */
box_opts bench_box_opts(bool full);
/* Creates a pool or ends the program; waits until its spares stand. */
box_pool *bench_pool(const box_opts *o);
/* One turn to its end; the caller frees the result. */
box_result bench_turn(box_pool *p, box *b, const char *code);
/* Same, must end OK; returns nothing. */
void bench_turn_ok(box_pool *p, box *b, const char *code);

double bench_percentile(double *v, int n, double q); /* sorts v; 0 for n = 0 */
/* {"what": ..., "n", "p50_ms", "p95_ms", "min_ms"} as a line */
void bench_report(const char *what, double *ms, int n);

typedef struct bench_pids {
    int boxd, zygote; /* the zygote: the inner process that forks boxes */
} bench_pids;
/* Of this program's supervisor; 0 where there is none. */
bench_pids bench_find(void);
/* Entries of /proc/PID/fd; -1 if unreadable. */
int bench_fds(int pid);
/* A field of /proc/PID/smaps_rollup ("Rss", "Pss") or /proc/PID/status ("VmPTE", "Threads"), KiB or number; -1: absent.
 */
long bench_proc(int pid, const char *file, const char *field);
/* Lines of /proc/PID/maps. */
int bench_vmas(int pid);
/* Processes of which pid is an ancestor, at most max of their ids in out (may be NULL). */
int bench_descendants(int pid, int *out, int max);
/* Mounts in the namespace of pid. */
int bench_mounts(int pid);
long bench_meminfo(const char *field); /* KiB */
/* Directories box.BOXD and slots below them in all hierarchies; -1: no control groups. */
int bench_cgroups(int boxd);
/* Processes in the box groups (T0, v1 or v2); -1 where there is no such count. */
int bench_box_pids(int boxd);
/* CPU seconds of this process, the supervisor, the zygote and all its boxes so far (control groups v1). */
double bench_cpu_s(const bench_pids *p);
/* load.c: n boxes with a picture and a state each, a turn in all of them, another, the end; prints lines. False if an
 * answer was wrong or something is left. Ends the supervisor. */
bool bench_load(const box_opts *o, int n, bool with_memory);

#endif
