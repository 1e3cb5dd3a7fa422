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
    const struct CMUnitTest tests[] = {cmocka_unit_test(three_layouts),   cmocka_unit_test(round_trip),
                                       cmocka_unit_test(mistakes),        cmocka_unit_test(class_defaults),
                                       cmocka_unit_test(published_sizes), cmocka_unit_test(demo_config)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
