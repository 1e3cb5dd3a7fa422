/* The orientation a camera wrote, found where Pillow 13 finds it: tag 0x112 of the first EXIF directory, else
 * tiff:Orientation in XMP. A damaged block counts as none: the picture is whole without it. */
#include <stdlib.h>
#include <string.h>

#include "data/image_codec.h"

typedef struct tiff {
    const uint8_t *at;
    size_t n;
    bool big_endian;
} tiff;

/* size bytes at an offset, 0 beyond the end (the caller has checked what matters). */
static uint32_t number(const tiff *t, size_t at, int size)
{
    uint32_t v = 0;
    if (at > t->n || t->n - at < (size_t)size) return 0;
    for (int i = 0; i < size; i++) v = v << 8 | t->at[at + (size_t)(t->big_endian ? i : size - 1 - i)];
    return v;
}

/* The first value of an entry; 0 for types that are no whole numbers. */
static uint32_t entry_value(const tiff *t, size_t entry)
{
    static const int bytes[14] = {[3] = 2, [4] = 4, [6] = 1, [8] = 2, [9] = 4, [13] = 4};
    uint32_t type = number(t, entry + 2, 2), count = number(t, entry + 4, 4);
    if (type >= 14 || bytes[type] == 0 || count == 0) return 0;
    uint64_t size = (uint64_t)count * (uint64_t)bytes[type];
    size_t at = size > 4 ? number(t, entry + 8, 4) : entry + 8;
    if (at > t->n || t->n - at < size) return 0;
    return number(t, at, bytes[type]);
}

/* -1: the directory has no orientation at all (XMP may say it then). */
static int exif_value(const uint8_t *exif, size_t n)
{
    for (int i = 0; i < 2 && n >= 6 && memcmp(exif, "Exif\0\0", 6) == 0; i++) exif += 6, n -= 6;
    if (n < 8) return -1;
    tiff t = {exif, n, exif[0] == 'M'};
    if (memcmp(exif, "II*\0", 4) != 0 && memcmp(exif, "MM\0*", 4) != 0) return -1;
    size_t at = number(&t, 4, 4);
    uint32_t entries = number(&t, at, 2);
    int found = -1;
    for (uint32_t i = 0; i < entries; i++) {
        size_t entry = at + 2 + 12 * (size_t)i;
        if (entry > n || n - entry < 12) break;
        if (number(&t, entry, 2) == 0x112) {
            uint32_t v = entry_value(&t, entry);
            found = v <= 8 ? (int)v : 0;
        }
    }
    return found;
}

static int xmp_value(const uint8_t *xmp, size_t n)
{
    static const char key[] = "tiff:Orientation";
    const size_t len = sizeof key - 1;
    for (size_t at = 0; at + len < n; at++) {
        if (memcmp(xmp + at, key, len) != 0) continue;
        size_t v = at + len;
        if (xmp[v] == '>')
            v++;
        else if (v + 1 < n && memcmp(xmp + v, "=\"", 2) == 0)
            v += 2;
        else
            continue;
        if (v < n && xmp[v] >= '0' && xmp[v] <= '9') return xmp[v] - '0';
    }
    return 0;
}

int image_exif_orientation(const uint8_t *exif, size_t n, const uint8_t *xmp, size_t n_xmp)
{
    int v = exif ? exif_value(exif, n) : -1;
    if (v < 0) v = xmp ? xmp_value(xmp, n_xmp) : 0;
    return v > 8 ? 0 : v;
}

status image_turn(image *im, int orientation, const char *what)
{
    if (orientation < 2 || orientation > 8) return ST_OK;
    const bool swap = orientation >= 5; /* width and height change places */
    const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    image out = {0};
    TRY(image_alloc(&out, swap ? im->h : im->w, swap ? im->w : im->h, what));
    /* Pixel (x, y) of the result is pixel (sx, sy) of the source: after flips, transposed when sides change places. */
    const ptrdiff_t pitch = (ptrdiff_t)im->w * 3, step_x = flip_x ? -3 : 3, step_y = flip_y ? -pitch : pitch;
    const uint8_t *first = im->rgb + (flip_x ? pitch - 3 : 0) + (flip_y ? pitch * (im->h - 1) : 0);
    const ptrdiff_t right = swap ? step_y : step_x, down = swap ? step_x : step_y;
    enum { TILE = 32 }; /* a transposed read walks columns: tiles keep them in cache */
    for (int y0 = 0; y0 < out.h; y0 += TILE)
        for (int x0 = 0; x0 < out.w; x0 += TILE)
            for (int y = y0; y < out.h && y < y0 + TILE; y++) {
                const uint8_t *from = first + down * y + right * x0;
                uint8_t *to = out.rgb + ((size_t)y * (size_t)out.w + (size_t)x0) * 3;
                for (int x = x0; x < out.w && x < x0 + TILE; x++, from += right, to += 3) {
                    to[0] = from[0];
                    to[1] = from[1];
                    to[2] = from[2];
                }
            }
    image_free(im);
    *im = out;
    return ST_OK;
}
