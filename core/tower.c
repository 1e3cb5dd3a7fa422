#include "core/tower.h"

#include <stdlib.h>

static const float norm_eps = 1e-6f; /* fixed by the family, in no config file */

block_shape tower_shape(const vision_config *v)
{
    int D = v->hidden / v->n_head;
    return (block_shape){
        .width = v->hidden,
        .inner = v->intermediate,
        .qkv_bias = true,
        .mlp_bias = true,
        .eps = norm_eps,
        .attn = {.n_head = v->n_head, .n_kv = v->n_head, .head_dim = D, .scale = attn_scale(D), .causal = false}};
}

static int merge_unit(const vision_config *v) { return v->merge * v->merge; }

status tower_alloc_params(tower_params *p, const vision_config *v)
{
    p->block = calloc((size_t)v->depth, sizeof *p->block);
    return p->block ? ST_OK : FAIL(ST_ENOMEM, "out of memory for %d vision blocks", v->depth);
}

void tower_plan_params(arena *a, tower_params *p, const vision_config *v, dtype matrix)
{
    block_shape s = tower_shape(v);
    int d = v->hidden, M = merge_unit(v) * d;
    arena_add_2d(a, &p->patch_w, matrix, d, vision_patch_dim(v));
    for (int l = 0; l < v->depth; l++) block_plan_params(a, &p->block[l], &s, matrix);
    arena_add_1d(a, &p->ln_q, DT_F32, d);
    arena_add_2d(a, &p->fc1_w, matrix, M, M);
    arena_add_1d(a, &p->fc1_b, DT_F32, M);
    arena_add_2d(a, &p->fc2_w, matrix, v->out_hidden, M);
    arena_add_1d(a, &p->fc2_b, DT_F32, v->out_hidden);
}

status tower_plan_acts(arena *a, tower_acts *t, const vision_config *v, int n_patch, bool keep)
{
    block_shape s = tower_shape(v);
    int64_t P = n_patch, T = P / merge_unit(v), back = keep ? 1 : 0;
    int d = v->hidden, M = merge_unit(v) * d, n_block = keep ? v->depth : 1;
    t->keep = keep;
    t->block = calloc((size_t)n_block, sizeof *t->block);
    t->host_index = malloc((size_t)(T + 1) * sizeof(int32_t));
    t->host_pos = malloc((size_t)(P + 1) * 2 * sizeof(int32_t));
    t->host_window = malloc((size_t)(T + 1) * sizeof(int32_t));
    t->host_full = malloc((size_t)(T + 1) * sizeof(int32_t));
    if (!t->block || !t->host_index || !t->host_pos || !t->host_window || !t->host_full)
        return FAIL(ST_ENOMEM, "out of memory for the index of %d patches", n_patch);

    arena_add_2d(a, &t->patches, DT_F32, P, vision_patch_dim(v));
    arena_add_1d(a, &t->index, DT_I32, T);
    arena_add_2d(a, &t->pos, DT_I32, P, 2);
    arena_add_2d(a, &t->cos, DT_F32, P, s.attn.head_dim / 2);
    arena_add_2d(a, &t->sin, DT_F32, P, s.attn.head_dim / 2);
    arena_add_1d(a, &t->cu_window, DT_I32, T + 1);
    arena_add_1d(a, &t->cu_full, DT_I32, T + 1);
    for (int l = 0; l < n_block; l++) block_plan_acts(a, &t->block[l], &s, P, P);
    block_plan_work(a, &t->work, &s, P, keep);
    arena_add_2d(a, &t->x0, DT_F32, P, d);
    arena_add_2d(a, &t->y, DT_F32, P, d);
    arena_add_2d(a, &t->z, DT_F32, P, d);
    arena_add_1d(a, &t->rstd, DT_F32, P);
    arena_add_2d(a, &t->u, DT_F32, T, M);
    arena_add_2d(a, &t->act, DT_F32, T, M);
    arena_add_2d(a, &t->out, DT_F32, T, v->out_hidden);
    arena_add_2d(a, &t->feat, DT_F32, T, v->out_hidden);
    arena_add_2d(a, &t->dx, DT_F32, back * P, d);
    arena_add_2d(a, &t->dz, DT_F32, back * P, d);
    arena_add_2d(a, &t->du, DT_F32, back * T, M);
    arena_add_2d(a, &t->dact, DT_F32, back * T, M);
    return ST_OK;
}

void tower_acts_free(tower_acts *t)
{
    free(t->block);
    free(t->host_index);
    free(t->host_pos);
    free(t->host_window);
    free(t->host_full);
}

static tensor rows(const tensor *t, int64_t n) { return tensor_rows(t, 0, n); }

/* x[P,d] as [P/u, u*d]: u consecutive patches are one row. */
static tensor merged(const tensor *x, int u) { return tensor_reshape(x, 2, (int64_t[]){x->dim[0] / u, x->dim[1] * u}); }

static block_ctx context(const tower_acts *t, const vision_config *v, int l)
{
    bool full = vision_full_block(v, l);
    return (block_ctx){.cos = rows(&t->cos, t->n_patch),
                       .sin = rows(&t->sin, t->n_patch),
                       .cu = rows(full ? &t->cu_full : &t->cu_window, 1 + (full ? t->n_full : t->n_window))};
}

