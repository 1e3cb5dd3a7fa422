/* Resize as Pillow and as torchvision do it on the CPU, bit for bit: two separable passes, weights in double turned
 * into fixed point, an 8-bit picture in between. Needs -ffp-contract=off. Pillow (src/libImaging/Resample.c): 22 bits.
 * Horizontal pass first; from 13 on vertical first when the height shrinks by more than twice what the width does (pull
 * request 9549). torch (aten UpSampleKernel, uint8 with antialias): 16-bit weights, per axis as many bits as the
 * largest weight leaves room for; horizontal first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/image_codec.h"
#include "data/image_rows.h"

static double kernel(resample filter, double x)
{
    if (filter == RESAMPLE_BOX) return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    x = fabs(x);
    if (filter == RESAMPLE_BILINEAR) return x < 1.0 ? 1.0 - x : 0.0;
    const double a = -0.5;
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void taps_free(image_taps *t)
{
    free(t->lo);
    free(t->count);
    free(t->weight);
    free(t->low);
    free(t->high);
    free(t->blocks);
}

static bool taps_alloc(image_taps *t, bool halves)
{
    size_t n = (size_t)t->n_out * (size_t)t->width;
    t->lo = malloc((size_t)t->n_out * sizeof *t->lo);
    t->count = malloc((size_t)t->n_out * sizeof *t->count);
    t->weight = calloc(n, sizeof *t->weight);
    t->low = calloc(n, sizeof *t->low);
    if (halves) t->high = calloc(n, sizeof *t->high);
    return t->lo && t->count && t->weight && t->low && (t->high || !halves);
}

/* The precision of torch: the most bits, up to 22, with which the largest weight stays below 2^15. */
static int find_shift(double largest)
{
    int bits = 0;
    while (bits < 22 && (int)(0.5 + largest * (double)(1 << (bits + 1))) < 1 << 15) bits++;
    return bits;
}

static void fix_weights(image_taps *t, const double *w)
{
    const double one = (double)(1 << t->shift);
    for (int o = 0; o < t->n_out; o++)
        for (int j = 0; j < t->count[o]; j++) {
            size_t at = (size_t)o * (size_t)t->width + (size_t)j;
            int32_t v = w[at] < 0 ? (int32_t)(w[at] * one - 0.5) : (int32_t)(w[at] * one + 0.5);
            int32_t high = t->high ? (v + 1024) >> 11 : 0;
            t->weight[at] = v;
            t->low[at] = (int16_t)(v - high * 2048);
            if (t->high) t->high[at] = (int16_t)high;
        }
}

static status taps_make(image_taps *t, int n_in, int n_out, resample filter, image_variant variant)
{
    *t = (image_taps){.n_in = n_in, .n_out = n_out};
    double scale = (double)n_in / n_out, fs = scale < 1.0 ? 1.0 : scale;
    double support = (filter == RESAMPLE_BOX ? 0.5 : filter == RESAMPLE_BILINEAR ? 1.0 : 2.0) * fs, inv = 1.0 / fs;
    t->width = ((int)ceil(support) * 2 + 1 + 3) / 4 * 4;
    double *w = malloc((size_t)n_out * (size_t)t->width * sizeof *w), largest = 0;
    if (!w || !taps_alloc(t, variant != IMAGE_TORCHVISION)) {
        free(w); /* the rest goes with the work */
        return FAIL(ST_ENOMEM, "out of memory for the weights of a resize from %d to %d pixels", n_in, n_out);
    }
    for (int o = 0; o < n_out; o++) {
        double c = (o + 0.5) * scale, sum = 0.0, *v = w + (size_t)o * (size_t)t->width;
        int lo = (int)(c - support + 0.5), hi = (int)(c + support + 0.5);
        if (lo < 0) lo = 0;
        if (hi > n_in) hi = n_in;
        for (int j = 0; j < hi - lo; j++) sum += v[j] = kernel(filter, (j + lo - c + 0.5) * inv);
        for (int j = 0; j < hi - lo; j++) {
            if (sum != 0.0) v[j] /= sum;
            if (v[j] > largest) largest = v[j];
        }
        t->lo[o] = lo;
        t->count[o] = hi - lo;
    }
    t->shift = variant == IMAGE_TORCHVISION ? find_shift(largest) : 22;
    fix_weights(t, w);
    free(w);
    return ST_OK;
}

