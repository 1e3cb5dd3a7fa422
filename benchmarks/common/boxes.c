#include "benchmarks/common/boxes.h"

#include <dirent.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"

int bench_boot(int argc, char **argv)
{
    char exe[4096];
    ssize_t k = readlink("/proc/self/exe", exe, sizeof exe - 16);
    CHECK(k > 0);
    exe[k] = 0;
    strcpy(strrchr(exe, '/') + 1, "codedance");
    return box_boot(argc, argv, exe);
}

static bool has_module(const char *name)
{
    char pattern[128];
    glob_t g;
    snprintf(pattern, sizeof pattern, "/usr/lib/python3/dist-packages/%s*", name);
    int e = glob(pattern, 0, NULL, &g);
    if (e == 0) globfree(&g);
    return e == 0;
}

box_opts bench_box_opts(bool full)
{
    static const char *names[8];
    static const char *const more[][2] = {
        {"cv2", "cv2"}, {"matplotlib", "matplotlib.pyplot"}, {"scipy", "scipy.ndimage"}, {"sympy", "sympy"}};
    int n = 0;
    names[n++] = "numpy";
    names[n++] = "PIL.Image";
    for (size_t i = 0; full && i < sizeof more / sizeof *more; i++)
        if (has_module(more[i][0])) names[n++] = more[i][1];
    names[n] = NULL;
    box_opts o = {.imports = names,
                  .preset = "import numpy as np\nW, H = 224, 116\n",
                  .min_tier = BOX_T1,
                  .spares = 16,
                  .max_live = 256,
                  .max_starting = 4};
    box_limits_default(&o.limits);
    return o;
}

box_pool *bench_pool(const box_opts *o)
{
    box_pool *p = NULL;
    double t = clock_now();
    if (box_pool_create(&p, o) != ST_OK) {
        fprintf(stderr, "%s\n", fail_message());
        exit(1);
    }
    double ms = 1e3 * (clock_now() - t);
    int n = 0;
    while (o->imports[n]) n++;
    printf("{\"what\": \"pool\", \"tier\": \"%s\", \"imports\": %d, \"ready_ms\": %.0f",
           box_tier_name(box_pool_tier(p)), n, ms);
    bench_pids id = bench_find();
    printf(", \"zygote_vmas\": %d, \"zygote_rss_mib\": %.0f, \"zygote_pte_kib\": %ld}\n", bench_vmas(id.zygote),
           (double)bench_proc(id.zygote, "smaps_rollup", "Rss") / 1024, bench_proc(id.zygote, "status", "VmPTE"));
    fflush(stdout);
    usleep(300000 + 20000 * (unsigned)o->spares);
    return p;
}

box_result bench_turn(box_pool *p, box *b, const char *code)
{
    box *d;
    box_result r;
    CHECK(box_submit(b, code, strlen(code)) == ST_OK);
    while (box_poll(p, &d, 1, 1000) == 0) continue;
    CHECK(d == b);
    box_result_take(d, &r);
    return r;
}

