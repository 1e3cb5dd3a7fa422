/* Products with weights in bf16 as they lie in a checkpoint, from 1 row (a decoding step) to a picture's: bench_bf16
 * [THREADS]. The weights are larger than any cache, so few rows are bound by reading them: GB/s of weights, beside the
 * rate at which the same threads just add them up; many rows by arithmetic: GFLOP/s, beside fp32 weights packed before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/thread.h"
#include "kernels/kernels.h"

enum { OUT = 22016, IN = 2048, MOST = 256 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const uint16_t *all;
static uint64_t sums[64];

static void add_up(void *ctx, int begin, int end, int thread)
{
    (void)ctx;
    const uint64_t *p = (const uint64_t *)(const void *)(all + (size_t)begin * IN);
    uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (size_t i = 0; i < (size_t)(end - begin) * IN / 4; i += 4)
        s0 += p[i], s1 += p[i + 1], s2 += p[i + 2], s3 += p[i + 3];
    sums[thread] += s0 + s1 + s2 + s3;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    backend *b = NULL;
    thread_pool *pool = NULL;
    if (backend_open_cpu(&b, threads, "auto") != ST_OK || thread_pool_create(&pool, threads) != ST_OK) return 1;
    uint16_t *half = aligned_alloc(64, (size_t)OUT * IN * 2), **row = malloc(OUT * sizeof *row);
    float *full = aligned_alloc(64, (size_t)OUT * IN * 4), *x = malloc((size_t)MOST * IN * 4);
    float *y = malloc((size_t)MOST * OUT * 4);
    if (!half || !row || !full || !x || !y) return 1;
    for (size_t i = 0; i < (size_t)OUT * IN; i++) {
        half[i] = bf16_from_f32((float)(i * 7 % 61) / 61 - 0.5f);
        full[i] = f32_from_bf16(half[i]);
    }
    for (int i = 0; i < OUT; i++) row[i] = half + (size_t)i * IN;
    for (int i = 0; i < MOST * IN; i++) x[i] = (float)(i % 13) / 13 - 0.5f;
    all = half;
    double bytes = 2.0 * OUT * IN, best = 1e9;
    for (int k = 0; k < 20; k++) {
        double t = now();
        thread_pool_for(pool, OUT, 64, add_up, NULL);
        if (now() - t < best) best = now() - t;
    }
    printf("adding the weights up: %.1f GB/s\n", bytes / best * 1e-9);
    static const int rows[] = {1, 2, 4, 8, 16, 64, 256};
    for (int i = 0; i < 7; i++) {
        int n = rows[i];
        tensor tx = tensor_2d(x, DT_F32, n, IN), ty = tensor_2d(y, DT_F32, n, OUT);
        tensor tw[] = {tensor_2d(row, DT_BF16_ROWS, OUT, IN), tensor_2d(full, DT_F32, OUT, IN)};
        double least[2] = {1e9, 1e9};
        for (int k = 0; k < 40; k++) {
            double t = now();
            b->linear_fwd(b, &ty, &tx, &tw[k % 2], NULL);
            if (now() - t < least[k % 2]) least[k % 2] = now() - t;
        }
        printf("%3d rows: bf16 %6.2f ms, %5.1f GB/s, %6.1f GFLOP/s; fp32 packed %6.2f ms, time ratio %.2f\n", n,
               1e3 * least[0], bytes / least[0] * 1e-9, bytes * n / least[0] * 1e-9, 1e3 * least[1],
               least[0] / least[1]);
    }
    return 0;
}
