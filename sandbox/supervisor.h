/* The client's side of the supervisor process: one per process by nature, so it needs no handle. */
#ifndef SANDBOX_SUPERVISOR_H
#define SANDBOX_SUPERVISOR_H

#include "sandbox/wire.h"

extern struct supervisor {
    int sock; /* -1: it does not run */
    pid_t pid;
    char *exe;      /* NULL before box_boot */
    char *path;     /* of a daemon's socket; NULL: a supervisor of our own */
    int generation; /* counts its starts: boxes of an earlier one are lost */
    box_pool *pool; /* the one pool */
} supervisor;

/* 0, or -1 with errno. May be called late, with threads, CUDA and MPI in this process: posix_spawn copies no memory,
 * runs no fork handlers and leaves nothing inheritable open meanwhile. */
int supervisor_start(void);
void supervisor_stop(void); /* lets it clean up, waits at most 2 s */
/* It died or broke the protocol: ends what is left of it. How it ended, as the rest of a sentence. */
const char *supervisor_bury(void);

#endif
