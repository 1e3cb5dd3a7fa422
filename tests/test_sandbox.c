/* What honest code sees: state, rollback, pictures, text, generators; and what a pool owes its user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "tests/common/boxes.h"

static box_pool *pool;
static const char *python; /* NULL: the built-in one */

static box_opts own_opts(void)
{
    box_opts o = test_box_opts();
    o.python = python;
    return o;
}

static box *open_box(uint64_t seed)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, seed, NULL, &b), ST_OK);
    return b;
}

static void says(box *b, const char *code, const char *text)
{
    char *got = test_expect(pool, b, code, BOX_OK);
    assert_string_equal(got, text);
    free(got);
}

static void ends(box *b, const char *code, box_verdict v) { free(test_expect(pool, b, code, v)); }

static void state_lives_over_turns(void **s)
{
    (void)s;
    box *b = open_box(1);
    says(b, "x = 1\ndef f(n): return n + x", "");
    says(b, "x += 1\nprint(f(40))", "42\n");
    says(b, "import math\nopen('/tmp/a', 'w').write('kept')", "4\n");
    says(b, "math.floor(2.5), open('a').read()", "(2, 'kept')\n");
    says(b, "W, H", "(224, 116)\n");
    says(b, "np.arange(4).sum()", "6\n");
    box_close(b);
}

static void a_failed_turn_is_undone(void **s)
{
    (void)s;
    static const struct {
        const char *code;
        box_verdict v;
    } bad[] = {
        {"x = 100\nl.append(9)\n1 / 0", BOX_PY_ERROR},
        {"x = 101\nl.append(9)\nwhile True: pass", BOX_TIMEOUT_SOFT},
        {"x = 102\nl.append(9)\nimport signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass", BOX_TIMEOUT_HARD},
        {"x = 103\nl.append(9)\nimport os\nos._exit(7)", BOX_EXITED},
        {"x = 104\nl.append(9)\nimport os\nos.kill(os.getpid(), 11)", BOX_SIGNAL},
        {"x = 105\nl.append(9)\nsyntax error here", BOX_PY_ERROR},
        {"x = 106\nl.append(9)\nwhile True: print('y' * 999)", BOX_OUTPUT},
    };
    box *b = open_box(1);
    says(b, "x = 1\nl = [1]", "");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        box_result r = test_turn(pool, b, bad[i].code);
        if (r.verdict != bad[i].v)
            print_message("%s instead of %s\n", box_verdict_name(r.verdict), box_verdict_name(bad[i].v));
        assert_int_equal(r.verdict, bad[i].v);
        assert_false(r.state_lost);
        box_result_free(&r);
        says(b, "x, l", "(1, [1])\n");
    }
    box_close(b);
    b = open_box(1); /* the first turn can fail as well */
    ends(b, "y = 1\nraise ValueError('no')", BOX_PY_ERROR);
    says(b, "'y' in globals(), W", "(False, 224)\n");
    box_close(b);
}

static void errors_are_described(void **s)
{
    (void)s;
    static const struct {
        const char *code, *type, *message;
        int line;
        const char *source;
    } t[] = {
        {"a = 1\nb = a / 0\n", "ZeroDivisionError", "division by zero", 2, "b = a / 0"},
        {"def f():\n    return [][3]\n\nf()\n", "IndexError", "list index out of range", 2, "return [][3]"},
        {"x = (1,\n", "SyntaxError", "'(' was never closed", 1, "x = (1,"},
        {"class E(Exception): pass\nraise E('caf\\u00e9')", "E", "caf\xc3\xa9", 2, "raise E('caf\\u00e9')"},
        {"nothing_here", "NameError", "name 'nothing_here' is not defined", 1, "nothing_here"},
        {"class B(Exception):\n    def __str__(self): raise RuntimeError\nraise B()", "B", "", 3, "raise B()"},
        {"'\\ud800'.encode()", "UnicodeEncodeError",
         "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed", 1,
         "'\\ud800'.encode()"},
        {"raise ValueError('a\\0b\\ud800')", "ValueError", "a\\0b\\ud800", 1, "raise ValueError('a\\0b\\ud800')"},
        {"x = 1\ng(0) # where", "ZeroDivisionError", "division by zero", 2,
         "g(0) # where; g in turn 1, line 2: return 1 / n"},
        {"import json\njson.loads('{')", "JSONDecodeError",
         "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", 2, "json.loads('{')"},
    };
    box *b = open_box(1);
    says(b, "def g(n):\n    return 1 / n", "");
    says(b,
         "import traceback, inspect\ntry: g(0)\nexcept Exception: s = traceback.format_exc()\n"
         "'try: g(0)' in s, 'return 1 / n' in s, inspect.getsource(g)",
         "(True, True, 'def g(n):\\n    return 1 / n')\n");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        box_result r = test_turn(pool, b, t[i].code);
        assert_int_equal(r.verdict, BOX_PY_ERROR);
        assert_string_equal(r.error_type, t[i].type);
        assert_string_equal(r.error_message, t[i].message);
        assert_int_equal(r.error_line, t[i].line);
        assert_string_equal(r.error_source, t[i].source);
        box_result_free(&r);
    }
    box_result r = test_turn(pool, b, "print('bye')\nimport sys\nsys.exit(3)");
    assert_int_equal(r.verdict, BOX_EXIT);
    assert_int_equal(r.code, 3);
    assert_string_equal(r.text, "bye\n");
    box_result_free(&r);
    box_close(b);
}

