/* What the tokenizer's own files share: reading tokenizer.json, cutting text into pieces, merging. Private to data/. */
#ifndef DATA_TOKENIZER_INSIDE_H
#define DATA_TOKENIZER_INSIDE_H

#include "core/json.h"
#include "data/tokenizer.h"

/* The one pre-tokenizer regex that is supported; Qwen2, 2.5, 3 and both VL families have it. */
#define TOKENIZER_REGEX                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|" \
    "\\s+(?!\\S)|\\s+"

/* Text of every id. used false: a row without a string. */
typedef struct token {
    char *text;
    int32_t len;
    bool used, added, special;
} token;

typedef struct merge_rule {
    uint64_t pair;
    int32_t rank, made;
} merge_rule; /* pair = a << 32 | b; made < 0: empty slot */

struct tokenizer {
    int n;         /* highest id + 1 */
    token *tokens; /* (n) */
    int32_t byte_id[256];
    merge_rule *merges; /* open addressing, n_slot a power of two */
    uint64_t n_slot;
    uint8_t *maybe;               /* (n_slot) 8 bits a slot by the pair's hash; 0: no merge, and no look at the table */
    const merge_rule **byte_pair; /* (256, 256) of bytes, NULL: no merge */
    uint8_t *points;              /* see unicode_points */
    struct words *words;          /* what pieces became, remembered */
    int32_t *added;               /* ids of added tokens grouped by first byte, longer ones first within a group */
    int n_added;
    int added_from[257];
    int added_first; /* the byte all added tokens begin with; -1: they differ, or there are none */
};

/* Fills a zeroed t from the vocabulary (object), merges (list) and added tokens (list or null) of a tokenizer.json. */

status tokenizer_read_parts(tokenizer *t, const json *vocab, const json *merges, const json *added);

/* Byte-level alphabet: every byte is written as a printable code point. */
uint32_t tokenizer_byte_symbol(uint8_t byte);
/* Byte of a symbol, -1 if the code point is no symbol. */
int tokenizer_symbol_byte(uint32_t cp);

/* Cuts valid UTF-8 in NFC as the regex does and calls piece for each, in order. points: see unicode_points. */
typedef void tokenizer_piece_fn(void *ctx, const char *piece, size_t n);
void tokenizer_split(const uint8_t *points, const char *s, size_t n, tokenizer_piece_fn *piece, void *ctx);

/* Merging. One for a whole text; sym and heap are the owner's to free. */
typedef struct bpe {
    const tokenizer *t;
    ids *out;
    struct words *words; /* NULL: another thread has them */
    struct symbol *sym;
    struct chance *heap;
    size_t cap;
    int n_heap;
} bpe;
void tokenizer_encode_piece(void *ctx, const char *piece, size_t n); /* ctx: bpe */
/* What needs every merge: the tables beside t->merges. */
status tokenizer_index_merges(tokenizer *t);
/* The memory of pieces is one per tokenizer; whoever finds it taken does without. NULL is legal for give. */
struct words *tokenizer_take_words(const tokenizer *t);
void tokenizer_give_words(struct words *w);

/* The leftmost, longest added token in s[from..n). None: id -1, at n, len 0. */
typedef struct added_match {
    int32_t id;
    size_t at, len;
} added_match;
added_match tokenizer_find_added(const tokenizer *t, const char *s, size_t n, size_t from);
/* Sorts t->added and fills added_from. */
void tokenizer_index_added(tokenizer *t);

/* Where a pair starts looking in a table of n slots (a power of two). */
static inline uint64_t tokenizer_slot(uint64_t pair, uint64_t n)
{
    uint64_t h = pair * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) & (n - 1);
}

const merge_rule *tokenizer_find_merge(const tokenizer *t, int32_t a, int32_t b);

/* What a learnt tokenizer is made of: texts of its symbols by id, and merges a << 32 | b in order. */
typedef struct tokenizer_plan {
    char *const *symbol;
    int n_symbol;
    const uint64_t *merges;
    int n_merge;
    const added_token *added;
    int n_added;
} tokenizer_plan;
status tokenizer_save(const tokenizer_plan *t, const char *path);

#endif
