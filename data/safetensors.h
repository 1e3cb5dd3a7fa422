/* safetensors files and Hugging Face model directories (single file or sharded index), mmapped. */
#ifndef DATA_SAFETENSORS_H
#define DATA_SAFETENSORS_H

#include <stdint.h>

#include "core/model.h"
#include "core/status.h"

typedef struct st_file st_file;
typedef struct st_tensor { const char *name; char dtype[8]; int ndim; int64_t shape[8]; const void *data; size_t bytes; } st_tensor;
/* Strict validation (spec 9.2): any hole, overlap, duplicate or size mismatch is ST_EINVAL naming it. */
status st_open(st_file **out, const char *path);
int st_count(const st_file *f);
const st_tensor *st_at(const st_file *f, int i);
const st_tensor *st_find(const st_file *f, const char *name);
const char *st_metadata(const st_file *f, const char *key); /* NULL when absent */
void st_close(st_file *f);

typedef struct st_entry { const char *name; const char *dtype; int ndim; int64_t shape[8]; const void *data; size_t bytes; } st_entry;
/* Temporary name, fsync, rename. meta: key, value pairs ended by NULL; {"format":"pt"} is always written. */
status st_write(const char *path, const st_entry *e, int n, const char *const *meta);

/* Fills every tensor of the model from a directory's model.safetensors or index; bf16/fp16/fp32 to fp32; accepts the
 * published and the 4.52+ prefixes. Missing, unexpected or mis-shaped tensors are errors naming them. */
status hf_load_weights(model *m, const char *dir);
/* Reads dir/config.json. */
status hf_load_config(model_config *c, const char *dir);
/* Writes config.json and model.safetensors (f32 or bf16) and copies the side files (tokenizer.json, tokenizer_config,
 * preprocessor_config, chat_template, generation_config, vocab, merges) that exist in side_dir byte for byte. */
status hf_export(model *m, const char *side_dir, const char *out_dir, const char *dtype);

#endif
