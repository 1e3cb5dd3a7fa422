/* `codedance plan` reproduces the published sizes of every family exactly, and its optimizer line is what rl/optim.c
 * takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/json.h"
#include "kernels/kernels.h"
#include "rl/optim.h"

typedef struct size_row {
    const char *name, *type;
    int hidden, layers, heads, kv, head_dim, inner, vocab;
    bool tied;
    int vision_depth, vision_hidden, vision_inner, deep[3]; /* depth 0: text only */
    int64_t params, text, tensors;                          /* 0: from the number of layers */
} size_row;

#define VL25 "qwen2_5_vl"
#define VL3 "qwen3_vl"
/* Every released size: parameter totals as published, tensor counts of the VL checkpoints. */
static const size_row sizes[] = {
    {"2.5-VL-3B", VL25, 2048, 36, 16, 2, 128, 11008, 151936, true, 32, 1280, 3420, {0}, 3754622976, 3085938688, 824},
    {"2.5-VL-7B", VL25, 3584, 28, 28, 4, 128, 18944, 152064, false, 32, 1280, 3420, {0}, 8292166656, 7615616512, 729},
    {"2.5-VL-32B",
     VL25,
     5120,
     64,
     40,
     8,
     128,
     27648,
     152064,
     false,
     32,
     1280,
     3456,
     {0},
     33452718336,
     32763876352,
     1161},
    {"2.5-VL-72B",
     VL25,
     8192,
     80,
     64,
     8,
     128,
     29568,
     152064,
     false,
     32,
     1280,
     3456,
     {0},
     73410777344,
     72706203648,
     1353},
    {"3-VL-2B",
     VL3,
     2048,
     28,
     16,
     8,
     128,
     6144,
     151936,
     true,
     24,
     1024,
     4096,
     {5, 11, 17},
     2127532032,
     1720574976,
     625},
    {"3-VL-4B",
     VL3,
     2560,
     36,
     32,
     8,
     128,
     9728,
     151936,
     true,
     24,
     1024,
     4096,
     {5, 11, 17},
     4437815808,
     4022468096,
     713},
    {"3-VL-8B",
     VL3,
     4096,
     36,
     32,
     8,
     128,
     12288,
     151936,
     false,
     27,
     1152,
     4304,
     {8, 16, 24},
     8767123696,
     8190735360,
     750},
    {"3-VL-32B",
     VL3,
     5120,
     64,
     64,
     8,
     128,
     25600,
     151936,
     false,
     27,
     1152,
     4304,
     {8, 16, 24},
     33357390064,
     32762123264,
     1058},
    {"2.5-0.5B", "qwen2", 896, 24, 14, 2, 64, 4864, 151936, true, 0, 0, 0, {0}, 494032768, 494032768, 0},
    {"2.5-1.5B", "qwen2", 1536, 28, 12, 2, 128, 8960, 151936, true, 0, 0, 0, {0}, 1543714304, 1543714304, 0},
    {"2.5-3B", "qwen2", 2048, 36, 16, 2, 128, 11008, 151936, true, 0, 0, 0, {0}, 3085938688, 3085938688, 0},
    {"2.5-7B", "qwen2", 3584, 28, 28, 4, 128, 18944, 152064, false, 0, 0, 0, {0}, 7615616512, 7615616512, 0},
    {"2.5-14B", "qwen2", 5120, 48, 40, 8, 128, 13824, 152064, false, 0, 0, 0, {0}, 14770033664, 14770033664, 0},
    {"2.5-32B", "qwen2", 5120, 64, 40, 8, 128, 27648, 152064, false, 0, 0, 0, {0}, 32763876352, 32763876352, 0},
    {"2.5-72B", "qwen2", 8192, 80, 64, 8, 128, 29568, 152064, false, 0, 0, 0, {0}, 72706203648, 72706203648, 0},
    {"3-0.6B", "qwen3", 1024, 28, 16, 8, 128, 3072, 151936, true, 0, 0, 0, {0}, 596049920, 596049920, 0},
    {"3-1.7B", "qwen3", 2048, 28, 16, 8, 128, 6144, 151936, true, 0, 0, 0, {0}, 1720574976, 1720574976, 0},
    {"3-4B", "qwen3", 2560, 36, 32, 8, 128, 9728, 151936, true, 0, 0, 0, {0}, 4022468096, 4022468096, 0},
    {"3-8B", "qwen3", 4096, 36, 32, 8, 128, 12288, 151936, false, 0, 0, 0, {0}, 8190735360, 8190735360, 0},
    {"3-14B", "qwen3", 5120, 40, 40, 8, 128, 17408, 151936, false, 0, 0, 0, {0}, 14768307200, 14768307200, 0},
    {"3-32B", "qwen3", 5120, 64, 64, 8, 128, 25600, 151936, false, 0, 0, 0, {0}, 32762123264, 32762123264, 0},
};

