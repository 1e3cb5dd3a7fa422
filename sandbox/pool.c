#include "sandbox/boxd.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/jail.h"
#include "sandbox/opener.h"

enum { USES_MAX = 256, FAILURES_MAX = 20 };

void pool_epoll(boxd *b, int fd, int kind, int index, uint32_t serial)
{
    struct epoll_event ev = {.events = EPOLLIN,
                             .data.u64 = (uint64_t)serial << 32 | (uint64_t)index << 4 | (uint64_t)kind};
    epoll_ctl(b->ep, EPOLL_CTL_ADD, fd, &ev);
}

/* ---- jails ---- */

static void not_ahead(boxd *b, jailrec *j)
{
    b->n_ahead[j->state] -= j->ahead;
    j->ahead = false;
}

static void jail_forget(boxd *b, jailrec *j)
{
    if (j->state == JAIL_STARTING) b->n_starting--;
    if (j->state == JAIL_SPARE) b->n_spare--;
    if (j->state == JAIL_RESETTING) b->n_resetting--;
    not_ahead(b, j);
    int *fd[] = {&j->ctl, &j->out, &j->img, &j->pidfd};
    for (int i = 0; i < 4; i++) { /* closing takes them out of epoll: nobody else holds our ends */
        if (*fd[i] >= 0) close(*fd[i]);
        *fd[i] = -1;
    }
    if (j->cg >= 0) cgroup_give(&b->cg, j->cg);
    j->cg = -1;
    j->state = JAIL_FREE;
}

void pool_jail_kill(boxd *b, jailrec *j)
{
    if (j->box) {
        j->box->jail = NULL;
        j->box->input_sent = false; /* its next jail has not seen it */
    }
    j->box = NULL;
    if (j->pidfd >= 0) syscall(SYS_pidfd_send_signal, j->pidfd, SIGKILL, NULL, 0);
    jail_forget(b, j);
}

void pool_jail_state(boxd *b, jailrec *j, jail_state s)
{
    b->n_starting += (s == JAIL_STARTING) - (j->state == JAIL_STARTING);
    b->n_spare += (s == JAIL_SPARE) - (j->state == JAIL_SPARE);
    b->n_resetting += (s == JAIL_RESETTING) - (j->state == JAIL_RESETTING);
    not_ahead(b, j);
    j->state = s;
    j->since = wire_now();
}

void pool_jail_count(boxd *b, jailrec *j)
{
    if (j->cg < 0) return;
    cgroup_peak_reset(&b->cg, j->cg);
    j->ooms = cgroup_ooms(&b->cg, j->cg);
    j->pid_refusals = cgroup_pid_refusals(&b->cg, j->cg);
}

