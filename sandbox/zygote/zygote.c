#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/zygote/interp.h"
#include "sandbox/zygote/pack.h"
#include "sandbox/zygote/pages.h"
#include "sandbox/zygote/runner.h"
#include "sandbox/zygote/zygote.h"

/* Started once with the libraries imported; every box is a fork of it. Holds nothing secret: it was exec'ed with a
 * cleared environment, knows the limits and the preset, and hears only its supervisor. */

/* fds: control channel, output pipe, image memfd, and the cgroup.procs files to join. */
static int spawn(const jail *j, const box_limits *l, int sock, uint32_t id, const int *fds, int n_fd)
{
    if (jail_threads(j) != 1) return -EBUSY; /* a fork copies only the caller; a lock another holds would stay locked */
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

int zygote_serve(zygote_state *z, int sock, status st)
{
    jail *j = &z->j;
    signal(SIGCHLD, SIG_IGN); /* boxes are watched through pidfds; nobody waits here */
    if (st == ST_OK) st = interp_start(z->msg.bytes + z->modules, z->msg.bytes + z->preset, &z->msg.pool.limits, j);
    if (st == ST_OK) pack_libraries(j->proc);
    if (st == ST_OK) pages_learn(j->proc, interp_trial);
    if (st == ST_OK) st = jail_zygote_seal(j);
    if (wire_send_status(sock, OP_INIT_OK, OP_INIT_FAIL, j->tier, st) || st != ST_OK) return 1;
    for (;;) {
        wire_head h = {0};
        int fds[WIRE_FDS], n_fd = 0;
        ssize_t got = wire_recv(sock, &h, sizeof h, fds, &n_fd, NULL, 0);
        if (got <= 0) return 0; /* the supervisor is gone; with this process go all boxes */
        int e = got != (ssize_t)sizeof h || h.op != OP_SPAWN || n_fd < 3
                    ? -EPROTO
                    : spawn(j, &z->msg.pool.limits, sock, h.id, fds, n_fd);
        for (int i = 0; i < n_fd; i++) close(fds[i]);
        if (e == -EPROTO || e == -EPIPE) return 1;
        if (e) { /* the box's channel closes, which its owner sees */
            wire_head none = {.op = OP_PID, .id = h.id};
            if (wire_send(sock, &none, sizeof none, NULL, 0, NULL, 0)) return 1;
        }
    }
}
