/* Hugging Face config.json in its three layouts (qwen_vl_spec 1.3): flat (published Qwen2.5-VL), nested text_config
 * (transformers 4.52 to 4.57), rope_parameters (transformers 5). Defaults are those of transformers' config classes. */
#include "core/model_config.h"

#include <float.h>
#include <string.h>

/* No size in a released model comes near these; below them no product of two sizes overflows. */
enum { MAX_SIZE = 1 << 24, MAX_LAYERS = 4096 };

/* A model_type and the defaults of its config classes (transformers 5.23; older ones agree but for rope_theta). */
typedef struct model_class {
    const char *type;
    model_family family;
    bool vision;
    int vocab, hidden, inner, layers, heads, kv, head_dim, max_position; /* head_dim 0: hidden / heads */
    double eps, theta; /* theta 0: the versions disagree, so the file must say it */
} model_class;
static const model_class classes[] = {
    {"qwen2", FAMILY_QWEN2, false, 151936, 4096, 22016, 32, 32, 32, 0, 32768, 1e-6, 1e4},
    {"qwen3", FAMILY_QWEN3, false, 151936, 4096, 22016, 32, 32, 32, 128, 32768, 1e-6, 1e4},
    {"qwen2_5_vl", FAMILY_QWEN2, true, 152064, 8192, 29568, 80, 64, 8, 0, 32768, 1e-5, 1e6},
    {"qwen3_vl", FAMILY_QWEN3, true, 151936, 4096, 22016, 32, 32, 32, 128, 128000, 1e-6, 0}};
enum { N_CLASS = sizeof classes / sizeof *classes };

const char *model_config_type(const model_config *c)
{
    for (int i = 0; i < N_CLASS; i++)
        if (classes[i].family == c->family && classes[i].vision == c->has_vision) return classes[i].type;
    CHECK(!"a family without a class");
    return NULL;
}

/* A member that is present and not null. */
static const json *member(const json *j, const char *key)
{
    const json *v = json_get(j, key);
    return json_kind(v) == JSON_NULL ? NULL : v;
}

static status need_size(const json *j, const char *key, int64_t dflt, int *out)
{
    const json *v = member(j, key);
    if (v && (!json_is_int(v) || json_int(v) < 1 || json_int(v) > MAX_SIZE))
        return FAIL(ST_EINVAL, "config.json: %s must be a positive integer of at most %d", key, MAX_SIZE);
    *out = (int)(v ? json_int(v) : dflt);
    return ST_OK;
}

static status need_number(const json *j, const char *key, double dflt, double *out)
{
    const json *v = member(j, key);
    if (v && !(json_num(v) >= (double)FLT_MIN && json_num(v) <= (double)FLT_MAX)) /* NaN: no number at all */
        return FAIL(ST_EINVAL, "config.json: %s must be a positive number that fp32 holds", key);
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
static status check_supported(const json *top, const json *text)
{
    const json *types = member(text, "layer_types");
    bool sliding = false;
    double dropout = json_num(member(text, "attention_dropout"));
    TRY(only(text, "hidden_act", "silu"));
    TRY(need_flag(text, "use_sliding_window", false, &sliding));
    if (sliding) return FAIL(ST_EINVAL, "config.json: use_sliding_window true is not supported");
    if (dropout > 0) return FAIL(ST_EINVAL, "config.json: attention_dropout must be 0");
    if (member(top, "quantization_config") || member(text, "quantization_config"))
        return FAIL(ST_EINVAL, "config.json: quantization_config is not supported");
    for (int64_t i = 0; i < json_len(types); i++) {
        const char *type = json_str(json_at(types, i));
        if (!type || strcmp(type, "full_attention") != 0)
            return FAIL(ST_EINVAL, "config.json: layer_types %s is not supported, only full_attention",
                        type ? type : "?");
    }
    return ST_OK;
}

/* rope_parameters or rope_scaling: an object for the whole model, of a type there is code for. */
static status check_rope(const json *j, const char *key)
{
    if (!j) return ST_OK;
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "config.json: %s must be an object", key);
    for (int64_t i = 0; i < json_len(j); i++)
        if (json_kind(json_at(j, i)) == JSON_OBJECT)
            return FAIL(ST_EINVAL, "config.json: %s.%s: rotary parameters of single layer types are not supported", key,
                        json_key_at(j, i));
    const json *type = member(j, "rope_type") ? member(j, "rope_type") : member(j, "type");
    const char *s = json_str(type);
    if (type && (!s || (strcmp(s, "default") != 0 && strcmp(s, "mrope") != 0)))
        return FAIL(ST_EINVAL, "config.json: rope_type %s is not supported, only default", s ? s : "?");
    return ST_OK;
}

