#include "core/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model_parts.h"
#include "core/mrope.h"
#include "core/rng.h"

/* ---- parameters ---- */

static block_shape decoder_shape(const model_config *c)
{
    return (block_shape){.width = c->hidden,
                         .inner = c->intermediate,
                         .qkv_bias = c->qkv_bias,
                         .mlp_bias = false,
                         .qk_norm = c->qk_norm,
                         .eps = c->rms_eps,
                         .attn = {.n_head = c->n_head,
                                  .n_kv = c->n_kv,
                                  .head_dim = c->head_dim,
                                  .scale = attn_scale(c->head_dim),
                                  .causal = true}};
}

static status alloc_params(param_set *p, const model_config *c)
{
    p->layer = calloc((size_t)c->n_layer, sizeof *p->layer);
    if (!p->layer) return FAIL(ST_ENOMEM, "out of memory for %d layers", c->n_layer);
    return c->has_vision ? tower_alloc_params(&p->tower, &c->vision) : ST_OK;
}

static status plan_params(arena **out, param_set *p, backend *b, const model_config *c, const block_shape *s,
                          dtype matrix, const char *name)
{
    TRY(alloc_params(p, c));
    TRY(matrix == DT_F32 ? arena_create_flat(out, b, name) : arena_create(out, b, name));
    arena_add_2d(*out, &p->embed, matrix, c->vocab, c->hidden);
    for (int l = 0; l < c->n_layer; l++) block_plan_params(*out, &p->layer[l], s, matrix);
    arena_add_1d(*out, &p->norm, DT_F32, c->hidden);
    if (!c->tied) arena_add_2d(*out, &p->head, matrix, c->vocab, c->hidden);
    if (c->has_vision) tower_plan_params(*out, &p->tower, &c->vision, matrix);
    return ST_OK;
}

static void free_params(param_set *p)
{
    free(p->layer);
    free(p->tower.block);
}

/* Rotary constants. Text: one axis per frequency from the sections. Vision: the first half of the frequencies turns
 * with the row, the second half, the same frequencies again, with the column. */
static status commit_constants(model *m)
{
    const model_config *c = &m->cfg;
    int half = c->head_dim / 2, vhalf = c->has_vision ? c->vision.hidden / c->vision.n_head / 2 : 0;
    TRY(arena_create(&m->constants, m->b, "rotary constants"));
    arena_add_1d(m->constants, &m->freq, DT_F32, half);
    arena_add_1d(m->constants, &m->axis, DT_I32, half);
    arena_add_1d(m->constants, &m->vfreq, DT_F32, vhalf);
    arena_add_1d(m->constants, &m->vaxis, DT_I32, vhalf);
    TRY(arena_commit(m->constants));

    int n = half > vhalf ? half : vhalf;
    CHECK(n > 0);
    float *freq = malloc((size_t)n * sizeof *freq);
    int32_t *axis = malloc((size_t)n * sizeof *axis);
    if (!freq || !axis) {
        free(freq);
        free(axis);
        return FAIL(ST_ENOMEM, "out of memory for rotary constants");
    }
    rope_inv_freq(freq, c->head_dim, c->rope_theta);
    mrope_axes(axis, half, c->mrope_section, c->mrope_interleaved);
    m->b->upload(m->b, &m->freq, freq);
    m->b->upload(m->b, &m->axis, axis);
    if (c->has_vision) {
        rope_inv_freq(freq, vhalf, 1e4);
        memcpy(freq + vhalf / 2, freq, (size_t)(vhalf / 2) * sizeof *freq);
        for (int j = 0; j < vhalf; j++) axis[j] = j >= vhalf / 2;
        m->b->upload(m->b, &m->vfreq, freq);
        m->b->upload(m->b, &m->vaxis, axis);
    }
    free(freq);
    free(axis);
    return ST_OK;
}

/* ---- the handle ---- */

static status create(model *m, dtype matrix, bool for_training)
{
    TRY(model_config_check(&m->cfg));
    m->shape = decoder_shape(&m->cfg);
    TRY(plan_params(&m->weights, &m->w, m->b, &m->cfg, &m->shape, matrix, "weights"));
    if (!m->b) return model_list(m);
    TRY(arena_commit(m->weights));
    if (for_training) {
        TRY(plan_params(&m->grads, &m->g, m->b, &m->cfg, &m->shape, matrix, "gradients"));
        TRY(arena_commit(m->grads));
    }
    TRY(commit_constants(m));
    return model_list(m);
}

