/* The hostile suite with every layer there is: root, or a user with control groups of his own. */
#include "tests/common/hostile.h"

<<<<<<< HEAD
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "tests/common/boxes.h"

static box_pool *pool;

/* Helpers every hostile program finds in its box. */
static const char prelude[] =
    "import os, sys, ctypes, socket, signal, time, threading, errno\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def errno_of(f, *a):\n"
    "    try: r = f(*a)\n"
    "    except OSError as e: return errno.errorcode.get(e.errno, str(e.errno)) if e.errno else type(e).__name__\n"
    "    except (MemoryError, ValueError, RuntimeError) as e: return type(e).__name__\n"
    "    return f'done {r}'\n"
    "def call(nr, *a):\n"
    "    r = libc.syscall(nr, *a)\n"
    "    if r < 0: raise OSError(ctypes.get_errno(), '')\n"
    "    return r\n"
    "alive = 1\n";

typedef struct hostile {
    const char *name, *code;
    box_verdict verdict;
    const char *says; /* whole text of the turn; NULL: not looked at */
    int code_is;      /* signal or exit status; -1: not looked at */
} hostile;

static const hostile table[] = {
    /* network and ipc */
    {"sockets",
     "print(*[errno_of(socket.socket, f, t) for f, t in ((2, 1), (2, 2), (10, 1), (1, 1), (16, 3), (17, 3), (38, 5), "
     "(40, 1), (44, 3))])",
     BOX_OK, "EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES\n", -1},
    {"socketpair stays", "a, b = socket.socketpair(); a.send(b'x'); b.recv(1)", BOX_OK, "b'x'\n", -1},
    {"dns is refused at once",
     "t = time.time()\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError as e: print(type(e).__name__, "
     "time.time() - t < 0.5)",
     BOX_OK, "gaierror True\n", -1},
    {"http",
     "import urllib.request\nerrno_of(urllib.request.urlopen, 'http://127.0.0.1:80', None, 1).startswith('done')",
     BOX_OK, "False\n", -1},
    {"system v ipc", "print(*[errno_of(call, n, 1, 4096, 0o1600) for n in (29, 68, 64)])", BOX_OK,
     "EPERM EPERM EPERM\n", -1},
    {"locks on shared files",
     "import fcntl\nf = open('/usr/bin/env')\nprint(errno_of(fcntl.flock, f, 2), errno_of(fcntl.lockf, f, 1))", BOX_OK,
     "EPERM EPERM\n", -1},
    {"keyrings", "print(*[errno_of(call, n, 0, 0, 0, 0, 0) for n in (248, 249, 250)])", BOX_OK, "EPERM EPERM EPERM\n",
     -1},
    /* files */
    {"writing outside /tmp",
     "print(*[errno_of(open, d + '/x', 'w') for d in ('', '/usr', '/etc', '/dev', '/var', '/var/cache')])", BOX_OK,
     NULL, -1},
    {"secrets are absent",
     "print(*[errno_of(open, p) for p in ('/etc/passwd', '/etc/shadow', '/root/.ssh/id_rsa', '/proc/1/environ', "
     "'/proc/self/mem', '/sys/kernel', '/home', '/run', '/mnt')])",
     BOX_OK, "ENOENT ENOENT ENOENT ENOENT ENOENT ENOENT ENOENT ENOENT ENOENT\n", -1},
    {"links lead nowhere",
     "os.symlink('/etc/passwd', '/tmp/a'); os.symlink('b', '/tmp/b'); print(errno_of(open, '/tmp/a'), errno_of(open, "
     "'/tmp/b'))",
     BOX_OK, "ENOENT ELOOP\n", -1},
    {"hard links out", "print(errno_of(os.link, '/usr/bin/su', '/tmp/su'))", BOX_OK, NULL, -1},
    {"becoming root", "print(*[errno_of(call, n, 0, 0, 0) for n in (105, 106, 117)])", BOX_OK, "EPERM EPERM EPERM\n",
     -1},
    {"device nodes", "print(errno_of(os.mknod, '/tmp/d', 0o60666, 0x800), errno_of(os.mknod, '/tmp/f', 0o10666))",
     BOX_OK, "EPERM EPERM\n", -1},
    {"running a file of one's own",
     "open('/tmp/x.sh', 'w').write('#!/bin/sh\\necho ran\\n'); os.chmod('/tmp/x.sh', 0o755); print(errno_of(os.execv, "
     "'/tmp/x.sh', ['x']))",
     BOX_OK, "EACCES\n", -1},
    {"loading a library of one's own",
     "import shutil, _ctypes\nshutil.copy(_ctypes.__file__, '/tmp/l.so')\ntry: ctypes.CDLL('/tmp/l.so')\nexcept "
     "OSError as e: print('failed to map' in str(e))",
     BOX_OK, "True\n", -1},
    {"fexecve of a memfd",
     "try: fd = os.memfd_create('x')\nexcept PermissionError: fd = os.open('/tmp/x', os.O_CREAT | os.O_RDWR, "
     "0o755)\nos.write(fd, open('/bin/true', 'rb').read())\n"
     "print(errno_of(os.execve, fd, ['x'], {}), errno_of(call, 322, fd, b'', None, None, 0x1000))",
     BOX_OK, "EPERM EPERM\n", -1},
    {"filling /tmp",
     "b = bytes(1 << 20)\ndef fill():\n    for i in range(64):\n        with open(f'/tmp/{i}', 'wb') as f: "
     "f.write(b)\nprint(errno_of(fill))",
     BOX_OK, "ENOSPC\n", -1},
    {"inodes", "def many():\n    for i in range(9999): open(f'/tmp/i{i}', 'w').close()\nprint(errno_of(many))", BOX_OK,
     "ENOSPC\n", -1},
    {"a file too large", "def big():\n    with open('/tmp/big', 'wb') as f: f.truncate(1 << 40)\nprint(errno_of(big))",
     BOX_OK, "EFBIG\n", -1},
    {"deep directories", "d = os.getcwd()\nfor i in range(1000): os.mkdir('d'); os.chdir('d')\nos.chdir(d)", BOX_OK, "",
     -1},
    {"devices", "print(*sorted(os.listdir('/dev')))", BOX_OK, "null shm urandom zero\n", -1},
    {"descriptors",
     "import os\ndef ok(i):\n    try: os.fstat(i); return True\n    except OSError: return False\nprint([i for i in "
     "range(256) if ok(i)])",
     BOX_OK, "[0, 1, 2, 3, 4, 5, 6, 7]\n", -1},
    {"leaving by a directory descriptor",
     "print(errno_of(os.chroot, '/tmp'), [errno_of(os.open, '..', os.O_RDONLY, 0)][:0])", BOX_OK, "EPERM []\n", -1},
    /* processor, memory, processes */
    {"spin", "while True: pass", BOX_TIMEOUT_SOFT, "", -1},
    {"backtracking", "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')", BOX_TIMEOUT_SOFT, "", -1},
    {"sleep", "print('before')\ntime.sleep(60)", BOX_TIMEOUT_SOFT, "before\n", -1},
    {"deaf to signals", "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)", BOX_TIMEOUT_HARD, "",
     -1},
    {"catches everything",
     "def f():\n    while True:\n        try:\n            while alive: time.sleep(0)\n        except BaseException: "
     "pass\nf()",
     BOX_TIMEOUT_HARD, "", -1},
    {"fine after the interrupt", "try: time.sleep(60)\nexcept KeyboardInterrupt: print('caught')", BOX_TIMEOUT_SOFT,
     "caught\n", -1},
    {"signals blocked", "signal.pthread_sigmask(signal.SIG_BLOCK, {2})\ntime.sleep(60)", BOX_TIMEOUT_HARD, "", -1},
    {"many spinning children", "for i in range(6):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(0.2)",
     BOX_OK, "", -1},
    {"fork bomb that waits",
     "n = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(60); os._exit(0)\n        n += 1\nexcept "
     "BlockingIOError: print(n < 24)",
     BOX_OK, "True\n", -1},
    {"fork bomb unhandled", "while True:\n    if os.fork() == 0: time.sleep(60); os._exit(0)", BOX_PIDS, NULL, -1},
    {"recursive fork bomb",
     "signal.signal(2, signal.SIG_IGN)\nwhile True:\n    try: os.fork()\n    except OSError: pass", BOX_TIMEOUT_HARD,
     NULL, -1},
    {"thread bomb", "threading.stack_size(65536)\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()",
     BOX_PIDS, NULL, -1},
    {"one large block", "x = bytearray(1 << 30)", BOX_PY_ERROR, NULL, -1},
    {"many blocks", "x = [bytearray(1 << 20) for i in range(4096)]", BOX_PY_ERROR, NULL, -1},
    {"descriptor bomb", "print(errno_of(lambda: [os.dup(0) for i in range(999)]))", BOX_OK, "EMFILE\n", -1},
    {"deep recursion",
     "sys.setrecursionlimit(10**9)\nclass A:\n    def __getattr__(self, n): return getattr(self, n)\nA().x", BOX_SIGNAL,
     NULL, 11},
    {"C stack", "import faulthandler\nfaulthandler._stack_overflow()", BOX_SIGNAL, NULL, 11},
    {"raising limits",
     "import resource as r\nprint(*[errno_of(r.setrlimit, k, (1 << 20, 1 << 20)) for k in (4, 6, 7, 9)], "
     "errno_of(r.prlimit, 1, 7, (9, 9)))",
     BOX_OK, "ValueError ValueError ValueError ValueError EPERM\n", -1},
    {"priorities", "print(errno_of(os.nice, -5), errno_of(os.sched_setaffinity, 0, {0}), errno_of(call, 151, 1))",
     BOX_OK, "EPERM EPERM EPERM\n", -1},
    {"timers", "signal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(0, 1e-3, 1e-3)\nsum(range(100000))",
     BOX_OK, "4999950000\n", -1},
    {"a daemon", "if os.fork() == 0:\n    if os.fork() == 0:\n        while True: pass\n    os._exit(0)\nos.wait()[1]",
     BOX_OK, "0\n", -1},
    {"leaving the group", "print(errno_of(os.setsid), errno_of(os.setpgid, 0, 0))", BOX_OK, "EPERM EPERM\n", -1},
    /* signals, introspection, kernel surface */
    {"kill everybody", "print(errno_of(os.kill, 1, 9))\nos.kill(-1, 9)", BOX_OK, "EPERM\n", -1},
    {"kill self", "os.kill(os.getpid(), 9)", BOX_SIGNAL, NULL, 9},
    {"kill the group", "os.killpg(0, 9)", BOX_SIGNAL, NULL, 9},
    {"abort", "os.abort()", BOX_SIGNAL, NULL, 6},
    {"segfault", "ctypes.string_at(0)", BOX_SIGNAL, NULL, 11},
    {"exit 0 is no success", "print('x', flush=True)\nos._exit(0)", BOX_EXITED, "x\n", 0},
    {"a timer that exits", "threading.Timer(0.2, os._exit, (7,)).start()\ntime.sleep(1)", BOX_EXITED, NULL, 7},
    {"looking at others", "print(*[errno_of(call, n, 16, 1, 0, 0, 0, 0) for n in (101, 310, 311, 438, 312)])", BOX_OK,
     "EPERM EPERM EPERM EPERM EPERM\n", -1},
    {"new kernel interfaces", "print(*[errno_of(call, n, 0, 0, 0, 0) for n in (425, 323, 321, 298)])", BOX_OK,
     "EPERM EPERM EPERM EPERM\n", -1},
    {"namespaces and mounts",
     "print(errno_of(call, 272, 0x10000000), errno_of(call, 165, 0, 0, 0, 0, 0), errno_of(call, 166, b'/tmp', 2), "
     "errno_of(call, 308, 3, 0), errno_of(call, 155, b'/', b'/'), errno_of(call, 304, 3, 0, 0), errno_of(call, 56, "
     "0x10000011, 0, 0, 0, 0), errno_of(call, 435, 0, 0))",
     BOX_OK, "EPERM EPERM EPERM EPERM EPERM EPERM EPERM ENOSYS\n", -1},
    {"own filters and rights",
     "print(*[errno_of(call, *a) for a in ((317, 1, 0, 0), (444, 0, 0, 1), (157, 4, 0), (135, 0x40000), (154, 0), "
     "(172, 3), (175, 0, 0, 0), (169, 0, 0, 0), (103, 3, 0, 0), (126, 0, 0))])",
     BOX_OK, "EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM\n", -1},
    {"terminal and leases",
     "import fcntl\nprint(errno_of(fcntl.ioctl, 0, 0x5412, b'x'), errno_of(fcntl.fcntl, 0, 1024, 0), "
     "errno_of(fcntl.fcntl, 0, 8, 1))",
     BOX_OK, "EPERM EPERM EPERM\n", -1},
    {"x32 calls", "libc.syscall(0x40000027)", BOX_SIGNAL, NULL, 31},
    {"unknown calls", "print(errno_of(call, 9999))", BOX_OK, "ENOSYS\n", -1},
    {"environment", "print(sorted(os.environ))", BOX_OK,
     "['HOME', 'LANG', 'MKL_NUM_THREADS', 'MPLBACKEND', 'MPLCONFIGDIR', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', "
     "'PATH', 'PYTHONHASHSEED', 'TMPDIR']\n",
     -1},
    /* protocol, output */
    {"forged end of turn", "os.write(3, b'x' * 64)\ntime.sleep(9)", BOX_PROTOCOL, NULL, -1},
    {"garbage on both channels", "os.write(4, b'x' * 5000); os.write(3, b'')", BOX_PROTOCOL, NULL, -1},
    {"descriptors sent to the runner",
     "import array\nsocket.socket(fileno=os.dup(4)).sendmsg([b'x'], [(1, 1, array.array('i', [0] * "
     "200))])\ntime.sleep(9)",
     BOX_PROTOCOL, NULL, -1},
    {"a forged claim of the right size", "import struct\nfor fd in (3, 4): os.write(fd, bytes(3000))\ntime.sleep(9)",
     BOX_PROTOCOL, NULL, -1},
    {"the pictures' file is closed", "print(os.fstat(6).st_rdev == os.fstat(0).st_rdev)", BOX_OK, "True\n", -1},
    {"print flood", "while True: print('x' * 1000)", BOX_OUTPUT, NULL, -1},
    {"raw flood from a child", "if os.fork() == 0:\n    while True: os.write(1, b'x' * 65536)\ntime.sleep(9)",
     BOX_OUTPUT, NULL, -1},
    {"another program in our place", "os.execv('/usr/bin/python3', ['python3', '-c', 'print(1)'])", BOX_EXITED, "1\n",
     0},
    {"closing everything", "os.closerange(0, 256)", BOX_EXITED, NULL, 71},
    {"patching the runner's tools",
     "import builtins\nbuiltins.compile = builtins.exec = builtins.print = None\nsys.settrace(lambda *a: 1 / 0)",
     BOX_PY_ERROR, NULL, -1},
    {"the end in __del__", "class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndel d",
     BOX_TIMEOUT_SOFT, NULL, -1},
    {"exit handlers", "import atexit\natexit.register(lambda: time.sleep(99))\nsys.exit(0)", BOX_EXIT, "", 0},
    /* pictures */
    {"a bomb of a picture", "from PIL import Image\nImage.new('RGB', (100000, 100000))", BOX_PY_ERROR, NULL, -1},
    {"a picture too wide", "show(np.zeros((4, 9000), np.uint8))", BOX_PY_ERROR, NULL, -1},
    {"not a picture", "show(np.zeros((3, 3, 7), np.uint8))", BOX_PY_ERROR, NULL, -1},
    {"resizing what goes out", "print(errno_of(os.ftruncate, 5, 0), errno_of(os.ftruncate, 5, 1 << 30))", BOX_OK, NULL,
     -1},
};

