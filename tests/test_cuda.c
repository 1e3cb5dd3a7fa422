/* kernels/cuda against kernels/cpu, op by op (tests/op_cases.h): in fp32 the same bits, in bf16 the same rounded (where
 * tensor cores sum, within a bound); guards around every buffer; twice the same. On a GPU where there is one, else SKIP; and on
 * the stand-in of tests/cuda_emu, there also with the threads of a block in other orders. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/common/device.h"
#include "tests/op_cases.h"

static backend *cpu, *gpu;
enum { ORDERS = 3 };

static void run(backend *b, const op_case *c, int size, unsigned bf16, void **out)
{
    const char *bad = case_run_bf16(b, c, bf16, out);
    if (bad) fail_msg("%s size %d%s on %s: %s", c->op->name, size, bf16 ? " in bf16" : "", b->name, bad);
}

/* The same bytes; what the backend stored in bf16 is `want` rounded to it. */
static void same(const op_case *c, int size, unsigned bf16, void *const *want, void *const *got, const char *what)
{
    for (int k = 0; k < c->n_arg; k++) {
        const op_arg *a = &c->arg[k];
        size_t item = dtype_size(a->type);
        if (!want[k]) continue;
        for (int64_t i = 0; i < a->count; i++) {
            float x, y;
            if (a->type == DT_F32) {
                memcpy(&x, (char *)want[k] + (size_t)i * item, sizeof x);
                memcpy(&y, (char *)got[k] + (size_t)i * item, sizeof y);
                if (bf16 >> k & 1) x = f32_from_bf16(bf16_from_f32(x));
                if (memcmp(&x, &y, sizeof x) == 0 || (isnan(x) && isnan(y))) continue;
                fail_msg("%s size %d argument %d element %lld of %lld: %.9g, wanted %.9g (%s)", c->op->name, size, k,
                         (long long)i, (long long)a->count, (double)y, (double)x, what);
            }
            if (memcmp((char *)want[k] + (size_t)i * item, (char *)got[k] + (size_t)i * item, item) != 0)
                fail_msg("%s size %d argument %d element %lld of %lld differs (%s)", c->op->name, size, k, (long long)i,
                         (long long)a->count, what);
        }
    }
}

static double element(const op_arg *a, const void *x, int64_t i)
{
    return a->type == DT_F32 ? (double)((const float *)x)[i] : (double)((const int32_t *)x)[i];
}

/* Ops whose bf16 form adds up products in the order of the tensor cores. A value: the fp64 formula within the bound of
 * an fp32 chain, four times (a tensor core drops bits of small terms instead of rounding), and the rounding of the
 * result, 2^-8. Where terms x_j were rounded to bf16 on the way (attention's p_j v_j, p_j by a factor 1 + d_j), their sum is
 * off by |sum d_j x_j| <= 2^-8 sum |x_j|: bf16 has eight bits, so that |d_j| <= 2^-8.
 * A gradient, whose terms were rounded to bf16 too: the CPU's within the bound that the row has, and the rounding of what
 * comes of it; or, without one, within 2^-8 of the largest sum. */
static void close_to(op_case *c, int size, unsigned bf16, void *const *want, void *const *got)
{
    const bool formula = c->op->want != NULL;
    if (formula) c->op->want(c);
    if (c->op->terms) c->op->terms(c);
    for (int k = 0; k < c->n_arg; k++) {
        const op_arg *a = &c->arg[k];
        const double rounding = bf16 >> k & 1 ? 0x1p-8 : 0;
        if (!want[k]) continue;
        double largest = 0;
        for (int64_t i = 0; i < a->count; i++) largest = fmax(largest, fabs(element(a, want[k], i)));
        for (int64_t i = 0; i < a->count; i++) {
            double x = formula ? a->d[i] : element(a, want[k], i), y = element(a, got[k], i), bound;
            if (formula)
                bound = 4 * a->e[i] + 0x1p-8 * a->m[i] + rounding * fabs(x);
            else
                bound = c->op->terms ? a->e[i] + rounding * (fabs(x) + a->e[i]) : 0x1p-8 * (1 + largest);
            if (!(fabs(x - y) <= bound))
                fail_msg("%s size %d in bf16, argument %d element %lld of %lld: %.9g, wanted %.9g +- %.3g", c->op->name,
                         size, k, (long long)i, (long long)a->count, y, x, bound);
        }
    }
}

/* The GPU with `bf16` of its arguments in bf16, `rounded` of them having such values, in several orders of threads. */
static void compare(const op_row *row, int size, unsigned bf16, unsigned rounded)
{
    op_case c, plain;
    void *want[CASE_ARGS], *first[CASE_ARGS], *got[CASE_ARGS];
    case_make(&c, row, size); /* what the GPU sees: matrices as they are, where it rounds them itself */
    case_make(&plain, row, size);
    case_round(&c, bf16);
    case_round(&plain, rounded);
    run(cpu, &plain, size, 0, want);
    for (unsigned order = 0; order < ORDERS; order++) {
        device_thread_order(order);
        run(gpu, &c, size, bf16, order ? got : first);
        if (order) same(&c, size, 0, first, got, "again"), case_out_free(got);
    }
    if (row->sums && (bf16 & row->act))
        close_to(&plain, size, bf16, want, first);
    else
        same(&plain, size, bf16, want, first, bf16 ? "in bf16" : "against the CPU");
    case_out_free(want);
    case_out_free(first);
    case_free(&plain);
    case_free(&c);
}

static void test_f32(void **state)
{
    const op_row *row = *state;
    for (int s = 0; s < row->n_size; s++) {
        compare(row, s, 0, 0);
        if (row->matrix) compare(row, s, row->matrix, row->matrix);
    }
}

static void test_bf16(void **state)
{
    const op_row *row = *state;
    for (int s = 0; s < row->n_size; s++) {
        compare(row, s, row->act | row->matrix, row->act | row->matrix);
        if (row->matrix) compare(row, s, row->act, row->act | row->matrix); /* fp32 masters */
    }
}

int main(int argc, char **argv) /* [--plugin FILE] [pattern of test names] */
{
    device_gpu(&argc, argv);
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    gpu = device_open(DT_BF16);
    if (backend_open_cpu(&cpu, 2, "auto") != ST_OK) {
        fprintf(stderr, "%s\n", fail_message());
        return 1;
    }
    printf("%s\n", gpu->describe);
    struct CMUnitTest tests[128];
    static char name[64][40];
    int n = 0;
    for (int i = 0; i < op_row_count; i++) {
        tests[n++] = (struct CMUnitTest){op_rows[i]->name, test_f32, NULL, NULL, (void *)op_rows[i]};
        if (!op_rows[i]->act) continue;
        snprintf(name[i], sizeof name[i], "%s_bf16", op_rows[i]->name);
        tests[n++] = (struct CMUnitTest){name[i], test_bf16, NULL, NULL, (void *)op_rows[i]};
    }
    int failed = _cmocka_run_group_tests("cuda", tests, (size_t)n, NULL, NULL);
    backend_close(gpu);
    backend_close(cpu);
    return failed;
}
