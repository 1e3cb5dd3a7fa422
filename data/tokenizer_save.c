/* Writes a learnt tokenizer as tokenizer.json, with the parts Qwen's has: for this program and the tokenizers library.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/tokenizer_inside.h"

static void put_bools(json_out *o, const char *const *keys, int n, bool v)
{
    for (int i = 0; i < n; i++) {
        json_key(o, keys[i]);
        json_put_bool(o, v);
    }
}

static void put_member(json_out *o, const char *key, const char *v)
{
    json_key(o, key);
    json_put_str(o, v);
}

static void put_byte_level(json_out *o, bool prefix_space, bool regex)
{
    json_open(o, '{');
    put_member(o, "type", "ByteLevel");
    json_key(o, "add_prefix_space");
    json_put_bool(o, prefix_space);
    json_key(o, "trim_offsets");
    json_put_bool(o, false);
    json_key(o, "use_regex");
    json_put_bool(o, regex);
    json_close(o, '}');
}

static void put_parts(json_out *o)
{
    json_key(o, "normalizer");
    json_open(o, '{');
    put_member(o, "type", "NFC");
    json_close(o, '}');
    json_key(o, "pre_tokenizer");
    json_open(o, '{');
    put_member(o, "type", "Sequence");
    json_key(o, "pretokenizers");
    json_open(o, '[');
    json_open(o, '{');
    put_member(o, "type", "Split");
    json_key(o, "pattern");
    json_open(o, '{');
    put_member(o, "Regex", TOKENIZER_REGEX);
    json_close(o, '}');
    put_member(o, "behavior", "Isolated");
    json_key(o, "invert");
    json_put_bool(o, false);
    json_close(o, '}');
    put_byte_level(o, false, false);
    json_close(o, ']');
    json_close(o, '}');
    json_key(o, "post_processor");
    put_byte_level(o, false, false);
    json_key(o, "decoder");
    put_byte_level(o, false, false);
}

static void put_model(json_out *o, const tokenizer_plan *t)
{
    static const char *const off[] = {"fuse_unk", "byte_fallback", "ignore_merges"};
    json_key(o, "model");
    json_open(o, '{');
    put_member(o, "type", "BPE");
    put_member(o, "dropout", NULL);
    put_member(o, "unk_token", NULL);
    put_member(o, "continuing_subword_prefix", "");
    put_member(o, "end_of_word_suffix", "");
    put_bools(o, off, 3, false);
    json_key(o, "vocab");
    json_open(o, '{');
    for (int i = 0; i < t->n_symbol; i++) {
        json_key(o, t->symbol[i]);
        json_put_int(o, i);
    }
    json_close(o, '}');
    json_key(o, "merges"); /* as strings: every version of the tokenizers library reads these */
    json_open(o, '[');
    for (int i = 0; i < t->n_merge; i++) {
        const char *a = t->symbol[t->merges[i] >> 32], *b = t->symbol[t->merges[i] & 0xffffffff];
        size_t n = strlen(a), m = strlen(b);
        char *line = malloc(n + m + 2);
        CHECK(line);
        memcpy(line, a, n);
        line[n] = ' ';
        memcpy(line + n + 1, b, m + 1);
        json_put_str(o, line);
        free(line);
    }
    json_close(o, ']');
    json_close(o, '}');
}

status tokenizer_save(const tokenizer_plan *t, const char *path)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    put_member(&o, "version", "1.0");
    put_member(&o, "truncation", NULL);
    put_member(&o, "padding", NULL);
    json_key(&o, "added_tokens");
    json_open(&o, '[');
    for (int i = 0; i < t->n_added; i++) {
        json_open(&o, '{');
        json_key(&o, "id");
        json_put_int(&o, t->n_symbol + i);
        put_member(&o, "content", t->added[i].text);
        put_bools(&o, flags, 4, false);
        json_key(&o, "special");
        json_put_bool(&o, t->added[i].special);
        json_close(&o, '}');
    }
    json_close(&o, ']');
    put_parts(&o);
    put_model(&o, t);
    json_close(&o, '}');
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(o.text, 1, o.len, f) == o.len;
    if (f && fclose(f) != 0) ok = false;
    json_end(&o);
    return ok ? ST_OK : FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
}
