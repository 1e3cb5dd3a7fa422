/* What the two ways to read a PNG share. Private to data/image_png*.c. */
#ifndef DATA_IMAGE_PNG_H
#define DATA_IMAGE_PNG_H

#include "data/image_codec.h"

enum { PNG_GRAY = 0, PNG_TRUE = 2, PNG_INDEX = 3, PNG_GRAY_A = 4, PNG_TRUE_A = 6 }; /* colour types of the format */

/* RGB of every sample of a type that is looked up: n colours of a palette, or the grays of up to 8 bits. */
void image_png_lut(uint8_t lut[256][3], int type, int depth, const uint8_t *palette, int n);
/* One row of samples, bits still packed, to RGB as Pillow's convert("RGB") makes it. */
void image_png_expand(uint8_t *rgb, const uint8_t *row, int w, int type, int depth, const uint8_t lut[256][3]);
/* The usual PNG, whole and correct, not interlaced, without EXIF or XMP, by libdeflate, twice as fast as libpng and
 * zlib. False when it is anything else, damaged, too large or there is no libdeflate: then libpng has the word. */
bool image_png_quick(image *out, const uint8_t *bytes, size_t n);

#endif
