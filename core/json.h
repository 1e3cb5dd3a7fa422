/* Strict JSON (RFC 8259): reader into a tree with places for errors, and a writer. No duplicate keys, no NaN, depth
 * <= 64, valid UTF-8 only. Built for our own needs so that a bare machine needs no JSON library. */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_type;

typedef struct json json; /* a node; owned by its document */

/* Parses text[0..len). what names it in errors: "config.json:3:17: expected ':'"; when it ends in a line number itself
 * ("a.jsonl:12") that is where counting starts: "a.jsonl:12:34: expected ':'". Root owns everything. */
status json_parse(json **root, const char *text, size_t len, const char *what);
status json_read_file(json **root, const char *path, size_t max_bytes);
void json_free(json *root); /* NULL is legal; only for roots */

json_type json_kind(const json *j); /* NULL gives JSON_NULL */
int64_t json_len(const json *j);    /* elements, members or string bytes; 0 otherwise */
const json *json_at(const json *j,
                    int64_t i); /* array element or member value i (document order); NULL if out of range */
const char *json_key_at(const json *j, int64_t i);    /* member key i */
const json *json_get(const json *j, const char *key); /* NULL when absent or j is no object; O(1) for large objects */
const char *json_str(const json *j); /* NUL-terminated (embedded NULs: use json_len); NULL if no string */
double json_num(const json *j);      /* NaN if no number */
bool json_is_int(const json *j);     /* written without fraction or exponent and fits int64 */
int64_t json_int(const json *j);     /* 0 if not json_is_int */
bool json_bool(const json *j);       /* false if no bool */
/* Typed members; a missing or mistyped member is ST_EINVAL naming it and the document. */
status json_need_str(const json *j, const char *key, const char **out);
status json_need_int(const json *j, const char *key, int64_t min, int64_t max, int64_t *out);
status json_need_num(const json *j, const char *key, double *out);
/* Line and column (1-based, in bytes) of the text where the node starts, for messages. */
void json_place(const json *j, int *line, int *col);

/* Bytes of the UTF-8 character at p[0..n), 0 if it is none (RFC 3629: no overlong forms, no surrogates, <= U+10FFFF).
 */
size_t json_utf8_len(const char *p, size_t n);

/* Writer into a growing buffer. Misuse (value without key, unbalanced end) is a CHECK. */
typedef struct json_out {
    char *text; /* NUL-terminated once anything was written */
    size_t len, cap;
    int depth;
    uint64_t first, object; /* bit per depth: nothing written yet; is an object */
    bool keyed, pretty;
} json_out;
void json_begin(json_out *o, bool pretty);  /* zero-initialises */
void json_open(json_out *o, char bracket);  /* '{' or '[' */
void json_close(json_out *o, char bracket); /* '}' or ']' */
void json_key(json_out *o, const char *key);
void json_put_str(json_out *o, const char *s); /* NULL writes null; invalid UTF-8 becomes U+FFFD */
void json_put_strn(json_out *o, const char *s, size_t n);
void json_put_int(json_out *o, int64_t v);
void json_put_num(json_out *o, double v); /* shortest text that reads back equal; NaN and infinities write null */
void json_put_bool(json_out *o, bool v);
void json_put_null(json_out *o);
/* A key and its value. */
void json_member_str(json_out *o, const char *key, const char *s);
void json_member_int(json_out *o, const char *key, int64_t v);
void json_member_num(json_out *o, const char *key, double v);
void json_member_bool(json_out *o, const char *key, bool v);
void json_put_node(json_out *o, const json *j);             /* a parsed node, verbatim in value */
void json_put_raw(json_out *o, const char *text, size_t n); /* already valid JSON */
void json_end(json_out *o);                                 /* frees text */

#endif
