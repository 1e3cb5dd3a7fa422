/* The paged cache of one layer: blocks of ATTN_BLOCK tokens, [K: n_kv][head_dim][16] then [V: n_kv][16][head_dim]. */
#include "kernels/cuda/cuda.cuh"

namespace {

enum { THREADS = 256 };

/* One thread per element of a row's keys and values; size: of these. */
template <class T>
__global__ void store_kernel(T *kv, const T *qkv, const int32_t *slot, int64_t row, int64_t size, int dim, int64_t n,
                             int64_t n_slot, fault *f)
{
    const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= n) return;
    const int64_t at = slot[i / size], e = i % size, values = size / 2, token = at % ATTN_BLOCK;
    if (at < 0 || !index_ok(f, OP_kv_store, at, n_slot)) return;
    T *block = kv + at / ATTN_BLOCK * ATTN_BLOCK * size;
    const T x = qkv[i / size * row + row - size + e];
    if (e < values)
        block[e * ATTN_BLOCK + token] = x;
    else
        block[values * ATTN_BLOCK + ((e - values) / dim * ATTN_BLOCK + token) * dim + e % dim] = x;
}

/* A thread copies its sixteen bytes of the blocks in the order of the list, so a block may be copied on. */
__global__ void copy_kernel(uint4 *kv, const int32_t *dst, const int32_t *src, int64_t n, int64_t size, int64_t n_block,
                            fault *f)
{
    const int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    for (int64_t i = 0; i < n && at < size; i++)
        if (index_ok(f, OP_kv_copy, dst[i], n_block) && index_ok(f, OP_kv_copy, src[i], n_block))
            kv[dst[i] * size + at] = kv[src[i] * size + at];
}

template <class T> void store(cuda *c, tensor *kv, const tensor *qkv, const tensor *slot, const attn_shape *a)
{
    const int64_t size = 2 * static_cast<int64_t>(a->n_kv) * a->head_dim, n = rows_of(qkv) * size;
    launch(c, "kv_store", store_kernel<T>, blocks_for(n, THREADS), THREADS, 0, static_cast<T *>(kv->data),
           static_cast<const T *>(qkv->data), I32(slot), cols_of(qkv), size, a->head_dim, n, tensor_count(kv) / size,
           c->faults);
}

} // namespace

void cuda_kv_store(backend *b, tensor *kv, const tensor *qkv, const tensor *slot, const attn_shape *a)
{
    CHECK_I32(slot);
    CHECK(a->n_head > 0 && a->n_kv > 0 && a->n_head % a->n_kv == 0 && a->head_dim > 0 && kv->type == qkv->type);
    CHECK(cols_of(qkv) == (static_cast<int64_t>(a->n_head) + 2 * a->n_kv) * a->head_dim);
    CHECK(tensor_count(slot) == rows_of(qkv) && tensor_count(kv) % kv_block_floats(a) == 0);
    WITH_TYPE(T, kv, store<T>(cuda_of(b), kv, qkv, slot, a));
}

void cuda_kv_copy(backend *b, tensor *kv, const tensor *dst, const tensor *src)
{
    CHECK_ACT(kv), CHECK_I32(dst), CHECK_I32(src);
    CHECK(tensor_count(dst) == tensor_count(src));
    cuda *c = cuda_of(b);
    int64_t bytes = cols_of(kv) * static_cast<int64_t>(dtype_size(kv->type)), size = bytes / 16;
    CHECK(bytes % 16 == 0 && reinterpret_cast<uintptr_t>(kv->data) % 16 == 0);
    launch(c, "kv_copy", copy_kernel, blocks_for(size, THREADS), THREADS, 0, static_cast<uint4 *>(kv->data), I32(dst),
           I32(src), tensor_count(dst), size, rows_of(kv), c->faults);
}
