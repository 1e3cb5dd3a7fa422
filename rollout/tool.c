#include "rollout/tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    char *s;
    size_t n;
} text;

static void add(text *t, const char *s, size_t n)
{
    size_t size = t->n + n + 1;
    if (n == 0) return;
    CHECK(size > n && size > 0);
    t->s = realloc(t->s, size);
    CHECK(t->s);
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

static void add_line(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_line(text *t, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (t->n) add(t, "\n", 1);
    add(t, line, strlen(line));
}

bool tool_verdict_infra(box_verdict v) { return v == BOX_INFRA || v == BOX_SHED || v == BOX_DEAD; }

static const char *verdict_text(box_verdict v)
{
    switch (v) {
    case BOX_TIMEOUT_SOFT:
    case BOX_TIMEOUT_HARD:
    case BOX_CPU: return "timeout";
    case BOX_OOM: return "out of memory";
    case BOX_PIDS: return "too many processes";
    case BOX_OUTPUT: return "too much output";
    case BOX_EXIT: return "exit";
    case BOX_SIGNAL:
    case BOX_EXITED:
    case BOX_PROTOCOL: return "killed";
    case BOX_INFRA:
    case BOX_SHED:
    case BOX_DEAD: return "the sandbox failed";
    case BOX_OK:
    case BOX_PY_ERROR: break;
    }
    return "failed";
}

static void one_line(text *t, size_t from)
{
    for (size_t i = from; i < t->n; i++)
        if (t->s[i] == '\n' || t->s[i] == '\r') t->s[i] = ' ';
}

static void add_place(text *t, const box_result *r)
{
    char where[32];
    if (r->error_line <= 0) return;
    add(t, where, (size_t)snprintf(where, sizeof where, " (line %d", r->error_line));
    if (r->error_source && r->error_source[0]) {
        add(t, ": ", 2);
        add(t, r->error_source, strlen(r->error_source));
    }
    add(t, ")", 1);
}

/* The line that tells of a failure. All of it comes from the program: newlines would let it forge structure. */
static void add_error(text *t, const box_result *r, int mode)
{
    size_t start = t->n + 1;
    if (r->verdict != BOX_PY_ERROR) {
        add_line(t, "Error: %s", verdict_text(r->verdict));
        if (mode == TOOL_ERROR_MESSAGE && r->verdict == BOX_TIMEOUT_SOFT) add_place(t, r);
        one_line(t, start);
        return;
    }
    const char *name = r->error_type[0] ? r->error_type : "Exception";
    if (mode == TOOL_ERROR_CLASS || !r->error_message || !r->error_message[0]) {
        add_line(t, "Error: %s", name);
    } else {
        add_line(t, "Error: %s: ", name);
        add(t, r->error_message, strlen(r->error_message));
    }
    if (mode == TOOL_ERROR_MESSAGE) add_place(t, r);
    one_line(t, start);
}

static bool inside_character(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

/* 1234567 -> "1,234,567" */
static void write_number(char *out, size_t cap, size_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%zu", v);
    size_t k = 0;
    for (int i = 0; i < n && k + 2 < cap; i++) {
        if (i > 0 && (n - i) % 3 == 0) out[k++] = ',';
        out[k++] = digits[i];
    }
    out[k] = 0;
}

/* Keeps the first three quarters and the last quarter of max bytes from `from` on, cut between characters, with a line
 * that says how many are missing. more: bytes are missing already. */
static void limit(text *t, size_t from, size_t max, bool more)
{
    if (t->n - from <= max) return;
    size_t head = from + max / 4 * 3, tail = t->n - max / 4, gone = 0;
    while (head > from && inside_character(t->s[head])) head--;
    while (tail < t->n && inside_character(t->s[tail])) tail++;
    for (size_t i = head; i < tail; i++) gone += !inside_character(t->s[i]);
    char number[32], mark[96];
    write_number(number, sizeof number, gone);
    snprintf(mark, sizeof mark, "\n[... %s%s characters left out ...]\n", more ? "more than " : "", number);
    text rest = {NULL, 0};
    add(&rest, mark, strlen(mark));
    add(&rest, t->s + tail, t->n - tail);
    t->n = head;
    add(t, rest.s, rest.n);
    free(rest.s);
}

static size_t without_trailing_newlines(const char *s)
{
    size_t n = s ? strlen(s) : 0;
    while (n && (s[n - 1] == '\n' || s[n - 1] == '\r')) n--;
    return n;
}

static void fill_record(tool_record *rec, const box_result *r)
{
    rec->ran = true;
    snprintf(rec->verdict, sizeof rec->verdict, "%s", box_verdict_name(r->verdict));
    snprintf(rec->error_type, sizeof rec->error_type, "%s", r->error_type);
    rec->error_line = r->error_line;
    rec->truncated = r->truncated;
    rec->state_lost = r->state_lost;
    rec->replayed = r->replayed;
    rec->wall_ms = (float)r->wall_ms;
    rec->cpu_ms = (float)r->cpu_ms;
    rec->queue_ms = (float)r->queue_ms;
    rec->peak_mib = (float)r->peak_mib;
    snprintf(rec->tier, sizeof rec->tier, "%s", box_tier_name(r->tier));
}

/* The picture as the model sees it. False: the processor refuses it; why is in *why. */
static bool see(traj_image *out, const box_image *in, const image_processor *ip, int max_tokens, char *why, size_t cap)
{
    image whole = {in->w, in->h, in->rgb};
    if (image_view(&out->view, &whole, ip) != ST_OK) {
        snprintf(why, cap, "%s", fail_message());
        return false;
    }
    out->grid[0] = 1;
    out->grid[1] = out->view.h / ip->patch;
    out->grid[2] = out->view.w / ip->patch;
    int tokens = image_grid_tokens(out->grid, ip->merge);
    if (tokens > max_tokens) {
        image_free(&out->view);
        snprintf(why, cap, "%dx%d pixels are %d tokens, the limit is %d", in->w, in->h, tokens, max_tokens);
        return false;
    }
    out->w = in->w;
    out->h = in->h;
    return true;
}

status tool_result_make(tool_result *out, const box_result *r, const rollout_opts *o, const image_processor *ip,
                        int max_image_tokens)
{
    tool_result res = {0};
    text t = {0};
    fill_record(&res.rec, r);
    size_t n_out = without_trailing_newlines(r->text);
    bool ok = r->verdict == BOX_OK;
    if (ok || o->tool_error == TOOL_ERROR_MESSAGE) add(&t, r->text, n_out);
    if (ok && r->n_image) {
        res.image = calloc((size_t)r->n_image, sizeof *res.image);
        if (!res.image) {
            free(t.s);
            return FAIL(ST_ENOMEM, "no memory for %d returned images", r->n_image);
        }
        char why[256];
        for (int i = 0; i < r->n_image; i++) {
            if (see(&res.image[res.n_image], &r->images[i], ip, max_image_tokens, why, sizeof why))
                res.n_image++;
            else
                add_line(&t, "[image dropped: %s]", why);
        }
    }
    res.rec.ok = ok && (n_out > 0 || res.n_image > 0);
    res.rec.empty_output = ok && n_out == 0 && r->n_image == 0;
    size_t max = (size_t)o->tool_text_kib * 1024;
    if (ok) {
        if (res.rec.empty_output) add_line(&t, "No output.");
        if (t.n > max) res.rec.truncated = true;
        limit(&t, 0, max, r->truncated);
    } else { /* the error line survives any amount of output */
        if (t.n > max) res.rec.truncated = true;
        limit(&t, 0, max, r->truncated);
        size_t before = t.n;
        add_error(&t, r, o->tool_error);
        limit(&t, before, 2048, false);
    }
    if (!t.s) {
        t.s = calloc(1, 1);
        CHECK(t.s);
    }
    res.text = t.s;
    *out = res;
    return ST_OK;
}

void tool_result_free(tool_result *r)
{
    for (int i = 0; i < r->n_image; i++) image_free(&r->image[i].view);
    free(r->image);
    free(r->text);
    memset(r, 0, sizeof *r);
}
