/* What export keeps of where a model came from: the names of its tensors, the text of its config, its dtype through a
 * run in fp32; and what it leaves out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "data/hf.h"
#include "kernels/kernels.h"
#include "tests/common/tempdir.h"
#include "tests/common/trainee.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

/* dir and rest in one of 8 rotating buffers. */
static const char *join(const char *dir, const char *rest)
{
    static char path[8][512];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s%s", dir, rest);
    return p;
}

static backend *open_cpu(void)
{
    backend *b = NULL;
    ok(backend_open_cpu(&b, 1, "auto"));
    return b;
}

static void same_text(const char *a, const char *b)
{
    size_t n, k;
    char *x = temp_read(a, &n), *y = temp_read(b, &k);
    if (n != k || memcmp(x, y, n) != 0) fail_msg("%s and %s differ", a, b);
    free(x), free(y);
}

/* Writes `from` again under the prefixes of transformers 4.52 and later in-memory names, norms in F32 if `mixed`, with
 * a repeated head and a stray buffer that a loader must not mind. */
static void disguise(const char *from, const char *to, bool mixed)
{
    enum { MOST = 256 };
    static char name[MOST][160];
    static st_entry e[MOST];
    float *wide[MOST] = {0};
    st_file *f = NULL;
    ok(st_open(&f, join(from, "/model.safetensors")));
    int n = st_count(f);
    assert_true(n + 2 < MOST);
    for (int i = 0; i < n; i++) {
        const st_tensor *t = st_at(f, i);
        bool visual = strncmp(t->name, "visual.", 7) == 0;
        snprintf(name[i], sizeof name[i], "%s%s", visual ? "model." : "model.language_model.",
                 visual ? t->name : t->name + strlen("model."));
        e[i] = (st_entry){.name = name[i], .dtype = t->dtype, .ndim = t->ndim, .data = t->data, .bytes = t->bytes};
        memcpy(e[i].shape, t->shape, sizeof t->shape);
        if (!mixed || t->ndim != 1) continue;
        wide[i] = malloc(2 * t->bytes);
        assert_non_null(wide[i]);
        for (size_t k = 0; k < t->bytes / 2; k++) wide[i][k] = f32_from_bf16(((const uint16_t *)t->data)[k]);
        e[i].dtype = "F32", e[i].data = wide[i], e[i].bytes = 2 * t->bytes;
    }
    for (int i = 0; i < n; i++)
        if (strstr(name[i], "embed_tokens")) e[n] = e[i];
    e[n].name = "lm_head.weight";
    e[n + 1] = (st_entry){"model.language_model.rotary_emb.inv_freq", "BF16", 1, {1}, "\0\0", 2};
    ok(st_write(join(to, "/model.safetensors"), e, n + 2, NULL));
    st_close(f);
    for (int i = 0; i < n; i++) free(wide[i]);
}

/* Every tensor of b is in a under the same name with the same bytes, but for those export leaves out. */
static void same_tensors(const char *a, const char *b, int left_out)
{
    st_file *x = NULL, *y = NULL;
    ok(st_open(&x, join(a, "/model.safetensors")));
    ok(st_open(&y, join(b, "/model.safetensors")));
    assert_int_equal(st_count(x), st_count(y) + left_out);
    for (int i = 0; i < st_count(y); i++) {
        const st_tensor *t = st_at(y, i), *s = st_find(x, t->name);
        if (!s) fail_msg("%s has no %s", a, t->name);
        if (strcmp(s->dtype, t->dtype) != 0 || s->bytes != t->bytes || memcmp(s->data, t->data, t->bytes) != 0)
            fail_msg("%s differs", t->name);
    }
    st_close(x);
    st_close(y);
}