static status read_sections(model_config *c, const json *section)
{
    if (json_kind(section) != JSON_ARRAY || json_len(section) != 3)
        return FAIL(ST_EINVAL, "config.json: mrope_section must be three integers");
    for (int i = 0; i < 3; i++) {
        const json *n = json_at(section, i);
        if (!json_is_int(n) || json_int(n) < 0 || json_int(n) > MAX_SIZE)
            return FAIL(ST_EINVAL, "config.json: mrope_section must be three integers");
        c->mrope_section[i] = (int)json_int(n);
    }
    return ST_OK;
}

static status read_rope(model_config *c, const json *text, const model_class *k)
{
    const json *params = member(text, "rope_parameters"), *scaling = member(text, "rope_scaling");
    TRY(check_rope(params, "rope_parameters"));
    TRY(check_rope(scaling, "rope_scaling"));
    const json *theta = member(params, "rope_theta") ? params : member(text, "rope_theta") ? text : scaling;
    if (k->theta == 0 && !member(theta, "rope_theta"))
        return FAIL(ST_EINVAL,
                    "config.json: rope_theta is missing, and versions of transformers disagree about the "
                    "default of %s: write it into the file (released models have 5000000)",
                    k->type);
    TRY(need_number(theta, "rope_theta", k->theta, &c->rope_theta));

    c->mrope_section[0] = c->head_dim / 2; /* text only: one position, the ordinary rotary embedding */
    if (!k->vision) return ST_OK;
    const json *from = member(params, "mrope_section") ? params : scaling;
    bool interleaved = c->family == FAMILY_QWEN3, said = interleaved;
    TRY(need_flag(member(params, "mrope_interleaved") ? params : scaling, "mrope_interleaved", interleaved, &said));
    if (said != interleaved)
        return FAIL(ST_EINVAL, "config.json: mrope_interleaved %s is not supported with %s", said ? "true" : "false",
                    k->type);
    c->mrope_interleaved = interleaved;
    if (!member(from, "mrope_section") && interleaved) { /* the class default */
        memcpy(c->mrope_section, (int[]){24, 20, 20}, sizeof c->mrope_section);
        return ST_OK;
    }
    return read_sections(c, member(from, "mrope_section"));
}

static status read_text(model_config *c, const json *text, const model_class *k)
{
    double eps = 0;
    bool qwen3 = k->family == FAMILY_QWEN3;
    TRY(need_size(text, "vocab_size", k->vocab, &c->vocab));
    TRY(need_size(text, "hidden_size", k->hidden, &c->hidden));
    TRY(need_size(text, "intermediate_size", k->inner, &c->intermediate));
    TRY(need_size(text, "num_hidden_layers", k->layers, &c->n_layer));
    TRY(need_size(text, "num_attention_heads", k->heads, &c->n_head));
    bool all_heads = json_get(text, "num_key_value_heads") && !member(text, "num_key_value_heads"); /* null */
    TRY(need_size(text, "num_key_value_heads", all_heads ? c->n_head : k->kv, &c->n_kv));
    int head_dim = k->head_dim ? k->head_dim : c->hidden / c->n_head;
    TRY(need_size(text, "head_dim", head_dim > 0 ? head_dim : 1, &c->head_dim));
    TRY(need_size(text, "max_position_embeddings", k->max_position, &c->max_position));
    TRY(need_number(text, "rms_norm_eps", k->eps, &eps));
    TRY(need_flag(text, "attention_bias", !qwen3, &c->qkv_bias));
    if (qwen3 && c->qkv_bias)
        return FAIL(ST_EINVAL, "config.json: attention_bias true is not supported with %s", k->type);
    c->qk_norm = qwen3;
    c->rms_eps = (float)eps;
    return read_rope(c, text, k);
}

