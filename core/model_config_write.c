/* Writing config.json. */
#include <stdio.h>
#include <stdlib.h>

#include "core/model_config.h"

static void put_token(json_out *o, const char *key, int v)
{
    if (v >= 0) json_member_int(o, key, v);
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
    bool qwen3 = c->family == FAMILY_QWEN3;
    json_key(o, "vision_config");
    json_open(o, '{');
    if (qwen3) put_ints(o, "deepstack_visual_indexes", v->deep_blocks, v->n_deep);
    json_member_int(o, "depth", v->depth);
    if (!qwen3) put_ints(o, "fullatt_block_indexes", v->full_blocks, v->n_full);
    json_member_str(o, "hidden_act", qwen3 ? "gelu_pytorch_tanh" : "silu");
    json_member_int(o, "hidden_size", v->hidden);
    json_member_int(o, "in_channels", v->in_channels);          /* newer readers */
    if (!qwen3) json_member_int(o, "in_chans", v->in_channels); /* older readers */
    json_member_num(o, "initializer_range", 0.02);
    json_member_int(o, "intermediate_size", v->intermediate);
    json_member_str(o, "model_type", model_config_type(c));
    json_member_int(o, "num_heads", v->n_head);
    if (qwen3) json_member_int(o, "num_position_embeddings", v->n_pos);
    json_member_int(o, "out_hidden_size", v->out_hidden);
    json_member_int(o, "patch_size", v->patch);
    json_member_int(o, "spatial_merge_size", v->merge);
    if (!qwen3) json_member_int(o, "spatial_patch_size", v->patch);
    json_member_int(o, "temporal_patch_size", v->temporal_patch);
    if (!qwen3) json_member_int(o, "tokens_per_second", v->tokens_per_second);
    if (!qwen3) json_member_int(o, "window_size", v->window);
    json_close(o, '}');
}

static void put_rope(json_out *o, const model_config *c)
{
    if (c->has_vision) {
        bool qwen3 = c->family == FAMILY_QWEN3;
        json_key(o, "rope_scaling");
        json_open(o, '{');
        if (qwen3) json_member_bool(o, "mrope_interleaved", c->mrope_interleaved);
        put_ints(o, "mrope_section", c->mrope_section, 3);
        json_member_str(o, qwen3 ? "rope_type" : "type", qwen3 ? "default" : "mrope");
        json_close(o, '}');
    }
    json_member_num(o, "rope_theta", c->rope_theta);
}

/* The keys of the text model, which the flat layout has at the top and the nested one in text_config. */
static void put_text(json_out *o, const model_config *c)
{
    bool qwen3 = c->family == FAMILY_QWEN3;
    if (qwen3 || !c->qkv_bias) json_member_bool(o, "attention_bias", c->qkv_bias);
    json_member_num(o, "attention_dropout", 0);
    put_token(o, "bos_token_id", c->bos_token);
    put_token(o, "eos_token_id", c->eos_token);
    if (qwen3 || c->head_dim * c->n_head != c->hidden) json_member_int(o, "head_dim", c->head_dim);
    json_member_str(o, "hidden_act", "silu");
    json_member_int(o, "hidden_size", c->hidden);
    json_member_num(o, "initializer_range", 0.02);
    json_member_int(o, "intermediate_size", c->intermediate);
    json_member_int(o, "max_position_embeddings", c->max_position);
    json_member_int(o, "num_attention_heads", c->n_head);
    json_member_int(o, "num_hidden_layers", c->n_layer);
    json_member_int(o, "num_key_value_heads", c->n_kv);
    json_member_num(o, "rms_norm_eps", float_as_written(c->rms_eps));
    put_rope(o, c);
    json_member_bool(o, "tie_word_embeddings", c->tied);
    json_member_bool(o, "use_cache", true);
    json_member_int(o, "vocab_size", c->vocab);
}

static const char *architecture(const model_config *c)
{
    static const char *const names[2][2] = {{"Qwen2ForCausalLM", "Qwen2_5_VLForConditionalGeneration"},
                                            {"Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration"}};
    return names[c->family][c->has_vision];
}

/* Qwen3-VL is published nested, the other families flat. tie_word_embeddings stands in both places of the nested form:
 * versions of transformers disagree about which one counts. */
void model_config_write(const model_config *c, const char *torch_dtype, json_out *o)
{
    bool nested = c->has_vision && c->family == FAMILY_QWEN3;
    json_open(o, '{');
    json_key(o, "architectures");
    json_open(o, '[');
    json_put_str(o, architecture(c));
    json_close(o, ']');
    if (c->has_vision) put_token(o, "image_token_id", c->image_token);
    json_member_str(o, "model_type", model_config_type(c));
    if (nested) {
        json_key(o, "text_config");
        json_open(o, '{');
        put_text(o, c);
        json_member_str(o, "dtype", torch_dtype);
        json_member_str(o, "model_type", "qwen3_vl_text");
        json_close(o, '}');
        json_member_bool(o, "tie_word_embeddings", c->tied);
    } else {
        put_text(o, c);
        json_member_bool(o, "use_sliding_window", false);
    }
    json_member_str(o, "torch_dtype", torch_dtype);
    if (c->has_vision) {
        put_token(o, "video_token_id", c->video_token);
        put_vision(o, c);
        put_token(o, "vision_end_token_id", c->vision_end_token);
        put_token(o, "vision_start_token_id", c->vision_start_token);
    }
    json_close(o, '}');
}

void model_config_to_json(const model_config *c, json_out *o) { model_config_write(c, "float32", o); }