/* A resize on its way. Rows stream through both passes, so that what lies between them stays in the cache. */
typedef struct work {
    const image *in;
    image out;
    const image_rows *rows;
    image_taps x, y; /* n_out 0: that axis stays */
    uint8_t *held;   /* rows between the passes */
    uint8_t *last;   /* one row of the input with room behind it */
} work;

static size_t pitch_of(int w) { return (size_t)w * 3; }

/* Rows y.. of from[h] across to `to`: at most `most` of them; returns how many. Of the rows of from, `end` is the first
 * byte that may not be read. */
static int across_some(const work *k, uint8_t *to, const uint8_t *from, const uint8_t *end, int most, bool has_previous)
{
    const size_t from_pitch = pitch_of(k->x.n_in), to_pitch = pitch_of(k->x.n_out);
    const size_t beyond = (size_t)k->x.width * 3 + IMAGE_ROW_SLACK; /* what a row's last taps may read past it */
    const uint8_t *next = from + from_pitch;
    if (has_previous &&
        memcmp(from, from - from_pitch, from_pitch) == 0) { /* rows of drawn pictures: the same result */
        memcpy(to, to - to_pitch, to_pitch);
        return 1;
    }
    if ((size_t)(end - next) < beyond) {
        memcpy(k->last, from, from_pitch);
        k->rows->across(to, to_pitch, k->last, from_pitch, 1, &k->x);
        return 1;
    }
    int n = 1;
    for (; n < k->rows->rows && n < most && (size_t)(end - next) >= from_pitch + beyond; n++, next += from_pitch)
        if (memcmp(next, next - from_pitch, from_pitch) == 0) break;
    k->rows->across(to, to_pitch, from, from_pitch, n, &k->x);
    return n;
}

static void across_all(work *k)
{
    const size_t from_pitch = pitch_of(k->in->w), to_pitch = pitch_of(k->out.w);
    const uint8_t *end = k->in->rgb + from_pitch * (size_t)k->in->h;
    for (int y = 0; y < k->in->h;)
        y += across_some(k, k->out.rgb + (size_t)y * to_pitch, k->in->rgb + (size_t)y * from_pitch, end, k->in->h - y,
                         y > 0);
}

static void down_all(work *k)
{
    const size_t pitch = pitch_of(k->in->w);
    for (int o = 0; o < k->out.h; o++)
        k->rows->down(k->out.rgb + (size_t)o * pitch, k->in->rgb + (size_t)k->y.lo[o] * pitch, pitch, &k->y, o);
}

enum { HELD = 32 }; /* rows made ahead, so that the window need not move with every row */

/* Across into a window of rows, down out of it. */
static status across_down(work *k)
{
    const int room = k->y.width + HELD;
    const size_t from_pitch = pitch_of(k->in->w), pitch = pitch_of(k->out.w);
    const uint8_t *end = k->in->rgb + from_pitch * (size_t)k->in->h;
    if (!(k->held = malloc((size_t)room * pitch))) return FAIL(ST_ENOMEM, "out of memory for a resize");
    int start = 0, done = 0; /* the window holds the rows start..done-1 */
    for (int o = 0; o < k->out.h; o++) {
        const int lo = k->y.lo[o], need = lo + k->y.count[o];
        if (need - start > room) { /* keep the row before the next one too: it may be the same */
            const int keep = lo < done ? lo : done - 1;
            memmove(k->held, k->held + (size_t)(keep - start) * pitch, (size_t)(done - keep) * pitch);
            start = keep;
        }
        while (done < need)
            done += across_some(k, k->held + (size_t)(done - start) * pitch, k->in->rgb + (size_t)done * from_pitch,
                                end, room - (done - start) < k->in->h - done ? room - (done - start) : k->in->h - done,
                                done > start);
        k->rows->down(k->out.rgb + (size_t)o * pitch, k->held + (size_t)(lo - start) * pitch, pitch, &k->y, o);
    }
    return ST_OK;
}

