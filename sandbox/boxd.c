#include "sandbox/boxd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/janitor.h"
#include "sandbox/limits.h"
#include "sandbox/opener.h"

enum { POOL_UID = 64917 }; /* used when started as root: an id no system hands out; boxes never run as root */
static const double CANARY_GRACE_S = 0.05; /* a pool waits for its canaries */

/* ---- the client's messages ---- */

static boxrec **find_box(boxd *b, uint32_t id) { return id < (uint32_t)b->n_box ? &b->boxes[id] : NULL; }

static void reply_pool(boxd *b, status st)
{
    wire_reply *r = &b->report;
    r->h = (wire_head){.op = st == ST_OK ? OP_POOL_OK : OP_POOL_FAIL};
    r->code = st;
    r->tier = (int)b->tier;
    if (st != ST_OK) snprintf(r->text, sizeof r->text, "%s", fail_message());
    wire_send(b->client, r, sizeof *r, NULL, 0, NULL, 0);
}

static void pool_end(boxd *b)
{
    for (int i = 0; b->boxes && i < b->n_box; i++)
        if (b->boxes[i]) boxrec_free(b, b->boxes[i]);
    free(b->boxes);
    b->boxes = NULL;
    b->n_box = 0;
    if (b->canary) boxrec_free(b, b->canary);
    b->canary = NULL;
    pool_zygote_stop(b);
    cgroup_clear(&b->cg);
    free(b->jails);
    free(b->strings);
    b->jails = NULL;
    b->strings = NULL;
    b->n_jail = 0;
    free(b->canary_text);
    b->canary_text = NULL;
    b->pool_on = b->creating = b->broken = b->canary_ready = b->ending = false;
}

void boxd_pool_done(boxd *b, status st)
{
    b->creating = false;
    reply_pool(b, st);
    b->ending = st != ST_OK;
}

void boxd_note(boxd *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    wire_head h = {.op = OP_NOTE};
    if (n > 0) wire_send(b->client, &h, sizeof h, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, NULL, 0);
}

void boxd_give_up(boxd *b, const char *why)
{
    b->broken = true;
    wire_reply *r = &b->report;
    r->h = (wire_head){.op = OP_POOL_FAIL};
    r->code = ST_EUNAVAIL;
    snprintf(r->text, sizeof r->text, "%.500s", why);
    wire_send(b->client, r, sizeof *r, NULL, 0, NULL, 0);
    while (b->queue) {
        boxrec *x = b->queue;
        b->queue = x->next;
        if (!b->queue) b->queue_end = &b->queue;
        boxrec_fail_turn(b, x, BOX_INFRA);
    }
}

static status pool_acceptable(const boxd *b, const wire_pool *p, size_t n)
{
    if (n < sizeof *p || p->h.nonce != wire_build())
        return FAIL(ST_EUNAVAIL, "the sandbox daemon is of another version of codedance than its client");
    TRY(limits_check(p, b->place ? b->place->ceiling : NULL));
    const char *strings = (const char *)(p + 1), *python = limits_strings(strings, n - sizeof *p, LIMITS_PYTHON);
    if (!python) return FAIL(ST_EINVAL, "sandbox: a pool with malformed names");
    /* It is started outside the jail once, to see where its files lie. */
    if (b->place && *python && strcmp(python, b->place->python) != 0)
        return FAIL(ST_EINVAL, "sandbox.python: the sandbox daemon of this machine runs %s, not %.200s",
                    *b->place->python ? b->place->python : "only its own Python", python);
    return ST_OK;
}

static void on_pool(boxd *b, size_t n)
{
    if (b->pool_on) pool_end(b);
    status st = pool_acceptable(b, (const wire_pool *)b->buf, n);
    if (st != ST_OK) {
        memset(&b->report, 0, sizeof b->report);
        reply_pool(b, st);
        return;
    }
    memcpy(&b->pool, b->buf, sizeof b->pool);
    b->n_strings = n - sizeof b->pool;
    b->strings = malloc(b->n_strings);
    b->n_box = b->pool.max_live;
    b->n_jail = b->pool.max_live + b->pool.spares + b->pool.max_starting + 2;
    b->boxes = calloc((size_t)b->n_box, sizeof(boxrec *));
    b->jails = calloc((size_t)b->n_jail, sizeof *b->jails);
    if (!b->strings || !b->boxes || !b->jails) _exit(1);
    memcpy(b->strings, b->buf + sizeof b->pool, b->n_strings);
    memset(&b->report, 0, sizeof b->report);
    memset(b->deaths, 0, sizeof b->deaths);
    b->pool_on = b->creating = true;
    b->canary_step = 0;
    b->jail_failures = 0;
    cgroup_limits(&b->cg, &b->pool.limits);
    b->tier = b->cg.version ? BOX_T0 : BOX_T1;
    st = pool_zygote_start(b);
    if (st != ST_OK) boxd_pool_done(b, st);
}

