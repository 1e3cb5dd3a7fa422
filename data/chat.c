#include "data/chat.h"

#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_inside.h"

#define TOOL_OPEN "<tool_response>"
#define TOOL_CLOSE "</tool_response>"

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
    *c = (chat){.tok = tok, .merge = merge, .default_system = default_system};
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
                 {TOOL_OPEN, &c->tool_open, true},
                 {TOOL_CLOSE, &c->tool_close, true}};
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

/* A turn being rendered. Plain text is gathered and encoded in one go between control ids, because the pre-tokenizer
 * looks across "user\n" and the text that follows, as it does when a template is rendered to text first. */
typedef struct render {
    const chat *c;
    chat_seq *s;
    char *text;
    size_t n, cap;
} render;

static void push_id(chat_seq *s, int32_t id, uint8_t mask)
{
    ids_push(&s->id, id);
    if (s->mask_cap < s->id.cap) {
        s->mask_cap = s->id.cap;
        s->mask = realloc(s->mask, (size_t)s->mask_cap);
        CHECK(s->mask);
    }
    s->mask[s->id.n - 1] = mask;
}

static void add_text(render *r, const char *text, size_t n)
{
    if (r->n + n > r->cap) {
        r->cap = 2 * (r->n + n);
        r->text = realloc(r->text, r->cap);
        CHECK(r->text);
    }
    if (n) memcpy(r->text + r->n, text, n);
    r->n += n;
}

static void add_string(render *r, const char *text) { add_text(r, text, strlen(text)); }

/* Encodes the gathered text. special: added tokens in it are parsed. */
static status flush(render *r, bool special, uint8_t mask)
{
    ids l = {0};
    TRY(tokenizer_encode(r->c->tok, r->text, r->n, special, &l));
    for (int i = 0; i < l.n; i++) push_id(r->s, l.v[i], mask);
    ids_free(&l);
    r->n = 0;
    return ST_OK;
}

static status add_id(render *r, int32_t id, uint8_t mask)
{
    TRY(flush(r, false, 0));
    push_id(r->s, id, mask);
    return ST_OK;
}

static status add_tag(render *r, int id, const char *text)
{
    if (id >= 0) return add_id(r, id, 0);
    add_string(r, text);
    return ST_OK;
}

static status add_image(render *r, const int32_t grid[3])
{
    const chat *c = r->c;
    chat_seq *s = r->s;
    if (c->vision_start < 0 || c->vision_end < 0 || c->image_pad < 0)
        return FAIL(ST_EINVAL, "the tokenizer has no vision tokens, so this model can't be shown images");
    CHECK(grid && grid[0] > 0 && grid[1] > 0 && grid[2] > 0 && grid[1] % c->merge == 0 && grid[2] % c->merge == 0);
    TRY(add_id(r, c->vision_start, 0));
    if (s->n_image == s->image_cap) {
        s->image_cap = s->image_cap ? 2 * s->image_cap : 4;
        s->image = realloc(s->image, (size_t)s->image_cap * sizeof *s->image);
        CHECK(s->image);
    }
    s->image[s->n_image++] = (mrope_image){s->id.n, grid[0], grid[1], grid[2]};
    int n = image_grid_tokens(grid, c->merge);
    for (int i = 0; i < n; i++) push_id(s, c->image_pad, 0);
    return add_id(r, c->vision_end, 0);
}

/* Text from outside between the tool tags. Where the tags are ordinary text, a closing one in it is broken up. */
static void add_tool_text(render *r, const char *text)
{
    for (const char *hit; r->c->tool_close < 0 && (hit = strstr(text, TOOL_CLOSE)); text = hit + 1) {
        add_text(r, text, (size_t)(hit - text) + 1);
        add_string(r, "\\");
    }
    add_string(r, text);
}

static status open_turn(render *r, const char *name)
{
    TRY(add_id(r, r->c->im_start, 0));
    add_string(r, name);
    add_string(r, "\n");
    return ST_OK;
}

