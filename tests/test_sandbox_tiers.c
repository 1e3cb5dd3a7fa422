/* Layers broken on purpose: calls that return success and do nothing, groups that do not bite. The canaries have to see
 * it and the pool has to refuse or to give a weaker tier, whatever the calls returned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/common/boxes.h"
#include "tests/common/hostile.h"

/* What the pool said, from the process that tried. */
typedef struct outcome {
    status st;
    box_tier tier;
    char message[512];
    int n;
    box_layer layer[48];
} outcome;
static outcome got;

/* From here on these calls return -e, or with e = 0 success, and do nothing. */
static void pretend(const int *calls, int n, int e)
{
    struct sock_filter f[64];
    unsigned short k = 0;
    f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < n; i++) {
        f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)e);
    }
    f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog p = {k, f};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p)) _exit(77);
}

/* In a process of its own, since filters and lost rights stay: prepare, then a pool, then what doctor says. */
static void try_pool(void (*prepare)(void), box_tier min_tier)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        static outcome o;
        char *argv[] = {(char *)"test", NULL};
        prepare();
        box_boot(1, argv, CODEDANCE_EXE);
        box_opts opts = test_box_opts();
        opts.min_tier = min_tier;
        box_pool *pool = NULL;
        o.st = box_pool_create(&pool, &opts);
        o.tier = o.st == ST_OK ? box_pool_tier(pool) : BOX_T3;
        if (o.st != ST_OK) snprintf(o.message, sizeof o.message, "%s", fail_message());
        box_pool_destroy(pool);
        box_tier tier;
        o.n = box_doctor(&opts, o.layer, 48, &tier);
        box_shutdown();
        _exit(write(p[1], &o, sizeof o) == (ssize_t)sizeof o ? 0 : 1);
    }
    close(p[1]);
    memset(&got, 0, sizeof got);
    ssize_t n = 0;
    for (ssize_t k; n < (ssize_t)sizeof got && (k = read(p[0], (char *)&got + n, sizeof got - (size_t)n)) > 0;) n += k;
    close(p[0]);
    int how = 0;
    waitpid(pid, &how, 0);
    if (WIFEXITED(how) && WEXITSTATUS(how) == 77) {
        print_message("SKIP: this machine does not let the layer be broken so\n");
        skip();
    }
    assert_int_equal(n, sizeof got);
}

static const box_layer *layer(const char *name)
{
    for (int i = 0; i < got.n; i++)
        if (!strcmp(got.layer[i].name, name)) return &got.layer[i];
    return NULL;
}

static void show(void)
{
    print_message("%s: %s\n", got.st == ST_OK ? box_tier_name(got.tier) : "refused", got.message);
    for (int i = 0; i < got.n; i++)
        if (!got.layer[i].ok)
            print_message("  %s: %s -> %s\n", got.layer[i].name, got.layer[i].evidence, got.layer[i].remedy);
}

static void refused_for(const char *what)
{
    show();
    assert_int_equal(got.st, ST_EUNAVAIL);
    assert_non_null(strstr(got.message, what));
}

/* Something on this machine already refuses: nothing is to be learnt about the broken layer. */
static void need(void (*prepare)(void), box_tier tier)
{
    static struct {
        void (*prepare)(void);
        outcome is;
    } known[4];
    int i = 0;
    while (known[i].prepare && known[i].prepare != prepare) i++;
    if (!known[i].prepare) {
        try_pool(prepare, BOX_T2);
        known[i].is = got;
        known[i].prepare = prepare;
    }
    got = known[i].is;
    if (got.st == ST_OK && got.tier <= tier) return;
    print_message("SKIP: %s here, this is about %s\n", got.st == ST_OK ? box_tier_name(got.tier) : got.message,
                  box_tier_name(tier));
    skip();
}

static void as_it_is(void) {}

static void user(void)
{
    if (hostile_drop_root()) _exit(77);
}

static void docker(void)
{
    if (hostile_drop_root() || hostile_deny_namespaces()) _exit(77);
}

static void landlock_does_nothing(void) { pretend((int[]){SYS_landlock_restrict_self}, 1, 0); }

static void docker_landlock_does_nothing(void)
{
    docker();
    landlock_does_nothing();
}

