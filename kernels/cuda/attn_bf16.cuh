/* Attention in bf16 on tensor cores: for which shapes, and a forward pass as attn.cu hands it over. */
#ifndef KERNELS_CUDA_ATTN_BF16_CUH
#define KERNELS_CUDA_ATTN_BF16_CUH

#include "kernels/cuda/attn.cuh"

template <class T> struct fwd_call {
    T *o;
    float *lse; /* or NULL */
    const T *qkv, *kv;
    segments seg;
    const int32_t *table, *ctx;
    int64_t table_row, n_block;
    attn_shape a;
    fault *faults;
    int op;
};

/* False: not for this type or shape (or a scale that turns the order of the scores round). */
bool fwd_on_tensor_cores(cuda *c, const char *what, bool paged, const fwd_call<bf16> &call);
static inline bool fwd_on_tensor_cores(cuda *, const char *, bool, const fwd_call<float> &) { return false; }

#endif
