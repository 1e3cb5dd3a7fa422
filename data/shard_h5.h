/* What the reader and the writer of shards share. Only shard*.c include HDF5. */
#ifndef DATA_SHARD_H5_H
#define DATA_SHARD_H5_H

#include "core/thread.h"
#include "data/hash.h"
#include "data/shard.h"

#define SHARD_FORMAT "codedance-1"
#define SHARD_UNAVAILABLE "not built with HDF5 (install libhdf5-dev and build again, or use the .jsonl file itself)"

/* The parts in the order of the checksum attribute; element size in bytes, elements per entry. */
#define SHARD_PARTS(X)                                                                              \
    X(ROWS, "rows", 1, 1)                                                                           \
    X(ROW_OFFSET, "row_offset", 8, 1) X(IMAGE, "image", 1, 1) X(IMAGE_OFFSET, "image_offset", 8, 1) \
        X(IMAGE_HASH, "image_hash", 8, 2) X(VIEW, "view", 1, 1) X(VIEW_OFFSET, "view_offset", 8, 1) \
            X(VIEW_SIZE, "view_size", 4, 4)
typedef enum shard_part {
#define SHARD_ENUM(id, name, size, per) SHARD_##id,
    SHARD_PARTS(SHARD_ENUM)
#undef SHARD_ENUM
        SHARD_PART_COUNT
} shard_part;
typedef struct shard_part_info {
    const char *name;
    int size, per;
} shard_part_info;
extern const shard_part_info shard_parts[SHARD_PART_COUNT];

enum {
    SHARD_CHUNK = 32 << 10,    /* one view of a small picture costs one or two chunks, a row one */
    SHARD_CHUNK_MAX = 1 << 20, /* what the reader accepts */
    SHARD_PIECE = 1 << 20,     /* bytes per read or write of a long part */
    SHARD_ROW_MAX = 16 << 20
};

/* Takes the lock around HDF5 (not every build of it is thread-safe), silences its own printing, registers the filter.
 */
status shard_lock(void);
void shard_unlock(void);
/* Wraps an HDF5 call: keeps HDF5's innermost reason when r < 0 (the next call, even a close, would wipe it), returns r.
 */
int64_t shard_seen(int64_t r);
/* The reason shard_seen kept last on this thread. */
const char *shard_reason(void);

/* A growing byte buffer; also used for tables of numbers. */
typedef struct shard_bytes {
    uint8_t *v;
    size_t n, cap;
} shard_bytes;
status shard_append(shard_bytes *b, const void *p, size_t n);
status shard_append_u64(shard_bytes *b, uint64_t v);

/* A picture of the shard being built: seen first in line `line` of the JSONL. */
typedef struct shard_picture {
    hash128 content, name;
    int64_t line;
    char *path;
    size_t n;
} shard_picture;

/* What goes into one file: rows as text with hashes for paths, and which pictures, but no pixels. */
typedef struct shard_content {
    const shard_opts *o;
    const char *jsonl; /* for messages */
    thread_pool *pool; /* reads the pictures */
    shard_bytes row, row_offset;
    int n_picture;
    shard_picture *picture;
} shard_content;
/* Writes, closes and syncs the file at path, picture by picture; on failure it is removed. Under the lock. */
status shard_write(const shard_content *c, const char *path);
status shard_sync(const char *path);

#endif
