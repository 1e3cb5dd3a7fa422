#include "data/sample.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/pyjson.h"

enum { MAX_MESSAGES = 64, MAX_IMAGES = 64, MAX_PARTS = 256, MAX_CALLS = 64 };

static const char *const role_names[] = {"system", "user", "assistant", "tool"};

const char *role_name(role r) { return role_names[r]; }

/* Where in the row: "messages[2].content[0]". */
typedef struct place {
    char text[80];
} place;

/* outer.field[index]; index < 0: no brackets. */
static place place_in(const char *outer, const char *field, int64_t index)
{
    place p;
    int n = snprintf(p.text, sizeof p.text, "%.40s%s%s", outer, *outer ? "." : "", field);
    if (index >= 0) snprintf(p.text + n, sizeof p.text - (size_t)n, "[%lld]", (long long)index);
    return p;
}

/* C0 but tab and line ends, DEL, and C1 (which is C2 80..9F in UTF-8). */
static bool has_control(const char *s, int64_t n)
{
    const unsigned char *b = (const unsigned char *)s;
    for (int64_t i = 0; i < n; i++) {
        if ((b[i] < 0x20 && b[i] != '\t' && b[i] != '\n' && b[i] != '\r') || b[i] == 0x7f) return true;
        if (b[i] == 0xc2 && i + 1 < n && b[i + 1] < 0xa0) return true;
    }
    return false;
}

static status copy_text(const json *v, const char *at, const char *what, char **out)
{
    if (json_kind(v) != JSON_STRING) return FAIL(ST_EINVAL, "%s: %s must be a string", what, at);
    const char *s = json_str(v);
    int64_t n = json_len(v);
    if (has_control(s, n))
        return FAIL(ST_EINVAL, "%s: %s contains a control character other than tab and line ends; remove it", what, at);
    char *copy = malloc((size_t)n + 1);
    if (!copy) return FAIL(ST_ENOMEM, "%s: out of memory", what);
    memcpy(copy, s, (size_t)n + 1);
    *out = copy;
    return ST_OK;
}

static status check_keys(const json *o, const char *const *known, const char *at, const char *list, const char *what)
{
    for (int64_t i = 0; i < json_len(o); i++) {
        const char *key = json_key_at(o, i);
        bool ok = !strncmp(key, "x_", 2);
        for (const char *const *k = known; *k && !ok; k++) ok = !strcmp(key, *k);
        if (!ok)
            return FAIL(ST_EINVAL, "%s: unknown field '%.60s' in %s; known: %s (your own fields start with x_)", what,
                        key, at, list);
    }
    return ST_OK;
}

static status parse_part(sample *s, message *m, const json *j, const char *at, const char *what)
{
    static const char *const known[] = {"type", "text", "path", NULL};
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: %s must be an object", what, at);
    TRY(check_keys(j, known, at, "type, text, path", what));
    const char *type = json_str(json_get(j, "type"));
    part *p = &m->parts[m->n_part];
    if (type && !strcmp(type, "text")) {
        if (json_get(j, "path")) return FAIL(ST_EINVAL, "%s: %s: a text part has no path", what, at);
        TRY(copy_text(json_get(j, "text"), place_in(at, "text", -1).text, what, &p->text));
        m->n_part++;
        return ST_OK;
    }
    if (!type || strcmp(type, "image") != 0)
        return FAIL(ST_EINVAL, "%s: %s.type must be \"text\" or \"image\"", what, at);
    if (json_get(j, "text")) return FAIL(ST_EINVAL, "%s: %s: an image part has no text", what, at);
    if (m->role != ROLE_USER && m->role != ROLE_TOOL)
        return FAIL(ST_EINVAL, "%s: %s: only user and tool messages can hold images", what, at);
    if (s->n_image == MAX_IMAGES) return FAIL(ST_EINVAL, "%s: more than %d images in one row", what, MAX_IMAGES);
    char *path = NULL;
    TRY(copy_text(json_get(j, "path"), place_in(at, "path", -1).text, what, &path));
    s->images[s->n_image] = path;
    p->image = s->n_image++;
    m->n_part++;
    if (!*path) return FAIL(ST_EINVAL, "%s: %s.path is empty", what, at);
    return ST_OK;
}

tool_call sample_tool_call(const message *m, int64_t i)
{
    const json *call = json_at(m->tool_calls, i), *inner = json_get(call, "function");
    if (inner) call = inner;
    return (tool_call){json_str(json_get(call, "name")), json_get(call, "arguments")};
}

