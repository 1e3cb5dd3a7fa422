/* What it costs to go back: later turns with and without files, turns that fail, and what libraries cost where they are
 * imported. bench_sandbox_state [TURNS]     JSON lines */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"

static const char twenty[] = "import os\nfor i in range(20): open(f'f{i}', 'wb').write(b'z' * 50000)\nx = 0";
static const char large[] = "import os\nopen('f0', 'wb').write(b'z' * (16 << 20))\nx = 0";

typedef struct row {
    const char *what, *first, *turn;
    int share; /* this part of the turns, for slow ones */
    bool fails;
} row;

static const row rows[] = {
    {"no files", "import os\nx = 0", "x += 1", 1, false},
    {"20 files of 50 kB, not touched", twenty, "x += 1", 1, false},
    {"20 files of 50 kB, one rewritten each turn", twenty, "x += 1\nopen('f3', 'wb').write(b'y' * 50000)\nNone", 1,
     false},
    {"a file of 16 MiB, not touched", large, "x += 1", 1, false},
    {"a file of 16 MiB, a byte of it written each turn", large, "x += 1\nopen('f0', 'r+b').write(b'y')\nNone", 4,
     false},
    {"no files, fails, and the next", "import os\nx = 0", "x += 1\n1 / 0", 1, true},
    {"20 files of 50 kB, fails after rewriting one, and the next", twenty,
     "x += 1\nopen('f3', 'wb').write(b'y' * 50000)\n1 / 0", 1, true},
    {"a file of 16 MiB, fails after writing a byte of it, and the next", large,
     "x += 1\nopen('f0', 'r+b').write(b'y')\n1 / 0", 4, true},
};

static void bench_row(box_pool *p, const row *r, int n)
{
    double *ms = malloc(sizeof *ms * (size_t)n);
    box *b;
    CHECK(ms && box_open(p, 1, NULL, &b) == ST_OK);
    bench_turn_ok(p, b, r->first);
    bench_turn_ok(p, b, "x");
    for (int i = 0; i < n; i++) {
        double from = clock_now();
        box_result res = bench_turn(p, b, r->turn);
        CHECK((res.verdict == BOX_PY_ERROR) == r->fails && !res.state_lost && !res.replayed);
        box_result_free(&res);
        if (r->fails) bench_turn_ok(p, b, "x");
        ms[i] = 1e3 * (clock_now() - from);
    }
    box_close(b);
    bench_report(r->what, ms, n);
    free(ms);
}

static void bench_import(box_pool *p, const char *module, int n)
{
    char code[64], what[96];
    double *ms = malloc(sizeof *ms * (size_t)n);
    CHECK(ms);
    snprintf(code, sizeof code, "import %s", module);
    snprintf(what, sizeof what, "first turn: %s", code);
    for (int i = 0; i < n; i++) {
        box *b;
        CHECK(box_open(p, 1, NULL, &b) == ST_OK);
        double from = clock_now();
        box_result r = bench_turn(p, b, code);
        ms[i] = 1e3 * (clock_now() - from);
        bool there = r.verdict == BOX_OK;
        box_result_free(&r);
        box_close(b);
        if (!there) n = 0;
    }
    if (n) bench_report(what, ms, n);
    free(ms);
}

int main(int argc, char **argv)
{
    int rc = bench_boot(argc, argv);
    if (rc >= 0) return rc;
    int n = argc > 1 ? atoi(argv[1]) : 200;
    static const char *const modules[] = {"numpy", "matplotlib.pyplot", "cv2", "scipy.ndimage", "sympy"};
    for (int full = 0; full < 2; full++) {
        box_opts o = bench_box_opts(full);
        box_pool *p = bench_pool(&o);
        printf("{\"what\": \"pool\", \"imports\": \"%s\"}\n", full ? "all" : "numpy, PIL.Image");
        for (size_t i = 0; i < sizeof rows / sizeof *rows && (!full || i < 1); i++)
            bench_row(p, &rows[i], n / rows[i].share > 0 ? n / rows[i].share : 1);
        for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) bench_import(p, modules[i], n / 20 + 1);
        box_pool_destroy(p);
    }
    box_shutdown();
    return 0;
}
