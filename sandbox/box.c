#include "sandbox/box.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/supervisor.h"

struct box_input {
    int fd, refs;
};

typedef struct out_msg {
    struct out_msg *next;
    int fd;
    size_t n;
    char bytes[];
} out_msg;

struct box {
    box_pool *pool;
    uint32_t id, turn;
    uint64_t seed, ticket;
    int generation; /* of the supervisor that knows this box; 0 = none yet */
    bool pending, ended, has_state, lost;
    box_input *in;
    box_result result;
    void *user;
    box *next_done;
};

struct box_pool {
    wire_pool msg;
    char *strings;
    size_t n_strings;
    box_tier tier;
    box **slot;
    int n_slot, n_pending;
    uint64_t ticket;
    out_msg *out, **out_end;
    box *done, **done_end;
    char *buf;
};

/* ---- messages out: kept in order, never blocking ---- */

static void supervisor_died(box_pool *p);

static void post(box_pool *p, void *msg, size_t n, const void *body, size_t n_body, int fd)
{
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
        supervisor_died(p);
    }
}

static void drop_out(box_pool *p)
{
    while (p->out) {
        out_msg *m = p->out;
        p->out = m->next;
        if (m->fd >= 0) close(m->fd);
        free(m);
    }
    p->out_end = &p->out;
}

static void flush_out(box_pool *p)
{
    while (p->out) {
        out_msg *m = p->out;
        int e = wire_send(supervisor.sock, m->bytes, m->n, NULL, 0, &m->fd, m->fd >= 0);
        if (e == -EAGAIN) return;
        if (e) {
            supervisor_died(p);
            return;
        }
        p->out = m->next;
        if (!p->out) p->out_end = &p->out;
        if (m->fd >= 0) close(m->fd);
        free(m);
    }
}

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

static void supervisor_died(box_pool *p)
{
    supervisor_bury();
    drop_out(p);
    for (int i = 0; i < p->n_slot; i++)
        if (p->slot[i] && p->slot[i]->pending) finish_empty(p->slot[i], BOX_INFRA);
}

/* Printable UTF-8: what is not becomes \xNN, so that any bytes can go to a tokenizer and into a C string. */
static char *clean_text(const char *s, size_t n)
{
    char *out = malloc(4 * n + 1), *o = out;
    CHECK(out);
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        int k = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
        bool ok = k && i + (size_t)k <= n;
        for (int j = 1; ok && j < k; j++) ok = ((unsigned char)s[i + (size_t)j] & 0xc0) == 0x80;
        if (ok && k == 3) {
            unsigned v = (unsigned)(c & 15) << 12 | (unsigned)((unsigned char)s[i + 1] & 63) << 6;
            ok = v >= 0x800 && (v < 0xd800 || v > 0xdfff);
        }
        if (ok && k == 4) {
            unsigned v = (unsigned)(c & 7) << 18 | (unsigned)((unsigned char)s[i + 1] & 63) << 12;
            ok = v >= 0x10000 && v < 0x110000;
        }
        if (ok && k == 1) ok = c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f);
        if (ok) {
            memcpy(o, s + i, (size_t)k);
            o += k;
            i += (size_t)k;
        } else {
            if (!(c == '\r' && i + 1 < n && s[i + 1] == '\n')) o += sprintf(o, "\\x%02x", c);
            i++;
        }
    }
    *o = 0;
    char *fit = realloc(out, (size_t)(o - out) + 1);
    return fit ? fit : out;
}

/* Copies the pictures out of the box's memfd; the numbers were checked by boxd and are checked again. */
static bool take_images(box_result *r, const wire_result *w, int fd, const box_limits *l)
{
    if (!wire_images_ok(w->image, w->n_image, l)) return false;
    if (w->n_image == 0) return true;
    r->images = calloc((size_t)w->n_image, sizeof *r->images);
    CHECK(r->images);
    for (int i = 0; i < w->n_image; i++) {
        size_t n = 3u * (size_t)w->image[i].w * (size_t)w->image[i].h;
        uint8_t *rgb = malloc(n);
        CHECK(rgb);
        r->images[r->n_image++] = (box_image){w->image[i].w, w->image[i].h, rgb};
        for (size_t at = 0; at < n;) {
            ssize_t k = pread(fd, rgb + at, n - at, w->image[i].offset + (off_t)at);
            if (k < 0 && errno == EINTR) continue;
            if (k <= 0) return false;
            at += (size_t)k;
        }
    }
    return true;
}

