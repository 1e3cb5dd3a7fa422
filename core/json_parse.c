#include "core/json_impl.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 64, MAX_NUMBER = 1024, INDEX_FROM = 17, CHUNK = 1 << 16, CHUNK_MAX = 1 << 24 };

/* A value waiting for the end of the array or object it is in. */
typedef struct pending {
    json node;
    const char *key;
} pending;

typedef struct parser {
    doc *d;
    const char *text, *p, *end, *line_start;
    uint32_t line;
    pending *stack;
    size_t n, cap;
} parser;

static void *doc_alloc(doc *d, size_t size)
{
    size = (size + 8) & ~(size_t)7; /* never 0, so that NULL means failure */
    if ((size_t)(d->end - d->at) < size) {
        size_t bytes = d->next_size > size + sizeof(chunk) ? d->next_size : size + sizeof(chunk);
        chunk *c = malloc(bytes);
        if (c == NULL) return NULL;
        c->next = d->chunks;
        d->chunks = c;
        d->at = (char *)(c + 1);
        d->end = (char *)c + bytes;
        if (d->next_size < CHUNK_MAX) d->next_size *= 2;
    }
    void *p = d->at;
    d->at += size;
    return p;
}

static status error_at(const parser *s, const char *at, const char *text)
{
    char place[600];
    json_place_name(place, sizeof place, s->d->what, s->line, (uint32_t)(at - s->line_start) + 1);
    return FAIL(ST_EINVAL, "%s: %s", place, text);
}

static status expected(const parser *s, const char *what)
{
    char text[160];
    if (s->p >= s->end) {
        snprintf(text, sizeof text, "expected %s, found the end of the text", what);
    } else if ((unsigned char)*s->p < 0x20 || (unsigned char)*s->p >= 0x7f) {
        snprintf(text, sizeof text, "expected %s, found byte 0x%02x", what, (unsigned char)*s->p);
    } else {
        snprintf(text, sizeof text, "expected %s, found '%c'", what, *s->p);
    }
    return error_at(s, s->p, text);
}

static status no_memory(const parser *s) { return FAIL(ST_ENOMEM, "%s: out of memory while parsing JSON", s->d->what); }

static void skip_space(parser *s)
{
    while (s->p < s->end) {
        char c = *s->p;
        if (c == '\n') {
            s->line++;
            s->line_start = s->p + 1;
        } else if (c != ' ' && c != '\t' && c != '\r') {
            return;
        }
        s->p++;
    }
}

size_t json_utf8_len(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    if (n == 0) return 0;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2) return 0;
    if (p[0] < 0xe0) return n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[0] < 0xf0) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80) return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0)) return 0;
        return 3;
    }
    if (p[0] > 0xf4 || n < 4) return 0;
    for (int i = 1; i < 4; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90)) return 0;
    return 4;
}

static int hex4(const char *p, const char *end)
{
    if (end - p < 4) return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

static char *put_utf8(char *o, unsigned c)
{
    if (c < 0x80) {
        *o++ = (char)c;
    } else if (c < 0x800) {
        *o++ = (char)(0xc0 | (c >> 6));
        *o++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *o++ = (char)(0xe0 | (c >> 12));
        *o++ = (char)(0x80 | ((c >> 6) & 63));
        *o++ = (char)(0x80 | (c & 63));
    } else {
        *o++ = (char)(0xf0 | (c >> 18));
        *o++ = (char)(0x80 | ((c >> 12) & 63));
        *o++ = (char)(0x80 | ((c >> 6) & 63));
        *o++ = (char)(0x80 | (c & 63));
    }
    return o;
}

/* After the backslash at s->p; a \u pair of surrogates is one character. */
static status escape(parser *s, char **o)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *start = s->p++;
    if (s->p >= s->end) return expected(s, "the rest of an escape");
    if (*s->p == 'u') {
        int c = hex4(s->p + 1, s->end);
        if (c < 0) return error_at(s, start, "\\u needs four hexadecimal digits");
        s->p += 5;
        unsigned u = (unsigned)c;
        if (u >= 0xdc00 && u < 0xe000) return error_at(s, start, "low surrogate without a high one before it");
        if (u >= 0xd800 && u < 0xdc00) {
            int low = s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u' ? hex4(s->p + 2, s->end) : -1;
            if (low < 0xdc00 || low >= 0xe000) return error_at(s, start, "high surrogate without a low one after it");
            u = 0x10000 + ((u - 0xd800) << 10) + ((unsigned)low - 0xdc00);
            s->p += 6;
        }
        *o = put_utf8(*o, u);
        return ST_OK;
    }
    const char *k = *s->p != '\0' ? strchr(from, *s->p) : NULL;
    if (k == NULL) return error_at(s, start, "unknown escape");
    *(*o)++ = to[k - from];
    s->p++;
    return ST_OK;
}

