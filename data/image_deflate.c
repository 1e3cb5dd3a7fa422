/* A deflate encoder (RFC 1951 in the zlib form of RFC 1950) for drawn pictures: flat areas, rows like the row above. It
 * looks for repeats in two places only, the byte before and the row above, and takes a row given several times as one
 * long match; so its work follows the rows that differ, where zlib's follows all bytes. */
#include "data/image_codec.h"

#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_TOKENS = 1 << 14, /* in one Huffman block */
    MATCH_MIN = 3,
    MATCH_MAX = 258,
    FAR = 32768, /* the longest distance */
    LITERALS = 286,
    DISTANCES = 30,
    LENGTH_CODES = 19,
    END_OF_BLOCK = 256,
    ADLER = 65521
};

typedef struct token {
    uint16_t length, value; /* a match of this length at distance value; length 0: the byte value */
} token;

struct image_deflate {
    size_t n, last_n; /* bytes of a row; of the row before: 0 or n */
    uint8_t *last;
    int n_token;
    token token[BLOCK_TOKENS];
    uint32_t literal_count[LITERALS], distance_count[DISTANCES];
    uint32_t adler_a, adler_b;
    uint64_t bits; /* not yet in out, lowest first */
    int n_bits;
    uint8_t *out;
    size_t at, cap;
};

typedef struct code {
    uint8_t length[LITERALS];
    uint16_t bits[LITERALS]; /* first bit lowest */
} code;

/* Lengths and distances share a form: the top `keep` bits choose the code, the rest follow as they are. */
static int slot(unsigned v, int keep, int *extra)
{
    int e = v >> keep ? 31 - __builtin_clz(v) - (keep - 1) : 0;
    *extra = e;
    return (e << (keep - 1)) + (int)(v >> e);
}

static int length_slot(int length, int *extra)
{
    if (length == MATCH_MAX) return *extra = 0, LITERALS - 1;
    return END_OF_BLOCK + 1 + slot((unsigned)length - MATCH_MIN, 3, extra);
}

static int distance_slot(int distance, int *extra) { return slot((unsigned)distance - 1, 2, extra); }

/* Of the first n nodes without a parent. */
static int lightest(const uint64_t *weight, const int *parent, int n)
{
    int best = 0;
    while (best < n - 1 && parent[best] >= 0) best++;
    for (int i = best + 1; i < n; i++)
        if (parent[i] < 0 && weight[i] < weight[best]) best = i;
    return best;
}

/* Huffman code lengths of n symbols, at most `most`; a tree that is too deep is made again from flatter counts. */
static void find_lengths(uint8_t *length, const uint32_t *count, int n, int most)
{
    uint64_t weight[2 * LITERALS];
    int symbol[LITERALS], parent[2 * LITERALS], depth[2 * LITERALS], m = 0, deepest;
    memset(length, 0, (size_t)n);
    for (int i = 0; i < n; i++)
        if (count[i]) weight[m] = count[i], symbol[m++] = i;
    if (m == 1) length[symbol[0]] = 1;
    if (m < 2) return;
    do {
        for (int i = 0; i < 2 * m - 1; i++) parent[i] = -1;
        for (int k = m; k < 2 * m - 1; k++) {
            weight[k] = 0;
            for (int child = 0; child < 2; child++) {
                int a = lightest(weight, parent, k);
                weight[k] += weight[a];
                parent[a] = k;
            }
        }
        depth[2 * m - 2] = deepest = 0;
        for (int i = 2 * m - 3; i >= 0; i--) {
            depth[i] = depth[parent[i]] + 1;
            if (depth[i] > deepest) deepest = depth[i];
        }
        for (int i = 0; i < m; i++) {
            length[symbol[i]] = (uint8_t)depth[i];
            weight[i] = (weight[i] + 1) / 2;
        }
    } while (deepest > most);
}

static void make_code(code *c, const uint32_t *count, int n, int most)
{
    unsigned next = 0;
    find_lengths(c->length, count, n, most);
    for (int length = 1; length <= most; length++, next <<= 1)
        for (int i = 0; i < n; i++) {
            if (c->length[i] != length) continue;
            unsigned turned = 0;
            for (int k = 0; k < length; k++) turned |= (next >> k & 1) << (length - 1 - k);
            c->bits[i] = (uint16_t)turned;
            next++;
        }
}

/* n <= 32; room was made by the caller. */
static void put_bits(image_deflate *d, unsigned v, int n)
{
    d->bits |= (uint64_t)v << d->n_bits;
    d->n_bits += n;
    for (; d->n_bits >= 8; d->n_bits -= 8, d->bits >>= 8) d->out[d->at++] = (uint8_t)d->bits;
}

static void put_symbol(image_deflate *d, const code *c, int symbol) { put_bits(d, c->bits[symbol], c->length[symbol]); }