static void on_result(box_pool *p, const wire_result *w, size_t n, int fd)
{
    box *b = w->h.id < (uint32_t)p->n_slot ? p->slot[w->h.id] : NULL;
    if (!b || !b->pending || b->ticket != w->h.nonce) return; /* the box was closed meanwhile */
    const char *text = (const char *)(w + 1);
    if (w->text_len < 0 || w->message_len < 0 || sizeof *w + (size_t)w->text_len + (size_t)w->message_len > n) {
        finish_empty(b, BOX_INFRA);
        return;
    }
    box_result *r = &b->result;
    *r = (box_result){.verdict = (box_verdict)w->verdict,
                      .code = w->code,
                      .truncated = w->truncated,
                      .error_line = w->error_line,
                      .wall_ms = w->wall_ms,
                      .cpu_ms = w->cpu_ms,
                      .queue_ms = w->queue_ms,
                      .peak_mib = w->peak_mib,
                      .state_lost = w->state_lost,
                      .tier = (box_tier)w->tier};
    r->text = clean_text(text, (size_t)w->text_len);
    if (w->message_len || w->error_type[0]) r->error_message = clean_text(text + w->text_len, (size_t)w->message_len);
    char *type = clean_text(w->error_type, strnlen(w->error_type, sizeof w->error_type));
    snprintf(r->error_type, sizeof r->error_type, "%s", type);
    free(type);
    if (!take_images(r, w, fd, &p->msg.limits)) {
        box_result_free(r);
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
            supervisor_died(p);
            return;
        }
        if (w->h.op == OP_RESULT && n >= (ssize_t)sizeof *w) on_result(p, w, (size_t)n, n_fd ? fds[0] : -1);
        for (int i = 0; i < n_fd; i++) close(fds[i]);
    }
}

/* ---- pools ---- */

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

/* Sends the pool to the supervisor and waits for what the canaries say. */
static status configure(box_pool *p, wire_reply *reply)
{
    if (supervisor.sock < 0)
        return FAIL(ST_ESYS, "the sandbox supervisor is not running (%s)",
                    supervisor.exe ? "it could not be started" : "box_boot was not called");
    p->msg.h = (wire_head){.op = OP_POOL};
    int e = wire_send(supervisor.sock, &p->msg, sizeof p->msg, p->strings, p->n_strings, NULL, 0);
    double deadline = wire_now() + 180; /* importing large libraries from a cold disk */
    while (!e) {
        struct pollfd f = {supervisor.sock, POLLIN, 0};
        if (poll(&f, 1, 1000) < 0 && errno != EINTR) e = -errno;
        ssize_t n = wire_recv(supervisor.sock, reply, sizeof *reply, NULL, NULL, NULL, MSG_DONTWAIT);
        if (n == -EAGAIN && wire_now() < deadline) continue;
        if (n < (ssize_t)sizeof *reply)
            return FAIL(ST_ESYS, "the sandbox supervisor %s", n == -EAGAIN ? "does not answer" : "died");
        reply->text[sizeof reply->text - 1] = 0;
        if (reply->h.op == OP_POOL_FAIL) return FAIL((status)reply->code, "%s", reply->text);
        p->tier = (box_tier)reply->tier;
        return ST_OK;
    }
    return FAIL(ST_ESYS, "the sandbox supervisor died: %s", strerror(-e));
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
    size_t n = 2 + (o->preset ? strlen(o->preset) : 0);
    for (const char *const *m = o->imports; m && *m; m++) n += strlen(*m) + 1;
    p->strings = malloc(n);
    CHECK(p->slot && p->buf && p->strings);
    char *s = p->strings;
    for (const char *const *m = o->imports; m && *m; m++) s = stpcpy(s, *m) + 1;
    *s++ = 0;
    stpcpy(s, o->preset ? o->preset : "");
    p->n_strings = n;
    p->msg = (wire_pool){.limits = o->limits,
                         .min_tier = (int)o->min_tier,
                         .spares = o->spares,
                         .max_live = o->max_live,
                         .max_starting = o->max_starting};
    status st = sizeof p->msg + n > WIRE_CODE_MAX
                    ? FAIL(ST_EINVAL, "sandbox.preset: longer than %d KiB", WIRE_CODE_MAX >> 10)
                    : configure(p, reply);
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
        if (supervisor.sock >= 0) post(p, &h, sizeof h, NULL, 0, -1);
        for (int i = 0; p->out && supervisor.sock >= 0 && i < 100; i++) {
            struct pollfd f = {supervisor.sock, POLLOUT, 0};
            poll(&f, 1, 100);
            flush_out(p);
        }
    }
    drop_out(p);
    free(p->slot);
    free(p->buf);
    free(p->strings);
    free(p);
}

