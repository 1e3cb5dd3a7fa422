/* Weights in bf16 give the bits of fp32 weights that hold the same values: op by op on every instruction set and thread
 * count, and the whole model as loaded from one checkpoint both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/rng.h"
#include "data/file.h"
#include "data/hf.h"
#include "kernels/kernels.h"
#include "tests/common/tempdir.h"
#include "tests/common/trainee.h"

static const char *const isas[] = {"avx512", "avx2", "generic"};

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static float *normal(int64_t n, uint64_t what)
{
    float *p = malloc(((size_t)n + 1) * sizeof *p);
    assert_non_null(p);
    rng_key k = rng_make_key(1, RNG_TEST, what, 0, 0, 0);
    for (int64_t i = 0; i < n; i++) p[i] = rng_normal(k, (uint64_t)i);
    return p;
}

/* Rounds w to what bf16 holds and returns those halves. */
static uint16_t *round_all(float *w, int64_t n)
{
    uint16_t *h = malloc(((size_t)n + 1) * sizeof *h);
    assert_non_null(h);
    for (int64_t i = 0; i < n; i++) {
        h[i] = bf16_from_f32(w[i]);
        w[i] = f32_from_bf16(h[i]);
    }
    return h;
}

static void linear_shape(backend *b, int64_t rows, int64_t outputs, int64_t inputs, bool with_bias)
{
    float *x = normal(rows * inputs, 1), *w = normal(outputs * inputs, 2), *bias = normal(outputs, 3);
    float *y = malloc((size_t)(rows * outputs + 1) * 4), *want = malloc((size_t)(rows * outputs + 1) * 4);
    uint16_t *half = round_all(w, outputs * inputs);
    assert_non_null(y), assert_non_null(want);
    tensor tx = tensor_2d(x, DT_F32, rows, inputs), tb = tensor_1d(bias, DT_F32, outputs);
    tensor tw = tensor_2d(w, DT_F32, outputs, inputs), th = tensor_2d(half, DT_BF16, outputs, inputs);
    tensor ty = tensor_2d(y, DT_F32, rows, outputs), to = tensor_2d(want, DT_F32, rows, outputs);
    b->params_changed(b);
    y[rows * outputs] = want[rows * outputs] = 42; /* nobody writes behind the end */
    b->linear_fwd(b, &to, &tx, &tw, with_bias ? &tb : NULL);
    b->linear_fwd(b, &ty, &tx, &th, with_bias ? &tb : NULL);
    ok(b->sync(b));
    if (memcmp(y, want, (size_t)(rows * outputs + 1) * 4))
        fail_msg("%s: %lld x %lld x %lld differs", b->describe, (long long)rows, (long long)outputs, (long long)inputs);
    free(x), free(w), free(bias), free(y), free(want), free(half);
}

static void head_and_embedding(backend *b)
{
    enum { N = 21, V = 333, C = 70 };
    float *x = normal(N * C, 4), *w = normal(V * C, 5), rows[N * C], want_rows[N * C];
    float logp[2][N], lse[2][N], entropy[2][N], own[2][N];
    int32_t target[N], id[2][N];
    uint32_t key[4 * N];
    uint8_t ban[V] = {[7] = 1};
    uint16_t *half = round_all(w, V * C);
    for (int i = 0; i < N; i++) target[i] = i == 3 ? -1 : i * 13 % V;
    for (int i = 0; i < 4 * N; i++) key[i] = (uint32_t)i * 2654435761u;
    tensor tx = tensor_2d(x, DT_F32, N, C), tk = tensor_2d(key, DT_U32, N, 4), tb = tensor_1d(ban, DT_U8, V);
    tensor tt = tensor_1d(target, DT_I32, N);
    tensor tw[2] = {tensor_2d(w, DT_F32, V, C), tensor_2d(half, DT_BF16, V, C)};
    b->params_changed(b);
    for (int k = 0; k < 2; k++) {
        tensor tr = tensor_2d(k ? rows : want_rows, DT_F32, N, C);
        b->embed_fwd(b, &tr, &tw[k], &tt); /* -1: a zero row */
    }
    assert_memory_equal(rows, want_rows, sizeof rows);
    target[3] = 0;
    for (int k = 0; k < 2; k++) {
        tensor tl = tensor_1d(logp[k], DT_F32, N), te = tensor_1d(lse[k], DT_F32, N), ti = tensor_1d(id[k], DT_I32, N);
        tensor th = tensor_1d(entropy[k], DT_F32, N), to = tensor_1d(own[k], DT_F32, N);
        b->logprob_fwd(b, &tl, &te, &th, &tx, &tw[k], &tt, &tb, 0.7f);
        b->sample(b, &ti, &to, &tx, &tw[k], &tb, &tk, 0.7f);
    }
    ok(b->sync(b));
    assert_memory_equal(logp[0], logp[1], sizeof logp[0]);
    assert_memory_equal(lse[0], lse[1], sizeof lse[0]);
    assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
    assert_memory_equal(id[0], id[1], sizeof id[0]);
    assert_memory_equal(own[0], own[1], sizeof own[0]);
    free(x), free(w), free(half);
}

