/* Element-wise ops, rotary embedding and the optimizer: one thread per element (or pair), one pass over memory. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/formulas.h"

namespace {

enum { THREADS = 256, WAVE = 132 * 8 };

/* Threads stride over all elements, so that a launch is never longer than a few waves of blocks. */
#define EACH(i, n)                                                                       \
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; \
         i += static_cast<int64_t>(gridDim.x) * blockDim.x)

unsigned grid_for(int64_t n)
{
    unsigned want = blocks_for(n, THREADS), most = 4 * WAVE;
    return want < most ? want : most;
}

template <class T> __global__ void add_kernel(T *y, const T *a, const T *c, int64_t n)
{
    EACH(i, n) put(y + i, get(a + i) + get(c + i));
}

template <class T> __global__ void swiglu_fwd_kernel(T *y, const T *gu, int64_t inner, int64_t n)
{
    EACH(i, n)
    {
        const T *g = gu + i / inner * 2 * inner + i % inner;
        put(y + i, swiglu(get(g), get(g + inner)));
    }
}

template <class T> __global__ void swiglu_bwd_kernel(T *dgu, const T *dy, const T *gu, int64_t inner, int64_t n)
{
    EACH(i, n)
    {
        int64_t at = i / inner * 2 * inner + i % inner;
        float dg, du;
        swiglu_grad(&dg, &du, get(dy + i), get(gu + at), get(gu + at + inner));
        put(dgu + at, dg);
        put(dgu + at + inner, du);
    }
}

enum act { GELU, GELU_TANH };

template <class T, act A> __global__ void act_fwd_kernel(T *y, const T *x, int64_t n)
{
    EACH(i, n) put(y + i, A == GELU ? gelu(get(x + i)) : gelu_tanh(get(x + i)));
}

template <class T, act A> __global__ void act_bwd_kernel(T *dx, const T *dy, const T *x, int64_t n)
{
    EACH(i, n) put(dx + i, A == GELU ? gelu_grad(get(dy + i), get(x + i)) : gelu_tanh_grad(get(dy + i), get(x + i)));
}

template <act A> void act_fwd(cuda *c, const char *what, tensor *y, const tensor *x)
{
    int64_t n = tensor_count(y);
    CHECK(tensor_count(x) == n && x->type == y->type);
    WITH_TYPE(T, y, launch(c, what, act_fwd_kernel<T, A>, grid_for(n), THREADS, 0, y->data, x->data, n));
}

template <act A> void act_bwd(cuda *c, const char *what, tensor *dx, const tensor *dy, const tensor *x)
{
    int64_t n = tensor_count(dx);
    CHECK(tensor_count(dy) == n && tensor_count(x) == n && dy->type == dx->type && x->type == dx->type);
    WITH_TYPE(T, dx, launch(c, what, act_bwd_kernel<T, A>, grid_for(n), THREADS, 0, dx->data, dy->data, x->data, n));
}

__global__ void rope_table_kernel(float *cos_out, float *sin_out, const int32_t *pos, const float *inv_freq,
                                  const int32_t *axis, int64_t axes, int64_t half, int64_t n, fault *f)
{
    EACH(i, n)
    {
        int64_t j = i % half;
        if (!index_ok(f, OP_rope_table, axis[j], axes)) continue;
        sincos_f32(static_cast<float>(pos[i / half * axes + axis[j]]) * inv_freq[j], &sin_out[i], &cos_out[i]);
    }
}

template <class T>
__global__ void rope_apply_kernel(T *x, const float *cos_in, const float *sin_in, int64_t width, int64_t heads,
                                  int64_t half, bool inverse, int64_t n)
{
    EACH(i, n) /* pair j of head h of row r */
    {
        int64_t j = i % half, h = i / half % heads, r = i / half / heads;
        float s = sin_in[r * half + j];
        T *lo = x + r * width + h * 2 * half + j, *hi = lo + half;
        float a = get(lo), b = get(hi);
        rotate(&a, &b, cos_in[r * half + j], inverse ? -s : s);
        put(lo, a);
        put(hi, b);
    }
}

