/* HDF5 shards: rows as zstd-compressed JSON (filter 32015), pictures once by content hash in their compressed form,
 * optional cached views (resized pixels) for one image processor. Written to a temporary name, closed, fsynced,
 * renamed.
 *
 *   /rows        u8[...]  concatenated JSON lines, chunked, zstd     /row_offset   u64[n+1]
 *   /image       u8[...]  concatenated PNG/JPEG bytes, contiguous    /image_offset u64[m+1]   /image_hash u64[m,2]
 *   /view        u8[...]  RGB bytes, chunked, zstd                   /view_offset  u64[m+1]   /view_size i32[m,4]
 * (w,h,orig w,h) attributes: format = "codedance-1", processor = hash of the image processor (0: no views), checksum =
 * XXH3/CRC of the parts */
#ifndef DATA_SHARD_H
#define DATA_SHARD_H

#include <stdbool.h>

#include "core/status.h"
#include "data/image.h"

/* Packs a JSONL file with its images into dir/shard_%05d.h5. views: also cache resized pixels for p. keep_original:
 * false drops the picture bytes (SFT-only shards; tools could then not see the picture: rollout refuses such a shard).
 * rows_per_shard > 0. Every error names file:line. ST_EUNAVAIL without HDF5. */
typedef struct shard_opts {
    const image_processor *p;
    bool views, keep_original;
    int rows_per_shard;
    int threads; /* 0: every CPU; the result doesn't depend on it */
    bool progress;
} shard_opts;
status shard_import(const char *jsonl, const char *dir, const shard_opts *o);

/* Reader of one shard; dataset.c is its user. All ranges are checked against the file: damage is ST_ECORRUPT. */
typedef struct shard shard;
status shard_open(shard **out, const char *path);
void shard_close(shard *s);
int64_t shard_rows(const shard *s);
status shard_row(shard *s, int64_t i, char **text, size_t *n);  /* malloc'ed */
int64_t shard_find_image(const shard *s, const char *hash_hex); /* -1 when absent */
status shard_image_bytes(shard *s, int64_t i, uint8_t **bytes, size_t *n);
uint64_t shard_processor(const shard *s);
status shard_view(shard *s, int64_t i, image *out, int *orig_w, int *orig_h);
/* Reads the whole file and compares checksums. */
status shard_verify(shard *s);

/* The zstd filter (32015), registered in process; also built as a plug-in for h5py and h5dump. */
status shard_register_zstd(void);

#endif
