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
    for (int i = 0; i < n; i++) json_member_bool(o, keys[i], v);
}

static void put_byte_level(json_out *o, bool prefix_space, bool regex)
{
    json_open(o, '{');
    json_member_str(o, "type", "ByteLevel");
    json_member_bool(o, "add_prefix_space", prefix_space);
    json_member_bool(o, "trim_offsets", false);
    json_member_bool(o, "use_regex", regex);
    json_close(o, '}');
}

static void put_parts(json_out *o)
{
    json_key(o, "normalizer");
    json_open(o, '{');
    json_member_str(o, "type", "NFC");
    json_close(o, '}');
    json_key(o, "pre_tokenizer");
    json_open(o, '{');
    json_member_str(o, "type", "Sequence");
    json_key(o, "pretokenizers");
    json_open(o, '[');
    json_open(o, '{');
    json_member_str(o, "type", "Split");
    json_key(o, "pattern");
    json_open(o, '{');
    json_member_str(o, "Regex", TOKENIZER_REGEX);
    json_close(o, '}');
    json_member_str(o, "behavior", "Isolated");
    json_member_bool(o, "invert", false);
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
    json_member_str(o, "type", "BPE");
    json_member_str(o, "dropout", NULL);
    json_member_str(o, "unk_token", NULL);
    json_member_str(o, "continuing_subword_prefix", "");
    json_member_str(o, "end_of_word_suffix", "");
    put_bools(o, off, 3, false);
    json_key(o, "vocab");
    json_open(o, '{');
    for (int i = 0; i < t->n_symbol; i++) json_member_int(o, t->symbol[i], i);
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
    json_member_str(&o, "version", "1.0");
    json_member_str(&o, "truncation", NULL);
    json_member_str(&o, "padding", NULL);
    json_key(&o, "added_tokens");
    json_open(&o, '[');
    for (int i = 0; i < t->n_added; i++) {
        json_open(&o, '{');
        json_member_int(&o, "id", t->n_symbol + i);
        json_member_str(&o, "content", t->added[i].text);
        put_bools(&o, flags, 4, false);
        json_member_bool(&o, "special", t->added[i].special);
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
