#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/client.h"

static status check_opts(const box_opts *o)
{
    const box_limits *l = &o->limits;
    if (l->wall_s <= 0 || l->wall_grace_s <= 0 || l->cpu_s <= 0 || l->memory_mib < 16 || l->tmp_mib < 1 ||
        l->output_kib_kept < 1 || l->output_kib_max < l->output_kib_kept || l->pids < 4 || l->images_per_turn < 0 ||
        l->image_max_pixels < 1 || l->image_max_side < 1)
        return FAIL(ST_EINVAL, "sandbox: a limit is zero or too small (memory_mib >= 16, tmp_mib >= 1, pids >= 4, "
                               "output_kib_max >= output_kib)");
    if (l->code_kib < 1 || l->code_kib > WIRE_CODE_MAX >> 10 || l->images_per_turn > WIRE_IMAGES ||
        l->output_kib_kept > 128)
        return FAIL(ST_EINVAL, "sandbox: at most %d KiB of code, %d images per turn, 128 KiB of output kept",
                    WIRE_CODE_MAX >> 10, WIRE_IMAGES);
    if (o->max_live < 1 || o->max_live > 4000 || o->spares < 0 || o->spares > 1000 || o->max_starting < 1)
        return FAIL(ST_EINVAL, "sandbox: max_live 1 to 4000, spares 0 to 1000, max_starting at least 1");
    return ST_OK;
}

static status pool_new(box_pool **out, const box_opts *o, wire_reply *reply)
{
    TRY(check_opts(o));
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
    p->msg = (wire_pool){.limits = o->limits,
                         .min_tier = (int)o->min_tier,
                         .spares = o->spares,
                         .max_live = o->max_live,
                         .max_starting = o->max_starting};
    status st = sizeof p->msg + n > WIRE_CODE_MAX
                    ? FAIL(ST_EINVAL, "sandbox.preset: longer than %d KiB", WIRE_CODE_MAX >> 10)
                    : link_open(p, reply);
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

box_tier box_pool_tier(const box_pool *p) { return p->tier; }

int box_doctor(const char *python, box_layer *out, int max, box_tier *tier)
{
    static wire_reply reply;
    memset(&reply, 0, sizeof reply);
    box_opts o = {.python = python, .min_tier = BOX_T2, .max_live = 1, .max_starting = 1};
    box_limits_default(&o.limits);
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