/* A list of block numbers, or the class default. */
static status read_blocks(const json *j, const char *key, const int *dflt, int n_dflt, int most, int *out, int *n)
{
    const json *list = member(j, key);
    if (list && (json_kind(list) != JSON_ARRAY || json_len(list) > most))
        return FAIL(ST_EINVAL, "config.json: %s must be a list of at most %d blocks", key, most);
    *n = list ? (int)json_len(list) : n_dflt;
    for (int i = 0; i < *n; i++) {
        const json *l = list ? json_at(list, i) : NULL;
        if (list && (!json_is_int(l) || json_int(l) < 0 || json_int(l) >= MAX_LAYERS))
            return FAIL(ST_EINVAL, "config.json: %s must be block numbers", key);
        out[i] = list ? (int)json_int(l) : dflt[i];
    }
    return ST_OK;
}

static status check_vision_rope(const json *j)
{
    const json *rope = member(j, "rope_parameters");
    const char *type = json_str(member(rope, "rope_type"));
    double theta = 0;
    if (type && strcmp(type, "default") != 0 && strcmp(type, "axial") != 0)
        return FAIL(ST_EINVAL, "config.json: vision_config.rope_parameters.rope_type %s is not supported", type);
    TRY(need_number(rope, "rope_theta", 1e4, &theta));
    if (theta != 1e4) return FAIL(ST_EINVAL, "config.json: vision_config.rope_parameters.rope_theta must be 10000");
    return ST_OK;
}

static status read_vision(vision_config *v, const json *j, bool qwen3)
{
    static const int full[] = {7, 15, 23, 31}, deep[] = {8, 16, 24};
    TRY(only(j, "hidden_act", qwen3 ? "gelu_pytorch_tanh" : "silu"));
    TRY(need_size(j, "depth", qwen3 ? 27 : 32, &v->depth));
    TRY(need_size(j, "hidden_size", qwen3 ? 1152 : 3584, &v->hidden));
    TRY(need_size(j, "intermediate_size", qwen3 ? 4304 : 3420, &v->intermediate));
    TRY(need_size(j, "num_heads", 16, &v->n_head));
    TRY(need_size(j, "patch_size", qwen3 ? 16 : 14, &v->patch));
    TRY(need_size(j, "temporal_patch_size", 2, &v->temporal_patch));
    TRY(need_size(j, "spatial_merge_size", 2, &v->merge));
    TRY(need_size(j, member(j, "in_channels") ? "in_channels" : "in_chans", 3, &v->in_channels));
    TRY(need_size(j, "out_hidden_size", 3584, &v->out_hidden));
    TRY(check_vision_rope(j));
    v->layer_norm = v->gelu_mlp = v->patch_bias = qwen3;
    if (qwen3) {
        TRY(need_size(j, "num_position_embeddings", 2304, &v->n_pos));
        return read_blocks(j, "deepstack_visual_indexes", deep, 3, VISION_MAX_DEEP, v->deep_blocks, &v->n_deep);
    }
    TRY(need_size(j, "window_size", 112, &v->window));
    TRY(need_size(j, "tokens_per_second", 4, &v->tokens_per_second));
    return read_blocks(j, "fullatt_block_indexes", full, 4, VISION_MAX_BLOCKS, v->full_blocks, &v->n_full);
}

