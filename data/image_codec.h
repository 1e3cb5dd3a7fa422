/* What image.c asks of the one file per picture library. Private to data/. */
#ifndef DATA_IMAGE_CODEC_H
#define DATA_IMAGE_CODEC_H

#include <stdbool.h>

#include "data/image.h"

/* Allocates w*h RGB pixels; ST_EINVAL beyond the limits of image.h, named by what. */
status image_alloc(image *out, int64_t w, int64_t h, const char *what);
status image_decode_png(image *out, const uint8_t *bytes, size_t n, const char *what);
status image_decode_jpeg(image *out, const uint8_t *bytes, size_t n, const char *what);

/* A zlib stream of rows of equal size, each given once with how often it comes in a row. The bytes belong to the
 * stream. */
typedef struct image_deflate image_deflate;
status image_deflate_begin(image_deflate **out, size_t row_bytes);
status image_deflate_rows(image_deflate *d, const uint8_t *row, int times);
status image_deflate_end(image_deflate *d, const uint8_t **bytes, size_t *n);
void image_deflate_free(image_deflate *d);

#endif
