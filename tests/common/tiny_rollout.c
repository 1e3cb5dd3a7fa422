#include "tests/common/tiny_rollout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "rl/batch.h"

static void must(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "tiny rollout: %s\n", fail_message());
    abort();
}

void tiny_prompts_open(tiny_prompts *a, const tiny_policy *t, int n)
{
    CHECK(n <= TINY_MAX_PROMPTS);
    memset(a, 0, sizeof *a);
    a->n = n;
    for (int i = 0; i < n; i++) {
        char line[512];
        int len = snprintf(line, sizeof line, /* questions of different lengths */
                           "{\"id\": \"q%d\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", "
                           "\"path\": \"x.png\"}, "
                           "{\"type\": \"text\", \"text\": \"%.*sWhat digit is on the card?\"}]}], \"answer\": \"7\"}",
                           i, 3 * i, "la la la la la la la la la la");
        must(sample_parse(&a->row[i], line, (size_t)len, "tiny"));
        a->picture[i] = (image){60, 60, malloc(60 * 60 * 3)};
        rng_key k = rng_make_key(5, RNG_TEST, (uint64_t)i, 0, 0, 0);
        for (int j = 0; j < 60 * 60 * 3; j++) a->picture[i].rgb[j] = (uint8_t)rng_u32(k, (uint64_t)j);
        must(image_view(&a->view[i], &a->picture[i], &t->ip));
        a->p[i] = (rollout_prompt){.sample = &a->row[i],
                                   .prompt = i,
                                   .seed = 11,
                                   .step = 2,
                                   .prompt_id = 100 + (uint64_t)i,
                                   .n_image = 1,
                                   .picture = &a->picture[i],
                                   .view = &a->view[i]};
    }
}

void tiny_prompts_close(tiny_prompts *a)
{
    for (int i = 0; i < a->n; i++) {
        sample_free(&a->row[i]);
        image_free(&a->picture[i]);
        image_free(&a->view[i]);
    }
    a->n = 0;
}

static bool same_text(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static bool same_image(const traj_image *a, const traj_image *b)
{
    return a->view.w == b->view.w && a->view.h == b->view.h && a->w == b->w && a->h == b->h &&
           memcmp(a->view.rgb, b->view.rgb, (size_t)a->view.w * (size_t)a->view.h * 3) == 0;
}

bool traj_same(const traj *a, const traj *b)
{
    size_t n = (size_t)a->n_tok;
    if (a->n_tok != b->n_tok || a->n_turn != b->n_turn || a->n_image != b->n_image || a->outcome != b->outcome)
        return false;
    if (memcmp(a->id, b->id, 4 * n) || memcmp(a->mask, b->mask, n) || memcmp(a->logp, b->logp, 4 * n)) return false;
    if (memcmp(a->turn_of, b->turn_of, 2 * n) || !same_text(a->answer, b->answer)) return false;
    for (int i = 0; i < a->n_image; i++)
        if (!same_image(&a->images[i], &b->images[i]) || memcmp(&a->run[i], &b->run[i], sizeof a->run[i])) return false;
    for (int i = 0; i < a->n_turn; i++) {
        const traj_turn *x = &a->turns[i], *y = &b->turns[i];
        if (!same_text(x->text, y->text) || !same_text(x->code, y->code) || !same_text(x->tool_text, y->tool_text))
            return false;
        if (x->tool.ok != y->tool.ok || strcmp(x->tool.verdict, y->tool.verdict) || x->n_image != y->n_image)
            return false;
    }
    return true;
}

int trainer_logps_differ(tiny_policy *w, const traj *t, int n, int max_tok, float inv_temp, int *seen)
{
    enum { VIEWS = 16 };
    model_limits lim = {.tok = max_tok, .seq = 16, .patch = 4096, .img = 64, .row = max_tok};
    model *m = w->m;
    backend *b = w->b;
    model_acts *acts;
    batch *pack;
    must(model_acts_create(&acts, m, &lim, true));
    must(batch_create(&pack, model_cfg(m), &w->ip, &lim));
    batch_seq *seq = calloc((size_t)n, sizeof *seq);
    const image **view = calloc((size_t)n * VIEWS, sizeof *view);
    for (int i = 0; i < n; i++) {
        CHECK(t[i].n_image <= VIEWS);
        for (int k = 0; k < t[i].n_image; k++) view[i * VIEWS + k] = &t[i].images[k].view;
        seq[i] = (batch_seq){.n_tok = t[i].n_tok,
                             .id = t[i].id,
                             .mask = t[i].mask,
                             .old_logp = t[i].logp,
                             .n_image = t[i].n_image,
                             .run = t[i].run,
                             .view = &view[i * VIEWS]};
    }
    int vocab = model_cfg(m)->vocab, differ = 0;
    uint8_t *banned = calloc((size_t)vocab, 1);
    chat_ban(&w->chat, vocab, banned);
    tensor ban = tensor_1d(banned, DT_U8, vocab), head = model_head(m);
    float *logp = malloc(4 * (size_t)max_tok), *lse = malloc(4 * (size_t)max_tok);
    *seen = 0;
    for (int at = 0; at < n;) {
        must(batch_pack(pack, seq, n, &at));
        const token_batch *x = batch_tokens(pack);
        if (x->n_row == 0) continue;
        tensor h = model_forward(m, acts, x), target = tensor_1d((void *)batch_target(pack), DT_I32, x->n_row);
        tensor out = tensor_1d(logp, DT_F32, x->n_row), sum = tensor_1d(lse, DT_F32, x->n_row);
        b->logprob_fwd(b, &out, &sum, NULL, &h, &head, &target, &ban, inv_temp);
        must(b->sync(b));
        for (int i = 0; i < x->n_row; i++) differ += memcmp(&logp[i], &batch_old(pack)[i], sizeof *logp) != 0;
        *seen += x->n_row;
    }
    free(logp);
    free(lse);
    free(banned);
    free(view);
    free(seq);
    batch_destroy(pack);
    model_acts_destroy(acts);
    return differ;
}
