/* config.json in every layout transformers has written, and the mistakes it must refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "core/model.h"

#define VISION                                                                                                      \
    "\"vision_config\":{\"depth\":32,\"hidden_act\":\"silu\",\"hidden_size\":1280,\"intermediate_size\":3420,"      \
    "\"num_heads\":16,\"in_chans\":3,\"out_hidden_size\":2048,\"patch_size\":14,\"spatial_merge_size\":2,"          \
    "\"spatial_patch_size\":14,\"window_size\":112,\"fullatt_block_indexes\":[7,15,23,31],\"tokens_per_second\":2," \
    "\"temporal_patch_size\":2}"
#define IDS                                                                                                            \
    "\"bos_token_id\":151643,\"eos_token_id\":151645,\"vision_start_token_id\":151652,\"vision_end_token_id\":151653," \
    "\"vision_token_id\":151654,\"image_token_id\":151655,\"video_token_id\":151656"
#define SIZES                                                                                                         \
    "\"hidden_size\":2048,\"intermediate_size\":11008,\"max_position_embeddings\":128000,\"num_attention_heads\":16," \
    "\"num_hidden_layers\":36,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,\"vocab_size\":151936,"                \
    "\"hidden_act\":\"silu\",\"attention_dropout\":0.0,\"use_sliding_window\":false,\"sliding_window\":32768"

static const char flat[] =
    "{\"architectures\":[\"Qwen2_5_VLForConditionalGeneration\"],\"model_type\":\"qwen2_5_vl\"," SIZES "," IDS
    "," VISION ",\"rope_theta\":1000000.0,\"tie_word_embeddings\":true,\"torch_dtype\":\"bfloat16\","
    "\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[16,24,24]}}";
/* transformers 4.52: text_config, stale copies above it, nulls inside */
static const char nested[] =
    "{\"model_type\":\"qwen2_5_vl\",\"hidden_size\":8192,\"num_hidden_layers\":80,\"rope_scaling\":{\"type\":\"yarn\"}"
    "," IDS "," VISION ",\"tie_word_embeddings\":true,\"text_config\":{" SIZES ",\"model_type\":\"qwen2_5_vl_text\","
    "\"rope_theta\":1000000.0,\"tie_word_embeddings\":null,\"video_token_id\":null,\"image_token_id\":null,"
    "\"rope_scaling\":{\"type\":\"default\",\"rope_type\":\"default\",\"mrope_section\":[16,24,24]}}}";
/* transformers 5 */
static const char rope_parameters[] =
    "{\"model_type\":\"qwen2_5_vl\"," IDS "," VISION ",\"dtype\":\"bfloat16\",\"text_config\":{" SIZES
    ",\"tie_word_embeddings\":true,\"layer_types\":[\"full_attention\"],\"rope_theta\":3.0,"
    "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1000000.0,\"mrope_section\":[16,24,24]}}}";

static status read(model_config *c, const char *text)
{
    json *j = NULL;
    if (json_parse(&j, text, strlen(text), "config.json") != ST_OK) fail_msg("%s: %s", text, fail_message());
    status st = model_config_from_json(c, j);
    json_free(j);
    return st;
}

static model_config must_read(const char *text)
{
    model_config c;
    if (read(&c, text) != ST_OK) fail_msg("%s", fail_message());
    return c;
}

/* Qwen2.5-VL-3B as published. */
static void three_layouts(void **state)
{
    (void)state;
    model_config a = must_read(flat), b = must_read(nested), c = must_read(rope_parameters);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_equal(&a, &c, sizeof a);
    assert_int_equal(a.head_dim, 128);
    assert_true(a.tied && a.qkv_bias && a.has_vision);
    assert_true(a.rms_eps == 1e-6f && a.rope_theta == 1e6);
    assert_int_equal(a.mrope_section[1], 24);
    assert_int_equal(a.image_token, 151655);
    assert_int_equal(a.eos_token, 151645);
    assert_int_equal(a.vision.n_full, 4);
    assert_int_equal(a.vision.full_blocks[3], 31);
    assert_int_equal(a.vision.tokens_per_second, 2);
    assert_true(vision_full_block(&a.vision, 15) && !vision_full_block(&a.vision, 14));
}

/* ---- every family in every layout ---- */

