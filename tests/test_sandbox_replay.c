/* A part of the sandbox dies in the middle of turns: they are run once more after the turns before them, or end as
 * INFRA with the reason, and never as anything that is not true. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "tests/common/boxes.h"
#include "tests/common/hostile.h"
#include "tests/common/procs.h"

static box_pool *pool;

static box *start_box(uint64_t seed, box_input *in)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, seed, in, &b), ST_OK);
    return b;
}

static void submit(box *b, const char *code) { assert_int_equal(box_submit(b, code, strlen(code)), ST_OK); }

static void kill_role(const char *role)
{
    pid_t pid = procs_role(getpid(), role, 0);
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
}

static bool t2;

static void open_pool(void)
{
    box_opts o = test_box_opts();
    if (t2) o.min_tier = BOX_T2;
    o.limits.wall_s = 8; /* a turn run again meets a machine that starts a sandbox */
    assert_int_equal(box_pool_create(&pool, &o), ST_OK);
}

/* Boxes with pictures and state, one idle, one that never ran; all know afterwards what they knew. */
static void death_in_the_middle(const char *role)
{
    enum { N = 6 };
    box *b[N + 2];
    char *first[N + 2];
    uint8_t rgb[12] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};
    box_image im = {2, 2, rgb};
    box_input *in = NULL;
    assert_int_equal(box_input_create(&in, &im, 1), ST_OK);
    for (int i = 0; i < N + 2; i++) b[i] = start_box((uint64_t)i + 1, in);
    box_input_release(in);
    for (int i = 0; i <= N; i++) {
        first[i] = test_expect(pool, b[i], "import random\nx = 1\nshow(img)\nprint(random.random())", BOX_OK);
        free(test_expect(pool, b[i], "x = 100\n1 / 0", BOX_PY_ERROR));
        free(test_expect(pool, b[i], "x += 1", BOX_OK));
    }
    static const char slow[] = "import time\ntime.sleep(1.5)\nprint(x, img.getpixel((1, 0)))";
    for (int i = 0; i < N; i++) submit(b[i], slow);
    box *done[N];
    assert_int_equal(box_poll(pool, done, N, 100), 0);
    kill_role(role);
    double t = clock_now();
    for (int n = 0; n < N;) {
        int k = box_poll(pool, done, N, 10000);
        assert_true(k > 0);
        for (int i = 0; i < k; i++, n++) {
            box_result r;
            box_result_take(done[i], &r);
            if (r.verdict != BOX_OK) print_message("%s\n", r.error_message ? r.error_message : r.text);
            assert_int_equal(r.verdict, BOX_OK);
            assert_true(r.replayed && !r.state_lost);
            assert_string_equal(r.text, "2 (40, 50, 60)\n");
            assert_true(r.wall_ms + r.queue_ms > 1400); /* some of its sleep may count as waiting */
            box_result_free(&r);
        }
    }
    print_message("%d turns made again in %.0f ms\n", N, 1e3 * (clock_now() - t));
    box_result r = test_turn(pool, b[N], "x"); /* was idle */
    assert_int_equal(r.verdict, BOX_OK);
    assert_true(r.replayed);
    assert_string_equal(r.text, "2\n");
    box_result_free(&r);
    r = test_turn(pool, b[N + 1], "img.size"); /* never ran */
    assert_true(r.verdict == BOX_OK && !r.replayed);
    assert_string_equal(r.text, "(2, 2)\n");
    box_result_free(&r);
    for (int i = 0; i <= N; i++) { /* generators go on where they were; nothing is run again without need */
        r = test_turn(pool, b[i], "random.random()");
        assert_int_equal(r.verdict, BOX_OK);
        assert_false(r.replayed);
        assert_string_not_equal(r.text, first[i]);
        free(first[i]);
        box_result_free(&r);
    }
    for (int i = 0; i < N + 2; i++) box_close(b[i]);
}

static void the_zygote_dies(void **s)
{
    (void)s;
    death_in_the_middle("@zygote");
}

static void the_supervisor_dies(void **s)
{
    (void)s;
    static procs ps;
    pid_t boxd = procs_role(getpid(), "@boxd", 0);
    procs_below(getpid(), &ps);
    assert_true(boxd > 1 && ps.n > 3);
    death_in_the_middle("@boxd");
    assert_true(procs_gone(&ps, boxd, 2)); /* 0.1 s on an idle machine */
}

static void what_cannot_be_repeated_is_infra(void **s)
{
    (void)s;
    static const char *const roles[] = {"@zygote", "@boxd"};
    for (int i = 0; i < 2; i++) {
        box *b = start_box(1, NULL);
        free(test_expect(pool, b, "x = 1", BOX_OK));
        free(test_expect(pool, b, "import time\ntime.process_time_ns()", BOX_OK));
        submit(b, "import time\ntime.sleep(2)\nprint('late')");
        box *done;
        assert_int_equal(box_poll(pool, &done, 1, 100), 0);
        kill_role(roles[i]);
        assert_int_equal(box_poll(pool, &done, 1, 20000), 1);
        box_result r;
        box_result_take(b, &r);
        assert_int_equal(r.verdict, BOX_INFRA);
        assert_true(r.state_lost && r.replayed);
        assert_string_equal(r.text, "");
        assert_non_null(strstr(r.error_message, "turn 2, run again"));
        box_result_free(&r);
        free(test_expect(pool, b, "x", BOX_DEAD)); /* never a silent restart */
        box_close(b);
    }
}

