/* The two passes of a resize, a row at a time, for the instruction sets there are. Private to data/ and tests. */
#ifndef DATA_IMAGE_ROWS_H
#define DATA_IMAGE_ROWS_H

#include <stddef.h>
#include <stdint.h>

/* Taps of every output position along one axis. Output o is
 *   clamp((2^(shift-1) + sum over j < count[o] of in[lo[o] + j] * weight[o*width + j]) >> shift, 0, 255).
 * width is a multiple of 4; unused weights are 0. low, high: the same weights as 16-bit halves, weight = high * 2^11 +
 * low, in the same places; high is NULL when low alone is the weight. */
typedef struct image_taps {
    int n_in, n_out, width, shift;
    int *lo, *count;
    int32_t *weight;
    int16_t *low, *high;
    struct image_blocks *blocks; /* what an instruction set keeps for its across, or NULL; ended by free */
} image_taps;

enum { IMAGE_ROW_SLACK = 64 }; /* bytes that across may read beyond the last tap, besides the unused taps' */

/* rows of n_out RGB pixels at to, from rows of n_in RGB pixels at from, readable up to the unused taps and the slack
 * beyond each. */
typedef void image_across(uint8_t *to, size_t to_pitch, const uint8_t *from, size_t from_pitch, int rows,
                          const image_taps *t);
/* to[n]: row o of the result. first: row lo[o] of the picture, the others n bytes apart behind it. */
typedef void image_down(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o);

typedef struct image_rows {
    const char *isa; /* "avx512", "avx2", "generic": the results are equal */
    int rows;        /* that across likes to get at once */
    image_across *across;
    image_down *down;
    void (*prepare)(image_taps *t); /* NULL, or makes t->blocks where it can; across works without */
} image_rows;
/* The fastest of this machine; "" for that, or one by its name (NULL when the machine lacks it). */
const image_rows *image_rows_find(const char *isa);

#endif
