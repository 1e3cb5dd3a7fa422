#include "sandbox/zygote/runner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/zygote/turn.h"

enum { FORK_MS = 50 }; /* what a state gets between two turns, in which no clock of the supervisor runs */

/* ---- orders of boxd ---- */

static void stop_turn(runner *r)
{
    r->end.killed = 1;
    if (r->st == WAIT_FORK) { /* the fork did not come: its parent is not healthy either */
        turn_lose_base(r);
        if (r->j->tier < BOX_T2) kill(-1, SIGKILL);
    }
    turn_end_killed(r);
}

static void judge(runner *r, bool keep)
{
    if (keep && r->cur) {
        r->dying = r->base;
        if (r->base) turn_kill_group(r->base);
        r->base = r->cur;
        r->base_side = r->cur_side;
        if (r->j->tier >= BOX_T2) turn_log_keep(&r->log);
    } else if (r->cur) {
        r->dying = r->cur;
        turn_kill_group(r->cur);
    }
    r->undo = !keep;
    if (keep) r->mapped = r->end.claim.mapped;
    r->cur = 0;
    r->st = IDLE;
}

static void reset(runner *r)
{
    if (r->j->tier < BOX_T2) {
        kill(-1, SIGKILL); /* everything in this pid namespace but this process */
    } else {               /* here -1 would be every process of this user */
        turn_kill_group(r->base);
        turn_kill_group(r->cur);
        turn_log_clear(&r->log);
    }
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {}
    turn_close_channels(r);
    if (r->input >= 0) close(r->input);
    r->input = -1;
    r->base = r->cur = r->dying = r->ahead = 0;
    r->undo = r->mapped = r->forking = r->said = false;
    r->base_lost = false;
    r->st = IDLE;
    files_drop(&r->files);
    if (jail_box_renew(r->j, r->l) != ST_OK) _exit(1);
    wire_head ready = {.op = OP_READY};
    if (wire_send(r->ctl, &ready, sizeof ready, NULL, 0, NULL, 0)) _exit(1);
}

static void on_order(runner *r)
{
    int fds[WIRE_FDS], n_fd = 0;
    ssize_t n = wire_recv(r->ctl, r->buf, WIRE_MSG_MAX, fds, &n_fd, NULL, 0);
    if (n < (ssize_t)sizeof(wire_head)) _exit(0); /* the supervisor is gone */
    const wire_head *h = (const wire_head *)r->buf;
    if (h->op == OP_RUN) { /* other orders must not overwrite it */
        char *free_one = r->run;
        r->run = r->buf;
        r->buf = free_one;
        r->n_run = (size_t)n;
    }
    if (h->op == OP_RUN && n_fd == 1) {
        if (r->input >= 0) close(r->input);
        r->input = fds[0];
    } else {
        for (int i = 0; i < n_fd; i++) close(fds[i]);
    }
    switch (h->op) {
    case OP_RUN:
        if (r->st != IDLE || n < (ssize_t)sizeof(wire_run)) _exit(1);
        turn_start(r);
        break;
    case OP_AHEAD: turn_make_ahead(r, h->nonce); break;
    case OP_PAUSE:
    case OP_RESUME:
        if (r->st == RUNNING) kill(-r->cur, h->op == OP_PAUSE ? SIGSTOP : SIGCONT);
        break;
    case OP_INTERRUPT:
        if (r->st == RUNNING) kill(r->cur, SIGINT);
        break;
    case OP_KILL:
        if (r->st == RUNNING || r->st == WAIT_FORK || r->st == WAIT_FIRST) stop_turn(r);
        break;
    case OP_COMMIT:
    case OP_ROLLBACK:
        if (r->st == JUDGED) judge(r, h->op == OP_COMMIT);
        break;
    case OP_RESET: reset(r); break;
    default: _exit(1);
    }
}

/* ---- claims of holders ---- */

/* Something was said that nobody may say by the state or its fork. */
static void end_out_of_turn(runner *r)
{
    if (r->st == IDLE) { /* the next turn is told */
        r->forking = false;
        r->said = true;
        kill(-r->base, SIGSTOP);
        return;
    }
    if (r->st == WAIT_FORK) turn_lose_base(r);
    turn_end_protocol(r);
}

static void on_hello(runner *r, const wire_head *h, ssize_t n, pid_t from)
{
    if (n != (ssize_t)sizeof *h || h->op != OP_HELLO || h->nonce != r->fork_nonce || from <= 1 || from == r->base ||
        setpgid(from, from)) { /* only works on a child of ours that has not called exec */
        end_out_of_turn(r);
        return;
    }
    r->ahead = from;
    turn_forked(r);
}