static void text_is_ordered_bounded_and_clean(void **s)
{
    (void)s;
    box *b = open_box(1);
    says(b, "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')", "a\nb\nc\n");
    says(b, "print('na\\u00efve \\U0001f600')", "na\xc3\xafve \xf0\x9f\x98\x80\n");
    says(b, "print('\\ud800')", "\\ud800\n");
    says(b, "import os\nos.write(1, bytes([0, 27, 255, 192, 128, 10]))", "\\x00\\x1b\\xff\\xc0\\x80\n6\n");
    says(b, "os.system('echo from a shell')", "from a shell\n0\n");
    says(b, "sys.stdout = None\nos.close(1)\nos.close(2)", "");
    says(b, "print('back')", "back\n");
    box_result r = test_turn(pool, b, "for i in range(9000): print(i)");
    assert_int_equal(r.verdict, BOX_OK);
    assert_true(r.truncated);
    assert_true(strncmp(r.text, "0\n1\n2\n", 6) == 0);
    assert_string_equal(r.text + strlen(r.text) - 5, "8999\n");
    assert_non_null(strstr(r.text, "bytes left out"));
    assert_true(strlen(r.text) < 16 * 1024 + 64);
    box_result_free(&r);
    r = test_turn(pool, b, "");
    assert_int_equal(r.verdict, BOX_OK);
    assert_string_equal(r.text, "");
    box_result_free(&r);
    box_close(b);
}

static void the_last_expression_is_shown(void **s)
{
    (void)s;
    static const char *const t[][2] = {
        {"", ""},
        {"1", "1\n"},
        {"'a'\n'b'", "'b'\n"},
        {"1; 2", "2\n"},
        {"x = 1", ""},
        {"x = 3; x\n\n", "3\n"},
        {"x # why\n# end", "3\n"},
        {"x, x", "(3, 3)\n"},
        {"*[1], 2", "(1, 2)\n"},
        {"y = '''\nx\n'''", ""},
        {"y", "'\\nx\\n'\n"},
        {"z = x + \\\nx", ""},
        {"z = (1,\n2\n)", ""},
        {"(z,\nx)", "((1, 2), 3)\n"},
        {"z = [\nx\n]", ""},
        {"if x:\n    9", ""},
        {"if x: 9", ""},
        {"for i in 1, 2:\n    pass\ni", "2\n"},
        {"def f():\n    return 8\nf()", "8\n"},
        {"if 0: pass\nelse: x", ""},
        {"from __future__ import annotations\nx", "3\n"},
        {"print('a')\nprint('b')", "a\nb\n"},
    };
    box *b = open_box(1);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) says(b, t[i][0], t[i][1]);
    static const struct {
        const char *code;
        int line;
    } wrong[] = {{"a = 1\n\n1 / 0", 3}, {"a = 1\n(\n\n1 / 0)", 4}, {"if 1\nx", 1}, {"x = '''\nx", 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        box_result r = test_turn(pool, b, wrong[i].code);
        assert_int_equal(r.verdict, BOX_PY_ERROR);
        assert_int_equal(r.error_line, wrong[i].line);
        box_result_free(&r);
    }
    box_close(b);
}