#define TEXT                                                                                                  \
    "\"hidden_size\":96,\"intermediate_size\":70,\"max_position_embeddings\":4096,\"num_attention_heads\":6," \
    "\"num_hidden_layers\":5,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-06,\"vocab_size\":151936,"         \
    "\"hidden_act\":\"silu\",\"bos_token_id\":151643,\"eos_token_id\":151645"
/* What is stale at the top of a nested file. */
#define STALE "\"hidden_size\":1,\"num_attention_heads\":7,\"head_dim\":3,\"rope_theta\":2.0,\"vocab_size\":5"
#define VISION25                                                                                                       \
    "\"vision_config\":{\"depth\":4,\"hidden_size\":32,\"intermediate_size\":50,\"num_heads\":2,\"in_chans\":3,"       \
    "\"out_hidden_size\":96,\"patch_size\":14,\"spatial_merge_size\":2,\"temporal_patch_size\":2,\"window_size\":112," \
    "\"fullatt_block_indexes\":[1,3],\"tokens_per_second\":2,\"hidden_act\":\"silu\"}"
#define VISION3                                                                                                     \
    "\"vision_config\":{\"depth\":4,\"hidden_size\":32,\"intermediate_size\":50,\"num_heads\":2,\"in_channels\":3," \
    "\"out_hidden_size\":96,\"patch_size\":16,\"spatial_merge_size\":2,\"temporal_patch_size\":2,"                  \
    "\"num_position_embeddings\":49,\"deepstack_visual_indexes\":[0,2],\"hidden_act\":\"gelu_pytorch_tanh\"}"

static const struct family {
    const char *type, *own, *vision, *rope;
} families[] = {{"qwen2", "\"use_sliding_window\":false", NULL, ""},
                {"qwen3", "\"head_dim\":20,\"attention_bias\":false", NULL, ""},
                {"qwen2_5_vl", "\"attention_dropout\":0.0", VISION25, ",\"mrope_section\":[2,3,3]"},
                {"qwen3_vl", "\"head_dim\":20,\"attention_bias\":false", VISION3,
                 ",\"mrope_section\":[4,3,3],\"mrope_interleaved\":true"}};
enum { FAMILIES = sizeof families / sizeof *families };

/* 0 flat, 1 nested below stale copies and beside nulls, 2 with rope_parameters. */
static void write_layout(char *out, size_t n, const struct family *f, int layout)
{
    char top[1024], text[2048];
    snprintf(top, sizeof top, "\"model_type\":\"%s\",\"tie_word_embeddings\":true%s%s", f->type, f->vision ? "," : "",
             f->vision ? f->vision : "");
    if (layout == 2)
        snprintf(text, sizeof text,
                 TEXT ",%s,\"rope_theta\":4.0,\"dtype\":\"bfloat16\",\"layer_types\":[\"full_attention\"],"
                      "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":70000.0%s}",
                 f->own, f->rope);
    else if (f->vision)
        snprintf(text, sizeof text, TEXT ",%s,\"rope_theta\":70000.0,\"rope_scaling\":{\"%s\":\"%s\"%s}", f->own,
                 layout ? "rope_type" : "type", layout ? "default" : "mrope", f->rope);
    else
        snprintf(text, sizeof text, TEXT ",%s,\"rope_theta\":70000.0,\"rope_scaling\":null", f->own);
    if (layout == 0)
        snprintf(out, n, "{%s,%s}", top, text);
    else
        snprintf(out, n, "{%s," STALE ",\"text_config\":{%s,\"tie_word_embeddings\":null,\"image_token_id\":null}}",
                 top, text);
}

