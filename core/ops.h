/* THE SEAM. The consumer (model, rollout, rl) owns this list; kernels/cpu and kernels/cuda implement every line of it.
 *
 * Conventions
 *   - outputs first; `d` = gradient of; `dx` overwrites, `dw` accumulates (so micro-batches chain into one sum)
 *   - ops are asynchronous on the backend's stream and return nothing; the first failure sticks in
 *     backend.first_error and `sync` reports it
 *   - shapes are CHECKed by the op; tensors are contiguous views (core/tensor.h)
 *   - i32 index tensors. Activations are backend.act; weight matrices fp32 (masters too: a backend that multiplies in
 *     bf16 keeps its own copies, see params_changed) or bf16; norm scales, biases, row statistics, rotary tables, log-probs
 *     and all gradients of weights fp32
 *
 * The bit contract (README, "Same bits"): every output element is a pure function of its own inputs.
 *   - a dot product is the sequential chain acc = fma(a[k], b[k], acc) for ascending k, starting from +0 (linear_dw:
 *     from the value already in dw); vector lanes run across outputs, never across k
 *   - a row reduction (norm, softmax) uses 16 interleaved partial sums, element i into partial i % 16, combined in the
 *     fixed tree 8+8, 4+4, 2+2, 1+1
 *   - attention walks keys in blocks of ATTN_BLOCK by absolute position in the sequence with one online softmax;
 *     contiguous and paged forms give equal bits
 *   so the result for a row does not depend on batch composition, thread count, tile shape or instruction set.
 */
#ifndef CORE_OPS_H
#define CORE_OPS_H

#include "core/op_args.h"
#include "core/status.h"
#include "core/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct backend backend;

