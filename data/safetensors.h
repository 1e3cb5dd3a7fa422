/* safetensors files, mapped. */
#ifndef DATA_SAFETENSORS_H
#define DATA_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct st_file st_file;
typedef struct st_tensor {
    const char *name;
    char dtype[8];
    int ndim;
    int64_t shape[8];
    const void *data; /* in the mapped file, aligned to nothing; touching it maps pages */
    size_t bytes;
} st_tensor;
/* Strict validation (spec 9.2): any hole, overlap, duplicate or size mismatch is ST_EINVAL naming it. Memory: some 120
 * bytes for each tensor and the length of the header. Weights are not touched. */
status st_open(st_file **out, const char *path);
int st_count(const st_file *f);
const st_tensor *st_at(const st_file *f, int i);
const st_tensor *st_find(const st_file *f, const char *name);
const char *st_metadata(const st_file *f, const char *key); /* NULL when absent */
/* Copies bytes [at, at+n) of t, a tensor of f, by read: unlike touching data, a file that became shorter is an error and
 * the pages don't count as this process's memory. Thread-safe. */
status st_read(const st_file *f, const st_tensor *t, size_t at, void *buf, size_t n);
int st_dtype_bytes(const char *name); /* of one element; 0: no dtype of the format */
void st_close(st_file *f);

/* data NULL: the bytes come from fill, so that a big model is converted while it is written. */
typedef struct st_entry {
    const char *name;
    const char *dtype;
    int ndim;
    int64_t shape[8];
    const void *data;
    size_t bytes;
} st_entry;
/* Writes bytes [at, at+n) of entry i into buf. n is a multiple of 8 except at an entry's end. */
typedef status st_fill_fn(void *ctx, int i, size_t at, void *buf, size_t n);
/* Temporary name, fsync, rename. meta: key, value pairs ended by NULL (may be NULL); {"format":"pt"} is always written.
 */
status st_write(const char *path, const st_entry *e, int n, const char *const *meta);
status st_write_filled(const char *path, const st_entry *e, int n, const char *const *meta, st_fill_fn *fill,
                       void *ctx);

#endif
