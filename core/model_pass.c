/* Forward and backward of the whole model. */
#include <stdlib.h>
#include <string.h>

#include "core/model_parts.h"

struct model_acts {
    model *m; /* borrowed */
    arena *arena;
    model_limits lim;
    bool keep;
    /* the batch on the backend */
    tensor ids;              /* [N], -1 where an image row goes */
    tensor pos, cos, sin;    /* [N,3], [N,D/2] */
    tensor cu;               /* [S+1] */
    tensor slot, table, ctx; /* [N], [S,max_block], [S] */
    tensor row;              /* [R] */
    tensor vis_tok, vis_row; /* [n_vis] */
    tensor top_at, top_row;  /* [n_top] asked-for rows that are image tokens, and the image rows they take */
    int32_t *host_ids;
    int32_t *host_top; /* 2 [R] */
    int n_top;         /* of the last forward */
    /* activations */
    block_acts *layer; /* (L); one for all layers unless keep */
    block_work work;
    tensor vis;                    /* [n_vis,C] image rows in token order */
    tensor row_x, row_o;           /* [R,C], [R,H] asked-for rows of the last layer's input and attention */
    tensor last, rstd, h;          /* [R,C] after the last layer, [R], [R,C] normed */
    tensor dx;                     /* [N,C] */
    tensor dlast, drow_o;          /* [R,C], [R,H] */
    tensor dfeat;                  /* [T,C] */
    tensor ddeep[VISION_MAX_DEEP]; /* [T,C] */
    tower_acts tower;
};

static tensor rows(const tensor *t, int64_t n) { return tensor_rows(t, 0, n); }

/* DeepStack reaches the last decoder layer, of which only the asked-for rows are computed to the end. */
static bool deep_top(const model_config *c) { return c->has_vision && c->vision.n_deep == c->n_layer; }

static void plan(model_acts *a, const model_config *c, const block_shape *s)
{
    arena *p = a->arena;
    const model_limits *lim = &a->lim;
    int64_t N = lim->tok, R = lim->row, S = lim->seq, C = c->hidden, half = c->head_dim / 2, back = a->keep ? 1 : 0;
    int64_t vis = c->has_vision ? N : 0, H = block_heads(s), most = N > R ? N : R;
    arena_add_1d(p, &a->ids, DT_I32, N);
    arena_add_2d(p, &a->pos, DT_I32, N, 3);
    arena_add_2d(p, &a->cos, DT_F32, N, half);
    arena_add_2d(p, &a->sin, DT_F32, N, half);
    arena_add_1d(p, &a->cu, DT_I32, S + 1);
    arena_add_1d(p, &a->slot, DT_I32, lim->max_block ? N : 0);
    arena_add_2d(p, &a->table, DT_I32, S, lim->max_block);
    arena_add_1d(p, &a->ctx, DT_I32, lim->max_block ? S : 0);
    arena_add_1d(p, &a->row, DT_I32, R);
    arena_add_1d(p, &a->vis_tok, DT_I32, vis);
    arena_add_1d(p, &a->vis_row, DT_I32, vis);
    arena_add_1d(p, &a->top_at, DT_I32, deep_top(c) ? R : 0);
    arena_add_1d(p, &a->top_row, DT_I32, deep_top(c) ? R : 0);
    for (int l = 0; a->keep && l < c->n_layer; l++) block_plan_acts(p, &a->layer[l], s, N, l + 1 < c->n_layer ? N : R);
    if (!a->keep) block_plan_acts(p, &a->layer[0], s, N, most);
    block_plan_work(p, &a->work, s, most, a->keep);
    arena_add_act(p, &a->vis, c->has_vision ? most : 0, C);
    arena_add_act(p, &a->row_x, R, C);
    arena_add_act(p, &a->row_o, R, H);
    arena_add_act(p, &a->last, R, C);
    arena_add_1d(p, &a->rstd, DT_F32, R);
    arena_add_act(p, &a->h, R, C);
    arena_add_act(p, &a->dx, back * N, C);
    arena_add_act(p, &a->dlast, back * R, C);
    arena_add_act(p, &a->drow_o, back * R, H);
}

