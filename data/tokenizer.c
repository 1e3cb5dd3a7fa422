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
}

const merge_rule *tokenizer_find_merge(const tokenizer *t, int32_t a, int32_t b)
{
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    for (uint64_t at = tokenizer_slot(pair, t->n_slot);; at = (at + 1) & (t->n_slot - 1)) {
        if (t->merges[at].made < 0) return NULL;
        if (t->merges[at].pair == pair) return &t->merges[at];
    }
}

/* A piece's symbols as a linked list, and a heap of the merges that are possible now: lowest rank, then leftmost. An
 * entry is stale when the pair at its place is no longer the one it was made for. */
typedef struct symbol {
    int32_t id, prev, next;
} symbol; /* id -1: merged away */
typedef struct chance {
    int32_t rank, at, made;
} chance;
typedef struct bpe {
    const tokenizer *t;
    ids *out;
    symbol *sym;
    chance *heap;
    size_t cap;
    int n_heap;
} bpe;

static bool sooner(chance a, chance b) { return a.rank < b.rank || (a.rank == b.rank && a.at < b.at); }

static void heap_push(bpe *w, chance c)
{
    int i = w->n_heap++;
    for (; i > 0 && sooner(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static chance heap_pop(bpe *w)
{
    chance top = w->heap[0], last = w->heap[--w->n_heap];
    int i = 0;
    for (int k; (k = 2 * i + 1) < w->n_heap; i = k) {
        if (k + 1 < w->n_heap && sooner(w->heap[k + 1], w->heap[k])) k++;
        if (!sooner(w->heap[k], last)) break;
        w->heap[i] = w->heap[k];
    }
    w->heap[i] = last;
    return top;
}

static void consider(bpe *w, int32_t at)
{
    if (at < 0 || w->sym[at].next < 0) return;
    const merge_rule *m = tokenizer_find_merge(w->t, w->sym[at].id, w->sym[w->sym[at].next].id);
    if (m) heap_push(w, (chance){m->rank, at, m->made});
}

static void encode_piece(void *ctx, const char *piece, size_t n)
{
    bpe *w = ctx;
    if (n == 1) {
        ids_push(w->out, w->t->byte_id[(uint8_t)piece[0]]);
        return;
    }
    if (n > w->cap) { /* each merge adds at most two chances: 3n is enough */
        w->cap = 2 * n;
        w->sym = realloc(w->sym, w->cap * sizeof *w->sym);
        w->heap = realloc(w->heap, 3 * w->cap * sizeof *w->heap);
        CHECK(w->sym && w->heap);
    }
    for (size_t i = 0; i < n; i++)
        w->sym[i] = (symbol){w->t->byte_id[(uint8_t)piece[i]], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    w->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++) consider(w, (int32_t)i);
    while (w->n_heap) {
        chance c = heap_pop(w);
        symbol *s = &w->sym[c.at];
        if (s->id < 0 || s->next < 0) continue;
        symbol *right = &w->sym[s->next];
        const merge_rule *m = tokenizer_find_merge(w->t, s->id, right->id);
        if (!m || m->made != c.made || m->rank != c.rank) continue;
        s->id = m->made;
        s->next = right->next;
        right->id = -1;
        if (s->next >= 0) w->sym[s->next].prev = c.at;
        consider(w, s->prev);
        consider(w, c.at);
    }
    for (int32_t i = 0; i >= 0; i = w->sym[i].next) ids_push(w->out, w->sym[i].id);
}

status tokenizer_encode(const tokenizer *t, const char *text, size_t n, bool parse_special, ids *out)
{
    if (n > (size_t)INT32_MAX / 4) return FAIL(ST_EINVAL, "a text of %zu bytes is too long to tokenize at once", n);
    if (!unicode_valid(text, n)) return FAIL(ST_EINVAL, "the text to tokenize is not valid UTF-8");
    bpe w = {.t = t, .out = out};
    for (size_t at = 0; at < n;) {
        added_match m = {-1, n, 0};
        if (parse_special) m = tokenizer_find_added(t, text, n, at);
        tokenizer_split(text + at, m.at - at, encode_piece, &w);
        if (m.id >= 0) ids_push(out, m.id);
        at = m.at + m.len;
    }
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
