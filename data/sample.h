/* One conversation, as read from a line of JSONL (README, "Bring your own data").
 *
 *   {"id": "a1", "messages": [{"role": "user", "content": [{"type": "image", "path": "img/a1.png"},
 *    {"type": "text", "text": "What digit is on the card?"}]}, {"role": "assistant", "content": "..."}],
 *    "answer": "7", "verifier": "exact", "category": "rd_easy", "domain": "vqa", "x_anything": ...}
 *
 * For chat templates with tools: "tools" (a list of function signatures, as transformers takes them) in the row; in an
 * assistant message "tool_calls": [{"function": {"name": "f", "arguments": {...}}}] (its content may then be null) and
 * "reasoning_content".
 *
 * For models whose chat template knows tools: "tools" (a list of function signatures as transformers takes them) in the
 * row; in an assistant message "tool_calls": [{"function": {"name": "f", "arguments": {...}}}] and "reasoning_content",
 * and its "content" may then be null. Text that a policy only writes itself needs neither.
 *
 * Paths are relative to the JSONL file. Unknown fields are an error unless they start with x_. Strict: valid UTF-8,
 * no control characters other than \t \n \r in texts. */
#ifndef DATA_SAMPLE_H
#define DATA_SAMPLE_H

#include <stdint.h>

#include "core/json.h"
#include "core/status.h"

typedef enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL } role;
typedef struct part {
    char *text;
    int image;
} part; /* text != NULL: text part; else images[image] */
typedef struct message {
    role role;
    int n_part;
    part *parts;
    const json *tool_calls; /* checked list; NULL: none. Belongs to the row */
    char *reasoning;        /* NULL: none */
} message;

/* What a tool call says: a member "function", or the call itself, has name and arguments. */
typedef struct tool_call {
    const char *name;
    const json *arguments; /* an object, or a string */
} tool_call;
tool_call sample_tool_call(const message *m, int64_t i);

typedef struct sample {
    char *id; /* never NULL; "file:line" when the row has none */
    int n_message;
    message *messages;
    int n_image;
    char **images;     /* path as written in the row (JSONL), or content hash (shard); in order of appearance */
    char *answer;      /* NULL when absent */
    char *verifier;    /* NULL: the config's default */
    char *category;    /* NULL when absent; evaluation groups by it */
    char *domain;      /* NULL: "vqa" */
    const json *tools; /* checked list; NULL: none. Belongs to row */
    json *row;         /* the whole row, for x_ fields; owned */
} sample;

/* what: "file.jsonl:12" for messages. The row's bounds: <= 64 messages, <= 64 images. */
status sample_parse(sample *out, const char *line, size_t len, const char *what);
void sample_free(sample *s); /* zeroes it; all-zero is legal */
const char *role_name(role r);
/* The row again, its x_ fields included; sample_parse reads it back. */
void sample_to_json(const sample *s, json_out *o);

#endif
