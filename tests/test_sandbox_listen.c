/* The daemon of a node: clients without privileges get boxes at its tier, two at once, and whoever dies, client or
 * daemon, leaves nothing and is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "sandbox/wire.h"
#include "tests/common/boxes.h"
#include "tests/common/hostile.h"
#include "tests/common/procs.h"

extern char **environ;
static char dir[64], path[80], log_path[80];
static pid_t daemon_pid;
static box_pool *pool;

/* ---- the daemon ---- */

static pid_t start(char *const argv[], const char *out)
{
    pid_t pid;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    if (out)
        for (int i = 1; i < 3; i++) posix_spawn_file_actions_addopen(&fa, i, out, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_int_equal(posix_spawn(&pid, argv[0], &fa, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    return pid;
}

static void start_daemon(void)
{
    char group[16];
    snprintf(group, sizeof group, "%d", geteuid() == 0 ? 65534 : (int)getegid());
    char *argv[] = {(char *)CODEDANCE_EXE,
                    (char *)"boxd",
                    (char *)"--listen",
                    path,
                    (char *)"--group",
                    group,
                    (char *)"--max-clients",
                    (char *)"2",
                    (char *)"--set",
                    (char *)"sandbox.memory_mib=512",
                    NULL};
    struct stat s;
    daemon_pid = start(argv, log_path);
    for (double until = clock_now() + 60; clock_now() < until; usleep(20000)) {
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        memcpy(at.sun_path, path, strlen(path));
        bool up = stat(path, &s) == 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
        close(fd);
        if (up) {
            usleep(100000); /* that one goes again */
            return;
        }
        assert_int_equal(waitpid(daemon_pid, NULL, WNOHANG), 0);
    }
    fail_msg("the daemon does not start");
}

static void end_daemon(int sig)
{
    int st;
    kill(daemon_pid, sig);
    assert_int_equal(waitpid(daemon_pid, &st, 0), daemon_pid);
    if (sig == SIGTERM) assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 0);
}

static status connect_pool(void)
{
    box_opts o = test_box_opts();
    o.socket = path;
    o.min_tier = BOX_T2;
    o.limits.wall_s = 8;
    return box_pool_create(&pool, &o);
}

static box *open_box(void)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, 1, NULL, &b), ST_OK);
    return b;
}

/* ---- a rank without privileges: this binary again ---- */

