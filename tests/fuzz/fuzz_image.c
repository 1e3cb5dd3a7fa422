#include <stdlib.h>
#include <string.h>

#include "data/image.h"
#include "tests/fuzz/fuzz.h"

/* Decodes; what is small goes on to the model's patches. */
static status decode(const uint8_t *data, size_t n)
{
    enum { SMALL = 1 << 16 };
    image im, view;
    image_processor p;
    TRY(image_decode(&im, data, n, "picture"));
    volatile uint8_t last = im.rgb[(size_t)im.w * (size_t)im.h * 3 - 1];
    (void)last;
    image_processor_default(&p);
    p.max_pixels = SMALL;
    if (im.w * (int64_t)im.h <= SMALL && image_view(&view, &im, &p) == ST_OK) {
        int32_t grid[3];
        float *out = malloc((size_t)view.w * (size_t)view.h * 3 * (size_t)p.temporal_patch * sizeof *out);
        CHECK(out);
        image_patches(out, grid, &view, &p);
        CHECK(grid[1] * p.patch == view.h && grid[2] * p.patch == view.w);
        free(out);
        image_free(&view);
    }
    image_free(&im);
    return ST_OK;
}

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

status fuzz_png(const uint8_t *data, size_t n)
{
    if (n < 8 || memcmp(data, "\x89PNG\r\n\x1a\n", 8) != 0) return FAIL(ST_EINVAL, "not a PNG");
    uint8_t *copy = malloc(n);
    CHECK(copy);
    memcpy(copy, data, n);
    for (size_t at = 8; n - at >= 12;) { /* length, type, data, CRC of type and data */
        size_t len = (size_t)copy[at] << 24 | (size_t)copy[at + 1] << 16 | (size_t)copy[at + 2] << 8 | copy[at + 3];
        if (len > n - at - 12) break;
        uint32_t crc = crc32_of(copy + at + 4, len + 4);
        for (int i = 0; i < 4; i++) copy[at + 8 + len + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += len + 12;
    }
    status st = decode(copy, n);
    free(copy);
    return st;
}

status fuzz_jpeg(const uint8_t *data, size_t n)
{
    if (n < 3 || memcmp(data, "\xff\xd8\xff", 3) != 0) return FAIL(ST_EINVAL, "not a JPEG");
    return decode(data, n);
}

status fuzz_webp(const uint8_t *data, size_t n)
{
    if (n < 12 || memcmp(data, "RIFF", 4) != 0 || memcmp(data + 8, "WEBP", 4) != 0)
        return FAIL(ST_EINVAL, "not a WebP");
    return decode(data, n);
}

status fuzz_gif(const uint8_t *data, size_t n)
{
    if (n < 6 || memcmp(data, "GIF8", 4) != 0) return FAIL(ST_EINVAL, "not a GIF");
    return decode(data, n);
}
