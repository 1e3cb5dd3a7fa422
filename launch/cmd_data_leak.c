/* data leak: is the hard detail really gone in what the model sees? A two-layer perceptron is given the 8x8 pixels of
 * the view round the detail, the card's colour and its name, and many labelled examples: far more help than the policy
 * has. If it stays near chance the detail can't be read without code. Two easier sizes show that the test finds a leak
 * where there is one. It bounds what such a perceptron finds; it is no proof. */
#include "core/arena.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"
#include "data/hash.h"
#include "data/synth.h"
#include "data/synth_part.h"
#include "kernels/kernels.h"
#include "launch/args.h"
#include "launch/cmd_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AROUND = 8,
    PIXELS = AROUND * AROUND * 3,
    FEATURES = PIXELS + 3 + SYNTH_COLOURS,
    HIDDEN = 256,
    CLASSES = 10,
    BATCH = 128
};

typedef struct probe {
    synth_category category;
    int tile_scale;
    const char *what;
    double chance, goal; /* best accuracy allowed; 1: none, the row shows that the test can find a leak */
} probe;
static const probe PROBES[] = {
    {SYNTH_RD_HARD, 1, "digit", .10, .25},
    {SYNTH_ROT_HARD, 1, "rotated digit", .10, .25},
    {SYNTH_CNT_HARD, 1, "count", 1. / 9, .40},
    {SYNTH_RD_HARD, 2, "digit twice as large", .10, 1},
    {SYNTH_RD_HARD, 4, "digit 4 times as large", .10, 1},
};
enum { PROBE_COUNT = sizeof PROBES / sizeof PROBES[0] };

typedef struct examples {
    int n;
    float *x;
    int32_t *label;
} examples;

typedef struct drawing {
    const probe *p;
    uint64_t seed, stream;
    examples *to;
} drawing;

/* The view's pixels: a window aligned to the view's grid shrinks to exactly the pixels the whole picture gives, but for
 * its outermost ones, where the filter would reach further. */
static void look(const synth_scene *s, float *x)
{
    image window, view;
    int centre = SYNTH_CELL + SYNTH_CENTRE, side = AROUND + 2;
    synth_crop(&window, &s->picture, centre - SYNTH_BLOCK / 2, centre - SYNTH_BLOCK / 2, side / 2 * SYNTH_BLOCK);
    status st = image_resize(&view, &window, side, side, (resample)SYNTH_FILTER);
    CHECK(st == ST_OK);
    for (int y = 0, i = 0; y < AROUND; y++)
        for (int k = 0; k < 3 * AROUND; k++) x[i++] = (float)view.rgb[3 * ((y + 1) * side + 1) + k];
    image_free(&view);
    image_free(&window);
    /* the card's own colour, averaged over a strip far from the detail */
    synth_crop(&window, &s->picture, 80, SYNTH_SIDE / 2, 48);
    for (int c = 0; c < 3; c++) {
        double sum = 0;
        for (int i = 0; i < window.w * window.h; i++) sum += window.rgb[3 * i + c];
        x[PIXELS + c] = (float)(sum / (window.w * window.h));
    }
    image_free(&window);
    for (int c = 0; c < SYNTH_COLOURS; c++) x[PIXELS + 3 + c] = c == s->colour;
}

static void draw_some(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const drawing *d = ctx;
    for (int i = begin; i < end; i++) {
        rng r = {rng_make_key(d->seed, RNG_SYNTH, d->stream, (uint64_t)i, (uint64_t)d->p->category,
                              (uint64_t)d->p->tile_scale),
                 0};
        synth_scene s;
        synth_draw(&s, d->p->category, d->p->tile_scale, &r);
        look(&s, d->to->x + (size_t)i * FEATURES);
        d->to->label[i] = synth_counts(s.category) ? s.value - 1 : s.value;
        synth_scene_free(&s);
    }
}

/* To zero mean and unit spread by the training examples. */
static void normalise(examples *train, examples *test)
{
    for (int f = 0; f < FEATURES; f++) {
        double sum = 0, sum2 = 0;
        for (int i = 0; i < train->n; i++) {
            double v = train->x[(size_t)i * FEATURES + f];
            sum += v, sum2 += v * v;
        }
        double mean = sum / train->n, spread = sqrt(fmax(sum2 / train->n - mean * mean, 1e-6));
        for (int k = 0; k < 2; k++) {
            examples *e = k ? test : train;
            for (int i = 0; i < e->n; i++) {
                float *v = &e->x[(size_t)i * FEATURES + f];
                *v = (float)((*v - mean) / spread);
            }
        }
    }
}

