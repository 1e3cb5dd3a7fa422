/* PNG by libpng, which lives in this file only. libpng delivers the raw samples and nothing is left to its colour
 * handling: the expansion to RGB is written out below so that it equals Pillow's convert("RGB"):
 *   palette: looked up, transparency ignored, an index outside the palette is black (as in Pillow 13; gray in 9)
 *   gray 1/2/4 bit: scaled to 0..255; gray+alpha and RGBA: alpha dropped; tRNS, gAMA, iCCP ignored
 *   RGB, RGBA, gray+alpha with 16 bits: the high byte
 *   gray with 16 bits: min(value, 255), because Pillow reads it as integers and clips (yes, most such pictures turn
 * white) */
#include "data/image_codec.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_PNG
#include <png.h>

typedef struct reader {
    const uint8_t *at;
    size_t left;
    char error[160];
} reader;
typedef struct writer {
    uint8_t *bytes;
    size_t n, cap;
    char error[160];
} writer;

static void reader_read(png_structp png, png_bytep to, size_t n)
{
    reader *r = png_get_io_ptr(png);
    if (n > r->left) png_error(png, "the data ends too early");
    memcpy(to, r->at, n);
    r->at += n;
    r->left -= n;
}

static void keep_error(png_structp png, png_const_charp text)
{
    char *to = png_get_error_ptr(png);
    size_t n = strlen(text);
    if (n > 159) n = 159;
    memcpy(to, text, n);
    to[n] = 0;
    png_longjmp(png, 1);
}

static void drop_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

/* One row of samples to RGB. depth <= 8 arrives unpacked by us: packed bits stay packed until here. */
static void expand_row(uint8_t *rgb, const uint8_t *row, int w, int type, int depth, const uint8_t *lut)
{
    if (type == PNG_COLOR_TYPE_PALETTE || (type == PNG_COLOR_TYPE_GRAY && depth <= 8)) {
        if (depth == 8) {
            for (int x = 0; x < w; x++) memcpy(rgb + 3 * x, lut + 3 * row[x], 3);
        } else {
            int mask = (1 << depth) - 1;
            for (int x = 0; x < w; x++) {
                int bit = x * depth;
                memcpy(rgb + 3 * x, lut + 3 * ((row[bit >> 3] >> (8 - depth - (bit & 7))) & mask), 3);
            }
        }
    } else if (type == PNG_COLOR_TYPE_GRAY) {
        for (int x = 0; x < w; x++) memset(rgb + 3 * x, row[2 * x] ? 255 : row[2 * x + 1], 3);
    } else if (type == PNG_COLOR_TYPE_GRAY_ALPHA) {
        int step = 2 * depth / 8;
        for (int x = 0; x < w; x++) memset(rgb + 3 * x, row[x * step], 3);
    } else {
        int sample = depth / 8, step = (type == PNG_COLOR_TYPE_RGB_ALPHA ? 4 : 3) * sample;
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++) rgb[3 * x + c] = row[x * step + c * sample];
    }
}

static void fill_lut(uint8_t lut[256][3], png_structp png, png_infop info, int type, int depth)
{
    memset(lut, 0, 256 * 3);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        png_colorp pal;
        int n = 0;
        if (!png_get_PLTE(png, info, &pal, &n)) png_error(png, "the palette is missing");
        for (int i = 0; i < n && i < 256; i++) {
            lut[i][0] = pal[i].red;
            lut[i][1] = pal[i].green;
            lut[i][2] = pal[i].blue;
        }
    } else if (type == PNG_COLOR_TYPE_GRAY && depth <= 8) {
        int top = (1 << depth) - 1;
        for (int i = 0; i <= top; i++) memset(lut[i], i * 255 / top, 3);
    }
}

