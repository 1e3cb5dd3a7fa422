#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/thread.h"
#include "data/shard.h"
#include "kernels/kernels.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"

enum { MAX_CHECK = 64 };

typedef struct check {
    char group[16], name[40], evidence[256], remedy[256];
    bool ok, needed; /* needed: training the demo is impossible without it */
} check;

typedef struct report {
    int n;
    check at[MAX_CHECK];
} report;

static check *add(report *r, const char *group, const char *name, bool ok, bool needed)
{
    CHECK(r->n < MAX_CHECK);
    check *c = &r->at[r->n++];
    *c = (check){.ok = ok, .needed = needed};
    snprintf(c->group, sizeof c->group, "%.15s", group);
    snprintf(c->name, sizeof c->name, "%.39s", name);
    return c;
}

#define EVIDENCE(c, ...) snprintf((c)->evidence, sizeof(c)->evidence, __VA_ARGS__)
#define REMEDY(c, ...) snprintf((c)->remedy, sizeof(c)->remedy, __VA_ARGS__)

/* First number behind "name:" in /proc/meminfo, in KiB. */
static int64_t meminfo(const char *name)
{
    char line[256];
    int64_t v = -1;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        size_t n = strlen(name);
        if (strncmp(line, name, n) == 0 && line[n] == ':') v = strtoll(line + n + 1, NULL, 10);
    }
    if (f != NULL) fclose(f);
    return v;
}

static void cpu_model(char *out, size_t n)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, n, "model unknown");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "model name", 10) != 0 || strchr(line, ':') == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, n, "%.120s", strchr(line, ':') + 2);
        break;
    }
    if (f != NULL) fclose(f);
}

static void check_machine(report *r)
{
    static const char *const isas[] = {"avx512", "avx2", "generic"};
    char name[128], list[64] = "";
    cpu_model(name, sizeof name);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        size_t at = strlen(list);
        if (cpu_isa_has(isas[i])) snprintf(list + at, sizeof list - at, "%s%s", at > 0 ? ", " : "", isas[i]);
    }
    bool fast = strcmp(cpu_isa_best(), "generic") != 0;
    check *c = add(r, "cpu", "instruction set", fast, false);
    EVIDENCE(c, "%s (has %s) on %s", cpu_isa_best(), list, name);
    if (!fast) REMEDY(c, "a CPU with AVX2 or AVX-512 is 4 to 10 times faster; results are the same bits");
    c = add(r, "cpu", "usable CPUs", true, false);
    EVIDENCE(c, "%d of %ld (affinity and cgroup quota respected)", thread_cpus(), sysconf(_SC_NPROCESSORS_ONLN));
    int64_t total = meminfo("MemTotal"), avail = meminfo("MemAvailable");
    c = add(r, "cpu", "memory", avail < 0 || avail > (int64_t)2 << 20, false);
    EVIDENCE(c, "%.1f GiB, %.1f GiB available", (double)total / (1 << 20), (double)avail / (1 << 20));
    if (!c->ok)
        REMEDY(c, "the demo wants about 2 GiB; lower sandbox.max_live or train.max_tokens, or close other programs");
}

static void check_gpu(report *r)
{
    backend *b = NULL;
    status st = backend_open_cuda(&b, 0, DT_BF16, NULL);
    check *c = add(r, "gpu", "CUDA plug-in", st == ST_OK, false);
    EVIDENCE(c, "%s", st == ST_OK ? b->describe : fail_message());
    if (st != ST_OK)
        REMEDY(c, "not needed; for --device cuda:0 build with CUDACXX=/path/to/nvcc on a machine with a driver");
    if (st == ST_OK) backend_close(b);
}

static bool in_path(const char *program, char *found, size_t n)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path != NULL ? path : "/usr/bin:/bin"), *save = NULL;
    bool ok = false;
    for (char *dir = strtok_r(copy, ":", &save); dir != NULL && !ok; dir = strtok_r(NULL, ":", &save)) {
        snprintf(found, n, "%s/%s", dir, program);
        ok = access(found, X_OK) == 0;
    }
    free(copy);
    return ok;
}

