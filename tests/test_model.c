/* The model against its definition in double: hidden states, the gradient of every parameter tensor, and what the bit
 * contract promises about packing, paging, threads and instruction sets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/model.h"
#include "core/rng.h"
#include "kernels/kernels.h"
#include "tests/common/model_ref.h"
#include "tests/common/packed.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static backend *open_cpu(int threads, const char *isa)
{
    backend *b = NULL;
    ok(backend_open_cpu(&b, threads, isa));
    return b;
}

/* Awkward on purpose: head_dim is not hidden/heads, odd layer count, uneven sections, a tower whose windows cut images.
 */
static model_config small_config(bool tied, int n_head, int n_kv)
{
    model_config c = {.hidden = 12,
                      .n_layer = 3,
                      .n_head = n_head,
                      .n_kv = n_kv,
                      .head_dim = 10,
                      .intermediate = 18,
                      .vocab = 37,
                      .max_position = 512,
                      .tied = tied,
                      .qkv_bias = true,
                      .rms_eps = 1e-6f,
                      .rope_theta = 1e4,
                      .mrope_section = {1, 2, 2},
                      .has_vision = true,
                      .image_token = 33,
                      .video_token = 34,
                      .vision_start_token = 31,
                      .vision_end_token = 32,
                      .bos_token = 29,
                      .eos_token = 30};
    c.vision = (vision_config){.depth = 3,
                               .hidden = 8,
                               .intermediate = 11,
                               .n_head = 2,
                               .patch = 3,
                               .temporal_patch = 2,
                               .merge = 2,
                               .in_channels = 3,
                               .window = 12,
                               .out_hidden = 12,
                               .tokens_per_second = 2,
                               .n_full = 1,
                               .full_blocks = {1}};
    return c;
}

/* Three sequences; an image of 3x2 windows, a small one, and one that two sequences share. */
static void mixed_batch(packed *p, const model_config *c)
{
    packed_open(p, c);
    int wide = packed_image(p, 1, 6, 10), dot = packed_image(p, 2, 2, 2), shared = packed_image(p, 3, 4, 6);
    packed_begin(p, 1);
    packed_text(p, 3);
    packed_show(p, wide);
    packed_text(p, 4);
    packed_show(p, shared);
    packed_text(p, 6);
    packed_end(p);
    packed_begin(p, 2);
    packed_text(p, 5);
    packed_end(p);
    packed_begin(p, 3);
    packed_show(p, shared);
    packed_text(p, 2);
    packed_show(p, dot);
    packed_text(p, 5);
    packed_end(p);
}

/* Norm scales and biases away from their initial 1 and 0, so that a wrong one shows. */
static void shake(model *m, uint64_t seed)
{
    model_init(m, seed);
    tensor all = model_params(m);
    float *w = all.data;
    rng_key key = rng_make_key(seed, RNG_TEST, 3, 0, 0, 0);
    for (int64_t i = 0; i < all.dim[0]; i++) w[i] += 0.05f * rng_normal(key, (uint64_t)i);
    model_backend(m)->params_changed(model_backend(m));
}

typedef struct trainee {
    model *m;
    model_acts *a;
} trainee;

static trainee open_trainee(backend *b, const model_config *c, const packed *p)
{
    trainee t = {NULL, NULL};
    model_limits lim = packed_limits(p);
    ok(model_create(&t.m, b, c, true));
    shake(t.m, 11);
    ok(model_acts_create(&t.a, t.m, &lim, true));
    return t;
}

static void close_trainee(trainee *t)
{
    model_acts_destroy(t->a);
    model_destroy(t->m);
}

static tensor vec(float *v, int64_t n) { return tensor_1d(v, DT_F32, n); }

/* Targets and weights of a loss over every row asked for. */
typedef struct goal {
    int32_t target[PACKED_TOK];
    float weight[PACKED_TOK];
} goal;

