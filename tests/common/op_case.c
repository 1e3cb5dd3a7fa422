/* Building and running one op case; see tests/op_cases.h. */
#include "tests/op_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

static rng_key key_of(const op_case *c, uint64_t what)
{
    uint64_t h = 0;
    for (const char *p = c->op->name; *p; p++) h = h * 131 + (unsigned char)*p;
    return rng_make_key(h, RNG_TEST, (uint64_t)(c->size - c->op->size[0]), what, 0, 0);
}

uint32_t case_below(op_case *c, uint64_t at, uint32_t bound) { return rng_below(key_of(c, 1000), at, bound); }

op_arg *arg_any(op_case *c, arg_role role, dtype type, int64_t rows, int64_t cols)
{
    CHECK(c->n_arg < CASE_ARGS);
    op_arg *a = &c->arg[c->n_arg++];
    *a = (op_arg){.role = role, .type = type, .ndim = cols < 0 ? 1 : 2, .dim = {rows, cols}};
    a->count = cols < 0 ? rows : rows * cols;
    size_t bytes = (size_t)a->count * dtype_size(type);
    a->host = calloc(1, bytes + 1);
    a->d = calloc((size_t)a->count + 1, sizeof(double));
    a->e = calloc((size_t)a->count + 1, sizeof(double));
    a->m = calloc((size_t)a->count + 1, sizeof(double));
    CHECK(a->host && a->d && a->e && a->m);
    if (role == ARG_OUT) memset(a->host, 0xff, bytes); /* NaN, -1 */
    return a;
}

op_arg *arg_f32(op_case *c, arg_role role, int64_t rows, int64_t cols)
{
    op_arg *a = arg_any(c, role, DT_F32, rows, cols);
    rng_key k = key_of(c, (uint64_t)c->n_arg);
    for (int64_t i = 0; role != ARG_OUT && i < a->count; i++) {
        float x = rng_normal(k, (uint64_t)i);
        ((float *)a->host)[i] = x;
        a->d[i] = x;
    }
    return a;
}

void arg_positive(op_case *c, op_arg *a)
{
    rng_key k = key_of(c, (uint64_t)(a - c->arg) + 100);
    for (int64_t i = 0; i < a->count; i++) a->d[i] = ((float *)a->host)[i] = 0.5f + rng_uniform(k, (uint64_t)i);
}

op_arg *arg_i32(op_case *c, int64_t rows, int64_t cols) { return arg_any(c, ARG_IN, DT_I32, rows, cols); }

void case_make(op_case *c, const op_row *op, int size)
{
    *c = (op_case){.op = op, .size = op->size[size]};
    op->make(c);
}

void case_free(op_case *c)
{
    for (int i = 0; i < c->n_arg; i++) {
        free(c->arg[i].host);
        free(c->arg[i].d);
        free(c->arg[i].e);
        free(c->arg[i].m);
    }
}

void case_round(op_case *c, unsigned args)
{
    for (int i = 0; i < c->n_arg; i++) {
        op_arg *a = &c->arg[i];
        if (!(args >> i & 1) || a->role == ARG_OUT) continue;
        float *x = a->host;
        for (int64_t k = 0; k < a->count; k++) a->d[k] = x[k] = f32_from_bf16(bf16_from_f32(x[k]));
    }
}

enum { GUARD_BYTE = 0xA5 };

/* The values of an argument as the backend stores them, and back; malloc'd. */
static void *stored(const op_arg *a, dtype type)
{
    size_t bytes = (size_t)a->count * dtype_size(type);
    uint16_t *h = malloc(bytes + 1);
    CHECK(h);
    if (type == a->type)
        memcpy(h, a->host, bytes);
    else
        for (int64_t i = 0; i < a->count; i++) h[i] = bf16_from_f32(((float *)a->host)[i]);
    return h;
}

static void *fetched(const op_arg *a, dtype type, const void *from)
{
    float *x = malloc((size_t)a->count * dtype_size(a->type) + 1);
    CHECK(x);
    if (type == a->type)
        memcpy(x, from, (size_t)a->count * dtype_size(type));
    else
        for (int64_t i = 0; i < a->count; i++) x[i] = f32_from_bf16(((const uint16_t *)from)[i]);
    return x;
}

const char *case_run(backend *b, const op_case *c, void *out[CASE_ARGS]) { return case_run_bf16(b, c, 0, out); }

const char *case_run_bf16(backend *b, const op_case *c, unsigned args, void *out[CASE_ARGS])
{
    static const char *const guard = "a guard element was overwritten", *const input = "an input was changed";
    const char *bad = NULL;
    void *mem[CASE_ARGS] = {NULL};
    tensor t[CASE_ARGS], *arg[CASE_ARGS] = {NULL};
    for (int i = 0; i < CASE_ARGS; i++) out[i] = NULL;
    for (int i = 0; i < c->n_arg; i++) {
        const op_arg *a = &c->arg[i];
        if (a->absent) continue;
        dtype type = args >> i & 1 ? DT_BF16 : a->type;
        size_t item = dtype_size(type), pad = CASE_GUARD * item, bytes = (size_t)a->count * item;
        char *image = malloc(bytes + 2 * pad);
        void *values = stored(a, type);
        CHECK(image && b->alloc(b, bytes + 2 * pad, &mem[i]) == ST_OK);
        memset(image, GUARD_BYTE, bytes + 2 * pad);
        memcpy(image + pad, values, bytes);
        tensor whole = tensor_1d(mem[i], type, a->count + 2 * CASE_GUARD);
        b->upload(b, &whole, image);
        free(values);
        free(image);
        t[i] = tensor_view((char *)mem[i] + pad, type, a->ndim, a->dim);
        arg[i] = &t[i];
    }
    c->op->call(b, c, arg);
    if (b->sync(b) != ST_OK) bad = fail_message();
    for (int i = 0; i < c->n_arg; i++) {
        const op_arg *a = &c->arg[i];
        if (a->absent) continue;
        dtype type = t[i].type;
        size_t item = dtype_size(type), pad = CASE_GUARD * item, bytes = (size_t)a->count * item;
        char *image = malloc(bytes + 2 * pad);
        CHECK(image);
        tensor whole = tensor_1d(mem[i], type, a->count + 2 * CASE_GUARD);
        b->download(b, image, &whole);
        for (size_t k = 0; k < pad; k++)
            if ((unsigned char)image[k] != GUARD_BYTE || (unsigned char)image[pad + bytes + k] != GUARD_BYTE)
                bad = guard;
        if (a->role == ARG_IN) {
            void *values = stored(a, type);
            if (memcmp(image + pad, values, bytes) != 0) bad = input;
            free(values);
        } else {
            out[i] = fetched(a, type, image + pad);
        }
        free(image);
        b->release(b, mem[i]);
    }
    return bad;
}

void case_out_free(void *out[CASE_ARGS])
{
    for (int i = 0; i < CASE_ARGS; i++) free(out[i]);
}