static void every_family_in_every_layout(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        const struct family *f = &families[i];
        char file[4096];
        model_config c[3];
        for (int layout = 0; layout < 3; layout++) {
            write_layout(file, sizeof file, f, layout);
            c[layout] = must_read(file);
            if (memcmp(&c[layout], &c[0], sizeof *c) != 0) fail_msg("%s: layout %d is another model", f->type, layout);
        }
        bool qwen3 = strstr(f->type, "qwen3") != NULL;
        assert_string_equal(model_config_type(&c[0]), f->type);
        assert_int_equal(c[0].family, qwen3 ? FAMILY_QWEN3 : FAMILY_QWEN2);
        assert_int_equal(c[0].head_dim, qwen3 ? 20 : 16);
        assert_int_equal(c[0].qk_norm, qwen3);
        assert_int_equal(c[0].qkv_bias, !qwen3);
        assert_true(c[0].rope_theta == 7e4 && c[0].tied && c[0].hidden == 96);
        assert_int_equal(c[0].mrope_interleaved, qwen3 && f->vision);
        assert_int_equal(c[0].mrope_section[0], !f->vision ? c[0].head_dim / 2 : qwen3 ? 4 : 2);
        if (!f->vision) continue;
        const vision_config *v = &c[0].vision;
        assert_true(v->layer_norm == qwen3 && v->gelu_mlp == qwen3 && v->patch_bias == qwen3);
        assert_true(v->window == (qwen3 ? 0 : 112) && v->n_pos == (qwen3 ? 49 : 0) && v->n_deep == (qwen3 ? 2 : 0));
        assert_true(vision_full_block(v, 0) == qwen3 && vision_deep_block(v, 2) == (qwen3 ? 1 : -1));
    }
}

/* Written in the layout a family is published in, and read back as the same model. */
static void every_family_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < FAMILIES; i++) {
        char file[4096];
        write_layout(file, sizeof file, &families[i], 2);
        model_config a = must_read(file);
        json_out o;
        json_begin(&o, true);
        model_config_write(&a, "bfloat16", &o);
        char *text = strndup(o.text, o.len);
        model_config b = must_read(text);
        assert_memory_equal(&a, &b, sizeof a);
        bool in_text = strcmp(families[i].type, "qwen3_vl") == 0;
        assert_int_equal(strstr(text, "\"text_config\"") != NULL, in_text);
        const char *tie = strstr(text, "\"tie_word_embeddings\": true");
        assert_int_equal(tie && strstr(tie + 1, "\"tie_word_embeddings\": true"), in_text); /* in both places */
        assert_null(strstr(text, "rope_parameters"));
        free(text);
        json_end(&o);
    }
}

static void round_trip(void **state)
{
    (void)state;
    static const char *const texts[] = {
        flat, "{\"model_type\":\"qwen2\",\"hidden_size\":896,\"num_hidden_layers\":24,\"num_attention_heads\":14,"
              "\"num_key_value_heads\":2,\"intermediate_size\":4864,\"vocab_size\":151936,\"rms_norm_eps\":1e-06,"
              "\"rope_theta\":1000000.0,\"tie_word_embeddings\":true,\"bos_token_id\":151643,\"eos_token_id\":151645}"};
    for (int i = 0; i < 2; i++) {
        model_config a = must_read(texts[i]);
        json_out o;
        json_begin(&o, true);
        model_config_to_json(&a, &o);
        char *text = strndup(o.text, o.len);
        model_config b = must_read(text);
        assert_memory_equal(&a, &b, sizeof a);
        assert_non_null(strstr(text, i ? "\"Qwen2ForCausalLM\"" : "\"Qwen2_5_VLForConditionalGeneration\""));
        assert_non_null(strstr(text, "1e-06"));
        free(text);
        json_end(&o);
    }
    model_config c = must_read(flat); /* what no published file has */
    c.head_dim = 64;
    c.mrope_section[0] = 8, c.mrope_section[1] = 12, c.mrope_section[2] = 12;
    c.qkv_bias = false;
    c.tied = false;
    json_out o;
    json_begin(&o, false);
    model_config_write(&c, "bfloat16", &o);
    char *text = strndup(o.text, o.len);
    model_config back = must_read(text);
    assert_memory_equal(&c, &back, sizeof c);
    assert_non_null(strstr(text, "\"bfloat16\""));
    free(text);
    json_end(&o);
}

/* The text with one piece replaced. */
static void refused(const char *text, const char *piece, const char *by, const char *want)
{
    char changed[8192];
    const char *at = strstr(text, piece);
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, by, at + strlen(piece));
    model_config c;
    memset(&c, 0x5a, sizeof c);
    if (read(&c, changed) == ST_OK) fail_msg("accepted %s", by);
    if (!strstr(fail_message(), want)) fail_msg("'%s' does not say '%s'", fail_message(), want);
    assert_int_equal(((unsigned char *)&c)[0], 0x5a); /* untouched */
}

