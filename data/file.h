/* Small whole files: read, written atomically, copied. */
#ifndef DATA_FILE_H
#define DATA_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

/* dir/name into out[cap]; ST_EINVAL when it doesn't fit. */
status file_join(char *out, size_t cap, const char *dir, const char *name);
bool file_exists(const char *dir, const char *name);
enum { FILE_MAX_BYTES = 1 << 30 };
/* malloc'ed bytes, NUL after them (not counted in n); caller frees. ST_EINVAL beyond FILE_MAX_BYTES. */
status file_read(const char *path, char **out, size_t *n);
/* Temporary name, fsync, rename: a reader sees the old content or the new, never a part. */
status file_write(const char *path, const void *bytes, size_t n);
status file_copy(const char *from_dir, const char *to_dir, const char *name);
/* The directory and its parents. */
status file_make_dir(const char *dir);
bool file_same(const char *a, const char *b); /* two names of one existing file or directory */

#endif
