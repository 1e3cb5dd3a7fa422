/* Pillow's resize, bit for bit (Pillow, src/libImaging/Resample.c, 8 bits per channel): two separable passes,
 * horizontal first, weights in double turned into 22-bit fixed point, an 8-bit picture in between. Needs
 * -ffp-contract=off. This is Pillow up to 12; 13 runs the vertical pass first where that is cheaper (its pull request
 * 9549), which changes some bytes of pictures that shrink more in height than in width. */
#include "data/image_codec.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION = 22 };

/* Taps of every output position along one axis. box > 0: position o is the plain mean of [o*box, (o+1)*box). */
typedef struct taps {
    int n_out, width, box;
    int *lo, *count;
    int32_t *weight;
    int32_t box_weight;
} taps;

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

static int32_t to_fixed(double w)
{
    double one = (double)(1 << PRECISION);
    return w < 0 ? (int32_t)(w * one - 0.5) : (int32_t)(w * one + 0.5);
}

static void taps_free(taps *t)
{
    free(t->lo);
    free(t->count);
    free(t->weight);
}

static status taps_make(taps *t, int n_in, int n_out, resample filter)
{
    *t = (taps){.n_out = n_out};
    double scale = (double)n_in / n_out, fs = scale < 1.0 ? 1.0 : scale;
    if (filter == RESAMPLE_BOX && n_in >= n_out && n_in % n_out == 0) {
        t->box = n_in / n_out;
        t->box_weight = to_fixed(1.0 / t->box);
        return ST_OK;
    }
    double support = (filter == RESAMPLE_BOX ? 0.5 : filter == RESAMPLE_BILINEAR ? 1.0 : 2.0) * fs, inv = 1.0 / fs;
    t->width = (int)ceil(support) * 2 + 1;
    t->lo = malloc((size_t)n_out * sizeof *t->lo);
    t->count = malloc((size_t)n_out * sizeof *t->count);
    t->weight = calloc((size_t)n_out * (size_t)t->width, sizeof *t->weight);
    double *w = malloc((size_t)t->width * sizeof *w);
    if (!t->lo || !t->count || !t->weight || !w) {
        taps_free(t);
        free(w);
        return FAIL(ST_ENOMEM, "out of memory for the weights of a resize from %d to %d pixels", n_in, n_out);
    }
    for (int o = 0; o < n_out; o++) {
        double c = (o + 0.5) * scale, sum = 0.0;
        int lo = (int)(c - support + 0.5), hi = (int)(c + support + 0.5);
        if (lo < 0) lo = 0;
        if (hi > n_in) hi = n_in;
        for (int j = 0; j < hi - lo; j++) sum += w[j] = kernel(filter, (j + lo - c + 0.5) * inv);
        for (int j = 0; j < hi - lo; j++) {
            if (sum != 0.0) w[j] /= sum;
            t->weight[(size_t)o * (size_t)t->width + (size_t)j] = to_fixed(w[j]);
        }
        t->lo[o] = lo;
        t->count[o] = hi - lo;
    }
    free(w);
    return ST_OK;
}

