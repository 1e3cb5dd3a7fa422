#include "sandbox/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"

/* Each client gets a supervisor of its own, with a zygote of its own: nothing is shared that one could break for
 * another, and what a client asks for is checked once more there. */

enum { UID_FIRST = 64918, STOP_MS = 2000 }; /* above the one that a supervisor of a root trainer uses */

static const double LEAVING_S = 1;

typedef struct listener {
    int sock, signals, n, max;
    double full_since; /* somebody waits, and all places are taken; 0: no */
    gid_t group;
    bool has_group;
    boxd_place place;
    struct {
        pid_t pid; /* 0: free */
        pid_t client;
    } child[LISTEN_CLIENTS];
} listener;

/* ---- the socket ---- */

static status find_group(listener *l, const char *name)
{
    if (!name) return ST_OK;
    char *end = NULL;
    const struct group *g = getgrnam(name);
    unsigned long id = strtoul(name, &end, 10);
    if (!g && (!*name || *end)) return FAIL(ST_EINVAL, "--group %s: no such group", name);
    l->group = g ? g->gr_gid : (gid_t)id;
    l->has_group = true;
    return ST_OK;
}

/* A socket that nobody listens at is what a killed daemon left. */
static status clear_path(const struct sockaddr_un *at)
{
    struct stat s;
    const char *path = at->sun_path;
    if (lstat(path, &s)) return errno == ENOENT ? ST_OK : FAIL(ST_EINVAL, "--listen %s: %s", path, strerror(errno));
    if (!S_ISSOCK(s.st_mode)) return FAIL(ST_EINVAL, "--listen %s: exists and is no socket", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return FAIL(ST_ESYS, "no socket: %s", strerror(errno));
    int e = connect(fd, (const struct sockaddr *)at, sizeof *at) ? errno : 0;
    close(fd);
    if (e != ECONNREFUSED) return FAIL(ST_EINVAL, "--listen %s: somebody listens there already", path);
    return unlink(path) ? FAIL(ST_EINVAL, "--listen %s: cannot replace it: %s", path, strerror(errno)) : ST_OK;
}

static status open_socket(listener *l, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof at.sun_path)
        return FAIL(ST_EINVAL, "--listen: a socket's path has 1 to %zu bytes, this one %zu", sizeof at.sun_path - 1,
                    strlen(path));
    memcpy(at.sun_path, path, strlen(path));
    TRY(clear_path(&at));
    l->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->sock < 0) return FAIL(ST_ESYS, "no socket: %s", strerror(errno));
    mode_t old = umask(0177); /* nobody else's at any moment */
    int bad = bind(l->sock, (struct sockaddr *)&at, sizeof at);
    umask(old);
    if (bad) return FAIL(ST_EINVAL, "--listen %s: %s", path, strerror(errno));
    if (l->has_group && (chown(path, (uid_t)-1, l->group) || chmod(path, 0660)))
        return FAIL(ST_EINVAL, "--listen %s: cannot be given to group %u: %s", path, (unsigned)l->group,
                    strerror(errno));
    return listen(l->sock, LISTEN_CLIENTS) ? FAIL(ST_ESYS, "--listen %s: %s", path, strerror(errno)) : ST_OK;
}

/* ---- clients ---- */

static bool in_group(const listener *l, int fd, const struct ucred *who)
{
    gid_t list[1024];
    socklen_t n = sizeof list;
    if (!l->has_group) return false;
    if (who->gid == l->group) return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &n)) return false;
    for (size_t i = 0; i < n / sizeof *list; i++)
        if (list[i] == l->group) return true;
    return false;
}

static status admit(const listener *l, int fd, struct ucred *who)
{
    socklen_t n = sizeof *who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, who, &n)) return FAIL(ST_ESYS, "sandbox daemon: who are you?");
    if (who->uid != 0 && who->uid != geteuid() && !in_group(l, fd, who))
        return FAIL(ST_EUNAVAIL, "the sandbox daemon does not serve user %u; its --group decides", who->uid);
    if (l->n >= l->max) return FAIL(ST_EUNAVAIL, "the sandbox daemon has %d clients, which is its --max-clients", l->n);
    return ST_OK;
}

