/* The ops of the CUDA backend on the shapes of Qwen2.5-VL, one figure a line as CSV, smallest first inside a group.
 * ms is the median over samples of one call, p10 and p90 beside it; tflops counts every product once and of causal
 * attention half the square, with no credit for what a backward pass computes again; gbs the bytes that must cross
 * memory. gpu_peer.py measures the same figures in PyTorch, gpu.sh runs both. --tiny: sizes for the stand-in of
 * tests/cuda_emu. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/rng.h"
#include "kernels/kernels.h"

enum {
    ARGS = 9,
    MAX_SETS = 64,
    MAX_SAMPLES = 200,
    MIN_SAMPLES = 20,
    PRIME = 7919,      /* a step that visits everything */
    CACHE = 256 << 20, /* several times the largest level 2: arguments used again after this much come from memory */
    NOISE = 4 << 20    /* numbers drawn on the host, copied on the device as often as a tensor needs */
};
static const double MIN_BATCH = 5e-3, MIN_TOTAL = 0.2, WARM_UP = 0.1, MOST = 5; /* seconds */

/* Zeros for outputs; normal numbers, 0.02 times, squared; integers. */
typedef enum source { EMPTY, NORMAL, WEIGHT, SQUARE, SERIES } source;

typedef struct spec {
    dtype type;
    source from;
    int64_t rows, cols;         /* cols 0: one dimension */
    int64_t first, step, below; /* of a series: first, first + step, ... modulo below */
} spec;

typedef void op_call(tensor *t, const attn_shape *a);

/* Calls of one op on several sets of tensors in turn, so that no call finds its arguments in the cache. */
typedef struct figure {
    const char *group, *name, *shape;
    int n_arg, sets;
    spec arg[ARGS];
    void *memory[ARGS]; /* all sets of the argument, one after the other */
    tensor t[MAX_SETS][ARGS];
    attn_shape attn;
    op_call *ready, *call; /* ready: what the call needs computed before; may be NULL */
    double flops, bytes;   /* of a call; 0: not its measure */
} figure;

static backend *b;
static bool tiny;
static tensor noise[SERIES + 1]; /* of the three kinds in the middle */
static double deadline, batch_seconds;

static long long size(long long n) { return !tiny || n <= 16 ? n : n / 128 < 16 ? 16 : (n / 128 + 15) / 16 * 16; }
static long long few(long long n) { return tiny ? 1 + n / 16 : n; }
static long long bulk(long long n) { return tiny ? n >> 14 : n; }
static int64_t noise_count(void) { return tiny ? 1 << 14 : NOISE; }

static void die(status st, const char *why)
{
    if (st == ST_OK) return;
    fprintf(stderr, "bench_cuda: %s\n", why);
    exit(st == ST_EUNAVAIL ? 77 : 1);
}

static void make_noise(void)
{
    rng_key k = rng_make_key(1, RNG_TEST, 0, 0, 0, 0);
    int64_t n = noise_count();
    float *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    CHECK(x && y);
    for (int64_t i = 0; i < n; i++) x[i] = rng_normal(k, (uint64_t)i);
    for (int s = NORMAL; s < SERIES; s++) {
        void *p;
        for (int64_t i = 0; i < n; i++) y[i] = s == NORMAL ? x[i] : s == WEIGHT ? 0.02f * x[i] : x[i] * x[i];
        die(b->alloc(b, (size_t)n * sizeof *y, &p), fail_message());
        noise[s] = tensor_1d(p, DT_F32, n);
        b->upload(b, &noise[s], y);
    }
    free(x);
    free(y);
}

/* Every tensor begins at another place of the noise. */
static void fill_with_noise(const tensor *t, source from)
{
    static int64_t count;
    int64_t n = tensor_count(t), first = 64 * (++count * 977 % (noise_count() / 64));
    for (int64_t at = 0; at < n; first = 0) {
        int64_t part = noise_count() - first < n - at ? noise_count() - first : n - at;
        tensor to = tensor_1d((char *)t->data + (size_t)at * dtype_size(t->type), t->type, part);
        tensor src = tensor_rows(&noise[from], first, part);
        b->copy(b, &to, &src);
        at += part;
    }
}

