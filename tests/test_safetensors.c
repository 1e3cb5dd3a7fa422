/* safetensors files, good and hostile, and Hugging Face directories: names, dtypes, shards, config layouts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "data/file.h"
#include "data/hf.h"
#include "kernels/kernels.h"
#include "tests/common/tempdir.h"
#include "tests/common/trainee.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static void refused(status st, const char *want)
{
    if (st == ST_OK) fail_msg("accepted; wanted an error with '%s'", want);
    if (!strstr(fail_message(), want)) fail_msg("'%s' does not say '%s'", fail_message(), want);
}

static backend *open_cpu(void)
{
    backend *b = NULL;
    ok(backend_open_cpu(&b, 1, "auto"));
    return b;
}

/* ---- the format ---- */

static status open_bytes(st_file **f, uint64_t header, const char *text, size_t n_data)
{
    uint8_t *bytes = calloc(1, 8 + strlen(text) + n_data);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(header >> 8 * i);
    memcpy(bytes + 8, text, strlen(text));
    for (size_t i = 0; i < n_data; i++) bytes[8 + strlen(text) + i] = (uint8_t)i;
    FILE *out = fopen(temppath("hostile"), "wb"); /* file_write would wait for the disk a thousand times */
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, 8 + strlen(text) + n_data, out), 8 + strlen(text) + n_data);
    fclose(out);
    free(bytes);
    return st_open(f, temppath("hostile"));
}

static void bad(const char *text, size_t n_data, const char *want)
{
    st_file *f = NULL;
    refused(open_bytes(&f, strlen(text), text, n_data), want);
    assert_null(f);
}

static void good(const char *text, size_t n_data, int count)
{
    st_file *f = NULL;
    ok(open_bytes(&f, strlen(text), text, n_data));
    assert_int_equal(st_count(f), count);
    st_close(f);
}

static void hostile_files(void **state)
{
    (void)state;
    st_file *f = NULL;
    refused(st_open(&f, temppath("absent")), "cannot open");
    refused(st_open(&f, tempdir()), "not a regular file");
    ok(file_write(temppath("hostile"), "abcd", 4));
    refused(st_open(&f, temppath("hostile")), "too short");
    refused(open_bytes(&f, 1000, "{}", 0), "header length 1000");
    refused(open_bytes(&f, UINT64_MAX, "{}", 0), "too large");
    refused(open_bytes(&f, 0, "{}", 0), "must start with {");
    assert_null(f);
    bad("[]", 0, "must start with {");
    bad(" {}", 0, "must start with {");
    bad("{\"a\":", 0, "hostile");
    bad("{}", 1, "bytes after the last tensor");

    good("{}", 0, 0);
    good("{\"__metadata__\":{\"format\":\"pt\"}}   ", 0, 0);
    good("{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1);
    good("{\"a\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]}}", 0, 1);
    good("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[2,5]},\"a\":{\"dtype\":\"BF16\",\"shape\":[1],"
         "\"data_offsets\":[0,2]}}",
         5, 2);

    bad("{\"__metadata__\":{\"format\":1}}", 0, "must be a string");
    bad("{\"__metadata__\":[]}", 0, "must be an object");
    bad("{\"a\":1}", 0, "exactly dtype, shape and data_offsets");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "exactly");
    bad("{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype F31");
    bad("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "no shape");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "at most 8");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "bad dimension");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "bad dimension");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "too large");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "shape and dtype need 8");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4, "data_offsets");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "data_offsets");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "data_offsets");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4, "outside the file");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "leaves a hole");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[2,6]}}",
        6, "overlaps");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[0,4]}}",
        4, "overlaps");
    bad("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[5,9]}}",
        9, "leaves a hole");
    bad("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
        "\"data_offsets\":[1,2]}}",
        2, "hostile");
}

/* Every byte of a good header replaced by every interesting one: never a crash, and what opens is consistent. */
static void mutated_headers(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"U8\","
        "\"shape\":[],\"data_offsets\":[8,9]}}";
    static const char put[] = "0189-,:[]{}\"\\ e.\x80";
    char copy[sizeof text];
    for (size_t i = 0; i + 1 < sizeof text; i++)
        for (size_t k = 0; k + 1 < sizeof put; k++) {
            st_file *f = NULL;
            memcpy(copy, text, sizeof text);
            copy[i] = put[k];
            if (open_bytes(&f, sizeof text - 1, copy, 9) != ST_OK) continue;
            size_t total = 0;
            for (int t = 0; t < st_count(f); t++) total += st_at(f, t)->bytes;
            assert_int_equal(total, 9);
            st_close(f);
        }
}

static status ramp(void *ctx, int i, size_t at, void *buf, size_t n)
{
    (void)ctx;
    for (size_t k = 0; k < n; k++) ((uint8_t *)buf)[k] = (uint8_t)((at + k) * 31 + (size_t)i);
    return ST_OK;
}

