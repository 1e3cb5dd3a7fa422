/* XXH64 (Yann Collet's published algorithm): content names and checksums; not cryptographic. */
#ifndef DATA_HASH_H
#define DATA_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);

/* 128 bits as two seeds of the above: the identity of a picture's bytes. */
typedef struct hash128 {
    uint64_t w[2];
} hash128;
hash128 hash_content(const void *p, size_t n);
static inline bool hash_same(hash128 a, hash128 b) { return a.w[0] == b.w[0] && a.w[1] == b.w[1]; }
enum { HASH_HEX = 33 };
void hash_hex(hash128 h, char out[HASH_HEX]);

/* The same hash of bytes that arrive in pieces. */
typedef struct hash_stream {
    uint64_t lane[4], total, seed;
    uint8_t rest[32];
} hash_stream;
void hash_begin(hash_stream *s, uint64_t seed);
void hash_more(hash_stream *s, const void *p, size_t n);
uint64_t hash_end(const hash_stream *s);

#endif
