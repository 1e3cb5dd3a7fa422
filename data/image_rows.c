/* Rows of a resize in plain C, AVX2 and AVX-512. All integer, so all equal. The vector forms multiply pairs of 16-bit
 * numbers (madd): a 23-bit weight of Pillow's becomes two halves, and the sum of pixel * high, shifted, plus the sum of
 * pixel * low is the same 32-bit number. */
#include "data/image_rows.h"

#include <stdbool.h>
#include <string.h>

enum { HALF = 11 };

static uint8_t clip8(int32_t v, int shift)
{
    v >>= shift;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void across_generic(uint8_t *to, const uint8_t *from, const image_taps *t)
{
    const int32_t half = 1 << (t->shift - 1);
    for (int o = 0; o < t->n_out; o++) {
        const int32_t *w = t->weight + (size_t)o * (size_t)t->width;
        const uint8_t *p = from + 3 * (size_t)t->lo[o];
        int32_t r = half, g = half, b = half;
        for (int j = 0; j < t->count[o]; j++, p += 3) {
            r += p[0] * w[j];
            g += p[1] * w[j];
            b += p[2] * w[j];
        }
        to[3 * o] = clip8(r, t->shift);
        to[3 * o + 1] = clip8(g, t->shift);
        to[3 * o + 2] = clip8(b, t->shift);
    }
}

/* Bytes x0..n-1 of the row. */
static void down_rest(uint8_t *to, const uint8_t *from, size_t n, const image_taps *t, int o, size_t x0)
{
    const int32_t *w = t->weight + (size_t)o * (size_t)t->width;
    const uint8_t *first = from + (size_t)t->lo[o] * n;
    enum { BLOCK = 512 };
    int32_t acc[BLOCK];
    for (; x0 < n; x0 += BLOCK) {
        size_t k = n - x0 < BLOCK ? n - x0 : BLOCK;
        for (size_t x = 0; x < k; x++) acc[x] = 1 << (t->shift - 1);
        for (int j = 0; j < t->count[o]; j++) {
            const uint8_t *row = first + (size_t)j * n + x0;
            for (size_t x = 0; x < k; x++) acc[x] += row[x] * w[j];
        }
        for (size_t x = 0; x < k; x++) to[x0 + x] = clip8(acc[x], t->shift);
    }
}

static void down_generic(uint8_t *to, const uint8_t *from, size_t n, const image_taps *t, int o)
{
    down_rest(to, from, n, t, o, 0);
}

static const image_rows generic = {"generic", across_generic, down_generic};

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx2")))
#define INLINE static inline __attribute__((always_inline))

/* Four pixels from p as 16-bit pairs (pixels 0 1, then 2 3): red and green in the low 128 bits, blue in the high. */
INLINE AVX2 __m256i load_pairs(const uint8_t *p)
{
    const __m256i order =
        _mm256_setr_epi8(0, -1, 3, -1, 6, -1, 9, -1, 1, -1, 4, -1, 7, -1, 10, -1, /* r r r r g g g g */
                         2, -1, 5, -1, 8, -1, 11, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p)), order);
}

INLINE AVX2 __m256i load_weights(const int16_t *w)
{
    int64_t four;
    memcpy(&four, w, sizeof four);
    return _mm256_set1_epi64x(four);
}

/* sums: r r g g | b b 0 0, to be added in pairs, shifted and clamped. */
INLINE AVX2 uint32_t finish_pixel(__m256i sums, __m128i half, __m128i shift)
{
    __m128i v = _mm_hadd_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    v = _mm_sra_epi32(_mm_add_epi32(v, half), shift);
    v = _mm_packs_epi32(v, v);
    return (uint32_t)_mm_cvtsi128_si32(_mm_packus_epi16(v, v));
}