typedef struct weights {
    arena *a;
    tensor w1, b1, w2;
} weights;

typedef struct net {
    backend *b;
    weights p, g, m, v;
    arena *a;
    tensor x, h, act, target, logp, lse, dlogp, dact, dh, id;
} net;

static status add_weights(net *n, weights *w, const char *name)
{
    TRY(arena_create_flat(&w->a, n->b, name));
    arena_add_2d(w->a, &w->w1, DT_F32, HIDDEN, FEATURES);
    arena_add_1d(w->a, &w->b1, DT_F32, HIDDEN);
    arena_add_2d(w->a, &w->w2, DT_F32, CLASSES, HIDDEN);
    return arena_commit(w->a);
}

static status net_open(net *n, backend *b, uint64_t seed)
{
    n->b = b;
    TRY(add_weights(n, &n->p, "probe weights"));
    TRY(add_weights(n, &n->g, "probe gradients"));
    TRY(add_weights(n, &n->m, "probe moments"));
    TRY(add_weights(n, &n->v, "probe second moments"));
    TRY(arena_create(&n->a, b, "probe activations"));
    arena_add_2d(n->a, &n->x, DT_F32, BATCH, FEATURES);
    tensor *wide[] = {&n->h, &n->act, &n->dact, &n->dh};
    for (int i = 0; i < 4; i++) arena_add_2d(n->a, wide[i], DT_F32, BATCH, HIDDEN);
    tensor *thin[] = {&n->logp, &n->lse, &n->dlogp};
    for (int i = 0; i < 3; i++) arena_add_1d(n->a, thin[i], DT_F32, BATCH);
    arena_add_1d(n->a, &n->target, DT_I32, BATCH);
    arena_add_1d(n->a, &n->id, DT_I32, BATCH);
    TRY(arena_commit(n->a));
    float *w = malloc(HIDDEN * FEATURES * sizeof *w);
    if (!w) return FAIL(ST_ENOMEM, "no memory for the probe");
    rng_key key = rng_make_key(seed, RNG_INIT, 0x1eac, 0, 0, 0);
    for (int i = 0; i < HIDDEN * FEATURES; i++) w[i] = rng_normal(key, (uint64_t)i) / sqrtf(FEATURES);
    b->upload(b, &n->p.w1, w);
    for (int i = 0; i < CLASSES * HIDDEN; i++)
        w[i] = 0.1f * rng_normal(key, (uint64_t)HIDDEN * FEATURES + (uint64_t)i) / sqrtf(HIDDEN);
    b->upload(b, &n->p.w2, w);
    free(w);
    b->fill(b, &n->dlogp, -1.0f / BATCH);
    b->params_changed(b);
    return b->sync(b);
}

static void net_close(net *n)
{
    weights *w[] = {&n->p, &n->g, &n->m, &n->v};
    for (int i = 0; i < 4; i++) arena_destroy(w[i]->a);
    arena_destroy(n->a);
}

/* Takes BATCH examples, numbers order[0..]. */
static void feed(net *n, const examples *e, const int *order, float *stage)
{
    int32_t label[BATCH];
    for (int i = 0; i < BATCH; i++) {
        memcpy(stage + (size_t)i * FEATURES, e->x + (size_t)order[i] * FEATURES, FEATURES * sizeof *stage);
        label[i] = e->label[order[i]];
    }
    n->b->upload(n->b, &n->x, stage);
    n->b->upload(n->b, &n->target, label);
    n->b->linear_fwd(n->b, &n->h, &n->x, &n->p.w1, &n->p.b1);
    n->b->gelu_fwd(n->b, &n->act, &n->h);
}

static void learn(net *n, const adamw_step *step)
{
    backend *b = n->b;
    tensor p = arena_flat(n->p.a), g = arena_flat(n->g.a), m = arena_flat(n->m.a), v = arena_flat(n->v.a);
    b->fill(b, &g, 0);
    b->logprob_fwd(b, &n->logp, &n->lse, NULL, &n->act, &n->p.w2, &n->target, NULL, 1);
    b->logprob_bwd(b, &n->dact, &n->g.w2, &n->act, &n->p.w2, &n->target, NULL, &n->lse, NULL, &n->dlogp, NULL, 1);
    b->gelu_bwd(b, &n->dh, &n->dact, &n->h);
    b->linear_dw(b, &n->g.w1, &n->g.b1, &n->dh, &n->x);
    b->adamw(b, &p, &m, &v, &g, step);
    b->params_changed(b);
}