static void pictures_come_in_and_go_out(void **s)
{
    (void)s;
    uint8_t a[5 * 3 * 3], c[2 * 2 * 3] = {0};
    for (size_t i = 0; i < sizeof a; i++) a[i] = (uint8_t)(i * 5);
    const box_image im[2] = {{5, 3, a}, {2, 2, c}};
    box_input *in = NULL;
    assert_int_equal(box_input_create(&in, im, 2), ST_OK);
    box *b[2];
    for (int i = 0; i < 2; i++) assert_int_equal(box_open(pool, 1, in, &b[i]), ST_OK);
    box_input_release(in);
    for (int i = 0; i < 2; i++) {
        says(b[i], "print(img.size, img is input_image, len(input_images), input_images[1].size, img.getpixel((4, 2)))",
             "(5, 3) True 2 (2, 2) (210, 215, 220)\n");
        says(b[i],
             "img.mode, img.im.mode, np.array(img).tolist() == np.array(img.copy()).tolist(), np.array(img)[2, 4]",
             "('RGB', 'RGB', True, array([210, 215, 220], dtype=uint8))\n");
        box_result r = test_turn(pool, b[i], "show(img)\nprint('one')\nimg.crop((1, 1, 3, 2))");
        assert_int_equal(r.verdict, BOX_OK);
        assert_string_equal(r.text, "one\n");
        assert_int_equal(r.n_image, 2);
        assert_int_equal(r.images[0].w, 5);
        assert_int_equal(r.images[0].h, 3);
        assert_memory_equal(r.images[0].rgb, a, sizeof a);
        assert_int_equal(r.images[1].w, 2);
        assert_int_equal(r.images[1].h, 1);
        assert_memory_equal(r.images[1].rgb, a + 3 * 6, 6);
        box_result_free(&r);
    }
    /* Boxes of a group look at the same memory; what one writes stays in it, and a failed turn's writes go. */
    ends(b[0], "img.putpixel((0, 0), (9, 9, 9))\n1 / 0", BOX_PY_ERROR);
    says(b[0], "img.getpixel((0, 0))", "(0, 5, 10)\n");
    says(b[0], "img.paste((7, 8, 9), (0, 0, 2, 2))\nimg.getpixel((0, 0)), img.tobytes()[:6]",
         "((7, 8, 9), b'\\x07\\x08\\t\\x07\\x08\\t')\n");
    says(b[1], "img.getpixel((0, 0)), img.rotate(180).getpixel((0, 0))", "((0, 5, 10), (210, 215, 220))\n");
    box_close(b[0]);
    box_result r =
        test_turn(pool, b[1],
                  "img.show()\nshow(np.full((9, 8, 3), 7, np.uint8))\nshow(np.eye(4) > 0)\nnp.zeros((8, 9), np.uint8)");
    assert_int_equal(r.n_image, 4);
    assert_int_equal(r.images[1].w, 8);
    assert_int_equal(r.images[1].rgb[0], 7);
    assert_int_equal(r.images[2].rgb[0], 255);
    assert_int_equal(r.images[2].rgb[3], 0);
    assert_int_equal(r.images[3].w, 9);
    box_result_free(&r);
    says(b[1], "np.zeros((2, 3))", "array([[0., 0., 0.],\n       [0., 0., 0.]])\n"); /* numbers are read, not shown */
    r = test_turn(pool, b[1], "for i in range(9): show(img)");
    assert_int_equal(r.n_image, 4);
    assert_true(r.truncated);
    box_result_free(&r);
    r = test_turn(pool, b[1], "from PIL import Image\nshow(Image.new('RGB', (1000, 2)))");
    assert_string_equal(r.error_type, "ValueError"); /* aspect ratio */
    assert_int_equal(r.n_image, 0);
    box_result_free(&r);
    r = test_turn(pool, b[1], "show(img)\n1 / 0"); /* what a failed turn showed is undone with it */
    assert_int_equal(r.verdict, BOX_PY_ERROR);
    assert_int_equal(r.n_image, 0);
    box_result_free(&r);
    box_close(b[1]);
}

static void generators_follow_the_seed(void **s)
{
    (void)s;
    static const char draw[] = "import random\nprint(random.random(), np.random.rand(), hash('x'))";
    char *first[3];
    const uint64_t seed[3] = {1, 2, 1};
    for (int i = 0; i < 3; i++) {
        box *b = open_box(seed[i]);
        first[i] = test_expect(pool, b, draw, BOX_OK);
        char *more = test_expect(pool, b, draw, BOX_OK);
        assert_string_not_equal(more, first[i]); /* a turn is a fork, yet its numbers go on */
        free(more);
        box_close(b);
    }
    assert_string_equal(first[0], first[2]);
    assert_string_not_equal(first[0], first[1]);
    box *b = open_box(1); /* an undone turn takes its draws with it */
    ends(b, "import random\nrandom.random(); np.random.rand()\n1/0", BOX_PY_ERROR);
    says(b, draw, first[0]);
    box_close(b);
    for (int i = 0; i < 3; i++) free(first[i]);
}

static void boxes_do_not_see_each_other(void **s)
{
    (void)s;
    box *a = open_box(1), *b = open_box(1);
    says(a, "import os\nopen('/tmp/secret', 'w').write('1')\nx = 1", "");
    says(b, "import os\nos.listdir('/tmp'), os.listdir('/dev/shm'), 'x' in globals()", "([], [], False)\n");
    box_close(a);
    for (int i = 0; i < 8; i++) { /* one of these is the first one's jail, used again */
        box *c = open_box(1);
        says(c, "import os\nos.listdir('/tmp'), 'x' in globals(), os.getppid()", "([], False, 1)\n");
        box_close(c);
    }
    box_close(b);
}

