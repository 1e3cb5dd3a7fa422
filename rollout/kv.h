/* The KV block pool: fixed-size blocks of ATTN_BLOCK tokens, reference counted so that a group shares its prompt. */
#ifndef ROLLOUT_KV_H
#define ROLLOUT_KV_H

#include "core/model.h"

typedef struct kv_pool kv_pool;
typedef struct kv_seq {
    int32_t *block;
    int n_block, cap, n_token;
} kv_seq; /* zero = empty */

status kv_create(kv_pool **out, model *m, int n_block);
void kv_destroy(kv_pool *p); /* CHECKs that nothing is held; NULL is legal */
int kv_blocks(const kv_pool *p);
int kv_free_blocks(const kv_pool *p);
tensor *kv_layers(kv_pool *p);
bool kv_tail_shared(const kv_pool *p, const kv_seq *s); /* the last block is partly filled and has other holders */
/* Blocks that kv_release(s) gives back to the pool: those nobody else holds. */
int kv_private(const kv_pool *p, const kv_seq *s);
/* Room for n more tokens at the end; new blocks are private. ST_EAGAIN changes nothing. A shared, partly filled last
 * block is first copied (kv_copy op on every layer). */
status kv_grow(kv_pool *p, kv_seq *s, int n);
int kv_slot(const kv_seq *s, int pos); /* cache slot of token pos */
/* out (empty) becomes another holder of prefix's tokens. */
void kv_share(kv_pool *p, const kv_seq *prefix, kv_seq *out);
void kv_release(kv_pool *p, kv_seq *s); /* back to empty; the list's memory is kept for reuse until kv_seq_free */
void kv_seq_free(kv_seq *s);            /* CHECKs that it was released */

#endif
