#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/zygote/interp.h"
#include "sandbox/zygote/runner.h"

/* Started once with the libraries imported; every box is a fork of it. Holds nothing secret: it was exec'ed with a
 * cleared environment, knows the limits and the preset, and hears only its supervisor. */

static int reply(int sock, box_tier tier, status st)
{
    wire_reply r = {.h = {.op = st == ST_OK ? OP_INIT_OK : OP_INIT_FAIL}, .code = st, .tier = (int)tier};
    if (st != ST_OK) snprintf(r.text, sizeof r.text, "%s", fail_message());
    return wire_send(sock, &r, sizeof r, NULL, 0, NULL, 0);
}

/* Threads of this process; a fork copies only the caller, and a lock held by another would stay locked for ever. */
static int count_threads(const jail *j)
{
    struct stat s;
    return fstatat(j->proc, "self/task", &s, 0) ? -1 : (int)s.st_nlink - 2;
}

/* fds: control channel, output pipe, image memfd, and the cgroup.procs files to join. */
static int spawn(const jail *j, const box_limits *l, int sock, uint32_t id, const int *fds, int n_fd)
{
    if (j->tier < BOX_T2 && unshare(CLONE_NEWPID)) return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        close(sock);
        for (int i = 3; i < n_fd; i++) {
            if (write(fds[i], "0", 1) != 1) _exit(1);
            close(fds[i]);
        }
        runner_main(j, l, fds[0], fds[1], fds[2]);
    }
    int e = errno;
    if (j->tier < BOX_T2 && setns(j->pidns, CLONE_NEWPID)) return -errno;
    if (pid < 0) return -e;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    wire_head h = {.op = OP_PID, .id = id};
    int r =
        wire_send(sock, &h, sizeof h, NULL, 0, &pidfd, pidfd >= 0); /* none: it is dead already, its channel says so */
    if (pidfd >= 0) close(pidfd);
    return r;
}

int zygote_main(int sock)
{
    static union {
        wire_pool pool;
        char bytes[WIRE_MSG_MAX];
    } msg;
    ssize_t n = wire_recv(sock, &msg, sizeof msg - 2, NULL, NULL, NULL, 0);
    if (n < (ssize_t)sizeof(wire_pool) || msg.pool.h.op != OP_INIT) return 1;
    msg.bytes[n] = msg.bytes[n + 1] = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGCHLD, SIG_IGN); /* boxes are watched through pidfds; nobody waits here */
    jail j = {.tier = (box_tier)msg.pool.tier};
    status st = jail_zygote_enter(&j, sock);
    box_tier reached = st == ST_OK ? j.tier : BOX_T3; /* T3: it is the machine that refuses, not what came after */
    const char *modules = (const char *)(&msg.pool + 1), *preset = modules;
    while (*preset) preset += strlen(preset) + 1;
    if (st == ST_OK) st = interp_start(modules, preset + 1, &msg.pool.limits);
    if (st == ST_OK && count_threads(&j) != 1)
        st = FAIL(ST_EUNAVAIL, "sandbox.imports: one of the modules starts threads (%d run), which a fork would lose",
                  count_threads(&j));
    if (st == ST_OK) st = jail_zygote_seal(&j);
    if (reply(sock, reached, st) || st != ST_OK) return 1;
    for (;;) {
        wire_head h = {0};
        int fds[WIRE_FDS], n_fd = 0;
        ssize_t got = wire_recv(sock, &h, sizeof h, fds, &n_fd, NULL, 0);
        if (got <= 0) return 0; /* the supervisor is gone; with this process go all boxes */
        int e = got != (ssize_t)sizeof h || h.op != OP_SPAWN || n_fd < 3
                    ? -EPROTO
                    : spawn(&j, &msg.pool.limits, sock, h.id, fds, n_fd);
        for (int i = 0; i < n_fd; i++) close(fds[i]);
        if (e == -EPROTO || e == -EPIPE) return 1;
        if (e) { /* the box's channel closes, which its owner sees */
            wire_head none = {.op = OP_PID, .id = h.id};
            if (wire_send(sock, &none, sizeof none, NULL, 0, NULL, 0)) return 1;
        }
    }
}