static status string(parser *s, const char **out, uint32_t *len)
{
    const char *start = ++s->p; /* the opening quote was seen */
    /* The decoded form is never longer than the written one: find the closing quote, then decode in place. */
    const char *q = start;
    while (q < s->end && *q != '"') q += *q == '\\' ? 2 : 1;
    if (q >= s->end) return error_at(s, start - 1, "string without a closing quote");
    char *buf = doc_alloc(s->d, (size_t)(q - start) + 1), *o = buf;
    if (buf == NULL) return no_memory(s);
    while (*s->p != '"') {
        unsigned char c = (unsigned char)*s->p;
        if (c == '\\') {
            TRY(escape(s, &o));
        } else if (c < 0x20) {
            return error_at(s, s->p, "control character in a string (write it as an escape)");
        } else if (c < 0x80) {
            *o++ = *s->p++;
        } else {
            size_t n = json_utf8_len(s->p, (size_t)(s->end - s->p));
            if (n == 0) return error_at(s, s->p, "invalid UTF-8");
            memcpy(o, s->p, n);
            o += n;
            s->p += n;
        }
    }
    s->p++;
    *o = '\0';
    *out = buf;
    *len = (uint32_t)(o - buf);
    return ST_OK;
}

static bool digit(const parser *s) { return s->p < s->end && *s->p >= '0' && *s->p <= '9'; }

static status number(parser *s, json *j)
{
    static const double pow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *start = s->p;
    bool minus = *s->p == '-', whole = true;
    if (minus) s->p++;
    if (!digit(s)) return expected(s, minus ? "a digit after '-'" : "a value");
    uint64_t mantissa = 0;
    int digits = 0, scale = 0;
    bool leading_zero = *s->p == '0';
    for (; digit(s); s->p++, digits++) {
        if (digits < 19) mantissa = mantissa * 10 + (uint64_t)(*s->p - '0');
    }
    if (leading_zero && digits > 1) return error_at(s, start, "number with a leading zero");
    if (s->p < s->end && *s->p == '.') {
        whole = false;
        s->p++;
        if (!digit(s)) return expected(s, "a digit after '.'");
        for (; digit(s); s->p++, digits++, scale--) {
            if (digits < 19) mantissa = mantissa * 10 + (uint64_t)(*s->p - '0');
        }
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        whole = false;
        s->p++;
        bool down = s->p < s->end && *s->p == '-';
        if (s->p < s->end && (*s->p == '-' || *s->p == '+')) s->p++;
        if (!digit(s)) return expected(s, "a digit of the exponent");
        int e = 0;
        for (; digit(s); s->p++) e = e < 100000 ? e * 10 + (*s->p - '0') : e;
        scale += down ? -e : e;
    }
    size_t n = (size_t)(s->p - start);
    if (n >= MAX_NUMBER) return error_at(s, start, "number longer than 1023 characters");
    j->type = JSON_NUMBER;
    if (whole && digits <= 19 && mantissa <= (uint64_t)INT64_MAX + minus) {
        j->is_int = true;
        j->x.i = minus ? (int64_t)(0 - mantissa) : (int64_t)mantissa;
    }
    if (digits <= 15 && scale >= -22 && scale <= 22) { /* both factors exact, so one correctly rounded operation */
        double v = scale < 0 ? (double)mantissa / pow10[-scale] : (double)mantissa * pow10[scale];
        j->v.num = minus ? -v : v;
        return ST_OK;
    }
    char buf[MAX_NUMBER];
    memcpy(buf, start, n);
    buf[n] = '\0';
    j->v.num = strtod(buf, NULL);
    if (isinf(j->v.num)) return error_at(s, start, "number too large for a double");
    return ST_OK;
}

