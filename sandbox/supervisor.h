/* The client's side of the supervisor process: one per process by nature, so it needs no handle. */
#ifndef SANDBOX_SUPERVISOR_H
#define SANDBOX_SUPERVISOR_H

#include "sandbox/protocol.h"

extern struct supervisor {
    int sock; /* -1: it does not run */
    pid_t pid;
    char *exe;        /* NULL before box_boot */
    int generation;   /* counts its starts: boxes of an earlier one are lost */
    double starts[3]; /* times of the last restarts */
    box_pool *pool;   /* the one pool */
} supervisor;

int supervisor_start(void); /* 0, or -1 */
void supervisor_stop(void); /* lets it clean up, waits at most 2 s */
void supervisor_bury(void); /* it died or broke the protocol */

#endif
