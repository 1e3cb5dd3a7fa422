/* Programs that must work, where namespaces are to be had. */
#include "tests/common/hostile.h"

int main(int argc, char **argv) { return honest_main(argc, argv, BOX_T1); }