static status duplicate(const parser *s, const json *value, const char *key)
{
    char place[600];
    json_place_name(place, sizeof place, s->d->what, value->line, value->col);
    return FAIL(ST_EINVAL, "%s: key \"%s\" is given twice", place, key);
}

/* Moves stack entries [from, n) into j, which becomes their parent. */
static status collect(parser *s, json *j, size_t from)
{
    size_t n = s->n - from;
    if (n > UINT32_MAX / 4) return error_at(s, s->p, "too many elements");
    j->len = (uint32_t)n;
    j->v.items = doc_alloc(s->d, n * sizeof(json));
    if (j->v.items == NULL) return no_memory(s);
    for (size_t i = 0; i < n; i++) j->v.items[i] = s->stack[from + i].node;
    s->n = from;
    if (j->type == JSON_ARRAY) return ST_OK;

    members *m = doc_alloc(s->d, sizeof *m);
    if (m == NULL) return no_memory(s);
    *m = (members){.key = doc_alloc(s->d, n * sizeof(char *))};
    if (m->key == NULL) return no_memory(s);
    j->x.m = m;
    for (size_t i = 0; i < n; i++) m->key[i] = s->stack[from + i].key;
    if (n < INDEX_FROM) {
        for (size_t i = 1; i < n; i++) {
            for (size_t k = 0; k < i; k++) {
                if (strcmp(m->key[i], m->key[k]) == 0) return duplicate(s, &j->v.items[i], m->key[i]);
            }
        }
        return ST_OK;
    }
    uint32_t size = 64;
    while (size < 2 * n) size *= 2;
    m->mask = size - 1;
    m->index = doc_alloc(s->d, size * sizeof *m->index);
    if (m->index == NULL) return no_memory(s);
    memset(m->index, 0, size * sizeof *m->index);
    for (size_t i = 0; i < n; i++) {
        uint32_t at = json_hash_key(m->key[i]) & m->mask;
        for (; m->index[at] != 0; at = (at + 1) & m->mask) {
            if (strcmp(m->key[m->index[at] - 1], m->key[i]) == 0) return duplicate(s, &j->v.items[i], m->key[i]);
        }
        m->index[at] = (uint32_t)i + 1;
    }
    return ST_OK;
}

static status push(parser *s, const json *node, const char *key)
{
    if (s->n == s->cap) {
        size_t cap = s->cap * 2;
        pending *stack = realloc(s->stack, cap * sizeof *stack);
        if (stack == NULL) return no_memory(s);
        s->stack = stack;
        s->cap = cap;
    }
    s->stack[s->n++] = (pending){*node, key};
    return ST_OK;
}

static status value(parser *s, json *j, int depth);

static status container(parser *s, json *j, int depth)
{
    bool object = *s->p == '{';
    char close = object ? '}' : ']';
    j->type = object ? JSON_OBJECT : JSON_ARRAY;
    if (depth > MAX_DEPTH) return error_at(s, s->p, "nested deeper than 64 levels");
    s->p++;
    size_t from = s->n;
    skip_space(s);
    if (s->p < s->end && *s->p == close) {
        s->p++;
        return collect(s, j, from);
    }
    for (;;) {
        const char *key = NULL;
        if (object) {
            uint32_t len;
            skip_space(s);
            if (s->p >= s->end || *s->p != '"') return expected(s, "a key in quotes");
            const char *at = s->p;
            TRY(string(s, &key, &len));
            if (strlen(key) != len) return error_at(s, at, "key contains a NUL character");
            skip_space(s);
            if (s->p >= s->end || *s->p != ':') return expected(s, "':'");
            s->p++;
        }
        json child;
        TRY(value(s, &child, depth));
        TRY(push(s, &child, key));
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            continue;
        }
        if (s->p >= s->end || *s->p != close) return expected(s, object ? "',' or '}'" : "',' or ']'");
        s->p++;
        return collect(s, j, from);
    }
}