INLINE AVX2 void across_pairs(uint8_t *to, const uint8_t *from, const image_taps *t, bool two)
{
    const __m128i half = _mm_set1_epi32(1 << (t->shift - 1)), shift = _mm_cvtsi32_si128(t->shift);
    for (int o = 0; o < t->n_out; o++) {
        const size_t at = (size_t)o * (size_t)t->width;
        const int16_t *low = t->low + at, *high = two ? t->high + at : NULL;
        const uint8_t *p = from + 3 * (size_t)t->lo[o];
        __m256i a = _mm256_setzero_si256(), b = a;
        for (int j = 0; j < t->count[o]; j += 4, p += 12) {
            __m256i px = load_pairs(p);
            a = _mm256_add_epi32(a, _mm256_madd_epi16(px, load_weights(low + j)));
            if (two) b = _mm256_add_epi32(b, _mm256_madd_epi16(px, load_weights(high + j)));
        }
        if (two) a = _mm256_add_epi32(a, _mm256_slli_epi32(b, HALF));
        uint32_t rgb = finish_pixel(a, half, shift);
        memcpy(to + 3 * (size_t)o, &rgb, 3);
    }
}

static AVX2 void across_avx2(uint8_t *to, const uint8_t *from, const image_taps *t)
{
    if (t->high)
        across_pairs(to, from, t, true);
    else
        across_pairs(to, from, t, false);
}

INLINE AVX2 __m256i pair_weights(const int16_t *w)
{
    int32_t two;
    memcpy(&two, w, sizeof two);
    return _mm256_set1_epi32(two);
}

/* 16 bytes of two rows as 16-bit pairs: the bytes 0..7 in v[0], 8..15 in v[1]. */
INLINE AVX2 void load_two_rows(__m256i v[2], const uint8_t *p, const uint8_t *q)
{
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p),
            b = _mm_loadu_si128((const __m128i *)(const void *)q);
    v[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
    v[1] = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
}

INLINE AVX2 void down_pairs(uint8_t *to, const uint8_t *from, size_t n, const image_taps *t, int o, bool two)
{
    const size_t at = (size_t)o * (size_t)t->width;
    const int16_t *low = t->low + at, *high = two ? t->high + at : NULL;
    const uint8_t *first = from + (size_t)t->lo[o] * n;
    const int count = t->count[o];
    const __m256i half = _mm256_set1_epi32(1 << (t->shift - 1));
    const __m128i shift = _mm_cvtsi32_si128(t->shift);
    size_t x = 0;
    for (; x + 32 <= n; x += 32) {
        __m256i a[4], b[4];
        for (int i = 0; i < 4; i++) a[i] = half, b[i] = _mm256_setzero_si256();
        for (int j = 0; j < count; j += 2) {
            const uint8_t *p = first + (size_t)j * n + x, *q = j + 1 < count ? p + n : p; /* weight 0 past the last */
            const __m256i wl = pair_weights(low + j), wh = two ? pair_weights(high + j) : wl;
            for (int i = 0; i < 4; i += 2) {
                __m256i v[2];
                load_two_rows(v, p + 8 * i, q + 8 * i);
                for (int k = 0; k < 2; k++) {
                    a[i + k] = _mm256_add_epi32(a[i + k], _mm256_madd_epi16(v[k], wl));
                    if (two) b[i + k] = _mm256_add_epi32(b[i + k], _mm256_madd_epi16(v[k], wh));
                }
            }
        }
        for (int i = 0; i < 4; i++) {
            if (two) a[i] = _mm256_add_epi32(a[i], _mm256_slli_epi32(b[i], HALF));
            a[i] = _mm256_sra_epi32(a[i], shift);
        }
        /* packs work within 128 bits: the four-byte groups come out as 0 4 8 12 .. and are put back in order. */
        __m256i v = _mm256_packus_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(a[2], a[3]));
        v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((__m256i *)(void *)(to + x), v);
    }
    down_rest(to, from, n, t, o, x);
}

static AVX2 void down_avx2(uint8_t *to, const uint8_t *from, size_t n, const image_taps *t, int o)
{
    if (t->high)
        down_pairs(to, from, n, t, o, true);
    else
        down_pairs(to, from, n, t, o, false);
}

static const image_rows avx2 = {"avx2", across_avx2, down_avx2};
#endif

const image_rows *image_rows_find(const char *isa)
{
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("avx2") && (!*isa || strcmp(isa, "avx2") == 0)) return &avx2;
#endif
    return !*isa || strcmp(isa, "generic") == 0 ? &generic : NULL;
}
