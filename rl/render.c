#include "rl/render.h"

#include <stdlib.h>
#include <string.h>

#include "rollout/engine.h"

status render_views(image *view, int n, dataset *d, const sample *s, const image_processor *ip)
{
    for (int i = 0; i < n; i++) {
        status st = dataset_view(d, s->images[i], ip, &view[i], NULL, NULL);
        if (st != ST_OK) {
            while (i-- > 0) {
                image_free(&view[i]);
                view[i] = (image){0};
            }
            return fail_within(st, "sample %s", s->id);
        }
    }
    return ST_OK;
}

static status append_all(rendered *r, const chat *c, const image_processor *ip)
{
    int n = r->s.n_image, used = 0;
    int32_t(*grid)[3] = calloc((size_t)n + 1, sizeof *grid);
    r->shown = calloc((size_t)n + 1, sizeof(const image *));
    if (!grid || !r->shown) {
        free(grid);
        return FAIL(ST_ENOMEM, "no memory for %d pictures", n);
    }
    for (int i = 0; i < n; i++) {
        grid[i][0] = 1;
        grid[i][1] = r->view[i].h / ip->patch;
        grid[i][2] = r->view[i].w / ip->patch;
    }
    for (int k = 0; k < r->s.n_message; k++) {
        const message *m = &r->s.messages[k];
        for (int p = 0; p < m->n_part; p++)
            if (!m->parts[p].text) {
                CHECK(used < n);
                r->shown[used++] = &r->view[m->parts[p].image];
            }
    }
    status st = chat_append_messages(c, &r->seq, r->s.messages, r->s.n_message, r->s.tools, (const int32_t(*)[3])grid);
    free(grid);
    if (st == ST_OK) CHECK(used == r->seq.n_image);
    return st;
}

status render_row(rendered *out, dataset *d, int64_t row, const chat *c, const image_processor *ip)
{
    rendered r = {0};
    TRY(dataset_sample(d, row, &r.s));
    status st;
    r.view = calloc((size_t)r.s.n_image + 1, sizeof *r.view);
    if (!r.view) {
        st = FAIL(ST_ENOMEM, "no memory for %d pictures", r.s.n_image);
        goto fail;
    }
    TRY_OR(render_views(r.view, r.s.n_image, d, &r.s, ip), fail);
    st = append_all(&r, c, ip);
    if (st != ST_OK) {
        st = fail_within(st, "sample %s", r.s.id);
        goto fail;
    }
    *out = r;
    return ST_OK;
fail:
    render_free(&r);
    return st;
}

void render_free(rendered *r)
{
    for (int i = 0; r->view && i < r->s.n_image; i++) image_free(&r->view[i]);
    free(r->view);
    free(r->shown);
    chat_seq_free(&r->seq);
    sample_free(&r->s);
    memset(r, 0, sizeof *r);
}

status prompt_load(prompt_row *out, dataset *d, int64_t row, const image_processor *ip, bool originals)
{
    prompt_row p = {0};
    TRY(dataset_sample(d, row, &p.s));
    status st;
    p.n_image = rollout_prompt_images(&p.s);
    p.picture = calloc((size_t)p.n_image + 1, sizeof *p.picture);
    p.view = calloc((size_t)p.n_image + 1, sizeof *p.view);
    if (!p.picture || !p.view) {
        st = FAIL(ST_ENOMEM, "no memory for %d pictures", p.n_image);
        goto fail;
    }
    for (int i = 0; i < p.n_image && originals; i++) TRY_OR(dataset_image(d, p.s.images[i], &p.picture[i]), fail);
    TRY_OR(render_views(p.view, p.n_image, d, &p.s, ip), fail);
    *out = p;
    return ST_OK;
fail:
    prompt_free(&p);
    return st;
}

void prompt_free(prompt_row *p)
{
    for (int i = 0; i < p->n_image; i++) {
        if (p->picture) image_free(&p->picture[i]);
        if (p->view) image_free(&p->view[i]);
    }
    free(p->picture);
    free(p->view);
    sample_free(&p->s);
    memset(p, 0, sizeof *p);
}

int render_targets(const rendered *r)
{
    int n = 0;
    for (int i = 0; i < r->seq.id.n; i++) n += r->seq.mask[i];
    return n;
}

batch_seq render_sequence(const rendered *r, double weight)
{
    return (batch_seq){.n_tok = r->seq.id.n,
                       .id = r->seq.id.v,
                       .mask = r->seq.mask,
                       .n_image = r->seq.n_image,
                       .run = r->seq.image,
                       .view = r->shown,
                       .weight = weight,
                       .name = r->s.id};
}
