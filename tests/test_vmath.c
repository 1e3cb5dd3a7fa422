/* Our exp and log against double libm over the whole range of fp32, on every instruction set. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/cpu/isa/kern.h"
#include "kernels/kernels.h"

static const kern *const tables[] = {&kern_generic, &kern_avx2, &kern_avx512};

static float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* |got - want| in units of the last place of want rounded to fp32 */
static double ulps(float got, double want)
{
    float near = (float)want;
    if (isnan(want)) return isnan(got) ? 0 : 1e9;
    if (isinf(near) || isinf(got)) return got == near ? 0 : 1e9;
    double ulp = fmax(ldexp(1, ilogb(want ? want : 1e-300) - 23), 0x1p-149);
    return fabs((double)got - want) / ulp;
}

static void sweep(void (*fn)(float *, const float *, int64_t), double (*exact)(double), double bound)
{
    enum { N = 1024, STEP = 1009 };
    static float x[N], y[N];
    double worst = 0;
    float where = 0;
    int n = 0;
    for (uint64_t u = 0; u < UINT64_C(1) << 32; u += STEP) {
        x[n++] = from_bits((uint32_t)u);
        if (n < N && u + STEP < UINT64_C(1) << 32) continue;
        fn(y, x, n);
        for (int i = 0; i < n; i++) {
            double d = ulps(y[i], exact((double)x[i]));
            if (d > worst) {
                worst = d;
                where = x[i];
            }
        }
        n = 0;
    }
    printf("worst error %.3f ulp at %.9g\n", worst, (double)where);
    assert_true(worst <= bound);
}

static void test_exp(void **state)
{
    (void)state;
    sweep(tables[0]->exp, exp, 1.0);
}

static void test_log(void **state)
{
    (void)state;
    sweep(tables[0]->log, log, 1.0);
}

/* Closely around 1, where ln loses its leading digits. */
static void test_log_near_one(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float x[N], y[N];
    for (int i = 0; i < N; i++) x[i] = from_bits(0x3f800000u + (uint32_t)i - N / 2);
    tables[0]->log(y, x, N);
    for (int i = 0; i < N; i++) assert_true(ulps(y[i], log((double)x[i])) <= 1.0);
}

static void test_special(void **state)
{
    (void)state;
    const float x[] = {0, -0.0f, INFINITY, -INFINITY, NAN, -1, 1, 0x1p-149f};
    float e[8], l[8];
    tables[0]->exp(e, x, 8);
    tables[0]->log(l, x, 8);
    assert_true(e[0] == 1 && e[1] == 1 && isinf(e[2]) && e[3] == 0 && isnan(e[4]) && e[7] == 1);
    assert_true(isinf(l[0]) && l[0] < 0 && isinf(l[1]) && l[2] == INFINITY && isnan(l[3]) && isnan(l[4]) &&
                isnan(l[5]) && l[6] == 0 && ulps(l[7], log(0x1p-149)) <= 1);
}

static void test_same_bits(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    static float x[N], first[2][N], y[N];
    for (uint32_t i = 0; i < N; i++) x[i] = from_bits(i * 65521u);
    for (int f = 0; f < 2; f++) {
        (f ? tables[0]->log : tables[0]->exp)(first[f], x, N);
        for (int k = 1; k < 3; k++) {
            if (!cpu_isa_has(tables[k]->name)) continue;
            (f ? tables[k]->log : tables[k]->exp)(y, x, N);
            for (int i = 0; i < N; i++)
                if (!(isnan(y[i]) && isnan(first[f][i]))) assert_memory_equal(&y[i], &first[f][i], sizeof y[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exp), cmocka_unit_test(test_log),
                                       cmocka_unit_test(test_log_near_one), cmocka_unit_test(test_special),
                                       cmocka_unit_test(test_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
