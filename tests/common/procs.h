/* Processes and control groups of a sandbox, as /proc and /sys tell: for tests that kill some and look for leftovers.
 */
#ifndef TESTS_COMMON_PROCS_H
#define TESTS_COMMON_PROCS_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct proc {
    pid_t pid, parent;
    unsigned long long start;
    char role[16]; /* its first argument, such as "@boxd" */
} proc;
typedef struct procs {
    int n;
    proc p[4096];
} procs;

/* Every living descendant of root. */
void procs_below(pid_t root, procs *out);
/* The nth descendant with that role; 0: there is none. */
pid_t procs_role(pid_t root, const char *role, int nth);
/* How many of them still live. */
int procs_alive(const procs *ps);
/* Control groups of the supervisor with this pid. */
int procs_groups(pid_t boxd);
/* Waits until neither processes nor control groups are left; false, and says so, when they are. */
bool procs_gone(const procs *ps, pid_t boxd, double seconds);

#endif
