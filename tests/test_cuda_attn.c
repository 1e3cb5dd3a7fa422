/* Attention of kernels/cuda in bf16: a row has the same bits whatever tile it was computed in, beside whatever other rows,
 * and from the cache. On a GPU where there is one, else SKIP; with --plugin on the stand-in of tests/cuda_emu. */
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

/* Segments of a batch: rows from ... to - 1 of the sequence. */
enum { LENGTH = 200, MOST = 32 };
typedef struct batch {
    int n, from[MOST], to[MOST];
} batch;

/* A sequence, what attn_fwd makes of it alone, and its cache, whose blocks lie in no order. */
enum { BLOCKS = 16, TABLE = (LENGTH + ATTN_BLOCK - 1) / ATTN_BLOCK };
typedef struct sequence {
    attn_shape a;
    uint16_t *qkv, *o;
    float *lse;
    tensor kv;
    int32_t table[TABLE];
} sequence;

static int64_t qkv_width(const attn_shape *a) { return (a->n_head + 2 * (int64_t)a->n_kv) * a->head_dim; }

static void *room(size_t bytes)
{
    void *p = malloc(bytes + 1);
    assert_non_null(p);
    memset(p, 0xff, bytes); /* NaN in every type */
    return p;
}

/* host NULL: NaN */
static tensor on_device(dtype type, int64_t rows, int64_t cols, const void *host)
{
    tensor t = tensor_2d(NULL, type, rows, cols);
    void *nan = room(tensor_bytes(&t));
    assert_int_equal(gpu->alloc(gpu, tensor_bytes(&t), &t.data), ST_OK);
    gpu->upload(gpu, &t, host ? host : nan);
    free(nan);
    return t;
}

static tensor list(int n, const int32_t *values)
{
    tensor t = on_device(DT_I32, n, 1, values);
    return tensor_1d(t.data, DT_I32, n);
}

static void drop(tensor *t) { gpu->release(gpu, t->data); }

static void *fetch(tensor *t)
{
    void *host = room(tensor_bytes(t));
    gpu->download(gpu, host, t);
    drop(t);
    return host;
}

/* The rows of a batch, and where its segments begin. */
static tensor gather(const sequence *q, const batch *b, int32_t cu[MOST + 1])
{
    size_t row = sizeof *q->qkv * (size_t)qkv_width(&q->a);
    char *host = room(MOST * LENGTH * row);
    cu[0] = 0;
    for (int s = 0; s < b->n; s++) {
        int n = b->to[s] - b->from[s];
        memcpy(host + (size_t)cu[s] * row, (char *)q->qkv + (size_t)b->from[s] * row, (size_t)n * row);
        cu[s + 1] = cu[s] + n;
    }
    tensor t = on_device(DT_BF16, cu[b->n], qkv_width(&q->a), host);
    free(host);
    return t;
}

/* Rows of `cols` elements of `size` bytes: those of segment s have the bytes of the sequence's. */
static void same_rows(const void *got, const void *want, const batch *b, int s, int first, size_t row, const char *what)
{
    for (int i = b->from[s]; i < b->to[s]; i++)
        if (memcmp((const char *)got + (size_t)(first + i - b->from[s]) * row, (const char *)want + (size_t)i * row, row) != 0)
            fail_msg("%s: row %d has other bits in segment %d of %d, rows %d to %d", what, i, s, b->n, b->from[s], b->to[s]);
}

/* attn_fwd over segments that all begin the sequence; with no mask only whole ones can be compared. */
static void forward(sequence *q, const batch *b)
{
    const attn_shape *a = &q->a;
    int32_t cu[MOST + 1];
    tensor rows = gather(q, b, cu), at = list(b->n + 1, cu);
    tensor o = on_device(DT_BF16, cu[b->n], (int64_t)a->n_head * a->head_dim, NULL);
    tensor lse = on_device(DT_F32, cu[b->n], a->n_head, NULL);
    gpu->attn_fwd(gpu, &o, &lse, &rows, &at, a);
    assert_int_equal(gpu->sync(gpu), ST_OK);
    uint16_t *got = fetch(&o);
    float *sums = fetch(&lse);
    drop(&rows), drop(&at);
    if (!q->o) {
        q->o = got, q->lse = sums;
        return;
    }
    for (int s = 0; s < b->n; s++) {
        if (!a->causal && b->to[s] < LENGTH) continue;
        same_rows(got, q->o, b, s, cu[s], sizeof *got * (size_t)(a->n_head * a->head_dim), "forward");
        same_rows(sums, q->lse, b, s, cu[s], sizeof *sums * (size_t)a->n_head, "sums");
    }
    free(got), free(sums);
}

