/* Hugging Face config.json in its three layouts (qwen_vl_spec 1.3): flat (published Qwen2.5-VL), nested text_config
 * (transformers 4.52 to 4.57), rope_parameters (transformers 5). Defaults are those of transformers' config classes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/model.h"

/* A member that is present and not null. */
static const json *member(const json *j, const char *key)
{
    const json *v = json_get(j, key);
    return json_kind(v) == JSON_NULL ? NULL : v;
}

static status need_size(const json *j, const char *key, int64_t dflt, int *out)
{
    const json *v = member(j, key);
    if (v && (!json_is_int(v) || json_int(v) < 1 || json_int(v) > INT32_MAX))
        return FAIL(ST_EINVAL, "config.json: %s must be a positive integer", key);
    *out = (int)(v ? json_int(v) : dflt);
    return ST_OK;
}

static status need_number(const json *j, const char *key, double dflt, double *out)
{
    const json *v = member(j, key);
    if (v && (json_kind(v) != JSON_NUMBER || !(json_num(v) > 0)))
        return FAIL(ST_EINVAL, "config.json: %s must be a positive number", key);
    *out = v ? json_num(v) : dflt;
    return ST_OK;
}

static status need_flag(const json *j, const char *key, bool dflt, bool *out)
{
    const json *v = member(j, key);
    if (v && json_kind(v) != JSON_BOOL) return FAIL(ST_EINVAL, "config.json: %s must be true or false", key);
    *out = v ? json_bool(v) : dflt;
    return ST_OK;
}

/* A token id, from the top level or from the text section. A list (several end tokens) gives its first. */
static status need_token(const json *top, const json *text, const char *key, int dflt, int *out)
{
    const json *v = member(top, key) ? member(top, key) : member(text, key);
    if (json_kind(v) == JSON_ARRAY) v = json_at(v, 0);
    if (v && (!json_is_int(v) || json_int(v) < 0 || json_int(v) > INT32_MAX))
        return FAIL(ST_EINVAL, "config.json: %s must be a token id", key);
    *out = v ? (int)json_int(v) : dflt;
    return ST_OK;
}

static status only(const json *j, const char *key, const char *value)
{
    const char *s = json_str(member(j, key));
    if (member(j, key) && (!s || strcmp(s, value) != 0))
        return FAIL(ST_EINVAL, "config.json: %s %s is not supported, only %s", key, s ? s : "of another type", value);
    return ST_OK;
}

/* Things a checkpoint can ask for that this program has no code for: an error, never silence. */
static status check_supported(const json *text)
{
    const json *types = member(text, "layer_types");
    bool sliding = false;
    double dropout = json_num(member(text, "attention_dropout"));
    TRY(only(text, "hidden_act", "silu"));
    TRY(need_flag(text, "use_sliding_window", false, &sliding));
    if (sliding) return FAIL(ST_EINVAL, "config.json: use_sliding_window true is not supported");
    if (dropout > 0) return FAIL(ST_EINVAL, "config.json: attention_dropout must be 0");
    if (member(text, "quantization_config"))
        return FAIL(ST_EINVAL, "config.json: quantization_config is not supported");
    for (int64_t i = 0; i < json_len(types); i++) {
        const char *type = json_str(json_at(types, i));
        if (!type || strcmp(type, "full_attention") != 0)
            return FAIL(ST_EINVAL, "config.json: layer_types %s is not supported, only full_attention",
                        type ? type : "?");
    }
    return ST_OK;
}

static status read_rope(model_config *c, const json *text, bool vl)
{
    const json *params = member(text, "rope_parameters"), *scaling = member(text, "rope_scaling");
    const json *from = params ? params : scaling;
    const char *type = json_str(member(from, "rope_type"));
    if (!type) type = json_str(member(from, "type"));
    if (type && strcmp(type, "default") != 0 && strcmp(type, "mrope") != 0)
        return FAIL(ST_EINVAL, "config.json: rope_type %s is not supported", type);
    if (json_bool(member(from, "mrope_interleaved")))
        return FAIL(ST_EINVAL, "config.json: mrope_interleaved true is not supported");

    const json *theta = member(params, "rope_theta") ? params : member(text, "rope_theta") ? text : scaling;
    TRY(need_number(theta, "rope_theta", vl ? 1e6 : 1e4, &c->rope_theta));

    const json *section = member(from, "mrope_section");
    c->mrope_section[0] = c->head_dim / 2; /* without sections: one position, the ordinary rotary embedding */
    if (!section && !vl) return ST_OK;
    if (json_kind(section) != JSON_ARRAY || json_len(section) != 3)
        return FAIL(ST_EINVAL, "config.json: mrope_section must be three integers");
    for (int i = 0; i < 3; i++) {
        const json *n = json_at(section, i);
        if (!json_is_int(n) || json_int(n) < 0 || json_int(n) > INT32_MAX)
            return FAIL(ST_EINVAL, "config.json: mrope_section must be three integers");
        c->mrope_section[i] = (int)json_int(n);
    }
    return ST_OK;
}

