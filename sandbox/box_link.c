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
static const double PATIENCE_S = 30; /* for somebody to start the daemon again */
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
    p->msg.h = (wire_head){.op = OP_POOL};
    return wire_send(supervisor.sock, &p->msg, sizeof p->msg, p->strings, p->n_strings, NULL, 0);
}

status link_open(box_pool *p, wire_reply *reply)
{
    if (supervisor.sock < 0 && supervisor.exe) supervisor_start();
    if (supervisor.sock < 0)
        return FAIL(ST_ESYS, "the sandbox supervisor is not running (%s)",
                    supervisor.exe ? "it could not be started" : "box_boot was not called");
    int e = ask(p);
    for (double deadline = wire_now() + ANSWER_S; !e;) {
        struct pollfd f = {supervisor.sock, POLLIN, 0};
        if (poll(&f, 1, 1000) < 0 && errno != EINTR) e = -errno;
        ssize_t n = wire_recv(supervisor.sock, reply, sizeof *reply, NULL, NULL, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN && wire_now() < deadline) continue;
        if (n < (ssize_t)sizeof *reply)
            return FAIL(ST_ESYS, "the sandbox supervisor %s", n == -EAGAIN ? "does not answer" : "died");
        reply->text[sizeof reply->text - 1] = 0;
        if (reply->h.op == OP_POOL_FAIL) return FAIL((status)reply->code, "%s", reply->text);
        p->tier = (box_tier)reply->tier;
        p->msg.min_tier = reply->tier; /* a run never goes on with less than it began with */
        p->link = LINK_UP;
        return ST_OK;
    }
    return FAIL(ST_ESYS, "the sandbox supervisor died: %s", strerror(-e));
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
        snprintf(why, sizeof why, "the supervisor could not be started again for %.0f s: %s", PATIENCE_S,
                 strerror(errno));
        link_broken(p, why);
    } else {
        try_later(p);
    }
}

link_state link_step(box_pool *p)
{
    if (p->link == LINK_DOWN && wire_now() >= p->next_try) try_now(p);
    if (p->link == LINK_ASKED && wire_now() > p->asked + ANSWER_S) link_died(p);
    return p->link;
}

double link_wait(const box_pool *p)
{
    if (p->link == LINK_DOWN) return fmax(0, p->next_try - wire_now());
    return p->link == LINK_ASKED ? fmax(0, p->asked + ANSWER_S - wire_now()) : INFINITY;
}

void link_answer(box_pool *p, const wire_reply *r)
{
    char why[600];
    if (p->link == LINK_ASKED && r->h.op == OP_POOL_OK) {
        p->link = LINK_UP;
        client_restart(p);
        return;
    }
    snprintf(why, sizeof why, "the supervisor %s %.500s",
             p->link == LINK_ASKED ? "was started again, but" : "says:", r->text);
    link_broken(p, why);
}
