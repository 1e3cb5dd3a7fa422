/* Private to kernels/cuda: the backend's state and what the ops share.
 *
 * Activations are fp32 or bf16, matrices likewise, everything else fp32; arithmetic is fp32. In fp32 every op gives the
 * bits of kernels/cpu (the contract of core/ops.h, the formulas of kernels/formulas.h). */
#ifndef KERNELS_CUDA_CUDA_CUH
#define KERNELS_CUDA_CUDA_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "core/ops.h"

typedef __nv_bfloat16 bf16;

#ifndef DYNAMIC_SHARED /* the memory of a block whose size the launch gives */
#define DYNAMIC_SHARED(type, name)                              \
    extern __shared__ __align__(16) unsigned char dynamic_[]; \
    type *name = reinterpret_cast<type *>(dynamic_)
#endif

#ifndef UNROLL /* the loop after it, whose trip count is known: its arrays stay in registers */
#define UNROLL _Pragma("unroll")
#endif

/* What a kernel found wrong in its index tensors: the first finding stays, sync reports it. */
enum fault_kind { FAULT_NONE, FAULT_INDEX, FAULT_SEGMENTS, FAULT_CONTEXT };
struct fault {
    int kind, op; /* op: OP_... below */
    long long value, limit;
};
enum op_id {
#define OPS_ID(name, args) OP_##name,
    OPS(OPS_ID)
#undef OPS_ID
};

struct cuda {
    backend base;
    char name[16];
    int device, processors; /* multiprocessors */
    cudaStream_t stream;
    fault *faults; /* one, on the device */
    void *scratch; /* the running op's own */
    size_t scratch_bytes;
    struct weight_copies *copies; /* weights.cu */
};

static inline cuda *cuda_of(backend *b) { return static_cast<cuda *>(b->impl); }

/* Keeps the first error for sync; cudaSuccess is none. what failed: an op, or a function of the runtime */
void cuda_error(cuda *c, cudaError_t e, const char *what);
/* Device memory, contents undefined, that lives until the next call; NULL when out of memory, already noted. */
void *cuda_scratch(cuda *c, size_t bytes);

/* kernel<<<grid, threads, shared>>> on the backend's stream; an empty grid launches nothing. */
template <class... P, class... A>
void launch(cuda *c, const char *what, void (*kernel)(P...), dim3 grid, int threads, size_t shared, A... args)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared > 48 * 1024) {
        cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        if (e != cudaSuccess) {
            cuda_error(c, e, what);
            return;
        }
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared;
    config.stream = c->stream;
    cuda_error(c, cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), what);
}

/* Building blocks of linear_* and the head, on plain memory; none of them uses cuda_scratch. Types are DT_F32 or DT_BF16.
 * fp32 x: the chains of core/ops.h, w as it is stored. bf16 x: tensor cores, k ascending sixteen at a time with fp32
 * accumulators whatever the tile, w in bf16 (of an fp32 matrix, the copy that weights.cu keeps). */
/* y[rows, outputs] = x w^T + bias; rows of y lie y_row elements apart. bias may be NULL. */
void cuda_matmul_nt(cuda *c, void *y, dtype y_type, int64_t y_row, const void *x, dtype x_type, int64_t rows,
                    const tensor *w, const float *bias);
/* dx[rows, inputs] = dy w, both of one type; rows of dy lie dy_row apart. */
void cuda_matmul_nn(cuda *c, void *dx, const void *dy, dtype type, int64_t dy_row, int64_t rows, const tensor *w);
/* dw[outputs, inputs] += dy^T x, dbias[outputs] += column sums of dy (may be NULL); dy and x of one type. */
void cuda_matmul_tn(cuda *c, float *dw, float *dbias, const void *dy, dtype type, int64_t dy_row, const void *x,
                    int64_t rows, int64_t outputs, int64_t inputs);
/* w in bf16: itself, or a copy of an fp32 matrix made now unless it is fresh; NULL when out of memory, already noted. */
const bf16 *cuda_bf16_weights(cuda *c, const tensor *w);
/* Copies of weights in this memory are stale (NULL: all are). */
void cuda_weights_stale(cuda *c, const void *begin, size_t bytes);
/* Frees all copies; those still needed will be made again. Nothing on the stream may be using them. */
void cuda_weights_gone(cuda *c);

/* Runs the statement with T the element type of tensor t. */
#define WITH_TYPE(T, t, ...)                \
    do {                                    \
        if ((t)->type == DT_F32) {          \
            typedef float T;                \
            __VA_ARGS__;                    \
        } else {                            \
            CHECK((t)->type == DT_BF16);    \
            typedef bf16 T;                 \
            __VA_ARGS__;                    \
        }                                   \
    } while (0)

static __device__ __forceinline__ float get(const float *p) { return *p; }
static __device__ __forceinline__ float get(const bf16 *p) { return __bfloat162float(*p); }
static __device__ __forceinline__ void put(float *p, float x) { *p = x; }
static __device__ __forceinline__ void put(bf16 *p, float x) { *p = __float2bfloat16_rn(x); }

static __device__ __forceinline__ void report(fault *f, fault_kind kind, int op, long long value, long long limit)
{
    if (atomicCAS(&f->kind, static_cast<int>(FAULT_NONE), static_cast<int>(kind)) != FAULT_NONE) return;
    f->op = op;
    f->value = value;
    f->limit = limit;
}
/* 0 <= i < limit, or a fault */
static __device__ __forceinline__ bool index_ok(fault *f, int op, long long i, long long limit)
{
    if (i >= 0 && i < limit) return true;
    report(f, FAULT_INDEX, op, i, limit);
    return false;
}

/* The fixed tree 8+8, 4+4, 2+2, 1+1 over the sixteen lanes of a half warp; all of them get the result. */
static __device__ __forceinline__ float half_sum(float x)
{
    for (int w = 8; w > 0; w /= 2) x = x + __shfl_down_sync(0xffffffffu, x, w, 16);
    return __shfl_sync(0xffffffffu, x, 0, 16);
}
static __device__ __forceinline__ float half_max(float x)
{
    for (int w = 8; w > 0; w /= 2) {
        float y = __shfl_down_sync(0xffffffffu, x, w, 16);
        x = x > y ? x : y;
    }
    return __shfl_sync(0xffffffffu, x, 0, 16);
}

static inline int64_t rows_of(const tensor *t) { return t->ndim > 0 ? t->dim[0] : 0; }
static inline int64_t cols_of(const tensor *t)
{
    int64_t n = 1;
    for (int i = 1; i < t->ndim; i++) n *= t->dim[i];
    return n;
}
static inline unsigned blocks_for(int64_t n, int64_t each) { return static_cast<unsigned>((n + each - 1) / each); }
#define CHECK_F32(t) CHECK((t)->type == DT_F32)
#define CHECK_ACT(t) CHECK((t)->type == DT_F32 || (t)->type == DT_BF16)
#define CHECK_I32(t) CHECK((t)->type == DT_I32)
#define F32(t) static_cast<float *>((t)->data)
#define I32(t) static_cast<const int32_t *>((t)->data)

#define OPS_PROTOTYPE(name, args) void cuda_##name args;
OPS(OPS_PROTOTYPE)
#undef OPS_PROTOTYPE

#endif
