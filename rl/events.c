#include "rl/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct events {
    FILE *f;
    char *path;
};

uint32_t crc32c(const void *p, size_t n)
{
    const uint8_t *s = p;
    uint32_t c = 0xffffffffu;
    while (n--) {
        c ^= *s++;
        for (int k = 0; k < 8; k++) c = (c >> 1) ^ (0x82f63b78u & -(c & 1));
    }
    return ~c;
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t c = crc32c(p, n);
    return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

/* A message under construction; tags and texts are cut so that it always fits. */
typedef struct proto {
    uint8_t b[512];
    size_t n;
} proto;

static void put_raw(proto *p, const void *s, size_t n)
{
    CHECK(p->n + n <= sizeof p->b);
    memcpy(p->b + p->n, s, n);
    p->n += n;
}

static void put_varint(proto *p, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        put_raw(p, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_field(proto *p, int field, int wire) { put_varint(p, (uint64_t)(field << 3 | wire)); }

static void put_bytes(proto *p, int field, const void *s, size_t n)
{
    put_field(p, field, 2);
    put_varint(p, n);
    put_raw(p, s, n);
}

static void put_double(proto *p, int field, double v)
{
    put_field(p, field, 1);
    put_raw(p, &v, sizeof v);
}

static void put_float(proto *p, int field, float v)
{
    put_field(p, field, 5);
    put_raw(p, &v, sizeof v);
}

static double wall_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void record(events *e, const proto *p)
{
    uint64_t n = p->n;
    uint32_t head = masked(&n, sizeof n), body = masked(p->b, p->n);
    fwrite(&n, sizeof n, 1, e->f);
    fwrite(&head, sizeof head, 1, e->f);
    fwrite(p->b, 1, p->n, e->f);
    fwrite(&body, sizeof body, 1, e->f);
}

status events_open(events **out, const char *dir)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    events *e = calloc(1, sizeof *e);
    if (!e) return FAIL(ST_ENOMEM, "no memory for the event file");
    long long now = (long long)wall_time();
    for (int k = 0; k < 1000 && !e->f; k++) { /* two runs may start in one second */
        free(e->path);
        if (asprintf(&e->path, "%s/events.out.tfevents.%lld.%d.codedance", dir, now, k) < 0) e->path = NULL;
        e->f = e->path ? fopen(e->path, "wbx") : NULL;
        if (!e->f && errno != EEXIST) break;
    }
    if (!e->f) {
        status st = FAIL(ST_EIO, "%s: %s", e->path ? e->path : dir, strerror(errno));
        events_close(e);
        return st;
    }
    static const char version[] = "brain.Event:2";
    proto p = {.n = 0};
    put_double(&p, 1, wall_time());
    put_bytes(&p, 3, version, sizeof version - 1);
    record(e, &p);
    *out = e;
    return events_flush(e);
}

void events_scalar(events *e, const char *tag, int64_t step, double value)
{
    proto v = {.n = 0}, s = {.n = 0}, p = {.n = 0};
    put_bytes(&v, 1, tag, strnlen(tag, 200));
    put_float(&v, 2, (float)value);
    put_bytes(&s, 1, v.b, v.n);
    put_double(&p, 1, wall_time());
    put_field(&p, 2, 0);
    put_varint(&p, (uint64_t)step);
    put_bytes(&p, 5, s.b, s.n);
    record(e, &p);
}

status events_flush(events *e)
{
    if (fflush(e->f) != 0 || ferror(e->f)) return FAIL(ST_EIO, "%s: %s", e->path, strerror(errno));
    return ST_OK;
}

void events_close(events *e)
{
    if (!e) return;
    if (e->f) fclose(e->f);
    free(e->path);
    free(e);
}
