/* Matrix products of kernels/cuda in bf16: a row's bits depend on nothing but the row, whatever tile it was computed in;
 * bf16 copies of fp32 weights follow their originals. On a GPU where there is one, else SKIP; with --plugin on the
 * stand-in of tests/cuda_emu. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "tests/common/device.h"

static backend *gpu;

/* A matrix on the device: normal values if seed, else NaN. */
static tensor matrix(dtype type, int64_t rows, int64_t cols, uint64_t seed)
{
    tensor t = tensor_2d(NULL, type, rows, cols);
    void *host = malloc(tensor_bytes(&t));
    assert_non_null(host);
    rng_key k = rng_make_key(seed, RNG_TEST, 0, 0, 0, 0);
    for (int64_t i = 0; i < rows * cols; i++) {
        float x = seed ? rng_normal(k, (uint64_t)i) : NAN;
        if (type == DT_F32)
            ((float *)host)[i] = x;
        else
            ((uint16_t *)host)[i] = bf16_from_f32(x);
    }
    assert_int_equal(gpu->alloc(gpu, tensor_bytes(&t), &t.data), ST_OK);
    gpu->upload(gpu, &t, host);
    free(host);
    return t;
}

static void *host_of(const tensor *t)
{
    void *host = malloc(tensor_bytes(t));
    assert_non_null(host);
    gpu->download(gpu, host, t);
    return host;
}

static void same(const tensor *a, const tensor *b) /* the bytes of a begin those of b */
{
    assert_int_equal(gpu->sync(gpu), ST_OK);
    void *x = host_of(a), *y = host_of(b);
    assert_memory_equal(x, y, tensor_bytes(a));
    free(x);
    free(y);
}

static void drop(tensor *t)
{
    gpu->release(gpu, t->data);
    t->data = NULL;
}

/* Enough rows and columns for the largest tiles even on a GPU of 150 multiprocessors; then the same rows a few at a
 * time, in smaller tiles. DEPTH: several steps of each, the last one ragged. */
enum { ROWS = 2100, COLS = 1100, DEPTH = 136 };
static const int64_t some[] = {64, 40, 16, 3, 1};
enum { N_SOME = sizeof some / sizeof *some };

static void test_rows(void **state)
{
    (void)state;
    for (int down = 0; down < 2; down++) { /* linear_fwd, linear_dx */
        tensor x = matrix(DT_BF16, ROWS, DEPTH, 1), w = matrix(DT_BF16, down ? DEPTH : COLS, down ? COLS : DEPTH, 2);
        tensor bias = matrix(DT_F32, 1, COLS, 3), y = matrix(DT_BF16, ROWS, COLS, 0);
        if (down)
            gpu->linear_dx(gpu, &y, &x, &w);
        else
            gpu->linear_fwd(gpu, &y, &x, &w, &bias);
        for (int i = 0; i < N_SOME; i++) {
            int64_t first = 128 - some[i] / 2; /* on both sides of a border between tiles */
            tensor xs = tensor_rows(&x, first, some[i]), ys = tensor_rows(&y, first, some[i]);
            tensor mine = matrix(DT_BF16, some[i], COLS, 0);
            if (down)
                gpu->linear_dx(gpu, &mine, &xs, &w);
            else
                gpu->linear_fwd(gpu, &mine, &xs, &w, &bias);
            same(&mine, &ys);
            drop(&mine);
        }
        drop(&x), drop(&w), drop(&bias), drop(&y);
    }
}

/* dw: its rows are columns of dy. */
static void test_dw(void **state)
{
    (void)state;
    tensor dy = matrix(DT_BF16, DEPTH, ROWS, 4), x = matrix(DT_BF16, DEPTH, COLS, 5), dw = matrix(DT_F32, ROWS, COLS, 6);
    gpu->linear_dw(gpu, &dw, NULL, &dy, &x);
    uint16_t *all = host_of(&dy);
    for (int i = 0; i < N_SOME; i++) {
        tensor part = matrix(DT_BF16, DEPTH, some[i], 0), mine = matrix(DT_F32, some[i], COLS, 6);
        uint16_t *few = host_of(&part);
        for (int64_t k = 0; k < DEPTH; k++)
            memcpy(few + k * some[i], all + k * ROWS, (size_t)some[i] * sizeof *few);
        gpu->upload(gpu, &part, few);
        free(few);
        gpu->linear_dw(gpu, &mine, NULL, &part, &x);
        same(&mine, &dw);
        drop(&part), drop(&mine);
    }
    free(all);
    drop(&dy), drop(&x), drop(&dw);
}

static void expect(tensor *y, const tensor *x, const tensor *w, const tensor *rounded)
{
    tensor want = matrix(DT_BF16, y->dim[0], y->dim[1], 0);
    gpu->linear_fwd(gpu, y, x, w, NULL);
    gpu->linear_fwd(gpu, &want, x, rounded, NULL);
    same(y, &want);
    gpu->release(gpu, want.data);
}

static void test_copies(void **state)
{
    (void)state;
    tensor x = matrix(DT_BF16, 2, 24, 7), w = matrix(DT_F32, 40, 24, 8), y = matrix(DT_BF16, 2, 40, 0);
    tensor old = matrix(DT_BF16, 40, 24, 8), new = matrix(DT_BF16, 40, 24, 9), other = matrix(DT_F32, 40, 24, 9);
    expect(&y, &x, &w, &old);
    tensor part = tensor_rows(&w, 5, 9), part_old = tensor_rows(&old, 5, 9), yp = matrix(DT_BF16, 2, 9, 0);
    expect(&yp, &x, &part, &part_old);
    gpu->linear_fwd(gpu, &y, &x, &w, NULL); /* the copy is there */
    float *values = host_of(&other);
    gpu->upload(gpu, &w, values);
    expect(&y, &x, &w, &new); /* an upload is seen */
    gpu->linear_fwd(gpu, &y, &x, &w, NULL);
    gpu->fill(gpu, &w, 0.0f);
    gpu->axpy(gpu, &w, 1.0f, &other);
    tensor last = tensor_rows(&w, 39, 1);
    gpu->fill(gpu, &last, 0.5f);
    gpu->params_changed(gpu);
    tensor new_last = tensor_rows(&new, 39, 1);
    gpu->fill(gpu, &new_last, 0.5f);
    expect(&y, &x, &w, &new); /* and what an optimizer wrote */
    drop(&w);
    w = matrix(DT_F32, 40, 24, 8); /* likely the same memory */
    expect(&y, &x, &w, &old);
    free(values);
    drop(&x), drop(&w), drop(&y), drop(&old), drop(&new), drop(&other), drop(&yp);
}

int main(int argc, char **argv) /* [--plugin FILE] */
{
    device_gpu(&argc, argv);
    gpu = device_open(DT_BF16);
    printf("%s\n", gpu->describe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_dw),
        cmocka_unit_test(test_copies),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(gpu);
    return failed;
}
