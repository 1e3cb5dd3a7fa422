/* Boxes beside plain python3, bubblewrap and nsjail, the same two scripts, all in one run.
 *     bench_sandbox_speed [RUNS [NSJAIL]]     JSON lines; NSJAIL: path of that program if it is not in PATH */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"

extern char **environ;

#define TINY "print(np.arange(12).reshape(3, 4).sum())\n"
#define IMAGE                                                                                 \
    "y, x = np.mgrid[0:480, 0:640]\n"                                                         \
    "a = np.stack([x * 255 // 640, y * 255 // 480, (x // 16 + y // 16) % 2 * 255], 2)\n"      \
    "im = Image.fromarray(a.astype(np.uint8)).crop((100, 60, 420, 300)).resize((640, 480))\n" \
    "edges = cv2.Canny(np.asarray(im), 100, 200)\n"                                           \
    "out = io.BytesIO()\n"                                                                    \
    "Image.fromarray(edges).save(out, 'PNG')\n"                                               \
    "print(len(out.getvalue()))\n"
#define IMPORTS "import io\nimport numpy as np\nfrom PIL import Image\n"
#define IMPORTS_FULL IMPORTS "import cv2\nimport matplotlib.pyplot\n"

/* ---- boxes ---- */

static void latency(box_pool *p, const char *set, int n)
{
    enum { LATER = 5 };
    double *first = malloc(sizeof *first * (size_t)n), *hot = malloc(sizeof *hot * (size_t)n * LATER),
           *calm = malloc(sizeof *calm * (size_t)n * LATER);
    char what[96];
    CHECK(first && hot && calm);
    for (int i = 0; i < n; i++) {
        box *b;
        double t = clock_now();
        CHECK(box_open(p, (uint64_t)i, NULL, &b) == ST_OK);
        bench_turn_ok(p, b, TINY);
        first[i] = 1e3 * (clock_now() - t);
        for (int k = 0; k < LATER; k++) {
            t = clock_now();
            bench_turn_ok(p, b, TINY);
            hot[i * LATER + k] = 1e3 * (clock_now() - t);
        }
        for (int k = 0; k < LATER; k++) { /* the model writes for longer than this between its turns */
            usleep(10000);
            t = clock_now();
            bench_turn_ok(p, b, TINY);
            calm[i * LATER + k] = 1e3 * (clock_now() - t);
        }
        box_close(b);
        usleep(10000);
    }
    snprintf(what, sizeof what, "box, %s: open and first turn", set);
    bench_report(what, first, n);
    snprintf(what, sizeof what, "box, %s: later turn, at once", set);
    bench_report(what, hot, n * LATER);
    snprintf(what, sizeof what, "box, %s: later turn, 10 ms after the last", set);
    bench_report(what, calm, n * LATER);
    free(first);
    free(hot);
    free(calm);
}

/* From box_close in the middle of a turn to the end of its last process. */
static void killing(const box_opts *like, const char *set, int n)
{
    static const char spin[] = "while True: pass";
    box_opts o = *like;
    o.spares = 0; /* none is made in its place while we count */
    box_pool *p = bench_pool(&o);
    bench_pids id = bench_find();
    double *ms = malloc(sizeof *ms * (size_t)n);
    char what[96];
    CHECK(ms);
    int used = 0;
    for (int i = 0; i < n && bench_box_pids(id.boxd) >= 0; i++) {
        box *b;
        CHECK(box_open(p, 1, NULL, &b) == ST_OK);
        bench_turn_ok(p, b, TINY);
        CHECK(box_submit(b, spin, sizeof spin - 1) == ST_OK);
        box *d;
        (void)box_poll(p, &d, 1, 20); /* sends it */
        double t = clock_now();
        box_close(b);
        (void)box_poll(p, &d, 1, 0);
        while (bench_box_pids(id.boxd) > 0) usleep(100);
        ms[used++] = 1e3 * (clock_now() - t);
    }
    snprintf(what, sizeof what, "box, %s: kill and reap", set);
    bench_report(what, ms, used);
    box_pool_destroy(p);
    free(ms);
}

