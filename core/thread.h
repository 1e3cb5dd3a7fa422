/* A pool for data-parallel loops whose result doesn't depend on the number of threads: each index is computed by
 * exactly one thread, in any order, and writes only its own outputs. */
#ifndef CORE_THREAD_H
#define CORE_THREAD_H

#include "core/status.h"

typedef struct thread_pool thread_pool;
typedef void thread_fn(void *ctx, int begin, int end, int thread); /* indices [begin,end); thread in [0, n) */

/* n threads in all, the caller included (n-1 are started; n = 1 starts none). Waiting threads spin ~20 us, then sleep.
 */
status thread_pool_create(thread_pool **out, int n);
int thread_pool_size(const thread_pool *p);
/* Calls fn on chunks of [0,n) of at least grain indices; returns when all are done. Not re-entrant. */
void thread_pool_for(thread_pool *p, int n, int grain, thread_fn *fn, void *ctx);
void thread_pool_destroy(thread_pool *p);

/* CPUs this process may use (affinity and cgroup quota respected). */
int thread_cpus(void);

#endif
