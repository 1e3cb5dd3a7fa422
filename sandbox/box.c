#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "sandbox/client.h"

/* ---- ends of turns ---- */

static void finish(box *b)
{
    b->pending = b->waiting = false;
    b->ended = true;
    free(b->code);
    b->code = NULL;
    b->result.replayed = b->replayed;
    b->pool->n_pending--;
    b->next_done = NULL;
    *b->pool->done_end = b;
    b->pool->done_end = &b->next_done;
}

/* A result of nobody's: why may be NULL. */
static void finish_empty(box *b, box_verdict v, const char *why)
{
    b->result = (box_result){.verdict = v, .text = strdup(""), .tier = b->pool->tier, .state_lost = b->has_state};
    b->result.error_message = why ? strdup(why) : NULL;
    CHECK(b->result.text && (b->result.error_message || !why));
    b->lost = b->has_state;
    finish(b);
}

/* ---- a turn, and the turns before it where a fresh box has to catch up ---- */

static void send_turn(box *b)
{
    box_pool *p = b->pool;
    const past_turn now = {.turn = b->turn, .code = b->code, .len = b->len};
    const past_turn *t = b->at < b->n_past ? &b->past[b->at] : &now;
    b->ticket = ++p->ticket;
    wire_run m = {.h = {.op = OP_EXEC, .id = b->id, .turn = t->turn, .nonce = b->ticket}};
    link_post(p, &m, sizeof m, t->code, t->len, -1);
}

/* Needs the link to be up. */
static void begin(box *b)
{
    b->waiting = false;
    if (b->generation != supervisor.generation) {
        wire_run open = {.h = {.op = OP_OPEN, .id = b->id}, .seed = b->seed, .has_input = b->in != NULL};
        b->generation = supervisor.generation;
        b->at = 0;
        b->replayed |= b->n_past > 0;
        link_post(b->pool, &open, sizeof open, NULL, 0, b->in ? b->in->fd : -1);
    }
    if (!b->waiting) send_turn(b); /* waiting: the link went down under us */
}

/* The supervisor forgets b; its next turn opens it anew. */
static void abandon(box *b)
{
    bool known = b->generation == supervisor.generation;
    b->generation = 0;
    wire_head h = {.op = OP_CLOSE, .id = b->id};
    if (known) link_post(b->pool, &h, sizeof h, NULL, 0, -1);
}

/* The sandbox failed in b's turn: once more from the start in a fresh box, if that has not been tried. False: it ends
 * here. */
static bool again(box *b)
{
    if (b->retried || !replay_can(b)) return false;
    b->retried = b->replayed = b->waiting = true;
    abandon(b);
    return true;
}

static void fail(box *b, const char *why)
{
    if (!again(b)) finish_empty(b, BOX_INFRA, why);
}

/* The code lost the state of its earlier turns, in a way that only running them again can mend. */
static void fail_dead(box *b)
{
    b->own_doing = true;
    if (!b->n_past || !again(b)) finish_empty(b, BOX_DEAD, "the state of earlier turns is lost");
}

void client_interrupt(box_pool *p)
{
    for (int i = 0; i < p->n_slot; i++) {
        box *b = p->slot[i];
        if (!b || !b->pending) continue;
        if (p->link == LINK_BROKEN)
            finish_empty(b, BOX_INFRA, "the sandbox's supervisor is gone for good");
        else if (!b->waiting)
            fail(b, "the sandbox's supervisor died, in the second try, too");
    }
}

void client_restart(box_pool *p)
{
    for (int i = 0; i < p->n_slot && p->link == LINK_UP; i++)
        if (p->slot[i] && p->slot[i]->waiting) begin(p->slot[i]);
}

/* An earlier turn was run again: the state may be built on only if it did the same. */
static void on_replayed(box *b)
{
    box_result r = b->result;
    const past_turn *t = &b->past[b->at];
    b->result = (box_result){0};
    if (r.verdict == BOX_INFRA) {
        fail(b, "the sandbox failed while earlier turns were run again");
    } else if (replay_print(&r) != t->print) {
        char why[160];
        snprintf(why, sizeof why, "turn %u, run again in a fresh box, gave something else (%s)", t->turn,
                 box_verdict_name(r.verdict));
        finish_empty(b, b->own_doing ? BOX_DEAD : BOX_INFRA, why);
    } else {
        b->at++;
        send_turn(b);
    }
    box_result_free(&r);
}

static void on_result(box_pool *p, const wire_result *w, size_t n, int fd)
{
    box *b = w->h.id < (uint32_t)p->n_slot ? p->slot[w->h.id] : NULL;
    if (!b || !b->pending || b->waiting || b->ticket != w->h.nonce) return; /* closed or started again meanwhile */
    box_result *r = &b->result;
    if (!client_result(r, w, n, fd, &p->msg.limits)) {
        fail(b, "the pictures of a result could not be read");
    } else if (b->at < b->n_past) {
        on_replayed(b);
    } else if (r->verdict == BOX_INFRA) {
        box_result_free(r);
        fail(b, "the box died, in the second try, too");
    } else if (r->verdict == BOX_DEAD) {
        box_result_free(r);
        fail_dead(b);
    } else {
        if (b->replayed) r->queue_ms = 1e3 * (wire_now() - b->submitted) - r->wall_ms;
        b->own_doing = r->state_lost;
        bool mend = r->state_lost && b->n_past; /* a killed turn is undone by making the state again when it is needed */
        if (mend) r->state_lost = false;
        if (r->state_lost) replay_forget(b);
        if (r->verdict == BOX_OK || r->verdict == BOX_EXIT) {
            replay_keep(b, replay_print(r));
            b->at = b->n_past;
            b->has_state = true;
        }
        b->lost |= r->state_lost;
        finish(b);
        if (mend) abandon(b);
    }
    if (b->waiting && p->link == LINK_UP) begin(b);
}

