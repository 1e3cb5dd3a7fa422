/* JPEG by libjpeg-turbo, which lives in this file only. Its defaults are Pillow's: accurate integer DCT, smooth chroma
 * upsampling. CMYK and YCCK follow Pillow: inverted samples (Adobe's habit), then R = clip(nk - C*nk/255) with
 * nk = 255 - K. Pillow goes on after damage and shows gray or garbage there; here damage is an error. */
#include "data/image_codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JPEG
#include <jpeglib.h>
#include <setjmp.h>

#include <jerror.h> /* after jpeglib.h, which decides what is in it */

typedef struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char error[JMSG_LENGTH_MAX];
    image im;
    uint8_t *row; /* one row of CMYK */
} reader;

static void fail_exit(j_common_ptr jpeg)
{
    reader *r = jpeg->client_data;
    jpeg->err->format_message(jpeg, r->error);
    longjmp(r->out, 1);
}

/* Warnings: those that cost picture data are errors; the rest (stray bytes between segments, odd version numbers, scan
 * parameters that a sequential file need not state) leave every pixel as it was written. */
static void on_message(j_common_ptr jpeg, int level)
{
    if (level >= 0) return;
    switch (jpeg->err->msg_code) {
    case JWRN_ARITH_BAD_CODE:
    case JWRN_BOGUS_PROGRESSION:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC: fail_exit(jpeg);
    default: return;
    }
}

static void no_output(j_common_ptr jpeg) { (void)jpeg; }

/* A small progressive file could otherwise ask for hours of work. */
static void limit_scans(j_common_ptr jpeg)
{
    reader *r = jpeg->client_data;
    if (jpeg->is_decompressor && r->jpeg.input_scan_number > 500) {
        snprintf(r->error, sizeof r->error, "more than 500 scans");
        longjmp(r->out, 1);
    }
}

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

/* EXIF may be cut into several segments, which Pillow joins. Of XMP the last segment counts. */
static int find_orientation(const reader *r)
{
    static const char xap[] = "http://ns.adobe.com/xap/1.0/";
    uint8_t *exif = NULL;
    const uint8_t *xmp = NULL;
    size_t n = 0, n_xmp = 0, total = 0;
    for (jpeg_saved_marker_ptr m = r->jpeg.marker_list; m; m = m->next) total += m->data_length;
    for (jpeg_saved_marker_ptr m = r->jpeg.marker_list; m; m = m->next) {
        if (m->data_length >= 6 && memcmp(m->data, "Exif\0\0", 6) == 0) {
            if (!exif && !(exif = malloc(total))) return 0;
            size_t skip = n ? 6 : 0;
            memcpy(exif + n, m->data + skip, m->data_length - skip);
            n += m->data_length - skip;
        } else if (m->data_length >= sizeof xap && memcmp(m->data, xap, sizeof xap) == 0) {
            xmp = m->data + sizeof xap;
            n_xmp = m->data_length - sizeof xap;
        }
    }
    int v = image_exif_orientation(exif, n, xmp, n_xmp);
    free(exif);
    return v;
}

static status read_header(reader *r, const uint8_t *bytes, size_t n, const char *what)
{
    struct jpeg_decompress_struct *j = &r->jpeg;
    jpeg_mem_src(j, bytes, n);
    jpeg_save_markers(j, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(j, TRUE);
    if (j->num_components != 1 && j->num_components != 3 && j->num_components != 4)
        return FAIL(ST_EINVAL, "%s: a JPEG of %d components; gray, colour and CMYK are known", what, j->num_components);
    /* A block of 8x8 takes at least one bit of Huffman code. Of arithmetic code it may take next to nothing, so that
     * 106 bytes could ask for 1.5 GB; flat pictures take more than a 64th of a bit with their headers. */
    size_t blocks = (size_t)j->comp_info[0].width_in_blocks * j->comp_info[0].height_in_blocks;
    if (blocks / 8 / (j->arith_code ? 64 : 1) > n)
        return FAIL(ST_EINVAL, "%s: damaged JPEG: %ux%u pixels cannot come from %zu bytes", what, j->image_width,
                    j->image_height, n);
    return image_alloc(&r->im, j->image_width, j->image_height, what);
}

static void read_pixels(reader *r)
{
    struct jpeg_decompress_struct *j = &r->jpeg;
    const size_t pitch = (size_t)r->im.w * 3;
    j->out_color_space = j->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(j);
    if (j->num_components == 4 && !(r->row = malloc((size_t)r->im.w * 4))) ERREXIT1(j, JERR_OUT_OF_MEMORY, 0);
    while (j->output_scanline < j->output_height) {
        uint8_t *rgb = r->im.rgb + (size_t)j->output_scanline * pitch;
        if (r->row) {
            jpeg_read_scanlines(j, &r->row, 1);
            cmyk_to_rgb(rgb, r->row, (size_t)r->im.w);
            continue;
        }
        JSAMPROW rows[8];
        unsigned left = j->output_height - j->output_scanline, k = left < 8 ? left : 8;
        for (unsigned i = 0; i < k; i++) rows[i] = rgb + i * pitch;
        jpeg_read_scanlines(j, rows, k);
    }
    jpeg_finish_decompress(j);
}

status image_decode_jpeg(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    reader *r = calloc(1, sizeof *r);
    if (!r) return FAIL(ST_ENOMEM, "%s: out of memory for a JPEG decoder", what);
    r->jpeg.err = jpeg_std_error(&r->errors);
    r->errors.error_exit = fail_exit;
    r->errors.emit_message = on_message;
    r->errors.output_message = no_output;
    r->jpeg.client_data = r;
    status st;
    if (setjmp(r->out)) {
        st = FAIL(ST_EINVAL, "%s: damaged JPEG: %s", what, r->error);
    } else {
        jpeg_create_decompress(&r->jpeg);
        r->progress.progress_monitor = limit_scans;
        r->jpeg.progress = &r->progress;
        st = read_header(r, bytes, n, what);
        if (st == ST_OK) {
            *orientation = find_orientation(r);
            read_pixels(r);
        }
    }
    jpeg_destroy_decompress(&r->jpeg);
    if (st == ST_OK)
        *out = r->im;
    else
        image_free(&r->im);
    free(r->row);
    free(r);
    return st;
}
#else
status image_decode_jpeg(image *out, int *orientation, const uint8_t *bytes, size_t n, const char *what)
{
    (void)out;
    (void)orientation;
    (void)bytes;
    (void)n;
    return FAIL(ST_EUNAVAIL, "%s: a JPEG, but this program was not built with libjpeg-turbo", what);
}
#endif