static status read_text(model_config *c, const json *text, bool vl)
{
    double eps = 0;
    TRY(check_supported(text));
    TRY(need_size(text, "vocab_size", vl ? 152064 : 151936, &c->vocab));
    TRY(need_size(text, "hidden_size", vl ? 8192 : 4096, &c->hidden));
    TRY(need_size(text, "intermediate_size", vl ? 29568 : 22016, &c->intermediate));
    TRY(need_size(text, "num_hidden_layers", vl ? 80 : 32, &c->n_layer));
    TRY(need_size(text, "num_attention_heads", vl ? 64 : 32, &c->n_head));
    TRY(need_size(text, "num_key_value_heads", vl ? 8 : 32, &c->n_kv));
    TRY(need_size(text, "head_dim", c->hidden / c->n_head > 0 ? c->hidden / c->n_head : 1, &c->head_dim));
    TRY(need_size(text, "max_position_embeddings", 32768, &c->max_position));
    TRY(need_number(text, "rms_norm_eps", vl ? 1e-5 : 1e-6, &eps));
    TRY(need_flag(text, "attention_bias", true, &c->qkv_bias));
    c->rms_eps = (float)eps;
    return read_rope(c, text, vl);
}

static status read_vision(vision_config *v, const json *j)
{
    const json *full = member(j, "fullatt_block_indexes"), *rope = member(j, "rope_parameters");
    double theta = 0;
    TRY(only(j, "hidden_act", "silu"));
    TRY(need_size(j, "depth", 32, &v->depth));
    TRY(need_size(j, "hidden_size", 3584, &v->hidden));
    TRY(need_size(j, "intermediate_size", 3420, &v->intermediate));
    TRY(need_size(j, "num_heads", 16, &v->n_head));
    TRY(need_size(j, "patch_size", 14, &v->patch));
    TRY(need_size(j, "temporal_patch_size", 2, &v->temporal_patch));
    TRY(need_size(j, "spatial_merge_size", 2, &v->merge));
    TRY(need_size(j, member(j, "in_channels") ? "in_channels" : "in_chans", 3, &v->in_channels));
    TRY(need_size(j, "window_size", 112, &v->window));
    TRY(need_size(j, "out_hidden_size", 3584, &v->out_hidden));
    TRY(need_size(j, "tokens_per_second", 4, &v->tokens_per_second));
    TRY(need_number(rope, "rope_theta", 1e4, &theta));
    if (theta != 1e4) return FAIL(ST_EINVAL, "config.json: vision_config.rope_parameters.rope_theta must be 10000");

    static const int dflt[] = {7, 15, 23, 31};
    v->n_full = full ? (int)json_len(full) : 4;
    if (v->n_full > VISION_MAX_BLOCKS || (full && json_kind(full) != JSON_ARRAY))
        return FAIL(ST_EINVAL, "config.json: fullatt_block_indexes must be a list of at most %d blocks",
                    VISION_MAX_BLOCKS);
    for (int i = 0; i < v->n_full; i++) {
        const json *l = full ? json_at(full, i) : NULL;
        if (full && (!json_is_int(l) || json_int(l) < 0 || json_int(l) > INT32_MAX))
            return FAIL(ST_EINVAL, "config.json: fullatt_block_indexes must be block numbers");
        v->full_blocks[i] = full ? (int)json_int(l) : dflt[i];
    }
    return ST_OK;
}

