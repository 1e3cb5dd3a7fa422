#include "data/unicode.h"

#include <stdlib.h>
#include <string.h>

#include "core/status.h"

int unicode_next(const char *s, size_t n, uint32_t *cp)
{
    const uint8_t *b = (const uint8_t *)s;
    if (n == 0) return 0;
    if (b[0] < 0x80) {
        *cp = b[0];
        return 1;
    }
    int len = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    if (b[0] < 0xc2 || b[0] > 0xf4 || (size_t)len > n) return 0;
    uint32_t v = b[0] & (0xffu >> (len + 1));
    for (int i = 1; i < len; i++) {
        if ((b[i] & 0xc0) != 0x80) return 0;
        v = v << 6 | (b[i] & 0x3f);
    }
    if ((len == 3 && (v < 0x800 || (v >= 0xd800 && v < 0xe000))) || (len == 4 && (v < 0x10000 || v > 0x10ffff)))
        return 0;
    *cp = v;
    return len;
}

int unicode_put(uint32_t cp, char to[4])
{
    if (cp < 0x80) {
        to[0] = (char)cp;
        return 1;
    }
    int len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = len - 1; i > 0; i--, cp >>= 6) to[i] = (char)(0x80 | (cp & 0x3f));
    to[0] = (char)((0xf00u >> len) | cp);
    return len;
}

bool unicode_valid(const char *s, size_t n)
{
    uint32_t cp;
    for (int len; n; s += len, n -= (size_t)len)
        if ((len = unicode_next(s, n, &cp)) == 0) return false;
    return true;
}

/* Value of the range that holds cp; 0 outside all. */
static uint32_t find_range(const uint32_t *rows, int n, uint32_t cp)
{
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (cp > rows[3 * mid + 1])
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && cp >= rows[3 * lo] ? rows[3 * lo + 2] : 0;
}

/* The first row that starts with a (and b, unless it is ANY); NULL if there is none. */
enum { ANY = 0 };

static const uint32_t *find_row(const uint32_t *rows, int n, uint32_t a, uint32_t b)
{
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        const uint32_t *r = rows + 3 * mid;
        if (r[0] < a || (r[0] == a && r[1] < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    const uint32_t *r = rows + 3 * lo;
    return lo < n && r[0] == a && (b == ANY || r[1] == b) ? r : NULL;
}

/* Hangul syllables compose by arithmetic (Unicode standard, section 3.12). */
enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7, L_N = 19, V_N = 21, T_N = 28 };

typedef struct point_list {
    uint32_t *v;
    size_t n, cap;
} point_list;

static void points_push(point_list *p, uint32_t cp)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->v = realloc(p->v, p->cap * sizeof *p->v);
        CHECK(p->v);
    }
    p->v[p->n++] = cp;
}

static void push_decomposed(point_list *p, uint32_t cp)
{
    if (cp < 0xc0) {
        points_push(p, cp);
    } else if (cp >= S_BASE && cp < S_BASE + L_N * V_N * T_N) {
        uint32_t s = cp - S_BASE;
        points_push(p, L_BASE + s / (V_N * T_N));
        points_push(p, V_BASE + s / T_N % V_N);
        if (s % T_N) points_push(p, T_BASE + s % T_N);
    } else {
        const uint32_t *row = find_row(unicode_decompose, unicode_decompose_n, cp, ANY);
        if (!row) {
            points_push(p, cp);
        } else {
            push_decomposed(p, row[1]);
            if (row[2]) push_decomposed(p, row[2]);
        }
    }
}

static uint32_t combining(uint32_t cp)
{
    return cp < 0x300 ? 0 : find_range(unicode_combining, unicode_combining_n, cp);
}

static void mark_range(uint8_t *points, uint32_t first, uint32_t last, int flag)
{
    for (uint32_t cp = first; cp <= last; cp++) points[cp] |= (uint8_t)flag;
}