static void write_and_read(void **state)
{
    (void)state;
    enum { BIG = 200000 };
    static const float x[6] = {1, -2, 3, 4, 5, 6};
    static const uint16_t h[3] = {0x3f80, 0, 0xbf80};
    const st_entry e[] = {{"zeta", "U8", 1, {BIG}, NULL, BIG},
                          {"half", "BF16", 1, {3}, h, sizeof h},
                          {"one", "F32", 2, {2, 3}, x, sizeof x},
                          {"nothing", "F32", 2, {0, 4}, NULL, 0}};
    ok(st_write_filled(temppath("w"), e, 4, (const char *const[]){"step", "7", NULL}, ramp, NULL));
    st_file *f = NULL;
    ok(st_open(&f, temppath("w")));
    assert_string_equal(st_metadata(f, "format"), "pt");
    assert_string_equal(st_metadata(f, "step"), "7");
    assert_null(st_metadata(f, "other"));
    assert_int_equal(st_count(f), 4);
    const st_tensor *t = st_find(f, "one");
    assert_int_equal((uintptr_t)t->data % 4, 0);
    assert_memory_equal(t->data, x, sizeof x);
    assert_int_equal(t->shape[1], 3);
    assert_memory_equal(st_find(f, "half")->data, h, sizeof h);
    const uint8_t *z = st_find(f, "zeta")->data;
    for (size_t i = 0; i < BIG; i++) assert_int_equal(z[i], (uint8_t)(i * 31));
    assert_null(st_find(f, "zet"));
    st_close(f);
    assert_int_not_equal(access(temppath("w.tmp"), F_OK), 0);
    refused(st_write(temppath("no/such/place"), e + 1, 1, NULL), "cannot create");
}

/* ---- model directories ---- */

static model *random_model(backend *b, const model_config *c, uint64_t seed)
{
    model *m = NULL;
    ok(model_create(&m, b, c, false));
    model_init(m, seed);
    return m;
}

static bool equal_weights(const model *a, const model *b)
{
    tensor x = model_params(a), y = model_params(b);
    return x.dim[0] == y.dim[0] && !memcmp(x.data, y.data, tensor_bytes(&x));
}

static void export_and_load(void **state)
{
    (void)state;
    backend *b = open_cpu();
    for (int tied = 0; tied < 2; tied++) {
        model_config c = trainee_config(tied, 4, 2), back;
        model *m = random_model(b, &c, 1), *n = random_model(b, &c, 2);
        ok(hf_export(m, NULL, temppath("deep/er/f32"), "fp32"));
        ok(hf_load_config(&back, temppath("deep/er/f32")));
        assert_memory_equal(&back, &c, sizeof c);
        assert_false(equal_weights(m, n));
        ok(hf_load_weights(n, temppath("deep/er/f32")));
        assert_true(equal_weights(m, n));

        ok(hf_export(m, NULL, temppath("bf16"), "bf16"));
        ok(hf_load_weights(n, temppath("bf16")));
        tensor x = model_params(m), y = model_params(n);
        for (int64_t i = 0; i < x.dim[0]; i++)
            assert_true(((float *)y.data)[i] == f32_from_bf16(bf16_from_f32(((float *)x.data)[i])));
        ok(hf_export(n, temppath("bf16"), temppath("again"), "bf16")); /* load and save: the same bytes */
        char *one = NULL, *two = NULL;
        size_t n_one = 0, n_two = 0;
        for (int k = 0; k < 2; k++) {
            const char *name = k ? "config.json" : "model.safetensors";
            ok(file_read(temppath("bf16/%s", name), &one, &n_one));
            ok(file_read(temppath("again/%s", name), &two, &n_two));
            assert_int_equal(n_one, n_two);
            assert_memory_equal(one, two, n_one);
            free(one), free(two);
        }
        model_destroy(m);
        model_destroy(n);
    }
    b->close(b);
}

/* Copies a file's tensors under other names into entries the caller changes before writing. */
typedef struct renamed {
    st_file *f;
    st_entry e[256];
    char name[256][160];
    int n;
} renamed;

static void rename_open(renamed *r, const char *from, const char *const (*prefix)[2])
{
    r->f = NULL;
    ok(st_open(&r->f, from));
    r->n = st_count(r->f);
    for (int i = 0; i < r->n; i++) {
        const st_tensor *t = st_at(r->f, i);
        snprintf(r->name[i], sizeof r->name[i], "%s", t->name);
        for (int k = 0; prefix && prefix[k][0]; k++) {
            size_t len = strlen(prefix[k][0]);
            if (strncmp(t->name, prefix[k][0], len)) continue;
            snprintf(r->name[i], sizeof r->name[i], "%s%s", prefix[k][1], t->name + len);
            break;
        }
        r->e[i] =
            (st_entry){.name = r->name[i], .dtype = t->dtype, .ndim = t->ndim, .data = t->data, .bytes = t->bytes};
        memcpy(r->e[i].shape, t->shape, sizeof t->shape);
    }
}

