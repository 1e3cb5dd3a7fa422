/* More turns than processors, and many boxes alive at once, each with a picture and a state; everything is as before
 * when they are closed. benchmarks/bench_sandbox_load.c is the same with more of them and their memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"
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

/* The group of a process in the v1 hierarchy with the cpu controller. */
static bool cpu_group(int pid, char path[512])
{
    char file[64], line[700], names[128] = ",";
    bool found = false;
    snprintf(file, sizeof file, "/proc/%d/cgroup", pid);
    FILE *f = fopen(file, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%*d:%120[^:]:%511s", names + 1, path) != 2) continue;
        found = strstr(strcat(names, ","), ",cpu,") != NULL;
    }
    if (f) fclose(f);
    return found;
}

/* Otherwise a box with a hundred processes has a hundred times the processors of one with one. */
static void a_box_has_its_own_share_of_the_processors(void **state)
{
    (void)state;
    char path[512], own[600], slot[64];
    bool lent = cpu_group(getpid(), path);
    snprintf(own, sizeof own, "/sys/fs/cgroup/cpu%s", path);
    if (!lent || access(own, W_OK)) skip(); /* only v2 here, or not ours to divide */
    box_opts o = test_box_opts();
    box_pool *p = NULL;
    box *b = NULL;
    assert_int_equal(box_pool_create(&p, &o), ST_OK);
    if (box_pool_tier(p) != BOX_T0) {
        box_pool_destroy(p);
        skip();
    }
    assert_int_equal(box_open(p, 1, NULL, &b), ST_OK);
    free(test_expect(p, b, "1", BOX_OK));
    int below[256], boxd = bench_find().boxd, n = bench_descendants(boxd, below, 256), inside = 0;
    snprintf(slot, sizeof slot, "/box.%d/slot", boxd);
    for (int i = 0; i < n && i < 256; i++) inside += cpu_group(below[i], path) && strstr(path, slot);
    box_close(b);
    box_pool_destroy(p);
    assert_true(inside >= 2); /* its runner and the holder of its state */
}

/* Far more turns than processors: waiting is told apart from running, nobody runs out of time because of the others,
 * and short turns do not stand behind the long ones. */
static void waiting_is_not_running(void **state)
{
    (void)state;
    enum { LONG = 32 };
    static const char work[] = "for i in range(8000000): pass", quick[] = "print(1)";
    box_opts o = test_box_opts();
    o.limits.wall_s = 10;
    o.limits.cpu_s = 4;
    o.max_live = LONG + 1;
    box_pool *p = NULL;
    assert_int_equal(box_pool_create(&p, &o), ST_OK);
    box *b[LONG], *fast, *done;
    double start = clock_now(), waited = 0, slowest = 0;
    for (int i = 0; i < LONG; i++) {
        assert_int_equal(box_open(p, 1, NULL, &b[i]), ST_OK);
        assert_int_equal(box_submit(b[i], work, strlen(work)), ST_OK);
    }
    assert_int_equal(box_open(p, 1, NULL, &fast), ST_OK);
    int ended = 0, short_turns = 0;
    bool asked = false;
    double sent = 0;
    while (ended < LONG) {
        if (!asked && clock_now() > start + 1) { /* all of the long ones have begun to wait */
            sent = clock_now();
            assert_int_equal(box_submit(fast, quick, strlen(quick)), ST_OK);
            asked = true;
        }
        if (box_poll(p, &done, 1, 10) == 0) {
            assert_true(clock_now() < start + 60);
            continue;
        }
        box_result r;
        box_result_take(done, &r);
        double seen = 1e3 * (clock_now() - (done == fast ? sent : start));
        if (r.verdict != BOX_OK)
            print_message("%s after %.0f ms, %.0f of them waiting\n", box_verdict_name(r.verdict), r.wall_ms,
                          r.queue_ms);
        assert_int_equal(r.verdict, BOX_OK);
        assert_true(r.wall_ms + r.queue_ms < seen + 1 && r.wall_ms + r.queue_ms > seen - 500);
        if (done == fast) {
            asked = false;
            short_turns++;
            slowest = seen > slowest ? seen : slowest;
        } else {
            ended++;
            waited = r.queue_ms > waited ? r.queue_ms : waited;
        }
        box_result_free(&r);
    }
    double all = 1e3 * (clock_now() - start);
    print_message("%d long turns in %.0f ms, longest wait %.0f ms; %d short ones beside them, slowest %.0f ms\n", LONG,
                  all, waited, short_turns, slowest);
    assert_true(short_turns > 3);
    if (box_pool_tier(p) == BOX_T0) { /* elsewhere nobody can tell who computes: they run at the same time */
        assert_true(waited > 0.3 * all);
        assert_true(slowest < 0.5 * all);
    }
    for (int i = 0; i < LONG; i++) box_close(b[i]);
    box_close(fast);
    box_pool_destroy(p);
}

/* A box whose first process was made ahead and one made on the spot are the same to the code, addresses included. */
static void made_ahead_or_not_is_the_same(void **state)
{
    (void)state;
    enum { N = 6 };
    static const char look[] = "import sys\na = [object() for i in range(50)]\n"
                               "print(id(a), id(a[-1]), id({}), id(np.zeros(9)), id(img), len(sys.modules), "
                               "np.random.rand())";
    uint8_t rgb[64 * 64 * 3] = {1};
    box_opts o = test_box_opts();
    o.limits.wall_s = 10;
    o.spares = 2; /* the others' jails are made when they are wanted */
    o.max_starting = N;
    box_pool *p = NULL;
    box_input *in = NULL;
    box *b[N], *done;
    char *text = NULL;
    assert_int_equal(box_pool_create(&p, &o), ST_OK);
    assert_int_equal(box_input_create(&in, &(box_image){64, 64, rgb}, 1), ST_OK);
    usleep(500000);
    for (int i = 0; i < N; i++) {
        assert_int_equal(box_open(p, 1, in, &b[i]), ST_OK);
        assert_int_equal(box_submit(b[i], look, strlen(look)), ST_OK);
    }
    for (int i = 0; i < N;) {
        if (box_poll(p, &done, 1, 1000) == 0) continue;
        box_result r;
        box_result_take(done, &r);
        assert_int_equal(r.verdict, BOX_OK);
        if (text) assert_string_equal(r.text, text);
        if (!text) text = strdup(r.text);
        box_result_free(&r);
        box_close(done);
        i++;
    }
    free(text);
    box_input_release(in);
    box_pool_destroy(p);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_box_has_its_own_share_of_the_processors), cmocka_unit_test(waiting_is_not_running),
        cmocka_unit_test(made_ahead_or_not_is_the_same), cmocka_unit_test(many_live_boxes_leave_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