box_tier box_pool_tier(const box_pool *p) { return p->tier; }

/* A supervisor that died is started again, but not for ever. */
static bool revive(box_pool *p)
{
    static wire_reply reply;
    double now = wire_now();
    if (supervisor.sock >= 0) return true;
    if (!supervisor.exe || (supervisor.starts[0] > 0 && now - supervisor.starts[0] < 60)) return false;
    memmove(supervisor.starts, supervisor.starts + 1, sizeof supervisor.starts - sizeof *supervisor.starts);
    supervisor.starts[2] = now;
    if (supervisor_start() || configure(p, &reply) != ST_OK) {
        supervisor_stop();
        return false;
    }
    return true;
}

int box_doctor(box_layer *out, int max, box_tier *tier)
{
    static wire_reply reply;
    static const char *const imports[] = {"numpy", "PIL.Image", NULL};
    memset(&reply, 0, sizeof reply);
    box_opts o = {.imports = imports, .min_tier = BOX_T2, .max_live = 1, .max_starting = 1};
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

/* ---- pictures in ---- */

static bool write_rgbx(int fd, const box_image *img)
{
    enum { PIXELS = 16 << 10 };
    static uint8_t part[4 * PIXELS];
    size_t n = (size_t)img->w * (size_t)img->h;
    for (size_t at = 0, k; at < n; at += k) {
        k = n - at < PIXELS ? n - at : PIXELS;
        const uint8_t *from = img->rgb + 3 * at;
        for (size_t i = 0; i < k; i++) {
            for (size_t c = 0; c < 3; c++) part[4 * i + c] = from[3 * i + c];
            part[4 * i + 3] = 255;
        }
        for (size_t done = 0; done < 4 * k;) {
            ssize_t w = write(fd, part + done, 4 * k - done);
            if (w < 0 && errno != EINTR) return false;
            if (w > 0) done += (size_t)w;
        }
    }
    return true;
}

status box_input_create(box_input **out, const box_image *img, int n)
{
    CHECK(n >= 1);
    if (n > WIRE_INPUTS) return FAIL(ST_EINVAL, "sandbox: at most %d input pictures, got %d", WIRE_INPUTS, n);
    wire_input head = {.n = n};
    int64_t end = sizeof head;
    for (int i = 0; i < n; i++) {
        head.image[i] = (wire_image){img[i].w, img[i].h, end};
        end += 4ll * img[i].w * img[i].h;
    }
    int fd = memfd_create("box-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return FAIL(ST_ESYS, "sandbox: no memory for input pictures: %s", strerror(errno));
    bool ok = write(fd, &head, sizeof head) == (ssize_t)sizeof head;
    for (int i = 0; ok && i < n; i++) ok = write_rgbx(fd, &img[i]);
    if (ok) ok = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0;
    box_input *in = ok ? malloc(sizeof *in) : NULL;
    if (!in) {
        status st = FAIL(ST_ESYS, "sandbox: cannot store input pictures: %s", strerror(errno));
        close(fd);
        return st;
    }
    *in = (box_input){fd, 1};
    *out = in;
    return ST_OK;
}

void box_input_release(box_input *in)
{
    if (!in || --in->refs) return;
    close(in->fd);
    free(in);
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
    if (!revive(p)) {
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
        post(p, &open, sizeof open, NULL, 0, b->in ? b->in->fd : -1);
    }
    b->ticket = ++p->ticket;
    wire_run m = {.h = {.op = OP_EXEC, .id = b->id, .turn = b->turn, .nonce = b->ticket}};
    if (b->pending) post(p, &m, sizeof m, code, len, -1);
    return ST_OK;
}

int box_poll(box_pool *p, box **done, int max, int timeout_ms)
{
    double deadline = wire_now() + 1e-3 * timeout_ms;
    for (;;) {
        flush_out(p);
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

void box_result_free(box_result *r)
{
    for (int i = 0; i < r->n_image; i++) free(r->images[i].rgb);
    free(r->images);
    free(r->text);
    free(r->error_message);
    *r = (box_result){0};
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
    if (b->generation == supervisor.generation && supervisor.sock >= 0) post(p, &h, sizeof h, NULL, 0, -1);
    box_input_release(b->in);
    free(b);
}
