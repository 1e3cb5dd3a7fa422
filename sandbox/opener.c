#include "sandbox/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/wire.h"

typedef struct question {
    wire_head h;
    char path[PYTHON_PATH];
} question;
typedef struct answer {
    wire_head h;
    int32_t code;
    char text[1024];
    python_env env;
} answer;

/* From root to the boxes' id with two rights: to look everything up (handed on to the interpreter that is asked), and
 * to clone mounts (not handed on). */
static int reduce(unsigned uid)
{
    enum { LOOK = 1 << CAP_DAC_READ_SEARCH, MOUNT = 1 << CAP_SYS_ADMIN };
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct have[2], d[2] = {{0, 0, 0}, {0, 0, 0}};
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(uid, uid, uid) ||
        setresuid(uid, uid, uid) || syscall(SYS_capget, &h, have))
        return -1;
    d[0].permitted = d[0].effective = have[0].permitted & (LOOK | MOUNT);
    d[0].inheritable = have[0].permitted & LOOK;
    if (syscall(SYS_capset, &h, d)) return -1;
    if (d[0].inheritable) prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0);
    return 0;
}

static void serve(int fd, unsigned uid)
{
    static answer a;
    static question q;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (wire_recv(fd, &q, sizeof q, NULL, NULL, NULL, 0) != (ssize_t)sizeof q) return;
    q.path[sizeof q.path - 1] = 0;
    status st = reduce(uid) ? FAIL(ST_ESYS, "sandbox.python: cannot take the boxes' id: %s", strerror(errno))
                            : python_find(q.path, &a.env);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* the change of ids cleared it */
    a.code = st;
    snprintf(a.text, sizeof a.text, "%s", st == ST_OK ? "" : fail_message());
    if (wire_send(fd, &a, sizeof a, NULL, 0, NULL, 0) || st != ST_OK) return;
    for (const char *p = a.env.paths; *p; p = python_next(p)) {
        int tree = *python_target(p) ? -1
                                     : (int)syscall(SYS_open_tree, AT_FDCWD, p,
                                                    1 /* OPEN_TREE_CLONE */ | O_CLOEXEC | 0x8000 /* AT_RECURSIVE */);
        wire_head h = {.op = OP_PYTHON};
        if (wire_send(fd, &h, sizeof h, NULL, 0, &tree, tree >= 0)) return;
        if (tree >= 0) close(tree);
    }
}

static _Noreturn void run(int sock, unsigned uid)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "box-opener");
    signal(SIGTERM, SIG_IGN); /* its end is its socket's, or boxd's */
    for (;;) {
        wire_head h;
        int fd = -1, n_fd = 0, fds[WIRE_FDS];
        ssize_t n = wire_recv(sock, &h, sizeof h, fds, &n_fd, NULL, 0);
        if (n <= 0) _exit(0);
        if (n_fd) fd = fds[0];
        for (int i = 1; i < n_fd; i++) close(fds[i]);
        if (fd < 0) continue;
        pid_t pid = fork();
        if (pid == 0) {
            close(sock);
            serve(fd, uid);
            _exit(0);
        }
        close(fd);
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    }
}

int opener_start(unsigned uid)
{
    int sv[2];
    if (geteuid() != 0 || wire_pair(sv)) return -1;
    pid_t boxd = getpid(), pid = fork();
    if (pid == 0) {
        if (dup3(sv[1], WIRE_INHERITED, O_CLOEXEC) < 0 && sv[1] != WIRE_INHERITED) _exit(1);
        close_range(WIRE_INHERITED + 1, ~0u, 0);
        if (getppid() != boxd) _exit(0);
        run(WIRE_INHERITED, uid);
    }
    close(sv[1]);
    if (pid > 0) return sv[0];
    close(sv[0]);
    return -1;
}

int opener_connect(int opener)
{
    int sv[2];
    wire_head h = {.op = OP_PYTHON};
    if (wire_pair(sv)) return -1;
    int e = wire_send(opener, &h, sizeof h, NULL, 0, &sv[1], 1);
    close(sv[1]);
    if (!e) return sv[0];
    close(sv[0]);
    return -1;
}

status opener_ask(int connection, const char *path, python_env *out)
{
    static answer a;
    static question q;
    status st = ST_OK;
    if ((size_t)snprintf(q.path, sizeof q.path, "%s", path) >= sizeof q.path)
        st = FAIL(ST_EINVAL, "sandbox.python: its path is too long");
    if (st == ST_OK && (wire_send(connection, &q, sizeof q, NULL, 0, NULL, 0) ||
                        wire_recv(connection, &a, sizeof a, NULL, NULL, NULL, 0) != (ssize_t)sizeof a))
        st = FAIL(ST_ESYS, "sandbox.python: the process that looks at interpreters died");
    if (st == ST_OK && a.code != ST_OK) st = FAIL((status)a.code, "%s", a.text);
    if (st == ST_OK) *out = a.env;
    int i = 0;
    for (const char *p = out->paths; st == ST_OK && *p; p = python_next(p), i++) {
        wire_head h;
        int n_fd = 0, fds[WIRE_FDS];
        if (wire_recv(connection, &h, sizeof h, fds, &n_fd, NULL, 0) != (ssize_t)sizeof h)
            st = FAIL(ST_ESYS, "sandbox.python: the process that looks at interpreters died");
        if (n_fd) out->mounts[i] = fds[0];
    }
    close(connection);
    return st;
}
