/* What makes two runs of a box's code give the same bytes: a wall clock that stands still but for its readings and
 * random bytes that follow the box's seed. The functions of libc are defined anew in this program, so that Python and
 * every library it loads meet these. Clocks that waits and measurements need (monotonic, CPU time) stay true. */
#ifndef SANDBOX_REPEAT_H
#define SANDBOX_REPEAT_H

#include <stdint.h>

enum {
    REPEAT_EPOCH_S = 1767225600, /* 2026-01-01 00:00:00 UTC, where every box begins */
    REPEAT_STEP_NS = 1000000     /* added by each reading, so that a loop until some time ends; sleeps add themselves */
};

/* Puts the clock back and starts the random bytes of this seed. Until the first call all is libc's. */
void repeat_start(uint64_t seed);
/* A seed of its own for a child that fork() made since the last call, once; 0 elsewhere. */
uint64_t repeat_child_seed(void);

#endif