static double accuracy(net *n, const examples *e, float *stage)
{
    int32_t id[BATCH];
    int order[BATCH], right = 0, seen = 0;
    for (int at = 0; at + BATCH <= e->n; at += BATCH) {
        for (int i = 0; i < BATCH; i++) order[i] = at + i;
        feed(n, e, order, stage);
        n->b->sample(n->b, &n->id, &n->logp, &n->act, &n->p.w2, NULL, NULL, 0);
        n->b->download(n->b, id, &n->id);
        for (int i = 0; i < BATCH; i++) right += id[i] == e->label[at + i];
        seen += BATCH;
    }
    return (double)right / seen;
}

typedef struct outcome {
    double last, best;
} outcome;

static status train(backend *b, const examples *tr, const examples *te, int epochs, uint64_t seed, progress *bar,
                    int64_t done, outcome *out)
{
    net n = {0};
    status st = net_open(&n, b, seed);
    int *order = malloc((size_t)tr->n * sizeof *order);
    float *stage = malloc(BATCH * FEATURES * sizeof *stage);
    if (st == ST_OK && (!order || !stage)) st = FAIL(ST_ENOMEM, "no memory for the probe's batches");
    int64_t t = 0, total = (int64_t)epochs * (tr->n / BATCH);
    for (int e = 0; e < epochs && st == ST_OK; e++) {
        rng r = {rng_make_key(seed, RNG_SHUFFLE, 0x1eac, (uint64_t)e, 0, 0), 0};
        for (int i = 0; i < tr->n; i++) order[i] = i;
        for (int i = 0; i + 1 < tr->n; i++) {
            int j = i + (int)rng_next_below(&r, (uint32_t)(tr->n - i)), kept = order[i];
            order[i] = order[j], order[j] = kept;
        }
        for (int at = 0; at + BATCH <= tr->n; at += BATCH) {
            float lr = 1e-3f * (1 - 0.95f * (float)t / (float)total);
            t++;
            feed(&n, tr, order + at, stage);
            learn(&n, &(adamw_step){.lr = lr,
                                    .beta1 = .9f,
                                    .beta2 = .98f,
                                    .eps = 1e-8f,
                                    .weight_decay = .05f,
                                    .grad_scale = 1,
                                    .t = t});
        }
        st = b->sync(b);
        out->last = accuracy(&n, te, stage);
        if (out->last > out->best) out->best = out->last;
        char note[64];
        snprintf(note, sizeof note, "epoch %d: %.3f", e + 1, out->last);
        progress_set(bar, done + e + 1, note);
    }
    free(order);
    free(stage);
    net_close(&n);
    return st;
}

static status run_probe(const probe *p, backend *b, thread_pool *pool, int n, int epochs, uint64_t seed, progress *bar,
                        int64_t done, outcome *out)
{
    examples set[2] = {{.n = n}, {.n = 2048}};
    status st = ST_OK;
    for (int k = 0; k < 2 && st == ST_OK; k++) {
        set[k].x = malloc((size_t)set[k].n * FEATURES * sizeof(float));
        set[k].label = malloc((size_t)set[k].n * sizeof(int32_t));
        if (!set[k].x || !set[k].label) st = FAIL(ST_ENOMEM, "no memory for %d examples", set[k].n);
        drawing d = {p, seed, hash_bytes(k ? "leak-test" : "leak-train", k ? 9 : 10, 0), &set[k]};
        if (st == ST_OK) thread_pool_for(pool, set[k].n, 16, draw_some, &d);
    }
    if (st == ST_OK) {
        normalise(&set[0], &set[1]);
        st = train(b, &set[0], &set[1], epochs, seed, bar, done, out);
    }
    for (int k = 0; k < 2; k++) {
        free(set[k].x);
        free(set[k].label);
    }
    return st;
}

