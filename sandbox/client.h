/* The client's side, inside: box.c boxes and their turns, box_pool.c the pool and its connection, box_result.c what
 * comes back, box_input.c what goes in. */
#ifndef SANDBOX_CLIENT_H
#define SANDBOX_CLIENT_H

#include "sandbox/supervisor.h"

struct box_input {
    int fd, refs;
};

typedef struct out_msg {
    struct out_msg *next;
    int fd;
    size_t n;
    char bytes[];
} out_msg;

struct box {
    box_pool *pool;
    uint32_t id, turn;
    uint64_t seed, ticket;
    int generation; /* of the supervisor that knows this box; 0 = none yet */
    bool pending, ended, has_state, lost;
    box_input *in;
    box_result result;
    void *user;
    box *next_done;
};

struct box_pool {
    wire_pool msg;
    char *strings;
    size_t n_strings;
    box_tier tier;
    box **slot;
    int n_slot, n_pending;
    uint64_t ticket;
    out_msg *out, **out_end;
    box *done, **done_end;
    char *buf;
};

/* box_pool.c: messages to boxd, kept in order, never blocking. fd may be -1. */
void client_post(box_pool *p, void *msg, size_t n, const void *body, size_t n_body, int fd);
void client_flush(box_pool *p); /* sends what had to wait */
void client_drop(box_pool *p);
bool client_revive(box_pool *p); /* a supervisor that died is started again, but not for ever */

/* box.c */
void client_died(box_pool *p);

/* box_result.c: false: the message makes no sense, and out is not set. fd: the pictures. */
bool client_result(box_result *out, const wire_result *w, size_t n, int fd, const box_limits *l);

#endif