static status read_all(model_config *c, const json *j)
{
    const json *nested = member(j, "text_config"), *text = nested ? nested : j;
    const char *type;
    TRY(json_need_str(j, "model_type", &type));
    bool vl = strcmp(type, "qwen2_5_vl") == 0;
    if (!vl && strcmp(type, "qwen2") != 0)
        return FAIL(ST_EINVAL, "config.json: model_type %s is not supported (qwen2_5_vl and qwen2 are)", type);
    if (json_kind(text) != JSON_OBJECT) return FAIL(ST_EINVAL, "config.json: text_config must be an object");
    TRY(read_text(c, text, vl));
    TRY(need_flag(member(j, "tie_word_embeddings") ? j : text, "tie_word_embeddings", false, &c->tied));
    TRY(need_token(j, text, "bos_token_id", vl ? 151643 : -1, &c->bos_token));
    TRY(need_token(j, text, "eos_token_id", vl ? 151645 : -1, &c->eos_token));
    c->image_token = c->video_token = c->vision_start_token = c->vision_end_token = -1;
    if (vl) {
        const json *vision = member(j, "vision_config");
        if (json_kind(vision) != JSON_OBJECT) return FAIL(ST_EINVAL, "config.json: vision_config must be an object");
        c->has_vision = true;
        TRY(read_vision(&c->vision, vision));
        TRY(need_token(j, text, "image_token_id", 151655, &c->image_token));
        TRY(need_token(j, text, "video_token_id", 151656, &c->video_token));
        TRY(need_token(j, text, "vision_start_token_id", 151652, &c->vision_start_token));
        TRY(need_token(j, text, "vision_end_token_id", 151653, &c->vision_end_token));
    }
    return model_config_check(c);
}

status model_config_from_json(model_config *out, const json *j)
{
    model_config c;
    memset(&c, 0, sizeof c);
    TRY(read_all(&c, j));
    *out = c;
    return ST_OK;
}

#define WANT(cond, ...) \
    if (!(cond)) return FAIL(ST_EINVAL, "config.json: " __VA_ARGS__)

static status check_vision(const model_config *c)
{
    const vision_config *v = &c->vision;
    int token_side = v->merge * v->patch;
    WANT(v->depth > 0 && v->hidden > 0 && v->intermediate > 0 && v->n_head > 0 && v->patch > 0 && v->merge > 0 &&
             v->temporal_patch > 0 && v->in_channels > 0,
         "every size in vision_config must be positive");
    WANT(v->hidden % v->n_head == 0 && v->hidden / v->n_head % 4 == 0,
         "vision_config: hidden_size %d must be num_heads %d times a multiple of 4", v->hidden, v->n_head);
    WANT(v->window >= token_side && v->window % token_side == 0,
         "vision_config: window_size %d must be a multiple of patch_size*spatial_merge_size %d", v->window, token_side);
    WANT(v->out_hidden == c->hidden, "vision_config: out_hidden_size %d must be hidden_size %d", v->out_hidden,
         c->hidden);
    WANT(v->n_full >= 0 && v->n_full <= VISION_MAX_BLOCKS, "vision_config: too many fullatt_block_indexes");
    WANT(c->image_token >= 0 && c->image_token < c->vocab, "image_token_id %d is outside vocab_size %d", c->image_token,
         c->vocab);
    return ST_OK;
}

status model_config_check(const model_config *c)
{
    WANT(c->hidden > 0 && c->n_layer > 0 && c->n_head > 0 && c->n_kv > 0 && c->intermediate > 0 && c->vocab > 0 &&
             c->head_dim > 0,
         "every size must be positive");
    WANT(c->n_head % c->n_kv == 0, "num_attention_heads %d must be a multiple of num_key_value_heads %d", c->n_head,
         c->n_kv);
    WANT(c->head_dim % 2 == 0, "head_dim %d must be even", c->head_dim);
    WANT(c->mrope_section[0] >= 0 && c->mrope_section[1] >= 0 && c->mrope_section[2] >= 0 &&
             (int64_t)c->mrope_section[0] + c->mrope_section[1] + c->mrope_section[2] == c->head_dim / 2,
         "mrope_section must sum to head_dim/2 = %d", c->head_dim / 2);
    WANT(c->rms_eps > 0 && c->rope_theta > 0, "rms_norm_eps and rope_theta must be positive");
    return c->has_vision ? check_vision(c) : ST_OK;
}

/* ---- writing, flat layout ---- */

static void put_int(json_out *o, const char *key, int64_t v)
{
    json_key(o, key);
    json_put_int(o, v);
}

static void put_str(json_out *o, const char *key, const char *v)
{
    json_key(o, key);
    json_put_str(o, v);
}