/* Down into a few rows, across from there. */
static status down_across(work *k)
{
    const size_t from_pitch = pitch_of(k->in->w), pitch = pitch_of(k->out.w);
    const size_t beyond = (size_t)k->x.width * 3 + IMAGE_ROW_SLACK;
    if (!(k->held = calloc(1, HELD * from_pitch + beyond))) return FAIL(ST_ENOMEM, "out of memory for a resize");
    for (int o = 0, n; o < k->out.h; o += n) {
        n = k->out.h - o < HELD ? k->out.h - o : HELD;
        for (int i = 0; i < n; i++)
            k->rows->down(k->held + (size_t)i * from_pitch, k->in->rgb + (size_t)k->y.lo[o + i] * from_pitch,
                          from_pitch, &k->y, o + i);
        for (int i = 0; i < n;)
            i += across_some(k, k->out.rgb + (size_t)(o + i) * pitch, k->held + (size_t)i * from_pitch,
                             k->held + HELD * from_pitch + beyond, n - i, i > 0);
    }
    return ST_OK;
}

static status run(work *k, resample filter, image_variant variant, bool down_first)
{
    const image *in = k->in, *out = &k->out;
    if (out->w != in->w) {
        TRY(taps_make(&k->x, in->w, out->w, filter, variant));
        if (k->rows->prepare) k->rows->prepare(&k->x);
        k->last = calloc(1, pitch_of(in->w) + (size_t)k->x.width * 3 + IMAGE_ROW_SLACK);
        if (!k->last) return FAIL(ST_ENOMEM, "out of memory for a resize");
    }
    if (out->h != in->h) TRY(taps_make(&k->y, in->h, out->h, filter, variant));
    if (k->x.n_out && k->y.n_out) return down_first ? down_across(k) : across_down(k);
    if (k->x.n_out)
        across_all(k);
    else if (k->y.n_out)
        down_all(k);
    else
        memcpy(out->rgb, in->rgb, pitch_of(in->w) * (size_t)in->h);
    return ST_OK;
}

status image_resize_as(image *out, const image *in, int w, int h, resample filter, image_variant variant,
                       const char *isa)
{
    CHECK(in->rgb && in->w > 0 && in->h > 0 && w > 0 && h > 0);
    if (filter != RESAMPLE_BICUBIC && filter != RESAMPLE_BILINEAR && filter != RESAMPLE_BOX)
        return FAIL(ST_EUNAVAIL, "resample filter %d is not supported; use 2 (bilinear), 3 (bicubic) or 4 (box)",
                    (int)filter);
    if (filter == RESAMPLE_BOX && variant == IMAGE_TORCHVISION)
        return FAIL(ST_EUNAVAIL, "resample filter 4 (box) does not exist in torchvision; use image_processor pil");
    const image_rows *rows = image_rows_find(isa);
    if (!rows) return FAIL(ST_EUNAVAIL, "this machine cannot resize with %s", isa);
    const bool down_first = variant == IMAGE_PIL13 && in->h > h && in->h - h > 2 * (in->w - w);
    work k = {.in = in, .rows = rows};
    TRY(image_alloc(&k.out, w, h, "resize"));
    status st = run(&k, filter, variant, down_first);
    taps_free(&k.x);
    taps_free(&k.y);
    free(k.held);
    free(k.last);
    if (st == ST_OK)
        *out = k.out;
    else
        image_free(&k.out);
    return st;
}

status image_resize(image *out, const image *in, int w, int h, resample filter)
{
    return image_resize_as(out, in, w, h, filter, IMAGE_PIL, "");
}
