/* The quick way through a PNG: inflate all at once with libdeflate, which lives in this file only, undo the filters,
 * expand. It says nothing about what it cannot read; image_png.c asks libpng then. */
#include <stdlib.h>
#include <string.h>

#include "data/image_png.h"

void image_png_lut(uint8_t lut[256][3], int type, int depth, const uint8_t *palette, int n)
{
    memset(lut, 0, 256 * 3); /* an index beyond the palette is black */
    if (type == PNG_INDEX) memcpy(lut, palette, (size_t)n * 3);
    if (type == PNG_GRAY && depth <= 8)
        for (int i = 0, top = (1 << depth) - 1; i <= top; i++) memset(lut[i], i * 255 / top, 3);
}

void image_png_expand(uint8_t *rgb, const uint8_t *row, int w, int type, int depth, const uint8_t lut[256][3])
{
    if (type == PNG_INDEX || (type == PNG_GRAY && depth <= 8)) {
        if (depth == 8) {
            for (int x = 0; x < w; x++) memcpy(rgb + 3 * x, lut[row[x]], 3);
        } else {
            int mask = (1 << depth) - 1;
            for (int x = 0; x < w; x++) {
                int bit = x * depth;
                memcpy(rgb + 3 * x, lut[(row[bit >> 3] >> (8 - depth - (bit & 7))) & mask], 3);
            }
        }
    } else if (type == PNG_GRAY) {
        for (int x = 0; x < w; x++) memset(rgb + 3 * x, row[2 * x] ? 255 : row[2 * x + 1], 3);
    } else if (type == PNG_GRAY_A) {
        int step = 2 * depth / 8;
        for (int x = 0; x < w; x++) memset(rgb + 3 * x, row[x * step], 3);
    } else {
        int sample = depth / 8, step = (type == PNG_TRUE_A ? 4 : 3) * sample;
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++) rgb[3 * x + c] = row[x * step + c * sample];
    }
}

#ifdef HAVE_DEFLATE
#include <libdeflate.h>

typedef struct png_file {
    uint32_t w, h;
    int type, depth, bytes_per_pixel; /* at least 1: the distance of the filters */
    size_t stride;
    const uint8_t *palette;
    int n_palette;
    const uint8_t *data; /* the IDAT chunks' content */
    size_t n_data;
    uint8_t *joined; /* data, when there are several chunks */
} png_file;

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool read_header(png_file *f, const uint8_t *p)
{
    static const int channels[7] = {1, 0, 3, 1, 2, 0, 4};
    f->w = be32(p);
    f->h = be32(p + 4);
    f->depth = p[8];
    f->type = p[9];
    if (f->w < 1 || f->h < 1 || f->w > IMAGE_MAX_SIDE || f->h > IMAGE_MAX_SIDE || p[10] || p[11] || p[12]) return false;
    if ((uint64_t)f->w * f->h > IMAGE_MAX_PIXELS || f->type > 6 || !channels[f->type]) return false;
    const bool packed = f->depth == 1 || f->depth == 2 || f->depth == 4;
    if (!packed && f->depth != 8 && (f->depth != 16 || f->type == PNG_INDEX)) return false;
    if (packed && f->type != PNG_GRAY && f->type != PNG_INDEX) return false;
    const int bits = channels[f->type] * f->depth;
    f->bytes_per_pixel = bits < 8 ? 1 : bits / 8;
    f->stride = ((size_t)f->w * (size_t)bits + 7) / 8;
    return true;
}

/* Chunks that turn the picture, or may: libpng reads those files. */
static bool may_turn(const uint8_t *name, const uint8_t *body, size_t n)
{
    static const char *const keys[] = {"XML:com.adobe.xmp", "Raw profile type exif"};
    if (memcmp(name, "eXIf", 4) == 0) return true;
    if (memcmp(name + 1, "TXt", 3) != 0 && memcmp(name + 1, "EXt", 3) != 0) return false;
    for (int i = 0; i < 2; i++)
        if (n > strlen(keys[i]) && memcmp(body, keys[i], strlen(keys[i])) == 0) return true;
    return false;
}

static bool add_data(png_file *f, const uint8_t *body, size_t n, size_t most)
{
    if (!f->data) {
        f->data = body;
        f->n_data = n;
        return true;
    }
    if (!f->joined) {
        if (!(f->joined = malloc(most))) return false;
        memcpy(f->joined, f->data, f->n_data);
        f->data = f->joined;
    }
    memcpy(f->joined + f->n_data, body, n);
    f->n_data += n;
    return true;
}

static bool read_chunks(png_file *f, const uint8_t *bytes, size_t n)
{
    bool data_ended = false;
    for (size_t at = 8; n - at >= 12;) {
        const size_t len = be32(bytes + at);
        const uint8_t *name = bytes + at + 4, *body = name + 4;
        if (len > n - at - 12 || libdeflate_crc32(0, name, len + 4) != be32(body + len)) return false;
        const bool data = memcmp(name, "IDAT", 4) == 0;
        if (at == 8) {
            if (memcmp(name, "IHDR", 4) != 0 || len != 13 || !read_header(f, body)) return false;
        } else if (data) {
            if (data_ended || !add_data(f, body, len, n)) return false;
        } else if (memcmp(name, "PLTE", 4) == 0) {
            if (f->palette || f->data || len == 0 || len % 3 || len / 3 > 256) return false;
            f->palette = body;
            f->n_palette = (int)(len / 3);
        } else if (memcmp(name, "IEND", 4) == 0) {
            return f->data && (f->type != PNG_INDEX || (f->palette && f->n_palette <= 1 << f->depth));
        } else if (!(name[0] & 32) || may_turn(name, body, len)) {
            return false;
        }
        data_ended = f->data && !data;
        at += len + 12;
    }
    return false;
}