static void many_live_at_once(void **s)
{
    (void)s;
    enum { N = 200 };
    static box *b[N];
    char code[64];
    for (int i = 0; i < N; i++) {
        b[i] = open_box((uint64_t)i);
        box_set_user(b[i], &b[i]);
    }
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < N; i++) {
            snprintf(code, sizeof code, turn ? "print(x)" : "x = %d", i);
            assert_int_equal(box_submit(b[i], code, strlen(code)), ST_OK);
        }
        double until = clock_now() + 120;
        for (int ended = 0; ended < N && clock_now() < until;) {
            box *done[32];
            int n = box_poll(pool, done, 32, 1000);
            for (int i = 0; i < n; i++, ended++) {
                box_result r;
                box_result_take(done[i], &r);
                assert_int_equal(r.verdict, BOX_OK);
                assert_true(turn == 0 || atoi(r.text) == (int)((box **)box_user(done[i]) - b));
                box_result_free(&r);
            }
            assert_true(ended < N || turn >= 0);
        }
    }
    for (int i = 0; i < N; i++) says(b[i], "W", "224\n");
    for (int i = 0; i < N; i++) box_close(b[i]);
}

/* A stop and its end within one fork of what is stopped leave the child stopped, unless SIGCONT is blocked (holder.c):
 * one of 20,000 turns of a burst timed out by it. Too rare to wait for here. */
static void a_fork_is_not_left_stopped(void **s)
{
    (void)s;
    static const char look[] = "import signal\nsignal.SIGCONT in signal.pthread_sigmask(signal.SIG_BLOCK, [])";
    box *b = open_box(1);
    says(b, look, "True\n");
    says(b, look, "True\n"); /* in a fork */
    box_close(b);
}

static void misuse_is_refused(void **s)
{
    (void)s;
    box *b = open_box(1);
    char *code = malloc((256 << 10) + 2);
    assert_non_null(code);
    memset(code, '#', (256 << 10) + 1);
    assert_int_equal(box_submit(b, code, (256 << 10) + 1), ST_EINVAL);
    assert_int_equal(box_submit(b, code, 256 << 10), ST_OK); /* the longest */
    box *done;
    assert_int_equal(box_poll(pool, &done, 1, 20000), 1);
    box_result r;
    box_result_take(done, &r);
    assert_int_equal(r.verdict, BOX_OK);
    box_result_free(&r);
    free(code);
    box_pool *second;
    box_opts o = own_opts();
    assert_int_equal(box_pool_create(&second, &o), ST_EINVAL);
    o.limits.pids = 0;
    assert_int_equal(box_pool_create(&second, &o), ST_EINVAL);
    box *all[256];
    int n = 0;
    while (n < 256 && box_open(pool, 1, NULL, &all[n]) == ST_OK) n++;
    assert_int_equal(n, 255);
    while (n) box_close(all[--n]);
    box_submit(b, "while True: pass", 16); /* closing a box whose turn runs is legal */
    box_close(b);
}

static void options_are_checked_before_work(void **s)
{
    (void)s;
    box_pool_destroy(pool);
    pool = NULL;
    box_opts o = own_opts();
    static const char *const missing[] = {"numpy", "no_such_module", NULL};
    o.imports = missing;
    assert_int_equal(box_pool_create(&pool, &o), ST_EUNAVAIL);
    assert_non_null(strstr(fail_message(), "no_such_module"));
    o = own_opts();
    o.preset = "W = 1\nthis is wrong(";
    assert_int_equal(box_pool_create(&pool, &o), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "preset"));
    o = own_opts();
    o.preset = "1 / 0";
    assert_int_equal(box_pool_create(&pool, &o), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "ZeroDivisionError"));
    o = own_opts();
    assert_int_equal(box_pool_create(&pool, &o), ST_OK);
    box *b = open_box(1);
    says(b, "W", "224\n");
    box_close(b);
}

int main(int argc, char **argv)
{
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    python = argc > 1 ? argv[1] : NULL;
    box_opts o = own_opts();
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
        cmocka_unit_test(state_lives_over_turns),
        cmocka_unit_test(a_failed_turn_is_undone),
        cmocka_unit_test(errors_are_described),
        cmocka_unit_test(text_is_ordered_bounded_and_clean),
        cmocka_unit_test(the_last_expression_is_shown),
        cmocka_unit_test(pictures_come_in_and_go_out),
        cmocka_unit_test(generators_follow_the_seed),
        cmocka_unit_test(boxes_do_not_see_each_other),
        cmocka_unit_test(many_live_at_once),
        cmocka_unit_test(a_fork_is_not_left_stopped),
        cmocka_unit_test(misuse_is_refused),
        cmocka_unit_test(options_are_checked_before_work),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