static spec b16(source from, int64_t rows, int64_t cols) { return (spec){DT_BF16, from, rows, cols, 0, 0, 0}; }
static spec f32(source from, int64_t rows, int64_t cols) { return (spec){DT_F32, from, rows, cols, 0, 0, 0}; }
static spec i32(int64_t rows, int64_t cols, int64_t first, int64_t step, int64_t below)
{
    return (spec){DT_I32, SERIES, rows, cols, first, step, below};
}
#define TAKES(...) .arg = {__VA_ARGS__}, .n_arg = sizeof((const spec[]){__VA_ARGS__}) / sizeof(spec)

static void fill_with_series(tensor *t, const spec *a)
{
    int64_t n = tensor_count(t);
    int32_t *x = malloc((size_t)n * sizeof *x);
    CHECK(x);
    for (int64_t i = 0; i < n; i++) x[i] = (int32_t)((a->first + i * a->step) % a->below);
    b->upload(b, t, x);
    free(x);
}

static const char *text(const char *format, ...) /* valid until the fourth next call */
{
    static char buffer[4][128];
    static int at;
    va_list list;
    va_start(list, format);
    vsnprintf(buffer[at = (at + 1) % 4], sizeof *buffer, format, list);
    va_end(list);
    return buffer[at];
}

static status allocate(figure *f)
{
    size_t one = 0, stride[ARGS];
    for (int k = 0; k < f->n_arg; k++) {
        const spec *a = &f->arg[k];
        f->t[0][k] = a->cols ? tensor_2d(NULL, a->type, a->rows, a->cols) : tensor_1d(NULL, a->type, a->rows);
        one += stride[k] = (tensor_bytes(&f->t[0][k]) + 255) / 256 * 256;
    }
    size_t want = tiny ? 2 : CACHE / one + 1;
    f->sets = want < MAX_SETS ? (int)want : MAX_SETS;
    for (int k = 0; k < f->n_arg; k++) {
        TRY(b->alloc(b, stride[k] * (size_t)f->sets, &f->memory[k]));
        for (int s = 0; s < f->sets; s++) {
            tensor *t = &f->t[s][k];
            *t = f->t[0][k];
            t->data = (char *)f->memory[k] + stride[k] * (size_t)s;
            if (f->arg[k].from == SERIES) fill_with_series(t, &f->arg[k]);
            if (noise[f->arg[k].from].data) fill_with_noise(t, f->arg[k].from);
        }
    }
    for (int s = 0; s < f->sets; s++)
        if (f->ready) f->ready(f->t[s], &f->attn);
    return b->sync(b);
}

static double batch(figure *f, int64_t calls) /* seconds */
{
    static int64_t at;
    double t = clock_now();
    for (int64_t i = 0; i < calls; i++) f->call(f->t[at++ % f->sets], &f->attn);
    if (b->sync(b) != ST_OK) return -1;
    return clock_now() - t;
}

static int ascending(const void *a, const void *c)
{
    return *(const double *)a < *(const double *)c ? -1 : *(const double *)a > *(const double *)c;
}

/* Samples of a call's seconds, sorted; 0 if the op failed. */
static int sample(figure *f, double *s)
{
    double warm = tiny ? 0 : WARM_UP, want = tiny ? 0 : batch_seconds, began = clock_now(), t;
    int64_t calls = 1;
    while ((t = batch(f, calls)) >= 0 && (t < want || clock_now() - began < warm) && clock_now() - began < MOST)
        if (t < want) calls = t < want / 8 ? 4 * calls : (int64_t)(1.2 * want / t * (double)calls) + 1;
    int n = 0, least = tiny ? 2 : MIN_SAMPLES;
    for (double total = 0; t >= 0 && n < MAX_SAMPLES && (n < least || total < (tiny ? 0 : MIN_TOTAL)); n++) {
        if (n >= 3 && (clock_now() > deadline || clock_now() - began > MOST)) break;
        t = batch(f, calls);
        s[n] = t / (double)calls;
        total += t;
    }
    qsort(s, (size_t)n, sizeof *s, ascending);
    return t < 0 ? 0 : n;
}

static void measure(figure *f)
{
    double s[MAX_SAMPLES];
    bool late = clock_now() > deadline;
    int n = !late && allocate(f) == ST_OK ? sample(f, s) : 0;
    if (n == 0) {
        fprintf(stderr, "bench_cuda: %s %s %s: %s\n", f->group, f->name, f->shape,
                late ? "left out, the time is over" : fail_message());
    } else {
        double mid = n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
        printf("%s,%s,%s,%.5f,%.5f,%.5f,", f->group, f->name, f->shape, 1e3 * mid, 1e3 * s[n / 10],
               1e3 * s[n * 9 / 10]);
        if (f->flops > 0) printf("%.5g", 1e-12 * f->flops / mid);
        printf(",");
        if (f->bytes > 0) printf("%.5g", 1e-9 * f->bytes / mid);
        printf("\n");
        fflush(stdout);
    }
    b->params_changed(b);
    for (int k = 0; k < f->n_arg; k++)
        if (f->memory[k]) b->release(b, f->memory[k]);
}

