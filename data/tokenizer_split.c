/* The Qwen pre-tokenizer as a hand-written scanner over code points. Rules in the order of the regex's alternatives:
 *   1 contractions  2 [one odd char] letters  3 one number  4 [one space] punctuation, line ends after it
 *   5 white space up to its last line end  6 white space before the end or before one last space  7 white space */
#include "data/tokenizer_inside.h"

#include <stdlib.h>
#include <string.h>

#include "data/unicode.h"

/* A code point with its kind in the upper byte. */
static uint32_t point(uint32_t v) { return v & 0xffffff; }
static uint32_t kind(uint32_t v) { return v >> 24; }
static bool line_end(uint32_t v) { return point(v) == '\r' || point(v) == '\n'; }

/* Case folding as far as contractions need it; the long s folds to s. */
static uint32_t folded(uint32_t v)
{
    uint32_t cp = point(v);
    return cp == 0x17f ? 's' : cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
}

static size_t contraction(const uint32_t *c, size_t n)
{
    if (n < 2 || point(c[0]) != '\'') return 0;
    uint32_t a = folded(c[1]), b = n > 2 ? folded(c[2]) : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

static size_t run_of(const uint32_t *c, size_t i, size_t n, uint32_t k)
{
    while (i < n && kind(c[i]) == k) i++;
    return i;
}

/* Length of the piece at the start of c[0..n), n > 0. */
static size_t piece_length(const uint32_t *c, size_t n)
{
    size_t i = contraction(c, n);
    if (i) return i;
    if (kind(c[0]) == UNICODE_LETTER) return run_of(c, 0, n, UNICODE_LETTER);
    if (kind(c[0]) != UNICODE_NUMBER && !line_end(c[0]) && n > 1 && kind(c[1]) == UNICODE_LETTER)
        return run_of(c, 1, n, UNICODE_LETTER);
    if (kind(c[0]) == UNICODE_NUMBER) return 1;
    size_t from = point(c[0]) == ' ';
    i = run_of(c, from, n, UNICODE_OTHER);
    if (i > from) {
        while (i < n && line_end(c[i])) i++;
        return i;
    }
    size_t end = run_of(c, 0, n, UNICODE_SPACE);
    for (i = end; i > 0; i--)
        if (line_end(c[i - 1])) return i;
    return end == n || end == 1 ? end : end - 1;
}

void tokenizer_split(const char *s, size_t n, tokenizer_piece_fn *piece, void *ctx)
{
    if (n == 0) return;
    char *composed = unicode_nfc(s, n, &n);
    if (composed) s = composed;
    uint32_t *c = malloc(n * sizeof *c), cp;
    CHECK(c);
    size_t count = 0;
    for (size_t at = 0; at < n;) {
        int len = unicode_next(s + at, n - at, &cp);
        CHECK(len > 0);
        c[count++] = cp | (uint32_t)unicode_kind_of(cp) << 24;
        at += (size_t)len;
    }
    for (size_t i = 0; i < count;) {
        size_t len = piece_length(c + i, count - i), bytes = 0;
        CHECK(len > 0 && len <= count - i);
        for (size_t k = i; k < i + len; k++) {
            uint32_t v = point(c[k]);
            bytes += v < 0x80 ? 1 : v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
        }
        piece(ctx, s, bytes);
        s += bytes;
        i += len;
    }
    free(c);
    free(composed);
}