static void docker_without_landlock(void)
{
    docker();
    pretend((int[]){SYS_landlock_create_ruleset, SYS_landlock_restrict_self}, 2, ENOSYS);
}

static void filters_do_nothing(void) { pretend((int[]){SYS_seccomp}, 1, 0); }
static void no_filters(void) { pretend((int[]){SYS_seccomp}, 1, ENOSYS); }

/* One resource only: all of them would break the supervisor before it comes to boxes. */
static void limit_does_nothing(unsigned resource)
{
    user();
    struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 3),
                              BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                              BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, resource, 0, 1),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
                              BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog p = {sizeof f / sizeof *f, f};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p)) _exit(77);
}

static void processes_are_not_limited(void) { limit_does_nothing(RLIMIT_NPROC); }
static void memory_is_not_limited(void) { limit_does_nothing(RLIMIT_AS); }

static void namespaces_do_nothing(void)
{
    user(); /* never as root: what follows would mount on the machine itself */
    pretend((int[]){SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_mount_setattr}, 6, 0);
}

static void mounts_do_nothing(void)
{
    user();
    pretend((int[]){SYS_mount, SYS_umount2, SYS_pivot_root, SYS_mount_setattr}, 4, 0);
}

static void sessions_do_nothing(void) { pretend((int[]){SYS_kill}, 1, 0); }

/* A parent group whose children never kill: version 1 hands oom_kill_disable down. */
static char tame[256];
static void groups_do_not_kill(void)
{
    char path[300], pid[16];
    snprintf(tame, sizeof tame, "/sys/fs/cgroup/memory/tame.%d", (int)getppid());
    snprintf(path, sizeof path, "%s/memory.oom_control", tame);
    if (mkdir(tame, 0755) && errno != EEXIST) _exit(77);
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, "1", 1) != 1) _exit(77);
    close(fd);
    snprintf(path, sizeof path, "%s/cgroup.procs", tame);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, pid, strlen(pid)) < 0) _exit(77);
    close(fd);
}

static void a_landlock_that_does_nothing_is_seen(void **s)
{
    (void)s;
    need(as_it_is, BOX_T1);
    assert_true(layer("Landlock") && layer("Landlock")->ok);
    try_pool(landlock_does_nothing, BOX_T1);
    show();
    assert_int_equal(got.st, ST_OK); /* namespaces and filter stand without it */
    assert_true(layer("Landlock") && !layer("Landlock")->ok && strstr(layer("Landlock")->evidence, "done"));
}

static void at_t2_it_refuses(void **s)
{
    (void)s;
    need(docker, BOX_T2);
    assert_int_equal(got.tier, BOX_T2);
    try_pool(docker_landlock_does_nothing, BOX_T2);
    refused_for("does not hold");
    try_pool(docker_without_landlock, BOX_T2);
    refused_for("Landlock");
}

static void filters_that_do_nothing_are_seen(void **s)
{
    (void)s;
    need(as_it_is, BOX_T2);
    try_pool(filters_do_nothing, BOX_T2);
    refused_for("does not hold");
    try_pool(no_filters, BOX_T2);
    refused_for("system-call filter");
}

static void limits_that_do_nothing_are_seen(void **s)
{
    (void)s;
    need(user, BOX_T1);
    try_pool(processes_are_not_limited, BOX_T2);
    refused_for("process count");
    try_pool(memory_is_not_limited, BOX_T2);
    refused_for("address space");
}

static void namespaces_that_do_nothing_are_seen(void **s)
{
    (void)s;
    need(user, BOX_T1);
    try_pool(namespaces_do_nothing, BOX_T1);
    refused_for("");
    try_pool(mounts_do_nothing, BOX_T1);
    refused_for("");
    try_pool(namespaces_do_nothing, BOX_T2); /* a weaker tier, and only if asked for */
    show();
    assert_true(got.st != ST_OK || got.tier == BOX_T2);
}

static void kills_that_do_nothing_are_seen(void **s)
{
    (void)s;
    need(as_it_is, BOX_T2);
    try_pool(sessions_do_nothing, BOX_T2);
    show();
    assert_int_not_equal(got.st, ST_OK);
}

