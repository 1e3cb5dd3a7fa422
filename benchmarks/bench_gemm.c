/* Our three matrix products on the demo's shapes beside oneDNN's matmul (if its library is on this machine) and the
 * measured FMA peak, all in one run.   bench_gemm [threads] [seconds per figure] [isa] */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "kernels/kernels.h"

#if __has_include(<oneapi/dnnl/dnnl.h>)
#include <oneapi/dnnl/dnnl.h>
#if DNNL_VERSION_MAJOR == 2
#define HAVE_DNNL 1
#endif
#endif

static const int shapes[][2] = {{128, 128}, {256, 128}, {640, 128}, {128, 320}, {96, 1176},
                                {384, 384}, {128, 384}, {341, 128}, {288, 96}}; /* outputs, inputs */
static const int batch[] = {1, 4, 8, 16, 64, 256, 2048};
enum { SHAPES = sizeof shapes / sizeof *shapes, BATCHES = sizeof batch / sizeof *batch };

static double seconds = 0.02;
static backend *b;

typedef struct work {
    tensor x, w, y, dx, dw;
    int kind;
    void *primitive; /* of oneDNN */
} work;
enum { FWD, DX, DW, PEER };

#ifdef HAVE_DNNL
/* Everything by dlsym, so that the benchmark runs without the library. */
#define DNNL(X)                                                                                                  \
    X(dnnl_engine_create)                                                                                        \
    X(dnnl_stream_create)                                                                                        \
    X(dnnl_memory_desc_init_by_strides)                                                                          \
    X(dnnl_matmul_desc_init) X(dnnl_memory_desc_init_by_tag) X(dnnl_primitive_desc_create)                       \
        X(dnnl_primitive_desc_query_md) X(dnnl_memory_create) X(dnnl_primitive_create) X(dnnl_primitive_execute) \
            X(dnnl_stream_wait) X(dnnl_reorder_primitive_desc_create) X(dnnl_memory_destroy) X(dnnl_primitive_destroy)
#define DECLARE(f) static __typeof__(&f) p_##f;
DNNL(DECLARE)
static dnnl_engine_t engine;
static dnnl_stream_t stream;

typedef struct peer {
    dnnl_primitive_t matmul;
    dnnl_memory_t src, weights, dst;
} peer;

static bool peer_open(int threads)
{
    char count[16];
    snprintf(count, sizeof count, "%d", threads);
    setenv("OMP_NUM_THREADS", count, 1); /* read when the library loads */
    void *lib = dlopen("libdnnl.so.2", RTLD_NOW);
    if (!lib) return false;
#define FIND(f)                        \
    *(void **)&p_##f = dlsym(lib, #f); \
    if (!p_##f) return false;
    DNNL(FIND)
    return p_dnnl_engine_create(&engine, dnnl_cpu, 0) == 0 &&
           p_dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) == 0;
}

/* y = x w^T with w packed once into the layout oneDNN likes best: its fastest use. */
static bool peer_make(peer *p, const work *k)
{
    dnnl_dim_t m = k->x.dim[0], n = k->w.dim[0], d = k->w.dim[1];
    dnnl_memory_desc_t src, plain, any, dst;
    p_dnnl_memory_desc_init_by_strides(&src, 2, (dnnl_dims_t){m, d}, dnnl_f32, (dnnl_dims_t){d, 1});
    p_dnnl_memory_desc_init_by_strides(&plain, 2, (dnnl_dims_t){d, n}, dnnl_f32, (dnnl_dims_t){1, d});
    p_dnnl_memory_desc_init_by_tag(&any, 2, (dnnl_dims_t){d, n}, dnnl_f32, dnnl_format_tag_any);
    p_dnnl_memory_desc_init_by_strides(&dst, 2, (dnnl_dims_t){m, n}, dnnl_f32, (dnnl_dims_t){n, 1});
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd, reorder_pd;
    if (p_dnnl_matmul_desc_init(&desc, &src, &any, NULL, &dst) != 0) return false;
    if (p_dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL) != 0) return false;
    const dnnl_memory_desc_t *packed = p_dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_memory_t from;
    dnnl_primitive_t reorder;
    p_dnnl_memory_create(&p->src, &src, engine, k->x.data);
    p_dnnl_memory_create(&from, &plain, engine, k->w.data);
    p_dnnl_memory_create(&p->weights, packed, engine, DNNL_MEMORY_ALLOCATE);
    p_dnnl_memory_create(&p->dst, &dst, engine, k->y.data);
    if (p_dnnl_reorder_primitive_desc_create(&reorder_pd, &plain, engine, packed, engine, NULL) != 0) return false;
    p_dnnl_primitive_create(&reorder, reorder_pd);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, p->weights}};
    p_dnnl_primitive_execute(reorder, stream, 2, args);
    p_dnnl_stream_wait(stream);
    p_dnnl_memory_destroy(from);
    p_dnnl_primitive_destroy(reorder);
    return p_dnnl_primitive_create(&p->matmul, pd) == 0;
}

