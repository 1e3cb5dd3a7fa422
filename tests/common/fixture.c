#include "tests/common/fixture.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char root[] = SOURCE_DIR "/tests/fixtures";

static int with_record(const struct dirent *e)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/record.safetensors", root, e->d_name);
    return access(path, R_OK) == 0;
}

int fixture_each(fixture_fn *fn)
{
    struct dirent **list = NULL;
    int n = scandir(root, &list, with_record, alphasort);
    if (n < 0) fail_msg("cannot list %s", root);
    for (int i = 0; i < n; i++) {
        fixture f = {.n_compared = 0};
        char path[1024];
        snprintf(f.name, sizeof f.name, "%.60s", list[i]->d_name);
        snprintf(f.dir, sizeof f.dir, "%s/%s", root, f.name);
        snprintf(path, sizeof path, "%s/record.safetensors", f.dir);
        if (st_open(&f.record, path) != ST_OK) fail_msg("%s", fail_message());
        fn(&f);
        if (f.n_compared)
            printf("%s: %d tensors, largest error %.2f of its bound (%s)\n", f.name, f.n_compared, f.worst,
                   f.worst_key);
        st_close(f.record);
        free(list[i]);
    }
    free(list);
    return n;
}

#define FORMAT(out, fmt)                      \
    do {                                      \
        va_list ap;                           \
        va_start(ap, fmt);                    \
        vsnprintf(out, sizeof(out), fmt, ap); \
        va_end(ap);                           \
    } while (0)

static const st_tensor *need(const fixture *f, const char *key)
{
    const st_tensor *t = st_find(f->record, key);
    if (!t) fail_msg("%s: the record has no %s", f->name, key);
    return t;
}

const st_tensor *fixture_get(const fixture *f, const char *fmt, ...)
{
    char key[128];
    FORMAT(key, fmt);
    return need(f, key);
}

bool fixture_has(const fixture *f, const char *fmt, ...)
{
    char key[128];
    FORMAT(key, fmt);
    return st_find(f->record, key) != NULL;
}

void fixture_same_ints(const fixture *f, const int32_t *v, int64_t n, const char *fmt, ...)
{
    char key[128];
    FORMAT(key, fmt);
    const st_tensor *t = need(f, key);
    const int32_t *want = t->data;
    assert_string_equal(t->dtype, "I32");
    for (int64_t i = 0; i < n && i < (int64_t)(t->bytes / 4); i++)
        if (v[i] != want[i]) fail_msg("%s: %s[%lld] is %d, not %d", f->name, key, (long long)i, v[i], want[i]);
    if (n * 4 != (int64_t)t->bytes)
        fail_msg("%s: %s has %lld values, not %zu", f->name, key, (long long)n, t->bytes / 4);
}

double fixture_bound(double err, double largest) { return 8 * fmax(err, ldexp(largest, -24)); }

static void close_part(fixture *f, const float *v, int64_t at, int64_t n, const char *key)
{
    char err_key[160];
    snprintf(err_key, sizeof err_key, "%s.err", key);
    const st_tensor *t = need(f, key), *err = need(f, err_key);
    const float *want = t->data;
    int64_t count = (int64_t)(t->bytes / sizeof *want), at_worst = 0;
    double largest = 0, worst = 0;
    assert_string_equal(t->dtype, "F32");
    if (at < 0 || at + n > count)
        fail_msg("%s: %s has %lld values, not [%lld, %lld)", f->name, key, (long long)count, (long long)at,
                 (long long)(at + n));
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)v[i] - (double)want[at + i]);
        if (!(d <= worst)) worst = d, at_worst = at + i;
    }
    double bound = fixture_bound(*(const float *)err->data, largest);
    if (!(worst <= bound))
        fail_msg("%s: %s[%lld]: %.9g, transformers in float64 %.9g: off by %.2g, bound %.2g (largest element %.2g)",
                 f->name, key, (long long)at_worst, v[at_worst - at], want[at_worst], worst, bound, largest);
    f->n_compared++;
    if (bound > 0 && worst / bound > f->worst) {
        f->worst = worst / bound;
        snprintf(f->worst_key, sizeof f->worst_key, "%s", key);
    }
}

void fixture_close_part(fixture *f, const float *v, int64_t at, int64_t n, const char *fmt, ...)
{
    char key[128];
    FORMAT(key, fmt);
    close_part(f, v, at, n, key);
}

void fixture_close_to(fixture *f, const float *v, int64_t n, const char *fmt, ...)
{
    char key[128];
    FORMAT(key, fmt);
    const st_tensor *t = need(f, key);
    if (n * 4 != (int64_t)t->bytes)
        fail_msg("%s: %s has %lld values, not %zu", f->name, key, (long long)n, t->bytes / 4);
    close_part(f, v, 0, n, key);
}
