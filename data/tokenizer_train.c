/* Byte-pair encoding learnt from texts (Sennrich et al. 2016): the pair with the largest count becomes a symbol, again
 * and again. Counts are kept up to date pair by pair: a merge visits only the words that contain its pair. Ids of the
 * 256 bytes are in the order of their symbols, as in Qwen's and GPT-2's files; ties go to the smaller pair of ids, as
 * in Hugging Face's trainer, so the same texts give the same merges there. */
#include "data/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_inside.h"
#include "data/unicode.h"

typedef struct word {
    int32_t *sym;
    int n;
    int64_t count;
    char *text;
    size_t len;
} word;
/* words: those that held the pair when it was last seen there; may name words that lost it since. */
typedef struct pair_stat {
    uint64_t pair;
    int64_t count;
    int32_t *words;
    int n_word, cap;
    bool used;
} pair_stat;
typedef struct candidate {
    int64_t count;
    uint64_t pair;
} candidate;

typedef struct trainer {
    word *words;
    int32_t n_word, cap_word;
    int32_t *word_slot; /* text -> word, -1 empty */
    uint64_t n_word_slot;
    pair_stat *pairs;
    uint64_t n_pair, n_pair_slot;
    candidate *heap;
    size_t n_heap, cap_heap;
    char **symbol; /* text of every id in the byte alphabet */
    int n_symbol;
    int32_t *symbol_slot; /* text -> id, -1 empty */
    uint64_t n_symbol_slot;
    uint64_t *merges;
    int n_merge;
    int32_t byte_id[256];
} trainer;

static void *grow(void *p, size_t n, size_t each)
{
    void *q = realloc(p, n * each);
    CHECK(q);
    return q;
}

/* Words by text. */

static uint64_t text_hash(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
    return h;
}

static uint64_t word_at(const trainer *t, const char *s, size_t n)
{
    uint64_t at = tokenizer_slot(text_hash(s, n), t->n_word_slot);
    for (;; at = (at + 1) & (t->n_word_slot - 1)) {
        if (t->word_slot[at] < 0) return at;
        const word *w = &t->words[t->word_slot[at]];
        if (w->len == n && !memcmp(w->text, s, n)) return at;
    }
}

static void grow_words(trainer *t)
{
    t->n_word_slot = t->n_word_slot ? 2 * t->n_word_slot : 4096;
    t->word_slot = grow(t->word_slot, t->n_word_slot, sizeof *t->word_slot);
    for (uint64_t i = 0; i < t->n_word_slot; i++) t->word_slot[i] = -1;
    for (int32_t i = 0; i < t->n_word; i++) t->word_slot[word_at(t, t->words[i].text, t->words[i].len)] = i;
}

static void count_piece(void *ctx, const char *s, size_t n)
{
    trainer *t = ctx;
    if (n < 2) return; /* nothing to merge in it */
    if (2 * (uint64_t)t->n_word >= t->n_word_slot) grow_words(t);
    uint64_t at = word_at(t, s, n);
    if (t->word_slot[at] >= 0) {
        t->words[t->word_slot[at]].count++;
        return;
    }
    if (t->n_word == t->cap_word) {
        t->cap_word = t->cap_word ? 2 * t->cap_word : 1024;
        t->words = grow(t->words, (size_t)t->cap_word, sizeof *t->words);
    }
    word w = {.n = (int)n, .count = 1, .len = n};
    w.text = grow(NULL, n, 1);
    w.sym = grow(NULL, n, sizeof *w.sym);
    memcpy(w.text, s, n);
    for (size_t i = 0; i < n; i++) w.sym[i] = t->byte_id[(uint8_t)s[i]];
    t->word_slot[at] = t->n_word;
    t->words[t->n_word++] = w;
}

/* Pairs and the heap: largest count first, then the smaller pair. */

static pair_stat *pair_find(trainer *t, uint64_t pair)
{
    uint64_t at = tokenizer_slot(pair, t->n_pair_slot);
    while (t->pairs[at].used && t->pairs[at].pair != pair) at = (at + 1) & (t->n_pair_slot - 1);
    return &t->pairs[at];
}

