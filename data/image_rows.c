/* Rows of a resize in plain C, AVX2 and AVX-512 (with VBMI and VNNI). All integer, so all equal. The vector forms
 * multiply pairs of 16-bit numbers (madd): a 23-bit weight of Pillow's becomes two halves, and the sum of pixel * high,
 * shifted, plus the sum of pixel * low is the same 32-bit number. */
#include "data/image_rows.h"

#include <stdbool.h>
#include <string.h>

enum { HALF = 11 };

static uint8_t clip8(int32_t v, int shift)
{
    v >>= shift;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void across_generic(uint8_t *to, size_t to_pitch, const uint8_t *from, size_t from_pitch, int rows,
                           const image_taps *t)
{
    const int32_t half = 1 << (t->shift - 1);
    for (int y = 0; y < rows; y++, to += to_pitch, from += from_pitch)
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
static void down_rest(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o, size_t x0)
{
    const int32_t *w = t->weight + (size_t)o * (size_t)t->width;
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

static void down_generic(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o)
{
    down_rest(to, first, n, t, o, 0);
}

static const image_rows generic = {"generic", 1, across_generic, down_generic, NULL};

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <stdlib.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")))
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

INLINE AVX2 void across_row(uint8_t *to, const uint8_t *from, const image_taps *t, bool two)
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
        if (o < t->n_out - 1)
            memcpy(to + 3 * (size_t)o, &rgb, 4); /* one byte too many, which the next pixel overwrites */
        else
            memcpy(to + 3 * (size_t)o, &rgb, 3);
    }
}

static AVX2 void across_avx2(uint8_t *to, size_t to_pitch, const uint8_t *from, size_t from_pitch, int rows,
                             const image_taps *t)
{
    for (int y = 0; y < rows; y++, to += to_pitch, from += from_pitch)
        if (t->high)
            across_row(to, from, t, true);
        else
            across_row(to, from, t, false);
}

INLINE int32_t pair_weights(const int16_t *w)
{
    int32_t two;
    memcpy(&two, w, sizeof two);
    return two;
}

/* Two rows' bytes are interleaved and widened to 16-bit pairs within each 128 bits; packing the four sums undoes it. */
INLINE AVX2 void down_row(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o, bool two)
{
    const size_t at = (size_t)o * (size_t)t->width;
    const int16_t *low = t->low + at, *high = two ? t->high + at : NULL;
    const int count = t->count[o];
    const __m256i half = _mm256_set1_epi32(1 << (t->shift - 1)), zero = _mm256_setzero_si256();
    const __m128i shift = _mm_cvtsi32_si128(t->shift);
    size_t x = 0;
    for (; x + 32 <= n; x += 32) {
        __m256i a[4], b[4];
        for (int i = 0; i < 4; i++) a[i] = half, b[i] = zero;
        for (int j = 0; j < count; j += 2) {
            const uint8_t *p = first + (size_t)j * n + x, *q = j + 1 < count ? p + n : p; /* weight 0 past the last */
            const __m256i u = _mm256_loadu_si256((const __m256i *)(const void *)p);
            const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)q);
            const __m256i l = _mm256_unpacklo_epi8(u, v), h = _mm256_unpackhi_epi8(u, v);
            const __m256i px[4] = {_mm256_unpacklo_epi8(l, zero), _mm256_unpackhi_epi8(l, zero),
                                   _mm256_unpacklo_epi8(h, zero), _mm256_unpackhi_epi8(h, zero)};
            const __m256i wl = _mm256_set1_epi32(pair_weights(low + j));
            const __m256i wh = two ? _mm256_set1_epi32(pair_weights(high + j)) : wl;
            for (int i = 0; i < 4; i++) {
                a[i] = _mm256_add_epi32(a[i], _mm256_madd_epi16(px[i], wl));
                if (two) b[i] = _mm256_add_epi32(b[i], _mm256_madd_epi16(px[i], wh));
            }
        }
        for (int i = 0; i < 4; i++) {
            if (two) a[i] = _mm256_add_epi32(a[i], _mm256_slli_epi32(b[i], HALF));
            a[i] = _mm256_sra_epi32(a[i], shift);
        }
        const __m256i v = _mm256_packus_epi16(_mm256_packs_epi32(a[0], a[1]), _mm256_packs_epi32(a[2], a[3]));
        _mm256_storeu_si256((__m256i *)(void *)(to + x), v);
    }
    down_rest(to, first, n, t, o, x);
}

