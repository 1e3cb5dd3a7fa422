#include "data/chat_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_inside.h"

void chat_text_push(chat_seq *s, int32_t id, uint8_t mask)
{
    ids_push(&s->id, id);
    if (s->mask_cap < s->id.cap) {
        s->mask_cap = s->id.cap;
        s->mask = realloc(s->mask, (size_t)s->mask_cap);
        CHECK(s->mask);
    }
    s->mask[s->id.n - 1] = mask;
}

void chat_text_add(chat_text *r, const char *text, size_t n)
{
    if (r->n + n > r->cap) {
        r->cap = 2 * (r->n + n);
        r->text = realloc(r->text, r->cap);
        CHECK(r->text);
    }
    if (n) memcpy(r->text + r->n, text, n);
    r->n += n;
}

void chat_text_string(chat_text *r, const char *text) { chat_text_add(r, text, strlen(text)); }

status chat_text_flush(chat_text *r, bool special, uint8_t mask)
{
    ids l = {0};
    TRY(tokenizer_encode(r->c->tok, r->text, r->n, special, &l));
    for (int i = 0; i < l.n; i++) chat_text_push(r->s, l.v[i], mask);
    ids_free(&l);
    r->n = 0;
    return ST_OK;
}

status chat_text_id(chat_text *r, int32_t id, uint8_t mask)
{
    TRY(chat_text_flush(r, false, 0));
    chat_text_push(r->s, id, mask);
    return ST_OK;
}

status chat_text_template(chat_text *r, const char *text)
{
    size_t n = strlen(text);
    for (size_t at = 0; at < n;) {
        added_match m = tokenizer_find_added(r->c->tok, text, n, at);
        chat_text_add(r, text + at, m.at - at);
        if (m.id >= 0) TRY(chat_text_id(r, m.id, 0));
        at = m.at + m.len;
    }
    return ST_OK;
}

status chat_text_image(chat_text *r, const int32_t grid[3])
{
    const chat *c = r->c;
    chat_seq *s = r->s;
    if (!c->style->images)
        return FAIL(ST_EINVAL, "the chat style %s has no images; choose another with model.chat_style", c->style->name);
    if (c->vision_start < 0 || c->vision_end < 0 || c->image_pad < 0)
        return FAIL(ST_EINVAL, "the tokenizer has no vision tokens, so this model can't be shown images");
    CHECK(grid && grid[0] > 0 && grid[1] > 0 && grid[2] > 0 && grid[1] % c->merge == 0 && grid[2] % c->merge == 0);
    if (c->vision_ids) {
        char name[32];
        snprintf(name, sizeof name, "Picture %d: ", s->n_image + 1);
        chat_text_string(r, name);
    }
    TRY(chat_text_id(r, c->vision_start, 0));
    if (s->n_image == s->image_cap) {
        s->image_cap = s->image_cap ? 2 * s->image_cap : 4;
        s->image = realloc(s->image, (size_t)s->image_cap * sizeof *s->image);
        CHECK(s->image);
    }
    s->image[s->n_image++] = (mrope_image){s->id.n, grid[0], grid[1], grid[2]};
    int n = image_grid_tokens(grid, c->merge);
    for (int i = 0; i < n; i++) chat_text_push(s, c->image_pad, 0);
    return chat_text_id(r, c->vision_end, 0);
}

void chat_text_tool(chat_text *r, const char *text)
{
    for (const char *hit; r->c->tool_close < 0 && (hit = strstr(text, CHAT_TOOL_CLOSE)); text = hit + 1) {
        chat_text_add(r, text, (size_t)(hit - text) + 1);
        chat_text_string(r, "\\");
    }
    chat_text_string(r, text);
}

status chat_text_open(chat_text *r, const char *name)
{
    TRY(chat_text_id(r, r->c->im_start, 0));
    chat_text_string(r, name);
    chat_text_string(r, "\n");
    return ST_OK;
}

status chat_text_close(chat_text *r, uint8_t mask)
{
    TRY(chat_text_id(r, r->c->im_end, mask));
    chat_text_string(r, "\n");
    return chat_text_flush(r, false, 0);
}
