/* What outlives a turn and what does not: variables, figures, files. A failed turn leaves all as it was before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/common/boxes.h"

static box_pool *pool;

static box *open_box(void)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, 1, NULL, &b), ST_OK);
    return b;
}

/* As a model that writes for a while before each turn: its process is made ahead. At once: it is made for the turn. */
static bool thinks;

static char *expect(box *b, const char *code, box_verdict v)
{
    if (thinks) usleep(6000);
    return test_expect(pool, b, code, v);
}

static void says(box *b, const char *code, const char *text)
{
    char *got = expect(b, code, BOX_OK);
    assert_string_equal(got, text);
    free(got);
}

static void ends(box *b, const char *code, box_verdict v) { free(expect(b, code, v)); }

static const char look[] = "import os, stat\n"
                           "def look():\n"
                           "    for d, dirs, files in os.walk('/tmp'):\n"
                           "        for n in sorted(dirs + files):\n"
                           "            p = os.path.join(d, n); s = os.lstat(p)\n"
                           "            kind = stat.filemode(s.st_mode)\n"
                           "            what = os.readlink(p) if kind[0] == 'l' else '' if kind[0] == 'd' else "
                           "repr(open(p, 'rb').read()[:9]) + str(s.st_size)\n"
                           "            print(p[5:], kind, what)\n";

