/* Reads tokenizer.json. Everything in the file that would change ids and is not what this tokenizer does is refused. */
#include "data/tokenizer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/tokenizer_inside.h"
#include "data/unicode.h"

enum { MAX_ID = 1 << 24, MAX_FILE = 1 << 28 };

static bool absent(const json *v) { return json_kind(v) == JSON_NULL; }
static bool is_false(const json *v) { return json_kind(v) == JSON_BOOL && !json_bool(v); }
static bool is_str(const json *v, const char *want)
{
    const char *s = json_str(v);
    return s && !strcmp(s, want);
}
static bool is_type(const json *v, const char *want) { return is_str(json_get(v, "type"), want); }

static status check_pre_tokenizer(const json *pre)
{
    const json *list = json_get(pre, "pretokenizers"), *cut = json_at(list, 0), *level = json_at(list, 1);
    if (!is_type(pre, "Sequence") || json_len(list) != 2 || !is_type(cut, "Split") || !is_type(level, "ByteLevel"))
        return FAIL(ST_EINVAL, "pre_tokenizer must be a Sequence of Split and ByteLevel, as in Qwen2");
    if (!is_str(json_get(json_get(cut, "pattern"), "Regex"), TOKENIZER_REGEX))
        return FAIL(ST_EINVAL,
                    "the pre_tokenizer's Split pattern is not the one of Qwen2, 2.5 and 3, the only one supported");
    if (!is_str(json_get(cut, "behavior"), "Isolated") || !is_false(json_get(cut, "invert")))
        return FAIL(ST_EINVAL, "the pre_tokenizer's Split must have behavior Isolated and invert false");
    if (!is_false(json_get(level, "add_prefix_space")) || !is_false(json_get(level, "use_regex")))
        return FAIL(ST_EINVAL, "the pre_tokenizer's ByteLevel must have add_prefix_space false and use_regex false");
    return ST_OK;
}

/* What transformers 5 saves: a TemplateProcessing of the text alone. */
static bool adds_tokens(const json *post)
{
    if (absent(post) || is_type(post, "ByteLevel")) return false;
    const json *single = json_get(post, "single");
    if (!is_type(post, "TemplateProcessing") || json_kind(single) != JSON_ARRAY) return true;
    for (int64_t i = 0; i < json_len(single); i++)
        if (!json_get(json_at(single, i), "Sequence")) return true;
    return json_len(single) != 1;
}

static status check_parts(const json *root)
{
    const json *norm = json_get(root, "normalizer"), *post = json_get(root, "post_processor"),
               *dec = json_get(root, "decoder");
    const json *model = json_get(root, "model");
    if (!is_type(norm, "NFC")) return FAIL(ST_EINVAL, "normalizer must be NFC, nothing else is supported");
    TRY(check_pre_tokenizer(json_get(root, "pre_tokenizer")));
    if (adds_tokens(post))
        return FAIL(ST_EINVAL, "post_processor must be null, ByteLevel or a TemplateProcessing of the text alone; one "
                               "that adds tokens is not supported");
    if (!is_type(dec, "ByteLevel")) return FAIL(ST_EINVAL, "decoder must be ByteLevel, nothing else is supported");
    if (!is_type(model, "BPE")) return FAIL(ST_EINVAL, "model must be BPE, nothing else is supported");
    if (!absent(json_get(model, "dropout"))) return FAIL(ST_EINVAL, "model.dropout must be null");
    static const char *const off[] = {"byte_fallback", "ignore_merges", "fuse_unk"};
    for (int i = 0; i < 3; i++)
        if (!absent(json_get(model, off[i])) && !is_false(json_get(model, off[i])))
            return FAIL(ST_EINVAL, "model.%s must be false", off[i]);
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++)
        if (!absent(json_get(model, empty[i])) && !is_str(json_get(model, empty[i]), ""))
            return FAIL(ST_EINVAL, "model.%s must be empty", empty[i]);
    return ST_OK;
}

/* Bytes that a vocabulary string stands for; a string outside the byte alphabet stands for itself. */
static char *to_bytes(const char *s, size_t n, int32_t *len)
{
    char *out = malloc(n + 1);
    CHECK(out);
    int32_t k = 0;
    uint32_t cp;
    for (size_t at = 0; at < n;) {
        at += (size_t)unicode_next(s + at, n - at, &cp); /* the JSON reader lets valid UTF-8 pass only */
        int byte = tokenizer_symbol_byte(cp);
        if (byte < 0) {
            memcpy(out, s, n);
            k = (int32_t)n;
            break;
        }
        out[k++] = (char)byte;
    }
    out[k] = 0;
    *len = k;
    return out;
}