/* Everything that may longjmp, apart from its memory: *raw is freed by the caller on both ways out. */
static void read_pixels(png_structp png, png_infop info, image *im, uint8_t **raw, int type, int depth)
{
    uint8_t lut[256][3];
    fill_lut(lut, png, info, type, depth);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t stride = png_get_rowbytes(png, info);
    bool direct = type == PNG_COLOR_TYPE_RGB && depth == 8;
    if (direct) {
        for (int p = 0; p < passes; p++)
            for (int y = 0; y < im->h; y++) png_read_row(png, im->rgb + (size_t)y * (size_t)im->w * 3, NULL);
    } else {
        /* Interlaced rows come in several passes, so they need the whole picture; others one row. */
        *raw = calloc(passes > 1 ? (size_t)im->h : 1, stride);
        if (!*raw) png_error(png, "out of memory");
        for (int p = 0; p < passes; p++)
            for (int y = 0; y < im->h; y++) {
                uint8_t *row = passes > 1 ? *raw + (size_t)y * stride : *raw;
                png_read_row(png, row, NULL);
                if (p == passes - 1)
                    expand_row(im->rgb + (size_t)y * (size_t)im->w * 3, row, im->w, type, depth, lut[0]);
            }
    }
    png_read_end(png, NULL);
}

status image_decode_png(image *out, const uint8_t *bytes, size_t n, const char *what)
{
    reader r = {.at = bytes, .left = n};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r.error, keep_error, drop_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    image *im = calloc(1, sizeof *im);
    uint8_t **raw = calloc(1, sizeof *raw);
    status st = ST_OK;
    if (!info || !im || !raw) {
        st = FAIL(ST_ENOMEM, "%s: out of memory for a PNG decoder", what);
    } else if (setjmp(png_jmpbuf(png))) {
        st = FAIL(ST_EINVAL, "%s: damaged PNG: %s", what, r.error);
    } else {
        png_set_read_fn(png, &r, reader_read);
        png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
        png_set_user_limits(png, 0x7fffffff, 0x7fffffff); /* ours are checked below, with a better message */
        png_read_info(png, info);
        st = image_alloc(im, png_get_image_width(png, info), png_get_image_height(png, info), what);
        if (st == ST_OK) read_pixels(png, info, im, raw, png_get_color_type(png, info), png_get_bit_depth(png, info));
    }
    png_destroy_read_struct(png ? &png : NULL, info ? &info : NULL, NULL);
    if (st == ST_OK)
        *out = *im;
    else if (im)
        image_free(im);
    if (raw) free(*raw);
    free(raw);
    free(im);
    return st;
}

static void writer_write(png_structp png, png_bytep from, size_t n)
{
    writer *w = png_get_io_ptr(png);
    if (w->n + n > w->cap) {
        size_t cap = w->cap ? w->cap : 16384;
        while (cap < w->n + n) cap *= 2;
        uint8_t *grown = realloc(w->bytes, cap);
        if (!grown) png_error(png, "out of memory");
        w->bytes = grown;
        w->cap = cap;
    }
    memcpy(w->bytes + w->n, from, n);
    w->n += n;
}

static void writer_flush(png_structp png) { (void)png; }

/* Palette in order of first appearance; returns the number of colours, or -1 above 256. index: one byte a pixel. */
static int find_palette(const image *im, uint8_t *index, png_color pal[256])
{
    enum { SLOTS = 1024 };
    uint32_t key[SLOTS];
    uint8_t at[SLOTS];
    bool used[SLOTS] = {false};
    int n = 0;
    uint32_t last = UINT32_MAX;
    uint8_t last_index = 0;
    size_t count = (size_t)im->w * (size_t)im->h;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = im->rgb + 3 * i;
        uint32_t c = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        if (c != last) {
            uint32_t s = (c * 2654435761u) >> 22;
            while (used[s] && key[s] != c) s = (s + 1) % SLOTS;
            if (!used[s]) {
                if (n == 256) return -1;
                used[s] = true;
                key[s] = c;
                at[s] = (uint8_t)n;
                pal[n++] = (png_color){p[0], p[1], p[2]};
            }
            last = c;
            last_index = at[s];
        }
        index[i] = last_index;
    }
    return n;
}

