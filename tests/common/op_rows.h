/* Shared by the op_rows_*.c files. */
#ifndef TESTS_COMMON_OP_ROWS_H
#define TESTS_COMMON_OP_ROWS_H

#include "tests/op_cases.h"

#define A(i) (c->arg[i].d)
#define E(i) (c->arg[i].e)
#define M(i) (c->arg[i].m)
#define SIZES(name, ...)                                        \
    static const int size_##name[][CASE_SIZES] = {__VA_ARGS__}; \
    enum { n_size_##name = sizeof size_##name / sizeof *size_##name }
#define OP_CALL(op, ...)                                            \
    static void op##_call(backend *b, const op_case *c, tensor **t) \
    {                                                               \
        (void)c;                                                    \
        b->op(b, __VA_ARGS__);                                      \
    }
/* A row whose outputs have an fp64 formula, and one whose outputs are gradients of a loss; types: what of op_row says
 * which arguments may be bf16. */
#define TYPES(...) __VA_ARGS__
#define ARG(i) (1u << (i))
#define VALUE_ROW(op, sizes, types)                    \
    const op_row row_##op = {.name = #op,              \
                             .n_size = n_size_##sizes, \
                             .size = size_##sizes,     \
                             .make = op##_make,        \
                             .call = op##_call,        \
                             .want = op##_want,        \
                             types}
#define GRAD_ROW(op, sizes, eps, types, ...)           \
    const op_row row_##op = {.name = #op,              \
                             .n_size = n_size_##sizes, \
                             .size = size_##sizes,     \
                             .make = op##_make,        \
                             .call = op##_call,        \
                             .loss = op##_loss,        \
                             .grad_eps = eps,          \
                             types,                    \
                             .grad = {__VA_ARGS__}}

#endif
