#include "data/chat.h"

#include <stdlib.h>
#include <string.h>

#include "data/chat_text.h"
#include "data/pyjson.h"
#include "data/tokenizer_inside.h"

#define THINK "<think>\n"
#define END_THINK "\n</think>\n\n"

void chat_seq_free(chat_seq *s)
{
    ids_free(&s->id);
    free(s->mask);
    free(s->image);
    *s = (chat_seq){0};
}

status chat_init(chat *c, const tokenizer *tok, int merge, const char *default_system)
{
    CHECK(merge > 0);
    *c = (chat){.tok = tok, .merge = merge, .default_system = default_system, .style = chat_styles};
    const struct {
        const char *text;
        int *id;
        bool forbidden;
    } known[] = {{"<|im_start|>", &c->im_start, true},
                 {"<|im_end|>", &c->im_end, false},
                 {"<|vision_start|>", &c->vision_start, true},
                 {"<|vision_end|>", &c->vision_end, true},
                 {"<|image_pad|>", &c->image_pad, true},
                 {"<|endoftext|>", &c->endoftext, true},
                 {"<|video_pad|>", NULL, true},
                 {"<|vision_pad|>", NULL, true},
                 {CHAT_TOOL_OPEN, &c->tool_open, true},
                 {CHAT_TOOL_CLOSE, &c->tool_close, true}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        int id = tokenizer_id(tok, known[i].text);
        if (known[i].id) *known[i].id = id;
        if (id >= 0 && known[i].forbidden) c->forbidden[c->n_forbidden++] = id;
    }
    if (c->im_start < 0 || c->im_end < 0)
        return FAIL(ST_EINVAL, "the tokenizer lacks %s: a chat needs the ChatML tokens",
                    c->im_start < 0 ? "<|im_start|>" : "<|im_end|>");
    return ST_OK;
}

/* The messages being rendered. */
typedef struct talk {
    const message *m;
    int n, question; /* question: the last one a user asked, tool output in a user turn aside; n - 1: none */
    const int32_t (*grids)[3];
} talk;

/* Bytes of a longer text. */
typedef struct span {
    const char *s;
    size_t n;
} span;

static span span_strip(span t, bool left, bool right)
{
    while (left && t.n && t.s[0] == '\n') t.s++, t.n--;
    while (right && t.n && t.s[t.n - 1] == '\n') t.n--;
    return t;
}

static const char *find_last(span t, const char *what)
{
    const char *hit = NULL, *next;
    while ((next = memmem(t.s, t.n, what, strlen(what)))) {
        hit = next;
        t = (span){next + 1, t.n - (size_t)(next + 1 - t.s)};
    }
    return hit;
}

static void add_span(chat_text *r, span t) { chat_text_add(r, t.s, t.n); }

/* ---- assistant ---- */

/* content -> what was thought and what was said, as the templates of thinking models take it apart. */
static void split_thought(span *thought, span *said)
{
    const size_t n_open = strlen("<think>"), n_close = strlen("</think>");
    const char *first = memmem(said->s, said->n, "</think>", n_close), *last = find_last(*said, "</think>"), *open;
    if (!first || !last) return;
    *thought = span_strip((span){said->s, (size_t)(first - said->s)}, false, true);
    open = find_last(*thought, "<think>");
    if (open) *thought = (span){open + n_open, thought->n - (size_t)(open + n_open - thought->s)};
    *thought = span_strip(*thought, true, false);
    *said = span_strip((span){last + n_close, said->n - (size_t)(last + n_close - said->s)}, true, false);
}

static status add_thought(chat_text *r, span thought)
{
    const chat *c = r->c;
    if (c->style->think == CHAT_THINK_HYBRID && c->no_think && !thought.n) { /* the prompt says it, not the model */
        chat_text_string(r, THINK END_THINK);
        return chat_text_flush(r, true, 0);
    }
    chat_text_string(r, THINK);
    if (c->style->think == CHAT_THINK_ALWAYS) TRY(chat_text_flush(r, true, 0));
    add_span(r, span_strip(thought, true, true));
    chat_text_string(r, END_THINK);
    return ST_OK;
}

static status add_calls(chat_text *r, const message *m, bool said)
{
    if (m->tool_calls && !r->c->style->tools)
        return FAIL(ST_EINVAL,
                    "the chat style %s has no tool calls; set model.chat_style to one that has, as "
                    "qwen2_5_vl_tools",
                    r->c->style->name);
    for (int64_t i = 0; i < json_len(m->tool_calls); i++) {
        tool_call call = sample_tool_call(m, i);
        chat_text_string(r, i || said ? "\n<tool_call>\n{\"name\": \"" : "<tool_call>\n{\"name\": \"");
        chat_text_string(r, call.name);
        chat_text_string(r, "\", \"arguments\": ");
        if (r->c->style->raw_string && json_kind(call.arguments) == JSON_STRING) {
            chat_text_add(r, json_str(call.arguments), (size_t)json_len(call.arguments));
        } else {
            char *text = NULL;
            size_t n = 0;
            TRY(pyjson_write(call.arguments, &text, &n));
            chat_text_add(r, text, n);
            free(text);
        }
        chat_text_string(r, "}\n</tool_call>");
    }
    return ST_OK;
}

