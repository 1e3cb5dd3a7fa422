#include "core/block.h"

/* A bias that the family has, or NULL. */
static const tensor *bias(const tensor *t) { return t->data ? t : NULL; }
static tensor *dbias(tensor *t) { return t->data ? t : NULL; }

void norm_fwd(backend *b, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *bias,
              float eps)
{
    if (bias->data)
        b->layernorm_fwd(b, y, mean, rstd, x, w, bias, eps);
    else
        b->rmsnorm_fwd(b, y, rstd, x, w, eps);
}

void norm_bwd(backend *b, tensor *dx, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x, const tensor *w,
              const tensor *mean, const tensor *rstd)
{
    if (dbias->data)
        b->layernorm_bwd(b, dx, dw, dbias, dy, x, w, mean, rstd);
    else
        b->rmsnorm_bwd(b, dx, dw, dy, x, w, rstd);
}

void block_plan_params(arena *a, block_params *p, const block_shape *s, dtype matrix)
{
    int C = s->width, I = s->inner, H = block_heads(s), Q = block_qkv(s), U = block_gu(s), D = s->attn.head_dim;
    arena_add_1d(a, &p->norm1, DT_F32, C);
    if (s->layer_norm) arena_add_1d(a, &p->norm1_b, DT_F32, C);
    arena_add_2d(a, &p->qkv_w, matrix, Q, C);
    if (s->qkv_bias) arena_add_1d(a, &p->qkv_b, DT_F32, Q);
    if (s->qk_norm) {
        arena_add_1d(a, &p->q_norm, DT_F32, D);
        arena_add_1d(a, &p->k_norm, DT_F32, D);
    }
    arena_add_2d(a, &p->o_w, matrix, C, H);
    if (s->mlp_bias) arena_add_1d(a, &p->o_b, DT_F32, C);
    arena_add_1d(a, &p->norm2, DT_F32, C);
    if (s->layer_norm) arena_add_1d(a, &p->norm2_b, DT_F32, C);
    arena_add_2d(a, &p->gu_w, matrix, U, C);
    if (s->mlp_bias) arena_add_1d(a, &p->gu_b, DT_F32, U);
    arena_add_2d(a, &p->down_w, matrix, C, I);
    if (s->mlp_bias) arena_add_1d(a, &p->down_b, DT_F32, C);
}

void block_plan_acts(arena *a, block_acts *t, const block_shape *s, int64_t rows, int64_t rest)
{
    const int heads = s->attn.n_head + s->attn.n_kv;
    arena_add_act(a, &t->x, rows, s->width);
    arena_add_act(a, &t->n1, rows, s->width);
    if (s->layer_norm) arena_add_1d(a, &t->mean1, DT_F32, rows);
    arena_add_1d(a, &t->r1, DT_F32, rows);
    if (s->qk_norm) {
        arena_add_act(a, &t->raw, rows, (int64_t)heads * s->attn.head_dim);
        arena_add_2d(a, &t->rhead, DT_F32, rows, heads);
    }
    arena_add_act(a, &t->qkv, rows, block_qkv(s));
    arena_add_act(a, &t->o, rows, block_heads(s));
    arena_add_2d(a, &t->lse, DT_F32, rows, s->attn.n_head);
    arena_add_act(a, &t->m, rest, s->width);
    arena_add_act(a, &t->n2, rest, s->width);
    if (s->layer_norm) arena_add_1d(a, &t->mean2, DT_F32, rest);
    arena_add_1d(a, &t->r2, DT_F32, rest);
    arena_add_act(a, &t->gu, rest, block_gu(s));
    arena_add_act(a, &t->act, rest, s->inner);
}

void block_plan_work(arena *a, block_work *w, const block_shape *s, int64_t rows, bool backward)
{
    int64_t back = backward ? rows : 0;
    arena_add_act(a, &w->t, rows, s->width);
    arena_add_act(a, &w->dn, back, s->width);
    arena_add_act(a, &w->do_, back, block_heads(s));
    arena_add_act(a, &w->dqkv, back, block_qkv(s));
    arena_add_act(a, &w->dgu, back, block_gu(s));
    arena_add_act(a, &w->dact, back, s->inner);
}

/* Rows of what only some families have. */
static tensor rows_if(const tensor *t, int64_t at, int64_t n) { return t->ndim ? tensor_rows(t, at, n) : *t; }