static void put_bool(json_out *o, const char *key, bool v)
{
    json_key(o, key);
    json_put_bool(o, v);
}

static void put_num(json_out *o, const char *key, double v)
{
    json_key(o, key);
    json_put_num(o, v);
}

static void put_token(json_out *o, const char *key, int v)
{
    if (v >= 0) put_int(o, key, v);
}

static void put_ints(json_out *o, const char *key, const int *v, int n)
{
    json_key(o, key);
    json_open(o, '[');
    for (int i = 0; i < n; i++) json_put_int(o, v[i]);
    json_close(o, ']');
}

/* The shortest decimal that is this float: 1e-06, not 9.9999999747524271e-07. */
static double float_as_written(float x)
{
    char text[32];
    double v = x;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        v = strtod(text, NULL);
        if ((float)v == x) break;
    }
    return v;
}

static void put_vision(json_out *o, const model_config *c)
{
    const vision_config *v = &c->vision;
    json_key(o, "vision_config");
    json_open(o, '{');
    put_int(o, "depth", v->depth);
    put_ints(o, "fullatt_block_indexes", v->full_blocks, v->n_full);
    put_str(o, "hidden_act", "silu");
    put_int(o, "hidden_size", v->hidden);
    put_int(o, "in_channels", v->in_channels); /* newer readers */
    put_int(o, "in_chans", v->in_channels);    /* older readers */
    put_int(o, "intermediate_size", v->intermediate);
    put_str(o, "model_type", "qwen2_5_vl");
    put_int(o, "num_heads", v->n_head);
    put_int(o, "out_hidden_size", v->out_hidden);
    put_int(o, "patch_size", v->patch);
    put_int(o, "spatial_merge_size", v->merge);
    put_int(o, "spatial_patch_size", v->patch);
    put_int(o, "temporal_patch_size", v->temporal_patch);
    put_int(o, "tokens_per_second", v->tokens_per_second);
    put_int(o, "window_size", v->window);
    json_close(o, '}');
}

void model_config_write(const model_config *c, const char *torch_dtype, json_out *o)
{
    bool vl = c->has_vision;
    json_open(o, '{');
    json_key(o, "architectures");
    json_open(o, '[');
    json_put_str(o, vl ? "Qwen2_5_VLForConditionalGeneration" : "Qwen2ForCausalLM");
    json_close(o, ']');
    if (!c->qkv_bias) put_bool(o, "attention_bias", false);
    put_num(o, "attention_dropout", 0);
    put_token(o, "bos_token_id", c->bos_token);
    put_token(o, "eos_token_id", c->eos_token);
    if (c->head_dim * c->n_head != c->hidden) put_int(o, "head_dim", c->head_dim);
    put_str(o, "hidden_act", "silu");
    put_int(o, "hidden_size", c->hidden);
    if (vl) put_token(o, "image_token_id", c->image_token);
    put_num(o, "initializer_range", 0.02);
    put_int(o, "intermediate_size", c->intermediate);
    put_int(o, "max_position_embeddings", c->max_position);
    put_str(o, "model_type", vl ? "qwen2_5_vl" : "qwen2");
    put_int(o, "num_attention_heads", c->n_head);
    put_int(o, "num_hidden_layers", c->n_layer);
    put_int(o, "num_key_value_heads", c->n_kv);
    put_num(o, "rms_norm_eps", float_as_written(c->rms_eps));
    if (vl) {
        json_key(o, "rope_scaling");
        json_open(o, '{');
        put_ints(o, "mrope_section", c->mrope_section, 3);
        put_str(o, "type", "mrope");
        json_close(o, '}');
    }
    put_num(o, "rope_theta", c->rope_theta);
    put_bool(o, "tie_word_embeddings", c->tied);
    put_str(o, "torch_dtype", torch_dtype);
    put_bool(o, "use_cache", true);
    put_bool(o, "use_sliding_window", false);
    if (vl) {
        put_token(o, "video_token_id", c->video_token);
        put_vision(o, c);
        put_token(o, "vision_end_token_id", c->vision_end_token);
        put_token(o, "vision_start_token_id", c->vision_start_token);
    }
    put_int(o, "vocab_size", c->vocab);
    json_close(o, '}');
}

void model_config_to_json(const model_config *c, json_out *o) { model_config_write(c, "float32", o); }
