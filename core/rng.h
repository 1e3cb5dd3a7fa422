/* Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
 * A number is a pure function of (key, counter): the key says WHAT is being decided (run seed, purpose, step, prompt,
 * sample, turn, position), never who decides it, so ranks, threads and arrival order can't change it. */
#ifndef CORE_RNG_H
#define CORE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rng_key {
    uint32_t w[4];
} rng_key;

typedef enum rng_purpose {
    RNG_INIT = 1,
    RNG_SAMPLE,
    RNG_SHUFFLE,
    RNG_SYNTH,
    RNG_SANDBOX,
    RNG_SPLIT,
    RNG_TEST
} rng_purpose;

/* Hashes the identity of a decision into a key: a chain of Philox rounds over the arguments. */
rng_key rng_make_key(uint64_t seed, rng_purpose purpose, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
/* Four 32-bit words of counter value n under key k. */
void rng_words(rng_key k, uint64_t n, uint32_t out[4]);
/* The n-th 32-bit word: word n%4 of counter n/4. */
uint32_t rng_u32(rng_key k, uint64_t n);
/* Uniform in (0,1): (word >> 9 + 0.5) * 2^-23: never 0, never 1, exact in fp32. */
float rng_uniform(rng_key k, uint64_t n);
/* Standard normal by Box-Muller from words 2n, 2n+1 (double math, so equal everywhere libm is correctly rounded
 * enough). */
float rng_normal(rng_key k, uint64_t n);
/* Uniform integer in [0, bound), bound >= 1, without modulo bias beyond 2^-32 (multiply-shift). */
uint32_t rng_below(rng_key k, uint64_t n, uint32_t bound);

/* Convenience for sequential code (scene generator, shuffles): a key and a position. */
typedef struct rng {
    rng_key key;
    uint64_t at;
} rng;
uint32_t rng_next_below(rng *r, uint32_t bound);
float rng_next(rng *r); /* uniform in (0,1) */

#ifdef __cplusplus
}
#endif
#endif