block_acts block_acts_rows(const block_acts *t, int64_t n, int64_t rest)
{
    return (block_acts){.x = tensor_rows(&t->x, 0, n),
                        .n1 = tensor_rows(&t->n1, 0, n),
                        .mean1 = rows_if(&t->mean1, 0, n),
                        .r1 = tensor_rows(&t->r1, 0, n),
                        .raw = rows_if(&t->raw, 0, n),
                        .rhead = rows_if(&t->rhead, 0, n),
                        .qkv = tensor_rows(&t->qkv, 0, n),
                        .o = tensor_rows(&t->o, 0, n),
                        .lse = tensor_rows(&t->lse, 0, n),
                        .m = tensor_rows(&t->m, 0, rest),
                        .n2 = tensor_rows(&t->n2, 0, rest),
                        .mean2 = rows_if(&t->mean2, 0, rest),
                        .r2 = tensor_rows(&t->r2, 0, rest),
                        .gu = tensor_rows(&t->gu, 0, rest),
                        .act = tensor_rows(&t->act, 0, rest)};
}

block_work block_work_rows(const block_work *w, int64_t n)
{
    int64_t back = w->dn.dim[0] ? n : 0;
    return (block_work){.t = tensor_rows(&w->t, 0, n),
                        .dn = tensor_rows(&w->dn, 0, back),
                        .do_ = tensor_rows(&w->do_, 0, back),
                        .dqkv = tensor_rows(&w->dqkv, 0, back),
                        .dgu = tensor_rows(&w->dgu, 0, back),
                        .dact = tensor_rows(&w->dact, 0, back)};
}

/* Every op outside attention works row by row or adds up over ascending rows, so a long batch may go through in steps
 * that stay in the cache: the same bits, and the matrices between two ops never leave it. */
static int64_t step_rows(const backend *b, int64_t n) { return b->row_step > 0 && b->row_step < n ? b->row_step : n; }

static void attend_rows(backend *b, const block_acts *t, const block_params *p, const block_shape *s,
                        const block_ctx *c, int64_t at, int64_t n)
{
    const attn_shape *a = &s->attn;
    tensor x = tensor_rows(&t->x, at, n), n1 = tensor_rows(&t->n1, at, n), r1 = tensor_rows(&t->r1, at, n);
    tensor qkv = tensor_rows(&t->qkv, at, n), cos = tensor_rows(&c->cos, at, n), sin = tensor_rows(&c->sin, at, n);
    tensor mean1 = rows_if(&t->mean1, at, n), raw = rows_if(&t->raw, at, n), rhead = rows_if(&t->rhead, at, n);
    norm_fwd(b, &n1, &mean1, &r1, &x, &p->norm1, &p->norm1_b, s->eps);
    b->linear_fwd(b, &qkv, &n1, &p->qkv_w, bias(&p->qkv_b));
    if (s->qk_norm) b->headnorm_fwd(b, &qkv, &raw, &rhead, &p->q_norm, &p->k_norm, a, s->eps);
    b->rope_apply(b, &qkv, &cos, &sin, a->n_head + a->n_kv, a->head_dim, false); /* q and k heads */
}

void block_attend(backend *b, block_acts *t, const block_params *p, const block_shape *s, const block_ctx *c)
{
    const attn_shape *a = &s->attn;
    const int64_t n = t->x.dim[0], step = step_rows(b, n);
    for (int64_t at = 0; at < n; at += step) attend_rows(b, t, p, s, c, at, n - at < step ? n - at : step);
    if (c->kv) {
        tensor kv = *c->kv;
        b->kv_store(b, &kv, &t->qkv, &c->slot, a);
        b->attn_paged(b, &t->o, &t->qkv, &kv, &c->table, &c->cu, &c->ctx, a);
    } else {
        b->attn_fwd(b, &t->o, &t->lse, &t->qkv, &c->cu, a);
    }
}

static void finish_rows(backend *b, tensor *y, const tensor *x, const block_acts *t, const block_work *w,
                        const block_params *p, const block_shape *s, int64_t at, int64_t n)
{
    tensor x_in = tensor_rows(x, at, n), out = tensor_rows(y, at, n), o = tensor_rows(&t->o, at, n);
    tensor m = tensor_rows(&t->m, at, n), n2 = tensor_rows(&t->n2, at, n), r2 = tensor_rows(&t->r2, at, n);
    tensor gu = tensor_rows(&t->gu, at, n), act = tensor_rows(&t->act, at, n), branch = tensor_rows(&w->t, 0, n);
    tensor mean2 = rows_if(&t->mean2, at, n);
    b->linear_fwd(b, &branch, &o, &p->o_w, bias(&p->o_b));
    b->add(b, &m, &x_in, &branch);
    norm_fwd(b, &n2, &mean2, &r2, &m, &p->norm2, &p->norm2_b, s->eps);
    b->linear_fwd(b, &gu, &n2, &p->gu_w, bias(&p->gu_b));
    if (s->gelu_mlp)
        b->gelu_tanh_fwd(b, &act, &gu);
    else
        b->swiglu_fwd(b, &act, &gu);
    b->linear_fwd(b, &branch, &act, &p->down_w, bias(&p->down_b));
    b->add(b, &out, &m, &branch);
}