static void mistakes(void **state)
{
    (void)state;
    refused(flat, "qwen2_5_vl", "qwen2_vl", "model_type qwen2_vl is not supported");
    refused(flat, "\"model_type\":\"qwen2_5_vl\",", "", "model_type");
    refused(flat, "\"num_attention_heads\":16", "\"num_attention_heads\":15", "multiple of num_key_value_heads");
    refused(flat, "\"num_attention_heads\":16", "\"num_attention_heads\":0", "num_attention_heads must be a positive");
    refused(flat, "\"hidden_size\":2048", "\"hidden_size\":2048.5", "hidden_size must be a positive");
    refused(flat, "\"hidden_size\":2048", "\"hidden_size\":\"2048\"", "hidden_size must be a positive");
    refused(flat, "[16,24,24]", "[16,24,25]", "sum to head_dim/2 = 64");
    refused(flat, "[16,24,24]", "[16,48]", "three integers");
    refused(flat, "\"mrope_section\":[16,24,24]", "\"x\":1", "mrope_section");
    refused(flat, "\"type\":\"mrope\"", "\"type\":\"yarn\"", "rope_type yarn");
    refused(rope_parameters, "\"rope_type\":\"default\"", "\"mrope_interleaved\":true", "mrope_interleaved");
    refused(rope_parameters, "full_attention", "sliding_attention", "layer_types sliding_attention");
    refused(flat, "\"use_sliding_window\":false", "\"use_sliding_window\":true", "use_sliding_window");
    refused(flat, "\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\"", "hidden_act gelu");
    refused(flat, "\"attention_dropout\":0.0", "\"attention_dropout\":0.1", "attention_dropout");
    refused(flat, "\"attention_dropout\":0.0", "\"quantization_config\":{}", "quantization_config");
    refused(flat, "\"out_hidden_size\":2048", "\"out_hidden_size\":1024",
            "out_hidden_size 1024 must be hidden_size 2048");
    refused(flat, "\"window_size\":112", "\"window_size\":100", "window_size 100");
    refused(flat, "\"num_heads\":16", "\"num_heads\":17", "num_heads 17");
    refused(flat, "[7,15,23,31]", "[-1]", "fullatt_block_indexes");
    refused(flat, "[7,15,23,31]", "7", "fullatt_block_indexes");
    refused(flat, "\"image_token_id\":151655", "\"image_token_id\":151936", "outside vocab_size");
    refused(flat, "\"image_token_id\":151655", "\"image_token_id\":-1", "image_token_id");
    refused(flat, "\"tie_word_embeddings\":true", "\"tie_word_embeddings\":1", "tie_word_embeddings");
    refused(flat, "\"vision_config\":{", "\"vision_config\":1,\"x\":{", "vision_config must be an object");
}

