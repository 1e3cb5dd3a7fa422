/* Asking for a GPU where there is none must say why, not crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/kernels.h"

static void refuse(int device, const char *plugin, status want, const char *reason)
{
    backend *b = NULL;
    assert_int_equal(backend_open_cuda(&b, device, DT_BF16, plugin), want);
    assert_null(b);
    if (!strstr(fail_message(), reason)) fail_msg("'%s' does not say '%s'", fail_message(), reason);
}

static void test_not_built(void **state)
{
    (void)state;
    refuse(0, "/nonexistent/codedance_cuda.so", ST_EUNAVAIL, "was not built");
    refuse(-1, NULL, ST_EINVAL, "negative");
}

static void test_not_a_library(void **state)
{
    (void)state;
    char path[] = "/tmp/not_a_plugin_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, "text", 4) == 4);
    close(fd);
    refuse(0, path, ST_EUNAVAIL, "cannot be loaded");
    unlink(path);
    refuse(0, "/lib/x86_64-linux-gnu/libm.so.6", ST_EUNAVAIL,
           access("/lib/x86_64-linux-gnu/libm.so.6", F_OK) == 0 ? "not a plug-in" : "was not built");
}

/* The real plug-in, if it lies beside this program's build: a device far out of range is refused by name. */
static void test_bad_index(void **state)
{
    (void)state;
    backend *b = NULL;
    status st = backend_open_cuda(&b, 9999, DT_F32, NULL);
    assert_true(st == ST_EUNAVAIL || st == ST_EINVAL || st == ST_EDEVICE);
    assert_non_null(strstr(fail_message(), "cuda:9999"));
}

static void test_isa_names(void **state)
{
    (void)state;
    backend *b = NULL;
    assert_int_equal(backend_open_cpu(&b, 1, "sse9"), ST_EINVAL);
    assert_int_equal(backend_open_cpu(&b, -1, "auto"), ST_EINVAL);
    assert_true(cpu_isa_has("generic") && cpu_isa_has(cpu_isa_best()) && !cpu_isa_has("sse9"));
    const char *all[] = {"avx512", "avx2"};
    for (int i = 0; i < 2; i++)
        if (!cpu_isa_has(all[i])) assert_int_equal(backend_open_cpu(&b, 1, all[i]), ST_EUNAVAIL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_not_built), cmocka_unit_test(test_not_a_library),
                                       cmocka_unit_test(test_bad_index), cmocka_unit_test(test_isa_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