static AVX2 void down_avx2(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o)
{
    if (t->high)
        down_row(to, first, n, t, o, true);
    else
        down_row(to, first, n, t, o, false);
}

/* Blocks of 16 output bytes whose taps start within 64 input bytes: one permutation of 64 bytes picks a pair of taps
 * for all 16, and the same one, 6 bytes further on, the next pair. */
struct image_blocks {
    int n, pairs;        /* pairs kept per block */
    int *base, *used;    /* first byte of the input; pairs in use */
    uint8_t *index;      /* [n][64] */
    int16_t *low, *high; /* [n][pairs][32] */
};

static void fill_block(struct image_blocks *k, int b, const image_taps *t)
{
    const int first = t->lo[16 * b / 3];
    k->base[b] = 3 * first;
    for (int q = 0; q < 16 && 16 * b + q < 3 * t->n_out; q++) {
        const int o = (16 * b + q) / 3, c = (16 * b + q) % 3, start = (t->lo[o] - first) * 3 + c;
        k->index[64 * b + 4 * q] = (uint8_t)start;
        k->index[64 * b + 4 * q + 2] = (uint8_t)(start + 3);
        if ((t->count[o] + 1) / 2 > k->used[b]) k->used[b] = (t->count[o] + 1) / 2;
        for (int j = 0; j < t->width; j++) {
            const size_t to = ((size_t)b * (size_t)k->pairs + (size_t)j / 2) * 32 + (size_t)(2 * q + j % 2);
            const size_t at = (size_t)o * (size_t)t->width + (size_t)j;
            k->low[to] = t->low[at];
            if (t->high) k->high[to] = t->high[at];
        }
    }
}

static void prepare_blocks(image_taps *t)
{
    const int n = (3 * t->n_out + 15) / 16, pairs = t->width / 2;
    for (int b = 0; b < n; b++) {
        int last = (16 * b + 15) / 3;
        if (last >= t->n_out) last = t->n_out - 1;
        if ((t->lo[last] - t->lo[16 * b / 3]) * 3 + 6 > 64) return;
    }
    const size_t weights = (size_t)n * (size_t)pairs * 32;
    struct image_blocks *k = calloc(1, sizeof *k + (size_t)n * (2 * sizeof(int) + 64) + 2 * weights * sizeof(int16_t));
    if (!k) return;
    k->n = n;
    k->pairs = pairs;
    k->low = (int16_t *)(void *)(k + 1);
    k->high = k->low + weights;
    k->base = (int *)(void *)(k->high + weights);
    k->used = k->base + n;
    k->index = (uint8_t *)(k->used + n);
    for (int b = 0; b < n; b++) fill_block(k, b, t);
    t->blocks = k;
}

enum { ROWS = 4 };

