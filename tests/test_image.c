/* Images: published hashes, the processor and its file, PNG both ways, damaged input. Against Pillow, torchvision and
 * transformers: test_image_cases.c. */
#include "data/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/rng.h"
#include "tests/common/sha256.h"
#include "tests/common/tempdir.h"

#define OK(call)                                                        \
    do {                                                                \
        if ((call) != ST_OK) fail_msg("%s: %s", #call, fail_message()); \
    } while (0)
#define REFUSED(call, text)                                                                           \
    do {                                                                                              \
        assert_int_equal(call, ST_EINVAL);                                                            \
        if (!strstr(fail_message(), text)) fail_msg("message '%s' lacks '%s'", fail_message(), text); \
    } while (0)

static image pattern(int w, int h)
{
    image im = {.w = w, .h = h, .rgb = malloc((size_t)w * (size_t)h * 3)};
    for (uint32_t y = 0; y < (uint32_t)h; y++)
        for (uint32_t x = 0; x < (uint32_t)w; x++)
            for (uint32_t c = 0; c < 3; c++)
                im.rgb[(y * (uint32_t)w + x) * 3 + c] = (uint8_t)((7 * x * x + 13 * y * y + 3 * x * y + 53 * c) >> 2);
    return im;
}

static image noise(int w, int h, int colours, uint64_t seed)
{
    image im = {.w = w, .h = h, .rgb = malloc((size_t)w * (size_t)h * 3)};
    rng r = {rng_make_key(seed, RNG_TEST, 0, 0, 0, 0), 0};
    for (int i = 0; i < w * h; i++) {
        uint32_t v = rng_next_below(&r, (uint32_t)colours);
        im.rgb[3 * i] = (uint8_t)(v * 37);
        im.rgb[3 * i + 1] = (uint8_t)(v >> 3);
        im.rgb[3 * i + 2] = (uint8_t)(255 - v);
    }
    return im;
}

/* Every pixel of `in` as a block: rows equal to the one above, runs within rows. */
static image enlarge(const image *in, int kx, int ky)
{
    image im = {.w = in->w * kx, .h = in->h * ky, .rgb = malloc((size_t)in->w * (size_t)in->h * 3 * (size_t)(kx * ky))};
    for (int y = 0; y < im.h; y++)
        for (int x = 0; x < im.w; x++) memcpy(im.rgb + 3 * (y * im.w + x), in->rgb + 3 * (y / ky * in->w + x / kx), 3);
    return im;
}

/* Both columns of the published hashes, and Pillow 13's own: whose vertical pass comes first in the third. */
static void test_bicubic_golden(void **state)
{
    (void)state;
    static const struct {
        int w, h, to_w, to_h;
        const char *in, *out[3]; /* by image_variant */
    } cases[] = {
        {10, 7, 6, 9, "db292dc4b904de6f", {"cc50544c8c65e694", "cc50544c8c65e694", "cc50544c8c65e694"}},
        {50, 50, 56, 56, "a38e7294f3cd3d4c", {"669b2bea2ebb7e61", "669b2bea2ebb7e61", "d478f290812b13a4"}},
        {640, 480, 644, 476, "30cff5db92d5a69c", {"63d27dc10908ce53", "5ddce14b514c4120", "af670cde1c560a12"}},
        {1920, 1080, 1288, 728, "e1afc7620e1f1128", {"82bc2a8944ad2443", "82bc2a8944ad2443", "33dd7789821092b0"}}};
    static const char *const isa[] = {"generic", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        image in = pattern(cases[i].w, cases[i].h), out = {0};
        char hex[17];
        sha256_prefix(in.rgb, (size_t)in.w * (size_t)in.h * 3, hex);
        assert_string_equal(hex, cases[i].in);
        for (int v = 0; v < 3; v++)
            for (int k = 0; k < 3; k++) {
                status st = image_resize_as(&out, &in, cases[i].to_w, cases[i].to_h, RESAMPLE_BICUBIC, (image_variant)v,
                                            isa[k]);
                if (st == ST_EUNAVAIL && k > 0) continue; /* not this machine */
                OK(st);
                sha256_prefix(out.rgb, (size_t)out.w * (size_t)out.h * 3, hex);
                assert_string_equal(hex, cases[i].out[v]);
                image_free(&out);
            }
        image_free(&in);
    }
}

static void test_smart_resize(void **state)
{
    (void)state;
    static const int cases[][6] = {/* h, w, then 2.5 h, w, then 3 h, w */
                                   {480, 640, 476, 644, 480, 640},      {1080, 1920, 1092, 1932, 1088, 1920},
                                   {42, 42, 56, 56, 256, 256},          {70, 70, 56, 56, 256, 256},
                                   {98, 126, 112, 112, 256, 320},       {14, 100, 28, 168, 96, 704},
                                   {4000, 6000, 2912, 4368, 3328, 4992}};
    image_processor p, q;
    image_processor_default(&p);
    q = p;
    q.patch = 16;
    q.min_pixels = 65536;
    q.max_pixels = 16777216;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int w, h;
        OK(image_smart_resize(&p, cases[i][1], cases[i][0], &w, &h));
        assert_int_equal(h, cases[i][2]);
        assert_int_equal(w, cases[i][3]);
        OK(image_smart_resize(&q, cases[i][1], cases[i][0], &w, &h));
        assert_int_equal(h, cases[i][4]);
        assert_int_equal(w, cases[i][5]);
    }
    int w, h;
    REFUSED(image_smart_resize(&p, 20000, 10, &w, &h), "aspect ratio");
    REFUSED(image_smart_resize(&p, 1, 201, &w, &h), "aspect ratio");
    OK(image_smart_resize(&p, 1, 200, &w, &h));
    OK(image_smart_resize(&p, 1, 1, &w, &h));
    assert_int_equal(w * h, 56 * 56);
    p.min_pixels = p.max_pixels = 7056; /* the demo: every square is 84x84 */
    OK(image_smart_resize(&p, 672, 672, &w, &h));
    assert_true(w == 84 && h == 84);
    OK(image_smart_resize(&p, 7, 7, &w, &h));
    assert_true(w == 84 && h == 84);
}

