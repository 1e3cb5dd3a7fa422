/* The Unicode the tokenizer needs: UTF-8, letters, numbers, white space, and NFC. Tables: unicode_tables.c (generated).
 */
#ifndef DATA_UNICODE_H
#define DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum unicode_kind { UNICODE_OTHER, UNICODE_LETTER, UNICODE_NUMBER, UNICODE_SPACE } unicode_kind;

/* One code point from s[0..n): its bytes, 1..4, or 0 if the text is not valid UTF-8 here (or n is 0). */
int unicode_next(const char *s, size_t n, uint32_t *cp);
/* Writes a code point as UTF-8, returns the bytes (1..4). */
int unicode_put(uint32_t cp, char to[4]);
bool unicode_valid(const char *s, size_t n);
/* A byte for each of the 0x110000 code points: the kind (general category L* and N*, property White_Space) in the two
 * low bits, UNICODE_MARK: combining class not 0, UNICODE_COMPOSES: may be different in NFC or compose with what is
 * before. malloc'ed; NULL: out of memory. */
enum { UNICODE_KIND = 3, UNICODE_MARK = 4, UNICODE_COMPOSES = 8 };
uint8_t *unicode_points(void);
/* False: not valid UTF-8. *normal: surely in NFC. */
bool unicode_scan(const uint8_t *points, const char *s, size_t n, bool *normal);
/* Bytes at the end of s that begin a character which more bytes may complete: 0..3. */
size_t unicode_unfinished(const char *s, size_t n);
/* NFC of valid UTF-8 as a malloc'ed text; NULL when s is surely in NFC already (nothing to do). */
char *unicode_nfc(const char *s, size_t n, size_t *out_n);
/* Valid, NUL-terminated copy; every maximal invalid part becomes U+FFFD (as Python's errors="replace"). malloc'ed;
 * out_n: its bytes, may be NULL. */
char *unicode_repair(const char *s, size_t n, size_t *out_n);

/* Rows of three, sorted: (first, last, value), (first, last, class); (whole, first, second), (first, second, whole). */
extern const uint32_t unicode_kinds[], unicode_combining[], unicode_decompose[], unicode_compose[];
extern const int unicode_kinds_n, unicode_combining_n, unicode_decompose_n, unicode_compose_n;

#endif
