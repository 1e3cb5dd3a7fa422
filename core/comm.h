/* Ranks. Backends: self (one process) and MPI (host memory). Every function says Collective or Not collective.
 * Sums are never left to a library's order: exchange bytes, then add in ours (rl/optim.c). */
#ifndef CORE_COMM_H
#define CORE_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct comm comm;
struct comm {
    int rank, size;
    void *impl;
    status (*barrier)(comm *c);
    status (*bcast)(comm *c, void *buf, size_t bytes, int root);
    status (*allgather)(comm *c, const void *send, void *recv, size_t bytes); /* recv: size * bytes, by rank */
    status (*alltoall)(comm *c, const void *send, void *recv, size_t bytes);  /* chunk i of send goes to rank i */
    bool (*meet)(comm *c, double seconds);
    void (*abort)(comm *c, int code);
    void (*close)(comm *c);
};

/* ST_EUNAVAIL when started under mpirun by a binary built without MPI (never silently N copies of one job).
 * argc/argv as main got them. Call after box_boot and before threads. */
status comm_open(comm **out, int *argc, char ***argv);
status comm_open_self(comm **out);
/* Name and version of the MPI library; NULL when built without. For doctor. */
const char *comm_mpi_version(void);
status comm_barrier(comm *c);                                               /* Collective */
status comm_bcast(comm *c, void *buf, size_t bytes, int root);              /* Collective */
status comm_allgather(comm *c, const void *send, void *recv, size_t bytes); /* Collective */
status comm_alltoall(comm *c, const void *send, void *recv, size_t bytes);  /* Collective */
/* Variable sizes: *recv is malloc'ed (caller frees), counts[size] receives each rank's bytes. Collective. */
status comm_allgatherv(comm *c, const void *send, size_t bytes, void **recv, size_t *counts);
/* Ends a phase that can fail on some ranks: worst status of any rank, and on every rank fail_message() is that rank's
 * message with "rank N: " in front. Collective. */
status comm_agree(comm *c, status mine);
/* Waits until every rank is here, and says false when some rank isn't after so many seconds (INFINITY: no limit). For
 * leaving: unlike a barrier it can't be confused with whatever the others are still doing. Once per process. */
bool comm_meet(comm *c, double seconds);
/* Prints nothing; ends the whole job with a non-zero code. Not collective. */
void comm_abort(comm *c, int code);
void comm_close(comm *c);

#endif
