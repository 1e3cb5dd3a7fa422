/* The supervisor's own state. boxd.c: the loop, the client's messages. boxrec.c: boxes, their output and results.
 * pool.c: zygote, jails. schedule.c: which turns run. verdict.c: from facts and claims to a verdict. canary.c: attacks
 * on a jail before it may be used. */
#ifndef SANDBOX_BOXD_H
#define SANDBOX_BOXD_H

#include "sandbox/cgroup.h"
#include "sandbox/wire.h"

typedef struct boxrec boxrec;

typedef enum jail_state {
    JAIL_FREE,
    JAIL_STARTING,
    JAIL_SPARE,
    JAIL_PARKED,
    JAIL_RUNNING,
    JAIL_RESETTING,
    JAIL_STATES
} jail_state;

typedef struct jailrec {
    jail_state state;
    uint32_t serial;              /* of this use of the table entry: events of an earlier one are stale */
    int ctl, out, img, pidfd, cg; /* cg: cgroup slot, -1 = none */
    int uses;
    int64_t ooms, pid_refusals; /* counted by its group before the turn that runs or comes next */
    bool ahead;                 /* SPARE, PARKED: has the process of the next turn ready */
    double since;               /* start of the state */
    boxrec *box;                /* PARKED and RUNNING */
} jailrec;

typedef enum box_state { BOX_IDLE, BOX_QUEUED, BOX_TURN, BOX_REPLY } box_state;

struct boxrec {
    uint32_t id;
    box_state state;
    uint64_t seed;
    int input; /* memfd of the pictures, -1 = none */
    bool input_sent;
    jailrec *jail;
    bool has_state, dead, ours; /* a turn has succeeded; its process is lost; by our failure */
    bool canary;
    double wall_s; /* soft limit of the turn; the pool's, but shorter for a canary */
    /* the turn */
    uint32_t turn;
    uint64_t ticket; /* the client's number for this submit */
    char *code;
    size_t len;
    double queued, started, deadline;
    int stage;                 /* 0 running, 1 interrupted, 2 told to kill, 3 jail killed */
    box_verdict cause;         /* why it was interrupted or killed; BOX_OK = it was not */
    double cpu_before, cpu_ms; /* of the group; of the turn, -1 = unknown */
    /* its share of the processors (schedule.c): stopped in favour of others, since when, how long before that; not
     * computing when last looked at, when that was, its CPU time then */
    bool paused, idle;
    double paused_at, paused_s, checked, cpu_seen;
    /* output: head[0..n_head), then the last bytes in a ring */
    char *head;
    size_t n_head, tail_at;
    int64_t n_out;
    wire_result result;
    char *result_body;
    boxrec *next; /* queue or outbox */
};

typedef struct boxd {
    int client, zygote, ep, term;
    int parent;                 /* a pidfd: with it we end, too */
    int opener;                 /* -1: none (opener.h) */
    const boxd_place *place;    /* NULL: the client is our own */
    int zygote_exe, zygote_lib; /* opened before root was given up: their folder may be closed to others */
    pid_t zygote_pid;
    char zygote_end[64]; /* how the last one ended, as the rest of a sentence */
    bool zygote_ready, pool_on, creating, broken;
    wire_pool pool;
    char *strings; /* modules and preset */
    size_t n_strings;
    box_tier tier;
    char why_t2[128]; /* what forbids namespaces */
    cgroup_set cg;
    jailrec *jails;
    int n_jail; /* table size */
    int n_starting, n_spare, n_resetting, n_ahead[JAIL_STATES];
    uint32_t serial;
    boxrec **boxes; /* by id % cap: ids are the client's slot numbers */
    int n_box;
    boxrec *queue, **queue_end, *outbox, **outbox_end;
    double deaths[5]; /* times of the last zygote deaths */
    double zygote_since;
    int canary_step;
    bool canary_ready, ending; /* dealt with by the loop, not inside an event */
    wire_result canary_result;
    char *canary_text;
    boxrec *canary;
    wire_reply report; /* of the pool's creation */
    char *buf;
    int jail_failures; /* in a row */
} boxd;

/* pool.c */
status pool_zygote_start(boxd *b);
void pool_zygote_stop(boxd *b);
void pool_on_zygote(boxd *b);
int pool_jail_start(boxd *b); /* 0 if a jail is being made, -1 if none can be now */
void pool_jail_state(boxd *b, jailrec *j, jail_state s);
void pool_jail_count(boxd *b, jailrec *j); /* between two turns: what its group has counted so far */
void pool_jail_kill(boxd *b, jailrec *j);
void pool_box_release(boxd *b, boxrec *x); /* its jail becomes a spare again or ends */
void pool_on_jail(boxd *b, jailrec *j);    /* control channel readable */
void pool_on_exit(boxd *b, jailrec *j);    /* pidfd readable */
void pool_run(boxd *b, boxrec *x);         /* sends the turn to its jail */
void pool_epoll(boxd *b, int fd, int kind, int index, uint32_t serial);

enum { EV_CLIENT, EV_ZYGOTE, EV_TERM, EV_CTL, EV_OUT, EV_PIDFD };

/* boxd.c */
#define BOXD_ANSWER_S 2.0                /* how long a runner may take to report after being told to kill its turn */
void boxd_pool_done(boxd *b, status st); /* answers the client's OP_POOL */
void boxd_note(boxd *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* for the client's log */
void boxd_give_up(boxd *b, const char *why);                                         /* no turn will run any more */
void boxd_queue(boxd *b, boxrec *x); /* its code is set: run it as soon as a jail is free */

/* boxrec.c */
boxrec *boxrec_new(boxd *b, uint32_t id);
void boxrec_free(boxd *b, boxrec *x);
void boxrec_read_output(boxd *b, jailrec *j);
void boxrec_forget_output(boxrec *x);                        /* of the turn before */
void boxrec_turn_end(boxd *b, boxrec *x, const wire_end *e); /* makes and sends the result; e NULL: the jail is gone */
void boxrec_fail_turn(boxd *b, boxrec *x, box_verdict v);    /* it did not run, or nobody can say how it ended */
void boxrec_flush(boxd *b);                                  /* results the client had no room for */

/* schedule.c */
void schedule_run(boxd *b); /* gives jails to waiting boxes, starts and resumes turns, pauses others, makes jails */
double schedule_next(const boxd *b, double now); /* seconds until it wants to be called again */
void schedule_ended(boxrec *x, double now);      /* a turn ended: its pauses are over */

/* verdict.c */
box_verdict verdict_of(const boxd *b, const boxrec *x, const wire_end *e, int *code, bool *keep);

/* canary.c: starts the next test or finishes; result is the last one's. */
void canary_next(boxd *b, const wire_result *result, const char *text);

#endif
