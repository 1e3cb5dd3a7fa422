/* Rows with random access: a .jsonl file, or HDF5 shards written by `codedance data import` (a .h5 file, or a directory
 * of them). The deterministic loader on top gives batches by identity: same seed, same order, for any rank count. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "data/image.h"
#include "data/sample.h"

typedef struct dataset dataset;

/* Validates every row's syntax lazily, the file structure at once. ST_EUNAVAIL for .h5 without HDF5. */
status dataset_open(dataset **out, const char *path);
void dataset_close(dataset *d);
int64_t dataset_count(const dataset *d);
/* Row i parsed; caller frees with sample_free. Errors name file:line. */
status dataset_sample(dataset *d, int64_t i, sample *out);
/* Decoded original picture of one image reference of a sample of this dataset. */
status dataset_image(dataset *d, const char *ref, image *out);
/* What the model sees under processor p: the shard's cached view when it has one for this processor, else decoded and
 * resized; *orig_w/h (may be NULL) receive the original's size. */
status dataset_view(dataset *d, const char *ref, const image_processor *p, image *out, int *orig_w, int *orig_h);

/* Deterministic order: epoch e is a permutation keyed by (seed, e); a position is (epoch, index). */
typedef struct loader_state {
    int64_t epoch, index;
} loader_state;
typedef struct loader loader;
/* shuffle false: file order. Borrows d. */
status loader_create(loader **out, dataset *d, uint64_t seed, bool shuffle);
int64_t loader_next(loader *l); /* row number in d; wraps into the next epoch */
loader_state loader_tell(const loader *l);
status loader_seek(loader *l, loader_state s); /* ST_EINVAL if out of range */
void loader_destroy(loader *l);

#endif
