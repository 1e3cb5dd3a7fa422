#include "rollout/kv.h"

#include <stdlib.h>
#include <string.h>

struct kv_pool {
    backend *b;
    arena *mem;
    int n_layer, n_block, n_free;
    tensor *layer;   /* [n_layer] f32[n_block, kv_block_floats] */
    tensor src, dst; /* i32[1] operands of kv_copy */
    int32_t *stack;  /* free blocks, the next one on top */
    int32_t *ref;    /* holders of each block */
};

static int blocks_of(int n_token) { return (n_token + ATTN_BLOCK - 1) / ATTN_BLOCK; }

status kv_create(kv_pool **out, model *m, int n_block)
{
    CHECK(n_block > 0);
    const model_config *c = model_cfg(m);
    attn_shape shape = {.n_head = c->n_head, .n_kv = c->n_kv, .head_dim = c->head_dim};
    kv_pool *p = calloc(1, sizeof *p);
    if (!p) return FAIL(ST_ENOMEM, "no memory for the KV pool");
    p->b = model_backend(m);
    p->n_layer = c->n_layer;
    p->n_block = p->n_free = n_block;
    p->layer = calloc((size_t)p->n_layer, sizeof *p->layer);
    p->stack = malloc((size_t)n_block * sizeof *p->stack);
    p->ref = calloc((size_t)n_block, sizeof *p->ref);
    status st = ST_OK;
    if (!p->layer || !p->stack || !p->ref) {
        st = FAIL(ST_ENOMEM, "no memory for the lists of %d KV blocks", n_block);
        goto fail;
    }
    for (int i = 0; i < n_block; i++) p->stack[i] = n_block - 1 - i; /* block 0 goes first */
    TRY_OR(arena_create(&p->mem, p->b, "KV pool"), fail);
    for (int l = 0; l < p->n_layer; l++) arena_add_act(p->mem, &p->layer[l], n_block, kv_block_floats(&shape));
    arena_add_1d(p->mem, &p->src, DT_I32, 1);
    arena_add_1d(p->mem, &p->dst, DT_I32, 1);
    TRY_OR(arena_commit(p->mem), fail);
    *out = p;
    return ST_OK;
fail:
    kv_destroy(p);
    return st;
}

void kv_destroy(kv_pool *p)
{
    if (!p) return;
    CHECK(p->n_free == p->n_block);
    arena_destroy(p->mem);
    free(p->layer);
    free(p->stack);
    free(p->ref);
    free(p);
}

int kv_blocks(const kv_pool *p) { return p->n_block; }
int kv_free_blocks(const kv_pool *p) { return p->n_free; }
tensor *kv_layers(kv_pool *p) { return p->layer; }

bool kv_tail_shared(const kv_pool *p, const kv_seq *s)
{
    return s->n_token % ATTN_BLOCK && p->ref[s->block[s->n_block - 1]] > 1;
}

int kv_private(const kv_pool *p, const kv_seq *s)
{
    int n = 0;
    for (int i = 0; i < s->n_block; i++) n += p->ref[s->block[i]] == 1;
    return n;
}

static int32_t take(kv_pool *p)
{
    int32_t block = p->stack[--p->n_free];
    p->ref[block] = 1;
    return block;
}

static void drop(kv_pool *p, int32_t block)
{
    CHECK(p->ref[block] > 0);
    if (--p->ref[block] == 0) p->stack[p->n_free++] = block;
}

static void reserve(kv_seq *s, int n_block)
{
    if (n_block <= s->cap) return;
    int cap = s->cap ? s->cap : 16;
    while (cap < n_block) cap *= 2;
    s->block = realloc(s->block, (size_t)cap * sizeof *s->block);
    CHECK(s->block);
    s->cap = cap;
}

/* A private copy of the last block, which others still read. */
static void split_tail(kv_pool *p, kv_seq *s)
{
    int32_t old = s->block[s->n_block - 1], fresh = take(p);
    p->b->upload(p->b, &p->src, &old);
    p->b->upload(p->b, &p->dst, &fresh);
    for (int l = 0; l < p->n_layer; l++) p->b->kv_copy(p->b, &p->layer[l], &p->dst, &p->src);
    drop(p, old);
    s->block[s->n_block - 1] = fresh;
}

status kv_grow(kv_pool *p, kv_seq *s, int n)
{
    CHECK(n >= 0);
    if (n == 0) return ST_OK;
    int total = blocks_of(s->n_token + n);
    bool split = kv_tail_shared(p, s);
    int need = total - s->n_block + split;
    if (need > p->n_free) return FAIL(ST_EAGAIN, "%d KV blocks wanted, %d free", need, p->n_free);
    if (split) split_tail(p, s);
    reserve(s, total);
    while (s->n_block < total) s->block[s->n_block++] = take(p);
    s->n_token += n;
    return ST_OK;
}

int kv_slot(const kv_seq *s, int pos)
{
    CHECK(pos >= 0 && pos < s->n_token);
    return s->block[pos / ATTN_BLOCK] * ATTN_BLOCK + pos % ATTN_BLOCK;
}

void kv_share(kv_pool *p, const kv_seq *prefix, kv_seq *out)
{
    CHECK(out->n_block == 0);
    reserve(out, prefix->n_block);
    for (int i = 0; i < prefix->n_block; i++) {
        out->block[i] = prefix->block[i];
        p->ref[prefix->block[i]]++;
    }
    out->n_block = prefix->n_block;
    out->n_token = prefix->n_token;
}

void kv_release(kv_pool *p, kv_seq *s)
{
    for (int i = s->n_block - 1; i >= 0; i--) drop(p, s->block[i]);
    s->n_block = s->n_token = 0;
}

void kv_seq_free(kv_seq *s)
{
    CHECK(s->n_block == 0);
    free(s->block);
    memset(s, 0, sizeof *s);
}
