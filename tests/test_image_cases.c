/* Pictures, resizes and patches recorded from Pillow, torchvision and transformers (tests/image_cases.py makes them):
 * every byte equal. test_image_cases [FILE]      FILE: another recording, such as the large one of RESULTS.md */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "data/image.h"
#include "tests/common/sha256.h"

#define OK(call)                                                        \
    do {                                                                \
        if ((call) != ST_OK) fail_msg("%s: %s", #call, fail_message()); \
    } while (0)

static const char *recording = SOURCE_DIR "/tests/image_cases.bin";
static FILE *file;

static void read_exact(void *to, size_t n) { assert_int_equal(fread(to, 1, n, file), n); }

static uint32_t read_u32(void)
{
    uint32_t v;
    read_exact(&v, sizeof v);
    return v;
}

/* u32 length, bytes; malloc'ed, with a 0 behind them. */
static char *read_blob(uint32_t *n)
{
    *n = read_u32();
    assert_true(*n <= 1u << 30);
    char *b = malloc((size_t)*n + 1);
    assert_non_null(b);
    read_exact(b, *n);
    b[*n] = 0;
    return b;
}

static void read_hash(char hex[17])
{
    read_exact(hex, 16);
    hex[16] = 0;
}

/* The script's pictures: noise, black and white noise, blocks of 5x5, slopes. */
static image draw(int w, int h, uint32_t kind, uint32_t seed)
{
    image im = {.w = w, .h = h, .rgb = malloc((size_t)w * (size_t)h * 3)};
    uint8_t *to = im.rgb;
    assert_non_null(im.rgb);
    for (uint32_t y = 0; y < (uint32_t)h; y++)
        for (uint32_t x = 0; x < (uint32_t)w; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t i = (kind == 2 ? (y / 5) * 4099 + x / 5 : y * 4099 + x) * 3 + c,
                         v = i * 2654435761u + seed * 40503u;
                v = (v ^ v >> 15) * 2246822519u;
                v = (v ^ v >> 13) >> 8 & 255;
                *to++ = (uint8_t)(kind == 1 ? (v & 1) * 255 : kind == 3 ? (x * (c + 3) + y * 5 + v / 16) >> 1 : v);
            }
    return im;
}

/* Cut short: refused, or the same picture (what follows the first frame of an animation is not read). With bytes
 * changed: anything but a crash. */
static void spoil(const image *im, char *data, uint32_t n)
{
    image cut = {0};
    for (uint32_t k = n / 3; k < n; k += n / 7 + 1) {
        if (image_decode(&cut, data, k, "cut") != ST_OK) continue;
        assert_true(cut.w == im->w && cut.h == im->h);
        assert_memory_equal(cut.rgb, im->rgb, (size_t)im->w * (size_t)im->h * 3);
        image_free(&cut);
    }
    for (uint32_t i = 0; i < 24; i++) {
        uint32_t at = (i * 2654435761u ^ n) % n;
        char was = data[at];
        data[at] ^= (char)(1 << i % 8);
        if (image_decode(&cut, data, n, "spoiled") == ST_OK) image_free(&cut);
        data[at] = was;
    }
}

static int missing; /* records left out because this program was built without their library */

static bool decoded(image *im, const char *name, const char *data, uint32_t n)
{
    status st = image_decode(im, data, n, name);
    if (st != ST_OK && st != ST_EUNAVAIL) fail_msg("%s", fail_message());
    missing += st != ST_OK;
    return st == ST_OK;
}

static void check_decode(const char *name)
{
    uint32_t n, w = read_u32(), h = read_u32();
    char want[17], got[17], *data = read_blob(&n);
    image im = {0};
    read_hash(want);
    if (decoded(&im, name, data, n)) {
        if (im.w != (int)w || im.h != (int)h) fail_msg("%s: %dx%d, but %ux%u in Pillow", name, im.w, im.h, w, h);
        sha256_prefix(im.rgb, (size_t)w * h * 3, got);
        if (strcmp(got, want)) fail_msg("%s: pixels differ from Pillow's", name);
        if (n < 20000) spoil(&im, data, n);
        image_free(&im);
    }
    free(data);
}

static void check_refused(const char *name)
{
    uint32_t n;
    char *data = read_blob(&n);
    image im = {0};
    status st = image_decode(&im, data, n, name);
    if (st != ST_EINVAL && st != ST_EUNAVAIL) fail_msg("%s: not refused", name);
    assert_null(im.rgb);
    free(data);
}

static void check_resize(const char *name)
{
    uint32_t v[8]; /* filter, variant, kind, seed, w, h, W, H */
    char want[17], got[17];
    for (int i = 0; i < 8; i++) v[i] = read_u32();
    read_hash(want);
    image in = draw((int)v[4], (int)v[5], v[2], v[3]), out = {0};
    static const char *const isa[] = {"generic", "avx2", "avx512"};
    for (int k = 0; k < 3; k++) {
        status st = image_resize_as(&out, &in, (int)v[6], (int)v[7], (resample)v[0], (image_variant)v[1], isa[k]);
        if (st == ST_EUNAVAIL && k > 0) continue; /* not this machine */
        OK(st);
        sha256_prefix(out.rgb, (size_t)v[6] * v[7] * 3, got);
        if (strcmp(got, want))
            fail_msg("%s: filter %u, %s, %ux%u to %ux%u %s differs", name, v[0], image_variant_names[v[1]], v[4], v[5],
                     v[6], v[7], isa[k]);
        image_free(&out);
    }
    image_free(&in);
}

static void check_processor(const char *name)
{
    uint32_t variant = read_u32(), n_json, n, want_grid[3];
    char *text = read_blob(&n_json), *data = read_blob(&n), want[17], got[17];
    for (int i = 0; i < 3; i++) want_grid[i] = read_u32();
    read_hash(want);
    json *j = NULL;
    image_processor p;
    image im = {0}, view = {0};
    OK(json_parse(&j, text, n_json, name));
    OK(image_processor_from_json(&p, j));
    p.variant = (image_variant)variant;
    if (decoded(&im, name, data, n)) {
        int32_t grid[3];
        OK(image_view(&view, &im, &p));
        size_t bytes = (size_t)view.w * (size_t)view.h * 3 * (size_t)p.temporal_patch * sizeof(float);
        float *patches = malloc(bytes);
        image_patches(patches, grid, &view, &p);
        for (int i = 0; i < 3; i++)
            if (grid[i] != (int32_t)want_grid[i])
                fail_msg("%s: grid[%d] is %d, not %u", name, i, grid[i], want_grid[i]);
        sha256_prefix(patches, bytes, got);
        if (strcmp(got, want)) fail_msg("%s: %s patches differ", name, image_variant_names[variant]);
        free(patches);
        image_free(&view);
        image_free(&im);
    }
    json_free(j);
    free(text);
    free(data);
}

static void test_recording(void **state)
{
    (void)state;
    file = fopen(recording, "rb");
    if (!file) fail_msg("cannot open %s", recording);
    uint32_t n;
    char *made_by = read_blob(&n);
    int count[5] = {0};
    for (int kind; (kind = fgetc(file)) > 0; count[kind]++) {
        assert_in_range(kind, 1, 4);
        char *name = read_blob(&n);
        if (kind == 1) check_decode(name);
        if (kind == 2) check_resize(name);
        if (kind == 3) check_processor(name);
        if (kind == 4) check_refused(name);
        free(name);
    }
    printf("%s: %d pictures, %d resizes, %d processor outputs equal, %d files refused\n", made_by, count[1], count[2],
           count[3], count[4]);
    if (missing) printf("%d of the pictures and outputs left out: built without their library\n", missing);
    assert_true(count[1] && count[2]);
    free(made_by);
    fclose(file);
}

int main(int argc, char **argv)
{
    if (argc > 1) recording = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recording)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
