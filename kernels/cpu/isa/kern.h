/* What one instruction set provides: inner kernels over plain memory, single-threaded. The drivers in kernels/cpu split
 * the work; nothing here knows tensors or threads. One table per ISA, same source, equal bits. */
#ifndef KERNELS_CPU_ISA_KERN_H
#define KERNELS_CPU_ISA_KERN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/ops.h"
#ifdef ISA
#include "kernels/cpu/isa/vec.h"
#else
enum { LANES = 16 };
#endif

/* c[i, j] = (chain ? c[i, j] : 0) then fma(a[i, k], b[k, j], .) for k ascending, then + bias[j].
 * a[i, k] at a + i*a_row + k*a_col; outputs come in panels of 16: b[k, 16*p + lane] at b + p*b_panel + k*b_row + lane.
 */
typedef struct gemm_args {
    float *c;
    int64_t c_row;
    const float *a;
    int64_t a_row, a_col;
    const float *b;
    int64_t b_panel, b_row;
    const float *bias; /* may be NULL */
    int rows, cols, depth;
    bool chain;
} gemm_args;

/* y[r, o] = fma(x[r, k], w[o][k], .) for k ascending from 0, then + bias[o], for up to 16 outputs. w has 16 readable
 * rows, whatever outputs is. */
enum { BF16_FEW = 8 };
typedef struct bf16_args {
    float *y;
    const float *x, *bias; /* bias may be NULL */
    int64_t y_row, x_row, depth;
    const uint16_t *w[16];
    int rows, outputs; /* 1 to BF16_FEW, 1 to 16 */
} bf16_args;

/* Query rows against one sequence's keys of one kv head, in blocks of ATTN_BLOCK. The heads of a row that use this kv
 * head lie head_dim apart in q and o, 1 apart in lse. */
typedef struct attn_args {
    const float *q; /* row i at q + i*q_row */
    float *o;
    float *lse; /* row i at lse + i*lse_row; may be NULL */
    int64_t q_row, o_row, lse_row;
    const float *const *k; /* block b: [head_dim][16] */
    const float *const *v; /* block b: rows of v_row floats */
    int64_t v_row;
    int n_row, heads, n_key, head_dim;
    int first; /* position of row 0 among the keys; row i sees keys 0..first+i if causal, else all */
    bool causal;
    float scale;
} attn_args;

/* Gradients of one head over one segment; dk and dv accumulate over the heads of the group. */
typedef struct attn_bwd_args {
    const float *q, *k, *dout, *lse, *delta; /* rows; delta[i] = sum_d dout*o */
    float *dq, *dk, *dv;                     /* rows, zeroed by the caller; dq accumulates over key blocks */
    int64_t qkv_row, o_row, head_row;        /* strides of q/k/dq/dk/dv, dout, lse/delta */
    const float *k_t, *v_t;                  /* [block][head_dim][16] */
    int n_row, head_dim, block;
    bool causal;
    float scale;
} attn_bwd_args;

