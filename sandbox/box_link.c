#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "sandbox/client.h"

static const double ANSWER_S = 180;  /* importing large libraries from a cold disk */
static const double PATIENCE_S = 15; /* for somebody to start the daemon again */
static const double SILENCE_S = 45;
static const double SOON_S = 0.05, LATE_S = 4, DEATHS_S = 60;

/* ---- messages out ---- */

void link_post(box_pool *p, void *msg, size_t n, const void *body, size_t n_body, int fd)
{
    if (p->link != LINK_UP) return; /* what it was for starts again or has failed */
    int e = p->out ? -EAGAIN : wire_send(supervisor.sock, msg, n, body, n_body, &fd, fd >= 0);
    if (e == -EAGAIN) {
        out_msg *m = malloc(sizeof *m + n + n_body);
        CHECK(m);
        m->next = NULL;
        m->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
        m->n = n + n_body;
        memcpy(m->bytes, msg, n);
        if (n_body) memcpy(m->bytes + n, body, n_body);
        *p->out_end = m;
        p->out_end = &m->next;
    } else if (e) {
        link_died(p);
    }
}

void link_drop(box_pool *p)
{
    while (p->out) {
        out_msg *m = p->out;
        p->out = m->next;
        if (m->fd >= 0) close(m->fd);
        free(m);
    }
    p->out_end = &p->out;
}

void link_flush(box_pool *p)
{
    while (p->out) {
        out_msg *m = p->out;
        int e = wire_send(supervisor.sock, m->bytes, m->n, NULL, 0, &m->fd, m->fd >= 0);
        if (e == -EAGAIN) return;
        if (e) {
            link_died(p);
            return;
        }
        p->out = m->next;
        if (!p->out) p->out_end = &p->out;
        if (m->fd >= 0) close(m->fd);
        free(m);
    }
}

/* ---- the first time ---- */

static int ask(box_pool *p)
{
    p->msg.h = (wire_head){.op = OP_POOL, .nonce = wire_build()};
    int e = wire_send(supervisor.sock, &p->msg, sizeof p->msg, p->strings, p->n_strings, NULL, 0);
    return e == -EPIPE ? 0 : e; /* it may have said why before it hung up */
}

static status cannot_start(void)
{
    int e = errno;
    const char *path = supervisor.path;
    if (!supervisor.exe) return FAIL(ST_ESYS, "the sandbox supervisor is not running (box_boot was not called)");
    if (!path) return FAIL(ST_ESYS, "the sandbox supervisor could not be started: %s", strerror(e));
    if (e == EACCES)
        return FAIL(ST_EUNAVAIL, "sandbox.socket: %s: this user (id %u) may not connect; the daemon's --group decides",
                    path, geteuid());
    if (e == ENOENT || e == ECONNREFUSED)
        return FAIL(ST_EUNAVAIL, "sandbox.socket: no daemon listens at %s; start it with `codedance boxd --listen %s`",
                    path, path);
    if (e == ENAMETOOLONG)
        return FAIL(ST_EINVAL, "sandbox.socket: a socket's path has at most 107 bytes, this one %zu", strlen(path));
    return FAIL(ST_EUNAVAIL, "sandbox.socket: %s: %s", path,
                e == EPROTOTYPE ? "is a socket, but not of a sandbox daemon" : strerror(e));
}

/* Connects to where the pool shall be: the daemon of that path, or a supervisor of our own. */
static status reach(const char *path)
{
    if (path && !*path) path = NULL;
    bool same = path ? supervisor.path && !strcmp(path, supervisor.path) : !supervisor.path;
    if (!same) {
        supervisor_stop();
        free(supervisor.path);
        supervisor.path = path ? strdup(path) : NULL;
    }
    if (supervisor.sock >= 0) return ST_OK;
    errno = 0;
    return supervisor.exe && supervisor_start() == 0 ? ST_OK : cannot_start();
}

static status hear_answer(wire_reply *reply)
{
    for (double deadline = wire_now() + ANSWER_S; wire_now() < deadline;) {
        struct pollfd f = {supervisor.sock, POLLIN, 0};
        if (poll(&f, 1, 1000) < 0 && errno != EINTR) break;
        ssize_t n = wire_recv(supervisor.sock, reply, sizeof *reply, NULL, NULL, NULL, MSG_DONTWAIT);
        if (n == -ECONNRESET) /* told before what it said */
            n = wire_recv(supervisor.sock, reply, sizeof *reply, NULL, NULL, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN) continue;
        if (n > (ssize_t)sizeof(wire_head) && reply->h.op == OP_NOTE) continue;
        if (n == (ssize_t)sizeof *reply) return ST_OK;
        if (n >= (ssize_t)sizeof(wire_head) || n == -EMSGSIZE)
            return FAIL(ST_EUNAVAIL, "the sandbox daemon at %s is of another version of codedance",
                        supervisor.path ? supervisor.path : "?");
        return FAIL(ST_ESYS, "the sandbox supervisor %s", supervisor_bury());
    }
    return FAIL(ST_ESYS, "the sandbox supervisor does not answer");
}

