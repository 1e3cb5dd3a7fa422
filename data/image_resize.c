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
        taps_free(t);
        free(w);
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

static status resize_across(image *out, const image *in, int w, resample filter, image_variant variant,
                            const image_rows *rows)
{
    image_taps t;
    TRY(taps_make(&t, in->w, w, filter, variant));
    const size_t from_pitch = (size_t)in->w * 3, to_pitch = (size_t)w * 3;
    const uint8_t *end = in->rgb + from_pitch * (size_t)in->h;
    const size_t beyond = (size_t)t.width * 3 + IMAGE_ROW_SLACK; /* what a row's last taps may read past it */
    uint8_t *last = calloc(1, from_pitch + beyond);
    status st = last ? image_alloc(out, w, in->h, "resize") : FAIL(ST_ENOMEM, "out of memory for a resize");
    if (rows->prepare) rows->prepare(&t);
    for (int y = 0, n; st == ST_OK && y < in->h; y += n) {
        const uint8_t *from = in->rgb + (size_t)y * from_pitch, *next = from + from_pitch;
        uint8_t *to = out->rgb + (size_t)y * to_pitch;
        n = 1;
        if (y && memcmp(from, from - from_pitch, from_pitch) == 0) { /* many rows of drawn pictures: the same result */
            memcpy(to, to - to_pitch, to_pitch);
            continue;
        }
        if ((size_t)(end - next) < beyond) from = memcpy(last, from, from_pitch);
        for (; n < rows->rows && y + n < in->h && (size_t)(end - next) >= from_pitch + beyond; n++, next += from_pitch)
            if (memcmp(next, next - from_pitch, from_pitch) == 0) break;
        rows->across(to, to_pitch, from, from_pitch, n, &t);
    }
    free(last);
    taps_free(&t);
    return st;
}

static status resize_down(image *out, const image *in, int h, resample filter, image_variant variant,
                          const image_rows *rows)
{
    image_taps t;
    TRY(taps_make(&t, in->h, h, filter, variant));
    const size_t pitch = (size_t)in->w * 3;
    status st = image_alloc(out, in->w, h, "resize");
    for (int y = 0; st == ST_OK && y < h; y++) rows->down(out->rgb + (size_t)y * pitch, in->rgb, pitch, &t, y);
    taps_free(&t);
    return st;
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
    image mid = {0}, made = {0};
    const image *from = in;
    status st = ST_OK;
    for (int pass = 0; st == ST_OK && pass < 2; pass++) {
        const bool down = pass == (down_first ? 0 : 1);
        if (down ? h == from->h : w == from->w) continue;
        st = down ? resize_down(&made, from, h, filter, variant, rows)
                  : resize_across(&made, from, w, filter, variant, rows);
        image_free(&mid);
        mid = made;
        made = (image){0};
        from = &mid;
    }
    if (st == ST_OK && from == in) {
        st = image_alloc(&mid, w, h, "resize");
        if (st == ST_OK) memcpy(mid.rgb, in->rgb, (size_t)w * (size_t)h * 3);
    }
    if (st == ST_OK)
        *out = mid;
    else
        image_free(&mid);
    return st;
}

status image_resize(image *out, const image *in, int w, int h, resample filter)
{
    return image_resize_as(out, in, w, h, filter, IMAGE_PIL, "");
}
