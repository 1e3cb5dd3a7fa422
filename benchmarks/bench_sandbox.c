/* Boxes: CPU time of whole trajectories (all processes), latency of the first and of later turns, a plain python3.
 *     bench_sandbox [RUNS [CASE]]     JSON lines on stdout; CPU columns need control groups v1 (tier T0) */
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
/* What the demo's policy writes for its 672x672 pictures. */
#define CROP "c,r,h=1,1,10\nx,y=c*W+H,r*W+H\nimg=img.crop((x-h,y-h,x+h,y+h))\nshow(img)\n"
#define COUNT "a=np.array(img.convert('L'))<64\nprint((a[1:,1:]&~a[1:,:-1]&~a[:-1,1:]).sum())\n"
#define WRONG "c,r,h=1,1,10\nx,y=c*W+H,r*W+H\nshow(img.crop((x-h,y-h,x+h,z)))\n"

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

/* Parent of a process; 0 if it is gone. */
static int parent_of(int pid)
{
    char path[64], text[512];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *after = strrchr(text, ')');
    return after && sscanf(after + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

static int child_of(int pid)
{
    glob_t g;
    int found = 0;
    if (glob("/proc/[0-9]*/stat", 0, NULL, &g)) return 0;
    for (size_t i = 0; i < g.gl_pathc && !found; i++) {
        int p = atoi(g.gl_pathv[i] + 6);
        char path[64], text[64] = "";
        snprintf(path, sizeof path, "/proc/%d/comm", p);
        FILE *f = fopen(path, "r");
        if (f && !fgets(text, sizeof text, f)) text[0] = 0;
        if (f) fclose(f);
        if (strcmp(text, "box-janitor\n") && parent_of(p) == pid) found = p;
    }
    globfree(&g);
    return found;
}

static double read_ns(const char *path)
{
    double v = 0;
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%lf", &v) != 1) v = 0;
    if (f) fclose(f);
    return 1e-9 * v;
}

/* CPU seconds of this process, the supervisor, the zygote and all its boxes so far. */
static double all_cpu_s(void)
{
    static int pid[3];
    double sum = rusage_s(RUSAGE_SELF);
    char path[128];
    for (int i = 0; i < 3; i++) { /* supervisor, the zygote's outer process, the zygote */
        if (!pid[i]) pid[i] = child_of(i ? pid[i - 1] : (int)getpid());
        snprintf(path, sizeof path, "/proc/%d/schedstat", pid[i]);
        sum += read_ns(path);
    }
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpuacct/box.%d/cpuacct.usage", pid[0]);
    return sum + read_ns(path);
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

typedef struct play {
    const char *what, *turn[2]; /* a first turn that fails, or NULL, and the last one */
} play;

/* n boxes, `wide` at a time. */
static void plays(box_pool *p, box_input *in, const play *y, int n, int wide)
{
    double cpu = all_cpu_s(), t = clock_now();
    int started = 0, ended = 0;
    while (ended < n) {
        box *b, *d[16];
        while (started < n && started - ended < wide && box_open(p, (uint64_t)started, in, &b) == ST_OK) {
            const char *code = y->turn[0] ? y->turn[0] : y->turn[1];
            CHECK(box_submit(b, code, strlen(code)) == ST_OK);
            box_set_user(b, y->turn[0] ? b : NULL); /* another turn follows */
            started++;
        }
        int k = box_poll(p, d, 16, 1000);
        for (int i = 0; i < k; i++) {
            box_result r;
            box_result_take(d[i], &r);
            bool more = box_user(d[i]);
            if (r.verdict != (more ? BOX_PY_ERROR : BOX_OK))
                printf("{\"unexpected\": \"%s\"}\n", box_verdict_name(r.verdict));
            box_result_free(&r);
            box_set_user(d[i], NULL);
            if (more) {
                CHECK(box_submit(d[i], y->turn[1], strlen(y->turn[1])) == ST_OK);
            } else {
                box_close(d[i]);
                ended++;
            }
        }
    }
    double wall = clock_now() - t;
    cpu = all_cpu_s() - cpu;
    printf("{\"what\": \"%s\", \"n\": %d, \"wide\": %d, \"boxes_per_s\": %.0f, \"cpu_ms_per_box\": %.2f}\n", y->what, n,
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
    const char *only = argc > 2 ? argv[2] : NULL;
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
    enum { SIDE = 672 };
    uint8_t *rgb = calloc(SIDE * SIDE, 3);
    CHECK(rgb);
    for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (uint8_t)(i * 2654435761u >> 24);
    box_image im = {SIDE, SIDE, rgb};
    box_input *in = NULL;
    CHECK(box_input_create(&in, &im, 1) == ST_OK);
    usleep(300000); /* the spares */
    static const play list[] = {{"tiny", {NULL, tiny}},
                                {"crop", {NULL, CROP}},
                                {"count", {NULL, COUNT}},
                                {"error, crop", {WRONG, CROP}},
                                {"error, count", {WRONG, COUNT}}};
    for (int wide = 1; wide <= 60; wide += 59)
        for (size_t i = 0; i < sizeof list / sizeof *list; i++)
            if (!only || !strcmp(only, list[i].what)) plays(p, in, &list[i], n, wide);
    if (!only) latency(p, in, n);
    box_input_release(in);
    box_pool_destroy(p);
    free(rgb);
    if (!only) {
        plain_python("python3 -c pass", "pass", n / 10 + 5);
        plain_python("python3 -c 'import numpy, PIL.Image'", "import numpy, PIL.Image", n / 20 + 3);
    }
    box_shutdown();
    return 0;
}
