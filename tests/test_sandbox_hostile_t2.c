/* The hostile suite where namespaces are forbidden as Docker does it, and the trainer runs as the same user as its
 * boxes: Landlock and the system-call filter are all there is between them. */
#include <stdio.h>

#include "tests/common/hostile.h"

int main(int argc, char **argv)
{
    if (hostile_drop_root() || hostile_deny_namespaces()) {
        printf("SKIP: root cannot be given up, or there are no system-call filters\n");
        return 77;
    }
    return hostile_main(argc, argv, BOX_T2);
}