static char path[] = "/tmp/test_plan_XXXXXX";

/* The config.json of a size, in the layout it is published in. */
static void write_config(const size_row *s)
{
    bool qwen3 = strstr(s->type, "qwen3") != NULL, nested = strcmp(s->type, VL3) == 0;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "{\"model_type\":\"%s\",\"tie_word_embeddings\":%s,%s", s->type, s->tied ? "true" : "false",
            nested ? "\"text_config\":{" : "");
    fprintf(f,
            "\"hidden_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,"
            "\"intermediate_size\":%d,\"vocab_size\":%d,\"rms_norm_eps\":1e-6,\"hidden_act\":\"silu\","
            "\"rope_theta\":1000000.0,\"max_position_embeddings\":32768",
            s->hidden, s->layers, s->heads, s->kv, s->inner, s->vocab);
    if (qwen3) fprintf(f, ",\"head_dim\":%d,\"attention_bias\":false", s->head_dim); /* else hidden / heads */
    if (nested)
        fputs(",\"rope_scaling\":{\"rope_type\":\"default\",\"mrope_section\":[24,20,20],\"mrope_interleaved\":true}}",
              f);
    else if (s->vision_depth)
        fputs(",\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[16,24,24]}", f);
    if (s->vision_depth) {
        fprintf(f,
                ",\"vision_config\":{\"depth\":%d,\"hidden_size\":%d,\"num_heads\":16,\"intermediate_size\":%d,"
                "\"out_hidden_size\":%d,\"temporal_patch_size\":2,\"spatial_merge_size\":2,",
                s->vision_depth, s->vision_hidden, s->vision_inner, s->hidden);
        if (nested)
            fprintf(f,
                    "\"patch_size\":16,\"num_position_embeddings\":2304,\"hidden_act\":\"gelu_pytorch_tanh\","
                    "\"in_channels\":3,\"deepstack_visual_indexes\":[%d,%d,%d]}",
                    s->deep[0], s->deep[1], s->deep[2]);
        else
            fputs("\"patch_size\":14,\"window_size\":112,\"fullatt_block_indexes\":[7,15,23,31],\"in_chans\":3,"
                  "\"tokens_per_second\":2,\"hidden_act\":\"silu\"}",
                  f);
    }
    fputs("}\n", f);
    fclose(f);
}

static json *plan(const char *options)
{
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "%s plan %s --json %s", CODEDANCE_EXE, path, options);
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    static char text[1 << 16];
    size_t n = fread(text, 1, sizeof text, f);
    assert_int_equal(pclose(f), 0);
    json *j = NULL;
    if (json_parse(&j, text, n, "plan") != ST_OK) fail_msg("%s", fail_message());
    return j;
}

