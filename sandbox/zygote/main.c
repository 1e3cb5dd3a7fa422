/* codedance-zygote: started by the supervisor only. */
#include <malloc.h>
#include <string.h>
#include <sys/prctl.h>

#include "sandbox/protocol.h"

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "@zygote") != 0 || wire_inherit(argv[2])) return 2;
    prctl(PR_SET_NAME, "box-zygote"); /* it was exec'ed by descriptor, which is no name */
    /* Now and not later: malloc reads in /sys, which the jail hides, how large huge pages are. */
    mallopt(M_ARENA_MAX, 2);            /* each further arena would reserve 64 MiB of the address-space limit */
    mallopt(M_MMAP_THRESHOLD, 4 << 20); /* pictures and their arithmetic reuse pages instead of mapping new ones */
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    return zygote_main(WIRE_INHERITED);
}
