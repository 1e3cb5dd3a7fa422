/* JSON as Python's json.dumps(x, ensure_ascii=False) writes it, which is what a chat template's tojson gives:
 * ", " and ": " between, keys in order, whole numbers as they are, others as repr(float). */
#ifndef DATA_PYJSON_H
#define DATA_PYJSON_H

#include "core/json.h"

/* Fresh NUL-terminated text of n bytes, valid JSON; the caller frees. ST_EINVAL: a number that can't be told to be a
 * whole one of more than 64 bits or a float. */
status pyjson_write(const json *j, char **text, size_t *n);

#endif
