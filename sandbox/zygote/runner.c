#include "sandbox/zygote/runner.h"

#include "sandbox/zygote/files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef enum state { IDLE, WAIT_FIRST, WAIT_HELLO, RUNNING, JUDGED } state;

typedef struct runner {
    const jail *j;
    const box_limits *l;
    int ctl, out, img, input, sig;
    int side[2][2];  /* two channels used in turn; [i][0] is ours, [i][1] the holders' */
    pid_t base, cur; /* holder of the last good state (0: none yet); holder of the turn under way */
    pid_t ahead;     /* made ready for the next box's first turn; on side 0 */
    pid_t dying;     /* killed, not seen dead yet: it may still sit on a channel that is used again */
    int base_side, cur_side;
    state st;
    uint64_t nonce;
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
    char *buf;
} runner;

enum { STOP_S = 1 };

static double rusage_ms(const struct rusage *u)
{
    return 1e3 * (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) +
           1e-3 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

static void note_death(runner *r, pid_t pid, int how, const struct rusage *u)
{
    if (pid == r->cur) {
        r->cur_dead = true;
        r->cur_status = how;
        r->cur_cpu_ms = rusage_ms(u);
        r->cur_rss_kib = u->ru_maxrss;
    }
    if (pid == r->dying) r->dying = 0;
    if (pid == r->ahead) r->ahead = 0;
    if (pid == r->base) {
        r->base = 0;
        r->base_lost = true;
        r->base_status = how;
    }
}

static void reap(runner *r)
{
    struct rusage u;
    int how;
    for (pid_t pid; (pid = wait4(-1, &how, WNOHANG, &u)) > 0;) note_death(r, pid, how, &u);
}

/* After kill_group(r->cur). What it forked is ours once it is dead, in the same group, and killed as well; but a killed
 * process may still finish a write, and what is written after the report would be the next turn's output. */
static void wait_cur(runner *r)
{
    struct rusage u;
    int how;
    while (!r->cur_dead) {
        pid_t pid = wait4(r->cur, &how, 0, &u);
        if (pid == r->cur)
            note_death(r, pid, how, &u);
        else if (errno != EINTR)
            r->cur_dead = true;
    }
    while (waitpid(-r->cur, NULL, 0) > 0 || errno == EINTR) {}
}

static void wait_dying(runner *r)
{
    pid_t group = r->dying;
    while (r->dying && (waitpid(r->dying, NULL, 0) == r->dying || errno != EINTR)) r->dying = 0;
    while (group && (waitpid(-group, NULL, 0) > 0 || errno == EINTR)) {} /* they may still finish a write */
}

static void close_side(runner *r)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            if (r->side[i][k] >= 0) close(r->side[i][k]);
            r->side[i][k] = -1;
        }
}

static int open_side(runner *r)
{
    close_side(r);
    int on = 1;
    for (int i = 0; i < 2; i++)
        if (wire_pair(r->side[i]) || setsockopt(r->side[i][0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on)) return -1;
    return 0;
}

static void limit_cpu(pid_t pid, rlim_t seconds)
{
    struct rlimit n = {seconds ? seconds : 1, RLIM_INFINITY};
    prlimit(pid, RLIMIT_CPU, &n, NULL);
}

static void kill_group(pid_t leader)
{
    if (leader <= 1) return;
    kill(-leader, SIGKILL);
    kill(leader, SIGKILL); /* a sibling that is not in its group yet */
}

/* ---- the end of a turn ---- */

static void report(runner *r)
{
    r->end.h = (wire_head){.op = OP_END, .nonce = r->nonce};
    r->end.state_lost = r->base_lost;
    r->base_lost = false;
    r->st = JUDGED;
    if (wire_send(r->ctl, &r->end, sizeof r->end, NULL, 0, NULL, 0)) _exit(1);
}

/* Is the limit on processes the reason? A fork that shares everything tells, at the cost of a system call. */
static bool at_pid_cap(void)
{
    pid_t pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork): the child only exits
    if (pid == 0) _exit(0);
    if (pid < 0) return errno == EAGAIN;
    waitpid(pid, NULL, 0);
    return false;
}

