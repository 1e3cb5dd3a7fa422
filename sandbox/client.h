/* The client's side, inside: box.c boxes and their turns, box_pool.c the pool, box_link.c its connection, box_replay.c
 * what is needed to run a box's turns again, box_result.c what comes back, box_input.c what goes in. */
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

/* A turn whose effects a box has. */
typedef struct past_turn {
    uint32_t turn; /* its number */
    char *code;
    size_t len;
    uint64_t print; /* of its result, see replay_print */
} past_turn;

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
    /* the turn under way */
    char *code;
    size_t len;
    double submitted;
    bool waiting, retried, replayed; /* for the connection; its one retry is spent; earlier turns were run again */
    bool own_doing;                  /* the state was lost by the code itself: no failure of the sandbox */
    /* turns to run again in a fresh box before it: past[at..n_past) */
    past_turn *past;
    int n_past, at;
    size_t past_bytes; /* beyond PAST_BYTES nothing is kept, and state that is lost stays lost */
};
enum { PAST_BYTES = 8 << 20 };

typedef enum link_state { LINK_UP, LINK_ASKED, LINK_DOWN, LINK_BROKEN } link_state;

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
    /* the connection */
    link_state link;
    double down_since, next_try, wait, asked; /* of LINK_DOWN and LINK_ASKED */
    double deaths[5];                         /* times of the last ones */
    double heard;                             /* of LINK_UP: when something was heard, or turns began to be under way */
};

/* box_link.c: messages to boxd, kept in order, never blocking. fd may be -1. Only while the link is up. */
void link_post(box_pool *p, void *msg, size_t n, const void *body, size_t n_body, int fd);
void link_flush(box_pool *p); /* sends what had to wait */
void link_drop(box_pool *p);
/* Connects to the daemon at path (NULL or "": a supervisor of our own), asks for the pool and waits for the answer: the
 * first time, when there is nothing else to do. */
status link_open(box_pool *p, const char *path, wire_reply *reply);
/* Takes a lost connection up again when its time has come; where it stands then. */
link_state link_step(box_pool *p);
/* Seconds until link_step has something to do. */
double link_wait(const box_pool *p);
/* The supervisor's answer to what link_step asked. */
void link_answer(box_pool *p, const wire_reply *r);
/* The supervisor is gone or makes no sense. Turns under way wait for another one, or end as INFRA. */
void link_died(box_pool *p);
void link_broken(box_pool *p, const char *why); /* for good */

/* box.c */
void client_restart(box_pool *p);   /* the link is up again: turns that waited for it start */
void client_interrupt(box_pool *p); /* it is gone: turns under way start again or fail */

/* box_replay.c */
uint64_t replay_print(const box_result *r); /* of everything the code decided */
void replay_keep(box *b, uint64_t print);   /* the turn under way has succeeded */
void replay_forget(box *b);                 /* the state is gone, by the code's own doing */
static inline bool replay_can(const box *b) { return !b->has_state || b->n_past; }

/* box_result.c: false: the message makes no sense, and out is not set. fd: the pictures. */
bool client_result(box_result *out, const wire_result *w, size_t n, int fd, const box_limits *l);

#endif
