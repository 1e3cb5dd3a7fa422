/* The runner's state, and the two halves of a turn: turn_start.c finds or makes the process it runs in, turn_end.c
 * judges, stops and buries it. runner.c decides which when. Each function ends the runner, and with it the jail, where
 * it cannot do its work. */
#ifndef SANDBOX_TURN_H
#define SANDBOX_TURN_H

#include <sys/resource.h>

#include "sandbox/zygote/files.h"
#include "sandbox/zygote/runner.h"

typedef enum runner_state { IDLE, WAIT_FIRST, WAIT_FORK, RUNNING, JUDGED } runner_state;

typedef struct runner {
    const jail *j;
    const box_limits *l;
    int ctl, out, img, input, sig;
    int side[2][2];  /* two channels used in turn; [i][0] is ours, [i][1] the holders' */
    pid_t base, cur; /* holder of the last good state (0: none yet); holder of the turn under way */
    pid_t ahead;     /* made ready for the next turn: the box's first, then on side 0, or a fork of base, stopped, on
                        the side that base is not on */
    bool forking;    /* base was told to fork and nobody has greeted yet */
    bool late;       /* for too long while no turn waits for it: stopped until one does */
    bool said;       /* something was said between turns: the next one ends by it */
    pid_t dying;     /* killed, not seen dead yet: it may still sit on a channel that is used again */
    int base_side, cur_side;
    runner_state st;
    uint64_t nonce, fork_nonce;
    bool base_lost, cur_dead;
    files files;     /* as the last good state has them */
    bool mapped;     /* the last good state may hold mappings of them */
    bool undo;       /* what the last turn did to them is to be undone */
    int base_status; /* how the lost one ended; -1: it was given up */
    int cur_status;
    double cur_cpu_ms, cpu_before_ms; /* of the turn's process; what it had used before the turn (T2) */
    int64_t cur_rss_kib;
    turn_log log; /* T2: the turns that made the state, and the one under way */
    wire_end end;
    char *buf, *run; /* last message; last OP_RUN, whose code may have to wait for a fork */
    size_t n_run;
} runner;

/* ---- turn_start.c ---- */

/* The turn of r->run. Leaves the runner waiting for a holder's word, or the turn reported. */
void turn_start(runner *r);
/* Makes the process of the next turn: what depends neither on the box, if it is the first, nor on the code is done by
 * the time its turn comes. nonce: of the greeting. */
void turn_make_ahead(runner *r, uint64_t nonce);
/* The fork has greeted, r->ahead is it. */
void turn_forked(runner *r);
void turn_close_channels(runner *r);

/* ---- turn_end.c: each reports the turn ---- */

void turn_end_claimed(runner *r, const wire_claim *c); /* by its holder, well-formed */
void turn_end_killed(runner *r);                       /* kills what is left of it */
void turn_end_protocol(runner *r);                     /* something was said that nobody may say */
void turn_end_without_base(runner *r);                 /* the state it should start from is dead */

/* The last good state is not to be had any more. */
void turn_lose_base(runner *r);
/* Every process that has died, without waiting. */
void turn_reap(runner *r);
/* Until what judge() killed, with all its forks, is dead. */
void turn_wait_dying(runner *r);
void turn_kill_group(pid_t leader);
void turn_limit_cpu(pid_t pid, rlim_t seconds);
double turn_clock_ms(pid_t pid); /* CPU time it has used; 0 if it is gone */
/* SIGALRM ends the wait for a process that does not stop; to be called once. */
void turn_catch_alarm(void);

#endif
