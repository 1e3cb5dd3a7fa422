/* What a picture costs from its file's bytes to the model's patches: CPU time of one thread, least of REPEATS.
 *   bench_image pil|pil13|torchvision REPEATS PROCESSOR_DIR FILE...
 * prints a line a file: milliseconds of decode, resize, patches, all; sizes; the name. benchmarks/image_peer.py runs
 * it beside Pillow with the processors of transformers. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/file.h"
#include "data/image.h"

enum { DECODE = 0, RESIZE, PATCHES, STAGES };

static void must(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "%s\n", fail_message());
    exit(1);
}

/* Seconds since *t, which becomes now. */
static double lap(double *t)
{
    struct timespec s;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &s);
    double now = (double)s.tv_sec + 1e-9 * (double)s.tv_nsec, d = now - *t;
    *t = now;
    return d;
}

static void measure(const char *path, const image_processor *p, int repeats)
{
    char *bytes = NULL;
    size_t n = 0;
    float *patches = NULL;
    double best[STAGES] = {1e9, 1e9, 1e9}, total = 1e9;
    int w = 0, h = 0;
    int32_t grid[3] = {0};
    must(file_read(path, &bytes, &n));
    for (int i = 0; i < repeats; i++) {
        image full, view;
        double t = 0, d[STAGES];
        lap(&t);
        must(image_decode(&full, bytes, n, path));
        d[DECODE] = lap(&t);
        must(image_view(&view, &full, p));
        d[RESIZE] = lap(&t);
        if (!patches) { /* the model's own buffer, which outlives a picture */
            size_t size = (size_t)view.w * (size_t)view.h * 3 * (size_t)p->temporal_patch * sizeof *patches;
            patches = malloc(size);
            if (!patches) must(FAIL(ST_ENOMEM, "%s: no memory for its patches", path));
            memset(patches, 0, size);
            lap(&t);
        }
        image_patches(patches, grid, &view, p);
        d[PATCHES] = lap(&t);
        for (int k = 0; k < STAGES; k++)
            if (d[k] < best[k]) best[k] = d[k];
        if (d[0] + d[1] + d[2] < total) total = d[0] + d[1] + d[2];
        w = full.w, h = full.h;
        image_free(&full);
        image_free(&view);
    }
    printf("%.3f %.3f %.3f %.3f %d %d %d %d %s\n", 1e3 * best[DECODE], 1e3 * best[RESIZE], 1e3 * best[PATCHES],
           1e3 * total, w, h, grid[2] * p->patch, grid[1] * p->patch, path);
    free(patches);
    free(bytes);
}

int main(int argc, char **argv)
{
    image_processor p;
    int v = 0;
    if (argc < 5) return fprintf(stderr, "bench_image pil|pil13|torchvision REPEATS PROCESSOR_DIR FILE...\n"), 2;
    while (image_variant_names[v] && strcmp(argv[1], image_variant_names[v]) != 0) v++;
    if (!image_variant_names[v]) return fprintf(stderr, "unknown processor %s\n", argv[1]), 2;
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* as a long run: memory that was used once is used again */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    must(image_processor_load(&p, argv[3]));
    p.variant = (image_variant)v;
    for (int i = 4; i < argc; i++) measure(argv[i], &p, atoi(argv[2]));
    return 0;
}
