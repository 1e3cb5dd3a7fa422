/* What happens when a part of the machinery dies: results, restarts, and nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "tests/common/boxes.h"
#include "tests/common/hostile.h"
#include "tests/common/procs.h"

extern char **environ;
static box_pool *pool;

static box *start_box(const char *code)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, 1, NULL, &b), ST_OK);
    if (code) assert_int_equal(box_submit(b, code, strlen(code)), ST_OK);
    return b;
}

/* ---- tests ---- */

static void one_box_dies_alone(void **s)
{
    (void)s;
    box *a = start_box(NULL), *b = start_box(NULL);
    free(test_expect(pool, a, "x = 1", BOX_OK));
    free(test_expect(pool, b, "x = 2", BOX_OK));
    free(test_expect(pool, a,
                     "import os, signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True:\n    try: os.fork()\n    except "
                     "OSError: pass",
                     BOX_TIMEOUT_HARD));
    char *text = test_expect(pool, b, "x", BOX_OK);
    assert_string_equal(text, "2\n");
    free(text);
    box_close(a);
    text = test_expect(pool, b, "x", BOX_OK);
    assert_string_equal(text, "2\n");
    free(text);
    box_close(b);
}

static void honest_boxes_beside_hostile_ones(void **s)
{
    (void)s;
    static const char *const hostile[] = {
        "while True: pass", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        "x = []\nwhile True: x.append(bytearray(1 << 20))", "while True: print('x' * 9999)"};
    enum { BAD = 8, GOOD = 12 };
    box *b[BAD + GOOD];
    for (int i = 0; i < BAD; i++) b[i] = start_box(hostile[i % 4]);
    for (int i = BAD; i < BAD + GOOD; i++) b[i] = start_box("np.arange(10).sum()");
    for (int n = 0; n < BAD + GOOD;) {
        box *done[32];
        int k = box_poll(pool, done, 32, 10000);
        assert_true(k > 0);
        for (int i = 0; i < k; i++, n++) {
            box_result r;
            box_result_take(done[i], &r);
            for (int g = BAD; g < BAD + GOOD; g++)
                if (done[i] == b[g]) assert_int_equal(r.verdict, BOX_OK);
            assert_int_not_equal(r.verdict, BOX_INFRA);
            box_result_free(&r);
        }
    }
    for (int i = 0; i < BAD + GOOD; i++) box_close(b[i]);
}

static void a_closed_pool_leaves_nothing(void **s)
{
    (void)s;
    static procs ps;
    pid_t boxd = procs_role(getpid(), "@boxd", 0);
    box *b[20];
    for (int i = 0; i < 20; i++) b[i] = start_box("import os\nif os.fork() == 0:\n    while True: pass");
    box *done[20];
    for (int n = 0; n < 20;) n += box_poll(pool, done, 20, 5000);
    procs_below(boxd, &ps);
    assert_true(ps.n >= 20);
    for (int i = 0; i < 20; i++) {
        box_result r;
        box_result_take(b[i], &r);
        box_result_free(&r);
        box_close(b[i]);
    }
    box_pool_destroy(pool);
    for (double until = clock_now() + 2; clock_now() < until && ps.n > 2; usleep(10000)) procs_below(boxd, &ps);
    assert_true(ps.n <= 2); /* janitor and opener */
    box_opts o = test_box_opts();
    assert_int_equal(box_pool_create(&pool, &o), ST_OK);
}

/* How many of these the others lack. */
static int new_ones(const procs *these, const procs *others)
{
    int n = 0;
    for (int i = 0; i < these->n; i++) {
        bool known = false;
        for (int k = 0; k < others->n; k++) known |= these->p[i].pid == others->p[k].pid;
        n += !known;
    }
    return n;
}

static void end_turn(box *b)
{
    box *done;
    box_result r;
    assert_int_equal(box_poll(pool, &done, 1, 10000), 1);
    box_result_take(b, &r);
    assert_int_equal(r.verdict, BOX_OK);
    box_result_free(&r);
}