static void files_are_undone(void **s)
{
    (void)s;
    static const char *const bad[] = {
        "open('a', 'a').write('more')",
        "open('a', 'w')",
        "open('a', 'r+').write('X')",
        "os.remove('a')",
        "os.remove('a'); os.mkdir('a'); open('a/b', 'w').write('c')",
        "os.rename('a', 'd/e/a2')",
        "os.replace('a', 'b')",
        "os.chmod('a', 0o600); os.chmod('d', 0)",
        "os.remove('l'); open('l', 'w').write('no link')",
        "os.remove('l'); os.symlink('elsewhere', 'l')",
        "open('new', 'w').write('n'); os.mkdir('newdir'); os.makedirs('d/n/e/w')",
        "import shutil; shutil.rmtree('d')",
        "import shutil; shutil.rmtree('d'); os.mkdir('d'); os.symlink('/usr', 'd/e')",
        "for n in os.listdir():\n    import shutil\n    shutil.rmtree(n) if os.path.isdir(n) and not os.path.islink(n) "
        "else "
        "os.remove(n)",
        "os.truncate('hole', 3); open('big', 'wb').write(b'y' * (4 << 20))",
        "os.link('a', 'hard'); open('hard', 'a').write('through the other name')",
        "os.makedirs('/'.join(['p'] * 20))",
        "for i in range(300): open(f'f{i}', 'w').write('i')",
        "with open('big', 'wb') as f:\n    while True: f.write(b'x' * (1 << 20))",
        "import numpy as np; m = np.memmap('big', np.uint8, 'r+'); m[:] = 9; m.flush()",
        "open('\\udcff\\n', 'w').write('odd name')",
        "os.utime('a', (1, 2))",
    };
    box *b = open_box();
    ends(b, look, BOX_OK);
    ends(b,
         "os.makedirs('d/e'); open('a', 'w').write('text'); open('d/e/f', 'w').write('deep'); os.symlink('a', 'l')\n"
         "os.chmod('a', 0o640); open('b', 'w'); open('big', 'wb').write(b'z' * (3 << 20))\n"
         "with open('hole', 'wb') as f: f.seek(20 << 20); f.write(b'end')\n",
         BOX_OK);
    char *before = expect(b, "look()", BOX_OK);
    assert_non_null(strstr(before, "d/e/f -rw-r--r-- b'deep'4"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char code[600];
        snprintf(code, sizeof code, "t = os.stat('a').st_mtime_ns\n%s\n1 / 0", bad[i]);
        box_result r = test_turn(pool, b, code);
        if (r.verdict != BOX_PY_ERROR) print_message("%s: %s\n", bad[i], box_verdict_name(r.verdict));
        assert_int_equal(r.verdict, BOX_PY_ERROR);
        box_result_free(&r);
        r = test_turn(pool, b, "look()");
        assert_int_equal(r.verdict, BOX_OK);
        if (strcmp(r.text, before) != 0) print_message("after %s:\n%s\ninstead of\n%s\n", bad[i], r.text, before);
        assert_string_equal(r.text, before);
        assert_false(r.replayed); /* the copy sufficed */
        box_result_free(&r);
    }
    free(before);
    says(b, "open('a', 'a').write('!'); os.rename('b', 'c')", "");
    ends(b, "os.remove('a'); os.remove('c')\nwhile True: pass", BOX_TIMEOUT_SOFT);
    says(b, "open('a').read(), os.path.exists('c'), os.path.exists('b')", "('text!', True, False)\n");
    ends(b, "os.remove('a')\nos._exit(1)", BOX_EXITED);
    ends(b, "os.remove('a')\nwhile True: print('x' * 1000)", BOX_OUTPUT);
    says(b, "open('a').read()", "'text!'\n");
    says(b, "import shutil\nfor n in os.listdir(): shutil.rmtree(n, True); os.path.lexists(n) and os.remove(n)", "");
    ends(b, "open('q', 'w')\n1 / 0", BOX_PY_ERROR);
    says(b, "os.listdir('/tmp')", "[]\n");
    box_close(b);
    b = open_box(); /* also of a first turn */
    ends(b, "open('q', 'w')\n1 / 0", BOX_PY_ERROR);
    says(b, "import os\nos.listdir('/tmp')", "[]\n");
    box_close(b);
}

static void open_files_keep_their_places(void **s)
{
    (void)s;
    box *b = open_box();
    says(b, "f = open('log', 'w+')\nprint('one', file=f, flush=True)\ng = open('log')\ng.readline(), f.fileno() >= 8",
         "('one\\n', True)\n");
    ends(b, "print('failed', file=f, flush=True)\nf.seek(0)\ng.seek(0)\nh = open('log')\n1 / 0", BOX_PY_ERROR);
    says(b, "print('two', file=f, flush=True)\ng.read(), open('log').read()", "('two\\n', 'one\\ntwo\\n')\n");
    says(b, "import numpy as np\nm = np.memmap('map', np.uint8, 'w+', shape=(9,))\nm[:] = 1", "");
    ends(b, "m[:] = 2\nm.flush()\n1 / 0", BOX_PY_ERROR);
    says(b, "int(m.sum()), open('map', 'rb').read()[0]", "(9, 1)\n");
    for (int i = 3; i < 6; i++) { /* a mapping writes without a call that files would be noticed by */
        char code[64], text[32];
        snprintf(code, sizeof code, "m[:] = %d", i);
        says(b, code, "");
        ends(b, "m[:] = 9\n1 / 0", BOX_PY_ERROR);
        snprintf(text, sizeof text, "(%d, %d)\n", 9 * i, i);
        says(b, "int(m.sum()), open('map', 'rb').read()[0]", text);
    }
    box_close(b);
}

/* Where the copy cannot be made the earlier turns are run again. */
static void what_cannot_be_copied_is_made_again(void **s)
{
    (void)s;
    box *b = open_box();
    says(b, "import os\nl = [1]\nfor i in range(100): os.mkdir('d'); os.chdir('d')\nos.chdir('/tmp')", "");
    ends(b, "l.append(2)\nopen('x', 'w')\n1 / 0", BOX_PY_ERROR);
    box_result r = test_turn(pool, b, "print(l, os.listdir('/tmp'))");
    assert_int_equal(r.verdict, BOX_OK);
    assert_string_equal(r.text, "[1] ['d']\n");
    assert_true(r.replayed && !r.state_lost);
    box_result_free(&r);
    box_close(b);
    b = open_box(); /* the failed turn's doing, in a box with a copy */
    says(b, "import os\nopen('x', 'w').write('x')\nl = [1]", "");
    ends(b, "for i in range(100): os.mkdir('d'); os.chdir('d')\nl.append(2)\n1 / 0", BOX_PY_ERROR);
    r = test_turn(pool, b, "print(l, os.listdir('/tmp'), open('x').read())");
    assert_int_equal(r.verdict, BOX_OK);
    assert_string_equal(r.text, "[1] ['x'] x\n");
    box_result_free(&r);
    box_close(b);
}

static void imports_classes_and_figures_go_on(void **s)
{
    (void)s;
    box *b = open_box();
    says(b, "import dataclasses, pickle\n@dataclasses.dataclass\nclass P:\n    x: int\n    y: int = 2\n", "");
    says(b, "p = P(1)\npickle.loads(pickle.dumps(p)) == p, p", "(True, P(x=1, y=2))\n");
    ends(b, "p.x = 5\nP.y = 9\nimport json\n1 / 0", BOX_PY_ERROR);
    says(b, "p, P(3), 'json' in globals()", "(P(x=1, y=2), P(x=3, y=2), False)\n");
    says(b, "def gen():\n    yield from range(9)\ng = gen()\nnext(g), next(g)", "(0, 1)\n");
    ends(b, "next(g), next(g)\n1 / 0", BOX_PY_ERROR);
    says(b, "next(g)", "2\n");
    box_result r = test_turn(pool, b, "import matplotlib.pyplot as plt");
    if (r.verdict == BOX_PY_ERROR && strcmp(r.error_type, "ModuleNotFoundError") == 0) {
        box_result_free(&r);
        box_close(b);
        print_message("no matplotlib here: figures are not looked at\n");
        return;
    }
    box_result_free(&r);
    r = test_turn(pool, b, "fig, ax = plt.subplots(figsize=(2, 1), dpi=100)\nax.plot([1, 2])\nlen(plt.get_fignums())");
    assert_int_equal(r.verdict, BOX_OK);
    assert_int_equal(r.n_image, 0);
    box_result_free(&r);
    ends(b, "ax.set_title('wrong')\nplt.close('all')\n1 / 0", BOX_PY_ERROR);
    says(b, "ax.get_title(), plt.get_fignums()", "('', [1])\n");
    r = test_turn(pool, b, "ax.bar([1, 2], [3, 4])\nplt.show()");
    assert_int_equal(r.verdict, BOX_OK);
    assert_int_equal(r.n_image, 1);
    assert_int_equal(r.images[0].w, 200);
    assert_int_equal(r.images[0].h, 100);
    box_result_free(&r);
    says(b, "plt.get_fignums()", "[]\n");
    box_close(b);
}

int main(int argc, char **argv)
{
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    box_opts o = test_box_opts();
    o.limits.wall_s = 3; /* an import of matplotlib */
    o.limits.cpu_s = 3;
    o.limits.memory_mib = 512;
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
        cmocka_unit_test(files_are_undone),
        cmocka_unit_test(open_files_keep_their_places),
        cmocka_unit_test(what_cannot_be_copied_is_made_again),
        cmocka_unit_test(imports_classes_and_figures_go_on),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    thinks = true;
    rc += cmocka_run_group_tests_name("after thinking", tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
