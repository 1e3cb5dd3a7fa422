/* The hostile suite with every layer there is: root, or a user with control groups of his own. */
#include "tests/common/hostile.h"

int main(int argc, char **argv) { return hostile_main(argc, argv, BOX_T0); }
