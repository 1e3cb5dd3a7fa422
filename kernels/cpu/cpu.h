/* Private to kernels/cpu: the backend's state and what the op drivers share. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "core/ops.h"
#include "core/thread.h"
#include "kernels/cpu/isa/kern.h"

/* A weight matrix [outputs, inputs] rearranged for the micro-kernel: panels of 16 outputs, [panel][input][16]. */
typedef struct packed {
    const void *weight;
    int64_t outputs, inputs;
    float *panels;
    int64_t capacity; /* floats */
    bool fresh;
} packed;

typedef struct cpu {
    backend base;
    thread_pool *pool;
    int n_thread;
    const kern *k;
    packed *packs;
    int n_pack, pack_capacity;
    struct scratch {
        void *data;
        size_t size;
    } * scratch; /* one per thread, one shared by all at index n_thread */
} cpu;

static inline cpu *cpu_of(backend *b) { return b->impl; }

/* Runs fn over [0, n) in chunks; work is the flop count (roughly) of all of it, small work runs on the caller. */
void cpu_for(cpu *c, int64_t n, double work, thread_fn *fn, void *ctx);
/* Scratch of a thread (index n_thread: the op's own), contents undefined. Reserve before the parallel part; false:
 * out of memory, already noted in first_error. */
bool cpu_reserve(cpu *c, int first, int last, size_t bytes);
static inline void *cpu_scratch(cpu *c, int thread) { return c->scratch[thread].data; }
/* Panels of w, packed now if they are not; NULL when out of memory, already noted in first_error. */
const float *cpu_pack(cpu *c, const tensor *w);
void cpu_forget(cpu *c, const void *begin, size_t bytes); /* packs of weights in this memory are stale */
double cpu_fma_peak(backend *b);                          /* backend.peak_gflops */
/* Keeps the first error for sync. */
void cpu_error(cpu *c, status st);

/* Building blocks of linear_* and the head, on plain memory. */
/* y = x w^T + bias for w in fp32 (packed once, kept) or bf16 (read anew). False: out of memory, noted in first_error.
 */
bool cpu_matmul_nt(cpu *c, float *y, int64_t y_row, const float *x, int64_t rows, const tensor *w, const float *bias);
/* Its bf16 part: g->b is not used. */
bool cpu_gemm_bf16(cpu *c, const gemm_args *g, const tensor *w);
/* Row i of a matrix in bf16. */
static inline const uint16_t *cpu_bf16_row(const tensor *w, int64_t i)
{
    return w->type == DT_BF16_ROWS ? ((const uint16_t *const *)w->data)[i] : (const uint16_t *)w->data + i * w->dim[1];
}
void cpu_matmul_nn(cpu *c, float *dx, const float *dy, int64_t dy_row, int64_t rows, const tensor *w);
void cpu_matmul_tn(cpu *c, float *dw, float *dbias, const float *dy, int64_t dy_row, const float *x, int64_t rows,
                   int64_t outputs, int64_t inputs);

static inline int64_t rows_of(const tensor *t) { return t->ndim > 0 ? t->dim[0] : 0; }
static inline int64_t cols_of(const tensor *t)
{
    int64_t n = 1;
    for (int i = 1; i < t->ndim; i++) n *= t->dim[i];
    return n;
}
#define CHECK_F32(t) CHECK((t)->type == DT_F32)
#define CHECK_WEIGHT(t) \
    CHECK((t)->type == DT_F32 || ((t)->ndim == 2 && ((t)->type == DT_BF16 || (t)->type == DT_BF16_ROWS)))
#define CHECK_I32(t) CHECK((t)->type == DT_I32)

#define OPS_PROTOTYPE(name, args) void cpu_##name args;
OPS(OPS_PROTOTYPE)
#undef OPS_PROTOTYPE

#endif