/* clang-format off */
#define OPS(X) \
    /* y[N,O] = x[N,I] w[O,I]^T + bias[O]; bias may be NULL (added after the chain) */ \
    X(linear_fwd, (backend *b, tensor *y, const tensor *x, const tensor *w, const tensor *bias)) \
    /* dx[N,I] = dy[N,O] w[O,I] */ \
    X(linear_dx, (backend *b, tensor *dx, const tensor *dy, const tensor *w)) \
    /* dw[O,I] += dy^T x (chain over ascending rows), dbias[O] += column sums of dy (same chain); dbias may be NULL */ \
    X(linear_dw, (backend *b, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x)) \
    /* rstd[N] = 1/sqrt(mean(x^2)+eps); y = x rstd w.  w[C] */ \
    X(rmsnorm_fwd, (backend *b, tensor *y, tensor *rstd, const tensor *x, const tensor *w, float eps)) \
    /* dw may be NULL (frozen scale) */ \
    X(rmsnorm_bwd, (backend *b, tensor *dx, tensor *dw, const tensor *dy, const tensor *x, const tensor *w, const tensor *rstd)) \
    /* mean[N], rstd[N] = 1/sqrt(mean((x-mean)^2)+eps); y = (x-mean) rstd w + bias */ \
    X(layernorm_fwd, (backend *b, tensor *y, tensor *mean, tensor *rstd, const tensor *x, const tensor *w, const tensor *bias, float eps)) \
    X(layernorm_bwd, (backend *b, tensor *dx, tensor *dw, tensor *dbias, const tensor *dy, const tensor *x, const tensor *w, const tensor *mean, const tensor *rstd)) \
    /* rmsnorm of each q head by wq[D] and k head by wk[D], in place on rows [q | k | v]; raw[N,(n_head+n_kv)D] keeps the \
       heads as they were, rstd[N,n_head+n_kv]. Backward in place on dqkv; dw over rows, then heads */ \
    X(headnorm_fwd, (backend *b, tensor *qkv, tensor *raw, tensor *rstd, const tensor *wq, const tensor *wk, const attn_shape *a, float eps)) \
    X(headnorm_bwd, (backend *b, tensor *dqkv, tensor *dwq, tensor *dwk, const tensor *raw, const tensor *rstd, const tensor *wq, const tensor *wk, const attn_shape *a)) \
    /* y = a + c; y may be a or c */ \
    X(add, (backend *b, tensor *y, const tensor *a, const tensor *c)) \
    /* y[N,I] = silu(gu[:, :I]) * gu[:, I:] */ \
    X(swiglu_fwd, (backend *b, tensor *y, const tensor *gu)) \
    X(swiglu_bwd, (backend *b, tensor *dgu, const tensor *dy, const tensor *gu)) \
    /* exact (erf) GELU */ \
    X(gelu_fwd, (backend *b, tensor *y, const tensor *x)) \
    X(gelu_bwd, (backend *b, tensor *dx, const tensor *dy, const tensor *x)) \
    /* tanh approximation: y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */ \
    X(gelu_tanh_fwd, (backend *b, tensor *y, const tensor *x)) \
    X(gelu_tanh_bwd, (backend *b, tensor *dx, const tensor *dy, const tensor *x)) \
    /* cos,sin[N,half] of angle pos[n, axis[j]] * inv_freq[j]; pos[N,A] i32, axis[half] i32 */ \
    X(rope_table, (backend *b, tensor *cos, tensor *sin, const tensor *pos, const tensor *inv_freq, const tensor *axis)) \
    /* in place on the first n_head heads of every row of x[N, *]: pairs (j, j+D/2) rotated by the table; inverse: by minus the angle (backward) */ \
    X(rope_apply, (backend *b, tensor *x, const tensor *cos, const tensor *sin, int n_head, int head_dim, bool inverse)) \
    /* o[N, n_head*D], lse[N, n_head]; segment s = rows cu[s]..cu[s+1]; cu[S+1] i32 (host memory is read by the CPU) */ \
    X(attn_fwd, (backend *b, tensor *o, tensor *lse, const tensor *qkv, const tensor *cu, const attn_shape *a)) \
    X(attn_bwd, (backend *b, tensor *dqkv, const tensor *dout, const tensor *o, const tensor *lse, const tensor *qkv, const tensor *cu, const attn_shape *a)) \
    /* write k,v of row n into token slot[n] = block*ATTN_BLOCK + offset of one layer's cache kv[n_block, kv_block_floats]; slot<0: skip */ \
    X(kv_store, (backend *b, tensor *kv, const tensor *qkv, const tensor *slot, const attn_shape *a)) \
    /* copy whole blocks src[i] -> dst[i] inside one layer's cache */ \
    X(kv_copy, (backend *b, tensor *kv, const tensor *dst, const tensor *src)) \
    /* causal attention of new rows against the cache: rows cu[s]..cu[s+1] are the LAST positions of a context of ctx[s] \
       tokens whose blocks are table[s, 0..]; the rows' own k,v must be stored already. o as in attn_fwd, equal bits */ \
    X(attn_paged, (backend *b, tensor *o, const tensor *qkv, const tensor *kv, const tensor *table, const tensor *cu, const tensor *ctx, const attn_shape *a)) \
    /* x[n] = table[ids[n]]; ids[n] < 0 gives a zero row */ \
    X(embed_fwd, (backend *b, tensor *x, const tensor *table, const tensor *ids)) \
    /* dtable[ids[n]] += dx[n] for ascending n; ids[n] < 0 is skipped */ \
    X(embed_bwd, (backend *b, tensor *dtable, const tensor *dx, const tensor *ids)) \
    X(mix_fwd, (backend *b, tensor *y, const tensor *table, const tensor *ids, const tensor *w)) /* y[n] += sum_t w[n,t] table[ids[n,t]] */ \
    X(mix_bwd, (backend *b, tensor *dtable, const tensor *dy, const tensor *ids, const tensor *w)) /* chain over ascending n, t */ \
    X(rows_take, (backend *b, tensor *y, const tensor *x, const tensor *idx))  /* y[i] = x[idx[i]] */ \
    X(rows_put, (backend *b, tensor *y, const tensor *x, const tensor *idx))   /* y[idx[i]] = x[i], idx distinct */ \
    X(rows_add, (backend *b, tensor *y, const tensor *x, const tensor *idx))   /* y[idx[i]] += x[i], ascending i */ \
    X(pool_fwd, (backend *b, tensor *y, const tensor *x, const tensor *cu))    /* y[s] = mean of rows cu[s]..cu[s+1] */ \
    X(pool_bwd, (backend *b, tensor *dx, const tensor *dy, const tensor *cu)) \
    /* log-softmax of z = x[R,C] w[V,C]^T * inv_temp with z[ban[v] != 0] = -inf: logp[r] = z[target]-lse, lse[R], \
       entropy[R] (nats; may be NULL). ban[V] u8 or NULL. The logits are never kept for all rows at once */ \
    X(logprob_fwd, (backend *b, tensor *logp, tensor *lse, tensor *entropy, const tensor *x, const tensor *w, const tensor *target, const tensor *ban, float inv_temp)) \
    /* dx[R,C] and dw[V,C] of sum_r dlogp[r]*logp[r] + dent[r]*entropy[r]; dent may be NULL; dw NULL = frozen head */ \
    X(logprob_bwd, (backend *b, tensor *dx, tensor *dw, const tensor *x, const tensor *w, const tensor *target, const tensor *ban, const tensor *lse, const tensor *entropy, const tensor *dlogp, const tensor *dent, float inv_temp)) \
    /* Gumbel-max: id[r] = argmax_v z[v] + g(key[r], v), g = -log(-log(u)), u from rng.h; inv_temp 0 = greedy (logp then \
       at temperature 1). logp[r] has the bits logprob_fwd gives. key[R,4] u32 */ \
    X(sample, (backend *b, tensor *id, tensor *logp, const tensor *x, const tensor *w, const tensor *ban, const tensor *key, float inv_temp)) \
    X(adamw, (backend *b, tensor *w, tensor *m, tensor *v, const tensor *g, const adamw_step *s)) \
    /* out[i] (f64) = sum of squares of block i of SUMSQ_BLOCK elements of x */ \
    X(sumsq_blocks, (backend *b, tensor *out, const tensor *x)) \
    X(axpy, (backend *b, tensor *y, float a, const tensor *x))                 /* y = fma(a, x, y) */ \
    X(fill, (backend *b, tensor *y, float value)) \
    X(copy, (backend *b, tensor *y, const tensor *x))                          /* between f32 and bf16: converted */
