#include "core/rng.h"

#include <math.h>

/* Philox 4x32 with 10 rounds: 4 counter words, 2 key words per round (multipliers and Weyl constants of the paper). */
static void philox(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    for (int r = 0; r < 10; r++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

rng_key rng_make_key(uint64_t seed, rng_purpose purpose, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    const uint64_t part[6] = {seed, (uint64_t)purpose, a, b, c, d};
    rng_key k = {{0x243F6A88u, 0x85A308D3u, 0x13198A2Eu, 0x03707344u}};
    for (int i = 0; i < 6; i++) { /* absorb one part per permutation; the state is the counter, the part is the key */
        philox(k.w, (uint32_t)part[i], (uint32_t)(part[i] >> 32));
        k.w[3] ^= (uint32_t)i + 1;
    }
    return k;
}

void rng_words(rng_key k, uint64_t n, uint32_t out[4])
{
    out[0] = (uint32_t)n;
    out[1] = (uint32_t)(n >> 32);
    out[2] = k.w[2];
    out[3] = k.w[3];
    philox(out, k.w[0], k.w[1]);
}

uint32_t rng_u32(rng_key k, uint64_t n)
{
    uint32_t w[4];
    rng_words(k, n / 4, w);
    return w[n % 4];
}

static float unit(uint32_t w) { return ((float)(w >> 9) + 0.5f) * 0x1p-23f; }

float rng_uniform(rng_key k, uint64_t n) { return unit(rng_u32(k, n)); }

float rng_normal(rng_key k, uint64_t n)
{
    double u = rng_uniform(k, 2 * n), v = rng_uniform(k, 2 * n + 1);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

uint32_t rng_below(rng_key k, uint64_t n, uint32_t bound)
{
    return (uint32_t)(((uint64_t)rng_u32(k, n) * bound) >> 32);
}

uint32_t rng_next_below(rng *r, uint32_t bound) { return rng_below(r->key, r->at++, bound); }
float rng_next(rng *r) { return rng_uniform(r->key, r->at++); }
