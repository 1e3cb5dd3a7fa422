/* JPEG by libjpeg-turbo (its TurboJPEG interface), which lives in this file only. Its defaults are Pillow's: accurate
 * integer DCT, smooth chroma upsampling. CMYK and YCCK follow Pillow: inverted samples (Adobe's habit), then
 * R = clip(nk - C*nk/255) with nk = 255 - K. */
#include "data/image_codec.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JPEG
#include <turbojpeg.h>

static uint8_t muldiv255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return (uint8_t)(((t >> 8) + t) >> 8);
}

static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, size_t n)
{
    for (size_t i = 0; i < n; i++, cmyk += 4, rgb += 3) {
        unsigned nk = cmyk[3]; /* 255 - K, stored inverted */
        for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)(nk - muldiv255(255u - cmyk[c], nk));
    }
}

/* Stray bytes between segments are common and cost no pixel; every other warning means lost picture data. */
static bool harmless(tjhandle tj)
{
    return tjGetErrorCode(tj) == TJERR_WARNING && strstr(tjGetErrorStr2(tj), "extraneous bytes before marker") != NULL;
}

static status decompress(tjhandle tj, image *im, const uint8_t *bytes, size_t n, bool cmyk, const char *what)
{
    size_t count = (size_t)im->w * (size_t)im->h;
    uint8_t *raw = cmyk ? malloc(count * 4) : im->rgb;
    if (!raw) return FAIL(ST_ENOMEM, "%s: out of memory for %dx%d CMYK pixels", what, im->w, im->h);
    int format = cmyk ? TJPF_CMYK : TJPF_RGB;
    /* A limit on scans because a small progressive file could otherwise ask for hours of work. */
    int flags = TJFLAG_LIMITSCANS;
    bool ok = tjDecompress2(tj, bytes, n, raw, im->w, 0, im->h, format, flags | TJFLAG_STOPONWARNING) == 0;
    if (!ok && harmless(tj)) ok = tjDecompress2(tj, bytes, n, raw, im->w, 0, im->h, format, flags) == 0 || harmless(tj);
    status st = ok ? ST_OK : FAIL(ST_EINVAL, "%s: damaged JPEG: %s", what, tjGetErrorStr2(tj));
    if (ok && cmyk) cmyk_to_rgb(im->rgb, raw, count);
    if (cmyk) free(raw);
    return st;
}

status image_decode_jpeg(image *out, const uint8_t *bytes, size_t n, const char *what)
{
    tjhandle tj = tjInitDecompress();
    if (!tj) return FAIL(ST_ENOMEM, "%s: cannot make a JPEG decoder: %s", what, tjGetErrorStr2(NULL));
    image im = {0};
    int w = 0, h = 0, subsampling = 0, space = 0;
    status st;
    if (tjDecompressHeader3(tj, bytes, n, &w, &h, &subsampling, &space) != 0 && !harmless(tj)) {
        st = FAIL(ST_EINVAL, "%s: damaged JPEG: %s", what, tjGetErrorStr2(tj));
    } else if (w < 1 || h < 1) {
        st = FAIL(ST_EINVAL, "%s: damaged JPEG: no picture in it", what);
    } else {
        st = image_alloc(&im, w, h, what);
        if (st == ST_OK) st = decompress(tj, &im, bytes, n, space == TJCS_CMYK || space == TJCS_YCCK, what);
    }
    tjDestroy(tj);
    if (st == ST_OK)
        *out = im;
    else
        image_free(&im);
    return st;
}
#else
status image_decode_jpeg(image *out, const uint8_t *bytes, size_t n, const char *what)
{
    (void)out;
    (void)bytes;
    (void)n;
    return FAIL(ST_EUNAVAIL, "%s: a JPEG, but this program was not built with libjpeg-turbo", what);
}
#endif
