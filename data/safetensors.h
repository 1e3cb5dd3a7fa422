/* safetensors files and Hugging Face model directories (single file or sharded index), mmapped. */
#ifndef DATA_SAFETENSORS_H
#define DATA_SAFETENSORS_H

#include <stdint.h>

#include "core/model.h"
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

/* Fills every tensor of the model from a directory's model.safetensors or index; bf16/fp16/fp32 to fp32; accepts the
 * published and the 4.52+ prefixes. Missing, unexpected or mis-shaped tensors are errors naming them, found before
 * anything is written into the model. */
status hf_load_weights(model *m, const char *dir);
/* Reads dir/config.json. */
status hf_load_config(model_config *c, const char *dir);
/* Writes config.json and model.safetensors (dtype "f32" or "bf16") into out_dir, made if need be, and copies the side
 * files (hf_copy_side_files) of side_dir. A config.json in side_dir that says the same model and dtype is copied too.
 */
status hf_export(model *m, const char *side_dir, const char *out_dir, const char *dtype);
/* Byte for byte, those that exist: tokenizer, vocabulary, merges, processor, chat template, generation config. */
status hf_copy_side_files(const char *from_dir, const char *to_dir);

#endif