/* attn_paged; segment `bad` (-1: none) has a block that does not exist: it is told, and the others are as ever. */
static void paged(const sequence *q, const batch *b, int bad)
{
    const attn_shape *a = &q->a;
    int32_t cu[MOST + 1], table[MOST * TABLE];
    for (int s = 0; s < b->n; s++) memcpy(table + s * TABLE, q->table, sizeof q->table);
    if (bad >= 0) table[bad * TABLE] = BLOCKS;
    tensor rows = gather(q, b, cu), at = list(b->n + 1, cu), ctx = list(b->n, b->to);
    tensor blocks = on_device(DT_I32, b->n, TABLE, table);
    tensor o = on_device(DT_BF16, cu[b->n], (int64_t)a->n_head * a->head_dim, NULL);
    gpu->attn_paged(gpu, &o, &rows, &q->kv, &blocks, &at, &ctx, a);
    assert_int_equal(gpu->sync(gpu) == ST_OK, bad < 0);
    uint16_t *got = fetch(&o);
    for (int s = 0; s < b->n; s++)
        if (s != bad) same_rows(got, q->o, b, s, cu[s], sizeof *got * (size_t)(a->n_head * a->head_dim), "from the cache");
    free(got);
    drop(&rows), drop(&at), drop(&ctx), drop(&blocks);
}

static const batch alone = {1, {0}, {LENGTH}};

static sequence open_sequence(int n_head, int n_kv, int head_dim, bool causal)
{
    sequence q = {.a = {n_head, n_kv, head_dim, 1.0f / sqrtf((float)head_dim), causal}};
    int64_t n = LENGTH * qkv_width(&q.a);
    rng_key k = rng_make_key((uint64_t)n, RNG_TEST, 0, 0, 0, 0);
    q.qkv = room((size_t)n * sizeof *q.qkv);
    for (int64_t i = 0; i < n; i++) q.qkv[i] = bf16_from_f32(rng_normal(k, (uint64_t)i));
    forward(&q, &alone);
    int32_t slot[LENGTH], cu[MOST + 1];
    for (int i = 0; i < TABLE; i++) q.table[i] = (7 * i + 3) % BLOCKS;
    for (int i = 0; i < LENGTH; i++) slot[i] = q.table[i / ATTN_BLOCK] * ATTN_BLOCK + i % ATTN_BLOCK;
    q.kv = on_device(DT_BF16, BLOCKS, kv_block_floats(&q.a), NULL);
    tensor rows = gather(&q, &alone, cu), to = list(LENGTH, slot);
    gpu->kv_store(gpu, &q.kv, &rows, &to, &q.a);
    drop(&rows), drop(&to);
    return q;
}

static void close_sequence(sequence *q)
{
    drop(&q->kv);
    free(q->qkv), free(q->o), free(q->lse);
}

/* Among others, that move its items to other places of a tile; and without the rows behind. */
static const batch packed = {5, {0, 0, 0, 0, 0}, {5, 0, LENGTH, 65, 1}};
/* Chunks of a prompt, each in a call of its own; contexts of all kinds in one. */
static const batch chunks[] = {{1, {0}, {64}}, {1, {64}, {65}}, {1, {65}, {150}}, {1, {150}, {LENGTH}}};
static const batch mixed = {4, {LENGTH - 1, 100, 0, 33}, {LENGTH, 163, 3, 34}};
static void check(int n_head, int n_kv, int head_dim)
{
    sequence q = open_sequence(n_head, n_kv, head_dim, true);
    forward(&q, &packed);
    device_thread_order(1);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) paged(&q, &chunks[i], -1);
    paged(&q, &mixed, -1);
    device_thread_order(0);
    /* One token at a time, `step` of them in a call. All rows: when a sum's last bit differs, hardly one in 2^16 outputs of
     * eight bits does. */
    for (int from = 0, step = 1; from < LENGTH; from += step, step = step % MOST + 1) {
        batch b = {.n = 0};
        for (; b.n < step && from + b.n < LENGTH; b.n++) b.from[b.n] = from + b.n, b.to[b.n] = from + b.n + 1;
        paged(&q, &b, -1);
    }
    close_sequence(&q);
}

static void test_groups(void **state)
{
    (void)state;
    static const int dims[] = {64, 80, 128}, groups[] = {1, 4, 7};
    for (int d = 0; d < 3; d++)
        for (int g = 0; g < 3; g++) check(groups[g], 1, dims[d]);
}

static void test_other_dims(void **state) /* zeros behind head_dim; two kv heads */
{
    (void)state;
    check(4, 2, 16);
    check(2, 2, 112);
}

static void test_no_mask(void **state)
{
    (void)state;
    sequence q = open_sequence(2, 2, 80, false);
    forward(&q, &packed);
    close_sequence(&q);
}

static void test_bad_block(void **state)
{
    (void)state;
    sequence q = open_sequence(4, 1, 64, true);
    paged(&q, &mixed, 1);
    paged(&q, &(batch){3, {0, 70, LENGTH - 1}, {1, 71, LENGTH}}, 2);
    close_sequence(&q);
}

int main(int argc, char **argv) /* [--plugin FILE] */
{
    device_gpu(&argc, argv);
    gpu = device_open(DT_BF16);
    printf("%s\n", gpu->describe);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_other_dims),
        cmocka_unit_test(test_no_mask),
        cmocka_unit_test(test_bad_block),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    backend_close(gpu);
    return failed;
}
