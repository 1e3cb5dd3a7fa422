#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(json_out *o, const char *text, size_t n)
{
    if (o->len + n + 1 > o->cap) {
        size_t cap = o->cap < 256 ? 256 : o->cap;
        while (cap < o->len + n + 1) cap *= 2;
        char *bigger = realloc(o->text, cap);
        CHECK(bigger != NULL);
        o->text = bigger;
        o->cap = cap;
    }
    memcpy(o->text + o->len, text, n);
    o->len += n;
    o->text[o->len] = '\0';
}

static void indent(json_out *o)
{
    put(o, "\n", 1);
    for (int i = 0; i < o->depth; i++) put(o, "  ", 2);
}

static uint64_t level(const json_out *o) { return (uint64_t)1 << o->depth; }

/* Separator in front of an array element or a key. */
static void separate(json_out *o)
{
    if (o->depth == 0) return;
    if ((o->first & level(o)) == 0) put(o, ",", 1);
    o->first &= ~level(o);
    if (o->pretty) indent(o);
}

static void before_value(json_out *o)
{
    bool object = o->depth > 0 && (o->object & level(o)) != 0;
    CHECK(object == o->keyed);
    o->keyed = false;
    if (!object) separate(o);
}

static void quoted(json_out *o, const char *s, size_t n)
{
    put(o, "\"", 1);
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t k = c < 0x80 ? 1 : json_utf8_len(s + i, n - i);
        if (c >= 0x20 && c != '"' && c != '\\' && k > 0) {
            i += k;
            continue;
        }
        put(o, s + done, i - done);
        char esc[8];
        int len = 0;
        switch (c) {
        case '"': len = snprintf(esc, sizeof esc, "\\\""); break;
        case '\\': len = snprintf(esc, sizeof esc, "\\\\"); break;
        case '\n': len = snprintf(esc, sizeof esc, "\\n"); break;
        case '\r': len = snprintf(esc, sizeof esc, "\\r"); break;
        case '\t': len = snprintf(esc, sizeof esc, "\\t"); break;
        default: len = snprintf(esc, sizeof esc, c < 0x20 ? "\\u%04x" : "\xef\xbf\xbd", c); break;
        }
        put(o, esc, (size_t)len);
        done = ++i;
    }
    put(o, s + done, n - done);
    put(o, "\"", 1);
}

void json_begin(json_out *o, bool pretty) { *o = (json_out){.pretty = pretty}; }

void json_open(json_out *o, char bracket)
{
    CHECK((bracket == '{' || bracket == '[') && o->depth < 63);
    before_value(o);
    put(o, &bracket, 1);
    o->depth++;
    o->first |= level(o);
    if (bracket == '{')
        o->object |= level(o);
    else
        o->object &= ~level(o);
}

void json_close(json_out *o, char bracket)
{
    CHECK(o->depth > 0 && !o->keyed && ((o->object & level(o)) != 0) == (bracket == '}'));
    bool empty = (o->first & level(o)) != 0;
    o->depth--;
    if (o->pretty && !empty) indent(o);
    put(o, &bracket, 1);
}

void json_key(json_out *o, const char *key)
{
    CHECK(o->depth > 0 && (o->object & level(o)) != 0 && !o->keyed);
    separate(o);
    quoted(o, key, strlen(key));
    put(o, o->pretty ? ": " : ":", o->pretty ? 2 : 1);
    o->keyed = true;
}

void json_put_raw(json_out *o, const char *text, size_t n)
{
    before_value(o);
    put(o, text, n);
}

void json_put_str(json_out *o, const char *s)
{
    if (s == NULL)
        json_put_null(o);
    else
        json_put_strn(o, s, strlen(s));
}

void json_put_strn(json_out *o, const char *s, size_t n)
{
    before_value(o);
    quoted(o, s, n);
}

void json_put_int(json_out *o, int64_t v)
{
    char b[32];
    json_put_raw(o, b, (size_t)snprintf(b, sizeof b, "%lld", (long long)v));
}

void json_put_num(json_out *o, double v)
{
    if (!isfinite(v)) {
        json_put_null(o);
        return;
    }
    char b[40];
    int n = 0;
    /* 15 digits always survive, 17 always suffice; %g drops trailing zeros. Subnormals have fewer digits than that. */
    for (int digits = fpclassify(v) == FP_SUBNORMAL ? 1 : 15; digits <= 17; digits++) {
        n = snprintf(b, sizeof b, "%.*g", digits, v);
        if (strtod(b, NULL) == v) break;
    }
    json_put_raw(o, b, (size_t)n);
}

void json_put_bool(json_out *o, bool v) { json_put_raw(o, v ? "true" : "false", v ? 4 : 5); }
void json_put_null(json_out *o) { json_put_raw(o, "null", 4); }

void json_put_node(json_out *o, const json *j)
{
    json_type t = json_kind(j);
    switch (t) {
    case JSON_NULL: json_put_null(o); break;
    case JSON_BOOL: json_put_bool(o, json_bool(j)); break;
    case JSON_NUMBER:
        if (json_is_int(j))
            json_put_int(o, json_int(j));
        else
            json_put_num(o, json_num(j));
        break;
    case JSON_STRING: json_put_strn(o, json_str(j), (size_t)json_len(j)); break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        json_open(o, t == JSON_OBJECT ? '{' : '[');
        for (int64_t i = 0; i < json_len(j); i++) {
            if (t == JSON_OBJECT) json_key(o, json_key_at(j, i));
            json_put_node(o, json_at(j, i));
        }
        json_close(o, t == JSON_OBJECT ? '}' : ']');
        break;
    }
}

void json_end(json_out *o)
{
    free(o->text);
    *o = (json_out){0};
}

void json_member_str(json_out *o, const char *key, const char *s)
{
    json_key(o, key);
    json_put_str(o, s);
}

void json_member_int(json_out *o, const char *key, int64_t v)
{
    json_key(o, key);
    json_put_int(o, v);
}

void json_member_num(json_out *o, const char *key, double v)
{
    json_key(o, key);
    json_put_num(o, v);
}

void json_member_bool(json_out *o, const char *key, bool v)
{
    json_key(o, key);
    json_put_bool(o, v);
}
