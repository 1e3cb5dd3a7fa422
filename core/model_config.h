/* What a model is: the fields of a Hugging Face config.json that shape Qwen2.5-VL, Qwen3-VL dense, Qwen2/2.5 and Qwen3
 * (qwen_vl_spec 1). One model source serves all of them; everything that differs is a field here, and `family` itself
 * chooses nothing but names. */
#ifndef CORE_MODEL_CONFIG_H
#define CORE_MODEL_CONFIG_H

#include "core/json.h"
#include "core/vision.h"

/* Tensor names, model_type, architectures and the layout of config.json; with has_vision one of qwen2, qwen3,
 * qwen2_5_vl, qwen3_vl. */
typedef enum model_family { FAMILY_QWEN2, FAMILY_QWEN3 } model_family;

typedef struct model_config {
    model_family family;
    int hidden, n_layer, n_head, n_kv, head_dim, intermediate, vocab;
    int max_position;
    bool tied; /* lm_head shares the embedding */
    bool qkv_bias;
    bool qk_norm; /* RMSNorm of every query and key head before rotary */
    float rms_eps;
    double rope_theta;
    int mrope_section[3];   /* T, H, W; sum = head_dim/2 */
    bool mrope_interleaved; /* frequencies THWTHW..., then T; else the T ones, the H ones, the W ones */
    bool has_vision;
    vision_config vision;
    int image_token, video_token, vision_start_token, vision_end_token, bos_token, eos_token;
} model_config;

/* From a config.json in any layout: flat (published Qwen2.5-VL and text models), nested text_config (transformers 4.52
 * to 4.57, published Qwen3-VL), rope_parameters (transformers 5). Missing keys take transformers' class defaults.
 * ST_EINVAL names the key; what this program has no code for (rope types, sliding windows, quantization) is refused.
 * *out is untouched on error. */
status model_config_from_json(model_config *out, const json *j);
/* As the config.json that transformers reads, in the layout the family is published in. */
void model_config_to_json(const model_config *c, json_out *o);
/* The same with another torch_dtype than "float32" (what the weights beside it are stored in). */
void model_config_write(const model_config *c, const char *torch_dtype, json_out *o);
/* Sizes positive and bounded, divisible, sections sum; ST_EINVAL says which not. */
status model_config_check(const model_config *c);
/* "qwen2_5_vl" and so on. */
const char *model_config_type(const model_config *c);

#endif
