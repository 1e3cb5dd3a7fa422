/* What a row of the demo's data costs: CPU time of drawing, encoding, decoding and the model's view of a picture, then
 * of whole datasets written and imported on all threads. bench_data DIR [ROWS]           DIR: a new folder, best on a
 * tmpfs; ROWS per dataset (1500) */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/rng.h"
#include "data/shard.h"
#include "data/synth.h"

enum { PICTURES = 40, REPEATS = 5, DRAW = 0, ENCODE, DECODE, VIEW, STEPS };

static void must(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "%s\n", fail_message());
    exit(1);
}

static double cpu_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Adds the seconds since *t to *sum and starts again. */
static void lap(double *sum, double *t)
{
    double now = cpu_of(CLOCK_THREAD_CPUTIME_ID);
    *sum += now - *t;
    *t = now;
}

static size_t pass(synth_category c, const image_processor *p, double *sum)
{
    size_t bytes = 0;
    for (uint64_t k = 0; k < PICTURES; k++) {
        rng r = {rng_make_key(1, RNG_TEST, (uint64_t)c, k, 0, 0), 0};
        synth_scene s;
        image back, view;
        uint8_t *png;
        size_t n;
        double t = cpu_of(CLOCK_THREAD_CPUTIME_ID);
        synth_draw(&s, c, 0, &r);
        lap(&sum[DRAW], &t);
        must(image_encode_png(&s.picture, 1, &png, &n));
        lap(&sum[ENCODE], &t);
        must(image_decode(&back, png, n, "picture"));
        lap(&sum[DECODE], &t);
        must(image_view(&view, &back, p));
        lap(&sum[VIEW], &t);
        bytes += n;
        free(png);
        image_free(&back);
        image_free(&view);
        synth_scene_free(&s);
    }
    return bytes / PICTURES;
}

static void pictures(const image_processor *p)
{
    static const synth_category shown[] = {SYNTH_RD_EASY, SYNTH_CNT_EASY, SYNTH_RD_HARD, SYNTH_SCN_HARD};
    printf("| one picture, us of CPU | draw | encode | decode | view | bytes |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        double best[STEPS] = {1e9, 1e9, 1e9, 1e9};
        size_t bytes = 0;
        for (int k = 0; k < REPEATS; k++) {
            double sum[STEPS] = {0};
            bytes = pass(shown[i], p, sum);
            for (int j = 0; j < STEPS; j++)
                if (sum[j] < best[j]) best[j] = sum[j];
        }
        printf("| %s |", synth_category_name(shown[i]));
        for (int j = 0; j < STEPS; j++) printf(" %.0f |", 1e6 * best[j] / PICTURES);
        printf(" %zu |\n", bytes);
    }
}

static void dataset(const char *dir, synth_kind kind, const char *name, int64_t rows, const image_processor *p)
{
    char at[4096], jsonl[4200], shards[4200];
    snprintf(at, sizeof at, "%s/%s", dir, name);
    snprintf(jsonl, sizeof jsonl, "%s/data.jsonl", at);
    snprintf(shards, sizeof shards, "%s/shards", at);
    double describe = kind == SYNTH_SFT || kind == SYNTH_DIRECT ? SYNTH_DESCRIBE : 0;
    synth_opts s = {.kind = kind, .n = rows, .seed = 1, .split = "bench", .describe = describe};
    shard_opts o = {.p = p, .views = true, .keep_original = kind == SYNTH_PROMPTS, .rows_per_shard = 4096};
    double t0 = cpu_of(CLOCK_PROCESS_CPUTIME_ID);
    must(synth_write(at, &s));
    double t1 = cpu_of(CLOCK_PROCESS_CPUTIME_ID);
    must(shard_import(jsonl, shards, &o));
    double t2 = cpu_of(CLOCK_PROCESS_CPUTIME_ID), n = (double)rows;
    printf("| %s | %.2f | %.2f | %.2f | %.0f |\n", name, 1e3 * (t1 - t0) / n, 1e3 * (t2 - t1) / n, 1e3 * (t2 - t0) / n,
           n / (t2 - t0));
}

int main(int argc, char **argv)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* or page faults are most of what the first table shows */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    image_processor p;
    image_processor_default(&p);
    p.min_pixels = p.max_pixels = 7056; /* the demo's: 84 x 84 */
    p.filter = RESAMPLE_BOX;
    int64_t rows = argc > 2 ? atoll(argv[2]) : 1500;
    if (argc < 2 || rows < 1) return fprintf(stderr, "usage: bench_data DIR [ROWS]\n"), 2;
    pictures(&p);
    printf("\n| dataset, ms of CPU a row | write | import | both | rows/s of one core |\n|---|---|---|---|---|\n");
    dataset(argv[1], SYNTH_LABELS, "labels", rows, &p);
    dataset(argv[1], SYNTH_SFT, "sft", rows, &p);
    dataset(argv[1], SYNTH_DIRECT, "direct", rows, &p);
    dataset(argv[1], SYNTH_PROMPTS, "prompts", rows, &p);
    return 0;
}
