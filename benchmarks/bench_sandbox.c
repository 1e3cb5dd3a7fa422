/* Boxes: latency of the first and of later turns, one-shot runs per second and their CPU time, beside a plain python3.
 *     bench_sandbox [RUNS]            JSON lines on stdout; CPU columns need control groups v1 (tier T0) */
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "sandbox/box.h"

extern char **environ;

static const char tiny[] = "a = np.arange(12).reshape(3, 4)\nprint(a.sum())\n";
static const char crop[] = "x, y = 30, 20\nz = img.crop((x, y, x + 56, y + 56)).resize((84, 84))\nshow(z)\n";

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *what, double *ms, int n)
{
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    printf("{\"what\": \"%s\", \"n\": %d, \"p50_ms\": %.2f, \"p95_ms\": %.2f, \"min_ms\": %.2f}\n", what, n, ms[n / 2],
           ms[n * 95 / 100], ms[0]);
    fflush(stdout);
}

static double rusage_s(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Parent and CPU ticks of a process; false if it is gone. */
static bool process(int pid, int *parent, unsigned long *ticks)
{
    char path[64], text[512];
    unsigned long u = 0, k = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *after = strrchr(text, ')');
    if (!after || sscanf(after + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", parent, &u, &k) != 3)
        return false;
    *ticks = u + k;
    return true;
}

static int child_of(int pid)
{
    glob_t g;
    int found = 0;
    if (glob("/proc/[0-9]*/stat", 0, NULL, &g)) return 0;
    for (size_t i = 0; i < g.gl_pathc && !found; i++) {
        int parent = 0, p = atoi(g.gl_pathv[i] + 6);
        unsigned long ticks;
        char path[64], text[64] = "";
        snprintf(path, sizeof path, "/proc/%d/comm", p);
        FILE *f = fopen(path, "r");
        if (f && !fgets(text, sizeof text, f)) text[0] = 0;
        if (f) fclose(f);
        if (strcmp(text, "box-janitor\n") && process(p, &parent, &ticks) && parent == pid) found = p;
    }
    globfree(&g);
    return found;
}

/* CPU seconds of our supervisor, the zygote and all its boxes so far. */
static double sandbox_cpu_s(void)
{
    static int pid[3];
    double sum = 0, v = 0;
    char path[128];
    for (int i = 0; i < 3; i++) { /* supervisor, the zygote's outer process, the zygote */
        int parent;
        unsigned long ticks = 0;
        if (!pid[i]) pid[i] = child_of(i ? pid[i - 1] : (int)getpid());
        if (process(pid[i], &parent, &ticks)) sum += (double)ticks / (double)sysconf(_SC_CLK_TCK);
    }
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpuacct/box.%d/cpuacct.usage", pid[0]);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%lf", &v) == 1) sum += 1e-9 * v;
    if (f) fclose(f);
    return sum;
}

static void turn(box_pool *p, box *b, const char *code)
{
    box *d;
    box_result r;
    CHECK(box_submit(b, code, strlen(code)) == ST_OK);
    while (box_poll(p, &d, 1, 1000) == 0) continue;
    box_result_take(d, &r);
    CHECK(r.verdict == BOX_OK);
    box_result_free(&r);
}

static void latency(box_pool *p, box_input *in, int n)
{
    double *first = malloc(sizeof *first * (size_t)n), *later = malloc(sizeof *later * (size_t)n),
           *end = malloc(sizeof *end * (size_t)n);
    CHECK(first && later && end);
    for (int i = 0; i < n; i++) {
        box *b;
        double t = clock_now();
        CHECK(box_open(p, (uint64_t)i, in, &b) == ST_OK);
        turn(p, b, tiny);
        double u = clock_now();
        first[i] = 1e3 * (u - t);
        turn(p, b, tiny);
        later[i] = 1e3 * (clock_now() - u);
        u = clock_now();
        box_close(b);
        end[i] = 1e3 * (clock_now() - u);
    }
    report("open + first turn", first, n);
    report("later turn", later, n);
    report("close", end, n);
    free(first);
    free(later);
    free(end);
}

/* n boxes of one turn each, `wide` at a time. */
static void one_shot(box_pool *p, box_input *in, const char *what, const char *code, int n, int wide)
{
    double cpu = sandbox_cpu_s() + rusage_s(RUSAGE_SELF), t = clock_now();
    int started = 0, ended = 0;
    while (ended < n) {
        box *b, *d[16];
        while (started < n && started - ended < wide && box_open(p, (uint64_t)started, in, &b) == ST_OK) {
            CHECK(box_submit(b, code, strlen(code)) == ST_OK);
            started++;
        }
        int k = box_poll(p, d, 16, 1000);
        for (int i = 0; i < k; i++) {
            box_result r;
            box_result_take(d[i], &r);
            if (r.verdict != BOX_OK) printf("{\"unexpected\": \"%s\"}\n", box_verdict_name(r.verdict));
            box_result_free(&r);
            box_close(d[i]);
            ended++;
        }
    }
    double wall = clock_now() - t;
    cpu = sandbox_cpu_s() + rusage_s(RUSAGE_SELF) - cpu;
    printf("{\"what\": \"%s\", \"n\": %d, \"wide\": %d, \"runs_per_s\": %.0f, \"cpu_ms_per_run\": %.2f}\n", what, n,
           wide, n / wall, 1e3 * cpu / n);
    fflush(stdout);
}

static void plain_python(const char *what, const char *code, int n)
{
    double *ms = malloc(sizeof *ms * (size_t)n), cpu = rusage_s(RUSAGE_CHILDREN);
    CHECK(ms);
    for (int i = 0; i < n; i++) {
        char *argv[] = {(char *)"python3", (char *)"-c", (char *)(uintptr_t)code, NULL};
        pid_t pid;
        double t = clock_now();
        if (posix_spawn(&pid, "/usr/bin/python3", NULL, NULL, argv, environ)) {
            free(ms);
            return;
        }
        waitpid(pid, NULL, 0);
        ms[i] = 1e3 * (clock_now() - t);
    }
    report(what, ms, n);
    printf("{\"what\": \"%s\", \"cpu_ms_per_run\": %.2f}\n", what, 1e3 * (rusage_s(RUSAGE_CHILDREN) - cpu) / n);
    free(ms);
}

int main(int argc, char **argv)
{
    char exe[4096]; /* the supervisor is the real program, built beside this one */
    ssize_t k = readlink("/proc/self/exe", exe, sizeof exe - 16);
    CHECK(k > 0);
    exe[k] = 0;
    strcpy(strrchr(exe, '/') + 1, "codedance");
    int rc = box_boot(argc, argv, exe);
    if (rc >= 0) return rc;
    int n = argc > 1 ? atoi(argv[1]) : 200;
    static const char *const imports[] = {"numpy", "PIL.Image", NULL};
    box_opts o = {.imports = imports,
                  .preset = "import numpy as np\nW, H = 224, 116\n",
                  .min_tier = BOX_T1,
                  .spares = 16,
                  .max_live = 256,
                  .max_starting = 4};
    box_limits_default(&o.limits);
    box_pool *p = NULL;
    double t = clock_now();
    if (box_pool_create(&p, &o) != ST_OK) {
        fprintf(stderr, "%s\n", fail_message());
        return 1;
    }
    printf("{\"what\": \"pool\", \"tier\": \"%s\", \"ready_ms\": %.0f}\n", box_tier_name(box_pool_tier(p)),
           1e3 * (clock_now() - t));
    uint8_t *rgb = calloc(224 * 116, 3);
    CHECK(rgb);
    box_image im = {224, 116, rgb};
    box_input *in = NULL;
    CHECK(box_input_create(&in, &im, 1) == ST_OK);
    usleep(300000); /* the spares */
    latency(p, in, n);
    one_shot(p, in, "one-shot tiny", tiny, 5 * n, 16);
    one_shot(p, in, "one-shot crop", crop, 5 * n, 16);
    one_shot(p, in, "one-shot crop, 60 at once", crop, 5 * n, 60);
    box_input_release(in);
    box_pool_destroy(p);
    free(rgb);
    plain_python("python3 -c pass", "pass", n / 10 + 5);
    plain_python("python3 -c 'import numpy, PIL.Image'", "import numpy, PIL.Image", n / 20 + 3);
    box_shutdown();
    return 0;
}