status link_open(box_pool *p, const char *path, wire_reply *reply)
{
    TRY(reach(path));
    int e = ask(p);
    if (e) return FAIL(ST_ESYS, "the sandbox supervisor does not listen: %s", strerror(-e));
    TRY(hear_answer(reply));
    reply->text[sizeof reply->text - 1] = 0;
    if (reply->h.op == OP_POOL_FAIL) {
        if (supervisor.path) supervisor_stop();
        return FAIL((status)reply->code, "%s", reply->text);
    }
    p->tier = (box_tier)reply->tier;
    p->msg.min_tier = reply->tier; /* a run never goes on with less than it began with */
    p->link = LINK_UP;
    return ST_OK;
}

/* ---- again ---- */

void link_broken(box_pool *p, const char *why)
{
    if (p->link == LINK_BROKEN) return;
    supervisor_bury();
    link_drop(p);
    p->link = LINK_BROKEN;
    log_warn("sandbox: %s; given up: every further turn is INFRA, a failure of ours", why);
    client_interrupt(p);
}

static void try_later(box_pool *p)
{
    p->link = LINK_DOWN;
    p->next_try = wire_now() + p->wait;
    p->wait = fmin(4 * p->wait, LATE_S);
}

void link_died(box_pool *p)
{
    if (p->link == LINK_BROKEN || p->link == LINK_DOWN) return;
    const char *how = supervisor_bury();
    double now = wire_now();
    char why[256];
    link_drop(p);
    memmove(p->deaths, p->deaths + 1, sizeof p->deaths - sizeof *p->deaths);
    p->deaths[4] = now;
    if (p->deaths[0] > 0 && now - p->deaths[0] < DEATHS_S) {
        snprintf(why, sizeof why, "the supervisor %s, five times within %.0f s", how, DEATHS_S);
        link_broken(p, why);
        return;
    }
    if (p->deaths[3] == 0 || now - p->deaths[3] > DEATHS_S) p->wait = SOON_S;
    p->down_since = now;
    try_later(p);
    log_warn("sandbox: the supervisor %s; it is started again, and its %d turns under way once more", how,
             p->n_pending);
    client_interrupt(p);
}

static void try_now(box_pool *p)
{
    char why[256];
    if (supervisor_start() == 0) {
        p->link = LINK_ASKED;
        p->asked = wire_now();
        if (ask(p)) link_died(p);
    } else if (wire_now() - p->down_since > PATIENCE_S) {
        (void)cannot_start();
        snprintf(why, sizeof why, "not to be had again for %.0f s: %.200s", PATIENCE_S, fail_message());
        link_broken(p, why);
    } else {
        try_later(p);
    }
}

/* While turns are under way one ends within its time, or a jail that cannot be made does after 30 s: longer silence is
 * a supervisor that is stopped or stuck. */
static double patience(const box_pool *p)
{
    return p->n_pending ? p->msg.limits.wall_s + p->msg.limits.wall_grace_s + SILENCE_S : INFINITY;
}

link_state link_step(box_pool *p)
{
    if (p->link == LINK_UP && wire_now() > p->heard + patience(p)) {
        log_warn("sandbox: the supervisor says nothing for %.0f s and is ended", patience(p));
        link_died(p);
    }
    if (p->link == LINK_DOWN && wire_now() >= p->next_try) try_now(p);
    if (p->link == LINK_ASKED && wire_now() > p->asked + ANSWER_S) link_died(p);
    return p->link;
}

double link_wait(const box_pool *p)
{
    if (p->link == LINK_DOWN) return fmax(0, p->next_try - wire_now());
    if (p->link == LINK_UP) return fmax(0, p->heard + patience(p) - wire_now());
    return p->link == LINK_ASKED ? fmax(0, p->asked + ANSWER_S - wire_now()) : INFINITY;
}

void link_answer(box_pool *p, const wire_reply *r)
{
    char why[600];
    if (p->link == LINK_ASKED && r->h.op == OP_POOL_OK) {
        p->link = LINK_UP;
        p->heard = wire_now();
        client_restart(p);
        return;
    }
    snprintf(why, sizeof why, "the supervisor %s %.500s",
             p->link == LINK_ASKED ? "was started again, but" : "says:", r->text);
    link_broken(p, why);
}
