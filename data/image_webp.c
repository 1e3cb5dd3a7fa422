/* WebP by libwebp and its demuxer, which live in this file only. As Pillow: the first frame of an animation, drawn at
 * its place on a canvas of zeros; alpha is dropped, the colours under it stay as stored. */
#include "data/image_codec.h"

#include <string.h>

#ifdef HAVE_WEBP
#include <webp/decode.h>
#include <webp/demux.h>

static int find_orientation(const WebPDemuxer *d)
{
    WebPChunkIterator exif = {0}, xmp = {0};
    bool has_exif = WebPDemuxGetChunk(d, "EXIF", 1, &exif), has_xmp = WebPDemuxGetChunk(d, "XMP ", 1, &xmp);
    int v = image_exif_orientation(has_exif ? exif.chunk.bytes : NULL, has_exif ? exif.chunk.size : 0,
                                   has_xmp ? xmp.chunk.bytes : NULL, has_xmp ? xmp.chunk.size : 0);
    if (has_exif) WebPDemuxReleaseChunkIterator(&exif);
    if (has_xmp) WebPDemuxReleaseChunkIterator(&xmp);
    return v;
}

static status decode_frame(image *im, const WebPIterator *f, const char *what)
{
    const int64_t right = (int64_t)f->x_offset + f->width, bottom = (int64_t)f->y_offset + f->height;
    if (f->x_offset < 0 || f->y_offset < 0 || right > im->w || bottom > im->h)
        return FAIL(ST_EINVAL, "%s: damaged WebP: the first frame leaves the canvas", what);
    const size_t pitch = (size_t)im->w * 3, at = (size_t)f->y_offset * pitch + (size_t)f->x_offset * 3;
    if (f->width != im->w || f->height != im->h) memset(im->rgb, 0, pitch * (size_t)im->h);
    WebPDecoderConfig c;
    if (!WebPInitDecoderConfig(&c)) return FAIL(ST_EUNAVAIL, "%s: libwebp is not the version compiled for", what);
    c.output.colorspace = MODE_RGB;
    c.output.is_external_memory = 1;
    c.output.u.RGBA.rgba = im->rgb + at;
    c.output.u.RGBA.stride = (int)pitch;
    c.output.u.RGBA.size = pitch * (size_t)im->h - at;
    VP8StatusCode code = WebPDecode(f->fragment.bytes, f->fragment.size, &c);
    WebPFreeDecBuffer(&c.output);
    if (code == VP8_STATUS_OUT_OF_MEMORY) return FAIL(ST_ENOMEM, "%s: out of memory for a WebP decoder", what);
    return code == VP8_STATUS_OK ? ST_OK : FAIL(ST_EINVAL, "%s: damaged WebP: its pixels cannot be decoded", what);
}

status image_decode_webp(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    const WebPData data = {bytes, n};
    WebPDemuxer *d = WebPDemux(&data);
    if (!d) return FAIL(ST_EINVAL, "%s: damaged WebP: cut short or not put together rightly", what);
    WebPIterator f;
    image im = {0};
    status st;
    if (!WebPDemuxGetFrame(d, 1, &f)) {
        st = FAIL(ST_EINVAL, "%s: damaged WebP: no picture in it", what);
    } else {
        st = image_alloc(&im, WebPDemuxGetI(d, WEBP_FF_CANVAS_WIDTH), WebPDemuxGetI(d, WEBP_FF_CANVAS_HEIGHT), what);
        if (st == ST_OK) st = decode_frame(&im, &f, what);
        if (st == ST_OK) *orientation = find_orientation(d);
        WebPDemuxReleaseIterator(&f);
    }
    WebPDemuxDelete(d);
    if (st == ST_OK)
        *out = im;
    else
        image_free(&im);
    return st;
}
#else
status image_decode_webp(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    (void)out;
    (void)orientation;
    (void)bytes;
    (void)n;
    return FAIL(ST_EUNAVAIL, "%s: a WebP, but this program was not built with libwebp", what);
}
#endif
