#include "data/image.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data/image_codec.h"

status image_alloc(image *out, int64_t w, int64_t h, const char *what)
{
    if (w < 1 || h < 1) return FAIL(ST_EINVAL, "%s: an image of %lldx%lld pixels", what, (long long)w, (long long)h);
    if (w > IMAGE_MAX_SIDE || h > IMAGE_MAX_SIDE || w * h > IMAGE_MAX_PIXELS)
        return FAIL(ST_EINVAL, "%s: %lldx%lld pixels is beyond the limit of %d a side and %d in all; scale it down",
                    what, (long long)w, (long long)h, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    if (!rgb) return FAIL(ST_ENOMEM, "%s: out of memory for %lldx%lld pixels", what, (long long)w, (long long)h);
    *out = (image){.w = (int)w, .h = (int)h, .rgb = rgb};
    return ST_OK;
}

void image_free(image *im)
{
    free(im->rgb);
    *im = (image){0};
}

static const char *format_name(const uint8_t *b, size_t n)
{
    static const struct {
        const char *magic;
        size_t at, len;
        const char *name;
    } known[] = {{"BM", 0, 2, "BMP"},        {"II*\0", 0, 4, "TIFF"},    {"MM\0*", 0, 4, "TIFF"},
                 {"ftypavif", 4, 8, "AVIF"}, {"ftypheic", 4, 8, "HEIC"}, {"\0\0\1\0", 0, 4, "ICO"},
                 {"%PDF", 0, 4, "PDF"},      {"<svg", 0, 4, "SVG"},      {"<?xml", 0, 5, "XML"},
                 {"P6", 0, 2, "PPM"},        {"\x89HDF", 0, 4, "HDF5"},  {"{", 0, 1, "JSON"},
                 {"<!DOCTYPE", 0, 9, "HTML"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].at + known[i].len && !memcmp(b + known[i].at, known[i].magic, known[i].len))
            return known[i].name;
    return "unknown data";
}

status image_decode(image *out, const void *bytes, size_t n, const char *what)
{
    const uint8_t *b = bytes;
    if (n == 0) return FAIL(ST_EINVAL, "%s: empty", what);
    image_decoder *decode = NULL;
    if (n >= 8 && !memcmp(b, "\x89PNG\r\n\x1a\n", 8)) decode = image_decode_png;
    if (n >= 3 && !memcmp(b, "\xff\xd8\xff", 3)) decode = image_decode_jpeg;
    if (n >= 12 && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4)) decode = image_decode_webp;
    if (n >= 6 && (!memcmp(b, "GIF87a", 6) || !memcmp(b, "GIF89a", 6))) decode = image_decode_gif;
    if (!decode)
        return FAIL(ST_EINVAL, "%s: %s, not a PNG, JPEG, WebP or GIF image; convert it", what, format_name(b, n));
    image im = {0};
    int orientation = 0;
    TRY(decode(&im, &orientation, b, n, what));
    status st = image_turn(&im, orientation, what);
    if (st == ST_OK)
        *out = im;
    else
        image_free(&im);
    return st;
}

static status read_bytes(const char *path, uint8_t **bytes, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    uint8_t *b = NULL;
    size_t len = 0, cap = 0;
    const size_t limit = (size_t)1 << 30;
    struct stat s; /* a pipe has no size and is read up to the limit */
    if (fstat(fileno(f), &s) == 0 && S_ISREG(s.st_mode) && (uintmax_t)s.st_size > limit) {
        fclose(f);
        return FAIL(ST_EINVAL, "%s: larger than an image file can be here (%zu bytes)", path, limit);
    }
    for (;;) {
        if (len == cap) {
            cap = cap ? 2 * cap : 65536;
            uint8_t *grown = cap <= limit ? realloc(b, cap) : NULL;
            if (!grown) {
                fclose(f);
                free(b);
                return FAIL(ST_EINVAL, "%s: larger than an image file can be here (%zu bytes)", path, limit);
            }
            b = grown;
        }
        size_t got = fread(b + len, 1, cap - len, f);
        if (got == 0) break;
        len += got;
    }
    bool bad = ferror(f) != 0;
    int why = errno;
    fclose(f);
    if (bad) {
        free(b);
        return FAIL(ST_EIO, "%s: %s", path, strerror(why));
    }
    *bytes = b;
    *n = len;
    return ST_OK;
}

status image_read_file(image *out, const char *path)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    TRY(read_bytes(path, &bytes, &n));
    status st = image_decode(out, bytes, n, path);
    free(bytes);
    return st;
}

status image_write_png(const image *im, const char *path)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    TRY(image_encode_png(im, 0, &bytes, &n));
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, n, f) == n;
    if (f && fclose(f) != 0) ok = false;
    free(bytes);
    return ok ? ST_OK : FAIL(ST_EIO, "cannot write %s: %s", path, strerror(errno));
}