static status create(model_acts *a)
{
    const model_config *c = &a->m->cfg;
    int n_layer = a->keep ? c->n_layer : 1;
    a->layer = calloc((size_t)n_layer, sizeof *a->layer);
    a->host_ids = malloc((size_t)a->lim.tok * sizeof *a->host_ids);
    a->host_top = malloc((size_t)a->lim.row * 2 * sizeof *a->host_top);
    if (!a->layer || !a->host_ids || !a->host_top)
        return FAIL(ST_ENOMEM, "out of memory for activations of %d tokens", a->lim.tok);
    TRY(arena_create(&a->arena, a->m->b, a->keep ? "training activations" : "inference activations"));
    plan(a, c, &a->m->shape);
    if (c->has_vision && a->lim.patch > 0) {
        int64_t unit = (int64_t)c->vision.merge * c->vision.merge;
        TRY(tower_plan_acts(a->arena, &a->tower, &c->vision, a->lim.patch, a->keep));
        arena_add_act(a->arena, &a->dfeat, a->keep ? a->lim.patch / unit : 0, c->hidden);
        for (int k = 0; a->keep && k < c->vision.n_deep; k++)
            arena_add_act(a->arena, &a->ddeep[k], a->lim.patch / unit, c->hidden);
    }
    return arena_commit(a->arena);
}

status model_acts_create(model_acts **out, model *m, const model_limits *lim, bool keep_for_backward)
{
    CHECK(lim->tok > 0 && lim->seq > 0 && lim->row > 0 && lim->patch >= 0 && lim->img >= 0 && lim->max_block >= 0);
    CHECK(!keep_for_backward || m->grads);
    model_acts *a = calloc(1, sizeof *a);
    if (!a) return FAIL(ST_ENOMEM, "out of memory");
    a->m = m;
    a->lim = *lim;
    a->keep = keep_for_backward;
    status st = create(a);
    if (st != ST_OK) {
        model_acts_destroy(a);
        return st;
    }
    *out = a;
    return ST_OK;
}

void model_acts_destroy(model_acts *a)
{
    if (!a) return;
    tower_acts_free(&a->tower);
    arena_destroy(a->arena);
    free(a->layer);
    free(a->host_ids);
    free(a->host_top);
    free(a);
}

size_t model_acts_bytes(const model_acts *a) { return arena_bytes(a->arena); }

/* The batch's numbers are inside the limits and its indices inside its rows. */
static void check_batch(const model_acts *a, const token_batch *x)
{
    const model_limits *lim = &a->lim;
    CHECK(x->n_tok > 0 && x->n_tok <= lim->tok && x->n_seq > 0 && x->n_seq <= lim->seq);
    CHECK(x->n_row >= 0 && x->n_row <= lim->row);
    CHECK(x->cu[0] == 0 && x->cu[x->n_seq] == x->n_tok && x->n_img <= lim->img);
    CHECK(!x->kv || (!a->keep && x->kv->max_block <= lim->max_block));
    CHECK(x->n_vis == 0 || (x->n_img > 0 && x->n_vis <= x->n_tok));
    int n_feat = x->n_img ? vision_tokens(&a->m->cfg.vision, x->grid, x->n_img) : 0;
    for (int i = 0; i < x->n_vis; i++) {
        CHECK(x->vis_tok[i] >= 0 && x->vis_tok[i] < x->n_tok && x->ids[x->vis_tok[i]] == a->m->cfg.image_token);
        CHECK(x->vis_row[i] >= 0 && x->vis_row[i] < n_feat);
    }
    for (int i = 0; i < x->n_row; i++) CHECK(x->row[i] >= 0 && x->row[i] < x->n_tok);
}

static tensor stage(backend *b, const tensor *room, const int32_t *src, int64_t n)
{
    tensor t = rows(room, n);
    if (n) b->upload(b, &t, src);
    return t;
}

