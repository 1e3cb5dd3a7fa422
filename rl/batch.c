#include "rl/batch.h"

#include <stdlib.h>
#include <string.h>

#include "core/mrope.h"

typedef struct seen {
    const image *view;
    int first_row;
} seen; /* an encoded picture and its first visual token */

struct batch {
    const model_config *c;
    const image_processor *ip;
    model_limits lim;
    int patch_dim;
    token_batch x;
    int n_patch, n_row_vis; /* patches and visual tokens encoded so far */
    seen *img;
    int32_t *ids, *pos, *cu, *grid, *vis_tok, *vis_row, *row, *target;
    int *seq_of;
    float *patches, *old, *adv;
    double *weight;
};

status batch_create(batch **out, const model_config *c, const image_processor *ip, const model_limits *lim)
{
    batch *b = calloc(1, sizeof *b);
    if (!b) return FAIL(ST_ENOMEM, "no memory for a batch");
    size_t tok = (size_t)lim->tok, row = (size_t)lim->row, img = (size_t)lim->img + 1;
    *b = (batch){.c = c, .ip = ip, .lim = *lim, .patch_dim = c->has_vision ? vision_patch_dim(&c->vision) : 0};
    b->img = malloc(img * sizeof *b->img);
    b->ids = malloc(tok * sizeof *b->ids);
    b->pos = malloc(3 * tok * sizeof *b->pos);
    b->cu = malloc(((size_t)lim->seq + 1) * sizeof *b->cu);
    b->grid = malloc(3 * img * sizeof *b->grid);
    b->vis_tok = malloc(tok * sizeof *b->vis_tok);
    b->vis_row = malloc(tok * sizeof *b->vis_row);
    b->row = malloc(row * sizeof *b->row);
    b->target = malloc(row * sizeof *b->target);
    b->seq_of = malloc(row * sizeof *b->seq_of);
    b->patches = malloc(((size_t)lim->patch * (size_t)b->patch_dim + 1) * sizeof *b->patches);
    b->old = malloc(row * sizeof *b->old);
    b->adv = malloc(row * sizeof *b->adv);
    b->weight = malloc(row * sizeof *b->weight);
    if (!b->img || !b->ids || !b->pos || !b->cu || !b->grid || !b->vis_tok || !b->vis_row || !b->row || !b->target ||
        !b->seq_of || !b->patches || !b->old || !b->adv || !b->weight) {
        batch_destroy(b);
        return FAIL(ST_ENOMEM, "no memory for a batch of %d tokens and %d patches", lim->tok, lim->patch);
    }
    *out = b;
    return ST_OK;
}

void batch_destroy(batch *b)
{
    if (!b) return;
    void *owned[] = {b->img, b->ids,    b->pos,    b->cu,      b->grid, b->vis_tok, b->vis_row,
                     b->row, b->target, b->seq_of, b->patches, b->old,  b->adv,     b->weight};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    free(b);
}

/* What a sequence costs. Tokens from the last target on only follow it: no row reads them, so they are left out. */
typedef struct need {
    int tok, row, img, patch, n_image;
} need;

static int find_image(const batch *b, const image *view)
{
    for (int i = 0; i < b->x.n_img; i++)
        if (b->img[i].view == view) return i;
    return -1;
}

static need measure(const batch *b, const batch_seq *s)
{
    need n = {0};
    for (int t = 0; t < s->n_tok; t++)
        if (s->mask[t]) n.tok = t, n.row++;
    for (int i = 0; i < s->n_image && s->run[i].start < n.tok; i++) {
        bool again = find_image(b, s->view[i]) >= 0;
        for (int k = 0; k < i && !again; k++) again = s->view[k] == s->view[i];
        n.n_image++;
        if (again) continue;
        n.img++;
        n.patch += s->run[i].t * s->run[i].h * s->run[i].w;
    }
    return n;
}

