#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/client.h"
#include "sandbox/limits.h"
#include "sandbox/listen.h"

/* The message that asks for o, without its strings. */
static wire_pool pool_message(const box_opts *o)
{
    return (wire_pool){.limits = o->limits,
                       .min_tier = (int)o->min_tier,
                       .spares = o->spares,
                       .max_live = o->max_live,
                       .max_starting = o->max_starting};
}

static status pool_new(box_pool **out, const box_opts *o, wire_reply *reply)
{
    wire_pool msg = pool_message(o);
    TRY(limits_check(&msg, NULL));
    if (supervisor.pool) return FAIL(ST_EINVAL, "sandbox: one pool per process, and this process has one");
    box_pool *p = calloc(1, sizeof *p);
    CHECK(p);
    p->out_end = &p->out;
    p->done_end = &p->done;
    p->n_slot = o->max_live;
    p->slot = calloc((size_t)p->n_slot, sizeof(box *));
    p->buf = malloc(WIRE_MSG_MAX);
    size_t n = 3 + (o->preset ? strlen(o->preset) : 0) + (o->python ? strlen(o->python) : 0);
    for (const char *const *m = o->imports; m && *m; m++) n += strlen(*m) + 1;
    p->strings = malloc(n);
    CHECK(p->slot && p->buf && p->strings);
    char *s = p->strings;
    for (const char *const *m = o->imports; m && *m; m++) s = stpcpy(s, *m) + 1;
    *s++ = 0;
    s = stpcpy(s, o->preset ? o->preset : "") + 1;
    stpcpy(s, o->python ? o->python : "");
    p->n_strings = n;
    p->msg = msg;
    status st = sizeof p->msg + n > WIRE_CODE_MAX
                    ? FAIL(ST_EINVAL, "sandbox.preset: longer than %d KiB", WIRE_CODE_MAX >> 10)
                    : link_open(p, o->socket, reply);
    if (st != ST_OK) {
        box_pool_destroy(p);
        return st;
    }
    supervisor.pool = p;
    *out = p;
    return ST_OK;
}

status box_pool_create(box_pool **out, const box_opts *o)
{
    static wire_reply reply;
    return pool_new(out, o, &reply);
}

void box_pool_destroy(box_pool *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_slot; i++) CHECK(!p->slot[i]); /* boxes are closed before their pool */
    if (supervisor.pool == p) {
        supervisor.pool = NULL;
        wire_head h = {.op = OP_POOL_END};
        if (supervisor.sock >= 0) link_post(p, &h, sizeof h, NULL, 0, -1);
        for (int i = 0; p->out && supervisor.sock >= 0 && i < 100; i++) {
            struct pollfd f = {supervisor.sock, POLLOUT, 0};
            poll(&f, 1, 100);
            link_flush(p);
        }
    }
    link_drop(p);
    free(p->slot);
    free(p->buf);
    free(p->strings);
    free(p);
}

status box_listen(const char *path, const char *group, int max_clients, const box_opts *most, const volatile int *stop)
{
    wire_pool ceiling = pool_message(most);
    TRY(limits_check(&ceiling, NULL));
    return listen_run(path, group, max_clients, &ceiling, most->python ? most->python : "", stop);
}

box_tier box_pool_tier(const box_pool *p) { return p->tier; }

int box_doctor(const box_opts *base, box_layer *out, int max, box_tier *tier)
{
    static wire_reply reply;
    memset(&reply, 0, sizeof reply);
    box_opts o = {.limits = base->limits,
                  .python = base->python,
                  .socket = base->socket,
                  .min_tier = BOX_T2,
                  .max_live = 1,
                  .max_starting = 1};
    box_pool *p = NULL;
    status st = pool_new(&p, &o, &reply);
    *tier = st == ST_OK ? box_pool_tier(p) : BOX_T3;
    box_pool_destroy(p);
    int n = 0;
    if (st != ST_OK && n < max) {
        box_layer *l = &out[n++];
        *l = (box_layer){.ok = false};
        snprintf(l->name, sizeof l->name, "sandbox");
        snprintf(l->evidence, sizeof l->evidence, "%s", fail_message());
        snprintf(l->remedy, sizeof l->remedy, "see sandbox/README.md, \"Tiers\"");
    }
    for (int i = 0; i < reply.n_layer && i < WIRE_LAYERS && n < max; i++, n++) {
        out[n].ok = reply.layer[i].ok;
        memcpy(out[n].name, reply.layer[i].name, sizeof out[n].name);
        memcpy(out[n].evidence, reply.layer[i].evidence, sizeof out[n].evidence);
        memcpy(out[n].remedy, reply.layer[i].remedy, sizeof out[n].remedy);
    }
    return n;
}