static status read_all(model_config *c, const json *j)
{
    const json *nested = member(j, "text_config"), *text = nested ? nested : j;
    const model_class *k = classes;
    const char *type;
    TRY(json_need_str(j, "model_type", &type));
    while (k < classes + N_CLASS && strcmp(k->type, type) != 0) k++;
    if (k == classes + N_CLASS)
        return FAIL(ST_EINVAL,
                    "config.json: model_type %s is not supported (qwen2_5_vl, qwen3_vl, qwen2 and qwen3 are)", type);
    if (json_kind(text) != JSON_OBJECT) return FAIL(ST_EINVAL, "config.json: text_config must be an object");
    c->family = k->family;
    TRY(check_supported(j, text));
    TRY(read_text(c, text, k));
    TRY(need_flag(member(j, "tie_word_embeddings") ? j : text, "tie_word_embeddings", false, &c->tied));
    TRY(need_token(j, text, "bos_token_id", k->vision ? 151643 : -1, &c->bos_token));
    TRY(need_token(j, text, "eos_token_id", k->vision ? 151645 : -1, &c->eos_token));
    c->image_token = c->video_token = c->vision_start_token = c->vision_end_token = -1;
    if (k->vision) {
        const json *vision = member(j, "vision_config");
        if (json_kind(vision) != JSON_OBJECT) return FAIL(ST_EINVAL, "config.json: vision_config must be an object");
        c->has_vision = true;
        TRY(read_vision(&c->vision, vision, c->family == FAMILY_QWEN3));
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
    int64_t token_side = (int64_t)v->merge * v->patch;
    WANT(v->depth > 0 && v->depth <= MAX_LAYERS, "vision_config: depth %d must be 1..%d", v->depth, MAX_LAYERS);
    WANT(v->hidden > 0 && v->intermediate > 0 && v->n_head > 0 && v->patch > 0 && v->merge > 0 &&
             v->temporal_patch > 0 && v->in_channels > 0,
         "every size in vision_config must be positive");
    WANT(v->hidden % v->n_head == 0 && v->hidden / v->n_head % 4 == 0,
         "vision_config: hidden_size %d must be num_heads %d times a multiple of 4", v->hidden, v->n_head);
    WANT((int64_t)v->merge * v->merge <= MAX_SIZE / v->hidden &&
             (int64_t)v->patch * v->patch <= MAX_SIZE / v->in_channels / v->temporal_patch &&
             2 * (int64_t)v->intermediate <= MAX_SIZE,
         "vision_config: spatial_merge_size^2 * hidden_size, the numbers of a patch and 2 * intermediate_size must be "
         "at most %d",
         MAX_SIZE);
    WANT(v->window >= 0 && v->window % token_side == 0,
         "vision_config: window_size %d must be a multiple of patch_size*spatial_merge_size %lld", v->window,
         (long long)token_side);
    WANT(v->out_hidden == c->hidden, "vision_config: out_hidden_size %d must be hidden_size %d", v->out_hidden,
         c->hidden);
    WANT(v->n_full >= 0 && v->n_full <= VISION_MAX_BLOCKS, "vision_config: too many fullatt_block_indexes");
    WANT(v->n_pos >= 0, "vision_config: num_position_embeddings must be positive");
    WANT(v->n_deep >= 0 && v->n_deep <= VISION_MAX_DEEP && v->n_deep <= c->n_layer,
         "deepstack_visual_indexes has %d blocks, more than num_hidden_layers %d", v->n_deep, c->n_layer);
    for (int i = 0; i < v->n_deep; i++)
        WANT(v->deep_blocks[i] >= 0 && v->deep_blocks[i] < v->depth &&
                 (i == 0 || v->deep_blocks[i] > v->deep_blocks[i - 1]),
             "deepstack_visual_indexes must ascend and be below depth %d", v->depth);
    WANT(c->image_token >= 0 && c->image_token < c->vocab, "image_token_id %d is outside vocab_size %d", c->image_token,
         c->vocab);
    return ST_OK;
}

status model_config_check(const model_config *c)
{
    WANT(c->hidden > 0 && c->n_layer > 0 && c->n_head > 0 && c->n_kv > 0 && c->intermediate > 0 && c->vocab > 0 &&
             c->head_dim > 0,
         "every size must be positive");
    WANT(c->n_layer <= MAX_LAYERS, "num_hidden_layers %d must be at most %d", c->n_layer, MAX_LAYERS);
    WANT((int64_t)c->head_dim * ((int64_t)c->n_head + 2 * (int64_t)c->n_kv) <= MAX_SIZE &&
             2 * (int64_t)c->intermediate <= MAX_SIZE,
         "head_dim * (num_attention_heads + 2 * num_key_value_heads) and 2 * intermediate_size must be at most %d",
         MAX_SIZE);
    WANT(c->n_head % c->n_kv == 0, "num_attention_heads %d must be a multiple of num_key_value_heads %d", c->n_head,
         c->n_kv);
    WANT(c->head_dim % 2 == 0, "head_dim %d must be even", c->head_dim);
    WANT(c->mrope_section[0] >= 0 && c->mrope_section[1] >= 0 && c->mrope_section[2] >= 0 &&
             (int64_t)c->mrope_section[0] + c->mrope_section[1] + c->mrope_section[2] == c->head_dim / 2,
         "mrope_section must sum to head_dim/2 = %d", c->head_dim / 2);
    WANT(c->rms_eps > 0 && c->rope_theta > 0, "rms_norm_eps and rope_theta must be positive");
    return c->has_vision ? check_vision(c) : ST_OK;
}