static box *fresh(void)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, 1, NULL, &b), ST_OK);
    free(test_expect(pool, b, prelude, BOX_OK));
    return b;
}

static void every_input_meets_its_verdict(void **s)
{
    (void)s;
    int bad = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const hostile *h = &table[i];
        box *b = fresh();
        box_result r = test_turn(pool, b, h->code);
        bool ok = r.verdict == h->verdict && (!h->says || !strcmp(r.text, h->says)) &&
                  (h->code_is < 0 || r.code == h->code_is);
        if (!ok)
            print_message("%s: %s code %d (expected %s), %s: %s, text \"%.300s\"\n", h->name,
                          box_verdict_name(r.verdict), r.code, box_verdict_name(h->verdict), r.error_type,
                          r.error_message ? r.error_message : "", r.text);
        bool lost = r.state_lost;
        if (lost) print_message("%s: the state is gone\n", h->name);
        box_result_free(&r);
        bool soft = h->verdict != BOX_OK && h->verdict != BOX_EXIT;
        r = test_turn(pool, b, "print('alive' in globals() and alive)");
        if (r.verdict != BOX_OK || strcmp(r.text, "1\n")) {
            print_message("%s: the next turn gives %s, %s\n", h->name, box_verdict_name(r.verdict), r.text);
            ok = ok && !soft && r.verdict != BOX_INFRA; /* what succeeded may harm its own later turns, and only them */
        }
        box_result_free(&r);
        bad += !ok || lost;
        box_close(b);
    }
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv)
{
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    box_opts o = test_box_opts();
    o.python = argc > 1 ? argv[1] : NULL;
    status st = box_pool_create(&pool, &o);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        return 77;
    }
    if (st != ST_OK) {
        printf("%s\n", fail_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_input_meets_its_verdict)};
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
=======
int main(int argc, char **argv) { return hostile_main(argc, argv, BOX_T0); }
>>>>>>> 3cc1de3 (Turn the hostile inputs into files, run them at three tiers; close six holes they found)