static int open_files(pid_t pid)
{
    char command[64];
    snprintf(command, sizeof command, "ls /proc/%d/fd | wc -l", pid);
    FILE *f = popen(command, "r");
    int n = -1;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

static void a_hundred_turns_survive_the_zygote(void **s)
{
    (void)s;
    enum { N = 100 };
    box *b[N], *done[N];
    box_pool_destroy(pool);
    pid_t boxd = procs_role(getpid(), "@boxd", 0);
    usleep(200000); /* it clears its pool */
    int before = open_files(getpid()), boxd_before = open_files(boxd), replayed = 0;
    open_pool();
    for (int i = 0; i < N; i++) {
        b[i] = start_box((uint64_t)i, NULL);
        submit(b[i], "import time\nx = np.random.rand()\ntime.sleep(3)");
    }
    box_poll(pool, done, N, 2700); /* they are let in a few at a time */
    kill_role("@zygote");
    for (int n = 0; n < N;) {
        int k = box_poll(pool, done, N, 20000);
        assert_true(k > 0);
        for (int i = 0; i < k; i++, n++) {
            box_result r;
            box_result_take(done[i], &r);
            if (r.verdict != BOX_OK) print_message("%s\n", r.error_message ? r.error_message : "");
            assert_int_equal(r.verdict, BOX_OK);
            replayed += r.replayed;
            box_result_free(&r);
        }
    }
    print_message("%d of %d were run again\n", replayed, N);
    assert_true(replayed > N / 2);
    for (int i = 0; i < N; i++) free(test_expect(pool, b[i], "0 <= x < 1", BOX_OK));
    for (int i = 0; i < N; i++) box_close(b[i]);
    box_pool_destroy(pool);
    usleep(500000);
    assert_int_equal(open_files(getpid()), before);
    assert_int_equal(open_files(boxd), boxd_before);
    open_pool();
}

/* What fails again and again is reported, not tried for ever. */
static void five_deaths_are_enough(const char *role)
{
    box *b = start_box(1, NULL), *done;
    box_result r;
    double until = clock_now() + 60;
    int deaths = 0;
    for (;;) {
        assert_true(clock_now() < until);
        submit(b, "import time\ntime.sleep(2)");
        while (box_poll(pool, &done, 1, 50) == 0) {
            pid_t pid = procs_role(getpid(), role, 0);
            if (pid > 1 && deaths < 9) deaths += kill(pid, SIGKILL) == 0;
        }
        box_result_take(b, &r);
        assert_int_equal(r.verdict, BOX_INFRA);
        assert_non_null(r.error_message);
        bool given_up = strstr(r.error_message, "for good") != NULL;
        box_result_free(&r);
        if (given_up) break;
    }
    double t = clock_now();
    r = test_turn(pool, b, "1");
    assert_int_equal(r.verdict, BOX_INFRA);
    assert_true(clock_now() - t < 0.1);
    box_result_free(&r);
    box_close(b);
    box_pool_destroy(pool);
    open_pool(); /* somebody has looked into it */
    b = start_box(1, NULL);
    free(test_expect(pool, b, "1", BOX_OK));
    box_close(b);
}

static void five_deaths_of_the_zygote(void **s)
{
    (void)s;
    five_deaths_are_enough("@zygote");
}

static void five_deaths_of_the_supervisor(void **s)
{
    (void)s;
    five_deaths_are_enough("@boxd");
}

/* Without forks the state after a failure is made by running the earlier turns again. Code that then does something
 * else has lost it itself: that is no failure of ours, which would excuse it. */
static void what_the_code_lost_is_not_ours(void **s)
{
    (void)s;
    char code[160];
    box *b = start_box(1, NULL), *c = start_box(1, NULL);
    snprintf(code, sizeof code, "import time\nassert time.monotonic() < %f\nx = 1", clock_now() + 1);
    free(test_expect(pool, b, code, BOX_OK));
    free(test_expect(pool, c, "x = 2", BOX_OK));
    usleep(1100000);
    free(test_expect(pool, b, "1 / 0", BOX_PY_ERROR));
    free(test_expect(pool, c, "1 / 0", BOX_PY_ERROR));
    box_result r = test_turn(pool, b, "x");
    assert_int_equal(r.verdict, BOX_DEAD);
    assert_true(r.state_lost);
    box_result_free(&r);
    char *text = test_expect(pool, c, "x", BOX_OK);
    assert_string_equal(text, "2\n");
    free(text);
    box_close(b);
    box_close(c);
}

/* This binary again, where namespaces are forbidden: the state there is one process that cannot fork. */
static void all_of_it_at_t2(void **s)
{
    (void)s;
    int st = system("exec /proc/$PPID/exe --t2 2>&1"); // NOLINT(cert-env33-c)
    assert_true(WIFEXITED(st));
    if (WEXITSTATUS(st) == 77) skip();
    assert_int_equal(WEXITSTATUS(st), 0);
}

int main(int argc, char **argv)
{
    t2 = argc == 2 && !strcmp(argv[1], "--t2");
    if (t2 && hostile_deny_namespaces()) return 77;
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    box_opts o = test_box_opts();
    if (t2) o.min_tier = BOX_T2;
    status st = box_pool_create(&pool, &o);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        return 77;
    }
    box_pool_destroy(pool);
    open_pool();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_zygote_dies),
        cmocka_unit_test(the_supervisor_dies),
        cmocka_unit_test(what_cannot_be_repeated_is_infra),
        cmocka_unit_test(a_hundred_turns_survive_the_zygote),
        cmocka_unit_test(five_deaths_of_the_zygote),
        cmocka_unit_test(five_deaths_of_the_supervisor),
        cmocka_unit_test(all_of_it_at_t2),
    };
    const struct CMUnitTest some[] = {
        cmocka_unit_test(the_zygote_dies),
        cmocka_unit_test(the_supervisor_dies),
        cmocka_unit_test(what_cannot_be_repeated_is_infra),
        cmocka_unit_test(what_the_code_lost_is_not_ours),
    };
    rc = t2 ? cmocka_run_group_tests(some, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
