/* Every tensor of a model under the name it is published by (qwen_vl_spec 2), in the order of the flat arena. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model_parts.h"

/* Qwen3-VL is published with the names transformers has in memory, the others with the older ones. */
static const char *text_prefix(const model_config *c)
{
    return c->has_vision && c->family == FAMILY_QWEN3 ? "model.language_model" : "model";
}
static const char *vision_prefix(const model_config *c)
{
    return c->family == FAMILY_QWEN3 ? "model.visual" : "visual";
}

/* Rows [first, first+n) of a parameter and its gradient under a name. */
static status list_rows(model *m, const tensor *w, const tensor *g, int64_t first, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
static status list_rows(model *m, const tensor *w, const tensor *g, int64_t first, int64_t n, const char *fmt, ...)
{
    model_tensor *t = &m->list[m->n_list];
    char name[128];
    va_list ap;
    if (!w->ndim) return ST_OK; /* the family lacks it */
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    *t = (model_tensor){.name = strdup(name), .w = tensor_rows(w, first, n), .matrix = w->ndim > 1, .ndim = w->ndim};
    if (m->grads) t->g = tensor_rows(g, first, n);
    memcpy(t->shape, t->w.dim, sizeof t->w.dim);
    m->n_list++;
    return t->name ? ST_OK : FAIL(ST_ENOMEM, "out of memory for tensor names");
}

/* A parameter of w and g, in whole or in part, as PREFIX plus a format. */
#define LIST(field, fmt, ...) TRY(list_rows(m, &w->field, &g->field, 0, w->field.dim[0], "%s." fmt, __VA_ARGS__))
#define LIST_PART(field, first, n, fmt, ...) TRY(list_rows(m, &w->field, &g->field, first, n, "%s." fmt, __VA_ARGS__))

static status list_layer(model *m, int l)
{
    const block_params *w = &m->w.layer[l], *g = m->grads ? &m->g.layer[l] : w;
    const attn_shape *a = &m->shape.attn;
    const char *pre = text_prefix(&m->cfg);
    int q = a->n_head * a->head_dim, kv = a->n_kv * a->head_dim, I = m->shape.inner;
    LIST(norm1, "layers.%d.input_layernorm.weight", pre, l);
    LIST_PART(qkv_w, 0, q, "layers.%d.self_attn.q_proj.weight", pre, l);
    LIST_PART(qkv_w, q, kv, "layers.%d.self_attn.k_proj.weight", pre, l);
    LIST_PART(qkv_w, q + kv, kv, "layers.%d.self_attn.v_proj.weight", pre, l);
    LIST_PART(qkv_b, 0, q, "layers.%d.self_attn.q_proj.bias", pre, l);
    LIST_PART(qkv_b, q, kv, "layers.%d.self_attn.k_proj.bias", pre, l);
    LIST_PART(qkv_b, q + kv, kv, "layers.%d.self_attn.v_proj.bias", pre, l);
    LIST(q_norm, "layers.%d.self_attn.q_norm.weight", pre, l);
    LIST(k_norm, "layers.%d.self_attn.k_norm.weight", pre, l);
    LIST(o_w, "layers.%d.self_attn.o_proj.weight", pre, l);
    LIST(norm2, "layers.%d.post_attention_layernorm.weight", pre, l);
    LIST_PART(gu_w, 0, I, "layers.%d.mlp.gate_proj.weight", pre, l);
    LIST_PART(gu_w, I, I, "layers.%d.mlp.up_proj.weight", pre, l);
    LIST(down_w, "layers.%d.mlp.down_proj.weight", pre, l);
    return ST_OK;
}

static status list_vision_mlp(model *m, int l, const char *pre)
{
    const block_params *w = &m->w.tower.block[l], *g = m->grads ? &m->g.tower.block[l] : w;
    int I = m->cfg.vision.intermediate;
    if (m->cfg.vision.gelu_mlp) {
        LIST(gu_w, "blocks.%d.mlp.linear_fc1.weight", pre, l);
        LIST(gu_b, "blocks.%d.mlp.linear_fc1.bias", pre, l);
        LIST(down_w, "blocks.%d.mlp.linear_fc2.weight", pre, l);
        LIST(down_b, "blocks.%d.mlp.linear_fc2.bias", pre, l);
        return ST_OK;
    }
    LIST_PART(gu_w, 0, I, "blocks.%d.mlp.gate_proj.weight", pre, l);
    LIST_PART(gu_w, I, I, "blocks.%d.mlp.up_proj.weight", pre, l);
    LIST_PART(gu_b, 0, I, "blocks.%d.mlp.gate_proj.bias", pre, l);
    LIST_PART(gu_b, I, I, "blocks.%d.mlp.up_proj.bias", pre, l);
    LIST(down_w, "blocks.%d.mlp.down_proj.weight", pre, l);
    LIST(down_b, "blocks.%d.mlp.down_proj.bias", pre, l);
    return ST_OK;
}

static status list_vision_block(model *m, int l, const char *pre)
{
    const block_params *w = &m->w.tower.block[l], *g = m->grads ? &m->g.tower.block[l] : w;
    LIST(norm1, "blocks.%d.norm1.weight", pre, l);
    LIST(norm1_b, "blocks.%d.norm1.bias", pre, l);
    LIST(qkv_w, "blocks.%d.attn.qkv.weight", pre, l);
    LIST(qkv_b, "blocks.%d.attn.qkv.bias", pre, l);
    LIST(o_w, "blocks.%d.attn.proj.weight", pre, l);
    LIST(o_b, "blocks.%d.attn.proj.bias", pre, l);
    LIST(norm2, "blocks.%d.norm2.weight", pre, l);
    LIST(norm2_b, "blocks.%d.norm2.bias", pre, l);
    return list_vision_mlp(m, l, pre);
}

static status list_merger(model *m, const merger_params *w, const merger_params *g, const char *pre)
{
    bool qwen3 = m->cfg.family == FAMILY_QWEN3;
    const char *norm = qwen3 ? "norm" : "ln_q", *fc1 = qwen3 ? "linear_fc1" : "mlp.0",
               *fc2 = qwen3 ? "linear_fc2" : "mlp.2";
    LIST(norm_w, "%s.weight", pre, norm);
    LIST(norm_b, "%s.bias", pre, norm);
    LIST(fc1_w, "%s.weight", pre, fc1);
    LIST(fc1_b, "%s.bias", pre, fc1);
    LIST(fc2_w, "%s.weight", pre, fc2);
    LIST(fc2_b, "%s.bias", pre, fc2);
    return ST_OK;
}

static status list_tower(model *m)
{
    const tower_params *w = &m->w.tower, *g = m->grads ? &m->g.tower : w;
    const vision_config *v = &m->cfg.vision;
    const char *pre = vision_prefix(&m->cfg);
    char name[64];
    LIST(patch_w, "patch_embed.proj.weight", pre);
    model_tensor *conv = &m->list[m->n_list - 1];
    conv->ndim = 5;
    memcpy(conv->shape, (int64_t[]){v->hidden, v->in_channels, v->temporal_patch, v->patch, v->patch},
           sizeof conv->shape);
    LIST(patch_b, "patch_embed.proj.bias", pre);
    LIST(pos, "pos_embed.weight", pre);
    for (int l = 0; l < v->depth; l++) TRY(list_vision_block(m, l, pre));
    snprintf(name, sizeof name, "%s.merger", pre);
    TRY(list_merger(m, &w->merger, &g->merger, name));
    for (int k = 0; k < v->n_deep; k++) {
        snprintf(name, sizeof name, "%s.deepstack_merger_list.%d", pre, k);
        TRY(list_merger(m, &w->deep[k], &g->deep[k], name));
    }
    return ST_OK;
}

status model_list(model *m)
{
    enum { LAYER = 14, MERGER = 6 }; /* the most tensors a block or a merger of any family has */
    const model_config *c = &m->cfg;
    const param_set *w = &m->w, *g = m->grads ? &m->g : w;
    const char *pre = text_prefix(c);
    int most = 3 + LAYER * c->n_layer;
    if (c->has_vision) most += 3 + LAYER * c->vision.depth + MERGER * (1 + c->vision.n_deep);
    m->list = calloc((size_t)most, sizeof *m->list);
    if (!m->list) return FAIL(ST_ENOMEM, "out of memory for tensor names");
    LIST(embed, "embed_tokens.weight", pre);
    for (int l = 0; l < c->n_layer; l++) TRY(list_layer(m, l));
    LIST(norm, "norm.weight", pre);
    LIST(head, "weight", "lm_head");
    if (c->has_vision) TRY(list_tower(m));
    CHECK(m->n_list <= most);
    return ST_OK;
}
