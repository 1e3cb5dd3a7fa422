#include "data/hash.h"

#include <stdio.h>
#include <string.h>

static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

static uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }
static uint64_t turn(uint64_t lane, uint64_t in) { return rotl(lane + in * P2, 31) * P1; }

static uint64_t read64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8); /* little-endian machines only, like the shards */
    return v;
}

static void stripe(uint64_t lane[4], const uint8_t *p)
{
    for (int i = 0; i < 4; i++) lane[i] = turn(lane[i], read64(p + 8 * i));
}

void hash_begin(hash_stream *s, uint64_t seed)
{
    *s = (hash_stream){{seed + P1 + P2, seed + P2, seed, seed - P1}, 0, seed, {0}};
}

void hash_more(hash_stream *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t held = s->total % 32;
    s->total += n;
    if (held) {
        size_t take = n < 32 - held ? n : 32 - held;
        memcpy(s->rest + held, p, take);
        p += take, n -= take;
        if (held + take < 32) return;
        stripe(s->lane, s->rest);
    }
    for (; n >= 32; p += 32, n -= 32) stripe(s->lane, p);
    if (n) memcpy(s->rest, p, n);
}

uint64_t hash_end(const hash_stream *s)
{
    uint64_t h = s->seed + P5;
    if (s->total >= 32) {
        h = rotl(s->lane[0], 1) + rotl(s->lane[1], 7) + rotl(s->lane[2], 12) + rotl(s->lane[3], 18);
        for (int i = 0; i < 4; i++) h = (h ^ turn(0, s->lane[i])) * P1 + P4;
    }
    h += s->total;
    const uint8_t *p = s->rest;
    size_t n = s->total % 32;
    for (; n >= 8; p += 8, n -= 8) h = rotl(h ^ turn(0, read64(p)), 27) * P1 + P4;
    if (n >= 4) {
        uint32_t v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        h = rotl(h ^ v * P1, 23) * P2 + P3;
        p += 4, n -= 4;
    }
    for (; n; p++, n--) h = rotl(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed)
{
    hash_stream s;
    hash_begin(&s, seed);
    hash_more(&s, p, n);
    return hash_end(&s);
}

hash128 hash_content(const void *p, size_t n) { return (hash128){{hash_bytes(p, n, 0), hash_bytes(p, n, P1)}}; }

void hash_hex(hash128 h, char out[HASH_HEX])
{
    snprintf(out, HASH_HEX, "%016llx%016llx", (unsigned long long)h.w[0], (unsigned long long)h.w[1]);
}