static void qwen3_mistakes(void **state)
{
    (void)state;
    char vl[4096], v5[4096], text[4096];
    write_layout(vl, sizeof vl, &families[3], 1);
    write_layout(v5, sizeof v5, &families[3], 2);
    write_layout(text, sizeof text, &families[1], 0);
    refused(vl, "\"attention_bias\":false", "\"attention_bias\":true", "attention_bias true is not supported");
    refused(vl, "\"mrope_interleaved\":true", "\"mrope_interleaved\":false", "mrope_interleaved false");
    refused(vl, "\"mrope_interleaved\":true", "\"mrope_interleaved\":1", "must be true or false");
    refused(vl, "\"rope_type\":\"default\"", "\"rope_type\":\"yarn\"", "rope_type yarn");
    refused(vl, "\"rope_theta\":70000.0", "\"x\":1", "rope_theta is missing");
    refused(vl, "[4,3,3]", "[4,3,2]", "sum to head_dim/2 = 10");
    refused(v5, "\"rope_parameters\":{", "\"rope_parameters\":{\"full_attention\":{},", "single layer types");
    refused(v5, "\"rope_parameters\":{", "\"rope_scaling\":{\"type\":\"linear\"},\"rope_parameters\":{",
            "rope_type linear");
    refused(v5, "\"rope_type\":\"default\"", "\"rope_type\":7", "rope_type ?");
    refused(vl, "\"tie_word", "\"quantization_config\":{},\"tie_word", "quantization_config");
    refused(vl, "gelu_pytorch_tanh", "gelu", "hidden_act gelu");
    refused(vl, "[0,2]", "[2,0]", "must ascend");
    refused(vl, "[0,2]", "[2,2]", "must ascend");
    refused(vl, "[0,2]", "[0,4]", "below depth 4");
    refused(vl, "[0,2]", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "at most 16 blocks");
    refused(vl, "\"num_hidden_layers\":5", "\"num_hidden_layers\":1", "more than num_hidden_layers 1");
    refused(vl, "\"num_position_embeddings\":49", "\"num_position_embeddings\":0", "num_position_embeddings");
    refused(vl, "\"patch_size\":16", "\"patch_size\":[16,16]", "patch_size must be a positive");
    refused(text, "\"head_dim\":20", "\"head_dim\":21", "head_dim 21 must be even");
    refused(text, "\"rope_scaling\":null", "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}", "rope_type yarn");
    refused(text, "\"rope_scaling\":null", "\"rope_scaling\":4", "rope_scaling must be an object");
    /* sizes that no machine has, one by one and multiplied */
    refused(text, "\"hidden_size\":96", "\"hidden_size\":1099511627776",
            "hidden_size must be a positive integer of at");
    refused(text, "\"num_hidden_layers\":5", "\"num_hidden_layers\":16000000", "must be at most 4096");
    refused(text, "\"head_dim\":20", "\"head_dim\":16000000", "must be at most");
    refused(text, "\"intermediate_size\":70", "\"intermediate_size\":16000000", "must be at most");
    refused(vl, "\"depth\":4", "\"depth\":16000000", "depth 16000000");
    refused(vl, "\"spatial_merge_size\":2", "\"spatial_merge_size\":16000000", "must be at most");
    refused(vl, "\"patch_size\":16", "\"patch_size\":16000000", "must be at most");
}

/* rope_theta: rope_parameters, then the text section, then rope_scaling, then the class. */
static void rope_theta_chain(void **state)
{
    (void)state;
    static const char *const forms[][2] = {
        {"\"rope_theta\":5.0,\"rope_scaling\":{\"rope_theta\":6.0},\"rope_parameters\":{\"rope_theta\":4.0}", "4"},
        {"\"rope_theta\":5.0,\"rope_scaling\":{\"rope_theta\":6.0},\"rope_parameters\":{}", "5"},
        {"\"rope_scaling\":{\"rope_theta\":6.0}", "6"},
        {"\"rope_theta\":null,\"rope_scaling\":null", "10000"}};
    for (int i = 0; i < 4; i++) {
        char file[512];
        snprintf(file, sizeof file, "{\"model_type\":\"qwen3\",%s}", forms[i][0]);
        assert_true(must_read(file).rope_theta == atof(forms[i][1]));
    }
}

static void qwen3_class_defaults(void **state)
{
    (void)state;
    model_config c =
        must_read("{\"model_type\":\"qwen3_vl\",\"rope_theta\":5e6,\"vision_config\":{\"out_hidden_size\":4096}}");
    assert_true(c.hidden == 4096 && c.intermediate == 22016 && c.n_layer == 32 && c.n_kv == 32 && c.head_dim == 128);
    assert_true(c.mrope_section[0] == 24 && c.mrope_section[2] == 20 && c.mrope_interleaved && !c.tied);
    assert_true(c.vision.depth == 27 && c.vision.hidden == 1152 && c.vision.intermediate == 4304 &&
                c.vision.patch == 16);
    assert_true(c.vision.n_pos == 2304 && c.vision.n_deep == 3 && c.vision.deep_blocks[2] == 24);
    c = must_read(
        "{\"model_type\":\"qwen3\",\"num_attention_heads\":12,\"num_key_value_heads\":null,\"head_dim\":null}");
    assert_true(c.n_kv == 12 && c.head_dim == 128 && c.rope_theta == 1e4 && c.rms_eps == 1e-6f);
    c = must_read("{\"model_type\":\"qwen2\"}");
    assert_true(c.head_dim == 128 && c.qkv_bias && c.rope_theta == 1e4 && c.vocab == 151936);
}

/* Abbreviated files take transformers' class defaults: the published 32B vision section leaves out depth and num_heads.
 */