int pool_jail_start(boxd *b)
{
    jailrec *j = NULL;
    for (int i = 0; i < b->n_jail && !j; i++)
        if (b->jails[i].state == JAIL_FREE) j = &b->jails[i];
    if (!j) return -1;
    int ctl[2], out[2], img = -1, fds[3 + CGROUP_FILES], n = 3;
    if (wire_pair(ctl)) return -1;
    if (pipe2(out, O_CLOEXEC)) {
        close(ctl[0]);
        close(ctl[1]);
        return -1;
    }
    int cg = b->tier == BOX_T0 ? cgroup_take(&b->cg) : -1;
    img = memfd_create("box-images", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fds[0] = ctl[1];
    fds[1] = out[1];
    fds[2] = img;
    if (cg >= 0) n += cgroup_join_files(&b->cg, cg, fds + 3);
    *j = (jailrec){.serial = ++b->serial, .ctl = ctl[0], .out = out[0], .img = img, .pidfd = -1, .cg = cg};
    int index = (int)(j - b->jails);
    wire_head h = {.op = OP_SPAWN, .id = j->serial};
    /* Neither side can change its size, so reading it here never meets a hole in the file; nor add the seal that would
     * keep the next box from writing. */
    int bad = img < 0 || ftruncate(img, WIRE_IMAGE_BYTES) ||
              fcntl(img, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ||
              fcntl(ctl[0], F_SETFL, O_NONBLOCK) || fcntl(out[0], F_SETFL, O_NONBLOCK) ||
              (b->tier == BOX_T0 && cg < 0) || wire_send(b->zygote, &h, sizeof h, NULL, 0, fds, n);
    close(ctl[1]);
    close(out[1]);
    for (int i = 3; i < n; i++) close(fds[i]);
    pool_jail_state(b, j, JAIL_STARTING);
    if (bad) {
        jail_forget(b, j);
        return -1;
    }
    pool_epoll(b, j->ctl, EV_CTL, index, j->serial);
    pool_epoll(b, j->out, EV_OUT, index, j->serial);
    return 0;
}

/* A jail ended that was not told to. */
static void jail_lost(boxd *b, jailrec *j, const char *why)
{
    boxrec *x = j->box;
    bool was_starting = j->state == JAIL_STARTING;
    if (x && x->state == BOX_TURN)
        boxrec_fail_turn(b, x, x->cause != BOX_OK ? x->cause : BOX_INFRA);
    else if (x)
        x->dead = x->ours = x->has_state;
    pool_jail_kill(b, j);
    if (!was_starting || !b->zygote_ready) return;
    if (++b->jail_failures >= (b->creating ? 1 : FAILURES_MAX)) {
        status st = FAIL(ST_EUNAVAIL, "a box cannot be set up: %s", why);
        if (b->creating) {
            boxd_pool_done(b, st);
            return;
        }
        boxd_give_up(b, fail_message());
    }
}

void pool_on_exit(boxd *b, jailrec *j) { jail_lost(b, j, "its first process died"); }

void pool_on_jail(boxd *b, jailrec *j)
{
    static union {
        wire_head h;
        wire_end end;
        wire_reply fail;
    } m;
    uint32_t serial = j->serial;
    for (;;) {
        ssize_t n = wire_recv(j->ctl, &m, sizeof m, NULL, NULL, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN) return;
        if (n < (ssize_t)sizeof(wire_head)) {
            jail_lost(b, j, "its control channel closed");
            return;
        }
        if (m.h.op == OP_READY && (j->state == JAIL_STARTING || j->state == JAIL_RESETTING)) {
            pool_jail_state(b, j, JAIL_SPARE);
            pool_jail_count(b, j);
            b->jail_failures = 0;
        } else if (m.h.op == OP_END && n == (ssize_t)sizeof m.end && j->state == JAIL_RUNNING && j->box) {
            boxrec_turn_end(b, j->box, &m.end);
        } else if (m.h.op == OP_JAIL_FAIL && n == (ssize_t)sizeof m.fail) {
            m.fail.text[sizeof m.fail.text - 1] = 0;
            jail_lost(b, j, m.fail.text);
            return;
        } else if (m.h.op != OP_END) { /* an END may cross our own decision to give the turn up */
            jail_lost(b, j, "it broke the protocol");
            return;
        }
        if (j->state == JAIL_FREE || j->serial != serial) return;
    }
}

void pool_box_release(boxd *b, boxrec *x)
{
    jailrec *j = x->jail;
    x->jail = NULL;
    j->box = NULL;
    /* The runner never ran model code, so its jail can serve again once everything else in it is dead and /tmp is new.
     * A turn under way or a broken protocol ends it instead. As many jails as were once in use stay: making one costs
     * more than a turn, and a waiting one holds little beside what the zygote has. */
    wire_head h = {.op = OP_RESET};
    if (j->state == JAIL_PARKED && ++j->uses < USES_MAX && wire_send(j->ctl, &h, sizeof h, NULL, 0, NULL, 0) == 0)
        pool_jail_state(b, j, JAIL_RESETTING);
    else
        pool_jail_kill(b, j);
}

void pool_run(boxd *b, boxrec *x)
{
    jailrec *j = x->jail;
    char drop[4096];
    while (read(j->out, drop, sizeof drop) > 0) {} /* what arrived between turns is nobody's */
    /* The pictures of the last turn, perhaps another box's, go; their pages are given back. */
    struct stat img;
    bool clean =
        fstat(j->img, &img) == 0 &&
        (img.st_blocks == 0 || fallocate(j->img, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, WIRE_IMAGE_BYTES) == 0);
    uint64_t nonce = 0;
    (void)!syscall(SYS_getrandom, &nonce, sizeof nonce, 0);
    wire_run m = {
        .h = {.op = OP_RUN, .id = x->id, .turn = x->turn, .nonce = nonce}, .seed = x->seed, .has_input = x->input >= 0};
    bool send_input = x->input >= 0 && !x->input_sent;
    x->started = x->checked = wire_now();
    x->paused_s = 0;
    x->paused = x->idle = false;
    x->deadline = x->started + x->wall_s;
    x->state = BOX_TURN;
    pool_jail_state(b, j, JAIL_RUNNING);
    x->cpu_before = x->cpu_seen = cgroup_cpu_ms(&b->cg, j->cg);
    if (!clean || wire_send(j->ctl, &m, sizeof m, x->code, x->len, &x->input, send_input)) {
        jail_lost(b, j, "its control channel closed");
        return;
    }
    x->input_sent |= send_input;
}

/* ---- the zygote ---- */

static void zygote_forget(boxd *b)
{
    if (b->zygote >= 0) close(b->zygote);
    b->zygote = -1;
    b->zygote_ready = false;
    if (b->zygote_pid > 0) {
        int st = 0; /* usually it is dead; else its pid namespace goes with its child, which sees this one die */
        if (waitpid(b->zygote_pid, &st, WNOHANG) == 0) {
            kill(b->zygote_pid, SIGKILL);
            while (waitpid(b->zygote_pid, &st, 0) < 0 && errno == EINTR) {}
        }
        snprintf(b->zygote_end, sizeof b->zygote_end,
                 WIFSIGNALED(st) ? "was killed by signal %d" : "ended with status %d",
                 WIFSIGNALED(st) ? WTERMSIG(st) : WEXITSTATUS(st));
    }
    b->zygote_pid = 0;
}

status pool_zygote_start(boxd *b)
{
    int sv[2];
    if (b->zygote_exe < 0)
        return FAIL(ST_ESYS,
                    "sandbox: codedance-zygote, which runs the boxes' Python, is not beside the program: it is "
                    "built with codedance and goes into the same folder");
    if (wire_pair(sv)) return FAIL(ST_ESYS, "sandbox: no socket for the zygote: %s", strerror(errno));
    /* Only what the loader needs; the zygote clears its environment itself before Python sees it. */
    char libs[4096], home[4096], fd_arg[16], exe[32];
    const char *path = getenv("LD_LIBRARY_PATH"), *home_is = getenv("HOME");
    snprintf(home, sizeof home, "HOME=%s", home_is ? home_is : "/root"); /* what python_find shall not show */
    snprintf(libs, sizeof libs, "LD_LIBRARY_PATH=%s", path ? path : "");
    /* Its heap in huge pages: a fork copies one entry for 512 pages. Symbols resolved once, not in every box. */
    char *env[] = {(char *)"GLIBC_TUNABLES=glibc.malloc.hugetlb=1", (char *)"LD_BIND_NOW=1", home, path ? libs : NULL,
                   NULL};
    int sock = fcntl(sv[1], F_DUPFD, 64); /* the one descriptor it inherits besides 0-2 */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    snprintf(fd_arg, sizeof fd_arg, "%d", sock);
    snprintf(exe, sizeof exe, "/proc/self/fd/%d", b->zygote_exe);
    char *argv[] = {(char *)"codedance-zygote", (char *)"@zygote", fd_arg, NULL};
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    for (int i = 0; i < 3; i++) posix_spawn_file_actions_adddup2(&fa, null, i);
    /* The same addresses in every run: they decide the order of sets and what repr shows. A box could read them anyway,
     * and all that is near it is a fork of the same program. Docker's default filter refuses: then they vary. */
    int was = personality(0xffffffff);
    if (was >= 0) personality((unsigned)was | ADDR_NO_RANDOMIZE);
    int e = sock < 0 || null < 0 ? errno : posix_spawn(&b->zygote_pid, exe, &fa, NULL, argv, env);
    if (was >= 0) personality((unsigned)was);
    posix_spawn_file_actions_destroy(&fa);
    close(sv[1]);
    if (sock >= 0) close(sock);
    if (null >= 0) close(null);
    if (e) {
        close(sv[0]);
        b->zygote_pid = 0;
        return FAIL(ST_ESYS, "sandbox: cannot start the zygote: %s", strerror(e));
    }
    b->zygote = sv[0];
    b->zygote_since = wire_now();
    wire_pool init = b->pool;
    init.h = (wire_head){.op = OP_INIT, .nonce = wire_build()};
    init.tier = (int)b->tier;
    pool_epoll(b, b->zygote, EV_ZYGOTE, 0, ++b->serial);
    /* Its strings end with the interpreter's path and a NUL: two NULs when it is empty. */
    bool own = b->n_strings > 2 && b->strings[b->n_strings - 2];
    int fds[2] = {b->zygote_lib, own && b->opener >= 0 ? opener_connect(b->opener) : -1};
    e = wire_send(b->zygote, &init, sizeof init, b->strings, b->n_strings, fds, fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2);
    if (fds[1] >= 0) close(fds[1]);
    return e ? FAIL(ST_ESYS, "sandbox: the zygote died at once: %s", strerror(-e)) : ST_OK;
}

void pool_zygote_stop(boxd *b)
{
    for (int i = 0; i < b->n_jail; i++)
        if (b->jails[i].state != JAIL_FREE) pool_jail_kill(b, &b->jails[i]);
    zygote_forget(b);
}

static void zygote_lost(boxd *b)
{
    zygote_forget(b); /* all jails were in its pid namespace */
    for (int i = 0; i < b->n_jail; i++)
        if (b->jails[i].state != JAIL_FREE) jail_lost(b, &b->jails[i], "the zygote died");
    if (b->creating) {
        boxd_pool_done(b,
                       FAIL(ST_EUNAVAIL, "the sandbox's Python process died while starting; run `codedance doctor`"));
        return;
    }
    double now = wire_now();
    memmove(b->deaths, b->deaths + 1, sizeof b->deaths - sizeof *b->deaths);
    b->deaths[4] = now;
    /* five in a minute: something is wrong that a sixth won't cure */
    bool often = b->deaths[0] > 0 && now - b->deaths[0] < 60;
    if (often)
        boxd_give_up(b, "the boxes' Python process died five times within a minute");
    else if (pool_zygote_start(b) != ST_OK)
        boxd_give_up(b, fail_message());
    else
        boxd_note(b, "the boxes' Python process %s; it is started again", b->zygote_end);
}

void pool_on_zygote(boxd *b)
{
    static union {
        wire_head h;
        wire_reply r;
    } m;
    int fds[WIRE_FDS], n_fd = 0;
    ssize_t n = wire_recv(b->zygote, &m, sizeof m, fds, &n_fd, NULL, MSG_DONTWAIT);
    if (n == -EAGAIN) return;
    if (n < (ssize_t)sizeof m.h) {
        zygote_lost(b);
        return;
    }
    if (m.h.op == OP_PID) {
        jailrec *j = NULL;
        for (int i = 0; i < b->n_jail && !j; i++)
            if (b->jails[i].state != JAIL_FREE && b->jails[i].serial == m.h.id) j = &b->jails[i];
        if (j && n_fd == 1) {
            j->pidfd = fds[0];
            pool_epoll(b, j->pidfd, EV_PIDFD, (int)(j - b->jails), j->serial);
            return;
        }
        if (j) jail_lost(b, j, "the zygote could not fork");
        if (!j && n_fd == 1) syscall(SYS_pidfd_send_signal, fds[0], SIGKILL, NULL, 0); /* given up meanwhile */
    } else if (m.h.op == OP_INIT_OK) {
        b->zygote_ready = true;
        if (b->creating) canary_next(b, NULL, NULL);
    } else if (m.h.op == OP_INIT_FAIL) {
        m.r.text[sizeof m.r.text - 1] = 0;
        status st = FAIL((status)m.r.code, "%s", m.r.text);
        if (!b->creating) {
            boxd_note(b, "%s", m.r.text);
            zygote_lost(b);
        } else if (m.r.tier != BOX_T3 || b->tier >= BOX_T2 || b->pool.min_tier < BOX_T2) {
            if (m.r.tier == BOX_T3 && b->tier < BOX_T2 && jail_landlock_abi() > 0)
                fail_within(st, "sandbox tier T1 is not to be had here (T2 could be: sandbox.min_tier: landlock)");
            boxd_pool_done(b, st);
        } else { /* no namespaces, and the user accepts that */
            snprintf(b->why_t2, sizeof b->why_t2, "%.*s", (int)strcspn(m.r.text, ";"), m.r.text);
            zygote_forget(b);
            b->tier = BOX_T2;
            st = jail_landlock_abi() > 0 ? pool_zygote_start(b)
                                         : FAIL(ST_EUNAVAIL,
                                                "no box can be isolated here: %s, and there is no Landlock (Linux 5.13 "
                                                "or newer, lsm=landlock,... at boot, allowed by the container)",
                                                b->why_t2);
            if (st != ST_OK) boxd_pool_done(b, st);
        }
    }
    for (int i = 0; i < n_fd; i++) close(fds[i]);
}