static void ops(void **state)
{
    (void)state;
    /* around every edge: 16 outputs a panel, 32 columns a turn, 512 columns a block, 64 outputs a task, 48 rows a step
     */
    static const int shape[][3] = {{1, 1, 1},     {1, 16, 32},     {1, 64, 512},  {2, 65, 513},
                                   {3, 15, 31},   {16, 129, 1030}, {49, 200, 33}, {1, 40, 2048},
                                   {5, 0, 7},     {97, 130, 600},  {4, 33, 95},   {6, 20, 64},
                                   {7, 64, 2049}, {8, 100, 257},   {9, 31, 40},   {400, 70, 520}};
    for (int i = 0; i < 3; i++) {
        if (!cpu_isa_has(isas[i])) continue;
        for (int threads = 1; threads <= 4; threads += 3) {
            backend *b = NULL;
            ok(backend_open_cpu(&b, threads, isas[i]));
            for (size_t s = 0; s < sizeof shape / sizeof *shape; s++)
                linear_shape(b, shape[s][0], shape[s][1], shape[s][2], s % 2);
            head_and_embedding(b);
            backend_close(b);
        }
    }
}

/* Every bit pattern of bf16 widens to itself: zeros, subnormals, infinities and NaN payloads. */
static void every_value(void **state)
{
    (void)state;
    static uint16_t half[65536];
    static float row[65536];
    int32_t zero = 0;
    for (int i = 0; i < 65536; i++) half[i] = (uint16_t)i;
    for (int k = 0; k < 3; k++) {
        if (!cpu_isa_has(isas[k])) continue;
        backend *b = NULL;
        ok(backend_open_cpu(&b, 1, isas[k]));
        tensor t = tensor_2d(half, DT_BF16, 1, 65536), r = tensor_2d(row, DT_F32, 1, 65536),
               z = tensor_1d(&zero, DT_I32, 1);
        b->embed_fwd(b, &r, &t, &z);
        for (uint32_t i = 0; i < 65536; i++) {
            uint32_t want = i << 16;
            assert_memory_equal(&row[i], &want, 4);
        }
        backend_close(b);
    }
}

static float *hidden(model *m, const packed *p)
{
    model_limits lim = packed_limits(p);
    model_acts *a = NULL;
    ok(model_acts_create(&a, m, &lim, false));
    tensor h = model_forward(m, a, &p->x);
    float *out = malloc(tensor_bytes(&h));
    assert_non_null(out);
    memcpy(out, h.data, tensor_bytes(&h));
    model_acts_destroy(a);
    return out;
}

static status round_tensor(void *ctx, const model_tensor *t)
{
    (void)ctx;
    float *w = t->w.data;
    for (int64_t i = 0; t->w.type == DT_F32 && i < tensor_count(&t->w); i++) w[i] = f32_from_bf16(bf16_from_f32(w[i]));
    return ST_OK;
}

