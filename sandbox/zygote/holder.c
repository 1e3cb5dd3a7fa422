#include "sandbox/zygote/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/zygote/interp.h"
#include "sandbox/zygote/pages.h"

enum { FD_CHANNEL = 3, FD_IMG = 5, FD_INPUT = 6, FD_OUT = 7 };

/* Leaves exactly descriptors 0..7 (BOX_HOLDER_FDS) open, all but 0, 1, 2 close-on-exec. */
static int arrange(const holder_fds *f)
{
    /* An open file of this box alone: the zygote's is every box's, and its flags and time stamps would be a channel. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return -1;
    int from[BOX_HOLDER_FDS] = {
        null, f->out, f->out, f->channel[0], f->channel[1], f->img, f->input < 0 ? null : f->input, f->out};
    int high[BOX_HOLDER_FDS];
    for (int i = 0; i < BOX_HOLDER_FDS; i++) {
        high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64);
        if (high[i] < 0) return -1;
    }
    for (int i = 0; i < BOX_HOLDER_FDS; i++)
        if (dup3(high[i], i, i < 3 ? 0 : O_CLOEXEC) < 0) return -1;
    return close_range(BOX_HOLDER_FDS, ~0u, 0);
}

/* Ready for model code. */
static void prepare(const jail *j, const box_limits *l, const holder_fds *f)
{
    /* Python is not told of the forks that led here: zygote and runner have one thread, so no lock needs renewing. */
    rlim_t cpu = (rlim_t)(l->cpu_s + 0.999);
    struct rlimit r = {cpu ? cpu : 1, RLIM_INFINITY}; /* the runner raises it between turns; a holder cannot */
    setpgid(0, 0);
    signal(SIGALRM, SIG_DFL);
    if (arrange(f) || setrlimit(RLIMIT_CPU, &r)) _exit(72);
    /* SIGCONT wakes whatever is stopped, blocked or not. But sent to a group while one in it forks, it is kept for the
     * child only if it is not ignored, as it is by default unless it is blocked: after SIGSTOP and SIGCONT within one
     * fork the child would be stopped for ever (seen on Linux 6.18, kernel/signal.c, __send_signal_locked). */
    sigset_t cont;
    sigemptyset(&cont);
    sigaddset(&cont, SIGCONT);
    sigprocmask(SIG_SETMASK, &cont, NULL);
    if (jail_holder(j) != ST_OK) {
        dprintf(2, "%s\n", fail_message());
        _exit(73);
    }
    dup2(0, 1); /* nothing that comes before the turn belongs to it */
    dup2(0, 2);
}

static void turn(wire_run *run, size_t len, int side, const turn_log *again, int has_input)
{
    static wire_claim c;
    memset(&c, 0, sizeof c);
    c.h = (wire_head){.op = OP_CLAIM, .turn = run->h.turn, .nonce = run->h.nonce};
    int ok = 1;
    if (again) { /* first turn: what the preset or turns run again print is not heard, either */
        wire_head ready = {.op = OP_HELLO,
                           .nonce = run->h.nonce}; /* jailed: from here on its end is the code's doing */
        if (wire_send(FD_CHANNEL, &ready, sizeof ready, NULL, 0, NULL, 0)) _exit(71);
        ok = interp_open_box(run->seed, has_input ? FD_INPUT : -1, &c) == 0;
        size_t at = 0, part;
        for (int i = 0; ok && i < again->n; i++, at += part) {
            memcpy(&part, again->text + at, sizeof part);
            at += sizeof part;
            interp_run(again->text + at, part, (uint32_t)i + 1, 0, &c);
            if (c.kind == CLAIM_ERROR) _exit(HOLDER_STATE_LOST);
        }
        dup3(0, FD_INPUT, O_CLOEXEC); /* boxes of a group share that file, and its time stamps would be a channel */
    }
    dup2(FD_OUT, 1); /* earlier turns may have closed or replaced them */
    dup2(FD_OUT, 2);
    if (ok) interp_run((const char *)(run + 1), len, run->h.turn, FD_IMG, &c);
    /* A turn's timers end with it: an alarm left over would end the parked state when it is woken. */
    for (int i = ITIMER_REAL; i <= ITIMER_PROF; i++) setitimer(i, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    if (wire_send(FD_CHANNEL + side, &c, sizeof c, NULL, 0, NULL, 0)) _exit(71);
}

/* A sibling, not a child: the runner must be the parent of every holder to watch, group and reap it. glibc's fork
 * cannot say that; its handlers matter only to threads, of which a well-behaved turn leaves none. */
static pid_t fork_sibling(void)
{
    for (int i = 0;; i++) {
        pid_t pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (pid >= 0 || errno != EAGAIN || i == 100) return pid;
        /* The last turn's children, killed at its end, count until they are waited for. */
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

/* poll, not a blocking receive: that waits exclusively, and a wake-up given to a process that is being killed, such as
 * the last user of this channel, would be lost to the next. */
static ssize_t hear(int fd, void *buf, size_t cap)
{
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        if (poll(&p, 1, -1) < 0 && errno != EINTR) return -errno;
        ssize_t n = wire_recv(fd, buf, cap, NULL, NULL, NULL, MSG_DONTWAIT);
        if (n != -EAGAIN) return n;
    }
}

/* Open files share their position with a fork. When this process is to fork again, the turn it forked for was undone.
 */
typedef struct positions {
    int n;
    int fd[256];
    off_t at[256];
} positions;

static void take_positions(positions *p)
{
    struct pollfd f[256 - BOX_HOLDER_FDS];
    nfds_t n = sizeof f / sizeof *f;
    for (nfds_t i = 0; i < n; i++) f[i] = (struct pollfd){BOX_HOLDER_FDS + (int)i, 0, 0};
    p->n = 0;
    if (poll(f, n, 0) == (int)n) n = 0; /* closed, or no file */
    for (nfds_t i = 0; i < n; i++) {
        off_t at = f[i].revents & POLLNVAL ? -1 : lseek(f[i].fd, 0, SEEK_CUR);
        if (at < 0) continue;
        p->fd[p->n] = f[i].fd;
        p->at[p->n++] = at;
    }
}

/* Parked until the next turn, for ever. */
static _Noreturn void park(const jail *j, wire_run *run, int has_input)
{
    static positions open_files;
    bool forked = false;
    int side = 0;
    for (;;) {
        ssize_t n = hear(FD_CHANNEL + side, run, WIRE_MSG_MAX);
        bool in_place = j->tier >= BOX_T2, ahead = run->h.op == OP_AHEAD;
        bool known = in_place ? run->h.op == OP_RUN : ahead || run->h.op == OP_FORK;
        if (n < (ssize_t)(in_place ? sizeof *run : sizeof run->h) || !known) _exit(n == 0 ? 0 : 74);
        if (in_place) {
            turn(run, (size_t)n - sizeof *run, side, NULL, has_input);
            continue;
        }
        if (forked)
            for (int i = 0; i < open_files.n; i++) lseek(open_files.fd[i], open_files.at[i], SEEK_SET);
        else
            take_positions(&open_files);
        interp_before_fork();
        pid_t pid = fork_sibling();
        if (pid) { /* this process keeps the state the turn started from; pid < 0: the runner hears nothing and gives up
                    */
            interp_after_fork_parent();
            if (pid < 0) _exit(HOLDER_NO_FORK);
            forked = true;
            continue;
        }
        forked = false;
        interp_after_fork_child();
        side ^= 1; /* the parked process still listens on the other channel */
        if (ahead) pages_bring(true);
        wire_head hello = {.op = OP_HELLO, .nonce = run->h.nonce};
        if (wire_send(FD_CHANNEL + side, &hello, sizeof hello, NULL, 0, NULL, 0)) _exit(76);
        n = hear(FD_CHANNEL + side, run, WIRE_MSG_MAX);
        if (n < (ssize_t)sizeof *run || run->h.op != OP_RUN) _exit(77);
        turn(run, (size_t)n - sizeof *run, side, NULL, has_input);
    }
}

_Noreturn void holder_main(const jail *j, const box_limits *l, const holder_fds *f, wire_run *run,
                           const turn_log *again)
{
    int has_input = f->input >= 0;
    prepare(j, l, f);
    turn(run, run->h.len, 0, again, has_input);
    park(j, run, has_input);
}

_Noreturn void holder_ahead(const jail *j, const box_limits *l, const holder_fds *f, void *buf)
{
    static const turn_log nothing;
    wire_run *run = buf;
    int fds[WIRE_FDS], n_fd = 0;
    ssize_t n;
    prepare(j, l, f);
    pages_bring(false);
    struct pollfd p = {FD_CHANNEL, POLLIN, 0};
    do {
        if (poll(&p, 1, -1) < 0 && errno != EINTR) _exit(74);
        n = wire_recv(FD_CHANNEL, run, WIRE_MSG_MAX, fds, &n_fd, NULL, MSG_DONTWAIT);
    } while (n == -EAGAIN);
    if (n < (ssize_t)sizeof *run || run->h.op != OP_RUN) _exit(n == 0 ? 0 : 74);
    if (n_fd == 1 && (dup3(fds[0], FD_INPUT, O_CLOEXEC) < 0 || close(fds[0]))) _exit(72);
    turn(run, (size_t)n - sizeof *run, 0, &nothing, n_fd == 1);
    park(j, run, n_fd == 1);
}
