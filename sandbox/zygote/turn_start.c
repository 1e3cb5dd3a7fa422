#include "sandbox/zygote/turn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void turn_close_channels(runner *r)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            if (r->side[i][k] >= 0) close(r->side[i][k]);
            r->side[i][k] = -1;
        }
}

static int open_side(runner *r)
{
    turn_close_channels(r);
    int on = 1;
    for (int i = 0; i < 2; i++)
        if (wire_pair(r->side[i]) || setsockopt(r->side[i][0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on)) return -1;
    return 0;
}

static pid_t fork_first(runner *r, int input, wire_run *run)
{
    turn_kill_group(r->ahead);
    if (open_side(r)) _exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        holder_fds f = {r->out, r->img, input, {r->side[0][1], r->side[1][1]}};
        if (run) holder_main(r->j, r->l, &f, run, &r->log);
        holder_ahead(r->j, r->l, &f, r->buf);
    }
    if (pid > 0) setpgid(pid, pid); /* both sides do it: whoever is first */
    return pid;
}

/* Of the turn, in a process that has used some before it. */
static void limit_cpu(runner *r)
{
    r->cpu_before_ms = turn_clock_ms(r->cur);
    turn_limit_cpu(r->cur, (rlim_t)(r->l->cpu_s + 1e-3 * r->cpu_before_ms + 0.999));
}

/* The turn runs in the process that waits for it. False: it has died. */
static bool run_ahead(runner *r)
{
    wire_run *run = (wire_run *)r->run;
    bool first = !r->base;
    int side = first ? 0 : 1 - r->base_side;
    if (wire_send(r->side[side][0], run, sizeof *run, run + 1, run->h.len, &r->input, first && r->input >= 0))
        return false;
    r->cur = r->ahead;
    r->ahead = 0;
    r->cur_side = side;
    r->st = first ? WAIT_FIRST : RUNNING;
    limit_cpu(r);
    if (!first) kill(-r->cur, SIGCONT);
    return true;
}

static void start_first(runner *r)
{
    if (r->ahead && run_ahead(r)) return;
    pid_t pid = fork_first(r, r->input, (wire_run *)r->run);
    if (pid < 0) _exit(1);
    r->ahead = 0;
    r->cur = pid;
    r->cur_side = 0;
    r->st = WAIT_FIRST;
}

static bool anything_said(runner *r)
{
    char c = 0;
    for (int i = 0; i < 2; i++)
        if (wire_recv(r->side[i][0], &c, 1, NULL, NULL, NULL, MSG_DONTWAIT) != -EAGAIN) return true;
    return false;
}

/* T2: the next turn runs in the process that ran the last one. */
static void start_same(runner *r)
{
    wire_run *run = (wire_run *)r->run;
    r->cur = r->base;
    r->base = 0;
    r->cur_side = r->base_side;
    r->st = RUNNING;
    limit_cpu(r);
    if (anything_said(r)) {
        turn_end_protocol(r);
        return;
    }
    kill(-r->cur, SIGCONT);
    if (wire_send(r->side[r->cur_side][0], run, sizeof *run, run + 1, run->h.len, NULL, 0)) turn_end_protocol(r);
}

/* What earlier turns and boxes may have left in an open file that this one has, too: flags (O_NONBLOCK, O_APPEND,
 * O_DIRECT), position, mode and times. */
static void as_new(int fd)
{
    static const struct timespec never[2];
    fcntl(fd, F_SETFL, 0);
    lseek(fd, 0, SEEK_SET);
    fchmod(fd, 0600);
    futimens(fd, never);
}

/* Before a turn, and before what it runs in is made: whoever is to die is dead, open files are as new, and those in
 * /tmp are of the state it starts from, with a copy to go back to. */
static void settle(runner *r)
{
    turn_wait_dying(r);
    as_new(r->out);
    as_new(r->img);
    if (r->j->tier >= BOX_T2) return;
    if (r->undo) {
        r->undo = false;
        if (files_restore(&r->files)) turn_lose_base(r);
    } else if (r->base) {
        files_save(&r->files, r->l, r->mapped);
    }
}

/* The last good state, stopped until now, is to fork: for the turn that waits (OP_FORK), for a later one (OP_AHEAD). */
static void ask_to_fork(runner *r, wire_op why, uint64_t nonce)
{
    wire_head order = {.op = why, .nonce = r->fork_nonce = nonce};
    char unheard = 0; /* by a turn that was killed too early */
    settle(r);
    if (!r->base) return;
    while (wire_recv(r->side[1 - r->base_side][1], &unheard, 1, NULL, NULL, NULL, MSG_DONTWAIT) != -EAGAIN) {}
    r->said = anything_said(r);
    if (r->said) return;
    r->forking = true;
    r->late = false;
    kill(-r->base, SIGCONT);
    if (wire_send(r->side[r->base_side][0], &order, sizeof order, NULL, 0, NULL, 0)) turn_lose_base(r);
}

void turn_make_ahead(runner *r, uint64_t nonce)
{
    if (r->st != IDLE || r->ahead || r->forking || r->said || r->base_lost || r->j->tier >= BOX_T2) return;
    if (r->base) {
        ask_to_fork(r, OP_AHEAD, nonce);
        return;
    }
    pid_t pid = fork_first(r, -1, NULL);
    if (pid > 0) r->ahead = pid;
}

void turn_forked(runner *r)
{
    r->forking = false;
    kill(-r->base, SIGSTOP);
    if (r->st == IDLE)
        kill(-r->ahead, SIGSTOP); /* nothing of a box runs between its turns */
    else if (!run_ahead(r))
        turn_end_protocol(r);
}

/* What it starts from is as it was left, and nobody has spoken out of turn. */
static void start_later(runner *r)
{
    if (!r->ahead && !r->forking) ask_to_fork(r, OP_FORK, r->nonce);
    if (r->base && (r->said || (r->ahead && anything_said(r)))) {
        turn_lose_base(r);
        turn_end_protocol(r);
    } else if (!r->base) {
        turn_end_without_base(r);
    } else if (!r->ahead) {
        r->st = WAIT_FORK;
        if (r->late) kill(-r->base, SIGCONT);
    } else if (!run_ahead(r)) {
        turn_end_protocol(r);
    }
}

void turn_start(runner *r)
{
    wire_run *run = (wire_run *)r->run;
    run->h.len = (uint32_t)(r->n_run - sizeof *run);
    r->nonce = run->h.nonce;
    memset(&r->end, 0, sizeof r->end);
    r->cur = 0;
    r->cur_dead = false;
    r->cur_status = 0;
    r->cur_cpu_ms = r->cpu_before_ms = 0;
    if (r->j->tier >= BOX_T2) turn_log_note(&r->log, run + 1, run->h.len);
    turn_reap(r);
    if (!r->base || r->j->tier >= BOX_T2) settle(r);
    if (r->base_lost) /* it died while parked, or its files are not to be had */
        turn_end_without_base(r);
    else if (!r->base)
        start_first(r);
    else if (r->j->tier >= BOX_T2)
        start_same(r);
    else
        start_later(r);
}