static pair_stat *pair_make(trainer *t, uint64_t pair)
{
    if (2 * t->n_pair >= t->n_pair_slot) {
        pair_stat *old = t->pairs;
        uint64_t n_old = t->n_pair_slot;
        t->n_pair_slot = n_old ? 2 * n_old : 4096;
        t->pairs = calloc(t->n_pair_slot, sizeof *t->pairs);
        CHECK(t->pairs);
        for (uint64_t i = 0; i < n_old; i++)
            if (old[i].used) *pair_find(t, old[i].pair) = old[i];
        free(old);
    }
    pair_stat *p = pair_find(t, pair);
    if (!p->used) {
        *p = (pair_stat){.pair = pair, .used = true};
        t->n_pair++;
    }
    return p;
}

static bool better(candidate a, candidate b) { return a.count > b.count || (a.count == b.count && a.pair < b.pair); }

static void heap_push(trainer *t, candidate c)
{
    if (t->n_heap == t->cap_heap) {
        t->cap_heap = t->cap_heap ? 2 * t->cap_heap : 4096;
        t->heap = grow(t->heap, t->cap_heap, sizeof *t->heap);
    }
    size_t i = t->n_heap++;
    for (; i > 0 && better(c, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = c;
}

static candidate heap_pop(trainer *t)
{
    candidate top = t->heap[0], last = t->heap[--t->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < t->n_heap; i = k) {
        if (k + 1 < t->n_heap && better(t->heap[k + 1], t->heap[k])) k++;
        if (!better(t->heap[k], last)) break;
        t->heap[i] = t->heap[k];
    }
    t->heap[i] = last;
    return top;
}

static void pair_add(trainer *t, int32_t a, int32_t b, int64_t count, int32_t in_word)
{
    pair_stat *p = pair_make(t, (uint64_t)a << 32 | (uint64_t)b);
    p->count += count;
    if (count < 0 || (p->n_word && p->words[p->n_word - 1] == in_word)) return;
    if (p->n_word == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 4;
        p->words = grow(p->words, (size_t)p->cap, sizeof *p->words);
    }
    p->words[p->n_word++] = in_word;
}

/* Replaces the pair in one word and moves its counts; new pairs get a place in the heap. */
static void merge_in_word(trainer *t, int32_t index, int32_t a, int32_t b, int32_t made)
{
    word *w = &t->words[index];
    bool found = false;
    for (int i = 0; i + 1 < w->n && !found; i++) found = w->sym[i] == a && w->sym[i + 1] == b;
    if (!found) return;
    for (int i = 0; i + 1 < w->n; i++) pair_add(t, w->sym[i], w->sym[i + 1], -w->count, index);
    int k = 0;
    for (int i = 0; i < w->n; i++) {
        bool hit = i + 1 < w->n && w->sym[i] == a && w->sym[i + 1] == b;
        w->sym[k++] = hit ? made : w->sym[i];
        i += hit;
    }
    w->n = k;
    for (int i = 0; i + 1 < w->n; i++) {
        pair_add(t, w->sym[i], w->sym[i + 1], w->count, index);
        if (w->sym[i] == made || w->sym[i + 1] == made) {
            uint64_t pair = (uint64_t)w->sym[i] << 32 | (uint64_t)w->sym[i + 1];
            heap_push(t, (candidate){pair_find(t, pair)->count, pair});
        }
    }
}

/* Id of the symbol that a and b make; an equal text made by another pair before is the same symbol. */
static int32_t symbol_of(trainer *t, int32_t a, int32_t b)
{
    size_t n = strlen(t->symbol[a]), m = strlen(t->symbol[b]);
    char *text = grow(NULL, n + m + 1, 1);
    memcpy(text, t->symbol[a], n);
    memcpy(text + n, t->symbol[b], m + 1);
    uint64_t at = tokenizer_slot(text_hash(text, n + m), t->n_symbol_slot);
    for (; t->symbol_slot[at] >= 0; at = (at + 1) & (t->n_symbol_slot - 1))
        if (!strcmp(t->symbol[t->symbol_slot[at]], text)) {
            free(text);
            return t->symbol_slot[at];
        }
    t->symbol[t->n_symbol] = text;
    return t->symbol_slot[at] = t->n_symbol++;
}

static status learn(trainer *t, int merges)
{
    for (int32_t i = 0; i < t->n_word; i++)
        for (int k = 0; k + 1 < t->words[i].n; k++)
            pair_add(t, t->words[i].sym[k], t->words[i].sym[k + 1], t->words[i].count, i);
    for (uint64_t i = 0; i < t->n_pair_slot; i++)
        if (t->pairs[i].used) heap_push(t, (candidate){t->pairs[i].count, t->pairs[i].pair});
    while (t->n_merge < merges) {
        if (t->n_heap == 0) break; /* every word is one token already */
        candidate c = heap_pop(t);
        pair_stat *p = pair_find(t, c.pair);
        if (p->count != c.count) { /* counts fell since it was queued: queue what is left */
            if (p->count > 0 && p->count < c.count) heap_push(t, (candidate){p->count, c.pair});
            continue;
        }
        if (p->count == 0) continue;
        int32_t a = (int32_t)(c.pair >> 32), b = (int32_t)(c.pair & 0xffffffff), made = symbol_of(t, a, b);
        t->merges[t->n_merge++] = c.pair;
        int32_t *in = p->words; /* the table may move and grow while words change */
        int n_in = p->n_word;
        p->words = NULL;
        p->n_word = p->cap = 0;
        for (int i = 0; i < n_in; i++) merge_in_word(t, in[i], a, b, made);
        free(in);
    }
    return ST_OK;
}

/* Pieces between added tokens; the index of them is borrowed from a tokenizer that has nothing else. */
static status count_texts(trainer *t, const char *const *texts, int64_t n, const added_token *added, int n_added)
{
    tokenizer k = {.n = n_added, .n_added = n_added};
    k.tokens = grow(NULL, (size_t)n_added + 1, sizeof *k.tokens);
    k.added = grow(NULL, (size_t)n_added + 1, sizeof *k.added);
    for (int i = 0; i < n_added; i++) {
        k.tokens[i] = (token){(char *)added[i].text, (int32_t)strlen(added[i].text), true, true, added[i].special};
        k.added[i] = i;
    }
    tokenizer_index_added(&k);
    uint8_t *points = unicode_points();
    status st = points ? ST_OK : FAIL(ST_ENOMEM, "out of memory for the table of characters");
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        size_t len = strlen(texts[i]);
        bool normal;
        if (!unicode_scan(points, texts[i], len, &normal))
            st = FAIL(ST_EINVAL, "text %lld to learn from is not valid UTF-8", (long long)i);
        for (size_t at = 0; at < len && st == ST_OK;) {
            added_match m = tokenizer_find_added(&k, texts[i], len, at);
            size_t n_piece = m.at - at;
            char *nfc = unicode_nfc(texts[i] + at, n_piece, &n_piece);
            tokenizer_split(points, nfc ? nfc : texts[i] + at, n_piece, count_piece, t);
            free(nfc);
            at = m.at + m.len;
        }
    }
    free(points);
    free(k.tokens);
    free(k.added);
    return st;
}

static void trainer_free(trainer *t)
{
    for (int32_t i = 0; i < t->n_word; i++) {
        free(t->words[i].sym);
        free(t->words[i].text);
    }
    for (uint64_t i = 0; i < t->n_pair_slot; i++) free(t->pairs[i].words);
    for (int i = 0; i < t->n_symbol; i++) free(t->symbol[i]);
    free(t->words);
    free(t->word_slot);
    free(t->pairs);
    free(t->heap);
    free(t->symbol);
    free(t->symbol_slot);
    free(t->merges);
}

status tokenizer_train(const char *const *texts, int64_t n, const added_token *added, int n_added, int merges,
                       const char *path)
{
    CHECK(merges >= 0 && n_added >= 0);
    trainer t = {.n_symbol = 0};
    t.symbol = grow(NULL, 256 + (size_t)merges, sizeof *t.symbol);
    t.merges = grow(NULL, (size_t)merges + 1, sizeof *t.merges);
    for (t.n_symbol_slot = 1024; t.n_symbol_slot < 2 * (uint64_t)merges;) t.n_symbol_slot *= 2;
    t.symbol_slot = grow(NULL, t.n_symbol_slot, sizeof *t.symbol_slot);
    for (uint64_t i = 0; i < t.n_symbol_slot; i++) t.symbol_slot[i] = -1;
    for (uint32_t cp = 0; cp < 0x144; cp++) {
        int byte = tokenizer_symbol_byte(cp);
        if (byte < 0) continue;
        char *text = calloc(1, 5);
        CHECK(text);
        unicode_put(cp, text);
        t.byte_id[byte] = t.n_symbol;
        t.symbol[t.n_symbol++] = text;
    }
    grow_words(&t);
    status st = count_texts(&t, texts, n, added, n_added);
    if (st == ST_OK) st = learn(&t, merges);
    if (st == ST_OK) {
        const tokenizer_plan plan = {t.symbol, t.n_symbol, t.merges, t.n_merge, added, n_added};
        st = tokenizer_save(&plan, path);
    }
    trainer_free(&t);
    return st;
}