static void put_codes(image_deflate *d, const code *literal, const code *distance)
{
    static const uint8_t order[LENGTH_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    code lengths;
    uint32_t count[LENGTH_CODES] = {0};
    for (int i = 0; i < LITERALS; i++) count[literal->length[i]]++;
    for (int i = 0; i < DISTANCES; i++) count[distance->length[i]]++;
    make_code(&lengths, count, LENGTH_CODES, 7);
    put_bits(d, LITERALS - 257, 5);
    put_bits(d, DISTANCES - 1, 5);
    put_bits(d, LENGTH_CODES - 4, 4);
    for (int i = 0; i < LENGTH_CODES; i++) put_bits(d, lengths.length[order[i]], 3);
    for (int i = 0; i < LITERALS; i++) put_symbol(d, &lengths, literal->length[i]);
    for (int i = 0; i < DISTANCES; i++) put_symbol(d, &lengths, distance->length[i]);
}

static status put_block(image_deflate *d, bool last)
{
    size_t room = d->at + (size_t)d->n_token * 6 + 512; /* a match takes up to 48 bits, the codes 2300 */
    if (room > d->cap) {
        uint8_t *grown = realloc(d->out, room + room / 2);
        if (!grown) return FAIL(ST_ENOMEM, "out of memory for a compressed picture");
        d->out = grown, d->cap = room + room / 2;
    }
    code literal, distance;
    d->literal_count[END_OF_BLOCK]++;
    make_code(&literal, d->literal_count, LITERALS, 15);
    make_code(&distance, d->distance_count, DISTANCES, 15);
    put_bits(d, last, 1);
    put_bits(d, 2, 2); /* codes of its own */
    put_codes(d, &literal, &distance);
    for (const token *t = d->token; t < d->token + d->n_token; t++) {
        if (!t->length) {
            put_symbol(d, &literal, t->value);
            continue;
        }
        int extra, s = length_slot(t->length, &extra);
        put_symbol(d, &literal, s);
        put_bits(d, (unsigned)(t->length - MATCH_MIN) & ((1u << extra) - 1), extra);
        s = distance_slot(t->value, &extra);
        put_symbol(d, &distance, s);
        put_bits(d, (unsigned)(t->value - 1) & ((1u << extra) - 1), extra);
    }
    put_symbol(d, &literal, END_OF_BLOCK);
    d->n_token = 0;
    memset(d->literal_count, 0, sizeof d->literal_count);
    memset(d->distance_count, 0, sizeof d->distance_count);
    return ST_OK;
}

static status add(image_deflate *d, int length, int value)
{
    int extra;
    if (d->n_token == BLOCK_TOKENS) TRY(put_block(d, false));
    d->literal_count[length ? length_slot(length, &extra) : value]++;
    if (length) d->distance_count[distance_slot(value, &extra)]++;
    d->token[d->n_token++] = (token){(uint16_t)length, (uint16_t)value};
    return ST_OK;
}

static int equal_bytes(const uint8_t *a, const uint8_t *b, size_t most)
{
    int n = 0, limit = most < MATCH_MAX ? (int)most : MATCH_MAX;
    while (n < limit && a[n] == b[n]) n++;
    return n;
}

static status add_row(image_deflate *d, const uint8_t *row)
{
    for (size_t i = 0; i < d->n;) {
        int run = i ? equal_bytes(row + i, row + i - 1, d->n - i) : 0;
        int above = d->last_n && d->n <= FAR ? equal_bytes(row + i, d->last + i, d->n - i) : 0;
        int length = run >= above ? run : above;
        if (length < MATCH_MIN) {
            TRY(add(d, 0, row[i++]));
        } else {
            TRY(add(d, length, run >= above ? 1 : (int)d->n));
            i += (size_t)length;
        }
    }
    memcpy(d->last, row, d->n);
    d->last_n = d->n;
    return ST_OK;
}

/* The row before, again and again: n bytes back, `left` bytes long. */
static status add_repeat(image_deflate *d, size_t left)
{
    while (left) {
        size_t length = left < MATCH_MAX ? left : MATCH_MAX;
        if (left > length && left - length < MATCH_MIN) length -= MATCH_MIN;
        TRY(add(d, (int)length, (int)d->n));
        left -= length;
    }
    return ST_OK;
}

status image_deflate_rows(image_deflate *d, const uint8_t *row, int times)
{
    CHECK(times > 0);
    uint64_t sum = 0, rising = 0;
    for (size_t i = 0; i < d->n; i++) sum += row[i];
    for (size_t i = 0; i < d->n; i++) rising += (uint32_t)(d->n - i) * row[i];
    for (int k = 0; k < times; k++) {
        d->adler_b = (uint32_t)((d->adler_b + (uint64_t)d->n * d->adler_a + rising) % ADLER);
        d->adler_a = (uint32_t)((d->adler_a + sum) % ADLER);
    }
    bool repeat = d->n <= FAR && (uint64_t)d->n * (uint64_t)(times - 1) >= MATCH_MIN;
    for (int k = 0; k < (repeat ? 1 : times); k++) TRY(add_row(d, row));
    return repeat ? add_repeat(d, d->n * (size_t)(times - 1)) : ST_OK;
}

status image_deflate_begin(image_deflate **out, size_t row_bytes)
{
    CHECK(row_bytes > 0 && row_bytes <= 2 * FAR);
    image_deflate *d = calloc(1, sizeof *d);
    if (d) d->last = malloc(row_bytes);
    if (d) d->out = malloc(2);
    if (!d || !d->last || !d->out) {
        image_deflate_free(d);
        return FAIL(ST_ENOMEM, "out of memory for a compressed picture");
    }
    d->n = row_bytes;
    d->adler_a = 1;
    d->out[0] = 0x78, d->out[1] = 0x01; /* 32 KiB window, fastest */
    d->at = d->cap = 2;
    *out = d;
    return ST_OK;
}

status image_deflate_end(image_deflate *d, const uint8_t **bytes, size_t *n)
{
    TRY(put_block(d, true));
    put_bits(d, 0, -d->n_bits & 7);
    for (int shift = 8; shift >= 0; shift -= 8) put_bits(d, d->adler_b >> shift & 255, 8);
    for (int shift = 8; shift >= 0; shift -= 8) put_bits(d, d->adler_a >> shift & 255, 8);
    *bytes = d->out, *n = d->at;
    return ST_OK;
}

void image_deflate_free(image_deflate *d)
{
    if (!d) return;
    free(d->last);
    free(d->out);
    free(d);
}