static void peer_run(const peer *p)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->src}, {DNNL_ARG_WEIGHTS, p->weights}, {DNNL_ARG_DST, p->dst}};
    p_dnnl_primitive_execute(p->matmul, stream, 3, args);
    p_dnnl_stream_wait(stream);
}
#else
typedef struct peer {
    int none;
} peer;
static bool peer_open(int threads) { return threads < 0; }
static bool peer_make(peer *p, const work *k) { return p->none && k->kind; }
static void peer_run(const peer *p) { (void)p; }
#endif

static void once(const work *k)
{
    switch (k->kind) {
    case FWD: b->linear_fwd(b, (tensor *)&k->y, &k->x, &k->w, NULL); break;
    case DX: b->linear_dx(b, (tensor *)&k->dx, &k->y, &k->w); break;
    case DW: b->linear_dw(b, (tensor *)&k->dw, NULL, &k->y, &k->x); break;
    default: peer_run(k->primitive);
    }
}

/* GFLOP/s of the best of many short batches: on a busy machine some of them run undisturbed */
static double rate(const work *k)
{
    double flops = 2.0 * (double)k->x.dim[0] * (double)k->w.dim[0] * (double)k->w.dim[1], best = 0;
    int calls = (int)(4e-4 * 1e11 / flops) + 1;
    once(k);
    for (double begin = clock_now(); clock_now() - begin < seconds;) {
        double t = clock_now();
        for (int i = 0; i < calls; i++) once(k);
        double r = 1e-9 * flops * calls / (clock_now() - t);
        if (r > best) best = r;
    }
    return best;
}

static tensor random_matrix(int64_t rows, int64_t cols)
{
    float *p = aligned_alloc(64, ((size_t)(rows * cols) * 4 + 63) / 64 * 64);
    for (int64_t i = 0; i < rows * cols; i++) p[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    return tensor_2d(p, DT_F32, rows, cols);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (argc > 2) seconds = atof(argv[2]);
    bool have_peer = peer_open(threads);
    if (backend_open_cpu(&b, threads, argc > 3 ? argv[3] : "auto") != ST_OK) {
        fprintf(stderr, "bench_gemm: %s\n", fail_message());
        return 1;
    }
    double peak = b->peak_gflops(b);
    printf("%s; FMA peak %.0f GFLOP/s%s\n\n", b->describe, peak, have_peer ? "" : "; no oneDNN 2 here");
    printf("| outputs x inputs | rows | fwd | dx | dw | oneDNN fwd, packed | fwd/peak | dx/peak | dw/peak | fwd/oneDNN "
           "|\n");
    printf("|---|---|---|---|---|---|---|---|---|---|\n");
    for (int s = 0; s < SHAPES; s++)
        for (int m = 0; m < BATCHES; m++) {
            int64_t rows = batch[m], out = shapes[s][0], in = shapes[s][1];
            work k = {random_matrix(rows, in),
                      random_matrix(out, in),
                      random_matrix(rows, out),
                      random_matrix(rows, in),
                      random_matrix(out, in),
                      FWD,
                      NULL};
            peer p;
            double r[4] = {0};
            for (k.kind = FWD; k.kind <= DW; k.kind++) r[k.kind] = rate(&k);
            k.primitive = &p;
            if (have_peer && peer_make(&p, &k)) r[PEER] = rate(&k);
            printf("| %d x %d | %d | %.0f | %.0f | %.0f | %.0f | %.2f | %.2f | %.2f | %.2f |\n", (int)out, (int)in,
                   (int)rows, r[0], r[1], r[2], r[3], r[0] / peak, r[1] / peak, r[2] / peak,
                   r[3] > 0 ? r[0] / r[3] : 0.0);
            tensor *all[] = {&k.x, &k.w, &k.y, &k.dx, &k.dw};
            b->params_changed(b);
            for (int i = 0; i < 5; i++) free(all[i]->data);
        }
    backend_close(b);
    return 0;
}