static void make_goal(goal *g, const packed *p)
{
    rng_key key = rng_make_key(5, RNG_TEST, 4, 0, 0, 0);
    for (int i = 0; i < p->x.n_row; i++) {
        g->target[i] = (int32_t)rng_below(key, (uint64_t)i, (uint32_t)p->cfg->vocab);
        g->weight[i] = 0.3f * rng_normal(key, (uint64_t)(1000 + i));
    }
}

/* Forward, loss gradient through the head, backward; gradients accumulate in the model. */
static double train_step(trainee *t, const packed *p, const goal *g)
{
    backend *b = model_backend(t->m);
    int R = p->x.n_row, C = p->cfg->hidden;
    float *buf = calloc((size_t)R * (size_t)(C + 2), sizeof *buf);
    assert_non_null(buf);
    tensor h = model_forward(t->m, t->a, &p->x), head = model_head(t->m), dhead = model_head_grad(t->m);
    tensor dh = tensor_2d(buf, DT_F32, R, C), logp = vec(buf + R * C, R), lse = vec(buf + R * (C + 1), R);
    tensor target = tensor_1d((void *)(uintptr_t)g->target, DT_I32, R), weight = vec((void *)(uintptr_t)g->weight, R);
    b->logprob_fwd(b, &logp, &lse, NULL, &h, &head, &target, NULL, 1.0f);
    double loss = 0;
    for (int i = 0; i < R; i++) loss += (double)g->weight[i] * ((float *)logp.data)[i];
    b->logprob_bwd(b, &dh, &dhead, &h, &head, &target, NULL, &lse, NULL, &weight, NULL, 1.0f);
    model_backward(t->m, t->a, &p->x, &dh);
    ok(b->sync(b));
    free(buf);
    return loss;
}

/* ---- against the definition ---- */

static void hidden_matches_definition(void **state)
{
    (void)state;
    backend *b = open_cpu(2, "auto");
    for (int kind = 0; kind < 3; kind++) {
        model_config c = small_config(kind == 0, 4, kind == 2 ? 4 : 2);
        packed p;
        mixed_batch(&p, &c);
        packed_all_rows(&p);
        trainee t = open_trainee(b, &c, &p);
        ref_model r;
        ref_open(&r, t.m);
        double *want = calloc((size_t)(p.x.n_row * c.hidden), sizeof *want), worst = 0;
        ref_hidden(&r, &p.x, want);
        tensor h = model_forward(t.m, t.a, &p.x);
        ok(b->sync(b));
        for (int i = 0; i < p.x.n_row * c.hidden; i++) worst = fmax(worst, fabs(((float *)h.data)[i] - want[i]));
        /* Final-norm rows have rms 1. About 60 roundings of 2^-24 relative to values of that size lie on a path through
         * 6 blocks; 2e-5 leaves a factor of 5. */
        if (!(worst < 2e-5)) fail_msg("hidden differs by %g", worst);
        free(want);
        ref_close(&r);
        close_trainee(&t);
        packed_close(&p);
    }
    b->close(b);
}

/* d loss / d (along direction u of one tensor) by a 4-point central difference in double: error ~ step^4 and
 * 1e-16/step. */
static double slope(ref_model *r, const packed *p, const goal *g, ref_weight *w, const double *u)
{
    static const double at[] = {-2, -1, 1, 2}, coef[] = {1, -8, 8, -1};
    double step = 1e-4, sum = 0;
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < w->n; i++) w->v[i] += at[k] * step * u[i];
        sum += coef[k] * ref_loss(r, &p->x, g->target, g->weight);
        for (int64_t i = 0; i < w->n; i++) w->v[i] -= at[k] * step * u[i];
    }
    return sum / (12 * step);
}

