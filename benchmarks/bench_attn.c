/* Attention and sampling on the demo's sizes, beside the measured FMA peak.   bench_attn [threads] [isa] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "kernels/kernels.h"

enum { HEADS = 4, KV = 2, DIM = 32, WIDTH = (HEADS + 2 * KV) * DIM, OUT = HEADS * DIM, VOCAB = 341, HIDDEN = 128 };

static backend *b;
static double peak;

static tensor floats(int64_t rows, int64_t cols)
{
    float *p = malloc((size_t)(rows * cols) * sizeof *p);
    for (int64_t i = 0; i < rows * cols; i++) p[i] = (float)(i * 7919 % 1000) / 500 - 1;
    return tensor_2d(p, DT_F32, rows, cols);
}

static tensor ints(int64_t rows, int64_t cols, int32_t step) /* 0, step, 2 step, ... */
{
    int32_t *p = malloc((size_t)(rows * cols) * sizeof *p);
    for (int64_t i = 0; i < rows * cols; i++) p[i] = (int32_t)i * step;
    return tensor_2d(p, DT_I32, rows, cols);
}

static void line(const char *what, double seconds, double flops)
{
    printf("| %s | %.1f us | ", what, 1e6 * seconds);
    if (flops > 0)
        printf("%.0f GFLOP/s, %.2f of peak |\n", 1e-9 * flops / seconds, 1e-9 * flops / seconds / peak);
    else
        printf("- |\n");
}

/* Best of many: on a busy machine some runs go undisturbed. */
#define BEST(best, call)                \
    do {                                \
        best = 1e9;                     \
        for (int r = 0; r < 100; r++) { \
            double t_ = clock_now();    \
            call;                       \
            t_ = clock_now() - t_;      \
            if (t_ < best) best = t_;   \
        }                               \
    } while (0)

static void packed(int len, bool causal)
{
    attn_shape a = {HEADS, KV, DIM, 1 / sqrtf(DIM), causal};
    int seqs = 2048 / len, rows = seqs * len;
    tensor qkv = floats(rows, WIDTH), o = floats(rows, OUT), lse = floats(rows, HEADS), d = floats(rows, WIDTH);
    tensor cu = ints(seqs + 1, 1, len);
    double fwd, bwd, flops = 4.0 * rows * len * OUT * (causal ? 0.5 : 1);
    BEST(fwd, b->attn_fwd(b, &o, &lse, &qkv, &cu, &a));
    BEST(bwd, b->attn_bwd(b, &d, &o, &o, &lse, &qkv, &cu, &a));
    char what[80];
    snprintf(what, sizeof what, "%s forward, %d sequences of %d", causal ? "causal" : "window", seqs, len);
    line(what, fwd, flops);
    snprintf(what, sizeof what, "%s backward, same", causal ? "causal" : "window");
    line(what, bwd, 2.5 * flops);
    tensor *all[] = {&qkv, &o, &lse, &d, &cu};
    for (int i = 0; i < 5; i++) free(all[i]->data);
}

static void decode(int seqs, int ctx)
{
    attn_shape a = {HEADS, KV, DIM, 1 / sqrtf(DIM), true};
    int blocks = (ctx + ATTN_BLOCK - 1) / ATTN_BLOCK;
    tensor qkv = floats(seqs, WIDTH), o = floats(seqs, OUT), kv = floats((int64_t)seqs * blocks, kv_block_floats(&a));
    tensor table = ints(seqs, blocks, 1), cu = ints(seqs + 1, 1, 1), len = ints(seqs, 1, 0);
    for (int i = 0; i < seqs; i++) ((int32_t *)len.data)[i] = ctx;
    double t;
    BEST(t, b->attn_paged(b, &o, &qkv, &kv, &table, &cu, &len, &a));
    char what[80];
    snprintf(what, sizeof what, "paged decode, %d sequences, context %d", seqs, ctx);
    line(what, t, 4.0 * seqs * ctx * OUT);
    tensor *all[] = {&qkv, &o, &kv, &table, &cu, &len};
    for (int i = 0; i < 6; i++) free(all[i]->data);
}

static void sampling(int rows)
{
    tensor x = floats(rows, HIDDEN), w = floats(VOCAB, HIDDEN), logp = floats(rows, 1), id = ints(rows, 1, 0);
    tensor key = ints(rows, 4, 77777);
    key.type = DT_U32;
    double noisy, greedy;
    BEST(noisy, b->sample(b, &id, &logp, &x, &w, NULL, &key, 1));
    BEST(greedy, b->sample(b, &id, &logp, &x, &w, NULL, &key, 0));
    char what[80];
    snprintf(what, sizeof what, "sample %d rows, %d wide, vocabulary %d", rows, HIDDEN, VOCAB);
    line(what, noisy, 0);
    line("same, greedy (no noise)", greedy, 0);
    tensor *all[] = {&x, &w, &logp, &id, &key};
    for (int i = 0; i < 5; i++) free(all[i]->data);
}

int main(int argc, char **argv)
{
    if (backend_open_cpu(&b, argc > 1 ? atoi(argv[1]) : 1, argc > 2 ? argv[2] : "auto") != ST_OK) {
        fprintf(stderr, "bench_attn: %s\n", fail_message());
        return 1;
    }
    peak = b->peak_gflops(b);
    printf("%s; %d heads on %d kv heads of %d; FMA peak %.0f GFLOP/s\n\n| what | time | rate |\n|---|---|---|\n",
           b->describe, HEADS, KV, DIM, peak);
    packed(36, false);
    packed(100, true);
    packed(256, true);
    decode(1, 200);
    decode(32, 200);
    sampling(1);
    sampling(64);
    backend_close(b);
    return 0;
}
