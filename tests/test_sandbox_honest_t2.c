/* Programs that must work, and what they are told where it cannot be, with Landlock and the system-call filter only. */
#include <stdio.h>

#include "tests/common/hostile.h"

int main(int argc, char **argv)
{
    if (hostile_deny_namespaces()) {
        printf("SKIP: no system-call filters\n");
        return 77;
    }
    return honest_main(argc, argv, BOX_T2);
}
