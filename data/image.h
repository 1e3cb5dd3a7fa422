/* Images: decode to RGB as Pillow's convert("RGB") does, Pillow-exact resize, and the Qwen2-VL image processor. */
#ifndef DATA_IMAGE_H
#define DATA_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "core/json.h"
#include "core/status.h"

typedef struct image {
    int w, h;
    uint8_t *rgb;
} image; /* rgb: w*h*3 bytes, malloc'ed, owned */

enum { IMAGE_MAX_SIDE = 32768, IMAGE_MAX_PIXELS = 178956970 }; /* the most Pillow opens (decompression bomb) */

/* PNG, JPEG, WebP or GIF by content, of an animation the first frame (others: ST_EINVAL naming the format found).
 * Upright: EXIF orientation is applied, as transformers' load_image does with a path; pixels that come without a file
 * (from a sandbox, a drawing) have none. Alpha and clear colours are dropped, not blended, as by convert("RGB").
 * Truncated or damaged data is ST_EINVAL, never a partly decoded picture. ST_EUNAVAIL "not built with libpng". what
 * names it in messages. */
status image_decode(image *out, const void *bytes, size_t n, const char *what);
status image_read_file(image *out, const char *path);
/* PNG, 8-bit RGB, or a palette when the picture has <= 256 colours; bytes malloc'ed, caller frees. fast: for
 * drawn pictures, whose rows repeat. */
status image_encode_png(const image *im, int fast, uint8_t **bytes, size_t *n);
status image_write_png(const image *im, const char *path);
void image_free(image *im);

typedef enum resample {
    RESAMPLE_NEAREST = 0,
    RESAMPLE_LANCZOS = 1,
    RESAMPLE_BILINEAR = 2,
    RESAMPLE_BICUBIC = 3,
    RESAMPLE_BOX = 4,
    RESAMPLE_HAMMING = 5
} resample; /* Pillow's numbers, as in preprocessor_config.json */
/* Whose pixels: the same rules with other rounding, so that a few bytes in a hundred differ by one. */
typedef enum image_variant {
    IMAGE_PIL,        /* Pillow before 13: what the released checkpoints were trained with */
    IMAGE_PIL13,      /* Pillow 13: where the height shrinks most, the vertical pass comes first */
    IMAGE_TORCHVISION /* torchvision on a CPU: 16-bit weights; the default of transformers from 4.54 on */
} image_variant;
extern const char *const image_variant_names[]; /* "pil", "pil13", "torchvision", NULL */
/* Bit-exact (bicubic, bilinear, box; others, and box in torchvision, ST_EUNAVAIL). isa: "" for the machine's best, or
 * "avx512", "avx2", "generic": equal bits. */
status image_resize_as(image *out, const image *in, int w, int h, resample filter, image_variant variant,
                       const char *isa);
/* IMAGE_PIL on the best isa. */
status image_resize(image *out, const image *in, int w, int h, resample filter);

/* preprocessor_config.json of Qwen2VLImageProcessor: the fields that matter; unknown resample or layout is an error. */
typedef struct image_processor {
    int64_t min_pixels, max_pixels;
    int patch, temporal_patch, merge;
    float mean[3], std[3];
    resample filter;
    image_variant variant; /* not in the file: the caller's choice, IMAGE_PIL when it makes none */
} image_processor;
void image_processor_default(image_processor *p); /* the published Qwen2.5-VL values */
status image_processor_from_json(image_processor *p, const json *j);
/* Of a model directory, found as transformers finds it: the image_processor object of processor_config.json, else
 * preprocessor_config.json; ST_EINVAL when there is neither. */
status image_processor_load(image_processor *p, const char *dir);
void image_processor_to_json(const image_processor *p, json_out *o);
/* Identity of everything that changes pixels; names cached views in shards. */
uint64_t image_processor_hash(const image_processor *p);
/* Target size (multiples of patch*merge); aspect ratio above 200 is ST_EINVAL. */
status image_smart_resize(const image_processor *p, int w, int h, int *out_w, int *out_h);
/* Decode result -> what the model sees: smart_resize + resize. */
status image_view(image *out, const image *in, const image_processor *p);
/* Normalised patches in merge-block order: out[grid_h*grid_w][3*T*patch*patch]; grid[3] = 1, h/patch, w/patch.
 * view must have sides that are multiples of patch*merge. */
void image_patches(float *out, int32_t grid[3], const image *view, const image_processor *p);
static inline int image_grid_tokens(const int32_t grid[3], int merge)
{
    return grid[0] * (grid[1] / merge) * (grid[2] / merge);
}

#endif