/* What the model says, its texts joined by the caller. Encoded in parts: all that is gathered at the end is its own. */
static status add_said(chat_text *r, const talk *t, int at, span said)
{
    const message *m = &t->m[at];
    const chat_style *style = r->c->style;
    if (style->think == CHAT_THINK_NONE) {
        if (m->reasoning)
            return FAIL(ST_EINVAL, "the chat style %s leaves out reasoning_content; write it into content",
                        style->name);
        add_span(r, said);
        return add_calls(r, m, said.n > 0);
    }
    span thought = {"", 0};
    if (m->reasoning)
        thought = (span){m->reasoning, strlen(m->reasoning)};
    else
        split_thought(&thought, &said);
    bool shown = at > t->question && (at == t->n - 1 || thought.n);
    if (shown) TRY(add_thought(r, thought));
    add_span(r, shown ? span_strip(said, true, false) : said);
    return add_calls(r, m, said.n > 0);
}

/* The header and the text are encoded apart: the policy writes its text after the header's ids, whatever it begins
 * with. */
static status render_assistant(chat_text *r, const talk *t, int at)
{
    const message *m = &t->m[at];
    chat_text joined = {0};
    TRY(chat_text_open(r, "assistant"));
    TRY(chat_text_flush(r, false, 0));
    int from = r->s->id.n;
    for (int i = 0; i < m->n_part; i++) {
        if (!m->parts[i].text) {
            free(joined.text);
            return FAIL(ST_EINVAL, "an assistant message can't hold an image");
        }
        chat_text_string(&joined, m->parts[i].text);
    }
    status st = add_said(r, t, at, (span){joined.text ? joined.text : "", joined.n});
    free(joined.text);
    TRY(st);
    TRY(chat_text_flush(r, true, 1));
    for (int i = from; i < r->s->id.n; i++) {
        bool bad = r->s->id.v[i] == r->c->im_end;
        for (int k = 0; k < r->c->n_forbidden && !bad; k++) bad = r->s->id.v[i] == r->c->forbidden[k];
        if (bad)
            return FAIL(ST_EINVAL, "an assistant text contains %s, which the model never writes itself; remove it",
                        r->c->tok->tokens[r->s->id.v[i]].text);
    }
    return chat_text_close(r, 1);
}

/* ---- the others ---- */

static status add_parts(chat_text *r, const talk *t, const message *m)
{
    for (int i = 0; i < m->n_part; i++) {
        const part *p = &m->parts[i];
        if (!p->text)
            TRY(chat_text_image(r, t->grids ? t->grids[p->image] : NULL));
        else if (m->role == ROLE_TOOL)
            chat_text_tool(r, p->text);
        else
            chat_text_string(r, p->text);
    }
    return ST_OK;
}

static status render_plain(chat_text *r, const talk *t, const message *m, const char *name)
{
    TRY(chat_text_open(r, name));
    TRY(add_parts(r, t, m));
    return chat_text_close(r, 0);
}

static status render_tool(chat_text *r, const talk *t, int at)
{
    const message *m = &t->m[at];
    bool lines = r->c->style->tool == CHAT_TOOL_LINES;
    if (r->c->style->tool == CHAT_TOOL_ROLE) return render_plain(r, t, m, "tool");
    if (!lines || at == 0 || m[-1].role != ROLE_TOOL) {
        TRY(chat_text_id(r, r->c->im_start, 0));
        chat_text_string(r, "user");
    }
    TRY(chat_text_template(r, lines ? "\n" CHAT_TOOL_OPEN "\n" : "\n" CHAT_TOOL_OPEN));
    TRY(add_parts(r, t, m));
    TRY(chat_text_template(r, lines ? "\n" CHAT_TOOL_CLOSE : CHAT_TOOL_CLOSE));
    return !lines || at == t->n - 1 || m[1].role != ROLE_TOOL ? chat_text_close(r, 0) : ST_OK;
}

static status add_tools(chat_text *r, const json *tools)
{
    TRY(chat_text_template(
        r, "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
           "function signatures within <tools></tools> XML tags:\n<tools>"));
    for (int64_t i = 0; i < json_len(tools); i++) {
        char *text = NULL;
        size_t n = 0;
        TRY(pyjson_write(json_at(tools, i), &text, &n));
        chat_text_string(r, "\n");
        chat_text_add(r, text, n);
        free(text);
    }
    return chat_text_template(
        r, "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
           "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
           "<args-json-object>}\n</tool_call>");
}

