#include "sandbox/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 200, ROUND_MS = 10, KILL_ROUND = 20, ROUNDS = 500 };

static _Noreturn void run(const cgroup_set *s, int boxd, int client)
{
    prctl(PR_SET_NAME, "box-janitor");
    struct pollfd p[2] = {{boxd, POLLIN, 0}, {client, POLLIN, 0}};
    while (poll(p, 2, -1) < 0 && errno == EINTR) {}
    if (!p[0].revents && poll(p, 1, PATIENCE_MS) == 0)
        syscall(SYS_pidfd_send_signal, boxd, SIGKILL, NULL, 0); /* the zygote and all boxes follow by themselves */
    while (poll(p, 1, -1) < 0 && errno == EINTR) {}
    for (int i = 0; i < ROUNDS && !cgroup_remove(s, i >= KILL_ROUND); i++) /* members die within milliseconds */
        nanosleep(&(struct timespec){0, ROUND_MS * 1000000}, NULL);
    _exit(0);
}

bool janitor_leave(const cgroup_set *s, int client)
{
    int boxd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    pid_t pid = boxd < 0 ? -1 : fork();
    if (pid == 0) {
        if (client >= 0) dup2(client, 0);
        dup2(boxd, 1);
        close_range(2, ~0u, 0);
        run(s, 1, client >= 0 ? 0 : -1);
    }
    if (boxd >= 0) close(boxd);
    return pid > 0;
}
