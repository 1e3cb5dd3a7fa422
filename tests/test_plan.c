/* `codedance plan` reproduces the published sizes of Qwen2.5-VL exactly, and its optimizer line is what rl/optim.c
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
    const char *name;
    int hidden, layers, heads, kv, inner, vocab, vision_inner;
    bool tied;
    int64_t params, text, vision, tensors, bytes, kv_bytes;
} size_row;

/* Published: parameter totals, tensor counts and total_size of the checkpoints; KV bytes per token in bf16. */
static const size_row sizes[] = {
    {"3B", 2048, 36, 16, 2, 11008, 151936, 3420, true, 3754622976, 3085938688, 668684288, 824, 7509245952, 36864},
    {"7B", 3584, 28, 28, 4, 18944, 152064, 3420, false, 8292166656, 7615616512, 676550144, 729, 16584333312, 57344},
    {"32B", 5120, 64, 40, 8, 27648, 152064, 3456, false, 33452718336, 32763876352, 688841984, 1161, 66905436672,
     262144},
    {"72B", 8192, 80, 64, 8, 29568, 152064, 3456, false, 73410777344, 72706203648, 704573696, 1353, 146821554688,
     327680},
};

static char path[] = "/tmp/test_plan_XXXXXX";

static void write_config(const size_row *s)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(
        f,
        "{\"architectures\":[\"Qwen2_5_VLForConditionalGeneration\"],\"model_type\":\"qwen2_5_vl\",\"hidden_size\":%d,"
        "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"intermediate_size\":%d,"
        "\"vocab_size\":%d,\"tie_word_embeddings\":%s,\"rms_norm_eps\":1e-6,\"rope_theta\":1000000.0,"
        "\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[16,24,24]},\"max_position_embeddings\":128000,"
        "\"hidden_act\":\"silu\",\"image_token_id\":151655,\"video_token_id\":151656,\"vision_start_token_id\":151652,"
        "\"vision_end_token_id\":151653,\"bos_token_id\":151643,\"eos_token_id\":151645,\"vision_config\":{\"depth\":"
        "32,"
        "\"hidden_size\":1280,\"num_heads\":16,\"intermediate_size\":%d,\"out_hidden_size\":%d,\"patch_size\":14,"
        "\"spatial_patch_size\":14,\"temporal_patch_size\":2,\"spatial_merge_size\":2,\"window_size\":112,"
        "\"fullatt_block_indexes\":[7,15,23,31],\"tokens_per_second\":2,\"in_chans\":3,\"hidden_act\":\"silu\"}}\n",
        s->hidden, s->layers, s->heads, s->kv, s->inner, s->vocab, s->tied ? "true" : "false", s->vision_inner,
        s->hidden);
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
        assert_int_equal(json_int(json_get(j, "parameters")), s->params);
        assert_int_equal(json_int(json_get(j, "text")), s->text);
        assert_int_equal(json_int(json_get(j, "vision")), s->vision);
        assert_int_equal(json_int(json_get(j, "tensors")), s->tensors);
        assert_int_equal(json_int(json_get(j, "bytes_bf16")), s->bytes);
        assert_int_equal(json_int(json_get(j, "kv_bytes_per_token_bf16")), s->kv_bytes);
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
    size_row tiny = {"tiny", 64, 2, 4, 2, 96, 300, 0, true, 0, 0, 0, 0, 0, 0};
    write_config(&tiny);
    FILE *f = fopen(path, "w"); /* text only: small enough to build for real */
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