static void stage_ids(model_acts *a, const token_batch *x)
{
    int pads = 0;
    memcpy(a->host_ids, x->ids, (size_t)x->n_tok * sizeof *x->ids);
    for (int i = 0; i < x->n_vis; i++) a->host_ids[x->vis_tok[i]] = -1;
    for (int i = 0; i < x->n_tok; i++) pads += a->m->cfg.has_vision && a->host_ids[i] == a->m->cfg.image_token;
    CHECK(pads == 0); /* an image position without an image row */
    stage(a->m->b, &a->ids, a->host_ids, x->n_tok);
}

/* Who attends to whom in layer l. */
static block_ctx context(const model_acts *a, const token_batch *x, int l)
{
    block_ctx c = {.cos = rows(&a->cos, x->n_tok), .sin = rows(&a->sin, x->n_tok), .cu = rows(&a->cu, x->n_seq + 1)};
    if (!x->kv) return c;
    c.kv = &x->kv->layer[l];
    c.slot = rows(&a->slot, x->n_tok);
    c.table = tensor_2d(a->table.data, DT_I32, x->n_seq, x->kv->max_block);
    c.ctx = rows(&a->ctx, x->n_seq);
    return c;
}

static void stage_context(model_acts *a, const token_batch *x)
{
    backend *b = a->m->b;
    tensor pos = rows(&a->pos, x->n_tok), cos = rows(&a->cos, x->n_tok), sin = rows(&a->sin, x->n_tok);
    b->upload(b, &pos, x->pos);
    b->rope_table(b, &cos, &sin, &pos, &a->m->freq, &a->m->axis); /* once, for every layer */
    stage(b, &a->cu, x->cu, x->n_seq + 1);
    if (!x->kv) return;
    tensor table = tensor_2d(a->table.data, DT_I32, x->n_seq, x->kv->max_block);
    b->upload(b, &table, x->kv->table);
    stage(b, &a->slot, x->kv->slot, x->n_tok);
    stage(b, &a->ctx, x->kv->ctx, x->n_seq);
}

static block_acts layer_acts(const model_acts *a, const token_batch *x, int l)
{
    bool last = l + 1 == a->m->cfg.n_layer;
    return block_acts_rows(&a->layer[a->keep ? l : 0], x->n_tok, last ? x->n_row : x->n_tok);
}

/* ---- DeepStack: text layer k gains the image rows of merger k (qwen_vl_spec 12.2) ---- */

/* Layer l of this batch takes image rows. */
static bool deep_layer(const model *m, const token_batch *x, int l)
{
    return x->n_vis > 0 && m->cfg.has_vision && l < m->cfg.vision.n_deep;
}

/* Asked-for rows that are image tokens. */
static void stage_top(model_acts *a, const token_batch *x)
{
    int32_t *at = a->host_top, *from = at + a->lim.row, *vis_of = a->host_ids; /* staged already: free to reuse */
    a->n_top = 0;
    if (!deep_top(&a->m->cfg) || x->n_vis == 0) return;
    for (int i = 0; i < x->n_tok; i++) vis_of[i] = -1;
    for (int i = 0; i < x->n_vis; i++) vis_of[x->vis_tok[i]] = x->vis_row[i];
    for (int r = 0; r < x->n_row; r++) {
        if (vis_of[x->row[r]] < 0) continue;
        at[a->n_top] = r;
        from[a->n_top++] = vis_of[x->row[r]];
    }
    stage(a->m->b, &a->top_at, at, a->n_top);
    stage(a->m->b, &a->top_row, from, a->n_top);
}

/* y[at] += rows `from` of merger l. */
static void deep_add(model *m, model_acts *a, tensor *y, int l, const tensor *at, const tensor *from)
{
    backend *b = m->b;
    tensor vis = rows(&a->vis, at->dim[0]);
    if (at->dim[0] == 0) return;
    b->rows_take(b, &vis, &a->tower.deep[l], from);
    b->rows_add(b, y, &vis, at);
}

