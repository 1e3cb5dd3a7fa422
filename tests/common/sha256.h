/* SHA-256 (FIPS 180-4): the name of a golden result. */
#ifndef TESTS_COMMON_SHA256_H
#define TESTS_COMMON_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* The first 8 bytes of the hash of data[n], in hex. */
void sha256_prefix(const void *data, size_t n, char hex[17]);

#endif