static void pack_row(uint8_t *to, const uint8_t *index, int w, int depth)
{
    if (depth == 4) {
        for (int x = 0; x + 1 < w; x += 2) *to++ = (uint8_t)(index[x] << 4 | index[x + 1]);
        if (w & 1) *to = (uint8_t)(index[w - 1] << 4);
        return;
    }
    memset(to, 0, ((size_t)w * (size_t)depth + 7) / 8);
    for (int x = 0; x < w; x++) {
        int bit = x * depth;
        to[bit >> 3] |= (uint8_t)(index[x] << (8 - depth - (bit & 7)));
    }
}

static void write_pixels(png_structp png, png_infop info, const image *im, const uint8_t *index, uint8_t *row,
                         const png_color *pal, int n_pal, int fast)
{
    int depth = n_pal < 0 ? 8 : n_pal <= 2 ? 1 : n_pal <= 4 ? 2 : n_pal <= 16 ? 4 : 8;
    png_set_IHDR(png, info, (png_uint_32)im->w, (png_uint_32)im->h, depth,
                 n_pal < 0 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE,
                 PNG_FILTER_TYPE_BASE);
    if (n_pal > 0) png_set_PLTE(png, info, pal, n_pal);
    if (fast) {
        png_set_compression_level(png, 1);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    } else {
        png_set_compression_level(png, 6);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, n_pal < 0 ? PNG_ALL_FILTERS : PNG_FILTER_NONE);
    }
    png_write_info(png, info);
    for (int y = 0; y < im->h; y++) {
        size_t at = (size_t)y * (size_t)im->w;
        if (n_pal < 0) {
            png_write_row(png, im->rgb + 3 * at);
        } else if (depth == 8) {
            png_write_row(png, index + at);
        } else {
            pack_row(row, index + at, im->w, depth);
            png_write_row(png, row);
        }
    }
    png_write_end(png, info);
}

status image_encode_png(const image *im, int fast, uint8_t **bytes, size_t *n)
{
    CHECK(im->w > 0 && im->h > 0 && im->rgb);
    writer *w = calloc(1, sizeof *w);
    uint8_t *index = malloc((size_t)im->w * (size_t)im->h + (size_t)im->w);
    if (!w || !index) {
        free(w);
        free(index);
        return FAIL(ST_ENOMEM, "out of memory encoding a %dx%d PNG", im->w, im->h);
    }
    png_color pal[256];
    int n_pal = find_palette(im, index, pal);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w->error, keep_error, drop_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    status st = ST_OK;
    if (!info) {
        st = FAIL(ST_ENOMEM, "out of memory for a PNG encoder");
    } else if (setjmp(png_jmpbuf(png))) {
        st = FAIL(ST_ENOMEM, "encoding a %dx%d PNG: %s", im->w, im->h, w->error);
    } else {
        png_set_write_fn(png, w, writer_write, writer_flush);
        write_pixels(png, info, im, index, index + (size_t)im->w * (size_t)im->h, pal, n_pal, fast);
    }
    png_destroy_write_struct(png ? &png : NULL, info ? &info : NULL);
    if (st == ST_OK) {
        *bytes = w->bytes;
        *n = w->n;
    } else {
        free(w->bytes);
    }
    free(w);
    free(index);
    return st;
}
#else
status image_decode_png(image *out, const uint8_t *bytes, size_t n, const char *what)
{
    (void)out;
    (void)bytes;
    (void)n;
    return FAIL(ST_EUNAVAIL, "%s: a PNG, but this program was not built with libpng", what);
}

status image_encode_png(const image *im, int fast, uint8_t **bytes, size_t *n)
{
    (void)im;
    (void)fast;
    (void)bytes;
    (void)n;
    return FAIL(ST_EUNAVAIL, "cannot write a PNG: not built with libpng");
}
#endif
