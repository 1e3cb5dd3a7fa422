/* PNG by libpng, which lives in this file only. libpng delivers the raw samples and nothing is left to its colour
 * handling: the expansion to RGB is written out below so that it equals Pillow's convert("RGB"):
 *   palette: looked up, transparency ignored, an index outside the palette is black (as in Pillow 13; gray in 9)
 *   gray 1/2/4 bit: scaled to 0..255; gray+alpha and RGBA: alpha dropped; tRNS, gAMA, iCCP ignored
 *   RGB, RGBA, gray+alpha with 16 bits: the high byte
 *   gray with 16 bits: min(value, 255), because Pillow reads it as integers and clips (yes, most such pictures turn
 * white) */
#include "data/image_png.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_PNG
#include <png.h>
#include <zlib.h> /* Z_RLE */

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

/* Everything that may longjmp, apart from its memory: *raw is freed by the caller on both ways out. */
static void read_pixels(png_structp png, png_infop info, image *im, uint8_t **raw, int type, int depth)
{
    uint8_t lut[256][3];
    png_colorp palette = NULL; /* triples of bytes */
    int n_palette = 0;
    if (type == PNG_INDEX && !png_get_PLTE(png, info, &palette, &n_palette)) png_error(png, "the palette is missing");
    image_png_lut(lut, type, depth, (const uint8_t *)palette, n_palette);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t stride = png_get_rowbytes(png, info);
    bool direct = type == PNG_TRUE && depth == 8;
    if (direct) {
        for (int p = 0; p < passes; p++)
            for (int y = 0; y < im->h; y++) png_read_row(png, im->rgb + (size_t)y * (size_t)im->w * 3, NULL);
    } else {
        /* Interlaced rows come in several passes, so they need the whole picture; others one row and the one above. */
        *raw = calloc(passes > 1 ? (size_t)im->h : 2, stride);
        if (!*raw) png_error(png, "out of memory");
        const size_t pitch = (size_t)im->w * 3;
        for (int p = 0; p < passes; p++)
            for (int y = 0; y < im->h; y++) {
                int at = passes > 1 ? y : y & 1, above = passes > 1 ? y - 1 : !at;
                uint8_t *row = *raw + (size_t)at * stride, *rgb = im->rgb + (size_t)y * pitch;
                png_read_row(png, row, NULL);
                if (p < passes - 1) continue;
                if (y && memcmp(row, *raw + (size_t)above * stride, stride) == 0)
                    memcpy(rgb, rgb - pitch, pitch);
                else
                    image_png_expand(rgb, row, im->w, type, depth, (const uint8_t(*)[3])lut);
            }
    }
    png_read_end(png, info);
}

/* ImageMagick's way to keep EXIF: an empty line, "exif", the length, then lines of hex digits. */
static size_t unhex_profile(uint8_t *to, const char *text)
{
    size_t n = 0;
    int high = -1;
    for (int lines = 0; lines < 3 && *text; text++) lines += *text == '\n';
    for (; *text; text++) {
        int c = (unsigned char)*text, v = c >= '0' && c <= '9'                 ? c - '0'
                                          : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                                               : -1;
        if (v < 0) continue;
        if (high < 0) {
            high = v;
        } else {
            to[n++] = (uint8_t)(high << 4 | v);
            high = -1;
        }
    }
    return n;
}

/* Only after the end: chunks may follow the pixels. */
static int find_orientation(png_structp png, png_infop info)
{
    static const char profile[] = "Raw profile type exif";
    png_bytep exif = NULL;
    png_uint_32 n = 0;
    png_textp text = NULL;
    int n_text = 0, xmp = -1, raw = -1;
    png_get_eXIf_1(png, info, &n, &exif);
    png_get_text(png, info, &text, &n_text);
    for (int i = 0; i < n_text; i++) {
        if (strcmp(text[i].key, "XML:com.adobe.xmp") == 0) xmp = i;
        if (strcmp(text[i].key, profile) == 0) raw = i;
    }
    const uint8_t *packet = xmp < 0 ? NULL : (const uint8_t *)text[xmp].text;
    size_t n_packet = xmp < 0 ? 0 : strlen(text[xmp].text);
    if (exif || raw < 0) return image_exif_orientation(exif, n, packet, n_packet);
    uint8_t *block = malloc(strlen(text[raw].text) + 1);
    size_t len = block ? unhex_profile(block, text[raw].text) : 0;
    int v = image_exif_orientation(block, len, packet, n_packet);
    free(block);
    return v;
}

/* libpng allocates what some chunks say of their length before it misses the bytes. */
static bool chunk_ends_late(const uint8_t *bytes, size_t n)
{
    for (size_t at = 8; n - at >= 12;) { /* length, type, data, CRC */
        const uint8_t *b = bytes + at;
        size_t len = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
        if (len > n - at - 12) return true;
        if (memcmp(b + 4, "IEND", 4) == 0) return false;
        at += len + 12;
    }
    return false;
}

