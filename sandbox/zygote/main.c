/* codedance-zygote: started by the supervisor only. */
#include <string.h>
#include <sys/prctl.h>

#include "sandbox/protocol.h"

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "@zygote") != 0 || wire_inherit(argv[2])) return 2;
    prctl(PR_SET_NAME, "box-zygote"); /* it was exec'ed by descriptor, which is no name */
    return zygote_main(WIRE_INHERITED);
}