/* One tensor: two dense directions, which every element takes part in, and the elements chosen by stride alone. */
static void check_gradient(ref_model *r, const packed *p, const goal *g, ref_weight *w)
{
    double *u = calloc((size_t)w->n, sizeof *u), scale = 0;
    assert_non_null(u);
    for (int64_t i = 0; i < w->n; i++) scale += (double)w->grad[i] * w->grad[i];
    scale = sqrt(scale / (double)w->n); /* rms of the gradient */
    if (scale == 0) fail_msg("%s has no gradient", w->name);
    for (int dir = 0; dir < 2; dir++) {
        rng_key key = rng_make_key((uint64_t)dir, RNG_TEST, 5, 0, 0, 0);
        double got = 0, size = 0;
        for (int64_t i = 0; i < w->n; i++) {
            u[i] = rng_normal(key, (uint64_t)i);
            got += u[i] * w->grad[i];
            size += fabs(u[i] * w->grad[i]);
        }
        double want = slope(r, p, g, w, u);
        /* an error of 1e-4 of the rms in every element, added up at random and a little more */
        if (!(fabs(got - want) < 4e-4 * scale * sqrt((double)w->n) + 1e-6 * size))
            fail_msg("%s along direction %d: %.9g, definition %.9g (rms %g)", w->name, dir, got, want, scale);
    }
    memset(u, 0, (size_t)w->n * sizeof *u);
    int64_t stride = w->n / 6 + 1;
    for (int64_t i = w->n > 6 ? stride / 2 : 0; i < w->n; i += stride) {
        u[i] = 1;
        double want = slope(r, p, g, w, u);
        u[i] = 0;
        if (!(fabs(w->grad[i] - want) < 2e-4 * (scale + fabs(want))))
            fail_msg("%s[%lld]: %.9g, definition %.9g (rms %g)", w->name, (long long)i, w->grad[i], want, scale);
    }
    free(u);
}

static void gradients_match_definition(void **state)
{
    (void)state;
    backend *b = open_cpu(1, "auto");
    for (int kind = 0; kind < 2; kind++) {
        model_config c = small_config(kind == 0, kind ? 2 : 4, 2);
        packed p;
        goal g;
        mixed_batch(&p, &c);
        for (int i = 0; i < p.x.n_tok; i++) /* some rows, one of them twice, not in order */
            if (i % 3 != 1) p.row[p.x.n_row++] = i;
        p.row[0] = p.row[p.x.n_row - 1];
        make_goal(&g, &p);
        trainee t = open_trainee(b, &c, &p);
        double loss = train_step(&t, &p, &g);
        ref_model r;
        ref_open(&r, t.m);
        double want = ref_loss(&r, &p.x, g.target, g.weight);
        if (!(fabs(loss - want) < 1e-5 * (1 + fabs(want)))) fail_msg("loss %.9g, definition %.9g", loss, want);
        for (int i = 0; i < r.n; i++) check_gradient(&r, &p, &g, &r.w[i]);
        ref_close(&r);
        close_trainee(&t);
        packed_close(&p);
    }
    b->close(b);
}

