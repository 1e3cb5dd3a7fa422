/* The Qwen pre-tokenizer as a hand-written scanner. Rules in the order of the regex's alternatives:
 *   1 contractions  2 [one odd char] letters  3 one number  4 [one space] punctuation, line ends after it
 *   5 white space up to its last line end  6 white space before the end or before one last space  7 white space */
#include "data/tokenizer_inside.h"

#include <string.h>

#include "data/unicode.h"

/* The text as far as a rule looks at it: valid UTF-8, ends at end. */
typedef struct scan {
    const uint8_t *points, *end;
} scan;

/* Bytes of the character at p, its kind in *kind. At the end: 0, and a kind that is none. */
static inline int look(scan t, const uint8_t *p, int *kind)
{
    if (p >= t.end) {
        *kind = -1;
        return 0;
    }
    uint32_t cp = p[0];
    int len = 1;
    if (cp >= 0xf0) {
        cp = (cp & 7) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
        len = 4;
    } else if (cp >= 0xe0) {
        cp = (cp & 15) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
        len = 3;
    } else if (cp >= 0x80) {
        cp = (cp & 31) << 6 | (p[1] & 0x3fu);
        len = 2;
    }
    *kind = t.points[cp] & UNICODE_KIND;
    return len;
}

static const uint8_t *run_of(scan t, const uint8_t *p, int kind)
{
    for (int k, len; (len = look(t, p, &k)) && k == kind; p += len) continue;
    return p;
}

static bool line_end(uint8_t c) { return c == '\r' || c == '\n'; }

/* Case folding as far as contractions need it; the long s (c5 bf) folds to s. */
static size_t contraction(const uint8_t *p, const uint8_t *end)
{
    if (end - p < 2) return 0;
    uint8_t a = p[1] | 32, b = end - p > 2 ? p[2] | 32 : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return end - p > 2 && p[1] == 0xc5 && p[2] == 0xbf ? 3 : 0;
}

static const uint8_t *space_end(scan t, const uint8_t *p)
{
    const uint8_t *line = NULL, *last = p, *from = p;
    for (int k, len; (len = look(t, p, &k)) && k == UNICODE_SPACE; p += len) {
        last = p;
        if (line_end(*p)) line = p + 1;
    }
    if (line) return line;
    return p == t.end || last == from ? p : last;
}

/* Where the piece at p < end ends. */
static const uint8_t *piece_end(scan t, const uint8_t *p)
{
    if (*p == '\'') {
        size_t n = contraction(p, t.end);
        if (n) return p + n;
    }
    int kind, next;
    const uint8_t *after = p + look(t, p, &kind);
    if (kind == UNICODE_LETTER) return run_of(t, after, UNICODE_LETTER);
    if (kind == UNICODE_NUMBER) return after;
    int len = look(t, after, &next);
    if (next == UNICODE_LETTER && !line_end(*p)) return run_of(t, after + len, UNICODE_LETTER);
    if (kind == UNICODE_OTHER || (*p == ' ' && next == UNICODE_OTHER)) {
        after = run_of(t, after, UNICODE_OTHER);
        while (after < t.end && line_end(*after)) after++;
        return after;
    }
    return space_end(t, p);
}

void tokenizer_split(const uint8_t *points, const char *s, size_t n, tokenizer_piece_fn *piece, void *ctx)
{
    const uint8_t *p = (const uint8_t *)s;
    scan t = {points, p + n};
    while (p < t.end) {
        const uint8_t *end = piece_end(t, p);
        CHECK(end > p && end <= t.end);
        piece(ctx, (const char *)p, (size_t)(end - p));
        p = end;
    }
}