static uint8_t clip8(int32_t v)
{
    v >>= PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void row_across(uint8_t *to, const uint8_t *from, const taps *t)
{
    const int32_t half = 1 << (PRECISION - 1);
    if (!t->lo) { /* whole boxes */
        for (int o = 0; o < t->n_out; o++) {
            int32_t r = 0, g = 0, b = 0;
            for (int j = 0; j < t->box; j++, from += 3) {
                r += from[0];
                g += from[1];
                b += from[2];
            }
            to[3 * o] = clip8(half + r * t->box_weight);
            to[3 * o + 1] = clip8(half + g * t->box_weight);
            to[3 * o + 2] = clip8(half + b * t->box_weight);
        }
        return;
    }
    for (int o = 0; o < t->n_out; o++) {
        const int32_t *w = t->weight + (size_t)o * (size_t)t->width;
        const uint8_t *p = from + 3 * (size_t)t->lo[o];
        int32_t r = half, g = half, b = half;
        for (int j = 0; j < t->count[o]; j++, p += 3) {
            r += p[0] * w[j];
            g += p[1] * w[j];
            b += p[2] * w[j];
        }
        to[3 * o] = clip8(r);
        to[3 * o + 1] = clip8(g);
        to[3 * o + 2] = clip8(b);
    }
}

/* acc: scratch for one row of sums. */
static void row_down(uint8_t *to, const uint8_t *from, size_t stride, const taps *t, int o, int32_t *acc)
{
    const int32_t half = 1 << (PRECISION - 1);
    if (!t->lo) { /* whole boxes */
        memset(acc, 0, stride * sizeof *acc);
        for (int j = 0; j < t->box; j++) {
            const uint8_t *row = from + ((size_t)o * (size_t)t->box + (size_t)j) * stride;
            for (size_t x = 0; x < stride; x++) acc[x] += row[x];
        }
        for (size_t x = 0; x < stride; x++) to[x] = clip8(half + acc[x] * t->box_weight);
        return;
    }
    for (size_t x = 0; x < stride; x++) acc[x] = half;
    for (int j = 0; j < t->count[o]; j++) {
        const uint8_t *row = from + (size_t)(t->lo[o] + j) * stride;
        int32_t w = t->weight[(size_t)o * (size_t)t->width + (size_t)j];
        for (size_t x = 0; x < stride; x++) acc[x] += row[x] * w;
    }
    for (size_t x = 0; x < stride; x++) to[x] = clip8(acc[x]);
}

static status resize_across(image *out, const image *in, int w, resample filter)
{
    taps t;
    TRY(taps_make(&t, in->w, w, filter));
    status st = image_alloc(out, w, in->h, "resize");
    const size_t from_pitch = (size_t)in->w * 3, to_pitch = (size_t)w * 3;
    for (int y = 0; st == ST_OK && y < in->h; y++) {
        const uint8_t *from = in->rgb + (size_t)y * from_pitch;
        uint8_t *to = out->rgb + (size_t)y * to_pitch;
        if (y && memcmp(from, from - from_pitch, from_pitch) == 0) /* most rows of drawn pictures: the same result */
            memcpy(to, to - to_pitch, to_pitch);
        else
            row_across(to, from, &t);
    }
    taps_free(&t);
    return st;
}

static status resize_down(image *out, const image *in, int h, resample filter)
{
    taps t;
    TRY(taps_make(&t, in->h, h, filter));
    size_t stride = (size_t)in->w * 3;
    int32_t *acc = malloc(stride * sizeof *acc);
    status st = acc ? image_alloc(out, in->w, h, "resize") : FAIL(ST_ENOMEM, "out of memory for a resize");
    if (st == ST_OK)
        for (int y = 0; y < h; y++) row_down(out->rgb + (size_t)y * stride, in->rgb, stride, &t, y, acc);
    free(acc);
    taps_free(&t);
    return st;
}

status image_resize(image *out, const image *in, int w, int h, resample filter)
{
    CHECK(in->rgb && in->w > 0 && in->h > 0 && w > 0 && h > 0);
    if (filter != RESAMPLE_BICUBIC && filter != RESAMPLE_BILINEAR && filter != RESAMPLE_BOX)
        return FAIL(ST_EUNAVAIL, "resample filter %d is not supported; use 2 (bilinear), 3 (bicubic) or 4 (box)",
                    (int)filter);
    image across = {0}, made = {0};
    if (w != in->w) TRY(resize_across(&across, in, w, filter));
    const image *mid = across.rgb ? &across : in;
    status st = ST_OK;
    if (h != in->h) {
        st = resize_down(&made, mid, h, filter);
    } else if (across.rgb) {
        made = across;
        across = (image){0};
    } else {
        st = image_alloc(&made, w, h, "resize");
        if (st == ST_OK) memcpy(made.rgb, in->rgb, (size_t)w * (size_t)h * 3);
    }
    image_free(&across);
    if (st == ST_OK) *out = made;
    return st;
}