static status close_turn(render *r, uint8_t mask)
{
    TRY(add_id(r, r->c->im_end, mask));
    add_string(r, "\n");
    return flush(r, false, 0);
}

/* The header and the text are encoded apart: the policy writes its text after the header's ids, whatever it begins
 * with. */
static status render_assistant(render *r, const message *m)
{
    TRY(open_turn(r, "assistant"));
    TRY(flush(r, false, 0));
    int from = r->s->id.n;
    for (int i = 0; i < m->n_part; i++) {
        if (!m->parts[i].text) return FAIL(ST_EINVAL, "an assistant message can't hold an image");
        add_string(r, m->parts[i].text);
    }
    TRY(flush(r, true, 1));
    for (int i = from; i < r->s->id.n; i++) {
        bool bad = r->s->id.v[i] == r->c->im_end;
        for (int k = 0; k < r->c->n_forbidden && !bad; k++) bad = r->s->id.v[i] == r->c->forbidden[k];
        if (bad)
            return FAIL(ST_EINVAL, "an assistant text contains %s, which the model never writes itself; remove it",
                        r->c->tok->tokens[r->s->id.v[i]].text);
    }
    return close_turn(r, 1);
}

static status render_other(render *r, const message *m, const int32_t (*grids)[3])
{
    bool tool = m->role == ROLE_TOOL;
    TRY(open_turn(r, tool ? "user" : role_name(m->role)));
    if (tool) TRY(add_tag(r, r->c->tool_open, TOOL_OPEN));
    for (int i = 0; i < m->n_part; i++) {
        const part *p = &m->parts[i];
        if (!p->text)
            TRY(add_image(r, grids ? grids[p->image] : NULL));
        else if (tool)
            add_tool_text(r, p->text);
        else
            add_string(r, p->text);
    }
    if (tool) TRY(add_tag(r, r->c->tool_close, TOOL_CLOSE));
    return close_turn(r, 0);
}

status chat_append_message(const chat *c, chat_seq *s, const message *m, const int32_t (*grids)[3])
{
    render r = {.c = c, .s = s};
    int n = s->id.n, n_image = s->n_image;
    status st = ST_OK;
    if (n == 0 && c->default_system && m->role != ROLE_SYSTEM) {
        part text = {.text = (char *)c->default_system};
        const message system = {ROLE_SYSTEM, 1, &text};
        st = render_other(&r, &system, NULL);
    }
    if (st == ST_OK) st = m->role == ROLE_ASSISTANT ? render_assistant(&r, m) : render_other(&r, m, grids);
    if (st != ST_OK) {
        s->id.n = n;
        s->n_image = n_image;
    }
    free(r.text);
    return st;
}

status chat_append_generation_prompt(const chat *c, chat_seq *s)
{
    render r = {.c = c, .s = s};
    status st = open_turn(&r, "assistant");
    if (st == ST_OK) st = flush(&r, false, 0);
    free(r.text);
    return st;
}

status chat_append_sampled(const chat *c, chat_seq *s, const int32_t *id, int n)
{
    render r = {.c = c, .s = s};
    for (int i = 0; i < n; i++) push_id(s, id[i], 1);
    if (n == 0 || id[n - 1] != c->im_end) push_id(s, c->im_end, 0);
    add_string(&r, "\n");
    status st = flush(&r, false, 0);
    free(r.text);
    return st;
}

status chat_append_tool(const chat *c, chat_seq *s, const char *text, const int32_t (*grids)[3], int n_image)
{
    part *parts = calloc((size_t)n_image + 1, sizeof *parts);
    if (!parts) return FAIL(ST_ENOMEM, "out of memory for a tool result of %d images", n_image);
    parts[0].text = (char *)text;
    for (int i = 0; i < n_image; i++) parts[i + 1].image = i;
    const message m = {ROLE_TOOL, n_image + 1, parts};
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
