/* Every op as data: its shapes, its arguments, how to call it, and what it must give in fp64. One row per op; the row
 * drives the value test, the gradient check, the bit tests and (on a machine with one) the comparison with a GPU. */
#ifndef TESTS_OP_CASES_H
#define TESTS_OP_CASES_H

#include "core/ops.h"

enum { CASE_ARGS = 11, CASE_SIZES = 6, CASE_GUARD = 16 /* guard elements on each side of a tensor */ };

typedef enum arg_role {
    ARG_IN,
    ARG_OUT, /* overwritten: filled with NaN before the call */
    ARG_ACC, /* read and written */
} arg_role;

typedef struct op_arg {
    arg_role role;
    bool absent; /* passed as NULL */
    dtype type;
    int ndim;
    int64_t dim[2], count;
    void *host; /* value before the call */
    double *d;  /* the same in fp64 (f32 arguments); for outputs what is wanted */
    double *e;  /* outputs: largest allowed error */
    double *m;  /* outputs: sum of the terms' magnitudes, where an op in bf16 rounds each term to it (op_row.sums), else 0 */
} op_arg;

struct op_row;
typedef struct op_case {
    const struct op_row *op;
    const int *size;
    int n_arg;
    op_arg arg[CASE_ARGS];
    attn_shape attn;
    adamw_step step;
    float scalar;
} op_case;

/* The gradient check: output argument `grad` must be d loss / d argument `of` (plus what was there, if accumulated). */
typedef struct op_grad {
    int grad, of;
} op_grad;

typedef struct op_row {
    const char *name;
    int n_size;
    const int (*size)[CASE_SIZES];
    void (*make)(op_case *c); /* declares the arguments for c->size */
    void (*call)(backend *b, const op_case *c, tensor **t);
    void (*want)(op_case *c); /* fp64 values and bounds of outputs; NULL: loss instead */
    double (*loss)(const op_case *c);
    op_grad grad[3];
    unsigned act, matrix; /* arguments (bits) that are activations, weight matrices: a GPU also has them in bf16 */
    bool sums;            /* in bf16 its products are summed in the tensor cores' order: not the CPU's bits */
    void (*terms)(op_case *c); /* of gradients, NULL or: e, what bf16 terms in that order may change of a sum */
    double grad_eps; /* allowed error of a gradient, in fp32 epsilons of the largest |gradient| of the tensor */
} op_row;

extern const op_row *const op_rows[];
extern const int op_row_count;

/* Builds case number `size` of a row; the values depend on (op, size) only. */
void case_make(op_case *c, const op_row *op, int size);
void case_free(op_case *c);
/* Runs it on a backend. out[i]: bytes of argument i after the call, malloc'd (NULL for inputs and absent ones). Returns
 * NULL, or what went wrong: a guard overwritten, an input changed. */
const char *case_run(backend *b, const op_case *c, void *out[CASE_ARGS]);
void case_out_free(void *out[CASE_ARGS]);
/* Rounds the inputs named by the bits to bf16; they stay stored as they were. */
void case_round(op_case *c, unsigned args);
/* case_run with the f32 arguments named by the bits in bf16 on the backend; out is fp32 all the same. */
const char *case_run_bf16(backend *b, const op_case *c, unsigned args, void *out[CASE_ARGS]);

/* For make functions: each declares the next argument. */
op_arg *arg_f32(op_case *c, arg_role role, int64_t rows, int64_t cols); /* normal values */
op_arg *arg_i32(op_case *c, int64_t rows, int64_t cols);                /* zeros; the caller fills host */
op_arg *arg_any(op_case *c, arg_role role, dtype type, int64_t rows, int64_t cols);
void arg_positive(op_case *c, op_arg *a);                     /* values in (0.5, 1.5) instead */
uint32_t case_below(op_case *c, uint64_t at, uint32_t bound); /* reproducible integers */

#define EPS32 0x1p-24 /* half an ulp of 1: one rounding */

#endif