/* ---- the figures ---- */

#define CALL(name, ...) \
    static void name(tensor *t, const attn_shape *a) { (void)a, __VA_ARGS__; }

CALL(call_fwd, b->linear_fwd(b, &t[0], &t[1], &t[2], NULL))
CALL(call_dx, b->linear_dx(b, &t[0], &t[1], &t[2]))
CALL(call_dw, b->linear_dw(b, &t[0], NULL, &t[1], &t[2]))
CALL(call_copy, b->copy(b, &t[0], &t[1]))
CALL(call_sumsq, b->sumsq_blocks(b, &t[0], &t[1]))
CALL(call_add, b->add(b, &t[0], &t[1], &t[2]))
CALL(call_rms_fwd, b->rmsnorm_fwd(b, &t[0], &t[1], &t[2], &t[3], 1e-6f))
CALL(call_rms_bwd, b->rmsnorm_bwd(b, &t[0], &t[4], &t[5], &t[2], &t[3], &t[1]))
CALL(call_swiglu_fwd, b->swiglu_fwd(b, &t[0], &t[1]))
CALL(call_swiglu_bwd, b->swiglu_bwd(b, &t[0], &t[1], &t[2]))
CALL(call_rope, b->rope_apply(b, &t[0], &t[1], &t[2], a->n_head + a->n_kv, a->head_dim, false))
CALL(ready_rope, b->rope_table(b, &t[1], &t[2], &t[3], &t[4], &t[5]))
CALL(call_adamw, b->adamw(b, &t[0], &t[1], &t[2], &t[3], &(adamw_step){1e-5f, 0.9f, 0.95f, 1e-8f, 0.01f, 1, 100}))
CALL(call_attn_fwd, b->attn_fwd(b, &t[0], &t[1], &t[2], &t[3], a))
CALL(call_attn_bwd, b->attn_bwd(b, &t[4], &t[5], &t[0], &t[1], &t[2], &t[3], a))
CALL(call_paged, b->attn_paged(b, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], a))
CALL(call_logp_fwd, b->logprob_fwd(b, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], NULL, 1))
CALL(call_logp_bwd, b->logprob_bwd(b, &t[6], &t[7], &t[3], &t[4], &t[5], NULL, &t[1], &t[2], &t[8], &t[8], 1))

/* A linear layer's forward, or the gradient of its input or of its matrix. */
static void linear(const char *group, const char *name, int what, long long n, long long in, long long out)
{
    static op_call *const call[] = {call_fwd, call_dx, call_dw};
    spec x = b16(NORMAL, n, in), w = b16(WEIGHT, out, in), dy = b16(NORMAL, n, out),
         args[3][3] = {{b16(EMPTY, n, out), x, w}, {b16(EMPTY, n, in), dy, w}, {f32(EMPTY, out, in), dy, x}};
    bool read = strcmp(group, "decode") == 0; /* the matrix from memory is what it takes */
    measure(&(figure){group, name, text("%lldx%lldx%lld", n, in, out), .call = call[what],
                      .flops = read ? 0 : 2.0 * n * in * out, .bytes = read ? 2.0 * in * out : 0,
                      TAKES(args[what][0], args[what][1], args[what][2])});
}

