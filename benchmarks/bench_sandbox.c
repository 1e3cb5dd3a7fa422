/* Boxes: CPU time of whole trajectories (all processes), latency of the first and of later turns.
 *     bench_sandbox [RUNS [CASE|all [PYTHON]]]     JSON lines on stdout; CPU columns need control groups v1 (tier T0)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"

static const char tiny[] = "a = np.arange(12).reshape(3, 4)\nprint(a.sum())\n";
/* What the demo's policy writes for its 672x672 pictures. */
#define CROP "c,r,h=1,1,10\nx,y=c*W+H,r*W+H\nimg=img.crop((x-h,y-h,x+h,y+h))\nshow(img)\n"
#define COUNT "a=np.array(img.convert('L'))<64\nprint((a[1:,1:]&~a[1:,:-1]&~a[:-1,1:]).sum())\n"
#define WRONG "c,r,h=1,1,10\nx,y=c*W+H,r*W+H\nshow(img.crop((x-h,y-h,x+h,z)))\n"

static void latency(box_pool *p, box_input *in, int n)
{
    double *first = malloc(sizeof *first * (size_t)n), *later = malloc(sizeof *later * (size_t)n),
           *end = malloc(sizeof *end * (size_t)n);
    CHECK(first && later && end);
    for (int i = 0; i < n; i++) {
        box *b;
        double t = clock_now();
        CHECK(box_open(p, (uint64_t)i, in, &b) == ST_OK);
        bench_turn_ok(p, b, tiny);
        double u = clock_now();
        first[i] = 1e3 * (u - t);
        bench_turn_ok(p, b, tiny);
        later[i] = 1e3 * (clock_now() - u);
        u = clock_now();
        box_close(b);
        end[i] = 1e3 * (clock_now() - u);
    }
    bench_report("open + first turn", first, n);
    bench_report("later turn", later, n);
    bench_report("close", end, n);
    free(first);
    free(later);
    free(end);
}

typedef struct play {
    const char *what, *turn[2]; /* a first turn that fails, or NULL, and the last one */
} play;

/* n boxes, `wide` at a time. */
static void plays(box_pool *p, const bench_pids *id, box_input *in, const play *y, int n, int wide)
{
    double cpu = bench_cpu_s(id), t = clock_now();
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
    cpu = bench_cpu_s(id) - cpu;
    printf("{\"what\": \"%s\", \"n\": %d, \"wide\": %d, \"boxes_per_s\": %.0f, \"cpu_ms_per_box\": %.2f}\n", y->what, n,
           wide, n / wall, 1e3 * cpu / n);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int rc = bench_boot(argc, argv);
    if (rc >= 0) return rc;
    int n = argc > 1 ? atoi(argv[1]) : 200;
    const char *only = argc > 2 && strcmp(argv[2], "all") ? argv[2] : NULL;
    box_opts o = bench_box_opts(false);
    o.python = argc > 3 ? argv[3] : NULL;
    box_pool *p = bench_pool(&o);
    bench_pids id = bench_find();
    enum { SIDE = 672 };
    uint8_t *rgb = calloc(SIDE * SIDE, 3);
    CHECK(rgb);
    for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (uint8_t)(i * 2654435761u >> 24);
    box_image im = {SIDE, SIDE, rgb};
    box_input *in = NULL;
    CHECK(box_input_create(&in, &im, 1) == ST_OK);
    static const play list[] = {{"tiny", {NULL, tiny}},
                                {"crop", {NULL, CROP}},
                                {"count", {NULL, COUNT}},
                                {"error, crop", {WRONG, CROP}},
                                {"error, count", {WRONG, COUNT}}};
    for (int wide = 1; wide <= 60; wide += 59)
        for (size_t i = 0; i < sizeof list / sizeof *list; i++)
            if (!only || !strcmp(only, list[i].what)) plays(p, &id, in, &list[i], n, wide);
    if (!only) latency(p, in, n);
    box_input_release(in);
    box_pool_destroy(p);
    free(rgb);
    box_shutdown();
    return 0;
}