static bool word(parser *s, const char *w, size_t n)
{
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n) != 0) return false;
    s->p += n;
    return true;
}

static status value(parser *s, json *j, int depth)
{
    skip_space(s);
    *j = (json){.line = s->line, .col = (uint32_t)(s->p - s->line_start) + 1, .d = s->d};
    if (s->p >= s->end) return expected(s, "a value");
    switch (*s->p) {
    case '{':
    case '[': return container(s, j, depth + 1);
    case '"': j->type = JSON_STRING; return string(s, &j->v.str, &j->len);
    case 't':
        j->type = JSON_BOOL;
        j->yes = true;
        return word(s, "true", 4) ? ST_OK : expected(s, "a value");
    case 'f': j->type = JSON_BOOL; return word(s, "false", 5) ? ST_OK : expected(s, "a value");
    case 'n': j->type = JSON_NULL; return word(s, "null", 4) ? ST_OK : expected(s, "a value");
    default: return number(s, j);
    }
}

status json_parse(json **root, const char *text, size_t len, const char *what)
{
    if (len > UINT32_MAX) return FAIL(ST_EINVAL, "%s: JSON text larger than 4 GiB", what);
    doc *d = calloc(1, sizeof *d);
    parser s = {.d = d, .text = text, .p = text, .end = text + len, .line_start = text, .line = 1, .cap = 64};
    if (d == NULL) return FAIL(ST_ENOMEM, "%s: out of memory while parsing JSON", what);
    d->next_size = len < CHUNK ? 4096 : CHUNK;
    d->what = strdup(what);
    s.stack = malloc(s.cap * sizeof *s.stack);
    status st = ST_OK;
    if (d->what == NULL || s.stack == NULL) {
        st = FAIL(ST_ENOMEM, "%s: out of memory while parsing JSON", what);
        goto out;
    }
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        st = error_at(&s, text, "starts with a byte order mark; save the file as plain UTF-8");
        goto out;
    }
    TRY_OR(value(&s, &d->root, 0), out);
    skip_space(&s);
    if (s.p < s.end) st = expected(&s, "the end of the text");
out:
    free(s.stack);
    if (st == ST_OK)
        *root = &d->root;
    else
        json_free(&d->root);
    return st;
}

status json_read_file(json **root, const char *path, size_t max_bytes)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    size_t cap = 1 << 16, n = 0;
    char *text = malloc(cap);
    status st = ST_OK;
    struct stat s; /* a pipe has no size and is read up to the limit */
    if (fstat(fileno(f), &s) == 0 && S_ISREG(s.st_mode) && (uintmax_t)s.st_size > max_bytes) {
        st = FAIL(ST_EINVAL, "%s: larger than the %zu bytes allowed here", path, max_bytes);
        goto out;
    }
    while (text != NULL) {
        n += fread(text + n, 1, cap - n, f);
        if (n > max_bytes) {
            st = FAIL(ST_EINVAL, "%s: larger than the %zu bytes allowed here", path, max_bytes);
            goto out;
        }
        if (n < cap) break;
        char *more = realloc(text, cap *= 2);
        if (more == NULL) free(text);
        text = more;
    }
    if (text == NULL) {
        st = FAIL(ST_ENOMEM, "%s: out of memory (%zu bytes)", path, cap);
        goto out;
    }
    if (ferror(f)) {
        st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
        goto out;
    }
    st = json_parse(root, text, n, path);
out:
    free(text);
    fclose(f);
    return st;
}