static void check_libraries(report *r)
{
    char mpirun[512];
    const char *mpi = comm_mpi_version();
    bool launcher = in_path("mpirun", mpirun, sizeof mpirun);
    check *c = add(r, "library", "MPI", mpi != NULL && launcher, false);
    EVIDENCE(c, "%.80s; %.120s", mpi != NULL ? mpi : "built without MPI", launcher ? mpirun : "no mpirun in PATH");
    if (!c->ok) REMEDY(c, "one process works; for several: apt-get install libopenmpi-dev openmpi-bin, build again");

    status st = shard_register_zstd();
    c = add(r, "library", "HDF5 shards", st == ST_OK, false);
    EVIDENCE(c, "%s", st == ST_OK ? "zstd filter 32015 registered" : fail_message());
    if (st != ST_OK) REMEDY(c, "JSONL datasets work; for shards: apt-get install libhdf5-dev, build again");

    uint8_t pixel[3] = {1, 2, 3}, *png = NULL;
    size_t n = 0;
    image one = {1, 1, pixel}, back = {0};
    st = image_encode_png(&one, 1, &png, &n);
    if (st == ST_OK) st = image_decode(&back, png, n, "PNG check");
    c = add(r, "library", "PNG", st == ST_OK && back.w == 1 && back.rgb[2] == 3, true);
    EVIDENCE(c, "%s", st == ST_OK ? "a picture written and read back" : fail_message());
    if (!c->ok) REMEDY(c, "apt-get install libpng-dev, build again");
    free(png);
    image_free(&back);
    static const struct {
        const char *name, *start; /* too short for a picture: a decoder says EINVAL */
        const char *package;
    } codec[] = {{"JPEG", "\xff\xd8\xff\xd9........", "libjpeg62-turbo-dev"},
                 {"WebP", "RIFF....WEBP", "libwebp-dev"},
                 {"GIF", "GIF89a......", "libgif-dev"}};
    for (size_t i = 0; i < sizeof codec / sizeof *codec; i++) {
        st = image_decode(&back, codec[i].start, 12, codec[i].name);
        c = add(r, "library", codec[i].name, st != ST_EUNAVAIL, false);
        EVIDENCE(c, "%s", c->ok ? "decoder present" : fail_message());
        if (!c->ok) REMEDY(c, "PNG works; for %s: apt-get install %s, build again", codec[i].name, codec[i].package);
    }
}

/* One turn in a real box: says which Python the model's code will meet. */
static status run_python(const config *cfg, box_config *o, check *c)
{
    static const char code[] =
        "import sys\nfrom importlib.util import find_spec\n"
        "print(sys.implementation.name, sys.version.split()[0] + ',', sys.executable, end='')\n"
        "have = [m for m in ('numpy', 'PIL', 'matplotlib', 'cv2', 'scipy', 'sympy') if find_spec(m)]\n"
        "print(' with', *(m + (' ' + __import__(m).__version__ if m in ('numpy', 'PIL') else '') for m in have),"
        " end='')\n"
        "miss = [m for m in ('numpy', 'PIL', 'matplotlib', 'cv2', 'scipy', 'sympy') if m not in have]\n"
        "if miss: print('; no', *miss, end='')\n";
    box_opts bo;
    TRY(box_config_opts(o, cfg, &bo));
    box_pool *pool = NULL;
    box *b = NULL, *done = NULL;
    box_result res = {0};
    status st;
    double from = clock_now();
    TRY_OR(box_config_pool(cfg, &bo, &pool), out);
    TRY_OR(box_open(pool, 1, NULL, &b), out);
    double ready = clock_now();
    TRY_OR(box_submit(b, code, sizeof code - 1), out);
    for (int i = 0; i < 300 && box_poll(pool, &done, 1, 100) == 0; i++) continue;
    if (done == NULL) {
        st = FAIL(ST_ESYS, "a box gave no answer in 30 s");
        goto out;
    }
    box_result_take(b, &res);
    double ms = 1e3 * (clock_now() - ready);
    if (res.verdict != BOX_OK) {
        st = FAIL(ST_ESYS, "a box ended with %s: %s", box_verdict_name(res.verdict),
                  res.error_message != NULL ? res.error_message : "");
        goto out;
    }
    c->ok = strstr(res.text, " with numpy") != NULL && strstr(res.text, " PIL ") != NULL;
    EVIDENCE(c, "%s%.170s; pool ready in %.0f ms, first turn %.0f ms",
             o->python[0] != '\0' ? "" : "built in: ", res.text, 1e3 * (ready - from), ms);
    if (!c->ok && o->python[0] == '\0')
        REMEDY(c, "apt-get install python3-numpy python3-pil, or name an interpreter that has them in sandbox.python");
    if (!c->ok && o->python[0] != '\0') REMEDY(c, "%s -m pip install numpy pillow", o->python);
out:
    box_result_free(&res);
    box_close(b);
    box_pool_destroy(pool);
    return st;
}