static status refuse(const batch *b, const need *n, const char *name)
{
    if (n->patch > b->lim.patch)
        return FAIL(ST_EINVAL, "%s has pictures of %d patches, more than train.max_patches %d", name, n->patch,
                    b->lim.patch);
    if (n->img > b->lim.img)
        return FAIL(ST_EINVAL, "%s has %d pictures, more than the %d that train.max_patches %d allows", name, n->img,
                    b->lim.img, b->lim.patch);
    return FAIL(ST_EINVAL, "%s has %d tokens, more than train.max_tokens %d", name, n->tok, b->lim.tok);
}

static void put_image(batch *b, const image *view)
{
    token_batch *x = &b->x;
    int32_t grid[3];
    image_patches(b->patches + (size_t)b->n_patch * (size_t)b->patch_dim, grid, view, b->ip);
    memcpy(b->grid + 3 * x->n_img, grid, sizeof grid);
    b->img[x->n_img++] = (seen){view, b->n_row_vis};
    b->n_patch += grid[0] * grid[1] * grid[2];
    b->n_row_vis += image_grid_tokens(grid, b->ip->merge);
}

static void put_sequence(batch *b, const batch_seq *s, const need *n, int index)
{
    token_batch *x = &b->x;
    int at = x->n_tok, next = 0;
    memcpy(b->ids + at, s->id, sizeof *s->id * (size_t)n->tok);
    mrope_positions(b->pos + 3 * at, n->tok, s->run, n->n_image, b->ip->merge, 1, &next);
    for (int i = 0; i < n->n_image; i++) {
        if (find_image(b, s->view[i]) < 0) put_image(b, s->view[i]);
        int k = find_image(b, s->view[i]);
        const mrope_image *r = &s->run[i];
        int tokens = image_grid_tokens(b->grid + 3 * k, b->ip->merge);
        CHECK(r->t == b->grid[3 * k] && r->h == b->grid[3 * k + 1] && r->w == b->grid[3 * k + 2]);
        for (int j = 0; j < tokens; j++) {
            b->vis_tok[x->n_vis] = at + r->start + j;
            b->vis_row[x->n_vis++] = b->img[k].first_row + j;
        }
    }
    for (int t = 1; t <= n->tok; t++) {
        if (!s->mask[t]) continue;
        int r = x->n_row++;
        b->row[r] = at + t - 1;
        b->target[r] = s->id[t];
        b->old[r] = s->old_logp ? s->old_logp[t] : 0;
        b->adv[r] = s->adv ? s->adv[t] : 0;
        b->weight[r] = s->weight;
        b->seq_of[r] = index;
    }
    x->n_tok += n->tok;
    b->cu[++x->n_seq] = x->n_tok;
}

status batch_pack(batch *b, const batch_seq *seq, int n, int *at)
{
    b->x = (token_batch){.ids = b->ids,
                         .pos = b->pos,
                         .cu = b->cu,
                         .grid = b->grid,
                         .patches = b->patches,
                         .vis_tok = b->vis_tok,
                         .vis_row = b->vis_row,
                         .row = b->row};
    b->cu[0] = 0;
    b->n_patch = b->n_row_vis = 0;
    while (*at < n) {
        const batch_seq *s = &seq[*at];
        CHECK(s->n_tok == 0 || !s->mask[0]); /* the first token has nothing to be predicted from */
        need k = measure(b, s);
        bool fits = b->x.n_tok + k.tok <= b->lim.tok && b->x.n_row + k.row <= b->lim.row && b->x.n_seq < b->lim.seq &&
                    b->x.n_img + k.img <= b->lim.img && b->n_patch + k.patch <= b->lim.patch;
        if (!fits && b->x.n_seq == 0) return refuse(b, &k, s->name ? s->name : "a sequence");
        if (!fits) break;
        if (k.row > 0) put_sequence(b, s, &k, *at);
        ++*at;
    }
    return ST_OK;
}

const token_batch *batch_tokens(const batch *b) { return &b->x; }
const int32_t *batch_target(const batch *b) { return b->target; }
const float *batch_old(const batch *b) { return b->old; }
const float *batch_adv(const batch *b) { return b->adv; }
const double *batch_weight(const batch *b) { return b->weight; }
const int *batch_seq_of(const batch *b) { return b->seq_of; }