status image_decode_png(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    *orientation = 0;
    if (image_png_quick(out, bytes, n)) return ST_OK;
    if (chunk_ends_late(bytes, n)) return FAIL(ST_EINVAL, "%s: damaged PNG: the data ends too early", what);
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
        /* Deflate makes at most 1032 bytes of one. */
        if (png_get_rowbytes(png, info) / 1032 * png_get_image_height(png, info) > n)
            png_error(png, "so many pixels cannot come from so few bytes");
        st = image_alloc(im, png_get_image_width(png, info), png_get_image_height(png, info), what);
        if (st == ST_OK) {
            read_pixels(png, info, im, raw, png_get_color_type(png, info), png_get_bit_depth(png, info));
            *orientation = find_orientation(png, info);
        }
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

/* A picture to write. Rows equal to the one above are looked at once: drawn pictures consist of them. */
typedef struct picture {
    const image *im;
    uint8_t *index; /* one byte a pixel; of rows equal to the one above nothing is written */
    bool *same;     /* per row: equal to the one above */
    png_color pal[256];
    int n_pal, depth; /* colours, -1 above 256; bits per pixel */
} picture;

/* Palette in order of first appearance. */
static void find_palette(picture *pic)
{
    enum { SLOTS = 1024 };
    uint32_t key[SLOTS];
    uint8_t at[SLOTS];
    bool used[SLOTS] = {false};
    uint32_t last = UINT32_MAX;
    uint8_t last_index = 0;
    const size_t w = (size_t)pic->im->w, pitch = 3 * w;
    pic->n_pal = 0;
    for (int y = 0; y < pic->im->h; y++) {
        const uint8_t *p = pic->im->rgb + (size_t)y * pitch;
        pic->same[y] = y && memcmp(p, p - pitch, pitch) == 0;
        if (pic->same[y]) continue;
        for (uint8_t *to = pic->index + (size_t)y * w, *end = to + w; to < end; p += 3) {
            uint32_t c = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
            if (c != last) {
                uint32_t s = (c * 2654435761u) >> 22;
                while (used[s] && key[s] != c) s = (s + 1) % SLOTS;
                if (!used[s]) {
                    if (pic->n_pal == 256) {
                        pic->n_pal = -1;
                        return;
                    }
                    used[s] = true;
                    key[s] = c;
                    at[s] = (uint8_t)pic->n_pal;
                    pic->pal[pic->n_pal++] = (png_color){p[0], p[1], p[2]};
                }
                last = c;
                last_index = at[s];
            }
            *to++ = last_index;
        }
    }
}

static void pack_row(uint8_t *to, const uint8_t *index, int w, int depth)
{
    if (depth == 8) {
        memcpy(to, index, (size_t)w);
        return;
    }
    for (int x = 0, per = 8 / depth; x < w; x += per) {
        int v = 0;
        for (int k = 0; k < per; k++) v = v << depth | (x + k < w ? index[x + k] : 0);
        *to++ = (uint8_t)v;
    }
}

static void write_header(png_structp png, png_infop info, const picture *pic)
{
    png_set_IHDR(png, info, (png_uint_32)pic->im->w, (png_uint_32)pic->im->h, pic->depth,
                 pic->n_pal < 0 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    if (pic->n_pal > 0) png_set_PLTE(png, info, pic->pal, pic->n_pal);
}

static void write_pixels(png_structp png, png_infop info, const picture *pic, uint8_t *row, int fast)
{
    png_set_compression_level(png, fast ? 1 : 6);
    if (fast) png_set_compression_strategy(png, Z_RLE); /* rows like the one above, less it, are runs of zeros */
    png_set_filter(png, PNG_FILTER_TYPE_BASE,
                   fast              ? PNG_FILTER_UP
                   : pic->n_pal >= 0 ? PNG_FILTER_NONE
                                     : PNG_ALL_FILTERS);
    write_header(png, info, pic);
    png_write_info(png, info);
    for (int y = 0; y < pic->im->h; y++) {
        size_t at = (size_t)y * (size_t)pic->im->w;
        if (pic->n_pal < 0) {
            png_write_row(png, pic->im->rgb + 3 * at);
        } else {
            if (!pic->same[y]) pack_row(row, pic->index + at, pic->im->w, pic->depth);
            png_write_row(png, row);
        }
    }
    png_write_end(png, info);
}

static status encode(writer *w, const picture *pic, uint8_t *row, int fast)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w->error, keep_error, drop_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    status st = ST_OK;
    if (!info) {
        st = FAIL(ST_ENOMEM, "out of memory for a PNG encoder");
    } else if (setjmp(png_jmpbuf(png))) {
        st = FAIL(ST_ENOMEM, "encoding a %dx%d PNG: %s", pic->im->w, pic->im->h, w->error);
    } else {
        png_set_write_fn(png, w, writer_write, writer_flush);
        write_pixels(png, info, pic, row, fast);
    }
    png_destroy_write_struct(png ? &png : NULL, info ? &info : NULL);
    return st;
}

status image_encode_png(const image *im, int fast, uint8_t **bytes, size_t *n)
{
    CHECK(im->w > 0 && im->h > 0 && im->rgb);
    const size_t width = (size_t)im->w, height = (size_t)im->h;
    picture *pic = calloc(1, sizeof *pic + height * sizeof *pic->same);
    writer *w = calloc(1, sizeof *w);
    uint8_t *row = malloc(width), *index = malloc(width * height);
    status st = pic && w && row && index ? ST_OK : FAIL(ST_ENOMEM, "out of memory encoding a %dx%d PNG", im->w, im->h);
    if (st == ST_OK) {
        pic->im = im, pic->index = index, pic->same = (bool *)(pic + 1);
        find_palette(pic);
        pic->depth = pic->n_pal < 0 || pic->n_pal > 16 ? 8 : pic->n_pal > 4 ? 4 : pic->n_pal > 2 ? 2 : 1;
        st = encode(w, pic, row, fast);
    }
    if (st == ST_OK)
        *bytes = w->bytes, *n = w->n;
    else if (w)
        free(w->bytes);
    free(w);
    free(row);
    free(index);
    free(pic);
    return st;
}
#else
status image_decode_png(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    (void)out;
    (void)orientation;
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