static void groups_that_do_not_kill_make_it_t1(void **s)
{
    (void)s;
    need(as_it_is, BOX_T0);
    assert_int_equal(got.tier, BOX_T0);
    try_pool(groups_do_not_kill, BOX_T1);
    snprintf(tame, sizeof tame, "/sys/fs/cgroup/memory/tame.%d", (int)getpid());
    for (int i = 0; i < 100 && rmdir(tame) && errno == EBUSY; i++) usleep(20000);
    show();
    assert_int_equal(got.st, ST_OK);
    assert_int_equal(got.tier, BOX_T1);
    assert_true(layer("control groups") && strstr(layer("control groups")->evidence, "memory group"));
    try_pool(groups_do_not_kill, BOX_T0);
    for (int i = 0; i < 100 && rmdir(tame) && errno == EBUSY; i++) usleep(20000);
    refused_for("memory group");
}

static void a_user_is_refused_t0(void **s)
{
    (void)s;
    need(user, BOX_T1);
    if (got.tier == BOX_T0) skip(); /* groups are delegated here */
    try_pool(user, BOX_T0);
    refused_for("asks for T0");
    assert_non_null(strstr(got.message, "control group"));
}

static void doctor_says_why_it_is_t2(void **s)
{
    (void)s;
    need(docker, BOX_T2);
    const box_layer *l = layer("namespaces");
    assert_true(l && !l->ok && strstr(l->evidence, "namespace") && strstr(l->remedy, "seccomp=unconfined"));
    l = layer("Landlock");
    assert_true(l && l->ok);
}

/* The command line as a user, and in a container like Docker's. */
static void say(void (*prepare)(void), const char *arguments, char *out, size_t n)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char command[600];
        snprintf(command, sizeof command, "echo 'print(1)' | %s %s 2>&1", CODEDANCE_EXE, arguments);
        dup2(p[1], 1);
        close(p[0]);
        close(p[1]);
        prepare();
        _exit(system(command) == -1 ? 77 : 0); // NOLINT(cert-env33-c): a shell to pipe with
    }
    close(p[1]);
    size_t k = 0;
    for (ssize_t r; k < n - 1 && (r = read(p[0], out + k, n - 1 - k)) > 0;) k += (size_t)r;
    out[k] = 0;
    close(p[0]);
    waitpid(pid, NULL, 0);
}

static void the_command_line_says_it(void **s)
{
    (void)s;
    static char text[1 << 16];
    need(user, BOX_T1);
    if (got.tier == BOX_T1) {
        say(user, "box --tier T0 -", text, sizeof text);
        if (!strstr(text, "min_tier")) print_message("%s\n", text);
        assert_null(strstr(text, "\"verdict\""));
        assert_non_null(strstr(text, "sandbox tier T1"));
        assert_non_null(strstr(text, "asks for T0"));
        say(user, "box --tier T1 -", text, sizeof text);
        assert_non_null(strstr(text, "\"tier\":\"T1\""));
    }
    need(docker, BOX_T2);
    say(docker, "box -", text, sizeof text);
    assert_null(strstr(text, "\"verdict\""));
    assert_non_null(strstr(text, "seccomp=unconfined"));
    say(docker, "box --tier T2 -", text, sizeof text);
    assert_non_null(strstr(text, "\"tier\":\"T2\""));
    say(docker, "doctor", text, sizeof text);
    if (!strstr(text, "T2: ")) print_message("%s\n", text);
    assert_non_null(strstr(text, "T2: Landlock and seccomp only"));
    assert_non_null(strstr(text, "user.max_user_namespaces"));
}

int main(int argc, char **argv)
{
    if (argc == 3) return box_boot(argc, argv, CODEDANCE_EXE);
    if (access(CODEDANCE_EXE, X_OK)) {
        printf("SKIP: %s cannot be run\n", CODEDANCE_EXE);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_landlock_that_does_nothing_is_seen),
        cmocka_unit_test(at_t2_it_refuses),
        cmocka_unit_test(filters_that_do_nothing_are_seen),
        cmocka_unit_test(limits_that_do_nothing_are_seen),
        cmocka_unit_test(namespaces_that_do_nothing_are_seen),
        cmocka_unit_test(kills_that_do_nothing_are_seen),
        cmocka_unit_test(groups_that_do_not_kill_make_it_t1),
        cmocka_unit_test(a_user_is_refused_t0),
        cmocka_unit_test(doctor_says_why_it_is_t2),
        cmocka_unit_test(the_command_line_says_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
