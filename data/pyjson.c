#include "data/pyjson.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    char *s;
    size_t n, cap;
} text;

static void put(text *t, const char *s, size_t n)
{
    if (t->n + n + 1 > t->cap) {
        t->cap = 2 * (t->n + n + 1);
        t->s = realloc(t->s, t->cap);
        CHECK(t->s);
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}

static void put_string(text *t, const char *s, size_t n)
{
    static const char named[] = "\"\\\n\r\t\f\b", letter[] = "\"\\nrtfb";
    put(t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        char c = s[i], esc[8];
        const char *hit = c ? strchr(named, c) : NULL;
        if (hit) {
            const char two[2] = {'\\', letter[hit - named]};
            put(t, two, 2);
        } else if ((unsigned char)c < 0x20) {
            put(t, esc, (size_t)snprintf(esc, sizeof esc, "\\u%04x", (unsigned)c));
        } else {
            put(t, &c, 1);
        }
    }
    put(t, "\"", 1);
}

/* repr(float): the fewest digits that read back, plain from 1e-4 up to 1e16, else with an exponent of two digits. */
static void put_float(text *t, double v)
{
    char b[48], digits[24];
    int n = 0, exp10 = 0;
    for (int k = 0; k < 17; k++) {
        snprintf(b, sizeof b, "%.*e", k, v);
        if (strtod(b, NULL) == v) break;
    }
    char *e = strchr(b, 'e');
    exp10 = atoi(e + 1);
    for (char *p = b; p < e; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    if (signbit(v)) put(t, "-", 1);
    if (exp10 >= -4 && exp10 < 16) {
        if (exp10 < 0) put(t, "0.0000", (size_t)(1 - exp10));
        for (int i = 0; i < n || i <= exp10; i++) {
            put(t, i < n ? &digits[i] : "0", 1);
            if (i == exp10) put(t, ".", 1);
        }
        if (exp10 >= n - 1) put(t, "0", 1);
        return;
    }
    put(t, digits, 1);
    if (n > 1) put(t, ".", 1);
    put(t, digits + 1, (size_t)n - 1);
    put(t, b, (size_t)snprintf(b, sizeof b, "e%c%02d", exp10 < 0 ? '-' : '+', abs(exp10)));
}

static status put_value(text *t, const json *j)
{
    char b[32];
    switch (json_kind(j)) {
    case JSON_NULL: put(t, "null", 4); break;
    case JSON_BOOL: put(t, json_bool(j) ? "true" : "false", json_bool(j) ? 4 : 5); break;
    case JSON_STRING: put_string(t, json_str(j), (size_t)json_len(j)); break;
    case JSON_NUMBER:
        if (json_is_int(j))
            put(t, b, (size_t)snprintf(b, sizeof b, "%lld", (long long)json_int(j)));
        else if (fabs(json_num(j)) >= 0x1p63)
            return FAIL(ST_EINVAL, "the number %g is beyond 64 bits; write it as a string", json_num(j));
        else
            put_float(t, json_num(j));
        break;
    case JSON_ARRAY:
    case JSON_OBJECT: {
        bool object = json_kind(j) == JSON_OBJECT;
        put(t, object ? "{" : "[", 1);
        for (int64_t i = 0; i < json_len(j); i++) {
            if (i) put(t, ", ", 2);
            if (object) {
                put_string(t, json_key_at(j, i), strlen(json_key_at(j, i)));
                put(t, ": ", 2);
            }
            TRY(put_value(t, json_at(j, i)));
        }
        put(t, object ? "}" : "]", 1);
        break;
    }
    }
    return ST_OK;
}

status pyjson_write(const json *j, char **out, size_t *n)
{
    text t = {0};
    put(&t, "", 0);
    status st = put_value(&t, j);
    if (st != ST_OK) {
        free(t.s);
        return st;
    }
    *out = t.s;
    *n = t.n;
    return ST_OK;
}