static void end_killed(runner *r)
{
    if (r->cur) {
        kill_group(r->cur);
        wait_cur(r);
    }
    r->end.dead = r->cur_dead;
    r->end.wait_status = r->cur_status;
    r->end.cpu_ms = r->cur_cpu_ms - r->cpu_before_ms;
    r->end.max_rss_kib = r->cur_rss_kib;
    r->cur = 0;
    if (r->log.n && r->cur_dead && WIFEXITED(r->cur_status) && WEXITSTATUS(r->cur_status) == HOLDER_STATE_LOST) {
        r->base_lost = true;
        r->end.dead = 0;
    }
    report(r);
}

static double clock_of(pid_t pid)
{
    clockid_t c;
    struct timespec t;
    if (clock_getcpuclockid(pid, &c) || clock_gettime(c, &t)) return 0;
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static volatile sig_atomic_t waited_enough;
static void on_alarm(int sig) { waited_enough = sig; }

static void alarm_after(int s)
{
    struct itimerval t = {{s, 0}, {s, 0}}; /* again and again: the first may come before the wait */
    waited_enough = 0;
    setitimer(ITIMER_REAL, &t, NULL);
}

/* Stops everything the turn started and leaves only its holder: afterwards nothing of it runs until the next turn. A
 * thread in vfork does not stop before its child is gone, and that child may stay for ever. 1: it died instead. */
static int freeze(runner *r)
{
    siginfo_t si = {0};
    int e;
    kill(-r->cur, SIGSTOP);
    alarm_after(STOP_S);
    do e = waitid(P_PID, (id_t)r->cur, &si, WSTOPPED | WEXITED | WNOWAIT);
    while (e < 0 && errno == EINTR && !waited_enough);
    alarm_after(0);
    if (e == 0 && si.si_code != CLD_STOPPED) return 1;
    if (e < 0) return -1;
    if (setpgid(r->cur, getpid())) return -1; /* EACCES: it is another program by now */
    kill(-r->cur, SIGKILL);
    return setpgid(r->cur, r->cur);
}

static void end_protocol(runner *r);

static void end_claimed(runner *r, const wire_claim *c)
{
    r->end.has_claim = 1;
    memcpy(&r->end.claim, c, sizeof *c);
    if (c->kind == CLAIM_ERROR) {
        r->end.at_pid_cap = at_pid_cap();
        end_killed(r);
        return;
    }
    int e = freeze(r);
    if (e) {
        r->end.has_claim = 0;
        if (e > 0)
            end_killed(r);
        else
            end_protocol(r);
        return;
    }
    r->end.cpu_ms =
        clock_of(r->cur) - r->cpu_before_ms + 1e-3 * (double)(c->children_cpu_us > 0 ? c->children_cpu_us : 0);
    r->end.max_rss_kib = c->max_rss_kib;
    limit_cpu(r->cur, 1 << 30); /* parked: what is left of this turn's seconds must not end it later */
    report(r);
}

/* Whatever was said out of turn is forgotten once its sender is dead: the last good state is not to blame. */
static void end_protocol(runner *r)
{
    char c = 0;
    r->end.protocol = 1;
    if (r->cur) {
        kill_group(r->cur);
        wait_cur(r);
    }
    for (int i = 0; i < 2; i++)
        while (r->side[i][0] >= 0 && wire_recv(r->side[i][0], &c, 1, NULL, NULL, NULL, MSG_DONTWAIT) != -EAGAIN) {}
    end_killed(r);
}

/* The state died while parked or before it could fork: by what its own turns left in it, as its end tells. */
static void end_without_base(runner *r)
{
    if (r->j->tier < BOX_T2) kill(-1, SIGKILL); /* a fork of it that has not greeted */
    r->end.dead = r->base_status >= 0;
    r->end.wait_status = r->base_status;
    r->end.at_pid_cap = r->end.dead && WIFEXITED(r->base_status) && WEXITSTATUS(r->base_status) == HOLDER_NO_FORK;
    report(r);
}

/* ---- T2: the state is one process that cannot fork, and a log to make it again from ---- */

enum { LOG_BYTES = 8 << 20 };

static void log_clear(runner *r)
{
    if (r->log.text) munmap(r->log.text, LOG_BYTES);
    r->log = (turn_log){0};
}

/* Behind what is kept. Mapped, not allocated, so that the heap the next box's holder inherits is as a new jail's. */
static void log_note(runner *r, const wire_run *run)
{
    turn_log *l = &r->log;
    size_t len = run->h.len;
    if (!l->text)
        l->text = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->text == MAP_FAILED) _exit(1);
    l->next = sizeof len + len;
    if (l->used + l->next > LOG_BYTES) return;
    memcpy(l->text + l->used, &len, sizeof len);
    memcpy(l->text + l->used + sizeof len, run + 1, len);
}