static void on_exec(boxd *b, boxrec *x, const wire_run *m, size_t n)
{
    x->turn = m->h.turn;
    x->ticket = m->h.nonce;
    x->len = n - sizeof *m;
    x->code = malloc(x->len + 1);
    if (!x->code) _exit(1);
    memcpy(x->code, m + 1, x->len);
    boxd_queue(b, x);
}

void boxd_queue(boxd *b, boxrec *x)
{
    x->queued = wire_now();
    x->started = x->paused_s = 0;
    x->paused = false;
    x->stage = 0;
    x->cause = BOX_OK;
    boxrec_forget_output(x);
    x->state = BOX_QUEUED;
    if (x->dead || b->broken) {
        boxrec_fail_turn(b, x, b->broken || x->ours ? BOX_INFRA : BOX_DEAD);
    } else {
        x->next = NULL;
        *b->queue_end = x;
        b->queue_end = &x->next;
    }
}

/* Nobody can change the pictures of a box, nor take them away under it. */
static bool sealed(int fd)
{
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    int have = fcntl(fd, F_GET_SEALS);
    return have >= 0 && (have & all) == all;
}

static bool on_client(boxd *b)
{
    for (int i = 0; i < 64; i++) {
        int fds[WIRE_FDS], n_fd = 0;
        ssize_t n = wire_recv(b->client, b->buf, WIRE_MSG_MAX, fds, &n_fd, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN) return true;
        if (n < (ssize_t)sizeof(wire_head)) return false;
        const wire_head *h = (const wire_head *)b->buf;
        const wire_run *m = (const wire_run *)b->buf;
        boxrec **x = b->boxes ? find_box(b, h->id) : NULL;
        int used = 0;
        switch (h->op) {
        case OP_POOL: on_pool(b, (size_t)n); break;
        case OP_POOL_END: pool_end(b); break;
        case OP_OPEN:
            if (!x || *x || n < (ssize_t)sizeof *m) return false;
            *x = boxrec_new(b, h->id);
            (*x)->seed = m->seed;
            if (n_fd == 1) (*x)->input = fds[used++];
            if ((*x)->input >= 0 && !sealed((*x)->input)) return false;
            break;
        case OP_EXEC:
            if (!x || !*x || (*x)->state != BOX_IDLE || n < (ssize_t)sizeof *m) return false;
            on_exec(b, *x, m, (size_t)n);
            break;
        case OP_CLOSE:
            if (!x || !*x) return false;
            boxrec_free(b, *x);
            *x = NULL;
            break;
        default: return false;
        }
        while (used < n_fd) close(fds[used++]);
    }
    return true;
}

/* ---- clocks ---- */

/* Seconds until the next deadline, and acts on those that passed. */
static double run_clocks(boxd *b)
{
    double now = wire_now(), next = schedule_next(b, now);
    for (int i = 0; i < b->n_jail; i++) {
        jailrec *j = &b->jails[i];
        if (j->state == JAIL_STARTING || j->state == JAIL_RESETTING) {
            if (now > j->since + 30) pool_jail_kill(b, j); /* its exit is handled like any other */
            next = fmin(next, 30);
        }
        if (j->state != JAIL_RUNNING) continue;
        boxrec *x = j->box;
        if (x->paused && x->stage == 0) continue; /* its clock stands still */
        if (now < x->deadline) {
            next = fmin(next, x->deadline - now);
            continue;
        }
        wire_head m = {.op = x->stage == 0 ? OP_INTERRUPT : OP_KILL};
        if (x->stage == 0 && x->cause == BOX_OK) x->cause = BOX_TIMEOUT_SOFT;
        if (x->stage == 1 && x->cause == BOX_TIMEOUT_SOFT) x->cause = BOX_TIMEOUT_HARD;
        if (x->stage >= 2) { /* the runner is silent: its whole jail goes */
            boxrec_fail_turn(b, x, x->cause);
            pool_jail_kill(b, j);
            next = 0; /* there is room for another */
            continue;
        }
        wire_send(j->ctl, &m, sizeof m, NULL, 0, NULL, 0);
        x->deadline = now + (x->stage > 0 ? BOXD_ANSWER_S : x->canary ? CANARY_GRACE_S : b->pool.limits.wall_grace_s);
        x->stage++;
        next = fmin(next, x->deadline - now);
    }
    return next;
}