/* Namespaces forbidden, an ordinary user: what the daemon's boxes can do, it cannot. Prints what it met. */
static int restricted(const char *socket_path)
{
    if (hostile_deny_namespaces()) return 77;
    if (geteuid() == 0 && (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
        return 77;
    if (unshare(CLONE_NEWUSER) == 0) return 1;
    int rc = box_boot(1, NULL, CODEDANCE_EXE);
    box_opts o = test_box_opts();
    o.socket = socket_path;
    box_pool *p = NULL;
    uint8_t rgb[3] = {1, 2, 3};
    box_image im = {1, 1, rgb};
    box_input *in = NULL;
    box *b = NULL;
    if (rc != -1 || box_pool_create(&p, &o) != ST_OK || box_input_create(&in, &im, 1) != ST_OK ||
        box_open(p, 1, in, &b) != ST_OK) {
        printf("%s\n", fail_message());
        return 1;
    }
    box_result r = test_turn(p, b, "import os\nshow(img)\nprint(os.getppid(), img.getpixel((0, 0)))");
    int parent = 0;
    bool ok = r.verdict == BOX_OK && r.n_image == 1 && r.images[0].rgb[2] == 3 && strstr(r.text, "(1, 2, 3)");
    bool hidden = sscanf(r.text, "%d", &parent) == 1 && parent == 1;
    printf("%s tier %s%s\n", box_verdict_name(r.verdict), box_tier_name(r.tier), hidden ? "" : " in our pid namespace");
    fflush(stdout);
    box_result_free(&r);
    if (getenv("STAY")) {
        static const char spin[] = "import os\nos.fork()\nwhile True: pass";
        box_submit(b, spin, sizeof spin - 1);
        for (;;) pause();
    }
    box_close(b);
    box_input_release(in);
    box_pool_destroy(p);
    box_shutdown();
    return !ok || !hidden;
}

static pid_t start_restricted(const char *out)
{
    char *argv[] = {(char *)"/proc/self/exe", (char *)"--restricted", path, NULL};
    return start(argv, out);
}

/* ---- tests ---- */

static void says(const char *file, const char *text)
{
    char said[8192] = "";
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    said[fread(said, 1, sizeof said - 1, f)] = 0;
    fclose(f);
    if (!strstr(said, text)) fail_msg("\"%s\" is not in:\n%s", text, said);
}

static void a_rank_without_privileges_gets_the_daemons_tier(void **s)
{
    (void)s;
    char out[96];
    int st;
    snprintf(out, sizeof out, "%s/restricted", dir);
    assert_int_equal(connect_pool(), ST_OK);
    box *b = open_box();
    free(test_expect(pool, b, "x = 1", BOX_OK));
    pid_t pid = start_restricted(out); /* beside our own pool */
    assert_int_equal(waitpid(pid, &st, 0), pid);
    char *text = test_expect(pool, b, "x", BOX_OK);
    assert_string_equal(text, "1\n");
    free(text);
    if (WEXITSTATUS(st) == 77) print_message("SKIP: no system-call filters\n");
    if (WEXITSTATUS(st) != 77) {
        char want[32];
        snprintf(want, sizeof want, "OK tier %s\n", box_tier_name(box_pool_tier(pool)));
        says(out, want);
        assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 0);
    }
    box_close(b);
    box_pool_destroy(pool);
}

static void limits_and_strangers_are_checked(void **s)
{
    (void)s;
    box_opts o = test_box_opts();
    o.socket = path;
    o.limits.memory_mib = 600;
    assert_int_equal(box_pool_create(&pool, &o), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "sandbox.memory_mib: 600 is asked for"));
    o = test_box_opts();
    o.socket = path;
    o.python = "/bin/true"; /* would be started outside the jail */
    assert_int_equal(box_pool_create(&pool, &o), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "sandbox.python"));
    if (geteuid() == 0) { /* of another group: not even the socket opens; and as a member by gid it does */
        pid_t pid = fork();
        if (pid == 0) {
            if (setgroups(0, NULL) || setresgid(4711, 4711, 4711) || setresuid(4711, 4711, 4711)) _exit(9);
            status st = connect_pool();
            _exit(st == ST_EUNAVAIL && strstr(fail_message(), "may not connect") ? 0 : 1);
        }
        int st;
        waitpid(pid, &st, 0);
        assert_int_equal(st, 0);
        assert_int_equal(chmod(path, 0666), 0); /* the file lets everybody in: the daemon still does not */
        pid = fork();
        if (pid == 0) {
            if (setgroups(0, NULL) || setresgid(4711, 4711, 4711) || setresuid(4711, 4711, 4711)) _exit(9);
            status one = connect_pool();
            _exit(one == ST_EUNAVAIL && strstr(fail_message(), "does not serve user 4711") ? 0 : 1);
        }
        waitpid(pid, &st, 0);
        assert_int_equal(st, 0);
        assert_int_equal(chmod(path, 0660), 0);
    }
    static const char *const odd[] = {"/nowhere/x.sock", "/tmp", CODEDANCE_EXE};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        o = test_box_opts();
        o.socket = odd[i];
        assert_int_equal(box_pool_create(&pool, &o), ST_EUNAVAIL);
        assert_non_null(strstr(fail_message(), odd[i]));
    }
    char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    o.socket = longer;
    assert_int_equal(box_pool_create(&pool, &o), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "107 bytes"));
    pool = NULL;
}

static void another_version_is_told(void **s)
{
    (void)s;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    static wire_reply r;
    wire_pool p = {.h = {.op = OP_POOL, .nonce = wire_build() + 1}};
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(wire_send(fd, &p, sizeof p, NULL, 0, NULL, 0), 0);
    assert_int_equal(wire_recv(fd, &r, sizeof r, NULL, NULL, NULL, 0), sizeof r);
    assert_int_equal(r.h.op, OP_POOL_FAIL);
    assert_non_null(strstr(r.text, "another version"));
    close(fd);
}

/* Bytes that no client of ours sends end that client's supervisor and nothing else. */
static void garbage_ends_only_its_sender(void **s)
{
    (void)s;
    assert_int_equal(connect_pool(), ST_OK);
    box *b = open_box();
    free(test_expect(pool, b, "x = 7", BOX_OK));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, path, strlen(path));
    for (unsigned seed = 1; seed < 20; seed++) {
        unsigned char junk[4096];
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
        srand(seed);
        for (size_t i = 0; i < sizeof junk; i++) junk[i] = (unsigned char)rand();
        uint32_t op = seed % 6 + 1; /* every order a client has, and one it has not */
        memcpy(junk, &op, sizeof op);
        if (seed % 2) memset(junk + 4, 0, 4); /* box 0 */
        (void)!send(fd, junk, seed % 3 ? 200 * seed : sizeof op * seed, MSG_NOSIGNAL);
        usleep(20000);
        close(fd);
        usleep(60000); /* two clients at most */
    }
    char *text = test_expect(pool, b, "x", BOX_OK);
    assert_string_equal(text, "7\n");
    free(text);
    box_close(b);
    box_pool_destroy(pool);
}