__global__ void adamw_kernel(float *w, float *m, float *v, const float *g, int64_t n, adamw_step s, float bias1,
                             float bias2)
{
    EACH(i, n) adamw_element(w + i, m + i, v + i, g[i], &s, bias1, bias2);
}

__global__ void axpy_kernel(float *y, float a, const float *x, int64_t n) { EACH(i, n) y[i] = fmaf(a, x[i], y[i]); }

template <class T, class U> __global__ void convert_kernel(T *y, const U *x, int64_t n) { EACH(i, n) put(y + i, get(x + i)); }

template <class T> __global__ void fill_kernel(T *y, float value, int64_t n) { EACH(i, n) put(y + i, value); }

/* A half warp takes a block: sixteen interleaved partials in double, the fixed tree of halves. */
__global__ void sumsq_kernel(double *out, const float *x, int64_t n, int64_t blocks)
{
    int64_t block = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 16, lane = threadIdx.x % 16;
    double sum = 0;
    int64_t end = (block + 1) * SUMSQ_BLOCK < n ? (block + 1) * SUMSQ_BLOCK : n;
    for (int64_t i = block * SUMSQ_BLOCK + lane; i < end; i += 16)
        sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    for (int w = 8; w > 0; w /= 2) sum += __shfl_down_sync(0xffffffffu, sum, w, 16);
    if (lane == 0 && block < blocks) out[block] = sum;
}

} // namespace

void cuda_add(backend *b, tensor *y, const tensor *a, const tensor *c)
{
    int64_t n = tensor_count(y);
    CHECK(tensor_count(a) == n && tensor_count(c) == n && a->type == y->type && c->type == y->type);
    WITH_TYPE(T, y,
              launch(cuda_of(b), "add", add_kernel<T>, grid_for(n), THREADS, 0, y->data, a->data, c->data, n));
}

void cuda_swiglu_fwd(backend *b, tensor *y, const tensor *gu)
{
    int64_t n = tensor_count(y), inner = cols_of(y);
    CHECK(tensor_count(gu) == 2 * n && gu->type == y->type);
    WITH_TYPE(T, y,
              launch(cuda_of(b), "swiglu_fwd", swiglu_fwd_kernel<T>, grid_for(n), THREADS, 0, y->data, gu->data, inner, n));
}

void cuda_swiglu_bwd(backend *b, tensor *dgu, const tensor *dy, const tensor *gu)
{
    int64_t n = tensor_count(dy), inner = cols_of(dy);
    CHECK(tensor_count(gu) == 2 * n && tensor_count(dgu) == 2 * n && gu->type == dy->type && dgu->type == dy->type);
    WITH_TYPE(T, dy,
              launch(cuda_of(b), "swiglu_bwd", swiglu_bwd_kernel<T>, grid_for(n), THREADS, 0, dgu->data, dy->data,
                     gu->data, inner, n));
}

void cuda_gelu_fwd(backend *b, tensor *y, const tensor *x) { act_fwd<GELU>(cuda_of(b), "gelu_fwd", y, x); }
void cuda_gelu_bwd(backend *b, tensor *dx, const tensor *dy, const tensor *x)
{
    act_bwd<GELU>(cuda_of(b), "gelu_bwd", dx, dy, x);
}
void cuda_gelu_tanh_fwd(backend *b, tensor *y, const tensor *x) { act_fwd<GELU_TANH>(cuda_of(b), "gelu_tanh_fwd", y, x); }
void cuda_gelu_tanh_bwd(backend *b, tensor *dx, const tensor *dy, const tensor *x)
{
    act_bwd<GELU_TANH>(cuda_of(b), "gelu_tanh_bwd", dx, dy, x);
}