static bool on_event(boxd *b, uint64_t data)
{
    int kind = (int)(data & 15), index = (int)(data >> 4 & 0xfffffff);
    switch (kind) {
    case EV_CLIENT:
        if (b->outbox) boxrec_flush(b);
        return on_client(b);
    case EV_TERM: return false;
    case EV_ZYGOTE:
        if (b->zygote >= 0 && b->serial >= (uint32_t)(data >> 32)) pool_on_zygote(b);
        return true;
    default: break;
    }
    jailrec *j = index < b->n_jail ? &b->jails[index] : NULL;
    if (!j || j->state == JAIL_FREE || j->serial != (uint32_t)(data >> 32)) return true;
    if (kind == EV_CTL) pool_on_jail(b, j);
    if (kind == EV_OUT) boxrec_read_output(b, j);
    if (kind == EV_PIDFD) pool_on_exit(b, j);
    return true;
}

static void drop_root(unsigned uid)
{
    if (geteuid() != 0) return;
    /* If this is refused, the zygote's own steps decide; nothing below trusts an id. */
    if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)) return;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* /proc/self stays ours, which writing id maps needs */
}

/* A file that lies beside this program. */
static int open_beside(const char *name, int flags)
{
    char path[4096], file[4200];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0) return -1;
    path[n] = 0;
    snprintf(file, sizeof file, "%.*s/%s", (int)(strrchr(path, '/') - path), path, name);
    return open(file, flags | O_CLOEXEC);
}

int boxd_main(int sock, const boxd_place *place)
{
    static boxd b;
    b.client = sock;
    b.place = place;
    b.zygote = -1;
    b.zygote_exe = open_beside("codedance-zygote", O_PATH);
    b.zygote_lib = open_beside("codedance-zygote.so", O_RDONLY);
    b.queue_end = &b.queue;
    b.outbox_end = &b.outbox;
    b.buf = malloc(WIRE_MSG_MAX);
    setsid(); /* a Ctrl-C on the terminal is the client's affair */
    /* Its process, not the thread that started us, which PR_SET_PDEATHSIG would mean. */
    b.parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
    unsigned uid = place ? place->uid : POOL_UID;
    b.opener = opener_start(uid);
    cgroup_prepare(&b.cg, uid);
    if (!janitor_leave(&b.cg, b.parent) && b.cg.version) {
        cgroup_undo(&b.cg);
        snprintf(b.cg.why_not, sizeof b.cg.why_not, "no process could be made that removes control groups later");
    }
    drop_root(uid);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    signal(SIGCHLD, SIG_DFL);
    b.ep = epoll_create1(EPOLL_CLOEXEC);
    b.term = signalfd(-1, &term, SFD_CLOEXEC);
    if (!b.buf || b.ep < 0 || b.term < 0 || fcntl(sock, F_SETFL, O_NONBLOCK)) return 1;
    pool_epoll(&b, b.client, EV_CLIENT, 0, 0);
    pool_epoll(&b, b.term, EV_TERM, 0, 0);
    if (b.parent >= 0) pool_epoll(&b, b.parent, EV_TERM, 0, 0);
    for (bool on = true; on;) {
        if (b.pool_on) schedule_run(&b);
        double wait = b.pool_on ? run_clocks(&b) : 3600;
        struct epoll_event ev[64];
        int n = epoll_wait(b.ep, ev, 64, (int)ceil(1e3 * wait));
        for (int i = 0; i < n && on; i++) on = on_event(&b, ev[i].data.u64);
        while (b.canary_ready && !b.ending) {
            char *text = b.canary_text;
            wire_result r = b.canary_result;
            b.canary_ready = false;
            b.canary_text = NULL;
            canary_next(&b, &r, text);
            free(text);
        }
        if (b.ending) pool_end(&b);
    }
    if (b.pool_on) pool_end(&b);
    return 0;
}
