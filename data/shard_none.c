/* The functions of shard.h in a build without HDF5. */
#include "data/shard_h5.h"

#ifndef HAVE_HDF5

status shard_register_zstd(void) { return FAIL(ST_EUNAVAIL, SHARD_UNAVAILABLE); }

status shard_import(const char *jsonl, const char *dir, const shard_opts *o)
{
    (void)dir, (void)o;
    return FAIL(ST_EUNAVAIL, "%s: " SHARD_UNAVAILABLE, jsonl);
}

status shard_open(shard **out, const char *path)
{
    (void)out;
    return FAIL(ST_EUNAVAIL, "%s: " SHARD_UNAVAILABLE, path);
}

/* No handle can exist in this build. */
void shard_close(shard *s) { CHECK(!s); }
int64_t shard_rows(const shard *s) { return CHECK(s), 0; }
uint64_t shard_processor(const shard *s) { return CHECK(s), 0; }
int64_t shard_find_image(const shard *s, const char *hash_hex) { return CHECK(s && hash_hex), -1; }

status shard_row(shard *s, int64_t i, char **text, size_t *n)
{
    (void)s, (void)i, (void)text, (void)n;
    return FAIL(ST_EUNAVAIL, SHARD_UNAVAILABLE);
}

status shard_image_bytes(shard *s, int64_t i, uint8_t **bytes, size_t *n)
{
    (void)s, (void)i, (void)bytes, (void)n;
    return FAIL(ST_EUNAVAIL, SHARD_UNAVAILABLE);
}

status shard_view(shard *s, int64_t i, image *out, int *orig_w, int *orig_h)
{
    (void)s, (void)i, (void)out, (void)orig_w, (void)orig_h;
    return FAIL(ST_EUNAVAIL, SHARD_UNAVAILABLE);
}

status shard_verify(shard *s)
{
    (void)s;
    return FAIL(ST_EUNAVAIL, SHARD_UNAVAILABLE);
}

#endif
