#include "rl/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LEVELS = 13 }; /* grad_shards <= 4096 */

typedef struct range {
    int64_t at, n;
    bool decay;
} range;

struct optim {
    model *m;
    comm *world;
    optim_opts o;
    backend *b;
    int64_t count; /* P */
    int64_t slice; /* elements of one rank's part, a multiple of SUMSQ_BLOCK; the last parts may be short or empty */
    int64_t own_at, own_n; /* this rank's part of [0, P) */
    int64_t t;
    int n_level, done; /* shards finished in this step */
    range *ranges;     /* of [0, P): neighbours with the same weight decay are one */
    int n_range;
    arena *mem;
    tensor sum[MAX_LEVELS]; /* (P) partial sums of 2^level shards waiting for their right half */
    tensor m1, m2;          /* (slice) moments */
    tensor grad;            /* (size * slice) parts received, when size > 1 */
    tensor square;          /* (slice / SUMSQ_BLOCK) f64 */
    float *send, *recv;     /* host, size * slice, only when size > 1 */
    double *mine, *all;     /* host, sums of squares of blocks */
};

static status add_range(void *ctx, const model_tensor *t)
{
    optim *x = ctx;
    tensor flat = model_params(x->m);
    int64_t at = (int64_t)(((const char *)t->w.data - (const char *)flat.data) / (ptrdiff_t)dtype_size(flat.type));
    int64_t n = tensor_count(&t->w);
    x->ranges = realloc(x->ranges, sizeof *x->ranges * (size_t)(x->n_range + 1));
    CHECK(x->ranges);
    x->ranges[x->n_range++] = (range){at, n, t->matrix};
    return ST_OK;
}

static int range_order(const void *a, const void *b)
{
    int64_t x = ((const range *)a)->at, y = ((const range *)b)->at;
    return (x > y) - (x < y);
}

static status plan_ranges(optim *x)
{
    TRY(model_visit(x->m, add_range, x));
    qsort(x->ranges, (size_t)x->n_range, sizeof *x->ranges, range_order);
    int n = 0;
    int64_t end = 0;
    for (int i = 0; i < x->n_range; i++) {
        range r = x->ranges[i];
        CHECK(r.at == end); /* every parameter is named exactly once */
        end += r.n;
        if (n > 0 && x->ranges[n - 1].decay == r.decay)
            x->ranges[n - 1].n += r.n;
        else
            x->ranges[n++] = r;
    }
    CHECK(end == x->count);
    x->n_range = n;
    return ST_OK;
}

static bool power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }

static status check_shape(const optim_opts *o, const model *m, const comm *world)
{
    if (model_params(m).type != DT_F32 || !model_grads(m).data)
        return FAIL(ST_EINVAL, "the optimizer needs fp32 weights with gradients");
    if (!power_of_two(o->grad_shards))
        return FAIL(ST_EINVAL, "grad_shards %lld is no power of two", (long long)o->grad_shards);
    if (o->grad_shards % world->size)
        return FAIL(ST_EINVAL, "%d ranks don't divide grad_shards %lld: use a power of two of ranks, or more shards",
                    world->size, (long long)o->grad_shards);
    return ST_OK;
}