/* The tower alone: forward rows, and gradients of sum(rows * coef). */
static void tower_matches_definition(void **state)
{
    (void)state;
    backend *b = open_cpu(2, "auto");
    model_config c = small_config(true, 4, 2);
    packed p;
    mixed_batch(&p, &c);
    trainee t = open_trainee(b, &c, &p);
    int n = p.n_feat * c.hidden;
    double *want = calloc((size_t)n, sizeof *want), worst = 0;
    float *coef = calloc((size_t)n, sizeof *coef);
    ref_model r;
    ref_open(&r, t.m);
    ref_vision(&r, &p.x, want);
    tensor rows = model_vision_forward(t.m, t.a, &p.x);
    ok(b->sync(b));
    assert_int_equal(rows.dim[0], p.n_feat);
    for (int i = 0; i < n; i++) worst = fmax(worst, fabs(((float *)rows.data)[i] - want[i]));
    if (!(worst < 5e-6)) fail_msg("image rows differ by %g", worst);

    rng_key key = rng_make_key(1, RNG_TEST, 6, 0, 0, 0);
    for (int i = 0; i < n; i++) coef[i] = rng_normal(key, (uint64_t)i);
    tensor dout = tensor_2d(coef, DT_F32, p.n_feat, c.hidden);
    model_vision_backward(t.m, t.a, &p.x, &dout);
    ok(b->sync(b));
    ref_weight *w = ref_find(&r, "visual.patch_embed.proj.weight");
    for (int64_t i = 3; i < w->n; i += 17) {
        double value[2];
        for (int k = 0; k < 2; k++) {
            w->v[i] += k ? -2e-5 : 1e-5;
            ref_vision(&r, &p.x, want);
            value[k] = 0;
            for (int j = 0; j < n; j++) value[k] += coef[j] * want[j];
        }
        w->v[i] += 1e-5;
        double slope_i = (value[0] - value[1]) / 2e-5;
        if (!(fabs(slope_i - w->grad[i]) < 2e-5 * (1 + fabs(slope_i))))
            fail_msg("%s[%lld]: %.9g, definition %.9g", w->name, (long long)i, w->grad[i], slope_i);
    }
    free(want), free(coef);
    ref_close(&r);
    close_trainee(&t);
    packed_close(&p);
    b->close(b);
}

/* ---- same bits ---- */

static float *copy_hidden(trainee *t, const packed *p)
{
    tensor h = model_forward(t->m, t->a, &p->x);
    ok(model_backend(t->m)->sync(model_backend(t->m)));
    float *out = malloc(tensor_bytes(&h));
    assert_non_null(out);
    memcpy(out, h.data, tensor_bytes(&h));
    return out;
}

/* Hidden rows and gradients have the same bits for any thread count and instruction set, and when repeated. */
static void same_bits_everywhere(void **state)
{
    (void)state;
    static const char *const isas[] = {"auto", "auto", "generic", "avx2", "avx512"};
    static const int threads[] = {1, 2, 1, 2, 2};
    model_config c = small_config(true, 4, 2);
    packed p;
    goal g;
    mixed_batch(&p, &c);
    packed_all_rows(&p);
    make_goal(&g, &p);
    float *h0 = NULL, *g0 = NULL;
    for (int k = 0; k < 5; k++) {
        if (k > 1 && !cpu_isa_has(isas[k])) continue;
        backend *b = open_cpu(threads[k], isas[k]);
        trainee t = open_trainee(b, &c, &p);
        float *h = copy_hidden(&t, &p);
        tensor grads = model_grads(t.m);
        for (int step = 0; step < (k ? 1 : 2); step++) { /* the first backend repeats: nothing is left over in the memory */
            b->fill(b, &grads, 0);
            train_step(&t, &p, &g);
        }
        if (!h0) {
            h0 = h;
            g0 = malloc(tensor_bytes(&grads));
            assert_non_null(g0);
            memcpy(g0, grads.data, tensor_bytes(&grads));
        } else {
            if (memcmp(h, h0, (size_t)(p.x.n_row * c.hidden) * sizeof *h))
                fail_msg("hidden bits differ: %s", b->describe);
            if (memcmp(g0, grads.data, tensor_bytes(&grads))) fail_msg("gradient bits differ: %s", b->describe);
            free(h);
        }
        close_trainee(&t);
        b->close(b);
    }
    free(h0), free(g0);
    packed_close(&p);
}

static void add_sequence(packed *p, int id, int wide, int shared)
{
    packed_begin(p, id);
    packed_text(p, 2 + id);
    if (id % 2) packed_show(p, wide);
    packed_text(p, 17);
    packed_show(p, shared);
    packed_text(p, 3);
    packed_end(p);
}

