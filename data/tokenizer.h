/* Byte-level BPE as Hugging Face's tokenizer.json describes it for Qwen2/2.5/3 (qwen_vl_spec section 6). */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct tokenizer tokenizer;
typedef struct ids {
    int32_t *v;
    int n, cap;
} ids; /* growing list; owned by whoever holds the struct */
void ids_push(ids *l, int32_t id);
void ids_free(ids *l);

/* A tokenizer.json. ST_EINVAL names what isn't supported: everything that would give other ids than Hugging Face's. */
status tokenizer_load(tokenizer **out, const char *path);
/* The tokenizer of a checkpoint: tokenizer.json, or, where there is none, vocab.json and merges.txt (GPT-2's format)
 * with the added tokens of tokenizer_config.json, which must be of class Qwen2Tokenizer. */
status tokenizer_load_dir(tokenizer **out, const char *dir);
void tokenizer_destroy(tokenizer *t);
int tokenizer_vocab(const tokenizer *t);                 /* highest id + 1 */
int tokenizer_id(const tokenizer *t, const char *added); /* id of an added token by its text; -1 if none */

/* Appends ids of UTF-8 text (ST_EINVAL if it isn't). parse_special: added tokens in the text become their ids; with
 * false they are encoded as plain text, which is what tool output and user text get. */
status tokenizer_encode(const tokenizer *t, const char *text, size_t n, bool parse_special, ids *out);
/* Bytes of the ids, appended to buf (caller's malloc'ed, grown): added tokens give their text, ids without a string
 * nothing. Raw bytes, may end inside a UTF-8 character. skip_special drops special=true tokens. */
void tokenizer_decode(const tokenizer *t, const int32_t *id, int n, bool skip_special, char **buf, size_t *len);
/* Decode to a fresh NUL-terminated valid UTF-8 string, invalid sequences replaced by U+FFFD; caller frees. */
char *tokenizer_text(const tokenizer *t, const int32_t *id, int n, bool skip_special);

/* The same text while the ids still come: only complete characters are handed out, the rest waits here. All-zero is the
 * start. */
typedef struct tokenizer_stream {
    char tail[3];
    int n;
} tokenizer_stream;
/* Appends to buf (NUL after it, caller's malloc'ed, grown) what the ids complete; all pieces in a row and that of
 * tokenizer_stream_end are tokenizer_text of all ids. */
void tokenizer_stream_push(const tokenizer *t, tokenizer_stream *s, const int32_t *id, int n, bool skip_special,
                           char **buf, size_t *len);
/* What is left is no character: appends U+FFFD if there is anything. s is at the start again. */
void tokenizer_stream_end(tokenizer_stream *s, char **buf, size_t *len);

/* Learns a tokenizer from texts: specials first split out, Qwen pre-tokenizer, then at most `merges` merges by pair
 * count (ties: the smaller pair; fewer when every word has become one token), writes a complete tokenizer.json at path.
 * added[i].special as in Hugging Face. */
typedef struct added_token {
    const char *text;
    bool special;
} added_token;
status tokenizer_train(const char *const *texts, int64_t n, const added_token *added, int n_added, int merges,
                       const char *path);

#endif
