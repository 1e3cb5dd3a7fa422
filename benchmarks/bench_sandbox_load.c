/* Many trajectories alive at once: memory, queue and run times, and whether everything is as before when they are
 * closed. bench_sandbox_load [LIVE [full]]     JSON lines; exit status 1 if something is left or an answer is wrong */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"

int main(int argc, char **argv)
{
    int rc = bench_boot(argc, argv);
    if (rc >= 0) return rc;
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    box_opts o = bench_box_opts(argc > 2 && !strcmp(argv[2], "full"));
    o.max_live = n;
    return bench_load(&o, n, true) ? 0 : 1;
}