/* Gradient of merger l's rows from dy[at]; tokens that share a row add up. */
static void deep_add_back(model *m, model_acts *a, const tensor *dy, int l, int n_feat, const tensor *at,
                          const tensor *from)
{
    backend *b = m->b;
    tensor dvis = rows(&a->vis, at->dim[0]), ddeep = rows(&a->ddeep[l], n_feat);
    b->fill(b, &ddeep, 0);
    if (at->dim[0] == 0) return;
    b->rows_take(b, &dvis, dy, at);
    b->rows_add(b, &ddeep, &dvis, from);
}

tensor model_forward(model *m, model_acts *a, const token_batch *x)
{
    backend *b = m->b;
    check_batch(a, x);
    stage_ids(a, x);
    stage_context(a, x);
    int N = x->n_tok, R = x->n_row, top = m->cfg.n_layer - 1;
    tensor ids = rows(&a->ids, N), h0 = rows(&a->layer[0].x, N);
    tensor row = stage(b, &a->row, x->row, R), row_x = rows(&a->row_x, R), row_o = rows(&a->row_o, R);
    tensor last = rows(&a->last, R), rstd = rows(&a->rstd, R), h = rows(&a->h, R);
    block_work w = block_work_rows(&a->work, N), w_row = block_work_rows(&a->work, R);
    tensor vis_row = stage(b, &a->vis_row, x->vis_row, x->n_vis);
    tensor vis_tok = stage(b, &a->vis_tok, x->vis_tok, x->n_vis);
    stage_top(a, x);

    b->embed_fwd(b, &h0, &m->w.embed, &ids);
    if (x->n_vis) {
        tensor feat = model_vision_forward(m, a, x), vis = rows(&a->vis, x->n_vis);
        b->rows_take(b, &vis, &feat, &vis_row);
        b->rows_put(b, &h0, &vis, &vis_tok);
    }
    for (int l = 0; l < top; l++) {
        block_acts t = layer_acts(a, x, l);
        tensor next = rows(&a->layer[a->keep ? l + 1 : 0].x, N);
        block_ctx c = context(a, x, l);
        block_attend(b, &t, &m->w.layer[l], &m->shape, &c);
        block_finish(b, &next, &t.x, &t, &w, &m->w.layer[l], &m->shape);
        if (deep_layer(m, x, l)) deep_add(m, a, &next, l, &vis_tok, &vis_row);
    }
    /* After its last attention a row matters only if the head reads it. */
    block_acts t = layer_acts(a, x, top);
    block_ctx c = context(a, x, top);
    block_attend(b, &t, &m->w.layer[top], &m->shape, &c);
    if (R == 0) return h; /* a chunk of a prompt that only fills the cache */
    b->rows_take(b, &row_x, &t.x, &row);
    b->rows_take(b, &row_o, &t.o, &row);
    t.o = row_o;
    block_finish(b, &last, &row_x, &t, &w_row, &m->w.layer[top], &m->shape);
    if (deep_layer(m, x, top)) {
        tensor at = rows(&a->top_at, a->n_top), from = rows(&a->top_row, a->n_top);
        deep_add(m, a, &last, top, &at, &from);
    }
    b->rmsnorm_fwd(b, &h, &rstd, &last, &m->w.norm, m->cfg.rms_eps);
    return h;
}

tensor model_layer_input(const model_acts *a, int l, int n_tok)
{
    CHECK(a->keep && l >= 0 && l < a->m->cfg.n_layer);
    return rows(&a->layer[l].x, n_tok);
}

tensor model_deep_rows(const model_acts *a, int k, int n_feat)
{
    CHECK(k >= 0 && k < a->m->cfg.vision.n_deep);
    return rows(&a->tower.deep[k], n_feat);
}