void cuda_rope_table(backend *b, tensor *cos, tensor *sin, const tensor *pos, const tensor *inv_freq, const tensor *axis)
{
    CHECK_F32(cos), CHECK_F32(sin), CHECK_I32(pos), CHECK_F32(inv_freq), CHECK_I32(axis);
    int64_t rows = rows_of(pos), half = tensor_count(inv_freq), n = rows * half;
    CHECK(tensor_count(cos) == n && tensor_count(sin) == n && tensor_count(axis) == half);
    launch(cuda_of(b), "rope_table", rope_table_kernel, grid_for(n), THREADS, 0, F32(cos), F32(sin), I32(pos),
           F32(inv_freq), I32(axis), cols_of(pos), half, n, cuda_of(b)->faults);
}

void cuda_rope_apply(backend *b, tensor *x, const tensor *cos, const tensor *sin, int n_head, int head_dim, bool inverse)
{
    CHECK_F32(cos), CHECK_F32(sin);
    int64_t rows = rows_of(x), half = head_dim / 2, n = rows * n_head * half;
    CHECK(head_dim % 2 == 0 && static_cast<int64_t>(n_head) * head_dim <= cols_of(x));
    CHECK(tensor_count(cos) == rows * half && tensor_count(sin) == rows * half);
    WITH_TYPE(T, x,
              launch(cuda_of(b), "rope_apply", rope_apply_kernel<T>, grid_for(n), THREADS, 0, x->data, F32(cos), F32(sin),
                     cols_of(x), n_head, half, inverse, n));
}

void cuda_adamw(backend *b, tensor *w, tensor *m, tensor *v, const tensor *g, const adamw_step *s)
{
    CHECK_F32(w), CHECK_F32(m), CHECK_F32(v), CHECK_F32(g);
    int64_t n = tensor_count(w);
    CHECK(tensor_count(m) == n && tensor_count(v) == n && tensor_count(g) == n && s->t >= 1);
    launch(cuda_of(b), "adamw", adamw_kernel, grid_for(n), THREADS, 0, F32(w), F32(m), F32(v), F32(g), n, *s,
           adamw_bias(s->beta1, s->t), adamw_bias(s->beta2, s->t));
}

void cuda_sumsq_blocks(backend *b, tensor *out, const tensor *x)
{
    CHECK_F32(x), CHECK(out->type == DT_F64);
    int64_t n = tensor_count(x), blocks = (n + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK;
    CHECK(tensor_count(out) == blocks);
    launch(cuda_of(b), "sumsq_blocks", sumsq_kernel, blocks_for(blocks, THREADS / 16), THREADS, 0, out->data, F32(x), n,
           blocks);
}

void cuda_axpy(backend *b, tensor *y, float a, const tensor *x)
{
    CHECK_F32(y), CHECK_F32(x);
    int64_t n = tensor_count(y);
    CHECK(tensor_count(x) == n);
    launch(cuda_of(b), "axpy", axpy_kernel, grid_for(n), THREADS, 0, F32(y), a, F32(x), n);
}

void cuda_fill(backend *b, tensor *y, float value)
{
    int64_t n = tensor_count(y);
    WITH_TYPE(T, y, launch(cuda_of(b), "fill", fill_kernel<T>, grid_for(n), THREADS, 0, y->data, value, n));
}

void cuda_copy(backend *b, tensor *y, const tensor *x)
{
    int64_t n = tensor_count(y);
    CHECK(tensor_count(x) == n);
    cuda *c = cuda_of(b);
    if (y->type != x->type) {
        WITH_TYPE(T, y, WITH_TYPE(U, x, launch(c, "copy", convert_kernel<T, U>, grid_for(n), THREADS, 0, y->data, x->data, n)));
        return;
    }
    if (n == 0) return;
    cuda_error(c, cudaMemcpyAsync(y->data, x->data, tensor_bytes(x), cudaMemcpyDeviceToDevice, c->stream), "copy");
}