INLINE AVX512 void across_blocks(uint8_t *to, size_t to_pitch, const uint8_t *from, size_t from_pitch, int rows,
                                 const image_taps *t, bool two)
{
    const struct image_blocks *k = t->blocks;
    const __m512i half = _mm512_set1_epi32(1 << (t->shift - 1));
    const __m128i shift = _mm_cvtsi32_si128(t->shift);
    const __mmask64 even = 0x5555555555555555u; /* the high byte of each 16 bits is 0 */
    for (int i = 0; i < k->n; i++) {
        const __m512i index = _mm512_loadu_si512(k->index + 64 * (size_t)i);
        const size_t at = (size_t)i * (size_t)k->pairs * 32;
        const int left = 3 * t->n_out - 16 * i;
        const __mmask16 keep = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        __m512i a[ROWS], b[ROWS];
        for (int r = 0; r < ROWS; r++) a[r] = half, b[r] = _mm512_setzero_si512();
        for (int j = 0; j < k->used[i]; j++) {
            const uint8_t *p = from + k->base[i] + 6 * j;
            const __m512i wl = _mm512_loadu_si512(k->low + at + 32 * (size_t)j);
            const __m512i wh = two ? _mm512_loadu_si512(k->high + at + 32 * (size_t)j) : wl;
            for (int r = 0; r < ROWS; r++) {
                if (r >= rows) continue;
                const __m512i px =
                    _mm512_maskz_permutexvar_epi8(even, index, _mm512_loadu_si512(p + (size_t)r * from_pitch));
                a[r] = _mm512_dpwssd_epi32(a[r], px, wl);
                if (two) b[r] = _mm512_dpwssd_epi32(b[r], px, wh);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            if (r >= rows) continue;
            if (two) a[r] = _mm512_add_epi32(a[r], _mm512_slli_epi32(b[r], HALF));
            const __m512i v = _mm512_max_epi32(_mm512_sra_epi32(a[r], shift), _mm512_setzero_si512());
            _mm_mask_storeu_epi8(to + (size_t)r * to_pitch + 16 * (size_t)i, keep, _mm512_cvtusepi32_epi8(v));
        }
    }
}

static AVX512 void across_avx512(uint8_t *to, size_t to_pitch, const uint8_t *from, size_t from_pitch, int rows,
                                 const image_taps *t)
{
    if (!t->blocks) {
        across_avx2(to, to_pitch, from, from_pitch, rows, t);
    } else if (rows == ROWS) { /* a constant, so that the sums stay in registers */
        if (t->high)
            across_blocks(to, to_pitch, from, from_pitch, ROWS, t, true);
        else
            across_blocks(to, to_pitch, from, from_pitch, ROWS, t, false);
    } else {
        for (int r = 0; r < rows; r++, to += to_pitch, from += from_pitch) {
            if (t->high)
                across_blocks(to, to_pitch, from, from_pitch, 1, t, true);
            else
                across_blocks(to, to_pitch, from, from_pitch, 1, t, false);
        }
    }
}

INLINE AVX512 void down_row_wide(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o, bool two)
{
    const size_t at = (size_t)o * (size_t)t->width;
    const int16_t *low = t->low + at, *high = two ? t->high + at : NULL;
    const int count = t->count[o];
    const __m512i half = _mm512_set1_epi32(1 << (t->shift - 1)), zero = _mm512_setzero_si512();
    const __m128i shift = _mm_cvtsi32_si128(t->shift);
    for (size_t x = 0; x < n; x += 64) {
        const __mmask64 keep = n - x >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - x)) - 1;
        __m512i a[4], b[4];
        for (int i = 0; i < 4; i++) a[i] = half, b[i] = zero;
        for (int j = 0; j < count; j += 2) {
            const uint8_t *p = first + (size_t)j * n + x, *q = j + 1 < count ? p + n : p; /* weight 0 past the last */
            const __m512i u = _mm512_maskz_loadu_epi8(keep, p), v = _mm512_maskz_loadu_epi8(keep, q);
            const __m512i l = _mm512_unpacklo_epi8(u, v), h = _mm512_unpackhi_epi8(u, v);
            const __m512i px[4] = {_mm512_unpacklo_epi8(l, zero), _mm512_unpackhi_epi8(l, zero),
                                   _mm512_unpacklo_epi8(h, zero), _mm512_unpackhi_epi8(h, zero)};
            const __m512i wl = _mm512_set1_epi32(pair_weights(low + j));
            const __m512i wh = two ? _mm512_set1_epi32(pair_weights(high + j)) : wl;
            for (int i = 0; i < 4; i++) {
                a[i] = _mm512_dpwssd_epi32(a[i], px[i], wl);
                if (two) b[i] = _mm512_dpwssd_epi32(b[i], px[i], wh);
            }
        }
        for (int i = 0; i < 4; i++) {
            if (two) a[i] = _mm512_add_epi32(a[i], _mm512_slli_epi32(b[i], HALF));
            a[i] = _mm512_sra_epi32(a[i], shift);
        }
        const __m512i v = _mm512_packus_epi16(_mm512_packs_epi32(a[0], a[1]), _mm512_packs_epi32(a[2], a[3]));
        _mm512_mask_storeu_epi8(to + x, keep, v);
    }
}

static AVX512 void down_avx512(uint8_t *to, const uint8_t *first, size_t n, const image_taps *t, int o)
{
    if (t->high)
        down_row_wide(to, first, n, t, o, true);
    else
        down_row_wide(to, first, n, t, o, false);
}

static const image_rows avx2 = {"avx2", 1, across_avx2, down_avx2, NULL};
static const image_rows avx512 = {"avx512", ROWS, across_avx512, down_avx512, prepare_blocks};
#endif

const image_rows *image_rows_find(const char *isa)
{
#if defined(__x86_64__) && defined(__GNUC__)
    const bool wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
    if (wide && (!*isa || strcmp(isa, "avx512") == 0)) return &avx512;
    if (__builtin_cpu_supports("avx2") && (!*isa || strcmp(isa, "avx2") == 0)) return &avx2;
#endif
    return !*isa || strcmp(isa, "generic") == 0 ? &generic : NULL;
}
