#include "sandbox/boxd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

boxrec *boxrec_new(boxd *b, uint32_t id)
{
    boxrec *x = calloc(1, sizeof *x);
    if (!x) _exit(1); /* everything below ends with us, and the client reports it as infrastructure */
    x->id = id;
    x->input = -1;
    x->head = malloc((size_t)b->pool.limits.output_kib_kept << 10);
    if (!x->head) _exit(1);
    x->wall_s = b->pool.limits.wall_s;
    return x;
}

void boxrec_free(boxd *b, boxrec *x)
{
    for (int out = 0; out < 2; out++) {
        boxrec **p = out ? &b->outbox : &b->queue;
        while (*p && *p != x) p = &(*p)->next;
        if (*p) *p = x->next;
        boxrec **end = out ? &b->outbox : &b->queue;
        while (*end) end = &(*end)->next;
        *(out ? &b->outbox_end : &b->queue_end) = end;
    }
    if (x->jail) pool_box_release(b, x);
    if (x->input >= 0) close(x->input);
    free(x->code);
    free(x->head);
    free(x->result_body);
    free(x);
}

/* ---- output: the first three quarters and the last quarter of what may be kept ---- */

static size_t kept(const boxd *b) { return (size_t)b->pool.limits.output_kib_kept << 10; }
static size_t head_size(const boxd *b) { return kept(b) / 4 * 3; }

static void keep_output(boxd *b, boxrec *x, const char *p, size_t n)
{
    x->n_out += (int64_t)n;
    size_t room = head_size(b) - x->n_head, k = n < room ? n : room;
    memcpy(x->head + x->n_head, p, k);
    x->n_head += k;
    p += k;
    n -= k;
    size_t size = kept(b) - head_size(b);
    char *tail = x->head + head_size(b);
    if (n > size) {
        p += n - size;
        n = size;
    }
    for (size_t part; n; n -= part, p += part) {
        part = n < size - x->tail_at ? n : size - x->tail_at;
        memcpy(tail + x->tail_at, p, part);
        x->tail_at = (x->tail_at + part) % size;
    }
}

void boxrec_read_output(boxd *b, jailrec *j)
{
    boxrec *x = j->box && j->box->state == BOX_TURN ? j->box : NULL;
    for (int i = 0; i < 8; i++) { /* a flooding box gets its share, not the whole loop */
        ssize_t n = read(j->out, b->buf, 64 << 10);
        if (n <= 0) return;
        if (!x) continue; /* between turns: nobody's */
        keep_output(b, x, b->buf, (size_t)n);
        if (x->n_out > b->pool.limits.output_kib_max << 10 && x->stage < 2) {
            x->cause = BOX_OUTPUT;
            x->stage = 2;
            x->deadline = wire_now() + BOXD_ANSWER_S;
            wire_head k = {.op = OP_KILL};
            wire_send(j->ctl, &k, sizeof k, NULL, 0, NULL, 0);
        }
        if (n < 64 << 10) return;
    }
}

void boxrec_forget_output(boxrec *x)
{
    x->n_head = x->tail_at = 0;
    x->n_out = 0;
}

/* head, a mark where bytes were dropped, tail; malloc'ed */
static char *take_output(boxd *b, boxrec *x, int32_t *len, int32_t *truncated)
{
    size_t size = kept(b) - head_size(b);
    int64_t beyond = x->n_out - (int64_t)x->n_head;
    size_t n_tail = beyond > (int64_t)size ? size : (size_t)beyond;
    char mark[64] = "";
    *truncated = beyond > (int64_t)size;
    if (*truncated)
        snprintf(mark, sizeof mark, "\n[... %lld bytes left out ...]\n", (long long)(beyond - (int64_t)size));
    size_t m = strlen(mark), at = beyond > (int64_t)size ? x->tail_at : 0;
    char *s = malloc(x->n_head + m + n_tail + WIRE_MESSAGE_MAX + 2);
    if (!s) _exit(1);
    memcpy(s, x->head, x->n_head); /* bytes, not strings */
    for (size_t i = 0; i < m; i++) s[x->n_head + i] = mark[i];
    for (size_t i = 0; i < n_tail; i++) s[x->n_head + m + i] = x->head[head_size(b) + (at + i) % size];
    *len = (int32_t)(x->n_head + m + n_tail);
    return s;
}

/* ---- results ---- */

static int send_result(boxd *b, boxrec *x)
{
    wire_result *r = &x->result;
    int fd = r->n_image > 0 && x->jail ? x->jail->img : -1;
    int e =
        wire_send(b->client, r, sizeof *r, x->result_body, (size_t)r->text_len + (size_t)r->message_len, &fd, fd >= 0);
    if (e == -EAGAIN) return e;
    free(x->result_body);
    x->result_body = NULL;
    x->state = BOX_IDLE;
    return e;
}

