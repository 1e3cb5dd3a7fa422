/* Where containers forbid namespaces: refuse by default and say what would help; on request run with Landlock and the
 * system-call filter alone. The same denials as Docker's default profile are installed here first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/common/boxes.h"
#include "tests/common/hostile.h"

static box_pool *pool;

static box *open_box(void)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, 5, NULL, &b), ST_OK);
    return b;
}

static void says(box *b, const char *code, const char *text)
{
    char *got = test_expect(pool, b, code, BOX_OK);
    assert_string_equal(got, text);
    free(got);
}

static void refuses_by_default(void **s)
{
    (void)s;
    box_opts o = test_box_opts();
    assert_int_equal(box_pool_create(&pool, &o), ST_EUNAVAIL);
    assert_non_null(strstr(fail_message(), "user namespace"));
    assert_non_null(strstr(fail_message(), "seccomp=unconfined")); /* the remedy */
    assert_null(pool);
}

static void weaker_only_on_request(void **s)
{
    (void)s;
    box_opts o = test_box_opts();
    o.min_tier = BOX_T2;
    status st = box_pool_create(&pool, &o);
    if (st == ST_EUNAVAIL) {
        print_message("SKIP: %s\n", fail_message());
        skip();
    }
    if (st != ST_OK) print_message("%s\n", fail_message());
    assert_int_equal(st, ST_OK);
    assert_int_equal(box_pool_tier(pool), BOX_T2);
}

static void state_is_rebuilt_by_running_again(void **s)
{
    (void)s;
    if (!pool) skip();
    box *b = open_box();
    says(b, "import random\nx = random.random(), np.random.rand()\nprint(W)", "224\n");
    says(b, "l = [1]\nprint('heard once')", "heard once\n");
    char *first = test_expect(pool, b, "x", BOX_OK), *next = test_expect(pool, b, "random.random(), l", BOX_OK);
    static const struct {
        const char *code;
        box_verdict v;
    } bad[] = {{"l.append(2)\n1 / 0", BOX_PY_ERROR},
               {"l.append(2)\nwhile True: pass", BOX_TIMEOUT_SOFT},
               {"import os\nl.append(2)\nos._exit(3)", BOX_EXITED},
               {"import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass", BOX_TIMEOUT_HARD},
               {"import os\nos.kill(os.getpid(), 9)", BOX_SIGNAL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        free(test_expect(pool, b, bad[i].code, bad[i].v));
        says(b, "l", "[1]\n");
        says(b, "x", first);
    }
    char *more = test_expect(pool, b, "random.random(), l", BOX_OK);
    assert_string_not_equal(more, next);
    free(first);
    free(next);
    free(more);
    box_close(b);
}

static void walls_hold(void **s)
{
    (void)s;
    if (!pool) skip();
    static const struct {
        const char *code, *text;
    } t[] = {
        {"import os, socket, ctypes, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n"
         "def e(f, *a):\n    try: r = f(*a)\n    except OSError as x: return errno.errorcode[x.errno]\n    except "
         "RuntimeError as x: return str(x)\n    return f'done {r}'\n"
         "def call(*a):\n    r = libc.syscall(*a)\n    if r < 0: raise OSError(ctypes.get_errno(), '')\n    return r\n",
         ""},
        {"print(*[e(open, p) for p in ('/etc/passwd', '/etc/shadow', '/proc/self/environ', '/root/x', "
         "'/sys/kernel/notes')])",
         "EACCES EACCES EACCES EACCES EACCES\n"},
        {"print(*[e(open, p, 'w') for p in ('/tmp/x', '/var/tmp/x', '/dev/shm/x', '/usr/x', 'x')])",
         "EACCES EACCES EACCES EACCES EACCES\n"},
        {"print(*[e(socket.socket, f, 1) for f in (1, 2, 10, 16, 40)], e(socket.socketpair))",
         "EACCES EACCES EACCES EACCES EACCES EPERM\n"},
        {"print(e(os.fork), e(os.execv, '/bin/true', ['x']), e(os.memfd_create, 'x'), e(call, 58), e(call, 435, 0, 0))",
         "EPERM EPERM EPERM EPERM ENOSYS\n"},
        {"import threading\ne(threading.Thread(target=print).start)", "\"can't start new thread\"\n"},
        {"print(e(os.kill, os.getppid(), 0), e(os.kill, -1, 9), e(os.killpg, 0, 0), e(os.kill, 1, 0))",
         "EPERM EPERM EPERM EPERM\n"},
        {"print([i for i in range(256) if not e(os.fstat, i).startswith('E')])", "[0, 1, 2, 3, 4, 5, 6, 7]\n"},
        {"print(*[e(call, n, 0, 0, 0, 0, 0) for n in (101, 310, 425, 321, 272, 165, 317, 444, 157, 112, 109)])",
         "EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM\n"},
    };
    box *b = open_box();
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) says(b, t[i].code, t[i].text);
    free(test_expect(pool, b, "x = bytearray(1 << 30)", BOX_PY_ERROR));
    free(test_expect(pool, b, "while True: print('x' * 1000)", BOX_OUTPUT));
    free(test_expect(pool, b, "os.write(3, b'x' * 64)\nimport time\ntime.sleep(9)", BOX_PROTOCOL));
    free(test_expect(pool, b, "libc.syscall(0x40000027)", BOX_SIGNAL));
    says(b, "W", "224\n");
    box_result r = test_turn(pool, b, "show(np.full((9, 8, 3), 7, np.uint8))");
    assert_int_equal(r.n_image, 1);
    assert_int_equal(r.images[0].rgb[0], 7);
    assert_int_equal(r.tier, BOX_T2);
    box_result_free(&r);
    box_close(b);
}

int main(int argc, char **argv)
{
    if (argc == 1 && hostile_deny_namespaces()) {
        printf("SKIP: no system-call filters\n");
        return 77;
    }
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {cmocka_unit_test(refuses_by_default), cmocka_unit_test(weaker_only_on_request),
                                       cmocka_unit_test(state_is_rebuilt_by_running_again),
                                       cmocka_unit_test(walls_hold)};
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
