/* What ops of core/ops.h take besides tensors. */
#ifndef CORE_OP_ARGS_H
#define CORE_OP_ARGS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ATTN_BLOCK = 16,   /* keys per online-softmax step, and tokens per KV block */
    SUMSQ_BLOCK = 4096 /* elements per partial of sumsq_blocks */
};

/* One attention layer over fused rows [q heads | k heads | v heads], each head head_dim wide. */
typedef struct attn_shape {
    int n_head, n_kv, head_dim; /* query head h uses kv head h / (n_head / n_kv) */
    float scale;                /* on q.k, 1/sqrt(head_dim) */
    bool causal;                /* by row index inside the segment, never by rotary position */
} attn_shape;

/* Decoupled weight decay (Loshchilov & Hutter 2019, alg. 2), one step t >= 1. g is used as g * grad_scale. */
typedef struct adamw_step {
    float lr, beta1, beta2, eps, weight_decay, grad_scale;
    int64_t t;
} adamw_step;

/* 1 - beta^t, the power by squaring: the same bits everywhere, unlike pow. */
static inline float adamw_bias(float beta, int64_t t)
{
    double r = 1.0;
    for (double x = (double)beta; t; t >>= 1, x *= x)
        if (t & 1) r *= x;
    return (float)(1.0 - r);
}

/* Floats one block of ATTN_BLOCK tokens takes in one layer's cache (keys and values). */
static inline int64_t kv_block_floats(const attn_shape *a) { return 2 * (int64_t)ATTN_BLOCK * a->n_kv * a->head_dim; }

#endif
