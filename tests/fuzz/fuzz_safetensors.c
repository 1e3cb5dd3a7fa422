#include <string.h>

#include "data/safetensors.h"
#include "tests/fuzz/fuzz.h"

status fuzz_safetensors(const uint8_t *data, size_t n)
{
    st_file *f = NULL;
    TRY(st_open(&f, fuzz_file(data, n)));
    size_t bytes = 0;
    volatile uint8_t seen = 0;
    for (int i = 0; i < st_count(f); i++) {
        const st_tensor *t = st_at(f, i);
        const uint8_t *at = t->data;
        CHECK(st_find(f, t->name) == t && t->ndim <= 8);
        if (t->bytes) seen = at[0] ^ at[t->bytes - 1];
        bytes += t->bytes;
    }
    (void)seen;
    CHECK(bytes < n);
    const char *meta = st_metadata(f, "format");
    CHECK(!meta || strlen(meta) < n);
    st_close(f);
    return ST_OK;
}
