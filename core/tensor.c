#include "core/tensor.h"

#include <string.h>

#include "core/status.h"

size_t dtype_size(dtype t)
{
    switch (t) {
    case DT_F32: return 4;
    case DT_BF16: return 2;
    case DT_F64: return 8;
    case DT_I32: return 4;
    case DT_U32: return 4;
    case DT_U8: return 1;
    case DT_BF16_ROWS: return sizeof(void *);
    }
    return 0;
}

const char *dtype_name(dtype t)
{
    static const char *const names[] = {"f32", "bf16", "f64", "i32", "u32", "u8", "bf16 rows"};
    return names[t];
}

int64_t tensor_count(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->dim[i];
    return n;
}

size_t tensor_bytes(const tensor *t)
{
    return (size_t)(t->type == DT_BF16_ROWS ? t->dim[0] : tensor_count(t)) * dtype_size(t->type);
}

tensor tensor_view(void *data, dtype type, int ndim, const int64_t *dim)
{
    CHECK(ndim >= 1 && ndim <= TENSOR_MAX_DIM);
    tensor t = {.data = data, .type = type, .ndim = ndim, .dim = {0}};
    for (int i = 0; i < ndim; i++) {
        CHECK(dim[i] >= 0);
        t.dim[i] = dim[i];
    }
    return t;
}

tensor tensor_1d(void *data, dtype type, int64_t n) { return tensor_view(data, type, 1, &n); }

tensor tensor_2d(void *data, dtype type, int64_t rows, int64_t cols)
{
    return tensor_view(data, type, 2, (int64_t[]){rows, cols});
}

tensor tensor_rows(const tensor *t, int64_t first, int64_t n)
{
    CHECK(first >= 0 && n >= 0 && first + n <= t->dim[0]);
    int64_t stride = 1;
    for (int i = 1; i < t->ndim && t->type != DT_BF16_ROWS; i++) stride *= t->dim[i];
    tensor v = *t;
    v.dim[0] = n;
    if (t->data) v.data = (char *)t->data + (size_t)(first * stride) * dtype_size(t->type);
    return v;
}

tensor tensor_reshape(const tensor *t, int ndim, const int64_t *dim)
{
    tensor v = tensor_view(t->data, t->type, ndim, dim);
    CHECK(tensor_count(&v) == tensor_count(t));
    return v;
}

uint16_t bf16_from_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u); /* NaN stays NaN */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

float f32_from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3ffu, u;
    if (exp == 31) {
        u = sign | 0x7f800000u | (man << 13);
    } else if (exp != 0) {
        u = sign | ((exp + 112u) << 23) | (man << 13);
    } else if (man == 0) {
        u = sign;
    } else { /* subnormal: shift the leading one up to bit 10 */
        uint32_t e = 113;
        while (!(man & 0x400u)) man <<= 1, e--;
        u = sign | (e << 23) | ((man & 0x3ffu) << 13);
    }
    float x;
    memcpy(&x, &u, 4);
    return x;
}

uint16_t f16_from_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t sign = (u >> 16) & 0x8000u, mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);  /* NaN */
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and more round to infinity */
    if (mag < 0x33000001u) return (uint16_t)sign;              /* 2^-25 and less round to zero */
    uint32_t shift = 13;
    if (mag < 0x38800000u) { /* subnormal: the leading one becomes explicit and everything moves down */
        shift = 126 - (mag >> 23);
        mag = (mag & 0x7fffffu) | 0x800000u;
    } else {
        mag -= 112u << 23;
    }
    uint32_t half = mag >> shift, rest = mag & ((1u << shift) - 1), tie = 1u << (shift - 1);
    return (uint16_t)(sign | (half + (rest > tie || (rest == tie && (half & 1)))));
}
