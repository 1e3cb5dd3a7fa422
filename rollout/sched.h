/* Which sequences the next forward pass feeds. Pure: numbers in, plan out.
 *
 * Items come in priority order (oldest identity first). An item may push younger residents out of the cache; what they
 * held is prefilled again later, with the same bits. The first runnable item may always evict everything behind it, so
 * the oldest work always moves and nothing deadlocks. */
#ifndef ROLLOUT_SCHED_H
#define ROLLOUT_SCHED_H

#include <stdbool.h>

#include "core/mrope.h"

typedef struct sched_item {
    int pending;            /* tokens known but not in the cache; 0: nothing to feed now */
    int n_token;            /* tokens in the cache, or shared with it at admission */
    bool resident;          /* holds blocks */
    bool tail_shared;       /* growing copies the last block first */
    int held;               /* blocks an eviction frees */
    int extra;              /* blocks wanted soon after the pending tokens (members that will start) */
    const mrope_image *run; /* image runs by position in the sequence: a run is never split over two passes */
    int n_run;
    int merge;
} sched_item;

typedef struct sched_limits {
    int seqs, prefill_rows, free_blocks;
} sched_limits;

enum { SCHED_EVICT = -1 };

/* plan[i] = rows of item i in the next pass (0: none), or SCHED_EVICT. Returns the number of items with rows. Single
 * rows count against seqs only, longer ones against prefill_rows too, which must hold the longest image run. */
int sched_plan(const sched_item *item, int n, const sched_limits *lim, int *plan);

/* New blocks for `rows` more tokens. */
int sched_need(const sched_item *it, int rows);

#endif
