/* Merging the bytes of one piece into tokens: what a piece became before is remembered, short pieces are merged in a
 * row of ranks, long ones by a heap, so that a hostile text stays n log n. All three give the same ids. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_inside.h"
#include "data/unicode.h"

const merge_rule *tokenizer_find_merge(const tokenizer *t, int32_t a, int32_t b)
{
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b, bit = tokenizer_slot(pair, 8 * t->n_slot);
    if (!(t->maybe[bit / 8] >> bit % 8 & 1)) return NULL;
    for (uint64_t at = tokenizer_slot(pair, t->n_slot);; at = (at + 1) & (t->n_slot - 1)) {
        if (t->merges[at].made < 0) return NULL;
        if (t->merges[at].pair == pair) return &t->merges[at];
    }
}

/* ---- long pieces ---- */

/* A piece's symbols as a linked list, and a heap of the merges that are possible now: lowest rank, then leftmost. An
 * entry is stale when the pair at its place is no longer the one it was made for. */
typedef struct symbol {
    int32_t id, prev, next;
} symbol; /* id -1: merged away */
typedef struct chance {
    int32_t rank, at, made;
} chance;

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

static void merge_long(bpe *w, const char *piece, size_t n)
{
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

/* ---- short pieces ---- */

enum { SHORT = 40, NEVER = INT32_MAX };

typedef struct row {
    const tokenizer *t;
    int n;
    int32_t id[SHORT], rank[SHORT], made[SHORT]; /* rank and made of the pair that begins here; NEVER: no merge */
} row;

static void set_pair(row *r, int i, const merge_rule *m)
{
    r->rank[i] = m ? m->rank : NEVER;
    r->made[i] = m ? m->made : -1;
}

static void look_up(row *r, int i)
{
    if (i >= 0 && i < r->n) set_pair(r, i, i + 1 < r->n ? tokenizer_find_merge(r->t, r->id[i], r->id[i + 1]) : NULL);
}

static int merge_short(const tokenizer *t, const char *piece, int n, int32_t *out)
{
    row r = {.t = t, .n = n};
    const uint8_t *b = (const uint8_t *)piece;
    for (int i = 0; i < n; i++) {
        r.id[i] = t->byte_id[b[i]];
        set_pair(&r, i, i + 1 < n ? t->byte_pair[b[i] * 256 + b[i + 1]] : NULL);
    }
    for (;;) {
        int best = 0;
        for (int i = 1; i < r.n; i++)
            if (r.rank[i] < r.rank[best]) best = i;
        if (r.rank[best] == NEVER) break;
        r.id[best] = r.made[best];
        r.n--;
        for (int i = best + 1; i < r.n; i++) {
            r.id[i] = r.id[i + 1];
            r.rank[i] = r.rank[i + 1];
            r.made[i] = r.made[i + 1];
        }
        look_up(&r, best - 1);
        look_up(&r, best);
    }
    memcpy(out, r.id, (size_t)r.n * sizeof *out);
    return r.n;
}

/* ---- pieces seen before ---- */

enum { WORDS = 1 << 15, WORD_BYTES = 24, WORD_IDS = 9 };

typedef struct word {
    uint64_t key[3];
    uint8_t n, n_id; /* n 0: empty */
    int32_t id[WORD_IDS];
} word; /* a cache line */

typedef struct words {
    atomic_flag taken;
    word at[WORDS];
} words;

static uint64_t load8(const char *s)
{
    uint64_t v;
    memcpy(&v, s, sizeof v);
    return v;
}

static uint64_t load4(const char *s)
{
    uint32_t v;
    memcpy(&v, s, sizeof v);
    return v;
}

/* Bytes as words that overlap: with n they say every byte. 2 <= n <= WORD_BYTES. */
static void word_key(const char *s, size_t n, uint64_t key[3])
{
    key[1] = key[2] = 0;
    if (n >= 8) {
        key[0] = load8(s);
        key[1] = load8(s + n - 8);
        if (n > 16) key[2] = load8(s + 8);
    } else if (n >= 4) {
        key[0] = load4(s) | load4(s + n - 4) << 32;
    } else {
        key[0] = (uint8_t)s[0] | (uint64_t)(uint8_t)s[1] << 8 | (uint64_t)(uint8_t)s[n - 1] << 16;
    }
}

static word *word_slot(words *w, const uint64_t key[3], size_t n)
{
    uint64_t h = (key[0] ^ n) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ key[1]) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 32 ^ key[2]) * 0x94d049bb133111ebu;
    return &w->at[(h >> 40) & (WORDS - 1)];
}

words *tokenizer_take_words(const tokenizer *t)
{
    return t->words && !atomic_flag_test_and_set_explicit(&t->words->taken, memory_order_acquire) ? t->words : NULL;
}

void tokenizer_give_words(words *w)
{
    if (w) atomic_flag_clear_explicit(&w->taken, memory_order_release);
}

static void push_all(ids *l, const int32_t *id, int n)
{
    if (l->cap - l->n < n) {
        for (int i = 0; i < n; i++) ids_push(l, id[i]);
        return;
    }
    for (int i = 0; i < n; i++) l->v[l->n + i] = id[i];
    l->n += n;
}

void tokenizer_encode_piece(void *ctx, const char *piece, size_t n)
{
    bpe *w = ctx;
    if (n == 1) {
        ids_push(w->out, w->t->byte_id[(uint8_t)piece[0]]);
        return;
    }
    if (n > SHORT) {
        merge_long(w, piece, n);
        return;
    }
    uint64_t key[3];
    word *k = NULL;
    if (w->words && n <= WORD_BYTES) {
        word_key(piece, n, key);
        k = word_slot(w->words, key, n);
        if (k->n == n && k->key[0] == key[0] && k->key[1] == key[1] && k->key[2] == key[2]) {
            push_all(w->out, k->id, k->n_id);
            return;
        }
    }
    int32_t id[SHORT];
    int n_id = merge_short(w->t, piece, (int)n, id);
    push_all(w->out, id, n_id);
    if (!k || n_id > WORD_IDS) return;
    memcpy(k->key, key, sizeof key);
    memcpy(k->id, id, (size_t)n_id * sizeof *id);
    k->n = (uint8_t)n;
    k->n_id = (uint8_t)n_id;
}

status tokenizer_index_merges(tokenizer *t)
{
    t->byte_pair = malloc(65536 * sizeof *t->byte_pair);
    t->words = calloc(1, sizeof *t->words);
    t->points = unicode_points();
    t->maybe = calloc(t->n_slot, 1);
    if (!t->byte_pair || !t->words || !t->points || !t->maybe)
        return FAIL(ST_ENOMEM, "out of memory for the tables of a tokenizer");
    atomic_flag_clear(&t->words->taken);
    for (uint64_t i = 0; i < t->n_slot; i++) {
        uint64_t bit = tokenizer_slot(t->merges[i].pair, 8 * t->n_slot);
        if (t->merges[i].made >= 0) t->maybe[bit / 8] |= (uint8_t)(1 << bit % 8);
    }
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) t->byte_pair[a * 256 + b] = tokenizer_find_merge(t, t->byte_id[a], t->byte_id[b]);
    return ST_OK;
}
