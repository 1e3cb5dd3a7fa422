/* Time and where it went. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include <stdint.h>

double clock_now(void); /* seconds, monotonic */

/* Phases of a step; name table is generated from the same list. */
#define PHASES(X)                                                                                               \
    X(DATA, "data")                                                                                             \
    X(VISION, "vision") X(PREFILL, "prefill") X(DECODE, "decode") X(TOOL_WAIT, "tool wait") X(REWARD, "reward") \
        X(FORWARD, "forward") X(BACKWARD, "backward") X(CHECK_LOGP, "log-prob check") X(REDUCE, "reduce")       \
            X(OPTIMIZER, "optimizer") X(EVAL, "eval") X(CHECKPOINT, "checkpoint")
typedef enum phase {
#define PHASE_ENUM(id, name) PHASE_##id,
    PHASES(PHASE_ENUM)
#undef PHASE_ENUM
        PHASE_COUNT
} phase;
const char *phase_name(phase p);

/* Adds seconds to a phase of the table. Main thread only. */
typedef struct spans {
    double sec[PHASE_COUNT];
    double since;
} spans;
void spans_reset(spans *s);
/* Usage: double t = clock_now(); ...; t = spans_add(s, PHASE_DECODE, t);  returns now. s may be NULL. */
double spans_add(spans *s, phase p, double since);

#endif