static void whole_model(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        bool tied = kind % 2;
        model_config c = kind / 2 ? trainee_qwen3(tied, 4, 2, 2) : trainee_config(tied, 4, 2);
        packed p;
        trainee_batch(&p, &c);
        packed_all_rows(&p);
        backend *b = NULL;
        ok(backend_open_cpu(&b, 2, "auto"));
        model *full = NULL, *half = NULL;
        ok(model_create(&full, b, &c, false));
        ok(model_create_stored(&half, b, &c, DT_BF16));
        model_init(full, 9);
        ok(model_visit(full, round_tensor, NULL));
        b->params_changed(b);
        model_init(half, 9);
        ok(model_visit(half, round_tensor, NULL)); /* what stays in fp32 would come from a file in bf16 as well */
        assert_int_equal(model_param_count(full), model_param_count(half));
        float *h0 = hidden(full, &p), *h1 = hidden(half, &p);
        assert_memory_equal(h0, h1, (size_t)(p.x.n_row * c.hidden) * sizeof *h0);
        free(h0), free(h1);
        model_destroy(full);
        model_destroy(half);
        backend_close(b);
        packed_close(&p);
    }
}

/* ---- from a checkpoint, in place ---- */

static void write_as(model *m, const char *type)
{
    unlink(temppath("model.safetensors"));
    ok(hf_export(m, NULL, tempdir(), type));
}

static void shift_header(void)
{
    const char *path = temppath("model.safetensors");
    char *text = NULL;
    size_t n = 0;
    ok(file_read(path, &text, &n));
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint64_t head = 0;
    for (int i = 7; i >= 0; i--) head = head << 8 | (uint8_t)text[i];
    head++;
    for (int i = 0; i < 8; i++) fputc((int)(head >> 8 * i & 255), f);
    fwrite(text + 8, 1, (size_t)head - 1, f);
    fputc(' ', f);
    fwrite(text + 8 + head - 1, 1, n - 8 - (size_t)head + 1, f);
    fclose(f);
    free(text);
}

typedef struct places {
    int rows, odd;
} places;

static status same_rows(void *ctx, const model_tensor *t)
{
    const uint16_t *const *row = t->w.data;
    places *p = ctx;
    if (t->w.type != DT_BF16_ROWS) return ST_OK;
    for (int64_t i = 1; i < t->w.dim[0]; i++) assert_ptr_equal(row[i], row[0] + i * t->w.dim[1]);
    p->rows++;
    p->odd += (uintptr_t)row[0] % 2 != 0;
    return ST_OK;
}

/* However the file holds the values, a model in bf16 gives the bits of the fp32 model loaded from the same file. */
static void checkpoints(void **state)
{
    (void)state;
    static const char *const dtypes[] = {"bf16", "bf16", "fp32", "fp16"};
    backend *b = NULL;
    ok(backend_open_cpu(&b, 2, "auto"));
    for (int k = 0; k < 8; k++) {
        model_config c = trainee_config(k % 2, 4, 2);
        packed p;
        trainee_batch(&p, &c);
        packed_all_rows(&p);
        model *full = NULL, *rows = NULL, *half = NULL;
        ok(model_create(&full, b, &c, false));
        ok(model_create_stored(&rows, b, &c, DT_BF16_ROWS));
        ok(model_create_stored(&half, b, &c, DT_BF16));
        model_init(full, 9);
        ok(model_visit(full, round_tensor, NULL));
        write_as(full, dtypes[k / 2]);
        if (k / 2 == 1) shift_header(); /* odd addresses: such matrices are copied */
        ok(hf_load_weights(full, tempdir()));
        ok(model_visit(full, round_tensor, NULL)); /* of fp16 */
        b->params_changed(b);
        ok(hf_load_weights(rows, tempdir()));
        ok(hf_load_weights(rows, tempdir())); /* again: the first files are let go */
        ok(hf_load_weights(half, tempdir()));
        places at = {0};
        ok(model_visit(rows, same_rows, &at));
        assert_true(at.rows > 10 && at.odd == 0);
        float *h0 = hidden(full, &p), *h1 = hidden(rows, &p), *h2 = hidden(half, &p);
        assert_memory_equal(h0, h1, (size_t)(p.x.n_row * c.hidden) * sizeof *h0);
        assert_memory_equal(h0, h2, (size_t)(p.x.n_row * c.hidden) * sizeof *h0);
        free(h0), free(h1), free(h2);
        model_destroy(full);
        model_destroy(rows);
        model_destroy(half);
        packed_close(&p);
    }
    backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ops), cmocka_unit_test(every_value),
                                       cmocka_unit_test(whole_model), cmocka_unit_test(checkpoints)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
