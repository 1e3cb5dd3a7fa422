/* Multimodal rotary positions of Qwen2.5-VL and Qwen3-VL (HF get_rope_index): every token has positions (T,H,W). */
#ifndef CORE_MROPE_H
#define CORE_MROPE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

/* A run of image tokens: grid in patches (t,h,w); merge m: the run has t*(h/m)*(w/m) tokens. */
typedef struct mrope_image {
    int start;
    int t, h, w;
} mrope_image;

/* Positions of tokens [0,n) given the images' runs in order of start; continues from *next (0 for a new sequence) and
 * leaves the next position in it, so appending a turn equals recomputing from scratch. pos[n][3]. Ordinary token:
 * T=H=W=next++. Image token (f,y,x): (next+f*s, next+y, next+x), then next = 1 + max assigned; s = t_step.
 * CHECKs that runs are inside [0,n) and don't overlap. */
void mrope_positions(int32_t *pos, int n, const mrope_image *img, int n_img, int merge, int t_step, int32_t *next);
/* Axis (0 T, 1 H, 2 W) of each rotary frequency j < half for sections such as {16,24,24} (sum == half): in that order,
 * or interleaved (Qwen3-VL, qwen_vl_spec 12.1): H where j%3 == 1 and j < 3 section[1], W where j%3 == 2 and j < 3
 * section[2], else T. */
void mrope_axes(int32_t *axis, int half, const int section[3], bool interleaved);
/* inv_freq[j] = theta^(-2j/dim), j < dim/2, rounded where transformers rounds: exponent, power and reciprocal in fp32.
 * At position p one ulp of a frequency is an angle of up to p 2^-24 rad. */
void rope_inv_freq(float *inv_freq, int dim, double theta);

#endif