static void too_many_clients_are_told(void **s)
{
    (void)s;
    char out[96];
    snprintf(out, sizeof out, "%s/many", dir);
    assert_int_equal(setenv("STAY", "1", 1), 0);
    assert_int_equal(connect_pool(), ST_OK);
    pid_t one = start_restricted(out);
    for (double until = clock_now() + 30; clock_now() < until; usleep(20000)) {
        struct stat st;
        if (stat(out, &st) == 0 && st.st_size) break;
    }
    unsetenv("STAY");
    snprintf(out, sizeof out, "%s/more", dir);
    pid_t two = start_restricted(out);
    int st;
    waitpid(two, &st, 0);
    if (WEXITSTATUS(st) != 77) says(out, "which is its --max-clients");
    /* A killed client's boxes end with it. */
    static procs ps;
    procs_below(daemon_pid, &ps);
    int before = ps.n;
    kill(one, SIGKILL);
    waitpid(one, NULL, 0);
    double t = clock_now();
    for (; ps.n > before / 2 + 2 && clock_now() < t + 1; usleep(10000)) procs_below(daemon_pid, &ps);
    print_message("%d processes below the daemon, %d after %.0f ms\n", before, ps.n, 1e3 * (clock_now() - t));
    assert_true(ps.n <= before / 2 + 2);
    box_pool_destroy(pool);
}

/* Turns go on with a new daemon, run again; without one they fail in bounded time, with a clear reason. */
static void the_daemon_dies(void **s)
{
    (void)s;
    static procs ps;
    assert_int_equal(connect_pool(), ST_OK);
    box *b = open_box(), *done = NULL;
    free(test_expect(pool, b, "x = 5", BOX_OK));
    assert_int_equal(box_submit(b, "import time\ntime.sleep(1)\nx", 27), ST_OK);
    assert_int_equal(box_poll(pool, &done, 1, 200), 0);
    pid_t boxd = 0;
    procs_below(daemon_pid, &ps);
    for (int i = 0; i < ps.n; i++)
        if (ps.p[i].parent == daemon_pid) boxd = ps.p[i].pid;
    assert_true(boxd > 1);
    end_daemon(SIGKILL);
    assert_true(procs_gone(&ps, boxd, 2));   /* 0.1 s on an idle machine */
    assert_int_equal(access(path, F_OK), 0); /* stale: replaced */
    start_daemon();
    assert_int_equal(box_poll(pool, &done, 1, 20000), 1);
    box_result r;
    box_result_take(b, &r);
    if (r.verdict != BOX_OK) print_message("%s\n", r.error_message);
    assert_int_equal(r.verdict, BOX_OK);
    assert_true(r.replayed);
    assert_string_equal(r.text, "5\n");
    box_result_free(&r);
    end_daemon(SIGTERM);
    assert_int_not_equal(access(path, F_OK), 0);
    double t = clock_now();
    r = test_turn(pool, b, "x");
    assert_int_equal(r.verdict, BOX_INFRA);
    assert_true(clock_now() - t < 40);
    box_result_free(&r);
    box_close(b);
    box_pool_destroy(pool);
    assert_int_equal(connect_pool(), ST_EUNAVAIL);
    assert_non_null(strstr(fail_message(), "no daemon listens"));
}

static void the_command_says_what_is_wrong(void **s)
{
    (void)s;
    char file[96], out[96], longer[200];
    snprintf(file, sizeof file, "%s/file", dir);
    snprintf(out, sizeof out, "%s/said", dir);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fclose(f);
    start_daemon();
    const struct {
        char *arg;
        const char *said;
    } t[] = {{path, "somebody listens there already"},
             {file, "is no socket"},
             {longer, "1 to 107 bytes"},
             {(char *)"/nowhere/x", "/nowhere/x"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char *argv[] = {(char *)CODEDANCE_EXE, (char *)"boxd", (char *)"--listen", t[i].arg, NULL};
        int st;
        unlink(out);
        waitpid(start(argv, out), &st, 0);
        assert_true(WIFEXITED(st) && WEXITSTATUS(st) == 1);
        says(out, t[i].said);
    }
    end_daemon(SIGTERM);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--restricted")) return restricted(argv[2]);
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    box_opts o = test_box_opts();
    status st = box_pool_create(&pool, &o);
    box_pool_destroy(pool);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        return 77;
    }
    snprintf(dir, sizeof dir, "/tmp/codedance-XXXXXX");
    if (!mkdtemp(dir) || chmod(dir, 0755)) return 1;
    snprintf(path, sizeof path, "%s/boxd.sock", dir);
    snprintf(log_path, sizeof log_path, "%s/log", dir);
    start_daemon();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_without_privileges_gets_the_daemons_tier),
        cmocka_unit_test(limits_and_strangers_are_checked),
        cmocka_unit_test(another_version_is_told),
        cmocka_unit_test(garbage_ends_only_its_sender),
        cmocka_unit_test(too_many_clients_are_told),
        cmocka_unit_test(the_daemon_dies),
        cmocka_unit_test(the_command_says_what_is_wrong),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    if (rc) kill(daemon_pid, SIGKILL);
    box_shutdown();
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command) || rc;
}
