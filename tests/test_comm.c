/* Alone: the self backend. Under mpirun (tests/mpi_comm.sh): the same checks over every rank. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/comm.h"

static comm *world;

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void collectives(void **state)
{
    (void)state;
    int n = world->size, me = world->rank;
    assert_true(n >= 1 && me >= 0 && me < n);
    assert_int_equal(comm_barrier(world), ST_OK);
    for (int root = 0; root < n; root++) {
        int v[3] = {me, me * 10, me * 100};
        assert_int_equal(comm_bcast(world, v, sizeof v, root), ST_OK);
        assert_int_equal(v[2], root * 100);
    }
    int32_t *send = calloc((size_t)n * 1000, sizeof *send), *recv = calloc((size_t)n * 1000, sizeof *recv);
    for (int i = 0; i < 1000; i++) send[i] = me * 1000000 + i;
    assert_int_equal(comm_allgather(world, send, recv, 1000 * sizeof *send), ST_OK);
    for (int r = 0; r < n; r++) {
        for (int i = 0; i < 1000; i++) assert_int_equal(recv[r * 1000 + i], r * 1000000 + i);
    }
    for (int r = 0; r < n; r++) send[r] = me * 100 + r;
    assert_int_equal(comm_alltoall(world, send, recv, sizeof *send), ST_OK);
    for (int r = 0; r < n; r++) assert_int_equal(recv[r], r * 100 + me);
    free(send);
    free(recv);
}

static void variable_sizes(void **state)
{
    (void)state;
    int n = world->size, me = world->rank;
    char text[64];
    void *all = NULL;
    size_t *counts = calloc((size_t)n, sizeof *counts);
    for (int empty = 0; empty <= n; empty++) { /* rank `empty` sends nothing; all send when empty == n */
        int len = me == empty ? 0 : snprintf(text, sizeof text, "%.*s%d", me, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", me);
        assert_int_equal(comm_allgatherv(world, text, (size_t)len, &all, counts), ST_OK);
        char *p = all;
        for (int r = 0; r < n; r++) {
            char want[64];
            int w = r == empty ? 0 : snprintf(want, sizeof want, "%.*s%d", r, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", r);
            assert_int_equal(counts[r], w);
            assert_memory_equal(p, want, (size_t)w);
            p += w;
        }
        free(all);
    }
    free(counts);
}

static void agreement(void **state)
{
    (void)state;
    int n = world->size, last = n - 1;
    assert_int_equal(comm_agree(world, ST_OK), ST_OK);
    status mine = world->rank == last ? FAIL(ST_EIO, "the disk of %d", last) : ST_OK;
    assert_int_equal(comm_agree(world, mine), ST_EIO);
    char want[64];
    if (n == 1)
        snprintf(want, sizeof want, "the disk of 0");
    else
        snprintf(want, sizeof want, "rank %d: the disk of %d", last, last);
    assert_string_equal(fail_message(), want);
}

/* Waiting for a slow rank must not burn the core that the slow rank may need. */
static void waiting_is_idle(void **state)
{
    (void)state;
    if (world->size == 1) skip();
    assert_int_equal(comm_barrier(world), ST_OK);
    if (world->rank == 0) usleep(500000);
    double from = cpu_now();
    assert_int_equal(comm_barrier(world), ST_OK);
    assert_true(cpu_now() - from < 0.25);
}

/* A job of several processes and a binary without MPI: refused, not repeated N times. */
static void lone_copies(void **state)
{
    (void)state;
    if (comm_mpi_version() != NULL || world->size > 1) skip();
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    comm *c = NULL;
    int argc = 0;
    char **argv = NULL;
    assert_int_equal(comm_open(&c, &argc, &argv), ST_EUNAVAIL);
    assert_non_null(strstr(fail_message(), "without MPI"));
    unsetenv("OMPI_COMM_WORLD_SIZE");
}

static void abort_code(void **state)
{
    (void)state;
    if (world->size > 1) skip();
    for (int code = 0; code < 2; code++) {
        pid_t pid = fork();
        if (pid == 0) {
            comm_abort(world, code * 7);
            _exit(99);
        }
        int ws = 0;
        assert_int_equal(waitpid(pid, &ws, 0), pid);
        assert_true(WIFEXITED(ws));
        assert_int_equal(WEXITSTATUS(ws), code == 0 ? 1 : 7);
    }
}

/* Last: a meeting is the end of a job. The slow rank is waited for, and nobody is left behind. */
static void leaving(void **state)
{
    (void)state;
    if (world->rank == 0) usleep(100000);
    assert_true(comm_meet(world, 30));
}

int main(int argc, char **argv)
{
    if (comm_open(&world, &argc, &argv) != ST_OK) {
        fprintf(stderr, "%s\n", fail_message());
        return 1;
    }
    if (argc > 1 && world->size != atoi(argv[1])) {
        fprintf(stderr, "%d ranks, expected %s\n", world->size, argv[1]);
        return 1;
    }
    if (argc > 2 && world->rank == 1) { /* one rank gives up: the job must end at once with its code */
        comm_abort(world, atoi(argv[2]));
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives),     cmocka_unit_test(variable_sizes), cmocka_unit_test(agreement),
        cmocka_unit_test(waiting_is_idle), cmocka_unit_test(lone_copies),    cmocka_unit_test(abort_code),
        cmocka_unit_test(leaving),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(world);
    return rc;
}
