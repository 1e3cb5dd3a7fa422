#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/client.h"

/* ---- ends of turns ---- */

static void finish(box *b)
{
    b->pending = false;
    b->ended = true;
    b->pool->n_pending--;
    b->next_done = NULL;
    *b->pool->done_end = b;
    b->pool->done_end = &b->next_done;
}

static void finish_empty(box *b, box_verdict v)
{
    b->result = (box_result){.verdict = v, .text = strdup(""), .tier = b->pool->tier, .state_lost = b->has_state};
    CHECK(b->result.text);
    b->lost = b->has_state;
    finish(b);
}

void client_died(box_pool *p)
{
    supervisor_bury();
    client_drop(p);
    for (int i = 0; i < p->n_slot; i++)
        if (p->slot[i] && p->slot[i]->pending) finish_empty(p->slot[i], BOX_INFRA);
}

static void on_result(box_pool *p, const wire_result *w, size_t n, int fd)
{
    box *b = w->h.id < (uint32_t)p->n_slot ? p->slot[w->h.id] : NULL;
    if (!b || !b->pending || b->ticket != w->h.nonce) return; /* the box was closed meanwhile */
    box_result *r = &b->result;
    if (!client_result(r, w, n, fd, &p->msg.limits)) {
        finish_empty(b, BOX_INFRA);
        return;
    }
    b->has_state |= r->verdict == BOX_OK || r->verdict == BOX_EXIT;
    b->lost |= r->state_lost;
    finish(b);
}

/* Takes everything that has arrived. */
static void drain(box_pool *p)
{
    while (supervisor.sock >= 0) {
        int fds[WIRE_FDS], n_fd = 0;
        ssize_t n = wire_recv(supervisor.sock, p->buf, WIRE_MSG_MAX, fds, &n_fd, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN) return;
        const wire_result *w = (const wire_result *)p->buf;
        if (n < (ssize_t)sizeof w->h) {
            client_died(p);
            return;
        }
        if (w->h.op == OP_RESULT && n >= (ssize_t)sizeof *w) on_result(p, w, (size_t)n, n_fd ? fds[0] : -1);
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
    b->pending = true;
    p->n_pending++;
    b->turn++;
    if (len > (size_t)p->msg.limits.code_kib << 10) {
        b->pending = false;
        p->n_pending--;
        return FAIL(ST_EINVAL, "sandbox.code_kib: the code has %zu bytes, at most %lld KiB are run", len,
                    (long long)p->msg.limits.code_kib);
    }
    if (b->lost) {
        finish_empty(b, BOX_DEAD);
        return ST_OK;
    }
    if (!client_revive(p)) {
        finish_empty(b, BOX_INFRA);
        return ST_OK;
    }
    if (b->generation != supervisor.generation) {
        if (b->has_state) {
            finish_empty(b, BOX_DEAD);
            return ST_OK;
        }
        wire_run open = {.h = {.op = OP_OPEN, .id = b->id}, .seed = b->seed, .has_input = b->in != NULL};
        b->generation = supervisor.generation;
        client_post(p, &open, sizeof open, NULL, 0, b->in ? b->in->fd : -1);
    }
    b->ticket = ++p->ticket;
    wire_run m = {.h = {.op = OP_EXEC, .id = b->id, .turn = b->turn, .nonce = b->ticket}};
    if (b->pending) client_post(p, &m, sizeof m, code, len, -1);
    return ST_OK;
}

int box_poll(box_pool *p, box **done, int max, int timeout_ms)
{
    double deadline = wire_now() + 1e-3 * timeout_ms;
    for (;;) {
        client_flush(p);
        drain(p);
        double left = deadline - wire_now();
        if (p->done || p->n_pending == 0 || left <= 0) break;
        struct pollfd f = {supervisor.sock, (short)(p->out ? POLLIN | POLLOUT : POLLIN), 0};
        poll(&f, 1, (int)(1e3 * left) + 1);
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
    if (b->generation == supervisor.generation && supervisor.sock >= 0) client_post(p, &h, sizeof h, NULL, 0, -1);
    box_input_release(b->in);
    free(b);
}
