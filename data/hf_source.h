/* The weight files of a Hugging Face directory and which of their tensors is which of a model's. Private to data: hf.c
 * reads them into a model, hf_export.c writes them again. */
#ifndef DATA_HF_SOURCE_H
#define DATA_HF_SOURCE_H

#include "data/hf.h"

enum { HF_MAX_SHARDS = 1024 };

typedef struct hf_source {
    int n;
    st_file *file[HF_MAX_SHARDS];
    char *name[HF_MAX_SHARDS]; /* file names inside the directory */
} hf_source;

/* model.safetensors, or the shards of the index: every mapped tensor is in its file, every tensor of a file is mapped,
 * and there are not both. */
status hf_source_open(hf_source *s, const char *dir);
void hf_source_close(hf_source *s);

typedef struct hf_pair {
    model_tensor want;
    const st_tensor *got; /* of file; both borrowed from the source */
    const st_file *file;
    int i; /* place in the model's order */
} hf_pair;
typedef struct hf_match {
    hf_pair *pair; /* (n) in the model's order, got never NULL */
    int n;
    hf_pair head; /* got: a tied model's repeated head, equal to the embedding; else NULL */
} hf_match;

/* Finds every tensor of the model under any prefix transformers has used. ST_EINVAL names what is missing, unexpected,
 * mis-shaped, there twice, or of a dtype that is no weight's. dir is for messages. */
status hf_match_open(hf_match *out, const hf_source *s, model *want, const char *dir);
void hf_match_close(hf_match *m);

/* Elements [at, at+n) of a matched tensor, converted to dtype `as` ("F32", "BF16", "F16") as round to nearest even does.
 * A finite value that fp16 can't hold is ST_EINVAL. Thread-safe. */
status hf_read(void *to, const char *as, const hf_pair *p, int64_t at, int64_t n);
void hf_to_float(float *out, const void *from, const char *stored, int64_t n);
/* Weights, in one file or many, can be written here without others staying beside them. */
status hf_check_room(const char *dir, bool many);
/* hf_store, but a finite value that fp16 can't hold is ST_EINVAL naming the tensor. */
status hf_from_float(void *out, const char *stored, const float *from, int64_t n, const char *name);

#endif
