/* Control groups for boxes, where this machine lends any: v1 (memory, pids, cpuacct, cpu hierarchies), v2 (one), or
 * none. Slots are made once and used again; a jail joins its slot itself while it starts, because joining sleeps
 * several milliseconds on an idle machine (RCU grace period) and must not hold up anybody else. */
#ifndef SANDBOX_CGROUP_H
#define SANDBOX_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/box.h"

enum { CGROUP_FILES = 4 };

typedef struct cgroup_set {
    int version;                 /* 0 none, 1, 2 */
    char dir[CGROUP_FILES][224]; /* our own group in each hierarchy (v2: one) */
    int lock[CGROUP_FILES];      /* descriptors that hold the locks on them, while this process lives */
    int n_dir;
    int mem, pids, cpu; /* index into dir, -1 = absent */
    int64_t memory_bytes, n_pids;
    char why_not[160]; /* version 0: what is missing */
    bool *used;
    int n_slot;
} cgroup_set;

/* Finds the hierarchies and makes <own group>/box.<pid> in each, owned by owner, locked as long as this process lives.
 * Removes what dead supervisors left here and in the groups beside. Version 0 with why_not where nothing is to be had.
 * Call with the rights the program was started with. */
void cgroup_prepare(cgroup_set *s, unsigned owner);
void cgroup_limits(cgroup_set *s, const box_limits *l);
/* A free slot with its limits set, -1 if none can be had. */
int cgroup_take(cgroup_set *s);
void cgroup_give(cgroup_set *s, int slot);
/* Opens the files to join; returns how many. Writing "0" to each moves the writer. */
int cgroup_join_files(const cgroup_set *s, int slot, int fds[CGROUP_FILES]);
/* Counters of a slot; -1 where there is none. */
int64_t cgroup_ooms(const cgroup_set *s, int slot);
int64_t cgroup_pid_refusals(const cgroup_set *s, int slot);
double cgroup_cpu_ms(const cgroup_set *s, int slot);
double cgroup_peak_mib(const cgroup_set *s, int slot);
void cgroup_peak_reset(const cgroup_set *s, int slot);
/* For the canary: another memory limit for one slot. */
void cgroup_memory(const cgroup_set *s, int slot, int64_t bytes);
/* Removes the groups, which need no member any more; kill_all: those that have some lose them. False: some are left. */
bool cgroup_remove(const cgroup_set *s, bool kill_all);
void cgroup_undo(cgroup_set *s);                            /* removes the empty groups and does without any */
void cgroup_pids(const cgroup_set *s, int slot, int64_t n); /* the same for processes */
int64_t cgroup_members(const cgroup_set *s, int slot);      /* processes in it now, -1 where there is no slot */
/* They do not hold: no more of them; why_not is the caller's to fill. */
void cgroup_disable(cgroup_set *s);
/* Removes the slots. */
void cgroup_clear(cgroup_set *s);

#endif