static void log_keep(runner *r)
{
    if (r->log.used + r->log.next > LOG_BYTES) _exit(1); /* its state could not be made again */
    r->log.used += r->log.next;
    r->log.n++;
}

/* ---- orders of boxd ---- */

/* A holder whose box is not known yet: what does not depend on it is done by the time its turn comes. */
static void make_ahead(runner *r)
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
        r->cpu_before_ms = clock_of(r->cur);
        return;
    }
    kill_group(r->ahead);
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

static void lose_base(runner *r)
{
    kill_group(r->base);
    r->base = 0;
    r->base_status = -1;
    r->base_lost = true;
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
    r->cpu_before_ms = clock_of(r->cur);
    if (anything_said(r)) {
        end_protocol(r);
        return;
    }
    limit_cpu(r->cur, (rlim_t)(r->l->cpu_s + 1e-3 * r->cpu_before_ms + 0.999));
    kill(-r->cur, SIGCONT);
    if (wire_send(r->side[r->cur_side][0], run, sizeof *run, run + 1, run->h.len, NULL, 0)) end_protocol(r);
}

/* Before a turn the files are those of the state it starts from, and there is a copy to go back to. */
static void settle_files(runner *r)
{
    if (r->undo) {
        r->undo = false;
        if (files_restore(&r->files)) lose_base(r);
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

static void start(runner *r, wire_run *run, size_t n)
{
    run->h.len = (uint32_t)(n - sizeof *run);
    r->nonce = run->h.nonce;
    memset(&r->end, 0, sizeof r->end);
    r->cur = 0;
    r->cur_dead = false;
    r->cur_status = 0;
    r->cur_cpu_ms = r->cpu_before_ms = 0;
    if (r->j->tier >= BOX_T2) log_note(r, run);
    wait_dying(r);
    reap(r);
    as_new(r->out);
    as_new(r->img);
    if (r->j->tier < BOX_T2) settle_files(r);
    if (r->base_lost) { /* it died while parked, or its files are not to be had */
        end_without_base(r);
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
        lose_base(r);
        end_protocol(r);
        return;
    }
    kill(-r->base, SIGCONT);
    if (wire_send(r->side[r->base_side][0], run, sizeof *run, run + 1, run->h.len, NULL, 0)) end_protocol(r);
}

static void stop_turn(runner *r)
{
    r->end.killed = 1;
    if (r->st == WAIT_HELLO) { /* the fork did not come: its parent is not healthy either */
        lose_base(r);
        if (r->j->tier < BOX_T2) kill(-1, SIGKILL);
    }
    end_killed(r);
}

static void judge(runner *r, bool keep)
{
    if (keep && r->cur) {
        r->dying = r->base;
        if (r->base) kill_group(r->base);
        r->base = r->cur;
        r->base_side = r->cur_side;
        if (r->j->tier >= BOX_T2) log_keep(r);
    } else if (r->cur) {
        r->dying = r->cur;
        kill_group(r->cur);
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
        kill_group(r->base);
        kill_group(r->cur);
        log_clear(r);
    }
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {}
    close_side(r);
    if (r->input >= 0) close(r->input);
    r->input = -1;
    r->base = r->cur = r->dying = r->ahead = 0;
    r->undo = r->mapped = false;
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
    if (h->op == OP_RUN && n_fd == 1) {
        if (r->input >= 0) close(r->input);
        r->input = fds[0];
    } else {
        for (int i = 0; i < n_fd; i++) close(fds[i]);
    }
    switch (h->op) {
    case OP_RUN:
        if (r->st != IDLE || n < (ssize_t)sizeof(wire_run)) _exit(1);
        start(r, (wire_run *)r->buf, (size_t)n);
        break;
    case OP_AHEAD:
        if (r->st == IDLE && !r->base && !r->ahead && !r->base_lost && r->j->tier < BOX_T2) make_ahead(r);
        break;
    case OP_PAUSE:
    case OP_RESUME:
        if (r->st == RUNNING) kill(-r->cur, h->op == OP_PAUSE ? SIGSTOP : SIGCONT);
        break;
    case OP_INTERRUPT:
        if (r->st == RUNNING) kill(r->cur, SIGINT);
        break;
    case OP_KILL:
        if (r->st == RUNNING || r->st == WAIT_HELLO || r->st == WAIT_FIRST) stop_turn(r);
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

static void on_hello(runner *r, const wire_head *h, ssize_t n, pid_t from)
{
    if (n != (ssize_t)sizeof *h || h->op != OP_HELLO || h->nonce != r->nonce || from <= 1 || from == r->base ||
        setpgid(from, from)) { /* only works on a child of ours that has not called exec */
        lose_base(r);
        end_protocol(r);
        return;
    }
    r->cur = from;
    kill(-r->base, SIGSTOP);
    limit_cpu(from, (rlim_t)(r->l->cpu_s + 0.999));
    wire_head go = {.op = OP_GO, .nonce = r->nonce};
    r->st = RUNNING;
    if (wire_send(r->side[r->cur_side][0], &go, sizeof go, NULL, 0, NULL, 0)) end_protocol(r);
}

static void end_infra(runner *r)
{
    r->end.infra = 1;
    end_killed(r);
}

static void on_claim(runner *r)
{
    static wire_claim c;
    pid_t from;
    ssize_t n = wire_recv(r->side[r->cur_side][0], &c, sizeof c, NULL, NULL, &from, MSG_DONTWAIT);
    if (n == -EAGAIN) return;
    if (r->st == WAIT_HELLO)
        on_hello(r, &c.h, n, from);
    else if (r->st == WAIT_FIRST && n == (ssize_t)sizeof c.h && c.h.op == OP_HELLO)
        r->st = RUNNING;
    else if (r->st == WAIT_FIRST)
        end_infra(r);
    else if (n != (ssize_t)sizeof c || c.h.op != OP_CLAIM || c.h.nonce != r->nonce || from != r->cur ||
             c.message_len < 0 || c.message_len > WIRE_MESSAGE_MAX || c.kind < CLAIM_OK || c.kind > CLAIM_EXIT)
        end_protocol(r);
    else
        end_claimed(r, &c);
}

static void end_out_of_turn(runner *r)
{
    if (r->st == WAIT_HELLO) lose_base(r);
    end_protocol(r);
}

static void on_child(runner *r)
{
    struct signalfd_siginfo si;
    while (read(r->sig, &si, sizeof si) > 0) {}
    reap(r);
    if (r->st == WAIT_FIRST && r->cur_dead) on_claim(r); /* its greeting may still be unread */
    bool died = r->st == RUNNING && r->cur_dead, never_forked = r->st == WAIT_HELLO && !r->base;
    if (died)
        end_killed(r);
    else if (never_forked)
        end_without_base(r);
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
    struct sigaction dfl = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP}, late = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &late, NULL);
    sigaction(SIGCHLD, &dfl, NULL); /* the zygote ignored it */
    sigprocmask(SIG_BLOCK, &chld, NULL);
    r.sig = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
    r.buf = malloc(WIRE_MSG_MAX);
    if (r.sig < 0 || !r.buf) {
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
        bool listen = r.st == RUNNING || r.st == WAIT_HELLO || r.st == WAIT_FIRST;
        int mine = listen ? r.side[r.cur_side][0] : -1, other = listen ? r.side[1 - r.cur_side][0] : -1;
        struct pollfd p[4] = {{r.ctl, POLLIN, 0}, {r.sig, POLLIN, 0}, {mine, POLLIN, 0}, {other, POLLIN, 0}};
        if (poll(p, 4, -1) < 0) continue;
        if (p[3].revents) /* nobody has anything to say there during a turn */
            end_out_of_turn(&r);
        else if (p[2].revents)
            on_claim(&r);
        if (p[1].revents) on_child(&r);
        if (p[0].revents) on_order(&r);
    }
}
