#include <stdlib.h>
#include <string.h>

#include "rollout/run.h"

int rollout_prompt_images(const sample *s)
{
    int n = 0;
    for (int i = 0; i < s->n_message && s->messages[i].role != ROLE_ASSISTANT; i++)
        for (int k = 0; k < s->messages[i].n_part; k++)
            if (!s->messages[i].parts[k].text && s->messages[i].parts[k].image >= n)
                n = s->messages[i].parts[k].image + 1;
    return n;
}

static status prompt_images(group *g, const image_processor *ip, int max_tokens)
{
    const rollout_prompt *p = g->p;
    track *t = &g->t;
    t->image = calloc((size_t)p->n_image + 1, sizeof *t->image);
    if (!t->image) return FAIL(ST_ENOMEM, "no memory for %d prompt images", p->n_image);
    for (int i = 0; i < p->n_image; i++) {
        traj_image *im = &t->image[i];
        im->view = p->view[i];
        const image *whole = p->picture && p->picture[i].rgb ? &p->picture[i] : &p->view[i];
        im->w = whole->w;
        im->h = whole->h;
        im->grid[0] = 1;
        im->grid[1] = p->view[i].h / ip->patch;
        im->grid[2] = p->view[i].w / ip->patch;
        int tokens = image_grid_tokens(im->grid, ip->merge);
        if (tokens > max_tokens)
            return FAIL(ST_EINVAL, "%s: image %d takes %d tokens; rollout.prefill_tokens allows %d", p->sample->id, i,
                        tokens, max_tokens);
    }
    t->n_image = t->n_borrowed = p->n_image;
    return ST_OK;
}

static status render_prompt(group *g, const chat *c)
{
    const sample *s = g->p->sample;
    track *t = &g->t;
    int32_t(*grid)[3] = calloc((size_t)t->n_image + 1, sizeof *grid);
    if (!grid) return FAIL(ST_ENOMEM, "no memory for image grids");
    for (int i = 0; i < t->n_image; i++) memcpy(grid[i], t->image[i].grid, sizeof grid[i]);
    status st = ST_OK;
    int n = 0; /* messages of the prompt */
    for (; n < s->n_message && s->messages[n].role != ROLE_ASSISTANT && st == ST_OK; n++) {
        const message *m = &s->messages[n];
        for (int k = 0; k < m->n_part && st == ST_OK; k++)
            if (!m->parts[k].text && m->parts[k].image >= t->n_image)
                st = FAIL(ST_EINVAL, "%s: the prompt shows image %d, only %d were loaded", s->id, m->parts[k].image,
                          t->n_image);
    }
    if (st == ST_OK && n) st = chat_append_messages(c, &t->seq, s->messages, n, s->tools, (const int32_t(*)[3])grid);
    if (st == ST_OK) st = chat_append_generation_prompt(c, &t->seq);
    free(grid);
    if (st == ST_OK && t->seq.n_image != t->n_image)
        st = FAIL(ST_EINVAL, "%s: %d images were loaded, the prompt shows %d", s->id, t->n_image, t->seq.n_image);
    return st;
}

void group_close(group *g, kv_pool *kv)
{
    kv_release(kv, &g->t.kv);
    track_free(&g->t);
    box_input_release(g->input);
    g->input = NULL;
    free(g->member);
    g->member = NULL;
}

status group_open(group *g, const session_rules *r, const image_processor *ip, int index, int size)
{
    double now = clock_now();
    g->n_live = size;
    g->member = calloc((size_t)size, sizeof *g->member);
    if (!g->member) return FAIL(ST_ENOMEM, "no memory for a group of %d", size);
    for (int i = 0; i < size; i++) g->member[i].state = SESSION_DONE; /* until started: cleanup sees nothing */
    TRY(prompt_images(g, ip, r->max_image_tokens));
    TRY(render_prompt(g, r->c));
    track_extend(&g->t, r->c->merge);
    for (int i = 0; i < size; i++) {
        session_start(&g->member[i], r, &g->t, index, i);
        g->member[i].started = now;
    }
    return ST_OK;
}
