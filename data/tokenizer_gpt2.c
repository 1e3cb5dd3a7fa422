/* Checkpoints of before tokenizer.json: vocab.json and merges.txt, added tokens in tokenizer_config.json. They are
 * brought into the shape of a tokenizer.json's parts, so that one reader checks both. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/tokenizer_inside.h"

enum { MAX_FILE = 1 << 28 };

static const char vocab_name[] = "vocab.json", merges_name[] = "merges.txt", config_name[] = "tokenizer_config.json";

/* The lines of merges.txt as a JSON list; the first may be a comment, which the reader knows. */
static status lines_of(json **out, const char *path)
{
    char *text = NULL;
    size_t n = 0;
    TRY(file_read(path, &text, &n));
    json_out o;
    json_begin(&o, false);
    json_open(&o, '[');
    for (const char *at = text, *end = text + n; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        size_t len = (size_t)(stop - at);
        if (len && at[len - 1] == '\r') len--;
        if (len) json_put_strn(&o, at, len);
        at = stop + 1;
    }
    json_close(&o, ']');
    free(text);
    status st = json_parse(out, o.text, o.len, path);
    json_end(&o);
    return st;
}

/* added_tokens_decoder {"7": {"content": ...}} as the list of a tokenizer.json, its rows with their ids. */
static status added_of(json **out, const json *config, const char *path)
{
    const json *map = json_get(config, "added_tokens_decoder");
    const char *class = json_str(json_get(config, "tokenizer_class"));
    if (!class || strncmp(class, "Qwen2Tokenizer", strlen("Qwen2Tokenizer")) != 0)
        return FAIL(ST_EINVAL, "tokenizer_class must be Qwen2Tokenizer; nothing else tells how text is cut");
    if (json_kind(map) != JSON_OBJECT)
        return FAIL(ST_EINVAL,
                    "added_tokens_decoder is missing, so the ids of <|im_start|> and the like are unknown; write a "
                    "tokenizer.json with transformers' save_pretrained");
    json_out o;
    json_begin(&o, false);
    json_open(&o, '[');
    status st = ST_OK;
    for (int64_t i = 0; i < json_len(map) && st == ST_OK; i++) {
        const char *key = json_key_at(map, i);
        const json *row = json_at(map, i);
        size_t n = strlen(key);
        if (n == 0 || n > 9 || strspn(key, "0123456789") != n || json_kind(row) != JSON_OBJECT || json_get(row, "id"))
            st = FAIL(ST_EINVAL, "added_tokens_decoder['%.40s'] must be an id with an object", key);
        json_open(&o, '{');
        json_member_int(&o, "id", atoi(key));
        for (int64_t k = 0; k < json_len(row) && st == ST_OK; k++) {
            json_key(&o, json_key_at(row, k));
            json_put_node(&o, json_at(row, k));
        }
        json_close(&o, '}');
    }
    json_close(&o, ']');
    if (st == ST_OK) st = json_parse(out, o.text, o.len, path);
    json_end(&o);
    return st;
}

static status load(tokenizer *t, const char *dir)
{
    char path[PATH_MAX];
    json *vocab = NULL, *merges = NULL, *config = NULL, *added = NULL;
    status st = ST_OK;
    TRY_OR(file_join(path, sizeof path, dir, config_name), out);
    TRY_OR(json_read_file(&config, path, MAX_FILE), out);
    st = added_of(&added, config, path);
    if (st != ST_OK) st = fail_within(st, "%s", path);
    if (st != ST_OK) goto out;
    TRY_OR(file_join(path, sizeof path, dir, merges_name), out);
    TRY_OR(lines_of(&merges, path), out);
    TRY_OR(file_join(path, sizeof path, dir, vocab_name), out);
    TRY_OR(json_read_file(&vocab, path, MAX_FILE), out);
    st = tokenizer_read_parts(t, vocab, merges, added);
    if (st != ST_OK) st = fail_within(st, "%s (%s, %s, %s)", dir, vocab_name, merges_name, config_name);
out:
    json_free(vocab);
    json_free(merges);
    json_free(config);
    json_free(added);
    return st;
}

status tokenizer_load_dir(tokenizer **out, const char *dir)
{
    char path[PATH_MAX];
    TRY(file_join(path, sizeof path, dir, "tokenizer.json"));
    if (file_exists(dir, "tokenizer.json")) return tokenizer_load(out, path);
    if (!file_exists(dir, vocab_name) || !file_exists(dir, merges_name) || !file_exists(dir, config_name))
        return FAIL(
            ST_EINVAL,
            "%s has no tokenizer.json, nor %s, %s and %s to do without it; transformers' save_pretrained writes it",
            dir, vocab_name, merges_name, config_name);
    tokenizer *t = calloc(1, sizeof *t);
    status st = t ? load(t, dir) : FAIL(ST_ENOMEM, "out of memory");
    if (st != ST_OK) {
        tokenizer_destroy(t);
        return st;
    }
    *out = t;
    return ST_OK;
}