static void test_patches(void **state)
{
    (void)state;
    image_processor p;
    image_processor_default(&p);
    image im = {.w = 56, .h = 56, .rgb = malloc(56 * 56 * 3)};
    for (int y = 0; y < 56; y++)
        for (int x = 0; x < 56; x++) {
            uint8_t *px = im.rgb + (y * 56 + x) * 3;
            px[0] = (uint8_t)((y / 14) * 16 + x / 14); /* red names the patch */
            px[1] = (uint8_t)(y % 14 * 14 + x % 14);   /* green the place in it */
            px[2] = (uint8_t)(x == 0 ? 0 : x == 1 ? 128 : 255);
        }
    static const int order[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
    float *out = malloc(16 * 1176 * sizeof *out);
    int32_t grid[3];
    image_patches(out, grid, &im, &p);
    assert_true(grid[0] == 1 && grid[1] == 4 && grid[2] == 4 && image_grid_tokens(grid, 2) == 4);
    for (int k = 0; k < 16; k++)
        for (int c = 0; c < 3; c++)
            for (int t = 0; t < 2; t++)
                for (int y = 0; y < 14; y++)
                    for (int x = 0; x < 14; x++) {
                        float got = out[k * 1176 + ((c * 2 + t) * 14 + y) * 14 + x];
                        int gy = order[k] / 4 * 14 + y, gx = order[k] % 4 * 14 + x;
                        uint8_t v = im.rgb[(gy * 56 + gx) * 3 + c];
                        assert_true(got == ((float)((double)v * (1.0 / 255.0)) - p.mean[c]) / p.std[c]);
                    }
    /* numpy's float32 results for bytes 0, 128, 255. */
    static const float blue[3] = {-1.4802198f, 0.33994877f, 2.145897f};
    for (int i = 0; i < 3; i++) assert_true(out[4 * 196 + i] == blue[i]);
    image white = {.w = 28, .h = 28, .rgb = malloc(28 * 28 * 3)};
    static const float want[3][3] = {{-1.7922626f, -1.7520971f, -1.4802198f},
                                     {0.076336145f, 0.16889732f, 0.33994877f},
                                     {1.9303361f, 2.0748837f, 2.145897f}};
    static const int bytes[3] = {0, 128, 255};
    for (int i = 0; i < 3; i++) {
        memset(white.rgb, bytes[i], 28 * 28 * 3);
        image_patches(out, grid, &white, &p);
        for (int c = 0; c < 3; c++) assert_true(out[c * 392] == want[i][c]);
    }
    free(out);
    image_free(&white);
    image_free(&im);
}

static void test_processor_json(void **state)
{
    (void)state;
    image_processor p, q;
    image_processor_default(&p);
    p.min_pixels = p.max_pixels = 7056;
    p.filter = RESAMPLE_BOX;
    json_out o;
    json_begin(&o, true);
    image_processor_to_json(&p, &o);
    json *j;
    OK(json_parse(&j, o.text, o.len, "written"));
    OK(image_processor_from_json(&q, j));
    assert_true(q.min_pixels == 7056 && q.max_pixels == 7056 && q.patch == 14 && q.temporal_patch == 2 && q.merge == 2);
    assert_true(q.filter == RESAMPLE_BOX && !memcmp(q.mean, p.mean, sizeof q.mean) &&
                !memcmp(q.std, p.std, sizeof q.std));
    assert_true(image_processor_hash(&p) == image_processor_hash(&q));
    q.filter = RESAMPLE_BICUBIC;
    assert_true(image_processor_hash(&p) != image_processor_hash(&q));
    q = p;
    for (int v = 1; image_variant_names[v]; v++) {
        q.variant = (image_variant)v; /* cached views of one are not those of another */
        assert_true(image_processor_hash(&p) != image_processor_hash(&q));
    }
    json_free(j);
    json_end(&o);
    static const struct {
        const char *text, *error;
        int64_t min, max;
        int patch;
    } cases[] = {
        {"{}", NULL, 3136, 1003520, 14},
        {"{\"size\":{\"shortest_edge\":65536,\"longest_edge\":16777216},\"patch_size\":16}", NULL, 65536, 16777216, 16},
        {"{\"size\":{\"shortest_edge\":1,\"longest_edge\":2},\"min_pixels\":3136,\"max_pixels\":null}", "above", 0, 0,
         0},
        {"{\"image_processor\":{\"min_pixels\":10000},\"x\":1}", NULL, 10000, 1003520, 14},
        {"{\"size\":{\"shortest_edge\":65536}}", "longest_edge", 0, 0, 0},
        {"{\"size\":{\"height\":224,\"width\":224}}", "shortest_edge", 0, 0, 0},
        {"{\"size\":224}", "size must be", 0, 0, 0},
        {"{\"size\":{\"shortest_edge\":65536},\"max_pixels\":70000}", NULL, 65536, 70000, 14},
        {"{\"resample\":1}", "resample 1", 0, 0, 0},
        {"{\"resample\":9}", "resample", 0, 0, 0},
        {"{\"image_mean\":[1,2]}", "image_mean", 0, 0, 0},
        {"{\"image_std\":[1,2,0]}", "image_std[2]", 0, 0, 0},
        {"{\"do_resize\":false}", "do_resize", 0, 0, 0},
        {"{\"rescale_factor\":1}", "rescale_factor", 0, 0, 0},
        {"{\"data_format\":\"channels_last\"}", "data_format", 0, 0, 0},
        {"{\"image_processor_type\":\"CLIPImageProcessor\"}", "CLIPImageProcessor", 0, 0, 0},
        {"{\"patch_size\":0}", "patch_size", 0, 0, 0},
        {"[]", "object", 0, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        OK(json_parse(&j, cases[i].text, strlen(cases[i].text), "case"));
        if (cases[i].error) {
            REFUSED(image_processor_from_json(&q, j), cases[i].error);
        } else {
            OK(image_processor_from_json(&q, j));
            assert_true(q.min_pixels == cases[i].min && q.max_pixels == cases[i].max && q.patch == cases[i].patch);
        }
        json_free(j);
    }
}

/* As transformers: the image_processor object of processor_config.json, else preprocessor_config.json. */
static void test_processor_of_directory(void **state)
{
    (void)state;
    image_processor p;
    char dir[300];
    snprintf(dir, sizeof dir, "%s", tempdir());
    REFUSED(image_processor_load(&p, dir), "no preprocessor_config.json");
    temp_text(temppath("processor_config.json"), "{\"processor_class\":\"Qwen2_5_VLProcessor\"}");
    REFUSED(image_processor_load(&p, dir), "no preprocessor_config.json");
    temp_text(temppath("preprocessor_config.json"), "{\"min_pixels\":1000}");
    OK(image_processor_load(&p, dir));
    assert_true(p.min_pixels == 1000 && p.max_pixels == 1003520);
    temp_text(temppath("processor_config.json"),
              "{\"image_processor\":{\"image_processor_type\":\"Qwen2VLImageProcessor\",\"patch_size\":16,\"size\":"
              "{\"longest_edge\":16777216,\"shortest_edge\":65536}}}");
    OK(image_processor_load(&p, dir));
    assert_true(p.min_pixels == 65536 && p.max_pixels == 16777216 && p.patch == 16 && p.variant == IMAGE_PIL);
    temp_text(temppath("processor_config.json"), "{\"image_processor\":{\"do_resize\":false}}");
    REFUSED(image_processor_load(&p, dir), "processor_config.json");
}

static void assert_same(const image *a, const image *b)
{
    assert_int_equal(a->w, b->w);
    assert_int_equal(a->h, b->h);
    assert_memory_equal(a->rgb, b->rgb, (size_t)a->w * (size_t)a->h * 3);
}

/* Rows equal to the one above are computed once: each must be what it is alone. */
static void test_resize_equal_rows(void **state)
{
    (void)state;
    static const resample filters[] = {RESAMPLE_BICUBIC, RESAMPLE_BILINEAR, RESAMPLE_BOX};
    static const int widths[] = {10, 12, 30, 61, 120, 131};
    image small = noise(12, 9, 4, 3), im = enlarge(&small, 10, 4);
    for (size_t f = 0; f < sizeof filters / sizeof *filters; f++)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            image all = {0};
            OK(image_resize(&all, &im, widths[i], im.h, filters[f]));
            for (int y = 0; y < im.h; y++) {
                image row = {im.w, 1, im.rgb + (size_t)y * (size_t)im.w * 3}, one = {0};
                OK(image_resize(&one, &row, widths[i], 1, filters[f]));
                assert_memory_equal(one.rgb, all.rgb + (size_t)y * (size_t)all.w * 3, (size_t)all.w * 3);
                image_free(&one);
            }
            image_free(&all);
        }
    image_free(&small);
    image_free(&im);
}

#ifdef HAVE_PNG
static size_t round_trip(const image *im, int fast)
{
    image back = {0};
    uint8_t *png;
    size_t n;
    OK(image_encode_png(im, fast, &png, &n));
    OK(image_decode(&back, png, n, "round trip"));
    assert_same(im, &back);
    free(png);
    image_free(&back);
    return n;
}

static void test_png_round_trip(void **state)
{
    (void)state;
    static const int colours[] = {1, 2, 3, 4, 5, 16, 17, 200, 256, 5000};
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        for (int fast = 0; fast < 2; fast++)
            for (int w = 1; w < 40; w += 6) {
                image im = noise(w, 23, colours[i], i);
                round_trip(&im, fast);
                for (int k = 2; k < 200; k = 3 * k + 1) { /* runs and repeated rows, some beyond one match */
                    image large = enlarge(&im, k / 2, k % 9 + 1);
                    round_trip(&large, fast);
                    image_free(&large);
                }
                image_free(&im);
            }
}

/* Every truncation and a flipped bit anywhere must be refused (the CRC sees it) and must not crash. */
static void damage(int colours, int fast)
{
    image im = noise(40, 30, colours, 1), back = {0};
    uint8_t *png;
    size_t n;
    OK(image_encode_png(&im, fast, &png, &n));
    for (size_t cut = 0; cut < n; cut++) assert_int_equal(image_decode(&back, png, cut, "cut.png"), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "cut.png: damaged PNG"));
    for (size_t at = 0; at < n; at++) {
        png[at] ^= 1 << (at & 7);
        assert_int_equal(image_decode(&back, png, n, "flipped.png"), ST_EINVAL);
        png[at] ^= 1 << (at & 7);
    }
    assert_null(back.rgb);
    free(png);
    image_free(&im);
}

