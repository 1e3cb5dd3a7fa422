/* Index work: M-RoPE positions, windows and segments, rotary constants. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/mrope.h"
#include "core/rng.h"
#include "core/vision.h"

static const vision_config published = {.patch = 14, .temporal_patch = 2, .merge = 2, .in_channels = 3, .window = 112};

/* [a, b, vision_start, 6 image pads, vision_end, c, d] with a 4x6 image. */
static void positions_of_one_image(void **state)
{
    (void)state;
    static const int32_t want[3][12] = {{0, 1, 2, 3, 3, 3, 3, 3, 3, 6, 7, 8},
                                        {0, 1, 2, 3, 3, 3, 4, 4, 4, 6, 7, 8},
                                        {0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8}};
    const mrope_image img = {3, 1, 4, 6};
    int32_t pos[36], next = 0;
    mrope_positions(pos, 12, &img, 1, 2, 2, &next);
    for (int i = 0; i < 12; i++)
        for (int a = 0; a < 3; a++) assert_int_equal(pos[3 * i + a], want[a][i]);
    assert_int_equal(next, 9);
}

/* Three frames of 2x2 tokens, two positions apart: the time axis is the longest. */
static void positions_of_a_video(void **state)
{
    (void)state;
    const mrope_image img = {1, 3, 4, 4};
    int32_t pos[42], next = 0;
    mrope_positions(pos, 14, &img, 1, 2, 2, &next);
    static const int32_t last[3] = {5, 2, 2};
    assert_memory_equal(pos + 3 * 12, last, sizeof last);
    assert_int_equal(pos[3 * 13], 6);
    assert_int_equal(next, 7);
}

/* Appending a turn equals computing the whole sequence at once. */
static void positions_continue(void **state)
{
    (void)state;
    enum { N = 100 };
    for (uint64_t trial = 0; trial < 200; trial++) {
        rng r = {rng_make_key(trial, RNG_TEST, 0, 0, 0, 0), 0};
        mrope_image img[4], part[4];
        int n_img = 0, at = 0, cut = 0;
        while (n_img < 4) {
            int t = 1, h = 2 * (1 + (int)rng_next_below(&r, 4)), w = 2 * (1 + (int)rng_next_below(&r, 4));
            at += (int)rng_next_below(&r, 6);
            if (at + h * w / 4 > N) break;
            if (n_img == 2) cut = at;
            img[n_img++] = (mrope_image){at, t, h, w};
            at += h * w / 4;
        }
        int32_t whole[3 * N], parts[3 * N], next = 0, next_parts = 0;
        mrope_positions(whole, N, img, n_img, 2, 1, &next);
        int first = n_img > 2 ? 2 : n_img;
        if (n_img <= 2) cut = N;
        mrope_positions(parts, cut, img, first, 2, 1, &next_parts);
        for (int i = first; i < n_img; i++) {
            part[i - first] = img[i];
            part[i - first].start -= cut;
        }
        mrope_positions(parts + 3 * cut, N - cut, part, n_img - first, 2, 1, &next_parts);
        assert_memory_equal(whole, parts, sizeof whole);
        assert_int_equal(next, next_parts);
    }
}

static void windows_of_one_image(void **state)
{
    (void)state;
    static const int32_t index[] = {0, 1,  2,  3,  7,  8,  9,  10, 14, 15, 16, 17, 21, 22, 23, 24, 4, 5,
                                    6, 11, 12, 13, 18, 19, 20, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34};
    static const int32_t windows[] = {0, 64, 112, 128, 140};
    const int32_t grid[] = {1, 10, 14};
    int32_t got[35], pos[280], cu_window[36], cu_full[36];
    int n_window = 0, n_full = 0;
    assert_int_equal(vision_tokens(&published, grid, 1), 35);
    vision_index(&published, grid, 1, got, pos, cu_window, &n_window, cu_full, &n_full);
    assert_memory_equal(got, index, sizeof index);
    assert_int_equal(n_window, 4);
    assert_memory_equal(cu_window, windows, sizeof windows);
    assert_int_equal(n_full, 1);
    assert_int_equal(cu_full[1], 140);
    /* patches of the second window's first token, number 4 of the raster: row 0, columns 8 and 9 */
    static const int32_t place[] = {0, 8, 0, 9, 1, 8, 1, 9};
    assert_memory_equal(pos + 2 * 64, place, sizeof place);
}

