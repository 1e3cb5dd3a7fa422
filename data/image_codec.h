/* What image.c asks of the one file per picture library. Private to data/. */
#ifndef DATA_IMAGE_CODEC_H
#define DATA_IMAGE_CODEC_H

#include <stdbool.h>

#include "data/image.h"

/* Allocates w*h RGB pixels; ST_EINVAL beyond the limits of image.h, named by what. */
status image_alloc(image *out, int64_t w, int64_t h, const char *what);

/* A decoder: bytes[n] -> pixels as stored, and how the file says they are to be turned: EXIF orientation 1..8, 0 when
 * it says nothing. Each refuses a size that its n bytes cannot describe before it allocates. */
typedef status image_decoder(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what);
image_decoder image_decode_png, image_decode_jpeg, image_decode_webp, image_decode_gif;

/* Orientation in an EXIF block (a TIFF header and its first directory, "Exif\0\0" in front or not) and, where that has
 * none, in an XMP packet; 0 when there is none or the block is damaged. Either may be NULL with n = 0. */
int image_exif_orientation(const uint8_t *exif, size_t n, const uint8_t *xmp, size_t n_xmp);
/* Turns the picture upright as Pillow's ImageOps.exif_transpose: orientation 2..8, others leave it. */
status image_turn(image *im, int orientation, const char *what);

#endif