/* 1, 8 and 64 ranks: the moments are shared out, the rest is everywhere. */
static void check_ranks(const json *j, int64_t params)
{
    static const int64_t count[] = {1, 8, 64};
    const json *ranks = json_get(j, "ranks");
    double acts = json_num(json_get(j, "activation_bytes")), kv = json_num(json_get(j, "kv_bytes"));
    assert_int_equal(json_len(ranks), 3);
    assert_true(acts > 0);
    for (int i = 0; i < 3; i++) {
        const json *r = json_at(ranks, i);
        double w = json_num(json_get(r, "weight_bytes")), g = json_num(json_get(r, "gradient_bytes")),
               o = json_num(json_get(r, "optimizer_bytes"));
        assert_int_equal(json_int(json_get(r, "ranks")), count[i]);
        assert_true(w == 4.0 * (double)params && g == w);
        assert_true(o >= 8.0 * (double)params / (double)count[i]); /* two moments in fp32 */
        assert_true(json_num(json_get(r, "total_bytes")) == w + g + o + acts + kv);
    }
}

static void published_sizes(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* the shadow of 290 GB of reserved memory doesn't fit */
#endif
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_row *s = &sizes[i];
        write_config(s);
        json *j = plan("");
        int64_t layer = strcmp(s->type, "qwen2") == 0 ? 12 : 11;
        int64_t tensors = s->tensors ? s->tensors : 2 + !s->tied + layer * s->layers;
        int64_t kv = (int64_t)s->layers * 2 * s->kv * s->head_dim * 2, vision = s->params - s->text;
        const int64_t want[] = {s->params, s->text, vision, tensors, 2 * s->params, 4 * s->params, kv};
        static const char *const key[] = {
            "parameters", "text", "vision", "tensors", "bytes_bf16", "bytes_fp32", "kv_bytes_per_token_bf16"};
        for (int k = 0; k < 7; k++)
            if (json_int(json_get(j, key[k])) != want[k])
                fail_msg("%s: %s is %lld, published %lld", s->name, key[k], (long long)json_int(json_get(j, key[k])),
                         (long long)want[k]);
        check_ranks(j, s->params);
        json_free(j);
    }
}

/* A CPU backend that adds up what is asked of it. */
static int64_t asked;
static status (*real_alloc)(backend *b, size_t bytes, void **out);
static status counting_alloc(backend *b, size_t bytes, void **out)
{
    asked += (int64_t)bytes;
    return real_alloc(b, bytes, out);
}

static void optimizer_line(void **state)
{
    (void)state;
    FILE *f = fopen(path, "w"); /* small enough to build for real */
    fprintf(
        f,
        "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":64,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"intermediate_size\":96,\"vocab_size\":300,"
        "\"tie_word_embeddings\":true,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,\"max_position_embeddings\":512,"
        "\"hidden_act\":\"silu\",\"bos_token_id\":1,\"eos_token_id\":2}\n");
    fclose(f);
    json *conf = NULL;
    model_config mc;
    if (json_read_file(&conf, path, 1 << 16) != ST_OK || model_config_from_json(&mc, conf) != ST_OK)
        fail_msg("%s", fail_message());
    json_free(conf);
    backend *b = NULL;
    assert_int_equal(backend_open_cpu(&b, 1, "auto"), ST_OK);
    model *m = NULL;
    assert_int_equal(model_create(&m, b, &mc, true), ST_OK);
    comm *one = NULL;
    assert_int_equal(comm_open_self(&one), ST_OK);
    real_alloc = b->alloc;
    b->alloc = counting_alloc;
    optim *x = NULL;
    optim_opts o = {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .grad_shards = 4};
    if (optim_create(&x, m, one, &o) != ST_OK) fail_msg("%s", fail_message());
    b->alloc = real_alloc;
    json *j = plan("--set optim_rl.grad_shards=4");
    double line = json_num(json_get(json_at(json_get(j, "ranks"), 0), "optimizer_bytes"));
    /* padding between tensors and the block sums of the norm are left out of the plan */
    assert_true((double)asked >= line && (double)asked < line + 65536);
    assert_int_equal(json_int(json_get(j, "parameters")), model_param_count(m));
    json_free(j);
    optim_destroy(x);
    model_destroy(m);
    comm_close(one);
    backend_close(b);
}

int main(void)
{
    if (access(CODEDANCE_EXE, X_OK) != 0) {
        printf("SKIP: %s is not built\n", CODEDANCE_EXE);
        return 77;
    }
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_sizes), cmocka_unit_test(optimizer_line)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    remove(path);
    return rc;
}
