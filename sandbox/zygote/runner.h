/* Inside a jail. The runner is PID 1: it never runs model code, takes orders from boxd and reports what it saw. Model
 * code runs in holders, its children: each turn is a fork of the holder of the last good state, so a failed turn is
 * undone by killing the fork. */
#ifndef SANDBOX_RUNNER_H
#define SANDBOX_RUNNER_H

#include "sandbox/jail.h"
#include "sandbox/wire.h"
#include "sandbox/zygote/turn_log.h"

/* PID 1 of a new pid namespace, just forked from the zygote. out: the output pipe's write end; img: the image memfd. */
_Noreturn void runner_main(const jail *j, const box_limits *l, int ctl, int out, int img);

typedef struct holder_fds {
    int out, img, input, channel[2];
} holder_fds; /* input < 0: none */
/* The first holder of a box, just forked from the runner; run is followed by its code. */
enum {
    HOLDER_NO_FORK = 75, /* exit statuses: there was no process left for the turn; */
    HOLDER_STATE_LOST = 78
}; /* an earlier turn, run again, did not succeed */
/* again: turns that made the state before (T2 only, where a holder cannot fork), run once more unheard. */
_Noreturn void holder_main(const jail *j, const box_limits *l, const holder_fds *f, wire_run *run,
                           const turn_log *again);
/* The same before its box is known: made ready, it waits for its first turn, with which the pictures come. buf holds a
 * message. */
_Noreturn void holder_ahead(const jail *j, const box_limits *l, const holder_fds *f, void *buf);

#endif
