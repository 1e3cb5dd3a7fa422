#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_inside.h"
#include "data/unicode.h"

void ids_push(ids *l, int32_t id)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->v = realloc(l->v, (size_t)l->cap * sizeof *l->v);
        CHECK(l->v);
    }
    l->v[l->n++] = id;
}

void ids_free(ids *l)
{
    free(l->v);
    *l = (ids){0};
}

void tokenizer_destroy(tokenizer *t)
{
    if (!t) return;
    for (int i = 0; i < t->n; i++) free(t->tokens[i].text);
    free(t->tokens);
    free(t->merges);
    free(t->points);
    free(t->maybe);
    free(t->words);
    free(t->byte_pair);
    free(t->added);
    free(t);
}

int tokenizer_vocab(const tokenizer *t) { return t->n; }

int tokenizer_id(const tokenizer *t, const char *added)
{
    for (int i = t->added_from[(uint8_t)added[0]]; i < t->added_from[(uint8_t)added[0] + 1]; i++)
        if (!strcmp(t->tokens[t->added[i]].text, added)) return t->added[i];
    return -1;
}

/* Bytes 0x21-0x7e, 0xa1-0xac, 0xae-0xff stand for themselves; the other 68, in order, for U+0100 and following. */
uint32_t tokenizer_byte_symbol(uint8_t byte)
{
    if (byte <= 0x20) return 0x100u + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121u + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

int tokenizer_symbol_byte(uint32_t cp)
{
    int byte = cp < 0x100    ? (int)cp
               : cp <= 0x120 ? (int)cp - 0x100
               : cp <= 0x142 ? (int)cp - 0x121 + 0x7f
               : cp == 0x143 ? 0xad
                             : -1;
    return byte >= 0 && tokenizer_byte_symbol((uint8_t)byte) == cp ? byte : -1;
}

added_match tokenizer_find_added(const tokenizer *t, const char *s, size_t n, size_t from)
{
    for (size_t at = from; at < n; at++) {
        if (t->added_first >= 0) { /* all of them begin with the same byte, "<" in every known vocabulary */
            const char *hit = memchr(s + at, t->added_first, n - at);
            if (!hit) break;
            at = (size_t)(hit - s);
        }
        uint8_t first = (uint8_t)s[at];
        for (int i = t->added_from[first]; i < t->added_from[first + 1]; i++) {
            const token *k = &t->tokens[t->added[i]];
            if ((size_t)k->len <= n - at && !memcmp(s + at, k->text, (size_t)k->len))
                return (added_match){t->added[i], at, (size_t)k->len};
        }
    }
    return (added_match){-1, n, 0};
}

/* By first byte, longer ones first, equal ones side by side. */
static int order_added(const void *a, const void *b, void *tokens)
{
    const token *p = (const token *)tokens + *(const int32_t *)a, *q = (const token *)tokens + *(const int32_t *)b;
    int first = (int)(uint8_t)p->text[0] - (int)(uint8_t)q->text[0];
    return first ? first : p->len != q->len ? q->len - p->len : memcmp(p->text, q->text, (size_t)p->len);
}

void tokenizer_index_added(tokenizer *t)
{
    qsort_r(t->added, (size_t)t->n_added, sizeof *t->added, order_added, t->tokens);
    int i = 0;
    for (int b = 0; b <= 256; b++) {
        while (i < t->n_added && (int)(uint8_t)t->tokens[t->added[i]].text[0] < b) i++;
        t->added_from[b] = i;
    }
    t->added_first = -1;
    if (t->n_added) {
        uint8_t first = (uint8_t)t->tokens[t->added[0]].text[0];
        if (t->added_from[first + 1] == t->n_added) t->added_first = first;
    }
}

status tokenizer_encode(const tokenizer *t, const char *text, size_t n, bool parse_special, ids *out)
{
    if (n > (size_t)INT32_MAX / 4) return FAIL(ST_EINVAL, "a text of %zu bytes is too long to tokenize at once", n);
    bool normal = true;
    if (!unicode_scan(t->points, text, n, &normal)) return FAIL(ST_EINVAL, "the text to tokenize is not valid UTF-8");
    bpe w = {.t = t, .out = out, .words = tokenizer_take_words(t)};
    for (size_t at = 0; at < n;) {
        added_match m = {-1, n, 0};
        if (parse_special) m = tokenizer_find_added(t, text, n, at);
        size_t len = m.at - at, n_nfc = len;
        char *nfc = normal ? NULL : unicode_nfc(text + at, len, &n_nfc);
        tokenizer_split(t->points, nfc ? nfc : text + at, n_nfc, tokenizer_encode_piece, &w);
        free(nfc);
        if (m.id >= 0) ids_push(out, m.id);
        at = m.at + m.len;
    }
    tokenizer_give_words(w.words);
    free(w.sym);
    free(w.heap);
    return ST_OK;
}

void tokenizer_decode(const tokenizer *t, const int32_t *id, int n, bool skip_special, char **buf, size_t *len)
{
    size_t more = 0;
    for (int i = 0; i < n; i++)
        if (id[i] >= 0 && id[i] < t->n) more += (size_t)t->tokens[id[i]].len;
    char *grown = realloc(*buf, *len + more + 1);
    CHECK(grown);
    *buf = grown;
    for (int i = 0; i < n; i++) {
        if (id[i] < 0 || id[i] >= t->n) continue;
        const token *k = &t->tokens[id[i]];
        if (!k->used || (skip_special && k->special)) continue;
        memcpy(grown + *len, k->text, (size_t)k->len);
        *len += (size_t)k->len;
    }
    grown[*len] = 0;
}

char *tokenizer_text(const tokenizer *t, const int32_t *id, int n, bool skip_special)
{
    char *raw = NULL;
    size_t len = 0;
    tokenizer_decode(t, id, n, skip_special, &raw, &len);
    char *text = unicode_repair(raw, len, NULL);
    free(raw);
    return text;
}

static void append(char **buf, size_t *len, const char *text, size_t n)
{
    char *grown = realloc(*buf, *len + n + 1);
    CHECK(grown);
    *buf = grown;
    memcpy(grown + *len, text, n);
    *len += n;
    grown[*len] = 0;
}

void tokenizer_stream_push(const tokenizer *t, tokenizer_stream *s, const int32_t *id, int n, bool skip_special,
                           char **buf, size_t *len)
{
    char *raw = NULL;
    size_t size = 0;
    append(&raw, &size, s->tail, (size_t)s->n);
    tokenizer_decode(t, id, n, skip_special, &raw, &size);
    size_t wait = unicode_unfinished(raw, size), n_text;
    char *text = unicode_repair(raw, size - wait, &n_text);
    memcpy(s->tail, raw + size - wait, wait);
    s->n = (int)wait;
    append(buf, len, text, n_text);
    free(text);
    free(raw);
}

void tokenizer_stream_end(tokenizer_stream *s, char **buf, size_t *len)
{
    append(buf, len, "\xef\xbf\xbd", s->n ? 3 : 0);
    s->n = 0;
}