static void test_png_damage(void **state)
{
    (void)state;
    damage(300, 0);
    damage(9, 1);
    image back = {0};
    /* A header that promises 2^31-1 pixels a side: refused before anything is allocated. */
    static const uint8_t huge[] = {0x89, 'P',  'N',  'G',  13,   10,   26,   10, 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0x7f,
                                   0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 8,  2, 0, 0, 0,  0,   0,   0,   0};
    assert_int_equal(image_decode(&back, huge, sizeof huge, "huge.png"), ST_EINVAL);
}

static void test_png_speed(void **state)
{
    (void)state;
    image im = {.w = 672, .h = 672, .rgb = malloc(672 * 672 * 3)};
    memset(im.rgb, 40, 672 * 672 * 3);
    for (int i = 0; i < 60; i++)
        for (int y = 0; y < 50; y++) memset(im.rgb + ((i * 97 % 600 + y) * 672 + i * 131 % 600) * 3, i * 4, 150);
    uint8_t *png = NULL;
    size_t n = 0;
    double encode = 1e9, decode = 1e9, view = 1e9;
    for (int i = 0; i < 10; i++) {
        image back = {0}, small = {0};
        double t0 = clock_now();
        OK(image_encode_png(&im, 1, &png, &n));
        double t1 = clock_now();
        OK(image_decode(&back, png, n, "card"));
        double t2 = clock_now();
        OK(image_resize(&small, &back, 84, 84, RESAMPLE_BOX));
        double t3 = clock_now();
        if (t1 - t0 < encode) encode = t1 - t0;
        if (t2 - t1 < decode) decode = t2 - t1;
        if (t3 - t2 < view) view = t3 - t2;
        assert_same(&im, &back);
        image_free(&back);
        image_free(&small);
        free(png);
    }
    printf("672x672: encode %.2f ms (%zu bytes), decode %.2f ms, box to 84x84 %.2f ms\n", encode * 1e3, n, decode * 1e3,
           view * 1e3);
    image_free(&im);
}
#endif

