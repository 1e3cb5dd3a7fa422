#include <stdlib.h>
#include <string.h>

#include "core/comm.h"

/* Set by the launchers of Open MPI, MPICH, Intel MPI and by srun for every process of a job. */
static int job_size(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = getenv(names[i]);
        if (v != NULL && atoi(v) > 0) return atoi(v);
    }
    return 0;
}

#if defined(HAVE_MPI)
#include <limits.h>
#include <math.h>
#include <mpi.h>
#include <time.h>

#include "core/clock.h"

static MPI_Comm leaving; /* collectives on it never match those of the work */

enum { PIECE = 1 << 30 }; /* counts are ints; larger messages go in pieces */

static status check(int rc, const char *what)
{
    if (rc == MPI_SUCCESS) return ST_OK;
    char text[MPI_MAX_ERROR_STRING];
    int n = 0;
    MPI_Error_string(rc, text, &n);
    return FAIL(ST_ECOMM, "MPI %s failed: %.*s", what, n, text);
}

/* A blocked MPI call spins on a whole core until the last rank arrives, which may still be decoding. So every
 * collective first waits here, asleep after the first moments, and then runs with everyone present. */
static status wait_all(MPI_Comm on, double seconds, bool *here)
{
    MPI_Request r;
    TRY(check(MPI_Ibarrier(on, &r), "barrier"));
    struct timespec nap = {0, 20000};
    double end = clock_now() + seconds;
    for (int i = 0;; i++) {
        int done = 0;
        TRY(check(MPI_Test(&r, &done, MPI_STATUS_IGNORE), "barrier"));
        *here = done != 0;
        if (done || clock_now() > end) return ST_OK;
        if (i < 200) continue;
        nanosleep(&nap, NULL);
        if (nap.tv_nsec < 1000000) nap.tv_nsec += nap.tv_nsec / 4;
    }
}

static status arrive(comm *c)
{
    (void)c;
    bool here;
    return wait_all(MPI_COMM_WORLD, INFINITY, &here);
}

static bool mpi_meet(comm *c, double seconds)
{
    (void)c;
    bool here = false;
    return wait_all(leaving, seconds, &here) == ST_OK && here;
}

static status mpi_bcast(comm *c, void *buf, size_t bytes, int root)
{
    TRY(arrive(c));
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        TRY(check(MPI_Bcast((char *)buf + at, (int)n, MPI_BYTE, root, MPI_COMM_WORLD), "broadcast"));
    }
    return ST_OK;
}

/* Blocks larger than an int count: gathers piece by piece into a buffer, then places them. */
static status in_pieces(comm *c, const void *send, void *recv, size_t bytes, int all_to_all)
{
    size_t size = (size_t)c->size, piece = PIECE / size;
    char *out = all_to_all ? malloc(piece * size) : NULL, *in = malloc(piece * size);
    status st = in != NULL && (!all_to_all || out != NULL)
                    ? ST_OK
                    : FAIL(ST_ENOMEM, "exchange buffers of 1 GiB: out of memory");
    for (size_t at = 0; at < bytes && st == ST_OK; at += piece) {
        size_t n = bytes - at < piece ? bytes - at : piece;
        if (all_to_all) {
            for (size_t i = 0; i < size; i++) memcpy(out + i * n, (const char *)send + i * bytes + at, n);
            st = check(MPI_Alltoall(out, (int)n, MPI_BYTE, in, (int)n, MPI_BYTE, MPI_COMM_WORLD), "all-to-all");
        } else {
            st = check(MPI_Allgather((const char *)send + at, (int)n, MPI_BYTE, in, (int)n, MPI_BYTE, MPI_COMM_WORLD),
                       "all-gather");
        }
        for (size_t i = 0; i < size && st == ST_OK; i++) memcpy((char *)recv + i * bytes + at, in + i * n, n);
    }
    free(out);
    free(in);
    return st;
}

static status mpi_allgather(comm *c, const void *send, void *recv, size_t bytes)
{
    TRY(arrive(c));
    if (bytes > INT_MAX / (size_t)c->size) return in_pieces(c, send, recv, bytes, 0);
    return check(MPI_Allgather(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, MPI_COMM_WORLD), "all-gather");
}

static status mpi_alltoall(comm *c, const void *send, void *recv, size_t bytes)
{
    TRY(arrive(c));
    if (bytes > INT_MAX / (size_t)c->size) return in_pieces(c, send, recv, bytes, 1);
    return check(MPI_Alltoall(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, MPI_COMM_WORLD), "all-to-all");
}

static void mpi_abort(comm *c, int code)
{
    (void)c;
    MPI_Abort(MPI_COMM_WORLD, code);
}

static void mpi_close(comm *c)
{
    MPI_Finalize();
    free(c);
}

status comm_open(comm **out, int *argc, char ***argv)
{
    /* A single process needs no MPI: it starts faster, and Open MPI's singleton mode has side effects of its own. */
    if (job_size() == 0) return comm_open_self(out);
    int level = 0;
    TRY(check(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level), "start"));
    if (level < MPI_THREAD_FUNNELED)
        return FAIL(ST_EUNAVAIL, "this MPI library does not work in a process with threads");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY(check(MPI_Comm_dup(MPI_COMM_WORLD, &leaving), "communicator"));
    comm *c = malloc(sizeof *c);
    CHECK(c != NULL);
    *c = (comm){.barrier = arrive,
                .bcast = mpi_bcast,
                .allgather = mpi_allgather,
                .alltoall = mpi_alltoall,
                .meet = mpi_meet,
                .abort = mpi_abort,
                .close = mpi_close};
    MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &c->size);
    *out = c;
    return ST_OK;
}

const char *comm_mpi_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int n = 0;
    if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) return "MPI, version unknown";
    text[strcspn(text, ",\n")] = '\0';
    return text;
}

#else

status comm_open(comm **out, int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (job_size() > 1) {
        return FAIL(ST_EUNAVAIL,
                    "started as one of %d processes, but this binary was built without MPI: every process would do "
                    "the whole job. Build with MPI (-DWITH_MPI=ON) or start it without mpirun",
                    job_size());
    }
    return comm_open_self(out);
}

const char *comm_mpi_version(void) { return NULL; }

#endif
