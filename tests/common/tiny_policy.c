#include "tests/common/tiny_policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/rng.h"
#include "data/file.h"
#include "kernels/kernels.h"

static void must(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "tiny policy: %s\n", fail_message());
    abort();
}

static void make_tokenizer(tiny_policy *t)
{
    static const added_token added[] = {
        {"<|endoftext|>", true},  {"<|im_start|>", true},     {"<|im_end|>", true},        {"<|vision_start|>", true},
        {"<|vision_end|>", true}, {"<|image_pad|>", true},    {"<|video_pad|>", true},     {"<think>", false},
        {"</think>", false},      {"<code>", false},          {"</code>", false},          {"<answer>", false},
        {"</answer>", false},     {"<tool_response>", false}, {"</tool_response>", false}, {TINY_ZOOM, false},
        {TINY_PRINT, false},      {TINY_FAIL, false},         {TINY_QUIET, false},         {TINY_ANSWER, false},
        {TINY_BABBLE, false},
    };
    static const char *const texts[] = {"What digit is on the card?", "user\nassistant\nsystem\n",
                                        "Error: NameError No output. 42"};
    char path[96];
    must(file_join(path, sizeof path, t->dir, "tokenizer.json"));
    must(tokenizer_train(texts, 3, added, sizeof added / sizeof *added, 24, path));
    must(tokenizer_load(&t->tok, path));
    unlink(path);
    rmdir(t->dir);
    must(chat_init(&t->chat, t->tok, 2, NULL));
}

typedef struct wanted {
    const char *name;
    tensor w;
} wanted;
static status look(void *ctx, const model_tensor *t)
{
    wanted *w = ctx;
    size_t n = strlen(t->name), k = strlen(w->name);
    if (n >= k && strcmp(t->name + n - k, w->name) == 0) w->w = t->w;
    return ST_OK;
}

static tensor find(model *m, const char *name)
{
    wanted w = {.name = name};
    must(model_visit(m, look, &w));
    CHECK(w.w.data);
    return w.w;
}

/* After token `from`, token `to` gets `weight` times the normed embedding of `from` added to its head row. */
static void follow(tiny_policy *t, int from, int to, float weight)
{
    tensor e = model_embedding(t->m), h = model_head(t->m);
    int64_t c = e.dim[1];
    const float *x = (const float *)e.data + from * c;
    float *y = (float *)h.data + to * c;
    double sum = 0;
    for (int64_t i = 0; i < c; i++) sum += (double)x[i] * x[i];
    for (int64_t i = 0; i < c; i++) y[i] += weight * x[i] / (float)sqrt(sum);
}

static int token(const tiny_policy *t, const char *text)
{
    int id = tokenizer_id(t->tok, text);
    CHECK(id >= 0);
    return id;
}

static void write_script(tiny_policy *t, uint64_t seed)
{
    tensor e = model_embedding(t->m), head = find(t->m, "lm_head.weight");
    rng r = {rng_make_key(seed, RNG_TEST, 7, 0, 0, 0), 0};
    float *x = e.data, *y = head.data;
    for (int64_t i = 0; i < tensor_count(&e); i++) x[i] = 2 * rng_normal(r.key, (uint64_t)i);
    for (int64_t i = 0; i < tensor_count(&head); i++) y[i] *= 0.3f;
    ids line = {0};
    must(tokenizer_encode(t->tok, "\n", 1, false, &line));
    CHECK(line.n == 1);
    int start = line.v[0], end = t->chat.im_end; /* "\n" is the last token of the generation prompt */
    ids_free(&line);
    static const char *const turns[] = {TINY_ZOOM, TINY_PRINT, TINY_FAIL, TINY_QUIET, TINY_ANSWER};
    for (int i = 0; i < 5; i++) {
        follow(t, start, token(t, turns[i]), 1.7f);
        follow(t, token(t, turns[i]), end, 3.0f);
    }
    follow(t, start, token(t, TINY_BABBLE), 1.4f);
    follow(t, token(t, TINY_BABBLE), token(t, TINY_BABBLE), 1.9f);
    follow(t, token(t, TINY_BABBLE), end, 1.6f);
    follow(t, start, token(t, "<code>"), 1.7f);
    follow(t, start, token(t, "<answer>"), 1.7f);
    follow(t, start, t->chat.image_pad, 3.0f); /* would win always if it were not banned */
    follow(t, token(t, "<code>"), end, 2.5f);
    follow(t, token(t, "<answer>"), end, 2.5f);
    t->b->params_changed(t->b);
}

void tiny_policy_open(tiny_policy *t, int threads, uint64_t seed)
{
    tiny_policy_open_as(t, FAMILY_QWEN2, threads, seed);
}

static void make_qwen3(model_config *c)
{
    vision_config *v = &c->vision;
    c->family = FAMILY_QWEN3;
    c->qkv_bias = false;
    c->qk_norm = c->mrope_interleaved = true;
    c->head_dim = 20; /* not hidden / heads */
    memcpy(c->mrope_section, (int[]){4, 3, 3}, sizeof c->mrope_section);
    v->window = v->n_full = 0;
    v->layer_norm = v->gelu_mlp = v->patch_bias = true;
    v->n_pos = 9;
    v->n_deep = 2;
    v->deep_blocks[1] = 1;
}

void tiny_policy_open_as(tiny_policy *t, model_family family, int threads, uint64_t seed)
{
    memset(t, 0, sizeof *t);
    snprintf(t->dir, sizeof t->dir, "/tmp/tiny_policy.XXXXXX");
    CHECK(mkdtemp(t->dir));
    make_tokenizer(t);
    image_processor_default(&t->ip);
    t->ip.min_pixels = t->ip.max_pixels = 56 * 56;
    t->ip.filter = RESAMPLE_BOX;
    must(backend_open_cpu(&t->b, threads, "auto"));
    model_config c = {
        .hidden = 64,
        .n_layer = 2,
        .n_head = 4,
        .n_kv = 2,
        .head_dim = 16,
        .intermediate = 96,
        .vocab = tokenizer_vocab(t->tok) + 3,
        .max_position = 4096,
        .tied = false,
        .qkv_bias = true,
        .rms_eps = 1e-6f,
        .rope_theta = 1e4,
        .mrope_section = {2, 3, 3},
        .has_vision = true,
        .vision = {.depth = 2,
                   .hidden = 32,
                   .intermediate = 48,
                   .n_head = 2,
                   .patch = 14,
                   .temporal_patch = 2,
                   .merge = 2,
                   .in_channels = 3,
                   .window = 112,
                   .out_hidden = 64,
                   .tokens_per_second = 2,
                   .n_full = 1,
                   .full_blocks = {1}},
        .image_token = t->chat.image_pad,
        .video_token = token(t, "<|video_pad|>"),
        .vision_start_token = t->chat.vision_start,
        .vision_end_token = t->chat.vision_end,
        .bos_token = t->chat.endoftext,
        .eos_token = t->chat.im_end,
    };
    if (family == FAMILY_QWEN3) make_qwen3(&c);
    must(model_create(&t->m, t->b, &c, true));
    model_init(t->m, seed);
    write_script(t, seed);
}

void tiny_policy_close(tiny_policy *t)
{
    model_destroy(t->m);
    backend_close(t->b);
    tokenizer_destroy(t->tok);
    memset(t, 0, sizeof *t);
}
