/* bf16 copies of fp32 matrices, for products with bf16 activations: made at the first use, made again when stale. A
 * matrix is found by its address, also where it is a part of one that was copied whole. */
#include <stdlib.h>

#include "kernels/cuda/cuda.cuh"

struct weight_copies {
    weight_copies *next;
    const float *from;
    int64_t count;
    bf16 *to;
    bool fresh;
};

namespace {

enum { THREADS = 256 };

__global__ void round_kernel(bf16 *to, const float *from, int64_t n)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n) put(to + i, from[i]);
}

weight_copies *add_copy(cuda *c, const float *from, int64_t count)
{
    weight_copies *w = static_cast<weight_copies *>(calloc(1, sizeof *w));
    void *to = nullptr;
    cudaError_t e = w ? cudaMalloc(&to, static_cast<size_t>(count) * sizeof(bf16)) : cudaErrorMemoryAllocation;
    if (e != cudaSuccess) {
        cuda_error(c, e, "bf16 copy of a matrix");
        free(w);
        return nullptr;
    }
    *w = {c->copies, from, count, static_cast<bf16 *>(to), false};
    return c->copies = w;
}

} // namespace

const bf16 *cuda_bf16_weights(cuda *c, const tensor *w)
{
    const int64_t count = tensor_count(w);
    if (w->type == DT_BF16 || count == 0) return static_cast<const bf16 *>(w->data);
    CHECK_F32(w);
    const float *from = F32(w);
    weight_copies *at = c->copies;
    while (at && !(from >= at->from && from + count <= at->from + at->count)) at = at->next;
    if (!at) at = add_copy(c, from, count);
    if (!at) return nullptr;
    if (!at->fresh)
        launch(c, "bf16 copy of a matrix", round_kernel, blocks_for(at->count, THREADS), THREADS, 0, at->to, at->from,
               at->count);
    at->fresh = true;
    return at->to + (from - at->from);
}

void cuda_weights_stale(cuda *c, const void *begin, size_t bytes)
{
    const char *first = static_cast<const char *>(begin), *last = first + bytes;
    for (weight_copies *at = c->copies; at; at = at->next)
        if (!begin || (reinterpret_cast<const char *>(at->from) < last &&
                       first < reinterpret_cast<const char *>(at->from + at->count)))
            at->fresh = false;
}

void cuda_weights_gone(cuda *c)
{
    while (c->copies) {
        weight_copies *at = c->copies;
        c->copies = at->next;
        cuda_error(c, cudaFree(at->to), "cudaFree");
        free(at);
    }
}