static status check_sandbox(report *r, const arg_list *files, const arg_list *sets)
{
    box_layer layer[48];
    box_tier tier = BOX_T3;
    box_config o = {0};
    box_opts opts;
    config *cfg = NULL;
    status st = config_load(&cfg, files->v, files->n, (const char *const *)sets->v, sets->n);
    if (st == ST_OK) st = config_bind(cfg, "sandbox", box_fields, &o);
    if (st == ST_OK) st = config_check(cfg, config_sections);
    if (st == ST_OK) st = config_finish(cfg);
    if (st == ST_OK) st = box_config_opts(&o, cfg, &opts);
    if (st == ST_OK) {
        int n = box_doctor(&opts, layer, 48, &tier);
        /* Is it the interpreter or the machine? The line on Python tells about the former. */
        opts.python = NULL;
        if (tier == BOX_T3 && o.python[0] != '\0') n = box_doctor(&opts, layer, 48, &tier);
        static const char *const meaning[] = {"namespaces, control groups, seccomp, Landlock",
                                              "namespaces, rlimits, seccomp, Landlock", "Landlock and seccomp only",
                                              "no isolation possible"};
        bool no_python = tier == BOX_T3 && strncmp(layer[0].evidence, "sandbox.python", 14) == 0;
        check *c = add(r, "sandbox", "tier", tier <= BOX_T1, true);
        EVIDENCE(c, "%s: %s", box_tier_name(tier), no_python ? "no Python to try boxes with" : meaning[tier]);
        if (tier == BOX_T2)
            REMEDY(c, "refused by default; --set sandbox.min_tier=T2 accepts it, or allow user namespaces");
        if (no_python)
            REMEDY(c, "--set sandbox.python=/usr/bin/python3, or another CPython 3.8 or newer");
        else if (tier == BOX_T3)
            REMEDY(c, "allow unprivileged user namespaces (or Landlock in the kernel) on this machine or container");
        for (int i = 0; i < n; i++) {
            c = add(r, "sandbox", layer[i].name, layer[i].ok, false);
            EVIDENCE(c, "%s", layer[i].evidence);
            REMEDY(c, "%s", layer[i].remedy);
        }
        c = add(r, "sandbox", "Python in a box", false, true);
        o.spares = 1;
        o.min_tier = BOX_T2; /* tell whether Python works even where the tier is not accepted by default */
        if (tier == BOX_T3 && o.python[0] == '\0')
            EVIDENCE(c, "not tried");
        else if (run_python(cfg, &o, c) != ST_OK)
            EVIDENCE(c, "%s", fail_message());
    }
    config_destroy(cfg);
    return st;
}

static void print_text(const report *r)
{
    bool colour = isatty(1) != 0;
    const char *green = colour ? "\033[32m" : "", *red = colour ? "\033[31m" : "", *dim = colour ? "\033[2m" : "",
               *plain = colour ? "\033[0m" : "";
    const char *group = "";
    for (int i = 0; i < r->n; i++) {
        const check *c = &r->at[i];
        if (strcmp(group, c->group) != 0) printf("%s%s\n", i > 0 ? "\n" : "", c->group);
        group = c->group;
        printf("  %s%s%s %-22s %s\n", c->ok ? green : red, c->ok ? "✓" : "✗", plain, c->name, c->evidence);
        if (!c->ok && c->remedy[0] != '\0') printf("      %s→ %s%s\n", dim, c->remedy, plain);
    }
}

static void print_json(const report *r)
{
    json_out o;
    json_begin(&o, true);
    json_open(&o, '[');
    for (int i = 0; i < r->n; i++) {
        const check *c = &r->at[i];
        json_open(&o, '{');
        json_key(&o, "group"), json_put_str(&o, c->group);
        json_key(&o, "name"), json_put_str(&o, c->name);
        json_key(&o, "ok"), json_put_bool(&o, c->ok);
        json_key(&o, "needed"), json_put_bool(&o, c->needed);
        json_key(&o, "evidence"), json_put_str(&o, c->evidence);
        json_key(&o, "remedy"), json_put_str(&o, c->ok ? "" : c->remedy);
        json_close(&o, '}');
    }
    json_close(&o, ']');
    puts(o.text);
    json_end(&o);
}

status cmd_doctor(int argc, char **argv)
{
    bool as_json = false, helped = false;
    arg_list files = {0}, sets = {0};
    const arg table[] = {{"json", ARG_FLAG, &as_json, NULL, "print JSON"},
                         {"config", ARG_LIST, &files, "FILE", "config whose sandbox section is looked at"},
                         {"set", ARG_LIST, &sets, "S.K=V", "override a config key, such as sandbox.python or sandbox.socket"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv,
                   "what this machine offers, what is missing and how to get it; fails when the demo can't run here",
                   "codedance doctor --set sandbox.socket=/run/codedance.sock", table, NULL, &helped));
    if (helped) return ST_OK;
    report *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    check_machine(r);
    check_gpu(r);
    check_libraries(r);
    status st = check_sandbox(r, &files, &sets);
    if (st == ST_OK) {
        if (as_json)
            print_json(r);
        else
            print_text(r);
        for (int i = 0; i < r->n && st == ST_OK; i++) {
            const check *c = &r->at[i];
            if (c->needed && !c->ok) st = FAIL(ST_EUNAVAIL, "%s %s is needed: %s", c->group, c->name, c->evidence);
        }
    }
    free(r);
    return st;
}
