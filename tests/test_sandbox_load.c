/* Many boxes alive at once, each with a picture and a state; everything is as before when they are closed.
 * benchmarks/bench_sandbox_load.c is the same with more of them and their memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>

#include "benchmarks/common/boxes.h"
#include "tests/common/boxes.h"

enum { LIVE = 150 };

static void many_live_boxes_leave_nothing(void **s)
{
    (void)s;
    box_opts o = test_box_opts();
    o.limits.wall_s = 10;
    o.limits.cpu_s = 10;
    o.max_live = LIVE;
    assert_true(bench_load(&o, LIVE, false));
}

int main(int argc, char **argv)
{
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    box_opts o = test_box_opts();
    box_pool *pool;
    if (box_pool_create(&pool, &o) != ST_OK) {
        printf("SKIP: %s\n", fail_message());
        return 77;
    }
    box_pool_destroy(pool);
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_live_boxes_leave_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