static inline uint8_t paeth(int a, int b, int c)
{
    const int p = b - c, q = a - c, pa = abs(p), pb = abs(q), pc = abs(p + q);
    const int bc = pb <= pc ? b : c;
    return (uint8_t)(pa <= (pb < pc ? pb : pc) ? a : bc);
}

/* A row less its filter, k bytes to a pixel; to may be from. up: the row above. */
static inline __attribute__((always_inline)) void unfilter_by(uint8_t *to, const uint8_t *from, const uint8_t *up,
                                                              size_t n, int filter, size_t k)
{
    size_t i = 0;
    if (filter == 1) {
        for (; i < k; i++) to[i] = from[i];
        for (; i < n; i++) to[i] = (uint8_t)(from[i] + to[i - k]);
    } else if (filter == 3) {
        for (; i < k; i++) to[i] = (uint8_t)(from[i] + up[i] / 2);
        for (; i < n; i++) to[i] = (uint8_t)(from[i] + (to[i - k] + up[i]) / 2);
    } else {
        int a[8] = {0}, c[8] = {0}; /* the pixel to the left and the one above that */
        for (; i < n; i += k)
            for (size_t j = 0; j < k; j++) {
                const int b = up[i + j];
                a[j] = (uint8_t)(from[i + j] + paeth(a[j], b, c[j]));
                c[j] = b;
                to[i + j] = (uint8_t)a[j];
            }
    }
}

static bool unfilter(uint8_t *to, const uint8_t *from, const uint8_t *up, size_t n, int filter, int k)
{
    if (filter > 4) return false;
    if (filter == 0 && to != from) memcpy(to, from, n);
    if (filter == 2)
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(from[i] + up[i]);
    if (filter == 0 || filter == 2) return true;
    switch (k) {
    case 1: unfilter_by(to, from, up, n, filter, 1); break;
    case 2: unfilter_by(to, from, up, n, filter, 2); break;
    case 3: unfilter_by(to, from, up, n, filter, 3); break;
    case 4: unfilter_by(to, from, up, n, filter, 4); break;
    case 6: unfilter_by(to, from, up, n, filter, 6); break;
    default: unfilter_by(to, from, up, n, filter, 8); break;
    }
    return true;
}

static bool inflate_rows(const png_file *f, uint8_t *raw, size_t n)
{
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    bool ok = d && libdeflate_zlib_decompress(d, f->data, f->n_data, raw, n, NULL) == LIBDEFLATE_SUCCESS;
    libdeflate_free_decompressor(d);
    return ok;
}

static bool read_rows(image *im, const png_file *f, uint8_t *raw, const uint8_t *zeros)
{
    uint8_t lut[256][3];
    const size_t pitch = (size_t)f->w * 3;
    const bool direct = f->type == PNG_TRUE && f->depth == 8;
    image_png_lut(lut, f->type, f->depth, f->palette, f->n_palette);
    const uint8_t *up = zeros;
    for (uint32_t y = 0; y < f->h; y++) {
        uint8_t *from = raw + (size_t)y * (f->stride + 1) + 1, *rgb = im->rgb + (size_t)y * pitch,
                *to = direct ? rgb : from;
        if (!unfilter(to, from, up, f->stride, from[-1], f->bytes_per_pixel)) return false;
        if (!direct && y && memcmp(to, up, f->stride) == 0)
            memcpy(rgb, rgb - pitch, pitch);
        else if (!direct)
            image_png_expand(rgb, to, (int)f->w, f->type, f->depth, (const uint8_t(*)[3])lut);
        up = to;
    }
    return true;
}

bool image_png_quick(image *out, const uint8_t *bytes, size_t n)
{
    png_file f = {0};
    image im = {0};
    uint8_t *raw = NULL, *zeros = NULL;
    bool ok = read_chunks(&f, bytes, n);
    const size_t size = ok ? (f.stride + 1) * f.h : 0;
    ok = ok && size / 1032 <= f.n_data; /* deflate makes at most 1032 bytes of one */
    ok = ok && (raw = malloc(size)) && (zeros = calloc(1, f.stride)) && inflate_rows(&f, raw, size);
    ok = ok && image_alloc(&im, f.w, f.h, "PNG") == ST_OK && read_rows(&im, &f, raw, zeros);
    free(f.joined);
    free(raw);
    free(zeros);
    if (ok)
        *out = im;
    else
        image_free(&im);
    return ok;
}
#else
bool image_png_quick(image *out, const uint8_t *bytes, size_t n)
{
    (void)out;
    (void)bytes;
    (void)n;
    return false;
}
#endif