/* A list that templates print: it must be one that Python's json would print alike. */
static status check_printed(const json *list, const char *at, const char *what)
{
    if (json_kind(list) != JSON_ARRAY || json_len(list) < 1 || json_len(list) > MAX_CALLS)
        return FAIL(ST_EINVAL, "%s: %s must be a list of 1..%d objects", what, at, MAX_CALLS);
    for (int64_t i = 0; i < json_len(list); i++)
        if (json_kind(json_at(list, i)) != JSON_OBJECT)
            return FAIL(ST_EINVAL, "%s: %s[%lld] must be an object", what, at, (long long)i);
    char *text = NULL;
    size_t n = 0;
    status st = pyjson_write(list, &text, &n);
    free(text);
    return st == ST_OK ? ST_OK : fail_within(st, "%s: %s", what, at);
}

/* Fields of an assistant message besides its content. */
static status parse_said(message *m, const json *j, const char *at, const char *what)
{
    const json *calls = json_get(j, "tool_calls"), *thought = json_get(j, "reasoning_content");
    if ((calls || thought) && m->role != ROLE_ASSISTANT)
        return FAIL(ST_EINVAL, "%s: %s: only assistant messages have tool_calls or reasoning_content", what, at);
    if (json_kind(thought) != JSON_NULL)
        TRY(copy_text(thought, place_in(at, "reasoning_content", -1).text, what, &m->reasoning));
    if (json_kind(calls) == JSON_NULL) return ST_OK;
    place list = place_in(at, "tool_calls", -1);
    TRY(check_printed(calls, list.text, what));
    m->tool_calls = calls;
    for (int64_t i = 0; i < json_len(calls); i++) {
        tool_call c = sample_tool_call(m, i);
        if (!c.name || has_control(c.name, (int64_t)strlen(c.name)) ||
            (json_kind(c.arguments) != JSON_OBJECT && json_kind(c.arguments) != JSON_STRING))
            return FAIL(ST_EINVAL,
                        "%s: %s[%lld] must have a function with a name and arguments (an object or a string)", what,
                        list.text, (long long)i);
    }
    return ST_OK;
}

static status parse_message(sample *s, message *m, const json *j, int64_t index, const char *what)
{
    static const char *const known[] = {"role", "content", "tool_calls", "reasoning_content", NULL};
    place at = place_in("", "messages", index);
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: %s must be an object", what, at.text);
    TRY(check_keys(j, known, at.text, "role, content, tool_calls, reasoning_content", what));
    const char *name = json_str(json_get(j, "role"));
    int r = 0;
    while (r < 4 && (!name || strcmp(name, role_names[r]) != 0)) r++;
    if (r == 4) return FAIL(ST_EINVAL, "%s: %s.role must be system, user, assistant or tool", what, at.text);
    m->role = (role)r;
    TRY(parse_said(m, j, at.text, what));
    const json *content = json_get(j, "content");
    bool list = json_kind(content) == JSON_ARRAY;
    if (m->tool_calls && json_kind(content) == JSON_NULL) return ST_OK;
    if (!list && json_kind(content) != JSON_STRING)
        return FAIL(ST_EINVAL, "%s: %s.content must be a string or a list of parts", what, at.text);
    int64_t n = list ? json_len(content) : 1;
    if (n < 1 || n > MAX_PARTS)
        return FAIL(ST_EINVAL, "%s: %s.content must have 1..%d parts", what, at.text, MAX_PARTS);
    m->parts = calloc((size_t)n, sizeof *m->parts);
    if (!m->parts) return FAIL(ST_ENOMEM, "%s: out of memory", what);
    if (!list) {
        TRY(copy_text(content, place_in(at.text, "content", -1).text, what, &m->parts[0].text));
        m->n_part = 1;
        return ST_OK;
    }
    for (int64_t i = 0; i < n; i++)
        TRY(parse_part(s, m, json_at(content, i), place_in(at.text, "content", i).text, what));
    return ST_OK;
}