/* A sequence's rows don't depend on what else is in the batch, nor on the order of sequences and images. */
static void packing_does_not_matter(void **state)
{
    (void)state;
    backend *b = open_cpu(2, "auto");
    model_config c = small_config(false, 4, 2);
    packed all, one;
    packed_open(&all, &c);
    int shared = packed_image(&all, 3, 4, 6), wide = packed_image(&all, 1, 6, 10);
    for (int id = 4; id >= 1; id--) add_sequence(&all, id, wide, shared);
    packed_all_rows(&all);
    trainee t = open_trainee(b, &c, &all);
    float *packed_rows = copy_hidden(&t, &all);
    int64_t commits = arena_commits();
    for (int id = 4; id >= 1; id--) {
        packed_open(&one, &c);
        wide = packed_image(&one, 1, 6, 10), shared = packed_image(&one, 3, 4, 6);
        add_sequence(&one, id, wide, shared);
        packed_all_rows(&one);
        float *alone = copy_hidden(&t, &one);
        if (memcmp(alone, packed_rows + all.cu[4 - id] * c.hidden, (size_t)(one.x.n_row * c.hidden) * sizeof *alone))
            fail_msg("sequence %d has other bits alone", id);
        free(alone);
        packed_close(&one);
    }
    assert_int_equal(arena_commits(), commits);
    free(packed_rows);
    close_trainee(&t);
    packed_close(&all);
    b->close(b);
}

/* ---- paged ---- */

enum { BLOCKS = 32, MAX_BLOCK = 8 };

/* A cache with scattered blocks: block k of sequence s is table[s][k]. */
typedef struct cache {
    arena *arena;
    tensor layer[8];
    int32_t table[2 * MAX_BLOCK];
} cache;

static void open_cache(cache *k, backend *b, const model_config *c)
{
    attn_shape a = {.n_head = c->n_head, .n_kv = c->n_kv, .head_dim = c->head_dim};
    ok(arena_create(&k->arena, b, "test cache"));
    for (int l = 0; l < c->n_layer; l++) arena_add_2d(k->arena, &k->layer[l], DT_F32, BLOCKS, kv_block_floats(&a));
    ok(arena_commit(k->arena));
    for (int i = 0; i < 2 * MAX_BLOCK; i++) k->table[i] = (i * 7 + 3) % BLOCKS; /* 7 and 32 have no common factor */
}

/* Runs tokens [from[s], to[s]) of each whole sequence against the cache and compares with the packed rows. */
static void run_part(model *m, model_acts *a, cache *k, const packed *whole, const int from[2], const int to[2],
                     const float *want)
{
    const model_config *c = whole->cfg;
    packed part;
    int32_t slot[PACKED_TOK], ctx[2], table[2 * MAX_BLOCK];
    int n_seq = 0, back[PACKED_TOK];
    packed_open(&part, c);
    part.x.patches = whole->patches;
    part.x.n_img = whole->x.n_img;
    memcpy(part.grid, whole->grid, sizeof part.grid);
    for (int s = 0; s < 2; s++) {
        if (from[s] == to[s]) continue;
        for (int i = from[s]; i < to[s]; i++) {
            int at = part.x.n_tok++, src = whole->cu[s] + i;
            part.ids[at] = whole->ids[src];
            memcpy(part.pos + 3 * at, whole->pos + 3 * src, 3 * sizeof *part.pos);
            slot[at] = k->table[s * MAX_BLOCK + i / ATTN_BLOCK] * ATTN_BLOCK + i % ATTN_BLOCK;
            back[at] = src;
            for (int v = 0; v < whole->x.n_vis; v++) {
                if (whole->vis_tok[v] != src) continue;
                part.vis_tok[part.x.n_vis] = at;
                part.vis_row[part.x.n_vis++] = whole->vis_row[v];
            }
        }
        ctx[n_seq] = to[s];
        memcpy(table + n_seq * MAX_BLOCK, k->table + s * MAX_BLOCK, MAX_BLOCK * sizeof *table);
        part.cu[++n_seq] = part.x.n_tok;
    }
    part.x.n_seq = n_seq;
    packed_all_rows(&part);
    kv_view view = {.layer = k->layer, .slot = slot, .table = table, .max_block = MAX_BLOCK, .ctx = ctx};
    part.x.kv = &view;
    tensor h = model_forward(m, a, &part.x);
    ok(model_backend(m)->sync(model_backend(m)));
    for (int i = 0; i < part.x.n_tok; i++)
        if (memcmp((float *)h.data + i * c->hidden, want + back[i] * c->hidden, (size_t)c->hidden * sizeof *want))
            fail_msg("row %d of the packed batch has other bits through the cache", back[i]);
}