/* clang-format off */
#define KERNELS(X) \
    X(void, gemm, (const gemm_args *g)) \
    X(void, attn, (const attn_args *a)) \
    X(void, attn_bwd, (const attn_bwd_args *a)) \
    /* up to 16 rows side by side in the lanes: to[c][16] = from[0..16][c], zeros for rows that are not there; and back */ \
    X(void, to_lanes, (float *to, const float *from, int64_t from_row, int rows, int64_t cols)) \
    X(void, from_lanes, (float *to, int64_t to_row, const float *from, int rows, int64_t cols)) \
    /* the same from bf16, which widens exactly; and one row as it is */ \
    X(void, bf16_to_lanes, (float *to, const uint16_t *const *from, int rows, int64_t cols)) \
    X(void, bf16_few, (const bf16_args *g)) \
    X(void, bf16_widen, (float *to, const uint16_t *from, int64_t count)) \
    /* rows of `cols` contiguous floats */ \
    X(void, rmsnorm_fwd, (float *y, float *rstd, const float *x, const float *w, float eps, int64_t rows, int64_t cols)) \
    X(void, rmsnorm_bwd, (float *dx, const float *dy, const float *x, const float *w, const float *rstd, int64_t rows, int64_t cols)) \
    /* dw[c] for columns [begin, end) */ \
    X(void, rmsnorm_dw, (float *dw, const float *dy, const float *x, const float *rstd, int64_t rows, int64_t cols, int64_t begin, int64_t end)) \
    X(void, layernorm_fwd, (float *y, float *mean, float *rstd, const float *x, const float *w, const float *bias, float eps, int64_t rows, int64_t cols)) \
    X(void, layernorm_bwd, (float *dx, const float *dy, const float *x, const float *w, const float *mean, const float *rstd, int64_t rows, int64_t cols)) \
    /* dw[c] and dbias[c] for columns [begin, end) */ \
    X(void, layernorm_dw, (float *dw, float *dbias, const float *dy, const float *x, const float *mean, const float *rstd, int64_t rows, int64_t cols, int64_t begin, int64_t end)) \
    X(void, add, (float *y, const float *a, const float *c, int64_t count)) \
    X(void, axpy, (float *y, float a, const float *x, int64_t count)) \
    X(void, swiglu_fwd, (float *y, const float *gu, int64_t rows, int64_t inner)) \
    X(void, swiglu_bwd, (float *dgu, const float *dy, const float *gu, int64_t rows, int64_t inner)) \
    X(void, gelu_fwd, (float *y, const float *x, int64_t n)) \
    X(void, gelu_bwd, (float *dx, const float *dy, const float *x, int64_t n)) \
    X(void, gelu_tanh_fwd, (float *y, const float *x, int64_t count)) \
    X(void, gelu_tanh_bwd, (float *dx, const float *dy, const float *x, int64_t count)) \
    /* y[c] += sum over taps t of w[t] table[ids[t]][c] */ \
    X(void, mix, (float *y, const float *table, const int32_t *ids, const float *w, int64_t taps, int64_t cols)) \
    X(void, rope_table, (float *cos_out, float *sin_out, const int32_t *pos, const float *inv_freq, const int32_t *axis, int64_t rows, int64_t axes, int64_t half)) \
    X(void, rope_apply, (float *x, int64_t x_row, const float *cos_in, const float *sin_in, int64_t rows, int heads, int head_dim, bool inverse)) \
    /* out[i] = sum over d of a[i, d] b[i, d], 16 interleaved partials */ \
    X(void, dots, (float *out, const float *a, const float *b, int64_t n, int dim)) \
    /* bias1, bias2: 1 - beta^t */ \
    X(void, adamw, (float *w, float *m, float *v, const float *g, int64_t count, const adamw_step *s, float bias1, float bias2)) \
    X(double, sumsq, (const float *x, int64_t n)) \
    /* in place: z *= inv_temp, banned = -inf; then the log-sum-exp and, if wanted, the entropy of the row */ \
    X(void, logits_row, (float *z, int64_t n, const uint8_t *ban, float inv_temp, float *lse, float *entropy)) \
    /* in place: z as logits_row left it becomes its gradient */ \
    X(void, dlogits_row, (float *z, int64_t n, float lse, float entropy, int64_t target, float dlogp, float dent, float inv_temp)) \
    /* argmax of z plus Gumbel noise under key (NULL: of z); the lowest index wins a tie */ \
    X(int64_t, pick, (const float *z, int64_t n, const uint32_t *key)) \
    /* element-wise v_exp and v_log, for the tests */ \
    X(void, exp, (float *y, const float *x, int64_t count)) \
    X(void, log, (float *y, const float *x, int64_t count))
/* clang-format on */

typedef struct kern {
    const char *name;
#define KERN_FIELD(ret, name, args) ret(*name) args;
    KERNELS(KERN_FIELD)
#undef KERN_FIELD
} kern;

extern const kern kern_avx512, kern_avx2, kern_generic;

#ifdef ISA /* inside an ISA build: the functions themselves, name_avx512 and so on */
#define KERN_PROTOTYPE(ret, name, args) ret SYM(name) args;
KERNELS(KERN_PROTOTYPE)
#undef KERN_PROTOTYPE
#endif

#endif
