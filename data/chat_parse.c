/* Reads one assistant turn: a single pass over its tags. A complete block is skipped as a whole, so tags that a program
 * prints or that a thought mentions are not taken for the model's own. */
#include "data/chat.h"

#include <ctype.h>
#include <string.h>

typedef struct scan {
    const char *s;
    size_t n;
} scan;

static const size_t NONE = (size_t)-1;

static size_t find(scan t, size_t from, const char *what)
{
    if (from > t.n) return NONE;
    const char *hit = memmem(t.s + from, t.n - from, what, strlen(what));
    return hit ? (size_t)(hit - t.s) : NONE;
}

/* A fence line "```python" from at on: where its code begins, NONE if what follows the word is not the line's end. */
static size_t fence_body(scan t, size_t at)
{
    size_t i = at + strlen("```python");
    while (i < t.n && (t.s[i] == ' ' || t.s[i] == '\t' || t.s[i] == '\r')) i++;
    return i < t.n && t.s[i] == '\n' ? i + 1 : NONE;
}

/* The block that <code> at pos opens; returns where to go on, NONE if it is not complete. */
static size_t code_block(scan t, size_t pos, chat_turn *out)
{
    size_t close = find(t, pos, "</code>"), body = NONE, open = pos;
    while (body == NONE && (open = find(t, open, "```python")) != NONE && (close == NONE || open < close)) {
        body = fence_body(t, open);
        open++;
    }
    if (body != NONE) { /* the code itself may hold "</code>": look for the end after its fence */
        size_t end = find(t, body - 1, "\n```");
        if (end == NONE) return NONE;
        close = find(t, end, "</code>");
        if (close == NONE) return NONE;
        if (out->code_at < 0) {
            out->code_at = (int)body;
            out->code_len = end > body ? (int)(end - body) : 0;
        }
    }
    if (close == NONE) return NONE;
    out->n_code++;
    return close + strlen("</code>");
}

static size_t answer_block(scan t, size_t pos, chat_turn *out)
{
    size_t close = find(t, pos, "</answer>");
    if (close == NONE) return NONE;
    if (out->n_answer++ == 0) {
        size_t from = pos, to = close;
        while (from < to && isspace((unsigned char)t.s[from])) from++;
        while (to > from && isspace((unsigned char)t.s[to - 1])) to--;
        out->answer_at = (int)from;
        out->answer_len = (int)(to - from);
    }
    return close + strlen("</answer>");
}

static size_t think_block(scan t, size_t pos, chat_turn *out, bool *paired)
{
    size_t close = find(t, pos, "</think>"), nested = find(t, pos, "<think>");
    if (close == NONE) return NONE;
    if (nested < close) *paired = false;
    out->think_n++;
    return close + strlen("</think>");
}

static bool at_tag(scan t, size_t i, const char *tag)
{
    size_t n = strlen(tag);
    return t.n - i >= n && !memcmp(t.s + i, tag, n);
}

void chat_parse_turn(const char *text, size_t n, chat_turn *out)
{
    scan t = {text, n};
    *out = (chat_turn){.code_at = -1, .answer_at = -1};
    bool paired = true;
    for (size_t i = 0; i < n;) {
        size_t next = i + 1, after = NONE;
        if (text[i] == '<') {
            if (at_tag(t, i, "<think>")) {
                after = think_block(t, i + strlen("<think>"), out, &paired);
                if (after == NONE) paired = false;
            } else if (at_tag(t, i, "</think>")) {
                paired = false;
            } else if (at_tag(t, i, "<code>")) {
                after = code_block(t, i + strlen("<code>"), out);
                if (after == NONE) out->code_open = true;
            } else if (at_tag(t, i, "<answer>")) {
                after = answer_block(t, i + strlen("<answer>"), out);
            }
        }
        i = after != NONE ? after : next;
    }
    if (!paired) out->think_n = -1;
}
