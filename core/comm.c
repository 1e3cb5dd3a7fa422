#include "core/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static status self_barrier(comm *c)
{
    (void)c;
    return ST_OK;
}

static status self_bcast(comm *c, void *buf, size_t bytes, int root)
{
    (void)c, (void)buf, (void)bytes;
    CHECK(root == 0);
    return ST_OK;
}

static status self_copy(comm *c, const void *send, void *recv, size_t bytes)
{
    (void)c;
    if (bytes > 0) memmove(recv, send, bytes);
    return ST_OK;
}

static bool self_meet(comm *c, double seconds)
{
    (void)c, (void)seconds;
    return true;
}

static void self_abort(comm *c, int code)
{
    (void)c;
    exit(code);
}

static void self_close(comm *c) { free(c); }

status comm_open_self(comm **out)
{
    comm *c = malloc(sizeof *c);
    if (c == NULL) return FAIL(ST_ENOMEM, "out of memory");
    *c = (comm){.rank = 0,
                .size = 1,
                .barrier = self_barrier,
                .bcast = self_bcast,
                .allgather = self_copy,
                .alltoall = self_copy,
                .meet = self_meet,
                .abort = self_abort,
                .close = self_close};
    *out = c;
    return ST_OK;
}

status comm_barrier(comm *c) { return c->barrier(c); }

status comm_bcast(comm *c, void *buf, size_t bytes, int root)
{
    CHECK(root >= 0 && root < c->size);
    return c->bcast(c, buf, bytes, root);
}

status comm_allgather(comm *c, const void *send, void *recv, size_t bytes)
{
    return c->allgather(c, send, recv, bytes);
}
status comm_alltoall(comm *c, const void *send, void *recv, size_t bytes) { return c->alltoall(c, send, recv, bytes); }

status comm_allgatherv(comm *c, const void *send, size_t bytes, void **recv, size_t *counts)
{
    size_t size = (size_t)c->size, total = 0;
    unsigned long long mine = bytes, *all = malloc(size * sizeof *all);
    char *buf = NULL;
    status st = all != NULL ? ST_OK : FAIL(ST_ENOMEM, "out of memory");
    if (st == ST_OK) st = c->allgather(c, &mine, all, sizeof mine);
    for (size_t i = 0; i < size && st == ST_OK; i++) total += all[i];
    if (st == ST_OK) {
        buf = malloc(total > 0 ? total : 1);
        if (buf == NULL) st = FAIL(ST_ENOMEM, "gathering %zu bytes: out of memory", total);
    }
    /* Every rank must enter the broadcasts or none. */
    if (all != NULL) st = comm_agree(c, st);
    size_t at = 0;
    for (size_t i = 0; i < size && st == ST_OK; i++) {
        CHECK(buf != NULL);
        if ((int)i == c->rank && bytes > 0) memcpy(buf + at, send, bytes);
        if (all[i] > 0) st = c->bcast(c, buf + at, all[i], (int)i);
        at += all[i];
    }
    if (st == ST_OK) {
        for (size_t i = 0; i < size; i++) counts[i] = all[i];
        *recv = buf;
    } else {
        free(buf);
    }
    free(all);
    return st;
}

typedef struct verdict {
    int st;
    char message[500];
} verdict;

status comm_agree(comm *c, status mine)
{
    if (c->size == 1) return mine;
    verdict v = {.st = mine};
    if (mine != ST_OK) snprintf(v.message, sizeof v.message, "%s", fail_message());
    int any = mine, *all = malloc((size_t)c->size * sizeof *all);
    CHECK(all != NULL);
    status st = c->allgather(c, &any, all, sizeof any);
    int bad = -1;
    for (int i = 0; i < c->size && st == ST_OK; i++) {
        if (all[i] != ST_OK && (bad < 0 || all[i] < all[bad])) bad = i;
    }
    free(all);
    if (st != ST_OK) return st;
    if (bad < 0) return ST_OK;
    TRY(c->bcast(c, &v, sizeof v, bad));
    if (strncmp(v.message, "rank ", 5) == 0) return FAIL(v.st, "%s", v.message); /* agreed on before */
    return FAIL(v.st, "rank %d: %s", bad, v.message);
}

bool comm_meet(comm *c, double seconds) { return c->meet(c, seconds); }

void comm_abort(comm *c, int code)
{
    if (code == 0) code = 1;
    c->abort(c, code);
}

void comm_close(comm *c)
{
    if (c != NULL) c->close(c);
}
