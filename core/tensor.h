/* A tensor is a borrowed, contiguous, row-major view with a run-time dtype. It owns nothing; arenas own memory.
 * Dimension letters used everywhere: N packed tokens, S sequences, C channels, H heads, D head dim, I MLP width,
 * V vocabulary, L layers, P patches, R rows of the head. */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* DT_BF16_ROWS: a matrix of bf16 whose rows lie anywhere, as in the pages of a mapped checkpoint; data is
 * const uint16_t *[rows], host memory. */
typedef enum dtype { DT_F32, DT_BF16, DT_F64, DT_I32, DT_U32, DT_U8, DT_BF16_ROWS } dtype;
enum { TENSOR_MAX_DIM = 4 };

typedef struct tensor {
    void *data; /* memory of the backend it was planned on; host memory on the CPU backend */
    dtype type;
    int ndim;
    int64_t dim[TENSOR_MAX_DIM];
} tensor;

size_t dtype_size(dtype t); /* of an element; of DT_BF16_ROWS, of the pointer to a row */
const char *dtype_name(dtype t);
int64_t tensor_count(const tensor *t); /* elements */
size_t tensor_bytes(const tensor *t); /* behind data */
/* Views; dims of 0 elements are legal. tensor_view checks that count matches nothing: the caller owns the claim. */
tensor tensor_view(void *data, dtype type, int ndim, const int64_t *dim);
tensor tensor_1d(void *data, dtype type, int64_t n);
tensor tensor_2d(void *data, dtype type, int64_t rows, int64_t cols);
/* Rows [first, first+n) along dim 0; same memory. CHECKs the range. */
tensor tensor_rows(const tensor *t, int64_t first, int64_t n);
/* Same memory and count, other shape. CHECKs the count. */
tensor tensor_reshape(const tensor *t, int ndim, const int64_t *dim);

/* Host conversions, round to nearest even. */
uint16_t bf16_from_f32(float x);
float f32_from_bf16(uint16_t h);
float f32_from_f16(uint16_t h);
uint16_t f16_from_f32(float x);

#ifdef __cplusplus
}
#endif
#endif