status optim_create(optim **out, model *m, comm *world, const optim_opts *o)
{
    TRY(check_shape(o, m, world));
    optim *x = calloc(1, sizeof *x);
    if (!x) return FAIL(ST_ENOMEM, "no memory for the optimizer");
    *x = (optim){.m = m, .world = world, .o = *o, .b = model_backend(m), .count = model_param_count(m)};
    int64_t share = (x->count + world->size - 1) / world->size;
    x->slice = (share + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK * SUMSQ_BLOCK;
    x->own_at = x->slice * world->rank < x->count ? x->slice * world->rank : x->count;
    x->own_n = x->count - x->own_at < x->slice ? x->count - x->own_at : x->slice;
    while (((int64_t)world->size << x->n_level) < o->grad_shards) x->n_level++;
    int64_t blocks = x->slice / SUMSQ_BLOCK;
    status st;
    TRY_OR(plan_ranges(x), fail);
    TRY_OR(arena_create(&x->mem, x->b, "optimizer"), fail);
    for (int l = 0; l <= x->n_level; l++) arena_add_1d(x->mem, &x->sum[l], DT_F32, x->count);
    arena_add_1d(x->mem, &x->m1, DT_F32, x->slice);
    arena_add_1d(x->mem, &x->m2, DT_F32, x->slice);
    arena_add_1d(x->mem, &x->square, DT_F64, blocks);
    if (world->size > 1) {
        arena_add_1d(x->mem, &x->grad, DT_F32,
                     x->slice * world->size); /* one part per rank, summed pairwise in place */
        size_t bytes = sizeof(float) * (size_t)(x->slice * world->size);
        x->send = calloc(1, bytes);
        x->recv = calloc(1, bytes);
    }
    TRY_OR(fail_advice(arena_commit(x->mem), ST_ENOMEM, "more ranks share it, up to grad_shards (%lld)", (long long)o->grad_shards),
           fail);
    x->mine = calloc((size_t)blocks, sizeof *x->mine);
    x->all = calloc((size_t)(blocks * world->size), sizeof *x->all);
    if (!x->mine || !x->all || (world->size > 1 && (!x->send || !x->recv))) {
        st = FAIL(ST_ENOMEM, "no memory for the optimizer's exchange buffers");
        goto fail;
    }
    tensor g = model_grads(m);
    x->b->fill(x->b, &g, 0);
    *out = x;
    return ST_OK;
fail:
    optim_destroy(x);
    return st;
}

void optim_destroy(optim *x)
{
    if (!x) return;
    arena_destroy(x->mem);
    free(x->ranges);
    free(x->send);
    free(x->recv);
    free(x->mine);
    free(x->all);
    free(x);
}

void optim_shards(const optim *x, int *first, int *n)
{
    *n = (int)(x->o.grad_shards / x->world->size);
    *first = *n * x->world->rank;
}

/* A binary counter: shard k closes one pair for every trailing 1 bit of k, so the tree's shape depends on k alone. */
void optim_shard_done(optim *x)
{
    tensor g = model_grads(x->m);
    CHECK(x->done < (1 << x->n_level));
    int level = 0;
    for (int k = x->done; k & 1; k >>= 1, level++) x->b->add(x->b, &g, &x->sum[level], &g);
    x->b->copy(x->b, &x->sum[level], &g);
    x->b->fill(x->b, &g, 0);
    x->done++;
}

/* Every rank's sum of its subtree -> this rank's slice of the whole tree's sum. */
static status reduce(optim *x, tensor *grad)
{
    tensor *mine = &x->sum[x->n_level];
    if (x->world->size == 1) {
        *grad = *mine;
        return ST_OK;
    }
    x->b->download(x->b, x->send, mine); /* the padding behind count stays 0 */
    TRY(comm_alltoall(x->world, x->send, x->recv, sizeof(float) * (size_t)x->slice));
    x->b->upload(x->b, &x->grad, x->recv);
    for (int step = 1; step < x->world->size; step *= 2)
        for (int r = 0; r + step < x->world->size; r += 2 * step) {
            tensor left = tensor_rows(&x->grad, r * x->slice, x->slice);
            tensor right = tensor_rows(&x->grad, (r + step) * x->slice, x->slice);
            x->b->add(x->b, &left, &left, &right);
        }
    *grad = tensor_rows(&x->grad, 0, x->own_n);
    return ST_OK;
}

/* Sums of squares by block of the flat gradient, added in block order on every rank. */
static status global_norm(optim *x, const tensor *grad, double *norm)
{
    int64_t blocks = x->slice / SUMSQ_BLOCK, own = (x->own_n + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK;
    memset(x->mine, 0, sizeof *x->mine * (size_t)blocks);
    if (own > 0) {
        tensor sq = tensor_rows(&x->square, 0, own);
        x->b->sumsq_blocks(x->b, &sq, grad);
        x->b->download(x->b, x->mine, &sq);
    }
    TRY(x->b->sync(x->b));
    TRY(comm_allgather(x->world, x->mine, x->all, sizeof *x->mine * (size_t)blocks));
    double sum = 0;
    for (int64_t i = 0; i < blocks * x->world->size; i++) sum += x->all[i];
    *norm = sqrt(sum);
    return ST_OK;
}

typedef struct culprit {
    int64_t at; /* element of the flat gradient */
    const char *name;
    const tensor *flat;
} culprit;

static status find_name(void *ctx, const model_tensor *t)
{
    culprit *c = ctx;
    int64_t at = ((const char *)t->w.data - (const char *)c->flat->data) / (ptrdiff_t)sizeof(float);
    if (c->at >= at && c->at < at + tensor_count(&t->w)) c->name = t->name;
    return ST_OK;
}

/* The first element that is not finite: its block is known to every rank, the element to the block's owner. */
static status blame(optim *x, const tensor *grad)
{
    int64_t blocks = x->slice / SUMSQ_BLOCK, b = 0, mine = 0, *all = calloc((size_t)x->world->size, sizeof *all);
    float values[SUMSQ_BLOCK];
    CHECK(all);
    while (b + 1 < blocks * x->world->size && isfinite(x->all[b])) b++;
    int64_t first = b * SUMSQ_BLOCK - x->own_at, n = x->own_n - first < SUMSQ_BLOCK ? x->own_n - first : SUMSQ_BLOCK;
    if (b / blocks == x->world->rank) {
        tensor part = tensor_rows(grad, first, n);
        x->b->download(x->b, values, &part);
        while (mine + 1 < n && isfinite(values[mine])) mine++;
    }
    status st = comm_allgather(x->world, &mine, all, sizeof mine);
    tensor flat = model_params(x->m);
    culprit c = {.at = b * SUMSQ_BLOCK + all[b / blocks], .flat = &flat};
    free(all);
    TRY(st);
    TRY(model_visit(x->m, find_name, &c));
    return FAIL(ST_EINVAL, "the gradient of %s is not finite at update %lld", c.name ? c.name : "a tensor",
                (long long)x->t + 1);
}

static void update(optim *x, const tensor *grad, double lr, double scale)
{
    tensor w = model_params(x->m);
    adamw_step s = {.lr = (float)lr,
                    .beta1 = (float)x->o.beta1,
                    .beta2 = (float)x->o.beta2,
                    .eps = (float)x->o.eps,
                    .grad_scale = (float)scale,
                    .t = x->t};
    for (int i = 0; i < x->n_range; i++) {
        int64_t from = x->ranges[i].at, to = from + x->ranges[i].n;
        if (from < x->own_at) from = x->own_at;
        if (to > x->own_at + x->own_n) to = x->own_at + x->own_n;
        if (from >= to) continue;
        tensor wi = tensor_rows(&w, from, to - from);
        tensor mi = tensor_rows(&x->m1, from - x->own_at, to - from);
        tensor vi = tensor_rows(&x->m2, from - x->own_at, to - from);
        tensor gi = tensor_rows(grad, from - x->own_at, to - from);
        s.weight_decay = x->ranges[i].decay ? (float)x->o.weight_decay : 0;
        x->b->adamw(x->b, &wi, &mi, &vi, &gi, &s);
    }
}

/* This rank's slice of a flat device tensor -> the whole of it in x->recv on every rank. */
static status gather(optim *x, const tensor *own)
{
    memset(x->send, 0, sizeof(float) * (size_t)x->slice);
    if (x->own_n > 0) x->b->download(x->b, x->send, own);
    return comm_allgather(x->world, x->send, x->recv, sizeof(float) * (size_t)x->slice);
}

status optim_step(optim *x, double lr, double *grad_norm, bool *skipped)
{
    CHECK(x->done == 1 << x->n_level);
    x->done = 0;
    tensor grad;
    double norm;
    TRY(reduce(x, &grad));
    TRY(global_norm(x, &grad, &norm));
    if (grad_norm) *grad_norm = norm;
    if (skipped) *skipped = !isfinite(norm);
    if (!isfinite(norm)) {
        status st = blame(x, &grad);
        return skipped && st == ST_EINVAL ? ST_OK : st;
    }
    x->t++;
    update(x, &grad, lr, x->o.clip_norm > 0 && norm > x->o.clip_norm ? x->o.clip_norm / norm : 1);
    if (x->world->size > 1) {
        tensor w = model_params(x->m), own = tensor_rows(&w, x->own_at, x->own_n);
        TRY(gather(x, &own));
        x->b->upload(x->b, &w, x->recv);
    }
    x->b->params_changed(x->b);
    return x->b->sync(x->b);
}

static status moment_out(optim *x, const tensor *moment, float *out)
{
    tensor own = tensor_rows(moment, 0, x->own_n);
    if (x->world->size == 1) {
        x->b->download(x->b, out, &own);
        return ST_OK;
    }
    TRY(gather(x, &own));
    memcpy(out, x->recv, sizeof *out * (size_t)x->count);
    return ST_OK;
}

status optim_state(optim *x, float *m, float *v, int64_t *t)
{
    TRY(moment_out(x, &x->m1, m));
    TRY(moment_out(x, &x->m2, v));
    *t = x->t;
    return x->b->sync(x->b);
}

status optim_restore(optim *x, const float *m, const float *v, int64_t t)
{
    tensor m1 = tensor_rows(&x->m1, 0, x->own_n), m2 = tensor_rows(&x->m2, 0, x->own_n);
    if (x->own_n > 0) {
        x->b->upload(x->b, &m1, m + x->own_at);
        x->b->upload(x->b, &m2, v + x->own_at);
    }
    x->t = t;
    return x->b->sync(x->b);
}
