#include "core/rng.h"
#include "data/dataset.h"

#include <stdlib.h>

/* Epoch e is a Fisher-Yates permutation drawn from the key (seed, e): any process that knows the position can rebuild
 * it. */
struct loader {
    int64_t n;
    uint64_t seed;
    bool shuffle;
    loader_state at;
    int64_t drawn; /* epoch the permutation belongs to, -1 before the first */
    int64_t *order;
};

static void draw_order(loader *l)
{
    rng_key key = rng_make_key(l->seed, RNG_SHUFFLE, (uint64_t)l->at.epoch, 0, 0, 0);
    for (int64_t i = 0; i < l->n; i++) l->order[i] = i;
    for (int64_t i = 0; i + 1 < l->n; i++) {
        int64_t j = i + rng_below(key, (uint64_t)i, (uint32_t)(l->n - i)), kept = l->order[i];
        l->order[i] = l->order[j];
        l->order[j] = kept;
    }
    l->drawn = l->at.epoch;
}

status loader_create(loader **out, dataset *d, uint64_t seed, bool shuffle)
{
    int64_t n = dataset_count(d);
    if (n < 1) return FAIL(ST_EINVAL, "the dataset has no rows");
    if (n > UINT32_MAX) return FAIL(ST_EINVAL, "%lld rows: a dataset may have at most 2^32 - 1", (long long)n);
    loader *l = calloc(1, sizeof *l);
    if (!l) return FAIL(ST_ENOMEM, "no memory for a loader");
    *l = (loader){.n = n, .seed = seed, .shuffle = shuffle, .drawn = -1};
    if (shuffle) {
        l->order = malloc((size_t)n * sizeof *l->order);
        if (!l->order) {
            free(l);
            return FAIL(ST_ENOMEM, "no memory for the order of %lld rows", (long long)n);
        }
    }
    *out = l;
    return ST_OK;
}

int64_t loader_next(loader *l)
{
    if (l->at.index == l->n) l->at = (loader_state){l->at.epoch + 1, 0};
    if (!l->shuffle) return l->at.index++;
    if (l->drawn != l->at.epoch) draw_order(l);
    return l->order[l->at.index++];
}

loader_state loader_tell(const loader *l) { return l->at; }

status loader_seek(loader *l, loader_state s)
{
    if (s.epoch < 0 || s.index < 0 || s.index > l->n)
        return FAIL(ST_EINVAL, "position %lld of epoch %lld is outside a dataset of %lld rows", (long long)s.index,
                    (long long)s.epoch, (long long)l->n);
    l->at = s;
    return ST_OK;
}

void loader_destroy(loader *l)
{
    if (!l) return;
    free(l->order);
    free(l);
}
