/* The Qwen2-VL image processor: target size, patches, and its configuration file. */
#include "data/image.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const image_variant_names[] = {"pil", "pil13", "torchvision", NULL};

void image_processor_default(image_processor *p)
{
    *p = (image_processor){.min_pixels = 4 * 28 * 28,
                           .max_pixels = 16384 * 28 * 28,
                           .patch = 14,
                           .temporal_patch = 2,
                           .merge = 2,
                           .mean = {0.48145466f, 0.4578275f, 0.40821073f},
                           .std = {0.26862954f, 0.26130258f, 0.27577711f},
                           .filter = RESAMPLE_BICUBIC};
}

static bool given(const json *v) { return v && json_kind(v) != JSON_NULL; }

static status read_int(const json *j, const char *key, int64_t min, int64_t max, int64_t *out)
{
    return given(json_get(j, key)) ? json_need_int(j, key, min, max, out) : ST_OK;
}

static status read_triple(const json *j, const char *key, bool positive, float out[3])
{
    const json *a = json_get(j, key);
    if (!given(a)) return ST_OK;
    if (json_kind(a) != JSON_ARRAY || json_len(a) != 3)
        return FAIL(ST_EINVAL, "image processor: %s must have 3 numbers", key);
    for (int i = 0; i < 3; i++) {
        double v = json_num(json_at(a, i));
        if (!(fabs(v) <= 1e6 && (!positive || v >= 1e-6))) /* colours are 0..1; NaN is no number at all */
            return FAIL(ST_EINVAL, "image processor: %s[%d] must be a number from %s to 1e6", key, i,
                        positive ? "1e-6" : "-1e6");
        out[i] = (float)v;
    }
    return ST_OK;
}

/* Steps that this processor always does; a file that switches one off describes another processor. */
static status check_steps(const json *j)
{
    static const char *const steps[] = {"do_resize", "do_rescale", "do_normalize", "do_convert_rgb"};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const json *v = json_get(j, steps[i]);
        if (given(v) && !(json_kind(v) == JSON_BOOL && json_bool(v)))
            return FAIL(ST_EINVAL, "image processor: %s must be true, nothing else is supported", steps[i]);
    }
    const json *f = json_get(j, "rescale_factor");
    if (given(f) && !(fabs(json_num(f) * 255.0 - 1.0) < 1e-9))
        return FAIL(ST_EINVAL, "image processor: rescale_factor must be 1/255, nothing else is supported");
    const char *type = json_str(json_get(j, "image_processor_type"));
    if (type && strcmp(type, "Qwen2VLImageProcessor") != 0 && strcmp(type, "Qwen2VLImageProcessorFast") != 0 &&
        strcmp(type, "Qwen2VLImageProcessorPil") !=
            0) /* which of them ran does not say which will: see image_variant */
        return FAIL(ST_EINVAL, "image_processor_type '%s' is not supported; expected Qwen2VLImageProcessor", type);
    const char *layout = json_str(json_get(j, "data_format"));
    if (layout && strcmp(layout, "channels_first") != 0)
        return FAIL(ST_EINVAL, "image processor: data_format '%s' is not supported; expected channels_first", layout);
    return ST_OK;
}

