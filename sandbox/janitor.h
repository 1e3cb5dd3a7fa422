/* A process that outlives boxd to clean up after it. */
#ifndef SANDBOX_JANITOR_H
#define SANDBOX_JANITOR_H

#include "sandbox/cgroup.h"

/* Leaves a child behind, with the rights of now, that waits for this process to end in any way, or for its client (a
 * pidfd; -1: unknown): then it ends this process, even a stopped one, should that not end by itself, and removes its
 * groups. It holds nothing else. False: it could not be made. */
bool janitor_leave(const cgroup_set *s, int client);

#endif