static void end_infra(runner *r)
{
    r->end.infra = 1;
    turn_end_killed(r);
}

/* The channel on which somebody is expected to speak. */
static int heard_side(const runner *r) { return r->forking ? 1 - r->base_side : r->cur_side; }

static void on_claim(runner *r)
{
    static wire_claim c;
    pid_t from;
    ssize_t n = wire_recv(r->side[heard_side(r)][0], &c, sizeof c, NULL, NULL, &from, MSG_DONTWAIT);
    if (n == -EAGAIN) return;
    if (r->forking)
        on_hello(r, &c.h, n, from);
    else if (r->st == WAIT_FIRST && n == (ssize_t)sizeof c.h && c.h.op == OP_HELLO)
        r->st = RUNNING;
    else if (r->st == WAIT_FIRST)
        end_infra(r);
    else if (n != (ssize_t)sizeof c || c.h.op != OP_CLAIM || c.h.nonce != r->nonce || from != r->cur ||
             c.message_len < 0 || c.message_len > WIRE_MESSAGE_MAX || c.kind < CLAIM_OK || c.kind > CLAIM_EXIT)
        turn_end_protocol(r);
    else
        turn_end_claimed(r, &c);
}

static void on_child(runner *r)
{
    struct signalfd_siginfo si;
    while (read(r->sig, &si, sizeof si) > 0) {}
    turn_reap(r);
    if (r->st == WAIT_FIRST && r->cur_dead) on_claim(r); /* its greeting may still be unread */
    bool died = r->st == RUNNING && r->cur_dead, never_forked = r->st == WAIT_FORK && !r->base;
    if (died)
        turn_end_killed(r);
    else if (never_forked)
        turn_end_without_base(r);
    else if (r->st == WAIT_FIRST && r->cur_dead)
        end_infra(r);
}

static _Noreturn void give_up(int ctl)
{
    wire_reply f = {.h = {.op = OP_JAIL_FAIL}, .code = ST_ESYS};
    snprintf(f.text, sizeof f.text, "%s", fail_message());
    wire_send(ctl, &f, sizeof f, NULL, 0, NULL, 0);
    _exit(1);
}

_Noreturn void runner_main(const jail *j, const box_limits *l, int ctl, int out, int img)
{
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* the zygote's huge pages stay; what a turn asks for comes as it is used */
    jail own = *j;
    runner r = {.j = &own,
                .l = l,
                .ctl = ctl,
                .out = out,
                .img = img,
                .input = -1,
                .files = FILES_NONE,
                .side = {{-1, -1}, {-1, -1}}};
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    struct sigaction dfl = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
    turn_catch_alarm();
    sigaction(SIGCHLD, &dfl, NULL); /* the zygote ignored it */
    sigprocmask(SIG_BLOCK, &chld, NULL);
    r.sig = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
    r.buf = malloc(WIRE_MSG_MAX);
    r.run = malloc(WIRE_MSG_MAX);
    if (r.sig < 0 || !r.buf || !r.run) {
        (void)FAIL(ST_ESYS, "sandbox: no memory for a runner");
        give_up(ctl);
    }
    if (jail_box(&own, l) != ST_OK) give_up(ctl);
    close(own.proc);
    if (own.pidns >= 0) close(own.pidns);
    own.proc = own.pidns = -1;
    wire_head ready = {.op = OP_READY};
    if (wire_send(ctl, &ready, sizeof ready, NULL, 0, NULL, 0)) _exit(1);
    for (;;) {
        bool listen = r.st == RUNNING || r.st == WAIT_FIRST || r.forking, hurry = r.forking && r.st == IDLE && !r.late;
        int side = heard_side(&r), mine = listen ? r.side[side][0] : -1, other = listen ? r.side[1 - side][0] : -1;
        struct pollfd p[4] = {{r.ctl, POLLIN, 0}, {r.sig, POLLIN, 0}, {mine, POLLIN, 0}, {other, POLLIN, 0}};
        int n = poll(p, 4, hurry ? FORK_MS : -1);
        if (n < 0) continue;
        if (n == 0) {
            r.late = true;
            kill(-r.base, SIGSTOP);
        }
        if (p[3].revents) /* nobody has anything to say there now */
            end_out_of_turn(&r);
        else if (p[2].revents)
            on_claim(&r);
        if (p[1].revents) on_child(&r);
        if (p[0].revents) on_order(&r);
    }
}