static void a_turn_is_forked_while_the_model_writes(void **s)
{
    (void)s;
    static const char rest[] = "import time\ntime.sleep(0.4)";
    static procs first, parked, second;
    if (box_pool_tier(pool) >= BOX_T2) skip(); /* where no state can be forked */
    box_pool_destroy(pool);
    box_opts o = test_box_opts();
    o.spares = 0; /* no other process is made meanwhile */
    assert_int_equal(box_pool_create(&pool, &o), ST_OK);
    pid_t boxd = procs_role(getpid(), "@boxd", 0);
    box *b = start_box(rest), *done;
    assert_int_equal(box_poll(pool, &done, 1, 200), 0);
    procs_below(boxd, &first);
    end_turn(b);
    for (double until = clock_now() + 5; clock_now() < until && !new_ones(&parked, &first); usleep(10000))
        procs_below(boxd, &parked);
    assert_int_equal(new_ones(&parked, &first), 1);
    assert_int_equal(box_submit(b, rest, sizeof rest - 1), ST_OK);
    assert_int_equal(box_poll(pool, &done, 1, 200), 0);
    procs_below(boxd, &second);
    assert_int_equal(new_ones(&second, &parked), 0); /* it runs in that one */
    end_turn(b);
    box_close(b);
    box_pool_destroy(pool);
    o = test_box_opts();
    assert_int_equal(box_pool_create(&pool, &o), ST_OK);
}

/* ---- killed in the middle ---- */

static int count_lines(const char *command)
{
    char line[4096];
    int n = 0;
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) n++;
    pclose(f);
    return n;
}

typedef struct things {
    int mounts, shm, files;
} things;
static things count_things(void)
{
    return (things){count_lines("cat /proc/self/mountinfo"), count_lines("ls -A /dev/shm"),
                    count_lines("ls -A /tmp /var/tmp | grep -i box")};
}

/* This binary again, with ten boxes of two busy processes each. */
static pid_t start_victim(const char *how, pid_t *boxd, procs *ps)
{
    int out[2];
    pid_t pid;
    char c;
    char *argv[] = {(char *)"test_sandbox_pool", (char *)how, NULL};
    assert_int_equal(pipe(out), 0);
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, out[1], 1);
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &fa, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    close(out[1]);
    assert_int_equal(read(out[0], &c, 1), 1);
    close(out[0]);
    *boxd = procs_role(pid, "@boxd", 0);
    procs_below(pid, ps);
    assert_true(*boxd > 1 && ps->n > 10);
    return pid;
}

static void killed_as(const char *victim, void (*how)(pid_t pid, pid_t boxd), bool at_once)
{
    static procs ps;
    pid_t boxd, pid;
    things before = count_things();
    pid = start_victim(victim, &boxd, &ps);
    int groups = procs_groups(boxd);
    how(pid, boxd);
    waitpid(pid, NULL, 0);
    double t = clock_now();
    assert_true(!at_once || procs_gone(&ps, boxd, 2)); /* a second is promised, on a machine that is not ours alone */
    print_message("%d processes, %d control groups: gone after %.0f ms\n", ps.n, groups, 1e3 * (clock_now() - t));
    if (!at_once) { /* the next one sweeps */
        assert_true(procs_groups(boxd) == groups);
        box_pool_destroy(pool);
        box_shutdown();
        assert_int_equal(box_boot(1, NULL, CODEDANCE_EXE), -1);
        box_opts o = test_box_opts();
        assert_int_equal(box_pool_create(&pool, &o), ST_OK);
        assert_true(procs_gone(&ps, boxd, 0.1));
    }
    things after = count_things();
    assert_memory_equal(&before, &after, sizeof before);
}

static void killed(void (*how)(pid_t pid, pid_t boxd), bool at_once) { killed_as("--victim", how, at_once); }

