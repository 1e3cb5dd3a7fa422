/* What the bit contract promises of the model about packing, paging, threads and instruction sets; and its parameters.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "tests/common/device.h"
#include "tests/common/model_ref.h"
#include "tests/common/trainee.h"

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

static float *copy_hidden(trainee *t, const packed *p)
{
    tensor h = model_forward(t->m, t->a, &p->x);
    return device_floats(model_backend(t->m), &h);
}

typedef struct outcome {
    float *hidden, *grads;
    int64_t n_hidden, n_grad;
} outcome;

/* One step from the same weights; a second one on top must leave the same, as nothing stays behind in the memory. */
static outcome step_on(backend *b, const model_config *c, const packed *p, const goal *g, int steps)
{
    trainee t = trainee_open(b, c, p);
    tensor grads = model_grads(t.m);
    outcome o = {.hidden = copy_hidden(&t, p), .n_hidden = (int64_t)p->x.n_row * c->hidden, .n_grad = grads.dim[0]};
    for (int step = 0; step < steps; step++) {
        b->fill(b, &grads, 0);
        trainee_step(&t, p, g);
    }
    o.grads = device_floats(b, &grads);
    trainee_close(&t);
    b->close(b);
    return o;
}

static void outcome_free(outcome *o)
{
    free(o->hidden);
    free(o->grads);
}

static void same_outcome(const outcome *o, const outcome *want, const char *where)
{
    if (memcmp(o->hidden, want->hidden, (size_t)want->n_hidden * sizeof *o->hidden)) fail_msg("hidden bits differ: %s", where);
    if (memcmp(o->grads, want->grads, (size_t)want->n_grad * sizeof *o->grads)) fail_msg("gradient bits differ: %s", where);
}

/* Distance of two vectors by the length of the second. */
static double distance(const float *a, const float *b, int64_t n)
{
    double diff = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)b[i] * b[i];
    }
    return sqrt(diff / all);
}

/* On a GPU: the CPU's bits in fp32. In bf16, where every activation is rounded by at most 2^-8 and some 20 of them follow
 * each other, which is 8 % if all went one way and 1 % if they are independent: within 5 % of the CPU's numbers by their
 * length (a wrong op changes them by as much as they are), and its own bits again. */
static void check_gpu(const model_config *c, const packed *p, const goal *g, const outcome *want)
{
    char where[200];
    outcome first = step_on(device_open(device_act()), c, p, g, 1);
    if (device_act() == DT_F32) {
        same_outcome(&first, want, "GPU in fp32");
    } else {
        double h = distance(first.hidden, want->hidden, want->n_hidden), d = distance(first.grads, want->grads, want->n_grad);
        if (!(h < 0.05 && d < 0.05)) fail_msg("bf16: hidden rows off by %.3f, gradients by %.3f", h, d);
    }
    for (unsigned order = 1; order < 3; order++) {
        device_thread_order(order);
        outcome again = step_on(device_open(device_act()), c, p, g, 2);
        snprintf(where, sizeof where, "GPU, time %u", order + 1);
        same_outcome(&again, &first, where);
        outcome_free(&again);
    }
    device_thread_order(0);
    outcome_free(&first);
}

/* With heads of 16, in the tower too: in bf16 attention then runs on tensor cores. */
static model_config heads_of_16(model_config c)
{
    c.head_dim = 16;
    memcpy(c.mrope_section, c.has_vision ? (int[]){2, 3, 3} : (int[]){8, 0, 0}, sizeof c.mrope_section);
    c.vision.hidden = 16 * c.vision.n_head;
    return c;
}

/* Hidden rows and gradients have the same bits for any thread count and instruction set, and when repeated. */
static void same_bits(model_config c)
{
    static const char *const isas[] = {"auto", "generic", "avx2", "avx512"};
    packed p;
    goal g;
    trainee_batch(&p, &c);
    packed_all_rows(&p);
    trainee_goal(&g, &p);
    outcome want = step_on(open_cpu(1, "auto"), &c, &p, &g, 2);
    if (device_is_gpu()) check_gpu(&c, &p, &g, &want);
    for (int k = 0; k < 4 && !device_is_gpu(); k++) {
        if (!cpu_isa_has(k ? isas[k] : "generic")) continue;
        backend *b = open_cpu(1 + (k != 1), isas[k]);
        char where[200];
        snprintf(where, sizeof where, "%s", b->describe);
        outcome o = step_on(b, &c, &p, &g, 1);
        same_outcome(&o, &want, where);
        outcome_free(&o);
    }
    outcome_free(&want);
    packed_close(&p);
}

