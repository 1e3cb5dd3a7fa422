#include "kernels/cpu/cpu.h"

#include <stdint.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/status.h"
#include "core/thread.h"

/* 16 independent chains hide the latency of 4 cycles of two FMA pipes twice over. */
#define CHAINS 16

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f"), noinline)) static float loop512(int64_t n)
{
    __m512 acc[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_set1_ps((float)i);
    for (int64_t k = 0; k < n; k++) {
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_fmadd_ps(acc[i], x, y);
    }
    __asm__ volatile("" ::: "memory"); /* not a pure function: every call must be made */
    float sum = 0;
    for (int i = 0; i < CHAINS; i++) sum += _mm512_cvtss_f32(acc[i]);
    return sum;
}

__attribute__((target("avx2,fma"), noinline)) static float loop256(int64_t n)
{
    enum { N = 12 }; /* 16 registers: 12 chains, 2 constants */
    __m256 acc[N], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < N; i++) acc[i] = _mm256_set1_ps((float)i);
    for (int64_t k = 0; k < n; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < N; i++) acc[i] = _mm256_fmadd_ps(acc[i], x, y);
    }
    __asm__ volatile("" ::: "memory"); /* not a pure function: every call must be made */
    float sum = 0;
    for (int i = 0; i < N; i++) sum += _mm256_cvtss_f32(acc[i]);
    return sum;
}
#endif

typedef struct race {
    int64_t n;
    int lanes;
} race;

static void run(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const race *r = ctx;
    volatile float sink = 0; /* keeps the work */
    for (int i = begin; i < end; i++) {
#if defined(__x86_64__)
        if (r->lanes == 16 * CHAINS)
            sink = loop512(r->n);
        else if (r->lanes == 8 * 12)
            sink = loop256(r->n);
#endif
    }
    (void)sink;
}

double cpu_fma_peak(backend *b)
{
    cpu *c = cpu_of(b);
    race r = {.n = 200000};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        r.lanes = 16 * CHAINS;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        r.lanes = 8 * 12;
#endif
    if (r.lanes == 0) return 0;
    double best = 0;
    for (int i = 0; i < 20; i++) {
        double t = clock_now();
        thread_pool_for(c->pool, c->n_thread * 4, 1, run, &r);
        double rate = 2e-9 * (double)r.n * r.lanes * c->n_thread * 4 / (clock_now() - t);
        if (rate > best) best = rate;
    }
    return best;
}
