/* Generation with the demo's model: the engine (8 prompts x 8 samples, 80 tokens each, one picture per prompt) beside
 * the bare ops of the same decoding steps, which is what the engine can't beat.   bench_rollout [threads] [isa] [ops]
 * ops: also the time of every op of a bare step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "benchmarks/op_times.inc"
#include "core/clock.h"
#include "core/rng.h"
#include "kernels/kernels.h"
#include "rollout/engine.h"

enum { PROMPTS = 8, GROUP = 8, SEQS = PROMPTS * GROUP, NEW = 80, ROUNDS = 5, MAX_BLOCK = 28 };

static void die(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "bench_rollout: %s\n", fail_message());
    exit(1);
}

static tokenizer *make_tokenizer(void)
{
    static const added_token added[] = {
        {"<|endoftext|>", true},  {"<|im_start|>", true},     {"<|im_end|>", true},       {"<|vision_start|>", true},
        {"<|vision_end|>", true}, {"<|image_pad|>", true},    {"<|video_pad|>", true},    {"<think>", false},
        {"</think>", false},      {"<code>", false},          {"</code>", false},         {"<answer>", false},
        {"</answer>", false},     {"<tool_response>", false}, {"</tool_response>", false}};
    static const char *const texts[] = {"user\nassistant\nWhat digit is on the card?"};
    char path[] = "/tmp/bench_rollout.XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) die(FAIL(ST_EIO, "cannot make a file in /tmp"));
    close(fd);
    tokenizer *t = NULL;
    die(tokenizer_train(texts, 1, added, sizeof added / sizeof *added, 16, path));
    die(tokenizer_load(&t, path));
    unlink(path);
    return t;
}

/* Decoding steps of SEQS sequences from context `from` on, ops only; seconds. */
static double bare(model *m, const chat *c, int from)
{
    backend *b = model_backend(m);
    const model_config *mc = model_cfg(m);
    model_limits lim = {.tok = SEQS, .seq = SEQS, .row = SEQS, .max_block = MAX_BLOCK};
    model_acts *acts;
    arena *mem;
    tensor layer[16], id, logp, key, ban;
    attn_shape shape = {.n_head = mc->n_head, .n_kv = mc->n_kv, .head_dim = mc->head_dim};
    die(model_acts_create(&acts, m, &lim, false));
    die(arena_create(&mem, b, "bench"));
    for (int l = 0; l < mc->n_layer; l++)
        arena_add_2d(mem, &layer[l], DT_F32, SEQS * MAX_BLOCK, kv_block_floats(&shape));
    arena_add_1d(mem, &id, DT_I32, SEQS);
    arena_add_1d(mem, &logp, DT_F32, SEQS);
    arena_add_2d(mem, &key, DT_U32, SEQS, 4);
    arena_add_1d(mem, &ban, DT_U8, mc->vocab);
    die(arena_commit(mem));
    uint8_t *bytes = calloc((size_t)mc->vocab, 1);
    chat_ban(c, mc->vocab, bytes);
    b->upload(b, &ban, bytes);
    free(bytes);
    int32_t now[SEQS], pos[3 * SEQS], cu[SEQS + 1], slot[SEQS], ctx[SEQS], row[SEQS], table[SEQS * MAX_BLOCK];
    for (int s = 0; s < SEQS; s++) {
        now[s] = 65 + s;
        row[s] = cu[s] = s;
        for (int k = 0; k < MAX_BLOCK; k++) table[s * MAX_BLOCK + k] = s * MAX_BLOCK + k;
    }
    cu[SEQS] = SEQS;
    tensor head = model_head(m);
    double since = clock_now();
    for (int t = from; t < from + NEW; t++) {
        op_times_step();
        for (int s = 0; s < SEQS; s++) {
            for (int a = 0; a < 3; a++) pos[3 * s + a] = t;
            slot[s] = table[s * MAX_BLOCK + t / ATTN_BLOCK] * ATTN_BLOCK + t % ATTN_BLOCK;
            ctx[s] = t + 1;
            rng_key k = rng_make_key(1, RNG_SAMPLE, 0, 0, (uint64_t)s, (uint64_t)t);
            memcpy((uint32_t *)key.data + 4 * s, k.w, sizeof k.w);
        }
        kv_view kv = {.layer = layer, .slot = slot, .table = table, .max_block = MAX_BLOCK, .ctx = ctx};
        token_batch x = {
            .n_tok = SEQS, .n_seq = SEQS, .ids = now, .pos = pos, .cu = cu, .kv = &kv, .n_row = SEQS, .row = row};
        tensor h = model_forward(m, acts, &x);
        b->sample(b, &id, &logp, &h, &head, &ban, &key, 1);
        b->download(b, now, &id);
        op_times_step_end();
    }
    double sec = clock_now() - since;
    model_acts_destroy(acts);
    arena_destroy(mem);
    return sec;
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    backend *b;
    die(backend_open_cpu(&b, threads, argc > 2 ? argv[2] : "auto"));
    tokenizer *tok = make_tokenizer();
    chat c;
    die(chat_init(&c, tok, 2, NULL));
    image_processor ip;
    image_processor_default(&ip);
    ip.min_pixels = ip.max_pixels = 84 * 84;
    ip.filter = RESAMPLE_BOX;
    model_config mc = {.hidden = 128,
                       .n_layer = 3,
                       .n_head = 4,
                       .n_kv = 2,
                       .head_dim = 32,
                       .intermediate = 320,
                       .vocab = 528,
                       .max_position = 1024,
                       .tied = true,
                       .qkv_bias = true,
                       .rms_eps = 1e-6f,
                       .rope_theta = 1e4,
                       .mrope_section = {4, 6, 6},
                       .has_vision = true,
                       .image_token = c.image_pad,
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
    die(model_create(&m, b, &mc, false));
    model_init(m, 1);
    b->params_changed(b);

    const char line[] = "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"path\": \"x\"}, "
                        "{\"type\": \"text\", \"text\": \"What digit is on the card?\"}]}]}";
    sample q;
    die(sample_parse(&q, line, sizeof line - 1, "bench"));
    image view = {84, 84, calloc(84 * 84, 3)};
    rollout_opts o = {.group = GROUP,
                      .temperature = 1,
                      .max_new_tokens = NEW,
                      .max_tokens = 16 * MAX_BLOCK,
                      .max_images = 8,
                      .kv_tokens = 32768,
                      .max_batch = SEQS,
                      .prefill_tokens = 1024,
                      .tool_text_kib = 8};
    rollout_parts parts = {.m = m, .c = &c, .ip = &ip};
    engine *e;
    die(engine_create(&e, &parts, &o));

    double engine_s = 1e9, bare_s = 1e9, prefill = 0;
    int64_t sampled = 0;
    for (int i = 0; i < ROUNDS; i++) {
        rollout_prompt p[PROMPTS];
        traj t[SEQS];
        rollout_stats st;
        for (int k = 0; k < PROMPTS; k++)
            p[k] = (rollout_prompt){.sample = &q,
                                    .prompt = k,
                                    .seed = 1,
                                    .step = (uint64_t)i,
                                    .prompt_id = (uint64_t)k,
                                    .n_image = 1,
                                    .picture = &view,
                                    .view = &view};
        die(engine_run(e, p, PROMPTS, t, &st, NULL));
        for (int k = 0; k < SEQS; k++) traj_free(&t[k]);
        double per = st.wall_s / (double)st.sampled;
        if (per < engine_s) engine_s = per, sampled = st.sampled, prefill = st.phases.sec[PHASE_PREFILL] / st.wall_s;
        double ops = bare(m, &c, 32) / (SEQS * NEW);
        if (ops < bare_s) bare_s = ops;
    }
    printf("%s, %d sequences, %lld tokens sampled\n", b->describe, SEQS, (long long)sampled);
    printf(
        "engine %.0f tok/s (%.2f us a token, prefill %.0f %% of the time) | bare decoding ops %.0f tok/s (%.2f us)\n",
        1 / engine_s, 1e6 * engine_s, 100 * prefill, 1 / bare_s, 1e6 * bare_s);
    if (argc > 3 && strcmp(argv[3], "ops") == 0) {
        double peak = b->peak_gflops(b);
        op_times_open(b);
        for (int i = 0; i < ROUNDS; i++) bare(m, &c, 32);
        op_times_print(peak);
    }
    engine_destroy(e);
    free(view.rgb);
    sample_free(&q);
    model_destroy(m);
    tokenizer_destroy(tok);
    backend_close(b);
    return 0;
}