status image_processor_from_json(image_processor *out, const json *j)
{
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "image processor: a JSON object is needed");
    const json *inner = json_get(j, "image_processor"); /* processor_config.json of newer versions */
    if (json_kind(inner) == JSON_OBJECT) j = inner;
    TRY(check_steps(j));
    image_processor p;
    image_processor_default(&p);
    p.min_pixels = 56 * 56; /* the class defaults, for a file that says nothing */
    p.max_pixels = 28 * 28 * 1280;
    const json *size = json_get(j, "size");
    const int64_t most = (int64_t)1 << 40;
    if (given(size) && json_kind(size) != JSON_OBJECT)
        return FAIL(ST_EINVAL, "image processor: size must be an object with shortest_edge and longest_edge");
    if (json_kind(size) == JSON_OBJECT) {
        /* It replaces the defaults whole, so each limit must come from it or from min_pixels and max_pixels. */
        if ((!given(json_get(size, "shortest_edge")) && !given(json_get(size, "min_pixels")) &&
             !given(json_get(j, "min_pixels"))) ||
            (!given(json_get(size, "longest_edge")) && !given(json_get(size, "max_pixels")) &&
             !given(json_get(j, "max_pixels"))))
            return FAIL(ST_EINVAL, "image processor: size needs shortest_edge and longest_edge (areas in pixels)");
        TRY(read_int(size, "shortest_edge", 1, most, &p.min_pixels)); /* areas, whatever the names say */
        TRY(read_int(size, "longest_edge", 1, most, &p.max_pixels));
        TRY(read_int(size, "min_pixels", 1, most, &p.min_pixels));
        TRY(read_int(size, "max_pixels", 1, most, &p.max_pixels));
    }
    TRY(read_int(j, "min_pixels", 1, most, &p.min_pixels));
    TRY(read_int(j, "max_pixels", 1, most, &p.max_pixels));
    int64_t patch = p.patch, temporal = p.temporal_patch, merge = p.merge, filter = p.filter;
    TRY(read_int(j, "patch_size", 1, 64, &patch));
    TRY(read_int(j, "temporal_patch_size", 1, 8, &temporal));
    TRY(read_int(j, "merge_size", 1, 8, &merge));
    TRY(read_int(j, "resample", 0, 5, &filter));
    TRY(read_triple(j, "image_mean", false, p.mean));
    TRY(read_triple(j, "image_std", true, p.std));
    p.patch = (int)patch;
    p.temporal_patch = (int)temporal;
    p.merge = (int)merge;
    p.filter = (resample)filter;
    if (p.filter != RESAMPLE_BICUBIC && p.filter != RESAMPLE_BILINEAR && p.filter != RESAMPLE_BOX)
        return FAIL(ST_EINVAL,
                    "image processor: resample %d is not supported; use 2 (bilinear), 3 (bicubic) or 4 (box)",
                    (int)p.filter);
    if (p.min_pixels > p.max_pixels)
        return FAIL(ST_EINVAL, "image processor: min_pixels %lld is above max_pixels %lld", (long long)p.min_pixels,
                    (long long)p.max_pixels);
    *out = p;
    return ST_OK;
}

status image_processor_load(image_processor *p, const char *dir)
{
    static const char *const names[] = {"processor_config.json", "preprocessor_config.json"};
    char path[4352];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (access(path, F_OK) != 0) continue;
        json *j = NULL;
        TRY(json_read_file(&j, path, 1 << 20));
        status st = ST_OK;
        const bool here = i == 1 || json_kind(json_get(j, "image_processor")) == JSON_OBJECT;
        if (here) st = image_processor_from_json(p, j);
        json_free(j);
        if (st != ST_OK) return fail_within(st, "%s", path);
        if (here) return ST_OK;
    }
    return FAIL(ST_EINVAL,
                "%s: no preprocessor_config.json, so the limits of a picture's size are unknown; copy it from "
                "where the model came from",
                dir);
}

/* The decimal that means this float: the published one, of which there are several, or the shortest. */
static double decimal(float v)
{
    static const double published[] = {0.48145466, 0.4578275, 0.40821073, 0.26862954, 0.26130258, 0.27577711};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if ((float)published[i] == v) return published[i];
    char text[32];
    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) return strtod(text, NULL);
    }
    snprintf(text, sizeof text, "%.9g", (double)v);
    return strtod(text, NULL);
}

void image_processor_to_json(const image_processor *p, json_out *o)
{
    static const char *const steps[] = {"do_convert_rgb", "do_normalize", "do_rescale", "do_resize"};
    json_open(o, '{');
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) json_member_bool(o, steps[i], true);
    const struct {
        const char *key;
        const float *v;
    } triple[] = {{"image_mean", p->mean}, {"image_std", p->std}};
    for (int t = 0; t < 2; t++) {
        json_key(o, triple[t].key);
        json_open(o, '[');
        for (int c = 0; c < 3; c++) json_put_num(o, decimal(triple[t].v[c]));
        json_close(o, ']');
    }
    const struct {
        const char *key;
        int64_t v;
    } number[] = {{"max_pixels", p->max_pixels}, {"merge_size", p->merge}, {"min_pixels", p->min_pixels},
                  {"patch_size", p->patch},      {"resample", p->filter},  {"temporal_patch_size", p->temporal_patch}};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) json_member_int(o, number[i].key, number[i].v);
    json_member_num(o, "rescale_factor", 1.0 / 255.0);
    json_key(o, "size"); /* newer versions read the areas from here */
    json_open(o, '{');
    json_member_int(o, "shortest_edge", p->min_pixels);
    json_member_int(o, "longest_edge", p->max_pixels);
    json_close(o, '}');
    json_member_str(o, "image_processor_type", "Qwen2VLImageProcessor");
    json_close(o, '}');
}

