/* metrics.jsonl (one object per step), TensorBoard events beside it, and the console line. */
#ifndef RL_METRICS_H
#define RL_METRICS_H

#include <stdint.h>

#include "core/status.h"

typedef struct metrics metrics;
/* Appends to dir/metrics.jsonl, dropping lines of steps >= resume_step of `stage` and later stages first (a killed run
 * may have logged past its checkpoint). rank != 0: everything below is a no-op. */
status metrics_open(metrics **out, const char *dir, int rank, const char *stage, int64_t resume_step);
void metrics_num(metrics *m, const char *name, double value); /* NaN is written as null */
void metrics_str(metrics *m, const char *name, const char *value);
status metrics_step(metrics *m, const char *stage, int64_t step); /* writes the line, flushes */
void metrics_close(metrics *m);

#endif