/* Any images: a permutation; every window lies in one 8x8-patch square of one frame and takes all of it that exists. */
static void windows_of_many_images(void **state)
{
    (void)state;
    enum { TOK = 2048 };
    static int32_t index[TOK], pos[8 * TOK], cu_window[TOK + 1], cu_full[TOK + 1], frame_of[TOK], row_of[TOK],
        col_of[TOK];
    for (uint64_t trial = 0; trial < 100; trial++) {
        rng r = {rng_make_key(trial, RNG_TEST, 1, 0, 0, 0), 0};
        int32_t grid[9];
        int n = 0, frame = 0, n_window = 0, n_full = 0, seen[TOK] = {0};
        for (int i = 0; i < 3; i++) {
            grid[3 * i] = 1 + (int32_t)rng_next_below(&r, 3);
            grid[3 * i + 1] = 2 * (1 + (int32_t)rng_next_below(&r, 12));
            grid[3 * i + 2] = 2 * (1 + (int32_t)rng_next_below(&r, 12));
            for (int f = 0; f < grid[3 * i]; f++, frame++)
                for (int y = 0; y < grid[3 * i + 1] / 2; y++)
                    for (int x = 0; x < grid[3 * i + 2] / 2; x++, n++)
                        frame_of[n] = frame, row_of[n] = y, col_of[n] = x;
        }
        vision_index(&published, grid, 3, index, pos, cu_window, &n_window, cu_full, &n_full);
        assert_int_equal(vision_tokens(&published, grid, 3), n);
        assert_int_equal(n_full, frame);
        assert_int_equal(cu_window[n_window], 4 * n);
        assert_int_equal(cu_full[n_full], 4 * n);
        for (int w = 0; w < n_window; w++) {
            int first = index[cu_window[w] / 4];
            assert_true(cu_window[w + 1] > cu_window[w]);
            for (int j = cu_window[w] / 4; j < cu_window[w + 1] / 4; j++) {
                int k = index[j];
                assert_int_equal(seen[k]++, 0);
                assert_int_equal(frame_of[k], frame_of[first]);
                assert_int_equal(row_of[k] / 4, row_of[first] / 4);
                assert_int_equal(col_of[k] / 4, col_of[first] / 4);
                for (int p = 0; p < 4; p++) {
                    assert_int_equal(pos[8 * j + 2 * p], 2 * row_of[k] + p / 2);
                    assert_int_equal(pos[8 * j + 2 * p + 1], 2 * col_of[k] + p % 2);
                }
                if (j == cu_window[w] / 4) continue;
                assert_true(index[j] > index[j - 1]); /* raster order inside */
            }
            if (w == 0) continue;
            int before = index[cu_window[w - 1] / 4]; /* another square than the one before: none is cut in two */
            assert_true(frame_of[before] != frame_of[first] || row_of[before] / 4 != row_of[first] / 4 ||
                        col_of[before] / 4 != col_of[first] / 4);
        }
        for (int k = 0; k < n; k++) assert_int_equal(seen[k], 1);
    }
}

static void rotary_constants(void **state)
{
    (void)state;
    int32_t axis[64];
    float f[64];
    mrope_axes(axis, 64, (int[]){16, 24, 24}, false);
    for (int j = 0; j < 64; j++) assert_int_equal(axis[j], j < 16 ? 0 : j < 40 ? 1 : 2);
    rope_inv_freq(f, 128, 1e6);
    assert_true(f[0] == 1.0f && f[32] == 0.001f);
    for (int j = 1; j < 64; j++) assert_true(fabs(f[j] / f[j - 1] - 0.80584219) < 1e-6); /* 1e6^(-1/64) */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(positions_of_one_image), cmocka_unit_test(positions_of_a_video),
                                       cmocka_unit_test(positions_continue),     cmocka_unit_test(windows_of_one_image),
                                       cmocka_unit_test(windows_of_many_images), cmocka_unit_test(rotary_constants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