/* Prefill in uneven chunks that cut images, then one token at a time; the other sequence keeps its own pace. */
static void paged_equals_packed(void **state)
{
    (void)state;
    backend *b = open_cpu(2, "auto");
    model_config c = small_config(true, 4, 2);
    packed p;
    packed_open(&p, &c);
    int wide = packed_image(&p, 1, 6, 10), shared = packed_image(&p, 3, 4, 6);
    add_sequence(&p, 3, wide, shared);
    add_sequence(&p, 2, wide, shared);
    packed_all_rows(&p);
    trainee t = open_trainee(b, &c, &p);
    float *want = copy_hidden(&t, &p);
    model_limits lim = packed_limits(&p);
    lim.max_block = MAX_BLOCK;
    model_acts *infer = NULL;
    ok(model_acts_create(&infer, t.m, &lim, false));
    assert_true(model_acts_bytes(infer) < model_acts_bytes(t.a));
    cache k;
    open_cache(&k, b, &c);
    int len[2] = {p.cu[1], p.cu[2] - p.cu[1]}, from[2] = {0, 0}, to[2];
    static const int chunk[][2] = {{7, 0}, {9, 19}, {1, 3}, {14, 1}};
    for (int i = 0; i < 4; i++) {
        for (int s = 0; s < 2; s++) to[s] = from[s] + chunk[i][s] < len[s] ? from[s] + chunk[i][s] : len[s];
        run_part(t.m, infer, &k, &p, from, to, want);
        memcpy(from, to, sizeof from);
    }
    while (from[0] < len[0] || from[1] < len[1]) {
        for (int s = 0; s < 2; s++) to[s] = from[s] < len[s] ? from[s] + 1 : len[s];
        run_part(t.m, infer, &k, &p, from, to, want);
        memcpy(from, to, sizeof from);
    }
    float *again = copy_hidden(&(trainee){t.m, infer}, &p); /* packed rows without keeping anything for backward */
    assert_memory_equal(again, want, (size_t)(p.x.n_row * c.hidden) * sizeof *want);
    free(again), free(want);
    arena_destroy(k.arena);
    model_acts_destroy(infer);
    close_trainee(&t);
    packed_close(&p);
    b->close(b);
}

/* ---- parameters ---- */

typedef struct walk {
    const float *w, *g;
    int64_t at;
    int n;
} walk;

static status next_in_flat(void *ctx, const model_tensor *t)
{
    walk *k = ctx;
    int64_t count = 1;
    for (int d = 0; d < t->ndim; d++) count *= t->shape[d];
    assert_int_equal(count, tensor_count(&t->w));
    assert_ptr_equal(t->w.data, k->w + k->at);
    assert_ptr_equal(t->g.data, k->g + k->at);
    bool two_d = t->ndim > 1;
    assert_int_equal(t->matrix, two_d);
    k->at += count;
    k->n++;
    return ST_OK;
}

/* The Hugging Face views follow each other through the flat arenas without gap or overlap. */
static void views_tile_the_arena(void **state)
{
    (void)state;
    backend *b = open_cpu(1, "auto");
    for (int tied = 0; tied < 2; tied++) {
        model_config c = small_config(tied, 4, 2);
        model *m = NULL;
        ok(model_create(&m, b, &c, true));
        tensor w = model_params(m), g = model_grads(m);
        walk k = {w.data, g.data, 0, 0};
        ok(model_visit(m, next_in_flat, &k));
        assert_int_equal(k.at, model_param_count(m));
        assert_int_equal(k.n, 2 + !tied + 3 * 12 + 6 + 3 * 12);
        model_destroy(m);
    }
    b->close(b);
}

