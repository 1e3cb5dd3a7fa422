#include "core/merger.h"

static const float norm_eps = 1e-6f; /* fixed by the families, in no config file */

static int merged_width(const vision_config *v) { return v->merge * v->merge * v->hidden; }

void merger_plan_params(arena *a, merger_params *p, const vision_config *v, bool wide, dtype matrix)
{
    int M = merged_width(v), C = wide ? M : v->hidden;
    arena_add_1d(a, &p->norm_w, DT_F32, C);
    if (v->layer_norm) arena_add_1d(a, &p->norm_b, DT_F32, C);
    arena_add_2d(a, &p->fc1_w, matrix, M, M);
    arena_add_1d(a, &p->fc1_b, DT_F32, M);
    arena_add_2d(a, &p->fc2_w, matrix, v->out_hidden, M);
    arena_add_1d(a, &p->fc2_b, DT_F32, v->out_hidden);
}

void merger_plan_acts(arena *a, merger_acts *t, const vision_config *v, int64_t patches)
{
    int64_t M = merged_width(v), T = patches / (v->merge * v->merge);
    arena_add_act(a, &t->z, patches, v->hidden);
    if (v->layer_norm) arena_add_1d(a, &t->mean, DT_F32, patches);
    arena_add_1d(a, &t->rstd, DT_F32, patches);
    arena_add_act(a, &t->u, T, M);
    arena_add_act(a, &t->act, T, M);
}

void merger_plan_work(arena *a, merger_work *w, const vision_config *v, int64_t patches)
{
    int64_t M = merged_width(v), T = patches / (v->merge * v->merge);
    arena_add_act(a, &w->dz, patches, v->hidden);
    arena_add_act(a, &w->du, T, M);
    arena_add_act(a, &w->dact, T, M);
}

/* x[P,d] as [T,M]: merge^2 consecutive patches are one row. */
static tensor concat(const tensor *x, int64_t M) { return tensor_reshape(x, 2, (int64_t[]){tensor_count(x) / M, M}); }

static tensor rows(const tensor *t, int64_t n) { return t->ndim ? tensor_rows(t, 0, n) : *t; }

void merger_forward(backend *b, tensor *out, merger_acts *t, const merger_params *p, const tensor *x, bool wide)
{
    int64_t P = x->dim[0], M = p->fc1_w.dim[1], T = out->dim[0];
    tensor z = rows(&t->z, P), z_tok = concat(&z, M), x_tok = concat(x, M), u = rows(&t->u, T), act = rows(&t->act, T);
    tensor mean = rows(&t->mean, wide ? T : P), rstd = rows(&t->rstd, wide ? T : P);
    norm_fwd(b, wide ? &z_tok : &z, &mean, &rstd, wide ? &x_tok : x, &p->norm_w, &p->norm_b, norm_eps);
    b->linear_fwd(b, &u, &z_tok, &p->fc1_w, &p->fc1_b);
    b->gelu_fwd(b, &act, &u);
    b->linear_fwd(b, out, &act, &p->fc2_w, &p->fc2_b);
}

void merger_backward(backend *b, tensor *dx, merger_params *g, const merger_acts *t, merger_work *w,
                     const merger_params *p, const tensor *x, const tensor *dout, bool wide)
{
    int64_t P = x->dim[0], M = p->fc1_w.dim[1], T = dout->dim[0];
    tensor z = rows(&t->z, P), z_tok = concat(&z, M), x_tok = concat(x, M), u = rows(&t->u, T), act = rows(&t->act, T);
    tensor mean = rows(&t->mean, wide ? T : P), rstd = rows(&t->rstd, wide ? T : P);
    tensor dz = rows(&w->dz, P), dz_tok = concat(&dz, M), du = rows(&w->du, T), dact = rows(&w->dact, T);
    tensor dx_tok = concat(dx, M);
    b->linear_dw(b, &g->fc2_w, &g->fc2_b, dout, &act);
    b->linear_dx(b, &dact, dout, &p->fc2_w);
    b->gelu_bwd(b, &du, &dact, &u);
    b->linear_dw(b, &g->fc1_w, &g->fc1_b, &du, &z_tok);
    b->linear_dx(b, &dz_tok, &du, &p->fc1_w);
    norm_bwd(b, wide ? &dx_tok : dx, &g->norm_w, &g->norm_b, wide ? &dz_tok : &dz, wide ? &x_tok : x, &p->norm_w, &mean,
             &rstd);
}
