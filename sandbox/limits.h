/* What a pool may ask for, for both sides of the socket: the client for a message in good time, boxd because the client
 * of a daemon is not to be trusted. */
#ifndef SANDBOX_LIMITS_H
#define SANDBOX_LIMITS_H

#include "sandbox/wire.h"

/* Every number of p within its range, and not above the ceiling's (NULL: no ceiling). ST_EINVAL names the key. */
status limits_check(const wire_pool *p, const wire_pool *ceiling);

/* Strings that follow a wire_pool, see sandbox/protocol.h. NULL: malformed. */
enum { LIMITS_PRESET = 1, LIMITS_PYTHON };
const char *limits_strings(const char *strings, size_t n, int which);

#endif