void block_finish(backend *b, tensor *y, const tensor *x, block_acts *t, block_work *w, const block_params *p,
                  const block_shape *s)
{
    const int64_t n = y->dim[0], step = step_rows(b, n);
    for (int64_t at = 0; at < n; at += step) finish_rows(b, y, x, t, w, p, s, at, n - at < step ? n - at : step);
}

static void finish_back_rows(backend *b, tensor *dx_all, block_params *g, const block_acts *t, const block_work *w,
                             const block_params *p, const block_shape *s, int64_t at, int64_t n)
{
    tensor dx = tensor_rows(dx_all, at, n), m = tensor_rows(&t->m, at, n), n2 = tensor_rows(&t->n2, at, n);
    tensor r2 = tensor_rows(&t->r2, at, n), gu = tensor_rows(&t->gu, at, n), act = tensor_rows(&t->act, at, n);
    tensor o = tensor_rows(&t->o, at, n), do_ = tensor_rows(&w->do_, at, n), branch = tensor_rows(&w->t, 0, n);
    tensor dact = tensor_rows(&w->dact, 0, n), dgu = tensor_rows(&w->dgu, 0, n), dn = tensor_rows(&w->dn, 0, n);
    tensor mean2 = rows_if(&t->mean2, at, n);
    b->linear_dw(b, &g->down_w, dbias(&g->down_b), &dx, &act);
    b->linear_dx(b, &dact, &dx, &p->down_w);
    if (s->gelu_mlp)
        b->gelu_tanh_bwd(b, &dgu, &dact, &gu);
    else
        b->swiglu_bwd(b, &dgu, &dact, &gu);
    b->linear_dw(b, &g->gu_w, dbias(&g->gu_b), &dgu, &n2);
    b->linear_dx(b, &dn, &dgu, &p->gu_w);
    norm_bwd(b, &branch, &g->norm2, &g->norm2_b, &dn, &m, &p->norm2, &mean2, &r2);
    b->add(b, &dx, &dx, &branch); /* both paths into m */
    b->linear_dw(b, &g->o_w, dbias(&g->o_b), &dx, &o);
    b->linear_dx(b, &do_, &dx, &p->o_w);
}

void block_finish_back(backend *b, tensor *dx, block_params *g, const block_acts *t, block_work *w,
                       const block_params *p, const block_shape *s)
{
    const int64_t n = dx->dim[0], step = step_rows(b, n);
    for (int64_t at = 0; at < n; at += step) finish_back_rows(b, dx, g, t, w, p, s, at, n - at < step ? n - at : step);
}

static void attend_back_rows(backend *b, tensor *dx_all, block_params *g, const block_acts *t, const block_work *w,
                             const block_params *p, const block_shape *s, const block_ctx *c, int64_t at, int64_t n)
{
    const attn_shape *a = &s->attn;
    tensor dx = tensor_rows(dx_all, at, n), dqkv = tensor_rows(&w->dqkv, at, n), x = tensor_rows(&t->x, at, n);
    tensor n1 = tensor_rows(&t->n1, at, n), r1 = tensor_rows(&t->r1, at, n), cos = tensor_rows(&c->cos, at, n);
    tensor sin = tensor_rows(&c->sin, at, n), dn = tensor_rows(&w->dn, 0, n), branch = tensor_rows(&w->t, 0, n);
    tensor mean1 = rows_if(&t->mean1, at, n), raw = rows_if(&t->raw, at, n), rhead = rows_if(&t->rhead, at, n);
    b->rope_apply(b, &dqkv, &cos, &sin, a->n_head + a->n_kv, a->head_dim, true);
    if (s->qk_norm) b->headnorm_bwd(b, &dqkv, &g->q_norm, &g->k_norm, &raw, &rhead, &p->q_norm, &p->k_norm, a);
    b->linear_dw(b, &g->qkv_w, dbias(&g->qkv_b), &dqkv, &n1);
    b->linear_dx(b, &dn, &dqkv, &p->qkv_w);
    norm_bwd(b, &branch, &g->norm1, &g->norm1_b, &dn, &x, &p->norm1, &mean1, &r1);
    b->add(b, &dx, &dx, &branch); /* both paths into x */
}

void block_attend_back(backend *b, tensor *dx, block_params *g, const block_acts *t, block_work *w,
                       const block_params *p, const block_shape *s, const block_ctx *c)
{
    b->attn_bwd(b, &w->dqkv, &w->do_, &t->o, &t->lse, &t->qkv, &c->cu, &s->attn);
    const int64_t n = dx->dim[0], step = step_rows(b, n);
    for (int64_t at = 0; at < n; at += step)
        attend_back_rows(b, dx, g, t, w, p, s, c, at, n - at < step ? n - at : step);
}