/* clang-format on */

struct backend {
    const char *name;   /* "cpu" or "cuda:0" */
    char describe[128]; /* for people: "cpu avx512, 2 threads" */
    dtype act;          /* of activations: DT_F32, or DT_BF16 (arithmetic is fp32, outputs are rounded once) */
    status first_error; /* sticks until sync */
    void *impl;
    bool host; /* its memory is plain host memory: weights may be written in place, then params_changed */
    int64_t row_step; /* rows of a chain of row-wise ops whose results stay in the cache; 0: take all rows at once */
    status (*alloc)(backend *b, size_t bytes, void **out); /* zeroed, 64-byte aligned */
    void (*release)(backend *b, void *p);
    void (*upload)(backend *b, tensor *dst, const void *src);   /* host -> backend, dst's bytes */
    void (*download)(backend *b, void *dst, const tensor *src); /* backend -> host; waits */
    /* The memory of weights was rewritten (optimizer, load): derived forms such as packed panels are stale. */
    void (*params_changed)(backend *b);
    status (*sync)(backend *b); /* wait; report and clear first_error */
    /* In GFLOP/s (a multiply-add = 2), 0: not known. A CPU: the fp32 rate of its threads, measured now (~30 ms). A GPU:
     * the vendor's dense rate for the type of activations, which MFU is counted by. */
    double (*peak_gflops)(backend *b);
    void (*close)(backend *b);
#define OPS_FIELD(name, args) void(*name) args;
    OPS(OPS_FIELD)
#undef OPS_FIELD
};

#ifdef __cplusplus
}
#endif
#endif
