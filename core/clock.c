#include "core/clock.h"

#include <string.h>
#include <time.h>

double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *phase_name(phase p)
{
    static const char *const names[] = {
#define PHASE_NAME(id, name) name,
        PHASES(PHASE_NAME)
#undef PHASE_NAME
    };
    return names[p];
}

void spans_reset(spans *s)
{
    memset(s, 0, sizeof *s);
    s->since = clock_now();
}

double spans_add(spans *s, phase p, double since)
{
    double now = clock_now();
    if (s) s->sec[p] += now - since;
    return now;
}