/* Same seed and name, same numbers, whatever else the model has; first query head of a group = its key head. */
static void init_is_by_name(void **state)
{
    (void)state;
    backend *b = open_cpu(1, "auto");
    model_config big = small_config(false, 4, 2), less = small_config(true, 4, 2);
    less.n_layer = 2;
    less.has_vision = false;
    model *m[2] = {NULL, NULL};
    ref_model r[2];
    ok(model_create(&m[0], b, &big, false));
    ok(model_create(&m[1], b, &less, false));
    for (int i = 0; i < 2; i++) {
        model_init(m[i], 42);
        ref_open(&r[i], m[i]);
    }
    assert_null(model_grads(m[0]).data);
    for (int i = 0; i < r[1].n; i++) {
        const ref_weight *x = &r[1].w[i], *y = ref_find(&r[0], "%s", x->name);
        assert_memory_equal(x->v, y->v, (size_t)x->n * sizeof *x->v);
    }
    const ref_weight *q = ref_find(&r[0], "model.layers.1.self_attn.q_proj.weight");
    const ref_weight *k = ref_find(&r[0], "model.layers.1.self_attn.k_proj.weight");
    size_t head = (size_t)(big.head_dim * big.hidden);
    assert_memory_equal(q->v, k->v, head * sizeof *q->v);
    assert_memory_equal(q->v + 2 * head, k->v + head, head * sizeof *q->v);
    assert_memory_not_equal(q->v + head, k->v, head * sizeof *q->v);
    const ref_weight *down = ref_find(&r[0], "model.layers.0.mlp.down_proj.weight");
    double sum = 0;
    for (int64_t i = 0; i < down->n; i++) sum += down->v[i] * down->v[i];
    double std = sqrt(sum / (double)down->n), aim = 0.4 / sqrt(big.intermediate);
    assert_true(fabs(std / aim - 1) < 0.25); /* 216 samples: standard error 5% */
    for (int i = 0; i < 2; i++) {
        ref_close(&r[i]);
        model_destroy(m[i]);
    }
    b->close(b);
}

/* Counted by hand for one sequence of 5 text tokens and a 4x4 image (4 visual tokens: one window = one frame). */
static void flops_by_hand(void **state)
{
    (void)state;
    model_config c = small_config(true, 4, 2);
    packed p;
    packed_open(&p, &c);
    int image = packed_image(&p, 1, 4, 4);
    packed_begin(&p, 1);
    packed_show(&p, image);
    packed_text(&p, 5);
    packed_end(&p);
    packed_all_rows(&p);
    double layer = 9 * (12 * (40 + 40) + 40 * 12 + 3 * 12 * 18) + 2 * 40 * 45;
    double block = 16 * (4 * 64 + 3 * 8 * 11) + 2 * 8 * 256;
    double want = 3 * layer + 9 * 12 * 37 + 16 * 54 * 8 + 3 * block + 4 * (32 * 32 + 32 * 12);
    assert_true(model_train_flops(&c, &p.x) == 6 * want);
    p.x.n_row = 2; /* seven rows less through the last layer's second half and the head */
    want -= 7 * (40 * 12 + 3 * 12 * 18 + 12 * 37);
    assert_true(model_train_flops(&c, &p.x) == 6 * want);
    packed_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hidden_matches_definition),
                                       cmocka_unit_test(gradients_match_definition),
                                       cmocka_unit_test(tower_matches_definition),
                                       cmocka_unit_test(same_bits_everywhere),
                                       cmocka_unit_test(packing_does_not_matter),
                                       cmocka_unit_test(paged_equals_packed),
                                       cmocka_unit_test(views_tile_the_arena),
                                       cmocka_unit_test(init_is_by_name),
                                       cmocka_unit_test(flops_by_hand)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