static status parse_row(sample *s, const char *what)
{
    static const char *const known[] = {"id", "messages", "tools", "answer", "verifier", "category", "domain", NULL};
    const json *row = s->row;
    if (json_kind(row) != JSON_OBJECT) return FAIL(ST_EINVAL, "%s: a row must be a JSON object", what);
    TRY(check_keys(row, known, "the row", "id, messages, tools, answer, verifier, category, domain", what));
    const struct {
        const char *key;
        char **out;
    } text[] = {{"id", &s->id},
                {"answer", &s->answer},
                {"verifier", &s->verifier},
                {"category", &s->category},
                {"domain", &s->domain}};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        const json *v = json_get(row, text[i].key);
        if (v) TRY(copy_text(v, text[i].key, what, text[i].out));
    }
    if (!s->id && !(s->id = strdup(what))) return FAIL(ST_ENOMEM, "%s: out of memory", what);
    s->tools = json_kind(json_get(row, "tools")) != JSON_NULL ? json_get(row, "tools") : NULL;
    if (s->tools) TRY(check_printed(s->tools, "tools", what));
    const json *list = json_get(row, "messages");
    int64_t n = json_len(list);
    if (json_kind(list) != JSON_ARRAY || n < 1 || n > MAX_MESSAGES)
        return FAIL(ST_EINVAL, "%s: messages must be a list of 1..%d messages", what, MAX_MESSAGES);
    s->messages = calloc((size_t)n, sizeof *s->messages);
    s->images = calloc(MAX_IMAGES, sizeof *s->images);
    if (!s->messages || !s->images) return FAIL(ST_ENOMEM, "%s: out of memory", what);
    for (int64_t i = 0; i < n; i++) {
        s->n_message = (int)i + 1; /* counted first: a half-made message is freed too */
        TRY(parse_message(s, &s->messages[i], json_at(list, i), i, what));
    }
    return ST_OK;
}

status sample_parse(sample *out, const char *line, size_t len, const char *what)
{
    sample s = {0};
    TRY(json_parse(&s.row, line, len, what));
    status st = parse_row(&s, what);
    if (st == ST_OK)
        *out = s;
    else
        sample_free(&s);
    return st;
}

void sample_free(sample *s)
{
    for (int i = 0; i < s->n_message; i++) {
        for (int k = 0; k < s->messages[i].n_part; k++) free(s->messages[i].parts[k].text);
        free(s->messages[i].parts);
        free(s->messages[i].reasoning);
    }
    for (int i = 0; i < s->n_image; i++) free(s->images[i]);
    free(s->messages);
    free(s->images);
    free(s->id);
    free(s->answer);
    free(s->verifier);
    free(s->category);
    free(s->domain);
    json_free(s->row);
    *s = (sample){0};
}

/* As templates print it, so that 1.0 does not come back as 1. */
static void put_printed(json_out *o, const char *key, const json *v)
{
    char *text = NULL;
    size_t n = 0;
    CHECK(pyjson_write(v, &text, &n) == ST_OK); /* it was checked when it was read */
    json_key(o, key);
    json_put_raw(o, text, n);
    free(text);
}

static void put_content(const sample *s, const message *m, json_out *o)
{
    if (m->n_part == 1 && m->parts[0].text) {
        json_put_str(o, m->parts[0].text);
        return;
    }
    json_open(o, '[');
    for (int i = 0; i < m->n_part; i++) {
        const part *p = &m->parts[i];
        json_open(o, '{');
        json_member_str(o, "type", p->text ? "text" : "image");
        json_member_str(o, p->text ? "text" : "path", p->text ? p->text : s->images[p->image]);
        json_close(o, '}');
    }
    json_close(o, ']');
}

void sample_to_json(const sample *s, json_out *o)
{
    json_open(o, '{');
    json_member_str(o, "id", s->id);
    json_key(o, "messages");
    json_open(o, '[');
    for (int i = 0; i < s->n_message; i++) {
        json_open(o, '{');
        json_member_str(o, "role", role_name(s->messages[i].role));
        json_key(o, "content");
        const message *m = &s->messages[i];
        if (m->n_part)
            put_content(s, m, o);
        else
            json_put_null(o);
        if (m->tool_calls) put_printed(o, "tool_calls", m->tool_calls);
        if (m->reasoning) json_member_str(o, "reasoning_content", m->reasoning);
        json_close(o, '}');
    }
    json_close(o, ']');
    if (s->tools) put_printed(o, "tools", s->tools);
    if (s->answer) json_member_str(o, "answer", s->answer);
    if (s->verifier) json_member_str(o, "verifier", s->verifier);
    if (s->category) json_member_str(o, "category", s->category);
    if (s->domain) json_member_str(o, "domain", s->domain);
    for (int64_t i = 0; i < json_len(s->row); i++)
        if (!strncmp(json_key_at(s->row, i), "x_", 2)) {
            json_key(o, json_key_at(s->row, i));
            json_put_node(o, json_at(s->row, i));
        }
    json_close(o, '}');
}