uint64_t image_processor_hash(const image_processor *p)
{
    /* FNV-1a. mean and std act after the cached 8-bit view, so they don't count. */
    const int64_t part[] = {
        2 /* version of the pixel path */, p->min_pixels, p->max_pixels, p->patch, p->merge, p->filter, p->variant};
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (int b = 0; b < 8; b++) h = (h ^ ((uint64_t)part[i] >> (8 * b) & 255)) * 0x100000001b3u;
    return h;
}

status image_smart_resize(const image_processor *p, int w, int h, int *out_w, int *out_h)
{
    CHECK(w > 0 && h > 0);
    double big = w > h ? w : h, small = w > h ? h : w;
    if (big / small > 200)
        return FAIL(ST_EINVAL, "an image of %dx%d pixels: the aspect ratio must be at most 200", w, h);
    const double f = (double)p->patch * p->merge, area = (double)h * w;
    double hb = rint(h / f) * f, wb = rint(w / f) * f;
    if (hb * wb > (double)p->max_pixels) {
        double beta = sqrt(area / (double)p->max_pixels);
        hb = fmax(f, floor(h / beta / f) * f);
        wb = fmax(f, floor(w / beta / f) * f);
    } else if (hb * wb < (double)p->min_pixels) {
        double beta = sqrt((double)p->min_pixels / area);
        hb = ceil(h * beta / f) * f;
        wb = ceil(w * beta / f) * f;
    }
    if (hb > IMAGE_MAX_SIDE || wb > IMAGE_MAX_SIDE)
        return FAIL(ST_EINVAL, "an image of %dx%d pixels would be resized to %.0fx%.0f, beyond %d a side", w, h, wb, hb,
                    IMAGE_MAX_SIDE);
    *out_w = (int)wb;
    *out_h = (int)hb;
    return ST_OK;
}

status image_view(image *out, const image *in, const image_processor *p)
{
    int w, h;
    TRY(image_smart_resize(p, in->w, in->h, &w, &h));
    return image_resize_as(out, in, w, h, p->filter, p->variant, "");
}

void image_patches(float *out, int32_t grid[3], const image *view, const image_processor *p)
{
    const int P = p->patch, T = p->temporal_patch, m = p->merge, gh = view->h / P, gw = view->w / P;
    CHECK(view->w % (P * m) == 0 && view->h % (P * m) == 0);
    float table[3][256];
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++)
            table[c][v] = p->variant == IMAGE_TORCHVISION ? ((float)v - p->mean[c] * 255.0f) / (p->std[c] * 255.0f)
                                                          : ((float)(v * (1.0 / 255.0)) - p->mean[c]) / p->std[c];
    const size_t frame = (size_t)P * (size_t)P;
    for (int by = 0; by < gh; by += m)
        for (int bx = 0; bx < gw; bx += m)
            for (int k = 0; k < m * m; k++) {
                int y0 = (by + k / m) * P, x0 = (bx + k % m) * P;
                for (int c = 0; c < 3; c++) {
                    float *to = out;
                    for (int y = 0; y < P; y++) {
                        const uint8_t *from = view->rgb + ((size_t)(y0 + y) * (size_t)view->w + (size_t)x0) * 3 + c;
                        for (int x = 0; x < P; x++) *to++ = table[c][from[3 * x]];
                    }
                    for (int t = 1; t < T; t++) memcpy(out + (size_t)t * frame, out, frame * sizeof *out);
                    out += (size_t)T * frame;
                }
            }
    grid[0] = 1;
    grid[1] = gh;
    grid[2] = gw;
}
