/* Hugging Face model directories: config.json, weights in one safetensors file or in shards with an index, and the files
 * beside them. */
#ifndef DATA_HF_H
#define DATA_HF_H

#include "core/model.h"
#include "data/safetensors.h"

#define HF_SHARD_BYTES INT64_C(5000000000) /* of tensors in one file, as Hugging Face cuts them */

/* Reads dir/config.json. */
status hf_load_config(model_config *c, const char *dir);
/* Whether dir has model.safetensors or an index of shards. */
bool hf_source_exists(const char *dir);
/* Fills every tensor of the model from dir's weights: bf16, fp16 and fp32 to what the model stores; under any prefix
 * transformers has used. Missing, unexpected or mis-shaped tensors are errors naming them, found before anything is
 * written into the model. */
status hf_load_weights(model *m, const char *dir);

/* Writes the model into out_dir, made if need be, as dtype "fp32", "bf16" or "fp16": side files and config.json first,
 * then weights (an index last), each under a temporary name until it is complete. side_dir (may be NULL): where the
 * model came from; its side files are copied, and if its config.json says the same model, that text and the names of its
 * tensors are kept. A single file in out_dir is replaced. The model is in fp32. */
status hf_export(model *m, const char *side_dir, const char *out_dir, const char *dtype);

typedef struct hf_export_opts {
    const char *dtype;   /* NULL: of each tensor as it is; for a checkpoint, what the run started from */
    int64_t shard_bytes; /* 0: HF_SHARD_BYTES */
} hf_export_opts;
typedef struct hf_exported {
    int64_t params;
    const char *dtype; /* "fp32", "bf16", "fp16"; static */
} hf_exported;
/* The same from directory to directory, tensor by tensor, without the model in memory. `to` must not hold weights. */
status hf_convert(const char *from, const char *to, const hf_export_opts *o, hf_exported *out);

/* Parts of the above, for directories that are made of nothing (init). */
/* Byte for byte, those that exist: tokenizer, vocabulary, merges, processor, chat template, generation config. */
status hf_copy_side_files(const char *from_dir, const char *to_dir);
/* side_dir's config.json with torch_dtype in its place if it says this model (*carried), else one of our own. */
status hf_write_config(const char *side_dir, const char *out_dir, const model_config *c, const char *torch_dtype,
                       bool *carried);
/* "fp32", "bf16", "fp16" as safetensors and as torch say it: "BF16", "bfloat16"; NULL for others. */
const char *hf_stored_name(const char *dtype_name);
const char *hf_torch_name(const char *dtype_name);
/* n floats as dtype stored ("F32", "BF16", "F16"), round to nearest even; too large for fp16 gives infinity. */
void hf_store(const char *stored, void *out, const float *from, int64_t n);
/* One file, or shards of at most shard_bytes in the order given and then the index. fill as in st_write_filled. */
status hf_write_weights(const char *dir, const st_entry *e, int n, int64_t shard_bytes, const char *const *meta,
                        st_fill_fn *fill, void *ctx);

#endif