static void kill_client(pid_t pid, pid_t boxd)
{
    (void)boxd;
    kill(pid, SIGKILL);
}
static void kill_stopped(pid_t pid, pid_t boxd)
{
    (void)boxd;
    kill(pid, SIGSTOP);
    usleep(50000);
    kill(pid, SIGKILL);
}
static void kill_with_stopped_supervisor(pid_t pid, pid_t boxd)
{
    kill(boxd, SIGSTOP);
    kill(pid, SIGKILL);
}
static void kill_everything_of_ours(pid_t pid, pid_t boxd)
{
    static procs ps; /* as a batch system does that ends the whole job */
    procs_below(pid, &ps);
    kill(pid, SIGKILL);
    for (int i = 0; i < ps.n; i++) {
        proc p = ps.p[i];
        if (p.pid == boxd || p.parent == boxd) kill(p.pid, SIGKILL);
    }
    usleep(500000);
}

static void the_client_dies(void **s)
{
    (void)s;
    killed(kill_client, true);
}
/* Where no pid namespace ends what is in it. */
static void the_client_dies_at_t2(void **s)
{
    (void)s;
    killed_as("--victim-t2", kill_client, true);
    killed_as("--victim-t2", kill_stopped, true);
    killed_as("--victim-t2", kill_with_stopped_supervisor, true);
}
static void the_stopped_client_dies(void **s)
{
    (void)s;
    killed(kill_stopped, true);
}
static void the_client_of_a_stopped_supervisor_dies(void **s)
{
    (void)s;
    killed(kill_with_stopped_supervisor, true);
}
static void all_are_killed_and_the_next_one_sweeps(void **s)
{
    (void)s;
    killed(kill_everything_of_ours, false);
}

static void a_lost_zygote_program_is_named(void **s)
{
    (void)s;
    char dir[] = "/tmp/codedance-XXXXXX", command[512], said[1024] = "";
    assert_non_null(mkdtemp(dir));
    snprintf(command, sizeof command, "cp %s %s && echo 'print(1)' | %s/codedance box - 2>&1; rm -r %s", CODEDANCE_EXE,
             dir, dir, dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    pclose(f);
    if (!strstr(said, "codedance-zygote")) print_message("%s\n", said);
    assert_non_null(strstr(said, "codedance-zygote"));
    assert_non_null(strstr(said, "same folder"));
}

static int victim(const char *forks)
{
    box_opts o = test_box_opts();
    o.min_tier = BOX_T2;
    o.limits.wall_s = 60;
    if (box_pool_create(&pool, &o) != ST_OK) return 1;
    for (int i = 0; i < 10; i++) {
        box *b;
        char code[64];
        int n = snprintf(code, sizeof code, "import os\n%swhile True: pass", forks);
        if (box_open(pool, 1, NULL, &b) != ST_OK || box_submit(b, code, (size_t)n) != ST_OK) return 1;
    }
    box *done;
    box_poll(pool, &done, 1, 1500);
    if (write(1, "x", 1) != 1) return 1;
    for (;;) pause();
}

int main(int argc, char **argv)
{
    bool t2 = argc == 2 && !strcmp(argv[1], "--victim-t2");
    if (t2 && hostile_deny_namespaces()) return 1;
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    if (argc == 2 && !strncmp(argv[1], "--victim", 8)) return victim(t2 ? "" : "os.fork()\n");
    box_opts o = test_box_opts();
    status st = box_pool_create(&pool, &o);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        return 77;
    }
    if (st != ST_OK) {
        printf("%s\n", fail_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_box_dies_alone),
        cmocka_unit_test(honest_boxes_beside_hostile_ones),
        cmocka_unit_test(the_client_dies),
        cmocka_unit_test(the_client_dies_at_t2),
        cmocka_unit_test(the_stopped_client_dies),
        cmocka_unit_test(the_client_of_a_stopped_supervisor_dies),
        cmocka_unit_test(all_are_killed_and_the_next_one_sweeps),
        cmocka_unit_test(a_closed_pool_leaves_nothing),
        cmocka_unit_test(a_turn_is_forked_while_the_model_writes),
        cmocka_unit_test(a_lost_zygote_program_is_named),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
