/* One SFT step of the demo's model (forward, loss, backward, clip norm, AdamW) beside the machine's measured fp32 FMA
 * peak. The peer on the same work is benchmarks/torch_step.py.   bench_step [threads] [steps] [isa] [ops]
 * ops: also the time of every op. */
#include "core/clock.h"
#include "core/model.h"
#include "core/mrope.h"
#include "core/rng.h"
#include "benchmarks/op_times.inc"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 3, TOK_PER_PIC = 9, PATCHES = 36 };
static const int group_n[GROUPS] = {16, 12, 4}, group_len[GROUPS] = {32, 100, 190}, group_pics[GROUPS] = {1, 2, 3};

static void die(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "bench_step: %s\n", fail_message());
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1, steps = argc > 2 ? atoi(argv[2]) : 20;
    backend *b;
    die(backend_open_cpu(&b, threads, argc > 3 ? argv[3] : "auto"));
    bool by_op = argc > 4 && strcmp(argv[4], "ops") == 0;
    model_config c = {.hidden = 128,
                      .n_layer = 3,
                      .n_head = 4,
                      .n_kv = 2,
                      .head_dim = 32,
                      .intermediate = 320,
                      .vocab = 512,
                      .max_position = 4096,
                      .tied = true,
                      .qkv_bias = true,
                      .rms_eps = 1e-6f,
                      .rope_theta = 1e4,
                      .mrope_section = {4, 6, 6},
                      .has_vision = true,
                      .image_token = 400,
                      .vision = {.depth = 2,
                                 .hidden = 96,
                                 .intermediate = 192,
                                 .n_head = 4,
                                 .patch = 14,
                                 .temporal_patch = 2,
                                 .merge = 2,
                                 .in_channels = 3,
                                 .window = 112,
                                 .out_hidden = 128,
                                 .tokens_per_second = 2,
                                 .n_full = 1,
                                 .full_blocks = {1}}};
    model *m;
    die(model_create(&m, b, &c, true));
    model_init(m, 1);

    int n_tok = 0, n_seq = 0, pics = 0, n_row = 0;
    for (int g = 0; g < GROUPS; g++) {
        n_tok += group_n[g] * group_len[g];
        n_seq += group_n[g];
        pics += group_n[g] * group_pics[g];
        n_row += group_n[g] * (group_len[g] / 2);
    }
    int patch_dim = vision_patch_dim(&c.vision), n_vis = pics * TOK_PER_PIC;
    int32_t *ids = calloc((size_t)n_tok, 4), *pos = calloc((size_t)n_tok * 3, 4), *cu = calloc((size_t)n_seq + 1, 4),
            *grid = calloc((size_t)pics * 3, 4), *vis_tok = calloc((size_t)n_vis, 4),
            *vis_row = calloc((size_t)n_vis, 4), *row = calloc((size_t)n_row, 4), *target = calloc((size_t)n_row, 4);
    float *patches = malloc(sizeof(float) * (size_t)(pics * PATCHES) * (size_t)patch_dim);
    rng r = {rng_make_key(1, RNG_TEST, 0, 0, 0, 0), 0};
    for (int64_t i = 0; i < (int64_t)pics * PATCHES * patch_dim; i++) patches[i] = 2 * rng_next(&r) - 1;
    int at = 0, s = 0, v = 0, rows = 0;
    for (int g = 0; g < GROUPS; g++)
        for (int i = 0; i < group_n[g]; i++, s++) {
            int len = group_len[g];
            mrope_image run[3];
            for (int t = 0; t < len; t++) ids[at + t] = (int32_t)rng_next_below(&r, 340);
            for (int p = 0; p < group_pics[g]; p++) {
                run[p] = (mrope_image){4 + (TOK_PER_PIC + 1) * p, 1, 6, 6};
                for (int k = 0; k < TOK_PER_PIC; k++, v++) {
                    ids[at + run[p].start + k] = c.image_token;
                    vis_tok[v] = at + run[p].start + k;
                    vis_row[v] = v;
                }
                memcpy(&grid[3 * (v / TOK_PER_PIC - 1)], (int32_t[]){1, 6, 6}, 12);
            }
            int32_t next = 0;
            mrope_positions(pos + 3 * at, len, run, group_pics[g], 2, 2, &next);
            for (int t = len - 1 - len / 2; t < len - 1; t++) {
                row[rows] = at + t;
                target[rows++] = ids[at + t + 1] % 340;
            }
            at += len;
            cu[s + 1] = at;
        }
    token_batch x = {.n_tok = n_tok,
                     .n_seq = n_seq,
                     .ids = ids,
                     .pos = pos,
                     .cu = cu,
                     .n_img = pics,
                     .grid = grid,
                     .patches = patches,
                     .n_vis = n_vis,
                     .vis_tok = vis_tok,
                     .vis_row = vis_row,
                     .n_row = n_row,
                     .row = row};
    model_limits lim = {n_tok, n_seq, pics * PATCHES, pics, n_row, 1};
    model_acts *acts;
    die(model_acts_create(&acts, m, &lim, true));

    tensor w = model_params(m), grad = model_grads(m), head = model_head(m), dhead = model_head_grad(m);
    tensor logp, lse, ent, dlogp, dh, tgt, mom, var, sums;
    arena *a;
    die(arena_create(&a, b, "bench"));
    arena_add_1d(a, &logp, DT_F32, n_row);
    arena_add_1d(a, &lse, DT_F32, n_row);
    arena_add_1d(a, &ent, DT_F32, n_row);
    arena_add_1d(a, &dlogp, DT_F32, n_row);
    arena_add_1d(a, &tgt, DT_I32, n_row);
    arena_add_2d(a, &dh, DT_F32, n_row, c.hidden);
    arena_add_1d(a, &mom, DT_F32, w.dim[0]);
    arena_add_1d(a, &var, DT_F32, w.dim[0]);
    arena_add_1d(a, &sums, DT_F64, (w.dim[0] + SUMSQ_BLOCK - 1) / SUMSQ_BLOCK);
    die(arena_commit(a));
    b->upload(b, &tgt, target);
    b->fill(b, &dlogp, -1.0f / (float)n_row);

    if (by_op) op_times_open(b);
    double *ms = calloc((size_t)steps, sizeof *ms), part[5] = {0};
    double first = 0, last = 0, flops = model_train_flops(&c, &x);
    for (int i = -2; i < steps; i++) {
        op_times_step();
        double t0 = clock_now(), t = t0;
        b->fill(b, &grad, 0);
        tensor h = model_forward(m, acts, &x);
        part[0] += clock_now() - t, t = clock_now();
        b->logprob_fwd(b, &logp, &lse, &ent, &h, &head, &tgt, NULL, 1);
        b->logprob_bwd(b, &dh, &dhead, &h, &head, &tgt, NULL, &lse, NULL, &dlogp, NULL, 1);
        part[1] += clock_now() - t, t = clock_now();
        model_backward(m, acts, &x, &dh);
        part[2] += clock_now() - t, t = clock_now();
        b->sumsq_blocks(b, &sums, &grad);
        adamw_step st = {1e-3f, 0.9f, 0.98f, 1e-8f, 0.01f, 1, i + 3};
        b->adamw(b, &w, &mom, &var, &grad, &st);
        b->params_changed(b);
        die(b->sync(b));
        part[3] += clock_now() - t;
        if (i >= 0) ms[i] = 1e3 * (clock_now() - t0);
        op_times_step_end();
        double sum = 0;
        for (int k = 0; k < n_row; k++) sum -= ((float *)logp.data)[k];
        if (i == -2) first = sum / n_row;
        last = sum / n_row;
    }
    qsort(ms, (size_t)steps, sizeof *ms, by_value);
    double peak = b->peak_gflops(b), rate = flops / ms[steps / 2] / 1e6;
    printf("%s: %d tokens, %d pictures, %d loss rows, %.2f GFLOP/step\n", b->describe, n_tok, pics, n_row, flops / 1e9);
    printf("step %.2f ms median, %.2f min | %.1f GFLOP/s = %.1f %% of the measured FMA peak %.0f\n", ms[steps / 2],
           ms[0], rate, 100 * rate / peak, peak);
    double all = part[0] + part[1] + part[2] + part[3];
    printf("forward %.0f %%, head+loss %.0f %%, backward %.0f %%, optimizer %.0f %% | loss %.3f -> %.3f\n",
           100 * part[0] / all, 100 * part[1] / all, 100 * part[2] / all, 100 * part[3] / all, first, last);
    if (by_op) op_times_print(peak);
    return last < first ? 0 : 1;
}