static void report_json(json_out *o, const outcome *r, int n, int epochs, int64_t seed, double seconds)
{
    json_begin(o, true);
    json_open(o, '{');
    json_key(o, "seed"), json_put_int(o, seed);
    json_key(o, "n"), json_put_int(o, n);
    json_key(o, "epochs"), json_put_int(o, epochs);
    json_key(o, "seconds"), json_put_num(o, seconds);
    json_key(o, "rows");
    json_open(o, '[');
    for (int i = 0; i < PROBE_COUNT; i++) {
        json_open(o, '{');
        json_key(o, "category"), json_put_str(o, synth_category_name(PROBES[i].category));
        json_key(o, "what"), json_put_str(o, PROBES[i].what);
        json_key(o, "tile_scale"), json_put_int(o, PROBES[i].tile_scale);
        json_key(o, "chance"), json_put_num(o, PROBES[i].chance);
        json_key(o, "accuracy"), json_put_num(o, r[i].last);
        json_key(o, "best_epoch"), json_put_num(o, r[i].best);
        json_key(o, "goal");
        if (PROBES[i].goal < 1)
            json_put_num(o, PROBES[i].goal);
        else
            json_put_null(o);
        json_close(o, '}');
    }
    json_close(o, ']');
    json_close(o, '}');
}

static void report_table(const outcome *r)
{
    printf("%-10s %-24s %6s %9s %11s %6s\n", "category", "what", "chance", "accuracy", "best epoch", "goal");
    for (int i = 0; i < PROBE_COUNT; i++) {
        char goal[16] = "leaks";
        if (PROBES[i].goal < 1) snprintf(goal, sizeof goal, "<=%.2f", PROBES[i].goal);
        printf("%-10s %-24s %6.2f %9.3f %11.3f %6s\n", synth_category_name(PROBES[i].category), PROBES[i].what,
               PROBES[i].chance, r[i].last, r[i].best, goal);
    }
}

status data_leak(int argc, char **argv)
{
    int64_t seed = 0, n = 24000, threads = 0, epochs = 12;
    bool json_wanted = false, helped = false;
    const char *isa = "auto", *out = NULL;
    const arg table[] = {{"seed", ARG_INT, &seed, "S", "scenes, initial weights and order (0)"},
                         {"n", ARG_INT, &n, "N", "training examples per row of the table (24000)"},
                         {"epochs", ARG_INT, &epochs, "N", "passes over them (12)"},
                         {"threads", ARG_INT, &threads, "N", "0: every CPU (0)"},
                         {"isa", ARG_STR, &isa, "NAME", "auto, avx512, avx2 or generic (auto)"},
                         {"json", ARG_FLAG, &json_wanted, NULL, "print JSON instead of the table"},
                         {"out", ARG_STR, &out, "FILE", "also write the JSON here"},
                         {.name = NULL}};
    TRY(args_parse(
        argc, argv,
        "trains a small classifier on the view's pixels round the hard detail: near chance = the detail is gone",
        "codedance data leak --seed 1 --n 24000", table, NULL, &helped));
    if (helped) return ST_OK;
    if (n < BATCH || n > 10000000) return args_usage("--n must be between %d and 10000000", BATCH);
    if (epochs < 1 || epochs > 1000) return args_usage("--epochs must be between 1 and 1000");
    if (seed < 0 || threads < 0 || threads > 1024) return args_usage("--seed and --threads must not be negative");
    backend *b = NULL;
    thread_pool *pool = NULL;
    outcome r[PROBE_COUNT] = {{0}};
    double start = clock_now();
    TRY(backend_open_cpu(&b, (int)threads, isa));
    progress *bar = progress_start("leak", PROBE_COUNT * epochs);
    status st = thread_pool_create(&pool, threads ? (int)threads : thread_cpus());
    for (int i = 0; i < PROBE_COUNT && st == ST_OK; i++)
        st = run_probe(&PROBES[i], b, pool, (int)n, (int)epochs, (uint64_t)seed, bar, i * epochs, &r[i]);
    progress_end(bar);
    thread_pool_destroy(pool);
    backend_close(b);
    if (st != ST_OK) return st;
    json_out o;
    report_json(&o, r, (int)n, (int)epochs, seed, clock_now() - start);
    if (json_wanted)
        printf("%.*s\n", (int)o.len, o.text);
    else
        report_table(r);
    if (out) {
        FILE *f = fopen(out, "w");
        bool bad = !f || fprintf(f, "%.*s\n", (int)o.len, o.text) < 0;
        if (f) bad |= fclose(f) != 0;
        if (bad) st = FAIL(ST_EIO, "%s: cannot be written", out);
    }
    json_end(&o);
    for (int i = 0; i < PROBE_COUNT && st == ST_OK; i++)
        if (r[i].best > PROBES[i].goal)
            st = FAIL(ST_EINVAL, "%s leaks: %.3f of the answers can be read from the view, goal %.2f",
                      synth_category_name(PROBES[i].category), r[i].best, PROBES[i].goal);
    return st;
}