static void same_bits_everywhere(void **state)
{
    (void)state;
    same_bits(trainee_config(true, 4, 2));
    same_bits(trainee_qwen3(true, 4, 2, 3));
    same_bits(trainee_text(FAMILY_QWEN3));
    same_bits(heads_of_16(trainee_text(FAMILY_QWEN3)));
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
static void check_packing(model_config c)
{
    backend *b = device_open(device_act());
    packed all, one;
    packed_open(&all, &c);
    int shared = packed_image(&all, 3, 4, 6), wide = packed_image(&all, 1, 6, 10);
    for (int id = 4; id >= 1; id--) add_sequence(&all, id, wide, shared);
    packed_all_rows(&all);
    trainee t = trainee_open(b, &c, &all);
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
    trainee_close(&t);
    packed_close(&all);
    b->close(b);
}

static void packing_does_not_matter(void **state)
{
    (void)state;
    check_packing(trainee_config(false, 4, 2));
    check_packing(trainee_qwen3(false, 4, 1, 2));
    check_packing(heads_of_16(trainee_config(false, 4, 2)));
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
    for (int l = 0; l < c->n_layer; l++) arena_add_act(k->arena, &k->layer[l], BLOCKS, kv_block_floats(&a));
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
    float *got = device_floats(model_backend(m), &h);
    for (int i = 0; i < part.x.n_tok; i++)
        if (memcmp(got + i * c->hidden, want + back[i] * c->hidden, (size_t)c->hidden * sizeof *want))
            fail_msg("row %d of the packed batch has other bits through the cache", back[i]);
    free(got);
}

/* Prefill in uneven chunks that cut images, then one token at a time; the other sequence keeps its own pace. */
static void check_paged(model_config c)
{
    backend *b = device_open(device_act());
    packed p;
    packed_open(&p, &c);
    int wide = packed_image(&p, 1, 6, 10), shared = packed_image(&p, 3, 4, 6);
    add_sequence(&p, 3, wide, shared);
    add_sequence(&p, 2, wide, shared);
    packed_all_rows(&p);
    trainee t = trainee_open(b, &c, &p);
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
    trainee_close(&t);
    packed_close(&p);
    b->close(b);
}

static void paged_equals_packed(void **state)
{
    (void)state;
    check_paged(trainee_config(true, 4, 2));
    check_paged(trainee_qwen3(true, 4, 2, 1));
    check_paged(trainee_qwen3(false, 4, 2, 3)); /* DeepStack also after the last layer */
    check_paged(heads_of_16(trainee_config(true, 4, 1)));
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
    for (int kind = 0; kind < 4; kind++) {
        bool tied = kind % 2, qwen3 = kind / 2;
        model_config c = qwen3 ? trainee_qwen3(tied, 4, 2, 2) : trainee_config(tied, 4, 2);
        model *m = NULL;
        ok(model_create(&m, b, &c, true));
        tensor w = model_params(m), g = model_grads(m);
        walk k = {w.data, g.data, 0, 0};
        ok(model_visit(m, next_in_flat, &k));
        assert_int_equal(k.at, model_param_count(m));
        int layer = qwen3 ? 11 : 12, tower = qwen3 ? 3 + 6 + 2 * 6 : 1 + 5;
        assert_int_equal(k.n, 2 + !tied + 3 * layer + tower + 3 * 12);
        model_destroy(m);
    }
    b->close(b);
}

/* Same seed and name, same numbers, whatever else the model has; first query head of a group = its key head. */
static void init_is_by_name(void **state)
{
    (void)state;
    backend *b = open_cpu(1, "auto");
    model_config big = trainee_config(false, 4, 2), less = trainee_config(true, 4, 2);
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
    model_config c = trainee_config(true, 4, 2);
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

/* The same for Qwen3-VL: two matrices in the tower's MLP, full attention, two DeepStack mergers. */
static void flops_by_hand_qwen3(void **state)
{
    (void)state;
    model_config c = trainee_qwen3(true, 4, 2, 2);
    packed p;
    packed_open(&p, &c);
    int image = packed_image(&p, 1, 4, 6);
    packed_begin(&p, 1);
    packed_show(&p, image);
    packed_text(&p, 3);
    packed_end(&p);
    packed_all_rows(&p);
    double layer = 9 * (12 * (56 + 56) + 56 * 12 + 3 * 12 * 18) + 2 * 56 * 45;
    double block = 24 * (4 * 64 + 2 * 8 * 11) + 2 * 8 * 576;
    double want = 3 * layer + 9 * 12 * 37 + 24 * 54 * 8 + 3 * block + 3 * 6 * (32 * 32 + 32 * 12);
    assert_true(model_train_flops(&c, &p.x) == 6 * want);
    packed_close(&p);
}

int main(int argc, char **argv)
{
    device_args(&argc, argv);
    const struct CMUnitTest on_device[] = {cmocka_unit_test(same_bits_everywhere), cmocka_unit_test(packing_does_not_matter),
                                           cmocka_unit_test(paged_equals_packed)};
    const struct CMUnitTest parameters[] = {cmocka_unit_test(views_tile_the_arena), cmocka_unit_test(init_is_by_name),
                                            cmocka_unit_test(flops_by_hand), cmocka_unit_test(flops_by_hand_qwen3)};
    int failed = cmocka_run_group_tests(on_device, NULL, NULL);
    return device_is_gpu() ? failed : failed + cmocka_run_group_tests(parameters, NULL, NULL);
}