void bench_turn_ok(box_pool *p, box *b, const char *code)
{
    box_result r = bench_turn(p, b, code);
    if (r.verdict != BOX_OK) {
        fprintf(stderr, "%s instead of OK: %s %s\n", box_verdict_name(r.verdict), r.error_type,
                r.error_message ? r.error_message : "");
        exit(1);
    }
    box_result_free(&r);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(double *v, int n, double q)
{
    if (n == 0) return 0;
    qsort(v, (size_t)n, sizeof *v, by_value);
    int i = (int)(q * n);
    return v[i < n ? i : n - 1];
}

void bench_report(const char *what, double *ms, int n)
{
    double p50 = bench_percentile(ms, n, 0.5), p95 = bench_percentile(ms, n, 0.95);
    printf("{\"what\": \"%s\", \"n\": %d, \"p50_ms\": %.2f, \"p95_ms\": %.2f, \"min_ms\": %.2f}\n", what, n, p50, p95,
           n ? ms[0] : 0);
    fflush(stdout);
}

/* ---- processes ---- */

static int parent_of(int pid, char comm[32])
{
    char path[64], text[512];
    int parent = 0;
    comm[0] = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *open = strchr(text, '('), *after = strrchr(text, ')');
    if (!open || !after || sscanf(after + 1, " %*c %d", &parent) != 1) return 0;
    *after = 0;
    snprintf(comm, 32, "%s", open + 1);
    return parent;
}

/* The first child that is none of the supervisor's helpers. */
static int child_of(int pid)
{
    DIR *d = opendir("/proc");
    int found = 0;
    CHECK(d);
    for (struct dirent *e; (e = readdir(d)) && !found;) {
        char comm[32];
        int p = atoi(e->d_name);
        if (p > 0 && parent_of(p, comm) == pid && strcmp(comm, "box-janitor") != 0 && strcmp(comm, "box-opener") != 0)
            found = p;
    }
    closedir(d);
    return found;
}

bench_pids bench_find(void)
{
    bench_pids p = {child_of((int)getpid()), 0};
    int outer = p.boxd ? child_of(p.boxd) : 0;
    p.zygote = outer ? child_of(outer) : 0;
    return p;
}

int bench_descendants(int pid, int *out, int max)
{
    enum { MOST = 1 << 16 };
    static int id[MOST], parent[MOST];
    static bool in[MOST];
    DIR *d = opendir("/proc");
    int n = 0, found = 0;
    CHECK(d);
    for (struct dirent *e; (e = readdir(d)) && n < MOST;) {
        char comm[32];
        id[n] = atoi(e->d_name);
        if (id[n] <= 0 || !(parent[n] = parent_of(id[n], comm))) continue;
        in[n++] = false;
    }
    closedir(d);
    for (bool more = true; more;) { /* as many rounds as the tree is deep */
        more = false;
        for (int i = 0; i < n; i++) {
            bool is = parent[i] == pid;
            for (int k = 0; !in[i] && !is && k < n; k++) is = in[k] && id[k] == parent[i];
            if (in[i] || !is) continue;
            in[i] = more = true;
            if (out && found < max) out[found] = id[i];
            found++;
        }
    }
    return found;
}

int bench_fds(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    if (!d) return -1;
    int n = -2;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

long bench_proc(int pid, const char *file, const char *field)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    long v = -1;
    size_t n = strlen(field);
    while (v < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, field, n) && line[n] == ':') v = atol(line + n + 1);
    fclose(f);
    return v;
}

static int count_lines(int pid, const char *file)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    int n = 0;
    for (int c; (c = getc(f)) != EOF;) n += c == '\n';
    fclose(f);
    return n;
}

int bench_vmas(int pid) { return count_lines(pid, "maps"); }
int bench_mounts(int pid) { return count_lines(pid, "mounts"); }

long bench_meminfo(const char *field)
{
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    long v = 0;
    size_t n = strlen(field);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, field, n) && line[n] == ':') v = atol(line + n + 1);
    if (f) fclose(f);
    return v;
}

/* ---- control groups ---- */

static struct {
    char name[32];
    int n;
} groups;

static int count_group(const char *path, const struct stat *s, int type, struct FTW *f)
{
    (void)s;
    const char *at = strstr(path, groups.name);
    char after = at ? at[strlen(groups.name)] : 0;
    groups.n += type == FTW_D && at && f->level < 16 && (after == 0 || after == '/');
    return 0;
}

int bench_cgroups(int boxd)
{
    snprintf(groups.name, sizeof groups.name, "/box.%d", boxd);
    groups.n = 0;
    nftw("/sys/fs/cgroup", count_group, 32, FTW_PHYS);
    return groups.n;
}

static bool read_double(const char *format, int id, double *v)
{
    char path[128];
    snprintf(path, sizeof path, format, id); // NOLINT: two constant formats
    FILE *f = fopen(path, "r");
    bool ok = f && fscanf(f, "%lf", v) == 1;
    if (f) fclose(f);
    return ok;
}

int bench_box_pids(int boxd)
{
    double v;
    if (read_double("/sys/fs/cgroup/pids/box.%d/pids.current", boxd, &v) ||
        read_double("/sys/fs/cgroup/box.%d/pids.current", boxd, &v))
        return (int)v;
    return -1;
}

double bench_cpu_s(const bench_pids *p)
{
    struct rusage u;
    double v, sum;
    getrusage(RUSAGE_SELF, &u);
    sum = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    int pid[] = {p->boxd, p->zygote};
    for (int i = 0; i < 2; i++)
        if (pid[i] && read_double("/proc/%d/schedstat", pid[i], &v)) sum += 1e-9 * v;
    if (read_double("/sys/fs/cgroup/cpuacct/box.%d/cpuacct.usage", p->boxd, &v)) sum += 1e-9 * v;
    return sum;
}