/* Windows, positions and segments of these images, on the backend. */
static void stage(backend *b, tower_acts *t, const vision_config *v, const float *patches, const int32_t *grid,
                  int n_img)
{
    int T = vision_tokens(v, grid, n_img), P = T * merge_unit(v);
    CHECK(P > 0 && P <= t->patches.dim[0]);
    vision_index(v, grid, n_img, t->host_index, t->host_pos, t->host_window, &t->n_window, t->host_full, &t->n_full);
    t->n_patch = P;
    tensor data = rows(&t->patches, P), index = rows(&t->index, T), pos = rows(&t->pos, P);
    tensor window = rows(&t->cu_window, t->n_window + 1), full = rows(&t->cu_full, t->n_full + 1);
    b->upload(b, &data, patches);
    b->upload(b, &index, t->host_index);
    b->upload(b, &pos, t->host_pos);
    b->upload(b, &window, t->host_window);
    b->upload(b, &full, t->host_full);
}

tensor tower_forward(backend *b, tower_acts *t, const tower_params *p, const vision_config *v, const tensor *freq,
                     const tensor *axis, const float *patches, const int32_t *grid, int n_img)
{
    stage(b, t, v, patches, grid, n_img);
    block_shape s = tower_shape(v);
    int P = t->n_patch, unit = merge_unit(v), T = P / unit;
    tensor in = rows(&t->patches, P), index = rows(&t->index, T), pos = rows(&t->pos, P);
    tensor cos = rows(&t->cos, P), sin = rows(&t->sin, P);
    tensor x0 = rows(&t->x0, P), x = rows(&t->block[0].x, P), y = rows(&t->y, P), z = rows(&t->z, P);
    tensor rstd = rows(&t->rstd, P), u = rows(&t->u, T), act = rows(&t->act, T);
    tensor out = rows(&t->out, T), feat = rows(&t->feat, T);
    tensor x0_tok = merged(&x0, unit), x_tok = merged(&x, unit), z_tok = merged(&z, unit);
    block_work w = block_work_rows(&t->work, P);

    b->linear_fwd(b, &x0, &in, &p->patch_w, NULL);
    b->rows_take(b, &x_tok, &x0_tok, &index); /* windows become contiguous */
    b->rope_table(b, &cos, &sin, &pos, freq, axis);
    for (int l = 0; l < v->depth; l++) {
        block_acts a = block_acts_rows(&t->block[t->keep ? l : 0], P, P);
        tensor next = l + 1 < v->depth ? rows(&t->block[t->keep ? l + 1 : 0].x, P) : y;
        block_ctx c = context(t, v, l);
        block_attend(b, &a, &p->block[l], &s, &c);
        block_finish(b, &next, &a.x, &a, &w, &p->block[l], &s);
    }
    b->rmsnorm_fwd(b, &z, &rstd, &y, &p->ln_q, norm_eps);
    b->linear_fwd(b, &u, &z_tok, &p->fc1_w, &p->fc1_b);
    b->gelu_fwd(b, &act, &u);
    b->linear_fwd(b, &out, &act, &p->fc2_w, &p->fc2_b);
    b->rows_put(b, &feat, &out, &index); /* back to raster order */
    return feat;
}

void tower_backward(backend *b, tower_params *g, tower_acts *t, const tower_params *p, const vision_config *v,
                    const tensor *dfeat)
{
    CHECK(t->keep);
    block_shape s = tower_shape(v);
    int P = t->n_patch, unit = merge_unit(v), T = P / unit;
    tensor in = rows(&t->patches, P), index = rows(&t->index, T);
    tensor y = rows(&t->y, P), z = rows(&t->z, P), rstd = rows(&t->rstd, P), u = rows(&t->u, T), act = rows(&t->act, T);
    tensor dout = rows(&t->out, T), dact = rows(&t->dact, T), du = rows(&t->du, T);
    tensor dz = rows(&t->dz, P), dx = rows(&t->dx, P), dx0 = rows(&t->x0, P); /* out and x0 are spent */
    tensor z_tok = merged(&z, unit), dz_tok = merged(&dz, unit), dx_tok = merged(&dx, unit),
           dx0_tok = merged(&dx0, unit);
    block_work w = block_work_rows(&t->work, P);

    b->rows_take(b, &dout, dfeat, &index);
    b->linear_dw(b, &g->fc2_w, &g->fc2_b, &dout, &act);
    b->linear_dx(b, &dact, &dout, &p->fc2_w);
    b->gelu_bwd(b, &du, &dact, &u);
    b->linear_dw(b, &g->fc1_w, &g->fc1_b, &du, &z_tok);
    b->linear_dx(b, &dz_tok, &du, &p->fc1_w);
    b->rmsnorm_bwd(b, &dx, &g->ln_q, &dz, &y, &p->ln_q, &rstd);
    for (int l = v->depth - 1; l >= 0; l--) {
        block_acts a = block_acts_rows(&t->block[l], P, P);
        block_ctx c = context(t, v, l);
        block_finish_back(b, &dx, &g->block[l], &a, &w, &p->block[l]);
        block_attend_back(b, &dx, &g->block[l], &a, &w, &p->block[l], &s, &c);
    }
    b->rows_put(b, &dx0_tok, &dx_tok, &index); /* a permutation: every row is written */
    b->linear_dw(b, &g->patch_w, NULL, &dx0, &in);
}
