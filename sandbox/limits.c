#include <stddef.h>
#include <string.h>

#include "sandbox/limits.h"

typedef struct row {
    const char *key; /* of section `sandbox` */
    size_t at;
    enum { REAL, WHOLE, SMALL } kind; /* double, int64_t, int32_t */
    double least, most;
} row;

enum { RGB_PIXELS = WIRE_IMAGE_BYTES / 3 };
#define LIMIT(key, field, kind, least, most)                          \
    {                                                                 \
        key, offsetof(wire_pool, limits.field), kind, (least), (most) \
    }
static const row rows[] = {
    LIMIT("wall_s", wall_s, REAL, 1e-3, 3600),
    LIMIT("wall_grace_s", wall_grace_s, REAL, 1e-3, 60),
    LIMIT("cpu_s", cpu_s, REAL, 1e-3, 3600),
    LIMIT("memory_mib", memory_mib, WHOLE, 16, 1 << 20),
    LIMIT("tmp_mib", tmp_mib, WHOLE, 1, 1 << 16),
    LIMIT("output_kib", output_kib_kept, WHOLE, 1, 128),
    LIMIT("output_kib_max", output_kib_max, WHOLE, 1, 1 << 20),
    LIMIT("code_kib", code_kib, WHOLE, 1, WIRE_CODE_MAX >> 10),
    LIMIT("pids", pids, WHOLE, 4, 4096),
    LIMIT("images_per_turn", images_per_turn, WHOLE, 0, WIRE_IMAGES),
    LIMIT("image_max_pixels", image_max_pixels, WHOLE, 1, RGB_PIXELS),
    LIMIT("image_max_side", image_max_side, WHOLE, 1, 32768),
    {"spares", offsetof(wire_pool, spares), SMALL, 0, 1000},
    {"max_live", offsetof(wire_pool, max_live), SMALL, 1, 4000},
    {"max_starting", offsetof(wire_pool, max_starting), SMALL, 1, 256},
};

static double value(const wire_pool *p, const row *r)
{
    const char *at = (const char *)p + r->at;
    double d = 0;
    int64_t w = 0;
    int32_t n = 0;
    switch (r->kind) {
    case REAL: memcpy(&d, at, sizeof d); break;
    case WHOLE: memcpy(&w, at, sizeof w), d = (double)w; break;
    case SMALL: memcpy(&n, at, sizeof n), d = n; break;
    }
    return d;
}

status limits_check(const wire_pool *p, const wire_pool *ceiling)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        double v = value(p, r);
        if (!(v >= r->least && v <= r->most))
            return FAIL(ST_EINVAL, "sandbox.%s: %g is not within %g to %g", r->key, v, r->least, r->most);
        if (ceiling && v > value(ceiling, r))
            return FAIL(ST_EINVAL,
                        "sandbox.%s: %g is asked for, but the sandbox daemon of this machine gives at most %g", r->key,
                        v, value(ceiling, r));
    }
    if (p->limits.output_kib_max < p->limits.output_kib_kept)
        return FAIL(ST_EINVAL, "sandbox.output_kib_max: is smaller than output_kib");
    if (p->min_tier < BOX_T0 || p->min_tier > BOX_T3) return FAIL(ST_EINVAL, "sandbox.min_tier: no such tier");
    return ST_OK;
}

const char *limits_strings(const char *strings, size_t n, int which)
{
    const char *end = strings + n, *s = strings;
    while (s < end && *s) { /* the modules */
        const char *z = memchr(s, 0, (size_t)(end - s));
        if (!z) return NULL;
        s = z + 1;
    }
    for (int i = 0; s < end; i++) { /* the empty string, the preset, the interpreter */
        const char *z = memchr(s, 0, (size_t)(end - s));
        if (!z) return NULL;
        if (i == which) return s;
        s = z + 1;
    }
    return NULL;
}