static status read_vocab(tokenizer *t, const json *vocab)
{
    int64_t count = json_len(vocab);
    if (json_kind(vocab) != JSON_OBJECT) return FAIL(ST_EINVAL, "model.vocab must be an object");
    for (int b = 0; b < 256; b++) t->byte_id[b] = -1;
    for (int64_t i = 0; i < count; i++) {
        const char *key = json_key_at(vocab, i);
        const json *v = json_at(vocab, i);
        int64_t id = json_int(v);
        if (!json_is_int(v) || id < 0 || id >= t->n) return FAIL(ST_EINVAL, "model.vocab['%.40s']: a bad id", key);
        token *k = &t->tokens[id];
        if (k->used) return FAIL(ST_EINVAL, "model.vocab['%.40s']: id %lld is taken already", key, (long long)id);
        k->text = to_bytes(key, strlen(key), &k->len);
        k->used = true;
        uint32_t cp;
        size_t n = strlen(key);
        if (n && (size_t)unicode_next(key, n, &cp) == n && tokenizer_symbol_byte(cp) >= 0)
            t->byte_id[tokenizer_symbol_byte(cp)] = (int32_t)id;
    }
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] < 0) return FAIL(ST_EINVAL, "model.vocab lacks the symbol of byte 0x%02x", b);
    return ST_OK;
}

/* Both ways to write a merge: "A B" and ["A", "B"]. Copies them to buf as A \0 B \0; *a, *b point there. */
static status read_pair(const json *m, char **buf, size_t *cap, const char **a, const char **b)
{
    const char *first = json_str(m), *second = NULL;
    size_t n_first;
    if (first) {
        second = strchr(first, ' ');
        if (!second || strchr(second + 1, ' ')) return FAIL(ST_EINVAL, "'%.40s' is not two symbols", first);
        n_first = (size_t)(second++ - first);
    } else {
        first = json_str(json_at(m, 0));
        second = json_str(json_at(m, 1));
        if (json_kind(m) != JSON_ARRAY || json_len(m) != 2 || !first || !second)
            return FAIL(ST_EINVAL, "expected \"A B\" or [\"A\", \"B\"]");
        n_first = strlen(first);
    }
    size_t n_second = strlen(second);
    if (n_first + n_second + 2 > *cap) {
        *cap = 2 * (n_first + n_second + 2);
        *buf = realloc(*buf, *cap);
        CHECK(*buf);
    }
    memcpy(*buf, first, n_first);
    (*buf)[n_first] = 0;
    memcpy(*buf + n_first + 1, second, n_second + 1);
    *a = *buf;
    *b = *buf + n_first + 1;
    return ST_OK;
}

static int64_t vocab_id(const json *vocab, const char *s)
{
    const json *v = json_get(vocab, s);
    return v ? json_int(v) : -1;
}

static status add_merge(tokenizer *t, const json *vocab, const json *m, int32_t rank, char **buf, size_t *cap)
{
    const char *a = NULL, *b = NULL;
    TRY(read_pair(m, buf, cap, &a, &b));
    int64_t left = vocab_id(vocab, a), right = vocab_id(vocab, b);
    size_t n = strlen(a);
    memmove(*buf + n, b, strlen(b) + 1);
    int64_t made = vocab_id(vocab, *buf);
    if (left < 0 || right < 0 || made < 0)
        return FAIL(ST_EINVAL, "'%.40s' or one of its halves is not in model.vocab", *buf);
    uint64_t pair = (uint64_t)left << 32 | (uint64_t)right, at = tokenizer_slot(pair, t->n_slot);
    for (; t->merges[at].made >= 0; at = (at + 1) & (t->n_slot - 1))
        if (t->merges[at].pair == pair)
            return FAIL(ST_EINVAL, "this merge is there already, as number %d", t->merges[at].rank);
    t->merges[at] = (merge_rule){pair, rank, (int32_t)made};
    return ST_OK;
}

static status read_merges(tokenizer *t, const json *vocab, const json *list)
{
    int64_t n = json_len(list), from = 0;
    if (json_kind(list) != JSON_ARRAY) return FAIL(ST_EINVAL, "model.merges must be a list");
    int64_t places = 1; /* where tokens can be cut in two, and a comment */
    for (int i = 0; i < t->n; i++) places += t->tokens[i].used && t->tokens[i].len ? t->tokens[i].len - 1 : 0;
    if (n > places)
        return FAIL(ST_EINVAL, "model.merges has %lld rows, more than the ways to make tokens of model.vocab (%lld)",
                    (long long)n, (long long)places - 1);
    t->n_slot = 1024;
    while (t->n_slot < 2 * (uint64_t)n) t->n_slot *= 2;
    t->merges = malloc(t->n_slot * sizeof *t->merges);
    if (!t->merges) return FAIL(ST_ENOMEM, "out of memory for %lld merges", (long long)n);
    for (uint64_t i = 0; i < t->n_slot; i++) t->merges[i] = (merge_rule){0, 0, -1};
    const char *first = json_str(json_at(list, 0));
    if (first && !strncmp(first, "#version", 8)) from = 1;
    char *buf = NULL;
    size_t cap = 0;
    status st = ST_OK;
    for (int64_t i = from; i < n && st == ST_OK; i++) {
        st = add_merge(t, vocab, json_at(list, i), (int32_t)(i - from), &buf, &cap);
        if (st != ST_OK) fail_within(st, "model.merges[%lld]", (long long)i);
    }
    free(buf);
    return st;
}

