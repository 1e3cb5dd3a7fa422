/* The hostile suite as an ordinary user: namespaces, no control groups. */
#include <stdio.h>

#include "tests/common/hostile.h"

int main(int argc, char **argv)
{
    if (hostile_drop_root()) {
        printf("SKIP: root cannot be given up here\n");
        return 77;
    }
    return hostile_main(argc, argv, BOX_T1);
}