static void class_defaults(void **state)
{
    (void)state;
    model_config c =
        must_read("{\"model_type\":\"qwen2_5_vl\",\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[16,24,24]},"
                  "\"vision_config\":{\"hidden_size\":1280,\"out_hidden_size\":8192},\"eos_token_id\":[5,6]}");
    assert_int_equal(c.vision.depth, 32);
    assert_int_equal(c.vision.n_head, 16);
    assert_int_equal(c.vision.tokens_per_second, 4);
    assert_int_equal(c.vision.n_full, 4);
    assert_int_equal(c.hidden, 8192);
    assert_true(c.rms_eps == 1e-5f);
    assert_false(c.tied);
    assert_int_equal(c.eos_token, 5);
    assert_int_equal(c.image_token, 151655);
}

/* The demo's file, token ids left to the tokenizer, must be a model once they are filled in. */
static void demo_config(void **state)
{
    (void)state;
    json *j = NULL;
    assert_int_equal(json_read_file(&j, SOURCE_DIR "/configs/demo_model.json", 1 << 20), ST_OK);
    json_out o;
    json_begin(&o, false);
    json_put_node(&o, j);
    char text[4096];
    snprintf(text, sizeof text, "%.*s,\"image_token_id\":500}", (int)(o.len - 1), o.text);
    json_end(&o);
    json_free(j);
    model_config c = must_read(text);
    assert_int_equal(c.head_dim, 32);
    assert_true(c.tied);
}

/* Address space without memory behind it: enough to lay out a 7B model. */
static status reserve(backend *b, size_t bytes, void **out)
{
    (void)b;
    *out = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return *out == MAP_FAILED ? FAIL(ST_ENOMEM, "no address space for %zu bytes", bytes) : ST_OK;
}

static void keep(backend *b, void *p) { (void)b, (void)p; }

static void copy_in(backend *b, tensor *dst, const void *src)
{
    (void)b;
    memcpy(dst->data, src, tensor_bytes(dst));
}

static status count_tensor(void *ctx, const model_tensor *t)
{
    (void)t;
    ++*(int *)ctx;
    return ST_OK;
}

/* Parameter and tensor counts of the released checkpoints. */
static void published_sizes(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* the shadow of 290 GB of reserved memory doesn't fit */
#endif
    static const struct {
        int hidden, layers, heads, kv, inter, vocab, vision_inter;
        bool tied;
        int64_t params;
        int tensors;
    } size[] = {{2048, 36, 16, 2, 11008, 151936, 3420, true, 3754622976, 824},
                {3584, 28, 28, 4, 18944, 152064, 3420, false, 8292166656, 729},
                {5120, 64, 40, 8, 27648, 152064, 3456, false, 33452718336, 1161},
                {8192, 80, 64, 8, 29568, 152064, 3456, false, 73410777344, 1353}};
    backend b = {.name = "paper", .alloc = reserve, .release = keep, .upload = copy_in};
    for (int i = 0; i < 4; i++) {
        model_config c = must_read(flat);
        c.hidden = c.vision.out_hidden = size[i].hidden;
        c.n_layer = size[i].layers;
        c.n_head = size[i].heads;
        c.n_kv = size[i].kv;
        c.intermediate = size[i].inter;
        c.vocab = size[i].vocab;
        c.vision.intermediate = size[i].vision_inter;
        c.tied = size[i].tied;
        model *m = NULL;
        int tensors = 0;
        status st = model_create(&m, &b, &c, false);
        if (st == ST_ENOMEM) skip(); /* a system that promises no more than it has */
        assert_int_equal(st, ST_OK);
        assert_true(model_param_count(m) == size[i].params);
        assert_int_equal(model_visit(m, count_tensor, &tensors), ST_OK);
        assert_int_equal(tensors, size[i].tensors);
        model_destroy(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(three_layouts),
                                       cmocka_unit_test(round_trip),
                                       cmocka_unit_test(mistakes),
                                       cmocka_unit_test(class_defaults),
                                       cmocka_unit_test(published_sizes),
                                       cmocka_unit_test(demo_config),
                                       cmocka_unit_test(every_family_in_every_layout),
                                       cmocka_unit_test(every_family_round_trip),
                                       cmocka_unit_test(qwen3_mistakes),
                                       cmocka_unit_test(rope_theta_chain),
                                       cmocka_unit_test(qwen3_class_defaults)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