static status read_added(tokenizer *t, const json *list)
{
    int64_t n = json_len(list);
    t->added = calloc((size_t)n + 1, sizeof *t->added);
    if (!t->added) return FAIL(ST_ENOMEM, "out of memory for added tokens");
    for (int64_t i = 0; i < n; i++) {
        const json *a = json_at(list, i);
        const char *content = json_str(json_get(a, "content"));
        int64_t id = json_int(json_get(a, "id")), len = json_len(json_get(a, "content"));
        if (!content || len == 0 || strlen(content) != (size_t)len || len > 4096)
            return FAIL(ST_EINVAL, "added_tokens[%lld].content must be a non-empty string", (long long)i);
        static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
        if (json_kind(json_get(a, "special")) != JSON_BOOL)
            return FAIL(ST_EINVAL, "added token '%.40s': special must be true or false", content);
        for (int f = 0; f < 4; f++)
            if (!absent(json_get(a, flags[f])) && !is_false(json_get(a, flags[f])))
                return FAIL(ST_EINVAL, "added token '%.40s': %s must be false, nothing else is supported", content,
                            flags[f]);
        token *k = &t->tokens[id];
        if (k->used && (k->added || (size_t)k->len != strlen(content) || memcmp(k->text, content, (size_t)len) != 0))
            return FAIL(ST_EINVAL, "added token '%.40s': id %lld belongs to another token", content, (long long)id);
        free(k->text);
        *k = (token){strdup(content), (int32_t)len, true, true, json_bool(json_get(a, "special"))};
        CHECK(k->text);
        t->added[t->n_added++] = (int32_t)id;
    }
    tokenizer_index_added(t);
    for (int i = 1; i < t->n_added; i++)
        if (!strcmp(t->tokens[t->added[i - 1]].text, t->tokens[t->added[i]].text))
            return FAIL(ST_EINVAL, "added token '%.40s' appears twice", t->tokens[t->added[i]].text);
    return ST_OK;
}

/* Room for every id of both lists. */
static status make_rows(tokenizer *t, const json *vocab, const json *added)
{
    int64_t top = -1;
    for (int64_t i = 0; i < json_len(vocab); i++)
        if (json_int(json_at(vocab, i)) > top) top = json_int(json_at(vocab, i));
    for (int64_t i = 0; i < json_len(added); i++) {
        const json *id = json_get(json_at(added, i), "id");
        if (!json_is_int(id) || json_int(id) < 0)
            return FAIL(ST_EINVAL, "added_tokens[%lld].id must be a whole number", (long long)i);
        if (json_int(id) > top) top = json_int(id);
    }
    if (top >= MAX_ID) return FAIL(ST_EINVAL, "id %lld is too large to be a token", (long long)top);
    if (top >= json_len(vocab) + json_len(added)) /* check_holes would say it too, after a row for every id */
        return FAIL(ST_EINVAL, "ids go up to %lld, though there are only %lld tokens", (long long)top,
                    (long long)(json_len(vocab) + json_len(added)));
    t->n = (int)top + 1;
    t->tokens = calloc((size_t)t->n + 1, sizeof *t->tokens);
    return t->tokens ? ST_OK : FAIL(ST_ENOMEM, "out of memory for %d tokens", t->n);
}

/* Ids without a token: the files of Qwen have none, so something is missing. */
static status check_holes(const tokenizer *t)
{
    for (int i = 0; i < t->n; i++)
        if (!t->tokens[i].used) return FAIL(ST_EINVAL, "no token has id %d, though ids go up to %d", i, t->n - 1);
    return ST_OK;
}

status tokenizer_read_parts(tokenizer *t, const json *vocab, const json *merges, const json *added)
{
    if (!absent(added) && json_kind(added) != JSON_ARRAY) return FAIL(ST_EINVAL, "added_tokens must be a list");
    TRY(make_rows(t, vocab, added));
    TRY(read_vocab(t, vocab));
    TRY(read_merges(t, vocab, merges));
    TRY(read_added(t, added));
    TRY(check_holes(t));
    return tokenizer_index_merges(t);
}

static status load(tokenizer *t, const json *root)
{
    TRY(check_parts(root));
    const json *model = json_get(root, "model");
    return tokenizer_read_parts(t, json_get(model, "vocab"), json_get(model, "merges"), json_get(root, "added_tokens"));
}

status tokenizer_load(tokenizer **out, const char *path)
{
    json *root = NULL;
    TRY(json_read_file(&root, path, MAX_FILE));
    tokenizer *t = calloc(1, sizeof *t);
    status st = t ? load(t, root) : FAIL(ST_ENOMEM, "out of memory");
    json_free(root);
    if (st == ST_OK) {
        *out = t;
        return ST_OK;
    }
    tokenizer_destroy(t);
    return fail_within(st, "%s", path);
}
