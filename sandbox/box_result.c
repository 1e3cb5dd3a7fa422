#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/client.h"

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

bool client_result(box_result *r, const wire_result *w, size_t n, int fd, const box_limits *l)
{
    const char *text = (const char *)(w + 1);
    if (w->text_len < 0 || w->message_len < 0 || sizeof *w + (size_t)w->text_len + (size_t)w->message_len > n)
        return false;
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
    if (r->error_type[0]) r->error_source = clean_text(w->error_source, strnlen(w->error_source, WIRE_SOURCE_MAX));
    if (take_images(r, w, fd, l)) return true;
    box_result_free(r);
    return false;
}

void box_result_free(box_result *r)
{
    for (int i = 0; i < r->n_image; i++) free(r->images[i].rgb);
    free(r->images);
    free(r->text);
    free(r->error_message);
    free(r->error_source);
    *r = (box_result){0};
}