/* Takes everything that has arrived. */
static void drain(box_pool *p)
{
    while (supervisor.sock >= 0) {
        int fds[WIRE_FDS], n_fd = 0;
        ssize_t n = wire_recv(supervisor.sock, p->buf, WIRE_MSG_MAX, fds, &n_fd, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN) return;
        const wire_head *h = (const wire_head *)p->buf;
        p->heard = wire_now();
        if (n < (ssize_t)sizeof *h) {
            link_died(p);
            return;
        }
        if (h->op == OP_RESULT && n >= (ssize_t)sizeof(wire_result))
            on_result(p, (const wire_result *)p->buf, (size_t)n, n_fd ? fds[0] : -1);
        if ((h->op == OP_POOL_OK || h->op == OP_POOL_FAIL) && n >= (ssize_t)sizeof(wire_reply))
            link_answer(p, (const wire_reply *)p->buf);
        if (h->op == OP_NOTE) log_warn("sandbox: %.*s", (int)(n - (ssize_t)sizeof *h), (const char *)(h + 1));
        for (int i = 0; i < n_fd; i++) close(fds[i]);
    }
}

/* ---- boxes ---- */

status box_open(box_pool *p, uint64_t seed, box_input *in, box **out)
{
    int id = 0;
    while (id < p->n_slot && p->slot[id]) id++;
    if (id == p->n_slot) return FAIL(ST_EAGAIN, "sandbox.max_live: all %d boxes are in use", p->n_slot);
    box *b = calloc(1, sizeof *b);
    if (!b) return FAIL(ST_ENOMEM, "sandbox: no memory for a box");
    *b = (box){.pool = p, .id = (uint32_t)id, .seed = seed, .in = in};
    if (in) in->refs++;
    p->slot[id] = b;
    *out = b;
    return ST_OK;
}

void box_set_user(box *b, void *user) { b->user = user; }
void *box_user(const box *b) { return b->user; }

status box_submit(box *b, const char *code, size_t len)
{
    box_pool *p = b->pool;
    CHECK(!b->pending && !b->ended);
    b->turn++;
    if (len > (size_t)p->msg.limits.code_kib << 10)
        return FAIL(ST_EINVAL, "sandbox.code_kib: the code has %zu bytes, at most %lld KiB are run", len,
                    (long long)p->msg.limits.code_kib);
    b->code = malloc(len + 1);
    if (!b->code) return FAIL(ST_ENOMEM, "sandbox: no memory for %zu bytes of code", len);
    memcpy(b->code, code, len);
    b->len = len;
    b->pending = b->waiting = true;
    b->retried = b->replayed = false;
    b->submitted = wire_now();
    if (p->n_pending++ == 0) p->heard = b->submitted;
    if (b->lost) {
        finish_empty(b, BOX_DEAD, NULL);
        return ST_OK;
    }
    link_state link = link_step(p);
    if (link == LINK_BROKEN)
        finish_empty(b, BOX_INFRA, "the sandbox's supervisor is gone for good");
    else if (b->generation && b->generation != supervisor.generation && !replay_can(b))
        finish_empty(b, BOX_INFRA, "the state died with the sandbox's supervisor and is too much to be made again");
    else if (link == LINK_UP)
        begin(b);
    return ST_OK;
}

int box_poll(box_pool *p, box **done, int max, int timeout_ms)
{
    double deadline = wire_now() + 1e-3 * timeout_ms;
    for (;;) {
        link_step(p);
        if (p->link == LINK_UP) link_flush(p);
        drain(p);
        double left = fmin(deadline - wire_now(), link_wait(p));
        if (p->done || p->n_pending == 0 || deadline <= wire_now()) break;
        struct pollfd f = {supervisor.sock, (short)(p->out ? POLLIN | POLLOUT : POLLIN), 0};
        poll(&f, 1, (int)(1e3 * fmax(left, 0)) + 1);
    }
    int n = 0;
    while (p->done && n < max) {
        done[n] = p->done;
        p->done = done[n++]->next_done;
    }
    if (!p->done) p->done_end = &p->done;
    return n;
}

void box_result_take(box *b, box_result *out)
{
    CHECK(b->ended);
    *out = b->result;
    b->result = (box_result){0};
    b->ended = false;
}

void box_close(box *b)
{
    if (!b) return;
    box_pool *p = b->pool;
    p->slot[b->id] = NULL;
    if (b->pending) p->n_pending--;
    box **d = &p->done;
    while (*d && *d != b) d = &(*d)->next_done;
    if (*d) *d = b->next_done;
    p->done_end = &p->done;
    while (*p->done_end) p->done_end = &(*p->done_end)->next_done;
    box_result_free(&b->result);
    wire_head h = {.op = OP_CLOSE, .id = b->id};
    if (b->generation == supervisor.generation) link_post(p, &h, sizeof h, NULL, 0, -1);
    replay_forget(b);
    free(b->code);
    box_input_release(b->in);
    free(b);
}
