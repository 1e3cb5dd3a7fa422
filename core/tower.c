#include "core/tower.h"

#include <stdlib.h>

static const float norm_eps = 1e-6f; /* fixed by the families, in no config file */

block_shape tower_shape(const vision_config *v)
{
    int D = v->hidden / v->n_head;
    return (block_shape){
        .width = v->hidden,
        .inner = v->intermediate,
        .qkv_bias = true,
        .mlp_bias = true,
        .layer_norm = v->layer_norm,
        .gelu_mlp = v->gelu_mlp,
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
    arena_add_2d(a, &p->patch_w, matrix, v->hidden, vision_patch_dim(v));
    if (v->patch_bias) arena_add_1d(a, &p->patch_b, DT_F32, v->hidden);
    if (v->n_pos) arena_add_2d(a, &p->pos, DT_F32, v->n_pos, v->hidden); /* small, and mixed in fp32 */
    for (int l = 0; l < v->depth; l++) block_plan_params(a, &p->block[l], &s, matrix);
    merger_plan_params(a, &p->merger, v, false, matrix);
    for (int k = 0; k < v->n_deep; k++) merger_plan_params(a, &p->deep[k], v, true, matrix);
}

static status alloc_host(tower_acts *t, const vision_config *v, int64_t P, int64_t T)
{
    t->host_index = malloc((size_t)(T + 1) * sizeof(int32_t));
    t->host_pos = malloc((size_t)(P + 1) * 2 * sizeof(int32_t));
    t->host_window = malloc((size_t)(T + 1) * sizeof(int32_t));
    t->host_full = malloc((size_t)(T + 1) * sizeof(int32_t));
    if (v->n_pos) {
        t->host_tap = malloc((size_t)(P + 1) * VISION_TAPS * sizeof(int32_t));
        t->host_weight = malloc((size_t)(P + 1) * VISION_TAPS * sizeof(float));
    }
    bool all = t->block && t->host_index && t->host_pos && t->host_window && t->host_full;
    if (!all || (v->n_pos && (!t->host_tap || !t->host_weight)))
        return FAIL(ST_ENOMEM, "out of memory for the index of %lld patches", (long long)P);
    return ST_OK;
}

status tower_plan_acts(arena *a, tower_acts *t, const vision_config *v, int n_patch, bool keep)
{
    block_shape s = tower_shape(v);
    int64_t P = n_patch, T = P / merge_unit(v), back = keep ? 1 : 0;
    int d = v->hidden, n_block = keep ? v->depth : 1;
    t->keep = keep;
    t->block = calloc((size_t)n_block, sizeof *t->block);
    TRY(alloc_host(t, v, P, T));

    arena_add_act(a, &t->patches, P, vision_patch_dim(v));
    arena_add_2d(a, &t->patches_f32, DT_F32, arena_act(a) == DT_F32 ? 0 : P, vision_patch_dim(v));
    arena_add_1d(a, &t->index, DT_I32, T);
    arena_add_2d(a, &t->pos, DT_I32, P, 2);
    arena_add_2d(a, &t->cos, DT_F32, P, s.attn.head_dim / 2);
    arena_add_2d(a, &t->sin, DT_F32, P, s.attn.head_dim / 2);
    arena_add_2d(a, &t->tap, DT_I32, v->n_pos ? P : 0, VISION_TAPS);
    arena_add_2d(a, &t->weight, DT_F32, v->n_pos ? P : 0, VISION_TAPS);
    arena_add_1d(a, &t->cu_window, DT_I32, T + 1);
    arena_add_1d(a, &t->cu_full, DT_I32, T + 1);
    for (int l = 0; l < n_block; l++) block_plan_acts(a, &t->block[l], &s, P, P);
    block_plan_work(a, &t->work, &s, P, keep);
    arena_add_act(a, &t->x0, P, d);
    arena_add_act(a, &t->y, P, d);
    merger_plan_acts(a, &t->merger, v, P);
    for (int k = 0; keep && k < v->n_deep; k++) merger_plan_acts(a, &t->deep_merger[k], v, P);
    merger_plan_work(a, &t->merger_work, v, back * P);
    arena_add_act(a, &t->out, T, v->out_hidden);
    arena_add_act(a, &t->feat, T, v->out_hidden);
    for (int k = 0; k < v->n_deep; k++) arena_add_act(a, &t->deep[k], T, v->out_hidden);
    arena_add_act(a, &t->dx, back * P, d);
    arena_add_act(a, &t->dmerge, v->n_deep ? back * P : 0, d);
    return ST_OK;
}

void tower_acts_free(tower_acts *t)
{
    free(t->block);
    free(t->host_index);
    free(t->host_pos);
    free(t->host_window);
    free(t->host_full);
    free(t->host_tap);
    free(t->host_weight);
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

static void upload_patches(backend *b, const tower_acts *t, tensor *data, const float *patches)
{
    if (data->type == DT_F32) {
        b->upload(b, data, patches);
        return;
    }
    tensor whole = rows(&t->patches_f32, data->dim[0]);
    b->upload(b, &whole, patches);
    b->copy(b, data, &whole);
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
    upload_patches(b, t, &data, patches);
    b->upload(b, &index, t->host_index);
    b->upload(b, &pos, t->host_pos);
    b->upload(b, &window, t->host_window);
    b->upload(b, &full, t->host_full);
    if (!v->n_pos) return;
    tensor tap = rows(&t->tap, P), weight = rows(&t->weight, P);
    vision_taps(v, grid, n_img, t->host_pos, t->host_tap, t->host_weight);
    b->upload(b, &tap, t->host_tap);
    b->upload(b, &weight, t->host_weight);
}

static merger_acts *deep_acts(tower_acts *t, int k) { return t->keep ? &t->deep_merger[k] : &t->merger; }

/* Patches to the stream of the first block. */
static void embed(backend *b, tower_acts *t, const tower_params *p, const vision_config *v, tensor *x)
{
    int P = t->n_patch, unit = merge_unit(v);
    tensor in = rows(&t->patches, P), x0 = rows(&t->x0, P), index = rows(&t->index, P / unit);
    tensor x0_tok = merged(&x0, unit), x_tok = merged(x, unit);
    b->linear_fwd(b, &x0, &in, &p->patch_w, p->patch_b.data ? &p->patch_b : NULL);
    b->rows_take(b, &x_tok, &x0_tok, &index); /* windows become contiguous */
    if (!v->n_pos) return;
    tensor tap = rows(&t->tap, P), weight = rows(&t->weight, P);
    b->mix_fwd(b, x, &p->pos, &tap, &weight);
}

tensor tower_forward(backend *b, tower_acts *t, const tower_params *p, const vision_config *v, const tensor *freq,
                     const tensor *axis, const float *patches, const int32_t *grid, int n_img)
{
    stage(b, t, v, patches, grid, n_img);
    block_shape s = tower_shape(v);
    int P = t->n_patch, unit = merge_unit(v), T = P / unit;
    tensor index = rows(&t->index, T), pos = rows(&t->pos, P), cos = rows(&t->cos, P), sin = rows(&t->sin, P);
    tensor x = rows(&t->block[0].x, P), y = rows(&t->y, P), out = rows(&t->out, T), feat = rows(&t->feat, T);
    block_work w = block_work_rows(&t->work, P);

    embed(b, t, p, v, &x);
    b->rope_table(b, &cos, &sin, &pos, freq, axis);
    for (int l = 0; l < v->depth; l++) {
        block_acts a = block_acts_rows(&t->block[t->keep ? l : 0], P, P);
        tensor next = l + 1 < v->depth ? rows(&t->block[t->keep ? l + 1 : 0].x, P) : y;
        block_ctx c = context(t, v, l);
        block_attend(b, &a, &p->block[l], &s, &c);
        block_finish(b, &next, &a.x, &a, &w, &p->block[l], &s);
        int k = vision_deep_block(v, l);
        if (k < 0) continue;
        tensor deep = rows(&t->deep[k], T);
        merger_forward(b, &out, deep_acts(t, k), &p->deep[k], &next, true);
        b->rows_put(b, &deep, &out, &index);
    }
    merger_forward(b, &out, &t->merger, &p->merger, &y, false);
    b->rows_put(b, &feat, &out, &index); /* back to raster order */
    return feat;
}

/* dx gains what comes through DeepStack's merger k from ddeep; x is what the merger read. */
static void deep_back(backend *b, tensor *dx, tower_params *g, tower_acts *t, const tower_params *p, int k,
                      const tensor *x, const tensor *ddeep)
{
    int64_t T = ddeep->dim[0];
    tensor dout = rows(&t->out, T), index = rows(&t->index, T), dmerge = rows(&t->dmerge, t->n_patch);
    b->rows_take(b, &dout, ddeep, &index);
    merger_backward(b, &dmerge, &g->deep[k], deep_acts(t, k), &t->merger_work, &p->deep[k], x, &dout, true);
    b->add(b, dx, dx, &dmerge);
}

void tower_backward(backend *b, tower_params *g, tower_acts *t, const tower_params *p, const vision_config *v,
                    const tensor *dfeat, const tensor *ddeep)
{
    CHECK(t->keep);
    block_shape s = tower_shape(v);
    int P = t->n_patch, unit = merge_unit(v), T = P / unit;
    tensor in = rows(&t->patches, P), index = rows(&t->index, T), y = rows(&t->y, P);
    tensor dout = rows(&t->out, T), dx = rows(&t->dx, P), dx0 = rows(&t->x0, P); /* out and x0 are spent */
    tensor dx_tok = merged(&dx, unit), dx0_tok = merged(&dx0, unit);
    block_work w = block_work_rows(&t->work, P);

    b->rows_take(b, &dout, dfeat, &index);
    merger_backward(b, &dx, &g->merger, &t->merger, &t->merger_work, &p->merger, &y, &dout, false);
    for (int l = v->depth - 1; l >= 0; l--) {
        block_acts a = block_acts_rows(&t->block[l], P, P);
        block_ctx c = context(t, v, l);
        int k = ddeep ? vision_deep_block(v, l) : -1;
        tensor read = l + 1 < v->depth ? rows(&t->block[l + 1].x, P) : y;
        if (k >= 0) deep_back(b, &dx, g, t, p, k, &read, &ddeep[k]);
        block_finish_back(b, &dx, &g->block[l], &a, &w, &p->block[l], &s);
        block_attend_back(b, &dx, &g->block[l], &a, &w, &p->block[l], &s, &c);
    }
    if (v->n_pos) {
        tensor tap = rows(&t->tap, P), weight = rows(&t->weight, P);
        b->mix_bwd(b, &g->pos, &dx, &tap, &weight);
    }
    b->rows_put(b, &dx0_tok, &dx_tok, &index); /* a permutation: every row is written */
    b->linear_dw(b, &g->patch_w, g->patch_b.data ? &g->patch_b : NULL, &dx0, &in);
}
