/* A fresh directory per test program, removed at the end; and files in it. */
#ifndef TESTS_COMMON_TEMPDIR_H
#define TESTS_COMMON_TEMPDIR_H

#include <stddef.h>

/* Created on first use below TMPDIR or /tmp, removed with everything inside at exit. */
const char *tempdir(void);
/* printf-like path inside it; one of 16 rotating buffers. */
const char *temppath(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void temp_write(const char *path, const void *bytes, size_t n); /* makes missing folders */
void temp_text(const char *path, const char *text);
char *temp_read(const char *path, size_t *n); /* malloc'ed, NUL after it; fails the process when missing */
int temp_count(const char *dir);              /* entries but . and .., -1 when there is no such directory */
void temp_remove(const char *path);           /* recursively */

#endif
