/* GIF by giflib, which lives in this file only: the first frame, as Pillow shows it. The canvas is the screen, or
 * larger where the frame leaves it; what the frame does not cover is the transparent index, or 0, looked up like the
 * rest. A palette that is the gray ramp, or none at all, makes gray; an index beyond the palette is black. */
#include "data/image_codec.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_GIF
#include <gif_lib.h>

typedef struct reader {
    const uint8_t *at;
    size_t left;
} reader;

static int give(GifFileType *g, GifByteType *to, int n)
{
    reader *r = g->UserData;
    if (n < 0) return 0;
    size_t k = (size_t)n < r->left ? (size_t)n : r->left;
    memcpy(to, r->at, k);
    r->at += k;
    r->left -= k;
    return (int)k;
}

static void fill_lut(uint8_t lut[256][3], const ColorMapObject *map)
{
    bool ramp = true;
    for (int i = 0; map && i < map->ColorCount; i++)
        ramp &= map->Colors[i].Red == i && map->Colors[i].Green == i && map->Colors[i].Blue == i;
    memset(lut, 0, 256 * 3);
    for (int i = 0; ramp && i < 256; i++) memset(lut[i], i, 3);
    for (int i = 0; !ramp && i < map->ColorCount && i < 256; i++) {
        lut[i][0] = map->Colors[i].Red;
        lut[i][1] = map->Colors[i].Green;
        lut[i][2] = map->Colors[i].Blue;
    }
}

/* Reads up to the first picture's description. *clear: the transparent index, -1 for none. */
static bool find_frame(GifFileType *g, int *clear)
{
    *clear = -1;
    for (;;) {
        GifRecordType type;
        if (DGifGetRecordType(g, &type) == GIF_ERROR) return false;
        if (type == IMAGE_DESC_RECORD_TYPE) return DGifGetImageDesc(g) != GIF_ERROR;
        if (type != EXTENSION_RECORD_TYPE) return false;
        int code;
        GifByteType *block;
        if (DGifGetExtension(g, &code, &block) == GIF_ERROR) return false;
        if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4 && (block[1] & 1)) *clear = block[4];
        while (block)
            if (DGifGetExtensionNext(g, &block) == GIF_ERROR) return false;
    }
}

static bool read_lines(GifFileType *g, image *im, uint8_t *row, const uint8_t lut[256][3])
{
    static const int first[4] = {0, 4, 2, 1}, step[4] = {8, 8, 4, 2};
    const GifImageDesc *f = &g->Image;
    const int passes = f->Interlace ? 4 : 1;
    for (int p = 0; p < passes; p++)
        for (int y = f->Interlace ? first[p] : 0; y < f->Height; y += f->Interlace ? step[p] : 1) {
            if (DGifGetLine(g, row, f->Width) == GIF_ERROR) return false;
            uint8_t *to = im->rgb + ((size_t)(f->Top + y) * (size_t)im->w + (size_t)f->Left) * 3;
            for (int x = 0; x < f->Width; x++) memcpy(to + 3 * x, lut[row[x]], 3);
        }
    return true;
}

static status read_frame(GifFileType *g, image *im, size_t n, const char *what)
{
    int clear;
    if (!find_frame(g, &clear)) return FAIL(ST_EINVAL, "%s: damaged GIF: no picture in it", what);
    const GifImageDesc *f = &g->Image;
    /* A code of at least 3 bits stands for at most 4096 pixels. */
    if (f->Width < 1 || f->Height < 1 || (size_t)f->Width * (size_t)f->Height / 16384 > n)
        return FAIL(ST_EINVAL, "%s: damaged GIF: %dx%d pixels cannot come from %zu bytes", what, f->Width, f->Height,
                    n);
    int64_t w = f->Left + f->Width, h = f->Top + f->Height;
    TRY(image_alloc(im, w > g->SWidth ? w : g->SWidth, h > g->SHeight ? h : g->SHeight, what));
    uint8_t lut[256][3], *row = malloc((size_t)f->Width);
    if (!row) return FAIL(ST_ENOMEM, "%s: out of memory for a GIF decoder", what);
    fill_lut(lut, f->ColorMap ? f->ColorMap : g->SColorMap);
    if (f->Width != im->w || f->Height != im->h) {
        for (int x = 0; x < im->w; x++) memcpy(im->rgb + 3 * x, lut[clear < 0 ? 0 : clear], 3);
        for (size_t y = 1, pitch = (size_t)im->w * 3; y < (size_t)im->h; y++)
            memcpy(im->rgb + y * pitch, im->rgb, pitch);
    }
    bool ok = read_lines(g, im, row, (const uint8_t(*)[3])lut);
    free(row);
    return ok ? ST_OK : FAIL(ST_EINVAL, "%s: damaged GIF: %s", what, GifErrorString(g->Error));
}

status image_decode_gif(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    reader r = {bytes, n};
    int error = 0;
    *orientation = 0;
    GifFileType *g = DGifOpen(&r, give, &error);
    if (!g) return FAIL(ST_EINVAL, "%s: damaged GIF: %s", what, GifErrorString(error));
    image im = {0};
    status st = read_frame(g, &im, n, what);
    DGifCloseFile(g, &error);
    if (st == ST_OK)
        *out = im;
    else
        image_free(&im);
    return st;
}
#else
status image_decode_gif(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    (void)out;
    (void)orientation;
    (void)bytes;
    (void)n;
    return FAIL(ST_EUNAVAIL, "%s: a GIF, but this program was not built with giflib", what);
}
#endif