static _Noreturn void serve(const listener *l, int fd, int slot)
{
    boxd_place place = l->place;
    place.uid = UID_FIRST + (unsigned)slot; /* no two clients' boxes could meet, whatever they escaped from */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++) dup2(null, i);
    if (fd != WIRE_INHERITED) dup3(fd, WIRE_INHERITED, O_CLOEXEC);
    close_range(WIRE_INHERITED + 1, ~0u, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, "box-client");
    wire_buffers(WIRE_INHERITED);
    exit(boxd_main(WIRE_INHERITED, &place));
}

static void on_connect(listener *l)
{
    double now = wire_now();
    if (l->n >= l->max && l->full_since == 0) l->full_since = now;
    if (l->n >= l->max && now < l->full_since + LEAVING_S) { /* one that has just gone may still be cleaning up */
        usleep(10000);
        return;
    }
    l->full_since = 0;
    int fd = accept4(l->sock, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return;
    struct ucred who = {0};
    int slot = 0;
    status st = admit(l, fd, &who);
    while (st == ST_OK && l->child[slot].pid) slot++;
    pid_t pid = st == ST_OK ? fork() : -1;
    if (pid == 0) serve(l, fd, slot);
    if (st == ST_OK && pid < 0) st = FAIL(ST_ESYS, "the sandbox daemon cannot fork: %s", strerror(errno));
    if (st == ST_OK) {
        l->child[slot].pid = pid;
        l->child[slot].client = who.pid;
        l->n++;
        log_info("client %d (user %u): served by process %d, %d of %d", who.pid, who.uid, pid, l->n, l->max);
    } else {
        log_warn("client %d (user %u) turned away: %s", who.pid, who.uid, fail_message());
        wire_send_status(fd, OP_POOL_OK, OP_POOL_FAIL, BOX_T3, st);
    }
    close(fd);
}

static void on_children(listener *l)
{
    int st;
    for (pid_t pid; (pid = waitpid(-1, &st, WNOHANG)) > 0;)
        for (int i = 0; i < LISTEN_CLIENTS; i++) {
            if (l->child[i].pid != pid) continue;
            l->child[i].pid = 0;
            l->n--;
            if (WIFSIGNALED(st))
                log_warn("process %d, which served client %d, was killed by signal %d", pid, l->child[i].client,
                         WTERMSIG(st));
            else
                log_info("client %d has gone, %d left", l->child[i].client, l->n);
        }
}

static void turn_out(listener *l)
{
    for (int i = 0; i < LISTEN_CLIENTS; i++)
        if (l->child[i].pid) kill(l->child[i].pid, SIGTERM);
    for (double end = wire_now() + 1e-3 * STOP_MS; l->n && wire_now() < end; usleep(10000)) on_children(l);
}

status listen_run(const char *path, const char *group, int max_clients, const wire_pool *ceiling, const char *python,
                  const volatile int *stop)
{
    listener l = {.sock = -1, .max = max_clients, .place = {.ceiling = ceiling, .python = python}};
    struct stat ours = {0}, now;
    if (max_clients < 1 || max_clients > LISTEN_CLIENTS)
        return FAIL(ST_EINVAL, "--max-clients: 1 to %d", LISTEN_CLIENTS);
    TRY(find_group(&l, group));
    status st = open_socket(&l, path);
    if (st == ST_OK && stat(path, &ours)) st = FAIL(ST_ESYS, "--listen %s: %s", path, strerror(errno));
    sigset_t chld, old;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &old);
    l.signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    if (st == ST_OK) log_info("listening at %s for at most %d clients", path, max_clients);
    while (st == ST_OK && !*stop) {
        struct pollfd p[2] = {{l.sock, POLLIN, 0}, {l.signals, POLLIN, 0}};
        if (poll(p, 2, 1000) < 0) continue; /* a signal sets *stop */
        struct signalfd_siginfo si;
        while (read(l.signals, &si, sizeof si) > 0) {}
        on_children(&l);
        if (p[0].revents) on_connect(&l);
    }
    turn_out(&l);
    if (l.sock >= 0) close(l.sock);
    if (l.signals >= 0) close(l.signals);
    if (st == ST_OK && stat(path, &now) == 0 && now.st_ino == ours.st_ino && now.st_dev == ours.st_dev) unlink(path);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return st;
}