static status open_model(model **out, backend *b, const model_config *c, dtype matrix, bool for_training)
{
    model *m = calloc(1, sizeof *m);
    if (!m) return FAIL(ST_ENOMEM, "out of memory");
    m->b = b;
    m->cfg = *c;
    status st = create(m, matrix, for_training);
    if (st != ST_OK) {
        model_destroy(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

status model_create(model **out, backend *b, const model_config *c, bool for_training)
{
    return open_model(out, b, c, DT_F32, for_training);
}

status model_create_stored(model **out, backend *b, const model_config *c, dtype matrix)
{
    CHECK(matrix == DT_BF16 || (matrix == DT_BF16_ROWS && b->host));
    return open_model(out, b, c, matrix, false);
}

void model_keep(model *m, void *what, void (*drop)(void *what))
{
    if (m->drop) m->drop(m->kept);
    m->kept = what;
    m->drop = drop;
}

status model_create_names(model **out, const model_config *c) { return open_model(out, NULL, c, DT_F32, false); }

void model_destroy(model *m)
{
    if (!m) return;
    for (int i = 0; i < m->n_list; i++) free((char *)m->list[i].name);
    free(m->list);
    model_keep(m, NULL, NULL);
    arena_destroy(m->constants);
    arena_destroy(m->grads);
    arena_destroy(m->weights);
    free_params(&m->w);
    free_params(&m->g);
    free(m);
}

const model_config *model_cfg(const model *m) { return &m->cfg; }
backend *model_backend(const model *m) { return m->b; }
tensor model_params(const model *m) { return arena_flat(m->weights); }
tensor model_head(const model *m) { return m->cfg.tied ? m->w.embed : m->w.head; }
tensor model_head_grad(const model *m) { return m->cfg.tied ? m->g.embed : m->g.head; }
tensor model_embedding(const model *m) { return m->w.embed; }
tensor model_embedding_grad(const model *m) { return m->g.embed; }

tensor model_grads(const model *m)
{
    return m->grads ? arena_flat(m->grads) : tensor_1d(NULL, DT_F32, model_param_count(m));
}

int64_t model_param_count(const model *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n_list; i++) n += tensor_count(&m->list[i].w);
    return n;
}

status model_visit(model *m, model_visit_fn *fn, void *ctx)
{
    for (int i = 0; i < m->n_list; i++) TRY(fn(ctx, &m->list[i]));
    return ST_OK;
}

/* ---- initial weights ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static rng_key name_key(uint64_t seed, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return rng_make_key(seed, RNG_INIT, hash, 0, 0, 0);
}

static float init_std(const model_tensor *t)
{
    if (ends_with(t->name, "embed_tokens.weight")) return 0.05f;
    if (ends_with(t->name, "pos_embed.weight")) return 0.02f; /* as transformers does */
    float std = 1.0f / sqrtf((float)t->w.dim[1]);
    if (ends_with(t->name, "o_proj.weight") || ends_with(t->name, "attn.proj.weight") ||
        ends_with(t->name, "down_proj.weight") || ends_with(t->name, "mlp.linear_fc2.weight"))
        return 0.4f * std; /* branches start small beside the residual stream */
    bool out = ends_with(t->name, "merger.mlp.2.weight") || ends_with(t->name, "linear_fc2.weight");
    return out ? 0.1f * std : std;
}

/* Element i of a query projection that starts as its group's key head is that key head's element. */
static bool copies_key(const attn_shape *a, int64_t i, int64_t cols, int64_t *key_i)
{
    int64_t head_size = (int64_t)a->head_dim * cols, head = i / head_size;
    int group = a->n_head / a->n_kv;
    *key_i = head / group * head_size + i % head_size;
    return head % group == 0;
}

void model_init_values(const model *m, const model_tensor *t, uint64_t seed, int64_t at, int64_t n, float *out)
{
    bool norm = !t->matrix && !ends_with(t->name, ".bias"), query = ends_with(t->name, "q_proj.weight");
    if (!t->matrix) {
        for (int64_t i = 0; i < n; i++) out[i] = norm ? 1.0f : 0.0f;
        return;
    }
    float std = init_std(t);
    char key_name[128];
    snprintf(key_name, sizeof key_name, "%s", t->name);
    if (query) *strstr(key_name, "q_proj") = 'k';
    rng_key own = name_key(seed, t->name), key = name_key(seed, key_name);
    for (int64_t i = at, k; i < at + n; i++)
        out[i - at] = query && copies_key(&m->shape.attn, i, t->w.dim[1], &k) ? std * rng_normal(key, (uint64_t)k)
                                                                              : std * rng_normal(own, (uint64_t)i);
}

typedef struct init_ctx {
    const model *m;
    uint64_t seed;
} init_ctx;

static status init_tensor(void *ctx, const model_tensor *t)
{
    const init_ctx *c = ctx;
    backend *b = c->m->b;
    float value[4096];
    uint16_t half[4096];
    CHECK(t->w.type != DT_BF16_ROWS);
    int64_t count = tensor_count(&t->w);
    for (int64_t at = 0; at < count; at += 4096) {
        int64_t n = count - at < 4096 ? count - at : 4096;
        model_init_values(c->m, t, c->seed, at, n, value);
        if (t->w.type == DT_BF16)
            for (int64_t i = 0; i < n; i++) half[i] = bf16_from_f32(value[i]);
        tensor piece = tensor_1d((char *)t->w.data + (size_t)at * dtype_size(t->w.type), t->w.type, n);
        b->upload(b, &piece, t->w.type == DT_BF16 ? (const void *)half : value);
    }
    return ST_OK;
}

void model_init(model *m, uint64_t seed)
{
    init_ctx c = {.m = m, .seed = seed};
    status st = model_visit(m, init_tensor, &c);
    CHECK(st == ST_OK);
    m->b->params_changed(m->b);
}

/* ---- work of a step ---- */

double model_train_flops(const model_config *c, const token_batch *x)
{
    double C = c->hidden, N = x->n_tok, kv = 2.0 * c->n_kv * c->head_dim, q = (double)c->n_head * c->head_dim;
    double R = x->n_row, finish = N * (c->n_layer - 1) + R; /* rows through the second half of a layer */
    double mul_add = N * c->n_layer * C * (q + kv) + finish * (q * C + 3 * C * c->intermediate) + R * C * c->vocab;
    for (int s = 0; s < x->n_seq; s++) {
        double n = x->cu[s + 1] - x->cu[s];
        mul_add += c->n_layer * 2 * q * n * (n + 1) / 2; /* q.k and p.v over the causal triangle */
    }
    if (x->n_img) mul_add += vision_mul_adds(&c->vision, x->grid, x->n_img);
    return 3 * 2 * mul_add;
}
