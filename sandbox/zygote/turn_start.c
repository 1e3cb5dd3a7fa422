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

/* A holder whose box is not known yet: what does not depend on it is done by the time its turn comes. */
void turn_make_ahead(runner *r)
{
    if (open_side(r)) _exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        holder_fds f = {r->out, r->img, -1, {r->side[0][1], r->side[1][1]}};
        holder_ahead(r->j, r->l, &f, r->buf);
    }
    if (pid < 0) return;
    setpgid(pid, pid);
    r->ahead = pid;
}

static void start_first(runner *r, wire_run *run)
{
    if (r->ahead && wire_send(r->side[0][0], run, sizeof *run, run + 1, run->h.len, &r->input, r->input >= 0) == 0) {
        r->cur = r->ahead;
        r->ahead = 0;
        r->cur_side = 0;
        r->st = WAIT_FIRST;
        r->cpu_before_ms = turn_clock_ms(r->cur);
        return;
    }
    turn_kill_group(r->ahead);
    if (open_side(r)) _exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        holder_fds f = {r->out, r->img, r->input, {r->side[0][1], r->side[1][1]}};
        holder_main(r->j, r->l, &f, run, &r->log);
    }
    if (pid < 0) _exit(1);
    setpgid(pid, pid); /* both sides do it: whoever is first */
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
static void start_same(runner *r, wire_run *run)
{
    r->cur = r->base;
    r->base = 0;
    r->cur_side = r->base_side;
    r->st = RUNNING;
    r->cpu_before_ms = turn_clock_ms(r->cur);
    if (anything_said(r)) {
        turn_end_protocol(r);
        return;
    }
    turn_limit_cpu(r->cur, (rlim_t)(r->l->cpu_s + 1e-3 * r->cpu_before_ms + 0.999));
    kill(-r->cur, SIGCONT);
    if (wire_send(r->side[r->cur_side][0], run, sizeof *run, run + 1, run->h.len, NULL, 0)) turn_end_protocol(r);
}

/* Before a turn the files are those of the state it starts from, and there is a copy to go back to. */
static void settle_files(runner *r)
{
    if (r->undo) {
        r->undo = false;
        if (files_restore(&r->files)) turn_lose_base(r);
    } else if (r->base) {
        files_save(&r->files, r->l, r->mapped);
    }
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

void turn_start(runner *r, wire_run *run, size_t n)
{
    run->h.len = (uint32_t)(n - sizeof *run);
    r->nonce = run->h.nonce;
    memset(&r->end, 0, sizeof r->end);
    r->cur = 0;
    r->cur_dead = false;
    r->cur_status = 0;
    r->cur_cpu_ms = r->cpu_before_ms = 0;
    if (r->j->tier >= BOX_T2) turn_log_note(&r->log, run + 1, run->h.len);
    turn_wait_dying(r);
    turn_reap(r);
    as_new(r->out);
    as_new(r->img);
    if (r->j->tier < BOX_T2) settle_files(r);
    if (r->base_lost) { /* it died while parked, or its files are not to be had */
        turn_end_without_base(r);
        return;
    }
    if (!r->base) {
        start_first(r, run);
        return;
    }
    if (r->j->tier >= BOX_T2) {
        start_same(r, run);
        return;
    }
    r->cur_side = 1 - r->base_side;
    r->st = WAIT_HELLO;
    if (anything_said(r)) {
        turn_lose_base(r);
        turn_end_protocol(r);
        return;
    }
    kill(-r->base, SIGCONT);
    if (wire_send(r->side[r->base_side][0], run, sizeof *run, run + 1, run->h.len, NULL, 0)) turn_end_protocol(r);
}
