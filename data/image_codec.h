/* What image.c asks of the one file per picture library. Private to data/. */
#ifndef DATA_IMAGE_CODEC_H
#define DATA_IMAGE_CODEC_H

#include "data/image.h"

/* Allocates w*h RGB pixels; ST_EINVAL beyond the limits of image.h, named by what. */
status image_alloc(image *out, int64_t w, int64_t h, const char *what);
status image_decode_png(image *out, const uint8_t *bytes, size_t n, const char *what);
status image_decode_jpeg(image *out, const uint8_t *bytes, size_t n, const char *what);

#endif