/* n boxes of one turn, 8 at a time. */
static void throughput(box_pool *p, const char *set, const char *script, const char *code, int n)
{
    bench_pids id = bench_find();
    double cpu = bench_cpu_s(&id), t = clock_now();
    int started = 0, ended = 0;
    while (ended < n) {
        box *b, *d[16];
        while (started < n && started - ended < 8 && box_open(p, (uint64_t)started, NULL, &b) == ST_OK) {
            CHECK(box_submit(b, code, strlen(code)) == ST_OK);
            started++;
        }
        int k = box_poll(p, d, 16, 1000);
        for (int i = 0; i < k; i++, ended++) {
            box_result r;
            box_result_take(d[i], &r);
            if (r.verdict != BOX_OK)
                printf("{\"unexpected\": \"%s %s\"}\n", box_verdict_name(r.verdict),
                       r.error_message ? r.error_message : "");
            box_result_free(&r);
            box_close(d[i]);
        }
    }
    t = clock_now() - t;
    printf("{\"what\": \"box, %s: %s\", \"n\": %d, \"wide\": 8, \"runs_per_s\": %.0f, \"cpu_ms_per_run\": %.2f}\n", set,
           script, n, n / t, 1e3 * (bench_cpu_s(&id) - cpu) / n);
    fflush(stdout);
}

static void boxes(bool full, int n)
{
    const char *set = full ? "full" : "demo";
    box_opts o = bench_box_opts(full);
    box_pool *p = bench_pool(&o);
    latency(p, set, n / 4 + 5);
    throughput(p, set, "tiny", TINY, n);
    if (full) throughput(p, set, "image", "import io\nfrom PIL import Image\nimport cv2\n" IMAGE, n);
    box_pool_destroy(p);
    killing(&o, set, n / 4 + 5);
}

/* ---- peers ---- */

typedef struct peer {
    const char *name;
    const char *before[40]; /* the command up to its python3 */
} peer;

#define BWRAP                                                                                                       \
    "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr", "--symlink",       \
        "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--ro-bind",         \
        "/etc/alternatives", "/etc/alternatives", "--ro-bind", "/etc/matplotlibrc", "/etc/matplotlibrc", "--tmpfs", \
        "/tmp", "--dev", "/dev", "--setenv", "HOME", "/tmp", "--setenv", "OPENBLAS_NUM_THREADS", "1"
#define NSJAIL_ARGS                                                                                                  \
    "-Mo", "-Q", "-R", "/usr", "-s", "/usr/bin:/bin", "-s", "/usr/lib:/lib", "-s", "/usr/lib64:/lib64", "-R",        \
        "/etc/alternatives", "-T", "/tmp", "-R", "/dev/null", "-R", "/dev/urandom", "-R", "/etc/matplotlibrc", "-E", \
        "HOME=/tmp", "--rlimit_as", "4096", "--disable_proc", "-E", "OPENBLAS_NUM_THREADS=1", "--"

static pid_t launch(const peer *y, const char *code)
{
    const char *argv[48];
    int n = 0;
    while (y->before[n]) {
        argv[n] = y->before[n];
        n++;
    }
    argv[n++] = "/usr/bin/python3";
    argv[n++] = "-c";
    argv[n++] = code;
    argv[n] = NULL;
    pid_t pid;
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", 1, 0);
    int e = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    return e ? -1 : pid;
}

static void peer_runs(const peer *y, const char *what, const char *code, int n)
{
    char line[128];
    double *ms = malloc(sizeof *ms * (size_t)n);
    CHECK(ms);
    snprintf(line, sizeof line, "%s: %s", y->name, what);
    for (int i = 0; i < n; i++) {
        double t = clock_now();
        int how = -1;
        pid_t pid = launch(y, code);
        if (pid < 0 || waitpid(pid, &how, 0) != pid || how) {
            printf("{\"what\": \"%s\", \"failed\": %d}\n", line, how);
            free(ms);
            return;
        }
        ms[i] = 1e3 * (clock_now() - t);
    }
    bench_report(line, ms, n);
    free(ms);
    double t = clock_now(); /* and as many as go on two cores */
    for (int i = 0; i < n + 2; i++) {
        if (i >= 2) wait(NULL);
        if (i < n) (void)launch(y, code);
    }
    t = clock_now() - t;
    printf("{\"what\": \"%s\", \"n\": %d, \"wide\": 2, \"runs_per_s\": %.1f}\n", line, n, n / t);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int rc = bench_boot(argc, argv);
    if (rc >= 0) return rc;
    int n = argc > 1 ? atoi(argv[1]) : 200;
    const char *nsjail = argc > 2 ? argv[2] : "nsjail";
    boxes(false, n);
    boxes(true, n);
    box_shutdown();
    const peer peers[] = {{"python3", {NULL}}, {"bubblewrap", {BWRAP, NULL}}, {"nsjail", {nsjail, NSJAIL_ARGS, NULL}}};
    int few = n / 20 + 3;
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
        peer_runs(&peers[i], "pass", "pass", few);
        peer_runs(&peers[i], "tiny, numpy + PIL", IMPORTS TINY, few);
        peer_runs(&peers[i], "tiny, + cv2 + matplotlib", IMPORTS_FULL TINY, few);
        peer_runs(&peers[i], "image", IMPORTS_FULL IMAGE, few);
    }
    return 0;
}