static void a_run_gives_back_what_it_took(void **state)
{
    (void)state;
    backend *b = open_cpu();
    model_config c = trainee_config(true, 4, 2);
    model *m = NULL;
    ok(model_create(&m, b, &c, false));
    model_init(m, 3);
    for (int mixed = 0; mixed < 2; mixed++) {
        char src[256], run[256], out[256], own[256];
        snprintf(src, sizeof src, "%s", temppath("src%d", mixed));
        snprintf(run, sizeof run, "%s", temppath("run%d", mixed));
        snprintf(out, sizeof out, "%s", temppath("out%d", mixed));
        snprintf(own, sizeof own, "%s", temppath("own%d", mixed));
        size_t n;
        hf_exported done;
        ok(hf_export(m, NULL, own, "bf16"));
        /* a config with a text of its own: other order, unknown keys */
        char *config = temp_read(join(own, "/config.json"), &n), *brace = strchr(config, '{'), *long_text;
        assert_true(
            asprintf(&long_text, "{\n  \"x_note\": {\"dtype\": \"float8\"},   \"x\":\"\\u00e9\",%s", brace + 1) > 0);
        temp_text(join(src, "/config.json"), long_text);
        temp_text(join(src, "/tokenizer.json"), "{}\n");
        disguise(own, src, mixed);

        /* straight through: bytes are kept, each in its dtype */
        ok(hf_convert(src, temppath("copy%d", mixed), &(hf_export_opts){0}, &done));
        assert_string_equal(done.dtype, "bf16");
        same_tensors(src, temppath("copy%d", mixed), 2);
        same_text(join(src, "/config.json"), temppath("copy%d/config.json", mixed));

        /* a run: loaded, written as an fp32 checkpoint, that one again as its successor's */
        ok(hf_load_weights(m, src));
        ok(hf_export(m, src, run, "fp32"));
        ok(hf_export(m, run, join(run, "_next"), "fp32"));
        same_tensors(run, join(run, "_next"), 0);
        char *now = temp_read(join(run, "/config.json"), &n);
        assert_non_null(strstr(now, "\"float32\""));
        assert_null(strstr(now, "bfloat16"));
        assert_non_null(strstr(now, "{\"dtype\": \"float8\"},   \"x\":\"\\u00e9\""));
        ok(hf_convert(join(run, "_next"), out, &(hf_export_opts){0}, &done));
        assert_string_equal(done.dtype, "bf16");
        same_text(join(src, "/config.json"), join(out, "/config.json"));
        same_text(join(src, "/tokenizer.json"), join(out, "/tokenizer.json"));
        if (!mixed) same_tensors(src, out, 2);
        st_file *f = NULL;
        ok(st_open(&f, join(out, "/model.safetensors")));
        assert_null(st_metadata(f, "source_dtype")); /* it is what it is */
        assert_string_equal(st_metadata(f, "format"), "pt");
        st_close(f);
        free(config), free(long_text), free(now);
    }
    model_destroy(m);
    b->close(b);
}

static void half_precision(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) { /* every fp16 value comes back */
        float x = f32_from_f16((uint16_t)h);
        if (x == x) assert_int_equal(f16_from_f32(x), h);
        if (x != x) assert_true((f16_from_f32(x) & 0x7fff) > 0x7c00);
    }
    for (uint32_t h = 0; h < 0x7bff; h++) { /* between two: the nearer, a tie to the even one */
        double lo = f32_from_f16((uint16_t)h), hi = f32_from_f16((uint16_t)(h + 1)), mid = (lo + hi) / 2;
        assert_int_equal(f16_from_f32((float)mid), h & 1 ? h + 1 : h);
        float below, above;
        uint32_t bits;
        float at = (float)mid;
        memcpy(&bits, &at, 4);
        bits--;
        memcpy(&below, &bits, 4);
        bits += 2;
        memcpy(&above, &bits, 4);
        assert_int_equal(f16_from_f32(below), h);
        assert_int_equal(f16_from_f32(above), h + 1);
        assert_int_equal(f16_from_f32(-above), (h + 1) | 0x8000);
    }
    assert_int_equal(f16_from_f32(65519.996f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_from_f32(3e38f), 0x7c00);
}

static status make_huge(void *ctx, const model_tensor *t)
{
    (void)ctx;
    if (strstr(t->name, "layers.1.mlp.up_proj")) ((float *)t->w.data)[5] = 70000;
    return ST_OK;
}

static void too_large_for_fp16(void **state)
{
    (void)state;
    backend *b = open_cpu();
    model_config c = trainee_config(true, 4, 2);
    model *m = NULL;
    hf_exported done;
    ok(model_create(&m, b, &c, false));
    model_init(m, 3);
    ok(model_visit(m, make_huge, NULL));
    assert_int_equal(hf_export(m, NULL, temppath("huge16"), "fp16"), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "layers.1.mlp.up_proj.weight holds 70000"));
    ok(hf_export(m, NULL, temppath("huge"), "fp32"));
    assert_int_equal(hf_convert(temppath("huge"), temppath("huge16b"), &(hf_export_opts){.dtype = "fp16"}, &done),
                     ST_EINVAL);
    assert_false(hf_source_exists(temppath("huge16")));
    assert_false(hf_source_exists(temppath("huge16b")));
    model_destroy(m);
    b->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_gives_back_what_it_took),
                                       cmocka_unit_test(half_precision), cmocka_unit_test(too_large_for_fp16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