uint8_t *unicode_points(void)
{
    static const uint32_t space[][2] = {{9, 13},          {0x20, 0x20},     {0x85, 0x85},     {0xa0, 0xa0},
                                        {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                        {0x205f, 0x205f}, {0x3000, 0x3000}};
    uint8_t *points = calloc(0x110000, 1);
    if (!points) return NULL;
    for (int i = 0; i < unicode_kinds_n; i++) {
        const uint32_t *r = unicode_kinds + (ptrdiff_t)3 * i;
        memset(points + r[0], (int)r[2], r[1] - r[0] + 1);
    }
    for (size_t i = 0; i < sizeof space / sizeof *space; i++)
        mark_range(points, space[i][0], space[i][1], UNICODE_SPACE);
    for (int i = 0; i < unicode_combining_n; i++)
        mark_range(points, unicode_combining[3 * i], unicode_combining[3 * i + 1], UNICODE_MARK);
    /* What has a decomposition stays as it is only if it is composed again; second halves join what is before them. */
    for (int i = 0; i < unicode_decompose_n; i++) points[unicode_decompose[3 * i]] |= UNICODE_COMPOSES;
    for (int i = 0; i < unicode_compose_n; i++) points[unicode_compose[3 * i + 2]] &= (uint8_t)~UNICODE_COMPOSES;
    for (int i = 0; i < unicode_compose_n; i++) points[unicode_compose[3 * i + 1]] |= UNICODE_COMPOSES;
    mark_range(points, V_BASE, V_BASE + V_N - 1, UNICODE_COMPOSES);
    mark_range(points, T_BASE + 1, T_BASE + T_N - 1, UNICODE_COMPOSES);
    return points;
}

bool unicode_scan(const uint8_t *points, const char *s, size_t n, bool *normal)
{
    uint32_t cp, last = 0; /* the combining class before */
    bool same = true;
    for (size_t at = 0; at < n;) {
        uint64_t eight;
        if (n - at >= 8 && (memcpy(&eight, s + at, 8), !(eight & 0x8080808080808080u))) {
            at += 8;
            last = 0;
            continue;
        }
        int len = unicode_next(s + at, n - at, &cp);
        if (!len) return false;
        at += (size_t)len;
        if (!(points[cp] & (UNICODE_MARK | UNICODE_COMPOSES))) {
            last = 0;
            continue;
        }
        uint32_t class = combining(cp);
        same &= !(points[cp] & UNICODE_COMPOSES) && (class == 0 || last <= class);
        last = class;
    }
    *normal = same;
    return true;
}

/* Stable sort of one run of marks by class; counting sort, so a long hostile run stays linear. */
static void order_run(uint32_t *v, size_t n)
{
    size_t start[257] = {0};
    uint32_t *sorted = malloc(n * sizeof *sorted);
    CHECK(sorted);
    for (size_t i = 0; i < n; i++) start[combining(v[i]) + 1]++;
    for (int c = 0; c < 256; c++) start[c + 1] += start[c];
    for (size_t i = 0; i < n; i++) sorted[start[combining(v[i])]++] = v[i];
    memcpy(v, sorted, n * sizeof *v);
    free(sorted);
}

/* Primary composite of a and b; 0 if there is none. */
static uint32_t composed(uint32_t a, uint32_t b)
{
    if (a >= L_BASE && a < L_BASE + L_N && b >= V_BASE && b < V_BASE + V_N)
        return S_BASE + ((a - L_BASE) * V_N + (b - V_BASE)) * T_N;
    if (a >= S_BASE && a < S_BASE + L_N * V_N * T_N && (a - S_BASE) % T_N == 0 && b > T_BASE && b < T_BASE + T_N)
        return a + (b - T_BASE);
    if (b < 0x300) return 0; /* no second half lies below; in particular not U+0000, which is ANY */
    const uint32_t *row = find_row(unicode_compose, unicode_compose_n, a, b);
    return row ? row[2] : 0;
}

static void compose(point_list *p)
{
    size_t out = 0, starter = SIZE_MAX;
    uint32_t last = 0; /* class of the mark kept last since the starter; 0: the starter itself is last */
    for (size_t i = 0; i < p->n; i++) {
        uint32_t cp = p->v[i], ccc = combining(cp), made = 0;
        bool next_to_it = starter != SIZE_MAX && starter + 1 == out;
        if (starter != SIZE_MAX && (next_to_it || last < ccc)) made = composed(p->v[starter], cp);
        if (made) {
            p->v[starter] = made;
            continue;
        }
        if (ccc == 0) starter = out;
        last = ccc;
        p->v[out++] = cp;
    }
    p->n = out;
}

char *unicode_nfc(const char *s, size_t n, size_t *out_n)
{
    /* Below U+0300 every text is in NFC; those code points are the lead bytes up to 0xcb. */
    size_t i = 0;
    while (i < n && (uint8_t)s[i] < 0xcc) i++;
    if (i == n) return NULL;
    point_list p = {0};
    uint32_t cp;
    for (int len; n && (len = unicode_next(s, n, &cp)) > 0; s += len, n -= (size_t)len) push_decomposed(&p, cp);
    CHECK(n == 0);
    for (size_t at = 0; at < p.n;) {
        size_t end = at;
        while (end < p.n && combining(p.v[end])) end++;
        if (end - at > 1) order_run(p.v + at, end - at);
        at = end + 1;
    }
    compose(&p);
    char *text = malloc(4 * p.n + 1);
    CHECK(text);
    size_t len = 0;
    for (size_t k = 0; k < p.n; k++) len += (size_t)unicode_put(p.v[k], text + len);
    free(p.v);
    *out_n = len;
    return text;
}

/* Bytes of the invalid part at s: a truncated sequence counts as one part, everything else byte by byte. */
static size_t invalid_part(const char *s, size_t n)
{
    const uint8_t *b = (const uint8_t *)s;
    if (b[0] < 0xc2 || b[0] > 0xf4 || n < 2) return 1;
    uint8_t lo = b[0] == 0xe0   ? 0xa0
                 : b[0] == 0xf0 ? 0x90
                                : 0x80,
            hi = b[0] == 0xed   ? 0x9f
                 : b[0] == 0xf4 ? 0x8f
                                : 0xbf;
    if (b[1] < lo || b[1] > hi) return 1;
    size_t len = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2, i = 2;
    while (i < len && i < n && (b[i] & 0xc0) == 0x80) i++;
    return i;
}

size_t unicode_unfinished(const char *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        uint8_t lead = (uint8_t)s[n - k];
        if ((lead & 0xc0) == 0x80) continue;
        size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        return lead >= 0xc2 && lead <= 0xf4 && k < len && invalid_part(s + n - k, k) == k ? k : 0;
    }
    return 0;
}

char *unicode_repair(const char *s, size_t n, size_t *out_n)
{
    char *out = malloc(3 * n + 1);
    CHECK(out);
    size_t at = 0;
    while (n) {
        uint32_t cp;
        size_t len = (size_t)unicode_next(s, n, &cp);
        if (len) {
            memcpy(out + at, s, len);
            at += len;
        } else {
            len = invalid_part(s, n);
            memcpy(out + at, "\xef\xbf\xbd", 3);
            at += 3;
        }
        s += len;
        n -= len;
    }
    out[at] = 0;
    if (out_n) *out_n = at;
    return out;
}