/* What stands before the first message: system text and tools. *done: messages it has used up. */
static status render_opening(chat_text *r, const talk *t, const json *tools, int *done)
{
    const chat *c = r->c;
    bool given = t->m[0].role == ROLE_SYSTEM;
    const char *text = c->default_system ? c->default_system : c->style->default_system;
    if (text && !*text) text = NULL;
    *done = given;
    if (tools && !c->style->tools)
        return FAIL(ST_EINVAL,
                    "the chat style %s has no place for tools; set model.chat_style to one that has, as "
                    "qwen2_5_vl_tools",
                    c->style->name);
    if (!given && !text && !tools) return ST_OK;
    TRY(chat_text_open(r, "system"));
    if (given)
        TRY(add_parts(r, t, t->m));
    else if (text)
        chat_text_string(r, text);
    if (tools && (given || text)) chat_text_string(r, "\n\n");
    if (tools) TRY(add_tools(r, tools));
    return chat_text_close(r, 0);
}

static status render(chat_text *r, const talk *t, const json *tools)
{
    int at = 0;
    if (r->s->id.n == 0)
        TRY(render_opening(r, t, tools, &at));
    else if (tools)
        return FAIL(ST_EINVAL, "tools can only be named before the first message");
    for (; at < t->n; at++) {
        const message *m = &t->m[at];
        if (m->role == ROLE_ASSISTANT) {
            TRY(render_assistant(r, t, at));
        } else if (m->role == ROLE_TOOL) {
            TRY(render_tool(r, t, at));
        } else {
            if (m->role == ROLE_SYSTEM && !r->c->style->late_system)
                return FAIL(ST_EINVAL, "the chat style %s leaves out system messages that are not the first",
                            r->c->style->name);
            TRY(render_plain(r, t, m, role_name(m->role)));
        }
    }
    return ST_OK;
}

/* Tool output that somebody wrote into a user message is no question. */
static bool is_question(const message *m)
{
    if (m->role != ROLE_USER) return false;
    const char *first = m->parts[0].text, *last = m->parts[m->n_part - 1].text;
    size_t n = last ? strlen(last) : 0, n_close = strlen(CHAT_TOOL_CLOSE);
    return !first || strncmp(first, CHAT_TOOL_OPEN, strlen(CHAT_TOOL_OPEN)) != 0 || n < n_close ||
           memcmp(last + n - n_close, CHAT_TOOL_CLOSE, n_close) != 0;
}

status chat_append_messages(const chat *c, chat_seq *s, const message *m, int n, const json *tools,
                            const int32_t (*grids)[3])
{
    CHECK(n > 0);
    chat_text r = {.c = c, .s = s};
    talk t = {m, n, n - 1, grids};
    int asked = n - 1;
    while (asked >= 0 && !is_question(&m[asked])) asked--;
    if (asked >= 0) t.question = asked;
    int n_id = s->id.n, n_image = s->n_image;
    status st = render(&r, &t, tools);
    if (st != ST_OK) {
        s->id.n = n_id;
        s->n_image = n_image;
    }
    free(r.text);
    return st;
}

status chat_append_message(const chat *c, chat_seq *s, const message *m, const int32_t (*grids)[3])
{
    return chat_append_messages(c, s, m, 1, NULL, grids);
}

/* ---- rollouts ---- */

status chat_append_generation_prompt(const chat *c, chat_seq *s)
{
    chat_text r = {.c = c, .s = s};
    status st = chat_text_open(&r, "assistant");
    bool closed = c->style->think == CHAT_THINK_HYBRID && c->no_think;
    if (st == ST_OK && (closed || c->style->think == CHAT_THINK_ALWAYS)) chat_text_string(&r, THINK);
    if (st == ST_OK && closed) chat_text_string(&r, END_THINK);
    if (st == ST_OK) st = chat_text_flush(&r, true, 0);
    free(r.text);
    return st;
}

status chat_append_sampled(const chat *c, chat_seq *s, const int32_t *id, int n)
{
    chat_text r = {.c = c, .s = s};
    for (int i = 0; i < n; i++) chat_text_push(s, id[i], 1);
    if (n == 0 || id[n - 1] != c->im_end) chat_text_push(s, c->im_end, 0);
    chat_text_string(&r, "\n");
    status st = chat_text_flush(&r, false, 0);
    free(r.text);
    return st;
}

status chat_append_tool(const chat *c, chat_seq *s, const char *text, const int32_t (*grids)[3], int n_image)
{
    part *parts = calloc((size_t)n_image + 1, sizeof *parts);
    if (!parts) return FAIL(ST_ENOMEM, "out of memory for a tool result of %d images", n_image);
    parts[0].text = (char *)text;
    for (int i = 0; i < n_image; i++) parts[i + 1].image = i;
    const message m = {.role = ROLE_TOOL, .n_part = n_image + 1, .parts = parts};
    status st = chat_append_message(c, s, &m, grids);
    free(parts);
    return st;
}

void chat_ban(const chat *c, int vocab, uint8_t *ban)
{
    for (int i = 0; i < vocab; i++) ban[i] = i >= c->tok->n || !c->tok->tokens[i].used;
    for (int i = 0; i < c->n_forbidden; i++)
        if (c->forbidden[i] < vocab) ban[c->forbidden[i]] = 1;
}
