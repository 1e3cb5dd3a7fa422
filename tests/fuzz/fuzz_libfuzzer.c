/* What libFuzzer calls; FUZZ_ENTRY is the entry of this program. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    (void)FUZZ_ENTRY(data, n);
    return 0;
}