static void deliver(boxd *b, boxrec *x)
{
    x->state = BOX_REPLY;
    free(x->code);
    x->code = NULL;
    if (x->canary) {
        char *message = x->result_body + x->result.text_len;
        memmove(message + 1, message, (size_t)x->result.message_len);
        message[0] = message[1 + x->result.message_len] = 0; /* two strings, one after the other */
        x->state = BOX_IDLE;
        b->canary_result = x->result;
        b->canary_text = x->result_body;
        x->result_body = NULL;
        b->canary_ready = true;
        return;
    }
    if (b->outbox || send_result(b, x) == -EAGAIN) {
        x->next = NULL;
        *b->outbox_end = x;
        b->outbox_end = &x->next;
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.u64 = EV_CLIENT};
        epoll_ctl(b->ep, EPOLL_CTL_MOD, b->client, &ev);
    }
}

void boxrec_flush(boxd *b)
{
    while (b->outbox) {
        boxrec *x = b->outbox, *next = x->next;
        if (send_result(b, x) == -EAGAIN) return;
        b->outbox = next;
    }
    b->outbox_end = &b->outbox;
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = EV_CLIENT};
    epoll_ctl(b->ep, EPOLL_CTL_MOD, b->client, &ev);
}

void boxrec_turn_end(boxd *b, boxrec *x, const wire_end *e)
{
    wire_result *r = &x->result;
    double now = wire_now();
    memset(r, 0, sizeof *r);
    r->h = (wire_head){.op = OP_RESULT, .id = x->id, .turn = x->turn, .nonce = x->ticket};
    if (x->jail) boxrec_read_output(b, x->jail);
    double cpu = x->jail ? cgroup_cpu_ms(&b->cg, x->jail->cg) : -1;
    x->cpu_ms = cpu < 0 ? -1 : cpu - x->cpu_before;
    bool keep = false;
    box_verdict v = verdict_of(b, x, e, &r->code, &keep);
    r->verdict = (int)v;
    schedule_ended(x, now);
    r->wall_ms = 1e3 * (now - x->started - x->paused_s);
    r->queue_ms = 1e3 * (x->started - x->queued + x->paused_s);
    r->tier = (int)b->tier;
    r->state_lost = x->has_state && (!e || (e->state_lost && !keep));
    if (e) {
        r->cpu_ms = e->cpu_ms;
        r->peak_mib = (double)e->max_rss_kib / 1024;
    }
    if (x->cpu_ms >= 0) r->cpu_ms = x->cpu_ms;
    double peak = x->jail ? cgroup_peak_mib(&b->cg, x->jail->cg) : -1;
    if (peak >= 0) r->peak_mib = peak;
    r->error_line = 0;
    const wire_claim *c = e && e->has_claim ? &e->claim : NULL;
    if (c && (v == BOX_OK || v == BOX_PY_ERROR || v == BOX_EXIT || v == BOX_PIDS || v == BOX_TIMEOUT_SOFT)) {
        memcpy(r->error_type, c->type, sizeof r->error_type);
        r->error_type[sizeof r->error_type - 1] = 0;
        memcpy(r->error_source, c->source, sizeof r->error_source);
        r->error_line = c->line;
        r->message_len = c->message_len;
    }
    int32_t truncated;
    x->result_body = take_output(b, x, &r->text_len, &truncated);
    if (c && r->message_len) memcpy(x->result_body + r->text_len, c->message, (size_t)r->message_len);
    r->truncated = truncated;
    if (c && keep) {
        r->n_image = c->n_image;
        memcpy(r->image, c->image, sizeof r->image);
        r->truncated |= c->images_dropped > 0;
    }
    if (keep) x->has_state = true;
    deliver(b, x); /* first: burying the state before takes the processor for longer than a turn of nothing */
    if (x->jail && e) {
        wire_head judge = {.op = keep ? OP_COMMIT : OP_ROLLBACK};
        wire_send(x->jail->ctl, &judge, sizeof judge, NULL, 0, NULL, 0);
        pool_jail_state(b, x->jail, JAIL_PARKED);
        pool_jail_count(b, x->jail);
        if (e->state_lost && !keep) x->dead = x->has_state;
        if (e->protocol) x->jail->uses = 1 << 20; /* not to be used by another box */
    } else {
        x->dead = x->has_state;
    }
}

/* The turn did not run, or nobody can say how it ended. */
void boxrec_fail_turn(boxd *b, boxrec *x, box_verdict v)
{
    if (x->started == 0) x->started = wire_now();
    x->cause = v;
    x->stage = 3;
    boxrec_turn_end(b, x, NULL);
}