/* Through the last layer, from the asked-for rows to dx[N,C] of its input. */
static void backward_top(model *m, model_acts *a, const token_batch *x, int n_feat, tensor *dx, const tensor *dh)
{
    backend *b = m->b;
    int N = x->n_tok, R = x->n_row, top = m->cfg.n_layer - 1;
    tensor row = rows(&a->row, R), last = rows(&a->last, R), rstd = rows(&a->rstd, R), dlast = rows(&a->dlast, R);
    block_work w = block_work_rows(&a->work, N), w_row = block_work_rows(&a->work, R);
    block_acts t = layer_acts(a, x, top), t_row = t;
    block_ctx c = context(a, x, top);
    t_row.o = rows(&a->row_o, R);
    w_row.do_ = rows(&a->drow_o, R);

    b->rmsnorm_bwd(b, &dlast, &m->g.norm, dh, &last, &m->w.norm, &rstd);
    if (deep_layer(m, x, top)) {
        tensor at = rows(&a->top_at, a->n_top), from = rows(&a->top_row, a->n_top);
        deep_add_back(m, a, &dlast, top, n_feat, &at, &from);
    }
    block_finish_back(b, &dlast, &m->g.layer[top], &t_row, &w_row, &m->w.layer[top], &m->shape);
    b->fill(b, dx, 0);
    b->rows_add(b, dx, &dlast, &row);
    b->fill(b, &w.do_, 0);
    b->rows_add(b, &w.do_, &w_row.do_, &row);
    block_attend_back(b, dx, &m->g.layer[top], &t, &w, &m->w.layer[top], &m->shape, &c);
}

void model_backward(model *m, model_acts *a, const token_batch *x, const tensor *dh)
{
    backend *b = m->b;
    CHECK(a->keep && !x->kv && x->n_row > 0 && x->n_row == dh->dim[0]);
    tensor ids = rows(&a->ids, x->n_tok), dx = rows(&a->dx, x->n_tok);
    tensor vis_row = rows(&a->vis_row, x->n_vis), vis_tok = rows(&a->vis_tok, x->n_vis);
    block_work w = block_work_rows(&a->work, x->n_tok);
    int T = x->n_vis ? vision_tokens(&m->cfg.vision, x->grid, x->n_img) : 0;

    backward_top(m, a, x, T, &dx, dh);
    for (int l = m->cfg.n_layer - 2; l >= 0; l--) {
        block_acts t = layer_acts(a, x, l);
        block_ctx c = context(a, x, l);
        if (deep_layer(m, x, l)) deep_add_back(m, a, &dx, l, T, &vis_tok, &vis_row);
        block_finish_back(b, &dx, &m->g.layer[l], &t, &w, &m->w.layer[l], &m->shape);
        block_attend_back(b, &dx, &m->g.layer[l], &t, &w, &m->w.layer[l], &m->shape, &c);
    }
    b->embed_bwd(b, &m->g.embed, &dx, &ids); /* ids are -1 at image positions */
    if (x->n_vis) {
        tensor dvis = rows(&a->vis, x->n_vis), dfeat = rows(&a->dfeat, T), deep[VISION_MAX_DEEP];
        for (int k = 0; k < m->cfg.vision.n_deep; k++) deep[k] = rows(&a->ddeep[k], T);
        b->rows_take(b, &dvis, &dx, &vis_tok);
        b->fill(b, &dfeat, 0);
        b->rows_add(b, &dfeat, &dvis, &vis_row); /* tokens that share a row add up */
        tower_backward(b, &m->g.tower, &a->tower, &m->w.tower, &m->cfg.vision, &dfeat,
                       m->cfg.vision.n_deep ? deep : NULL);
    }
}

tensor model_vision_forward(model *m, model_acts *a, const token_batch *x)
{
    CHECK(m->cfg.has_vision && x->n_img > 0 && x->n_img <= a->lim.img);
    return tower_forward(m->b, &a->tower, &m->w.tower, &m->cfg.vision, &m->vfreq, &m->vaxis, x->patches, x->grid,
                         x->n_img);
}

void model_vision_backward(model *m, model_acts *a, const token_batch *x, const tensor *dout)
{
    CHECK(a->keep && dout->dim[0] == vision_tokens(&m->cfg.vision, x->grid, x->n_img));
    tower_backward(m->b, &m->g.tower, &a->tower, &m->w.tower, &m->cfg.vision, dout, NULL);
}