/* The rates that the other figures are judged by: 4 GiB read, copied; a large product. */
static void ceiling(void)
{
    long long n = bulk(1 << 30), m = size(8192);
    const char *shape = text("%lld f32", n);
    spec sums = {DT_F64, EMPTY, (n + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK, 0, 0, 0, 0};
    measure(&(figure){"ceiling", "read", shape, .call = call_sumsq, .bytes = 4.0 * n, TAKES(sums, f32(NORMAL, n, 0))});
    measure(&(figure){"ceiling", "copy", shape, .call = call_copy, .bytes = 8.0 * n,
                      TAKES(f32(EMPTY, n, 0), f32(NORMAL, n, 0))});
    linear("ceiling", "matmul", 0, m, m, m);
}

/* Gate and up are one matrix. */
enum { LAYERS = 8 };
static const struct {
    const char *name;
    int in, out;
} layers[LAYERS] = {{"3B o", 2048, 2048},        {"3B qkv", 2048, 2560},     {"3B down", 11008, 2048},
                    {"3B gate_up", 2048, 22016}, {"7B o", 3584, 3584},       {"7B qkv", 3584, 4608},
                    {"7B down", 18944, 3584},    {"7B gate_up", 3584, 37888}};

static void gemm(void)
{
    static const char *const product[] = {"fwd", "dx", "dw"};
    for (int l = 0; l < LAYERS; l++)
        for (int what = 0; what < 3; what++)
            linear("gemm", text("%s %s", layers[l].name, product[what]), what, size(4096), size(layers[l].in),
                   size(layers[l].out));
}

static void decode(void)
{
    static const int rows[] = {1, 16, 64, 256};
    for (int r = 0; r < 4; r++)
        for (int l = 0; l < LAYERS; l++)
            linear("decode", layers[l].name, 0, few(rows[r]), size(layers[l].in), size(layers[l].out));
}

/* Forward and backward of equal segments. */
static void packed(const char *name, attn_shape a, long long segments, long long len)
{
    long long n = segments * len, o = a.n_head * a.head_dim, w = o + 2 * a.n_kv * a.head_dim;
    double flops = 4.0 * n * len * o * (a.causal ? 0.5 : 1);
    spec out = b16(EMPTY, n, o), lse = f32(EMPTY, n, a.n_head), qkv = b16(NORMAL, n, w);
    spec cu = i32(segments + 1, 0, 0, len, n + 1), dqkv = b16(EMPTY, n, w), dout = b16(NORMAL, n, o);
    const char *shape = text("%lldx%lld %d/%dx%d", segments, len, a.n_head, a.n_kv, a.head_dim);
    measure(&(figure){"attention", text("%s fwd", name), shape, .call = call_attn_fwd, .attn = a, .flops = flops,
                      TAKES(out, lse, qkv, cu)});
    measure(&(figure){"attention", text("%s bwd", name), shape, .ready = call_attn_fwd, .call = call_attn_bwd,
                      .attn = a, .flops = 2.5 * flops, TAKES(out, lse, qkv, cu, dqkv, dout)});
}

/* One new token for each sequence, whose blocks lie all over the cache. */
static void paged(attn_shape a, long long seqs, long long context)
{
    long long blocks = (context + ATTN_BLOCK - 1) / ATTN_BLOCK, all = seqs * blocks;
    long long o = a.n_head * a.head_dim, kv = 2 * a.n_kv * a.head_dim;
    const char *shape = text("%lldx%lld %d/%dx%d", seqs, context, a.n_head, a.n_kv, a.head_dim);
    spec cache = b16(NORMAL, all, kv_block_floats(&a)), table = i32(seqs, blocks, 0, PRIME, all);
    measure(&(figure){"attention", "paged decode", shape, .call = call_paged, .attn = a,
                      .bytes = 2.0 * seqs * context * kv,
                      TAKES(b16(EMPTY, seqs, o), b16(NORMAL, seqs, o + kv), cache, table,
                            i32(seqs + 1, 0, 0, 1, seqs + 1), i32(seqs, 0, context, 0, context + 1))});
}

static const attn_shape text_7b = {28, 4, 128, 0.088388348f, true}, vision = {16, 16, 80, 0.111803399f, false};

static void attention(void)
{
    paged(text_7b, few(64), size(2048));
    packed("windows", vision, size(256), size(64));
    packed("causal", text_7b, 4, size(1024));
    packed("causal", text_7b, 1, size(4096));
    packed("vision", vision, 1, size(4096));
}

static void head(void)
{
    long long n = size(4096), c = size(3584), v = size(152064);
    const char *shape = text("%lldx%lldx%lld", n, c, v);
    spec row = f32(EMPTY, n, 0), x = b16(NORMAL, n, c), w = b16(WEIGHT, v, c), target = i32(n, 0, 0, PRIME, v);
    measure(&(figure){"head", "logprob fwd", shape, .call = call_logp_fwd, .flops = 2.0 * n * c * v,
                      TAKES(row, row, row, x, w, target)});
    measure(&(figure){"head", "logprob bwd", shape, .ready = call_logp_fwd, .call = call_logp_bwd,
                      .flops = 4.0 * n * c * v,
                      TAKES(row, row, row, x, w, target, b16(EMPTY, n, c), f32(EMPTY, v, c), f32(WEIGHT, n, 0))});
}

static void norms(void)
{
    long long n = size(4096), c = size(3584), ff = size(18944);
    const char *shape = text("%lldx%lld", n, c);
    spec out = b16(EMPTY, n, c), in = b16(NORMAL, n, c), rstd = f32(EMPTY, n, 0), scale = f32(NORMAL, c, 0);
    measure(&(figure){"norms", "add", shape, .call = call_add, .bytes = 6.0 * n * c, TAKES(out, in, in)});
    measure(&(figure){"norms", "rmsnorm fwd", shape, .call = call_rms_fwd, .bytes = 4.0 * n * c,
                      TAKES(out, rstd, in, scale)});
    measure(&(figure){"norms", "rmsnorm bwd", shape, .ready = call_rms_fwd, .call = call_rms_bwd, .bytes = 6.0 * n * c,
                      TAKES(out, rstd, in, scale, f32(EMPTY, c, 0), in)});

    enum { HALF = 64 }; /* of a head */
    long long heads = text_7b.n_head + text_7b.n_kv, width = (heads + text_7b.n_kv) * 2 * HALF;
    spec table = f32(EMPTY, n, HALF), freq = f32(SQUARE, HALF, 0), pos = i32(n, 1, 0, 1, n);
    measure(&(figure){"norms", "rope", text("%lldx%lldx%d", n, heads, 2 * HALF), .ready = ready_rope, .call = call_rope,
                      .attn = text_7b, .bytes = 8.0 * n * HALF * (heads + 1),
                      TAKES(b16(NORMAL, n, width), table, table, pos, freq, i32(HALF, 0, 0, 0, 1))});

    spec y = b16(EMPTY, n, ff), dy = b16(NORMAL, n, ff), gu = b16(NORMAL, n, 2 * ff), dgu = b16(EMPTY, n, 2 * ff);
    shape = text("%lldx%lld", n, ff);
    measure(&(figure){"norms", "swiglu fwd", shape, .call = call_swiglu_fwd, .bytes = 6.0 * n * ff, TAKES(y, gu)});
    measure(
        &(figure){"norms", "swiglu bwd", shape, .call = call_swiglu_bwd, .bytes = 10.0 * n * ff, TAKES(dgu, dy, gu)});
}

static void optimizer(void)
{
    long long n = bulk(500000000);
    spec w = f32(WEIGHT, n, 0), v = f32(SQUARE, n, 0), g = f32(NORMAL, n, 0);
    measure(&(figure){"optimizer", "adamw", text("%lld", n), .call = call_adamw, .bytes = 28.0 * n, TAKES(w, w, v, g)});
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {{"ceiling", ceiling}, {"norms", norms}, {"optimizer", optimizer},
                  {"decode", decode},   {"gemm", gemm},   {"attention", attention},
                  {"head", head}};
    struct {
        const char *name, *value;
    } option[] = {{"--groups", NULL}, {"--seconds", "1e9"}, {"--device", "0"}, {"--plugin", NULL}};
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < 4 && strcmp(argv[i], option[k].name) != 0) k++;
        if (k < 4 && i + 1 < argc)
            option[k].value = argv[++i];
        else if (strcmp(argv[i], "--tiny") == 0)
            tiny = true;
        else
            die(ST_EINVAL, "usage: bench_cuda [--groups a,b,c] [--seconds S] [--device N] [--plugin FILE] [--tiny]");
    }
    deadline = clock_now() + atof(option[1].value);
    die(backend_open_cuda(&b, atoi(option[2].value), DT_BF16, option[3].value), fail_message());
    make_noise();
    die(b->sync(b), fail_message());
    double cost = clock_now();
    for (int i = 0; i < 50; i++) die(b->sync(b), fail_message());
    cost = (clock_now() - cost) / 50;
    batch_seconds = fmax(MIN_BATCH, 100 * cost);
    fprintf(stderr, "%s; a sync costs %.1f us\n", b->describe, 1e6 * cost);
    printf("group,name,shape,ms,p10,p90,tflops,gbs\n");
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        if (!option[0].value || strstr(text(",%s,", option[0].value), text(",%s,", groups[g].name))) groups[g].run();
    backend_close(b);
    return 0;
}
