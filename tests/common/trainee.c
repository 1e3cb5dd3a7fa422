#include "tests/common/trainee.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "tests/common/device.h"

static void must(status st)
{
    if (st != ST_OK) fprintf(stderr, "%s\n", fail_message());
    CHECK(st == ST_OK);
}

model_config trainee_config(bool tied, int n_head, int n_kv)
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

model_config trainee_qwen3(bool tied, int n_head, int n_kv, int n_deep)
{
    model_config c = trainee_config(tied, n_head, n_kv);
    c.family = FAMILY_QWEN3;
    c.qkv_bias = false;
    c.qk_norm = c.mrope_interleaved = true;
    c.head_dim = 14;
    memcpy(c.mrope_section, (int[]){3, 2, 2}, sizeof c.mrope_section);
    vision_config *v = &c.vision;
    v->layer_norm = v->gelu_mlp = v->patch_bias = true;
    v->window = v->n_full = 0;
    memset(v->full_blocks, 0, sizeof v->full_blocks);
    v->n_pos = 16; /* 4 x 4 rows: the batch's images are larger, equal and smaller */
    v->n_deep = n_deep;
    for (int k = 0; k < n_deep; k++) v->deep_blocks[k] = v->depth - n_deep + k;
    return c;
}

model_config trainee_text(model_family family)
{
    model_config c = family == FAMILY_QWEN3 ? trainee_qwen3(true, 4, 2, 0) : trainee_config(true, 4, 2);
    c.has_vision = c.mrope_interleaved = false;
    memset(&c.vision, 0, sizeof c.vision);
    memcpy(c.mrope_section, (int[]){c.head_dim / 2, 0, 0}, sizeof c.mrope_section);
    return c;
}

static void text_batch(packed *p)
{
    for (int id = 1; id <= 3; id++) {
        packed_begin(p, id);
        packed_text(p, 4 * id);
        packed_end(p);
    }
}

void trainee_batch(packed *p, const model_config *c)
{
    packed_open(p, c);
    if (!c->has_vision) {
        text_batch(p);
        return;
    }
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
    float *w = device_floats(model_backend(m), &all);
    rng_key key = rng_make_key(seed, RNG_TEST, 3, 0, 0, 0);
    for (int64_t i = 0; i < all.dim[0]; i++) w[i] += 0.05f * rng_normal(key, (uint64_t)i);
    model_backend(m)->upload(model_backend(m), &all, w);
    model_backend(m)->params_changed(model_backend(m));
    free(w);
}

trainee trainee_open(backend *b, const model_config *c, const packed *p)
{
    trainee t = {NULL, NULL};
    model_limits lim = packed_limits(p);
    must(model_create(&t.m, b, c, true));
    shake(t.m, 11);
    must(model_acts_create(&t.a, t.m, &lim, true));
    return t;
}

void trainee_close(trainee *t)
{
    model_acts_destroy(t->a);
    model_destroy(t->m);
}

void trainee_goal(goal *g, const packed *p)
{
    rng_key key = rng_make_key(5, RNG_TEST, 4, 0, 0, 0);
    for (int i = 0; i < p->x.n_row; i++) {
        g->target[i] = (int32_t)rng_below(key, (uint64_t)i, (uint32_t)p->cfg->vocab);
        g->weight[i] = 0.3f * rng_normal(key, (uint64_t)(1000 + i));
    }
}

double trainee_step(trainee *t, const packed *p, const goal *g)
{
    backend *b = model_backend(t->m);
    int R = p->x.n_row, C = p->cfg->hidden;
    arena *mem;
    tensor h = model_forward(t->m, t->a, &p->x), head = model_head(t->m), dhead = model_head_grad(t->m);
    tensor dh, logp, lse, target, weight;
    must(arena_create(&mem, b, "test loss"));
    arena_add_act(mem, &dh, R, C);
    arena_add_1d(mem, &logp, DT_F32, R);
    arena_add_1d(mem, &lse, DT_F32, R);
    arena_add_1d(mem, &target, DT_I32, R);
    arena_add_1d(mem, &weight, DT_F32, R);
    must(arena_commit(mem));
    b->upload(b, &target, g->target);
    b->upload(b, &weight, g->weight);
    b->logprob_fwd(b, &logp, &lse, NULL, &h, &head, &target, NULL, 1.0f);
    double loss = 0;
    float *value = device_floats(b, &logp);
    for (int i = 0; i < R; i++) loss += (double)g->weight[i] * value[i];
    b->logprob_bwd(b, &dh, &dhead, &h, &head, &target, NULL, &lse, NULL, &weight, NULL, 1.0f);
    model_backward(t->m, t->a, &p->x, &dh);
    must(b->sync(b));
    free(value);
    arena_destroy(mem);
    return loss;
}