static st_entry *entry(renamed *r, const char *name)
{
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->e[i].name, name)) return &r->e[i];
    fail_msg("no entry %s", name);
    return NULL;
}

static void drop(renamed *r, const char *name)
{
    *entry(r, name) = r->e[r->n - 1];
    r->n--;
}

static void every_prefix(void **state)
{
    (void)state;
    static const char *const since_4_52[][2] = {
        {"model.", "model.language_model."}, {"visual.", "model.visual."}, {NULL, NULL}};
    static const char *const base[][2] = {{"model.", "language_model."}, {NULL, NULL}};
    backend *b = open_cpu();
    model_config c = trainee_config(false, 4, 2);
    model *m = random_model(b, &c, 1), *n = random_model(b, &c, 2);
    static renamed r;
    ok(hf_export(m, NULL, temppath("src"), "fp32"));
    ok(file_make_dir(temppath("dst")));
    for (int k = 0; k < 2; k++) {
        rename_open(&r, temppath("src/model.safetensors"), k ? base : since_4_52);
        r.e[r.n++] = (st_entry){"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 1, {1}, r.e[0].data, 4};
        ok(st_write(temppath("dst/model.safetensors"), r.e, r.n, NULL));
        st_close(r.f);
        model_init(n, 2);
        ok(hf_load_weights(n, temppath("dst")));
        assert_true(equal_weights(m, n));
    }
    model_destroy(m);
    model_destroy(n);
    b->close(b);
}

static void wrong_tensors(void **state)
{
    (void)state;
    backend *b = open_cpu();
    model_config c = trainee_config(false, 4, 2);
    model *m = random_model(b, &c, 1), *n = random_model(b, &c, 2), *untouched = random_model(b, &c, 2);
    static renamed r;
    ok(hf_export(m, NULL, temppath("src"), "fp32"));
    for (int k = 0; k < 7; k++) {
        static const char *const want[] = {"1 missing tensor: model.norm.weight",
                                           "lm_head.weight (config.json says tie_word_embeddings false)",
                                           "1 unexpected tensor: extra",
                                           "model.norm.weight is [6,2] but config.json makes it [12]",
                                           "model.norm.weight is I32; F32, BF16 and F16 can be read",
                                           "norm.weight appears twice, also as model.",
                                           "20 missing tensors"};
        rename_open(&r, temppath("src/model.safetensors"), NULL);
        st_entry *norm = entry(&r, "model.norm.weight");
        if (k == 0) drop(&r, "model.norm.weight");
        if (k == 1) drop(&r, "lm_head.weight");
        if (k == 2) r.e[r.n++] = (st_entry){"extra", "F32", 1, {1}, norm->data, 4};
        if (k == 3) norm->ndim = 2, norm->shape[0] = 6, norm->shape[1] = 2;
        if (k == 4) norm->dtype = "I32";
        if (k == 5) r.e[r.n] = *norm, r.e[r.n++].name = "model.language_model.norm.weight";
        for (int i = 0; k == 6 && i < 20; i++) r.n--;
        ok(file_make_dir(temppath("dst")));
        ok(st_write(temppath("dst/model.safetensors"), r.e, r.n, NULL));
        st_close(r.f);
        refused(hf_load_weights(n, temppath("dst")), want[k]);
        assert_true(equal_weights(n, untouched));
    }
    unlink(temppath("dst/model.safetensors"));
    refused(hf_load_weights(n, temppath("dst")), "neither");
    model_destroy(m);
    model_destroy(n);
    model_destroy(untouched);
    b->close(b);
}

static void tied_head(void **state)
{
    (void)state;
    backend *b = open_cpu();
    model_config c = trainee_config(true, 4, 2);
    model *m = random_model(b, &c, 1), *n = random_model(b, &c, 2);
    static renamed r;
    ok(hf_export(m, NULL, temppath("src"), "fp32"));
    rename_open(&r, temppath("src/model.safetensors"), NULL);
    r.e[r.n] = *entry(&r, "model.embed_tokens.weight");
    r.e[r.n++].name = "lm_head.weight";
    ok(file_make_dir(temppath("dst")));
    ok(st_write(temppath("dst/model.safetensors"), r.e, r.n, NULL));
    ok(hf_load_weights(n, temppath("dst")));
    assert_true(equal_weights(m, n));
    float *other = calloc(1, r.e[r.n - 1].bytes);
    r.e[r.n - 1].data = other;
    ok(st_write(temppath("dst/model.safetensors"), r.e, r.n, NULL));
    refused(hf_load_weights(n, temppath("dst")), "tie_word_embeddings true but lm_head.weight differs");
    free(other);
    st_close(r.f);
    model_destroy(m);
    model_destroy(n);
    b->close(b);
}

static void write_index(const char *map)
{
    char text[65536];
    int n = snprintf(text, sizeof text, "{\"metadata\":{\"total_size\":1},\"weight_map\":{%s}}", map);
    ok(file_write(temppath("shards/model.safetensors.index.json"), text, (size_t)n));
}

static void shards(void **state)
{
    (void)state;
    static const char *const files[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    backend *b = open_cpu();
    model_config c = trainee_config(false, 4, 2);
    model *m = random_model(b, &c, 1), *n = random_model(b, &c, 2);
    static renamed r;
    static char map[60000], part[60000];
    ok(hf_export(m, NULL, temppath("src"), "fp32"));
    rename_open(&r, temppath("src/model.safetensors"), NULL);
    ok(file_make_dir(temppath("shards")));
    for (int k = 0; k < 2; k++) {
        int first = k ? r.n / 2 : 0, end = k ? r.n : r.n / 2;
        ok(st_write(temppath("shards/%s", files[k]), r.e + first, end - first, NULL));
        for (int i = first; i < end; i++) {
            if (i == 1) snprintf(part, sizeof part, "%s", map); /* what was mapped so far: one tensor */
            size_t used = strlen(map);
            snprintf(map + used, sizeof map - used, "%s\"%s\":\"%s\"", i ? "," : "", r.e[i].name, files[k]);
        }
    }
    st_close(r.f);
    write_index(map);
    ok(hf_load_weights(n, temppath("shards")));
    assert_true(equal_weights(m, n));
    refused(hf_export(m, NULL, temppath("shards"), "fp32"), "already holds other weights");

    write_index(part);
    refused(hf_load_weights(n, temppath("shards")), "is not mapped to it");
    size_t used = strlen(map);
    snprintf(map + used, sizeof map - used, ",\"ghost\":\"%s\"", files[0]);
    write_index(map);
    refused(hf_load_weights(n, temppath("shards")), "ghost is not in");
    write_index("\"a\":\"../src/model.safetensors\"");
    refused(hf_load_weights(n, temppath("shards")), "must be a plain name");
    write_index("\"a\":\"absent.safetensors\"");
    refused(hf_load_weights(n, temppath("shards")), "cannot open");
    write_index("\"a\":1");
    refused(hf_load_weights(n, temppath("shards")), "no file name");
    ok(file_write(temppath("shards/model.safetensors.index.json"), "{}", 2));
    refused(hf_load_weights(n, temppath("shards")), "weight_map is missing");
    ok(file_copy(temppath("src"), temppath("shards"), "model.safetensors"));
    refused(hf_load_weights(n, temppath("shards")), "remove the stale one");
    model_destroy(m);
    model_destroy(n);
    b->close(b);
}

static void side_files(void **state)
{
    (void)state;
    backend *b = open_cpu();
    model_config c = trainee_config(true, 4, 2);
    model *m = random_model(b, &c, 1);
    char *text = NULL;
    size_t n = 0;
    ok(hf_export(m, NULL, temppath("from"), "fp32"));
    ok(file_write(temppath("from/tokenizer.json"), "{\"x\":1}\n", 8));
    ok(file_write(temppath("from/notes.txt"), "private", 7));
    ok(file_read(temppath("from/config.json"), &text, &n));
    text[n - 2] = ' '; /* before the closing brace: the same model, other bytes */
    ok(file_write(temppath("from/config.json"), text, n));
    ok(hf_export(m, temppath("from"), temppath("to"), "fp32"));
    assert_true(file_exists(temppath("to"), "tokenizer.json"));
    assert_false(file_exists(temppath("to"), "notes.txt"));
    char *copy = NULL;
    size_t n_copy = 0;
    ok(file_read(temppath("to/config.json"), &copy, &n_copy));
    assert_int_equal(n, n_copy);
    assert_memory_equal(copy, text, n);
    free(text), free(copy);
    model_config back;
    ok(hf_export(m, temppath("from"), temppath("to16"), "bf16")); /* another dtype: a config of our own */
    ok(hf_load_config(&back, temppath("to16")));
    assert_memory_equal(&back, &c, sizeof c);
    ok(hf_export(m, temppath("from"), temppath("from"), "fp32")); /* onto itself */
    refused(hf_export(m, NULL, temppath("to"), "f64"), "fp32, bf16 or fp16");
    model_destroy(m);
    b->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files),   cmocka_unit_test(mutated_headers), cmocka_unit_test(write_and_read),
        cmocka_unit_test(export_and_load), cmocka_unit_test(every_prefix),    cmocka_unit_test(wrong_tensors),
        cmocka_unit_test(tied_head),       cmocka_unit_test(shards),          cmocka_unit_test(side_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