static void test_not_an_image(void **state)
{
    (void)state;
    image im = {0};
    REFUSED(image_decode(&im, "", 0, "none.png"), "none.png: empty");
    REFUSED(image_decode(&im, "BM......", 8, "a.bmp"), "BMP, not a PNG, JPEG, WebP or GIF");
#ifdef HAVE_GIF
    REFUSED(image_decode(&im, "GIF89a..", 8, "a.gif"), "a.gif: damaged GIF");
#endif
#ifdef HAVE_WEBP
    REFUSED(image_decode(&im, "RIFF\0\0\0\0WEBPVP8 ", 16, "a.webp"), "a.webp: damaged WebP");
#endif
    REFUSED(image_decode(&im, "hello", 5, "a.txt"), "unknown data");
#ifdef HAVE_JPEG
    REFUSED(image_decode(&im, "\xff\xd8\xff\xe0", 4, "a.jpg"), "a.jpg: damaged JPEG");
#endif
    assert_int_equal(image_read_file(&im, "/nonexistent/a.png"), ST_EIO);
    assert_int_equal(image_read_file(&im, "/"), ST_EIO);
    image one = pattern(1, 1), out = {0};
    assert_int_equal(image_resize(&out, &one, 5, 5, RESAMPLE_LANCZOS), ST_EUNAVAIL);
    OK(image_resize(&out, &one, 5, 7, RESAMPLE_BICUBIC));
    for (int i = 0; i < 35; i++) assert_memory_equal(out.rgb + 3 * i, one.rgb, 3);
    image_free(&one);
    image_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bicubic_golden),
        cmocka_unit_test(test_smart_resize),
        cmocka_unit_test(test_patches),
        cmocka_unit_test(test_processor_json),
        cmocka_unit_test(test_processor_of_directory),
        cmocka_unit_test(test_not_an_image),
        cmocka_unit_test(test_resize_equal_rows),
#ifdef HAVE_PNG
        cmocka_unit_test(test_png_round_trip),
        cmocka_unit_test(test_png_damage),
        cmocka_unit_test(test_png_speed),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
