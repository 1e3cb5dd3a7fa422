/* The vision warm-up: a stand-in for a pretrained vision tower, needed only by models that start from nothing.
 *
 * Each picture's merged rows are mean-pooled, scaled to unit length and compared by cosine with the word embeddings of
 * its attributes (rows carry x_labels: {"colour": "red", "value": "7"}); cross-entropy over the attribute's words. The
 * cosine matters: a language model reads directions, and raw dot products teach the tower lengths instead. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rl/render.h"
#include "rl/stage.h"

enum { MAX_ATTRIBUTES = 16, MAX_WORDS = 512 };

typedef struct word {
    int attribute;
    char *text;
    int32_t id;
} word;

typedef struct picture {
    image view;
    int label[MAX_ATTRIBUTES];
} picture; /* word index of each attribute, -1: none */

typedef struct warmup {
    dataset *d;
    loader *order;
    int64_t first, count; /* this rank's pictures of a batch */
    picture *pic;
    int n_attribute, n_word;
    char *attribute[MAX_ATTRIBUTES];
    word word[MAX_WORDS];
    /* host, one micro-batch */
    float *patches, *logp, *dlogp;
    int32_t *grid, *cu, *index, *target;
    int max_patch, max_img, patch_dim;
    model_acts *acts;
    arena *mem;
    tensor unit, pooled, rstd, cosine, dcosine, dpooled, picked, dpicked,
        d_vis;                                                          /* [S,C] unless said: unit [C], rstd [S] */
    tensor words, words_rstd, words_unit, dwords, dwords_unit, word_id; /* [W,C], word_id [W] */
    tensor ban[MAX_ATTRIBUTES], t_index, t_target, t_logp, t_lse, t_dlogp, t_cu;
} warmup;

static int find_word(const warmup *w, int attribute, const char *text)
{
    for (int i = 0; i < w->n_word; i++)
        if (w->word[i].attribute == attribute && strcmp(w->word[i].text, text) == 0) return i;
    return -1;
}

static int find_attribute(const warmup *w, const char *name)
{
    for (int i = 0; i < w->n_attribute; i++)
        if (strcmp(w->attribute[i], name) == 0) return i;
    return -1;
}

static status learn_words(warmup *w, const sample *s)
{
    const json *l = json_get(s->row, "x_labels");
    if (json_kind(l) != JSON_OBJECT)
        return FAIL(ST_EINVAL, "sample %s has no x_labels object; warmup.data needs attribute words of each picture",
                    s->id);
    for (int64_t i = 0; i < json_len(l); i++) {
        const char *name = json_key_at(l, i), *text = json_str(json_at(l, i));
        if (!text) return FAIL(ST_EINVAL, "sample %s: x_labels.%s is no string", s->id, name);
        int a = find_attribute(w, name);
        if (a < 0) {
            if (w->n_attribute == MAX_ATTRIBUTES)
                return FAIL(ST_EINVAL, "sample %s: more than %d attributes in x_labels", s->id, MAX_ATTRIBUTES);
            a = w->n_attribute++;
            w->attribute[a] = strdup(name);
        }
        if (find_word(w, a, text) >= 0) continue;
        if (w->n_word == MAX_WORDS)
            return FAIL(ST_EINVAL, "sample %s: more than %d words in x_labels", s->id, MAX_WORDS);
        w->word[w->n_word++] = (word){a, strdup(text), -1};
    }
    return ST_OK;
}

static int word_order(const void *a, const void *b)
{
    const word *x = a, *y = b;
    return x->attribute != y->attribute ? x->attribute - y->attribute : strcmp(x->text, y->text);
}

static bool taken(const warmup *w, int attribute, int32_t id)
{
    for (int i = 0; i < w->n_word; i++)
        if (w->word[i].attribute == attribute && w->word[i].id == id) return true;
    return false;
}

/* The token that stands for the word. Pass 0: " red" or "7" where that is one token; pass 1: of the words that are not,
 * the first token of " word" that no other word of the attribute has. */
static status word_token(warmup *w, const tokenizer *tok, word *x, int pass)
{
    char spaced[256];
    snprintf(spaced, sizeof spaced, " %s", x->text);
    ids lead = {0}, bare = {0};
    status st = tokenizer_encode(tok, spaced, strlen(spaced), false, &lead);
    if (st == ST_OK) st = tokenizer_encode(tok, x->text, strlen(x->text), false, &bare);
    if (st == ST_OK && pass == 0) x->id = lead.n == 1 ? lead.v[0] : bare.n == 1 ? bare.v[0] : -1;
    for (int i = 0; i < lead.n && st == ST_OK && pass == 1 && x->id < 0; i++)
        if (!taken(w, x->attribute, lead.v[i])) x->id = lead.v[i];
    ids_free(&lead);
    ids_free(&bare);
    if (st == ST_OK && pass == 1 && x->id < 0)
        st = FAIL(ST_EINVAL, "the label word '%s' has no token of its own within %s; use a tokenizer with more merges",
                  x->text, w->attribute[x->attribute]);
    return st;
}

/* Reads every row once: the words of each attribute, sorted, so that they don't depend on the order of rows. */
static status collect_words(warmup *w, const chat *c)
{
    for (int64_t i = 0; i < dataset_count(w->d); i++) {
        sample s;
        TRY(dataset_sample(w->d, i, &s));
        status st = s.n_image != 1
                        ? FAIL(ST_EINVAL, "sample %s has %d pictures; warmup.data needs one each", s.id, s.n_image)
                        : learn_words(w, &s);
        sample_free(&s);
        TRY(st);
    }
    qsort(w->word, (size_t)w->n_word, sizeof *w->word, word_order);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < w->n_word; i++) TRY(word_token(w, c->tok, &w->word[i], pass));
    return ST_OK;
}

static void warmup_close(void *state)
{
    warmup *w = state;
    if (!w) return;
    for (int i = 0; i < w->n_attribute; i++) free(w->attribute[i]);
    for (int i = 0; i < w->n_word; i++) free(w->word[i].text);
    void *owned[] = {w->pic, w->patches, w->logp, w->dlogp, w->grid, w->cu, w->index, w->target};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
    model_acts_destroy(w->acts);
    arena_destroy(w->mem);
    loader_destroy(w->order);
    dataset_close(w->d);
    free(w);
}

static status plan(warmup *w, trainer *t)
{
    backend *b = t->p.b;
    const model_config *cfg = model_cfg(t->p.m);
    int64_t C = cfg->hidden, S = w->max_img, W = w->n_word;
    model_limits lim = {.tok = 1, .seq = 1, .patch = w->max_patch, .img = w->max_img, .row = 1};
    TRY(model_acts_create(&w->acts, t->p.m, &lim, true));
    TRY(arena_create(&w->mem, b, "vision warm-up"));
    tensor *rows[] = {&w->pooled, &w->cosine, &w->dcosine, &w->dpooled, &w->picked, &w->dpicked};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) arena_add_act(w->mem, rows[i], S, C);
    tensor *word_rows[] = {&w->words, &w->words_unit, &w->dwords, &w->dwords_unit};
    for (size_t i = 0; i < sizeof word_rows / sizeof word_rows[0]; i++)
        arena_add_2d(w->mem, word_rows[i], DT_F32, W, C);
    tensor *per_row[] = {&w->rstd, &w->t_logp, &w->t_lse, &w->t_dlogp};
    for (size_t i = 0; i < sizeof per_row / sizeof per_row[0]; i++) arena_add_1d(w->mem, per_row[i], DT_F32, S);
    arena_add_1d(w->mem, &w->words_rstd, DT_F32, W);
    arena_add_1d(w->mem, &w->word_id, DT_I32, W);
    arena_add_1d(w->mem, &w->t_index, DT_I32, S);
    arena_add_1d(w->mem, &w->t_target, DT_I32, S);
    arena_add_1d(w->mem, &w->t_cu, DT_I32, S + 1);
    arena_add_1d(w->mem, &w->unit, DT_F32, C);
    arena_add_act(w->mem, &w->d_vis, w->max_patch / (cfg->vision.merge * cfg->vision.merge), C);
    for (int a = 0; a < w->n_attribute; a++) arena_add_1d(w->mem, &w->ban[a], DT_U8, W);
    TRY(arena_commit(w->mem));
    b->fill(b, &w->unit, 1 / sqrtf((float)C)); /* rows of unit rms have length sqrt(C) */
    int32_t id[MAX_WORDS];
    for (int i = 0; i < w->n_word; i++) id[i] = w->word[i].id;
    b->upload(b, &w->word_id, id);
    for (int a = 0; a < w->n_attribute; a++) {
        uint8_t ban[MAX_WORDS];
        for (int i = 0; i < w->n_word; i++) ban[i] = w->word[i].attribute != a;
        b->upload(b, &w->ban[a], ban);
    }
    return b->sync(b);
}

static status warmup_open(trainer *t, void **state)
{
    const model_config *cfg = model_cfg(t->p.m);
    if (!cfg->has_vision) return FAIL(ST_EINVAL, "train.stages: warmup needs a model with a vision tower");
    CHECK(cfg->vision.out_hidden == cfg->hidden);
    warmup *w = calloc(1, sizeof *w);
    if (!w) return FAIL(ST_ENOMEM, "no memory for warmup");
    status st;
    TRY_OR(trainer_open_data(t, "warmup", t->warmup.data, &w->d, &w->order, true), fail);
    TRY_OR(collect_words(w, t->p.c), fail);
    trainer_part(t, t->warmup.batch, &w->first, &w->count);
    w->max_patch = (int)t->train.max_patches;
    w->max_img = w->max_patch / (cfg->vision.merge * cfg->vision.merge);
    w->patch_dim = vision_patch_dim(&cfg->vision);
    size_t img = (size_t)w->max_img + 1;
    w->pic = calloc((size_t)w->count + 1, sizeof *w->pic);
    w->patches = malloc(sizeof *w->patches * (size_t)w->max_patch * (size_t)w->patch_dim);
    w->logp = malloc(img * sizeof *w->logp);
    w->dlogp = malloc(img * sizeof *w->dlogp);
    w->grid = malloc(img * 3 * sizeof *w->grid);
    w->cu = malloc(img * sizeof *w->cu);
    w->index = malloc(img * sizeof *w->index);
    w->target = malloc(img * sizeof *w->target);
    if (!w->pic || !w->patches || !w->logp || !w->dlogp || !w->grid || !w->cu || !w->index || !w->target) {
        st = FAIL(ST_ENOMEM, "no memory for warmup");
        goto fail;
    }
    TRY_OR(plan(w, t), fail);
    *state = w;
    return ST_OK;
fail:
    warmup_close(w);
    return st;
}

static status load_picture(warmup *w, const trainer *t, int64_t row, picture *p)
{
    sample s;
    TRY(dataset_sample(w->d, row, &s));
    status st = render_views(&p->view, 1, w->d, &s, t->p.ip);
    const json *l = json_get(s.row, "x_labels");
    for (int a = 0; a < w->n_attribute; a++) {
        const char *text = json_str(json_get(l, w->attribute[a]));
        p->label[a] = text ? find_word(w, a, text) : -1;
    }
    sample_free(&s);
    return st;
}

typedef struct warmup_sums {
    double loss, sure, labels;
} warmup_sums; /* sure: labels with probability over 1/2 */

/* Cross-entropy of one attribute over the micro-batch's pictures that carry it; adds to dcosine and dwords_unit. */
static status attribute_loss(warmup *w, trainer *t, const picture *pic, int n, int a, warmup_sums *sum)
{
    backend *b = t->p.b;
    float scale = (float)t->warmup.scale, weight = 1.0f / (float)t->warmup.batch;
    int rows = 0;
    for (int i = 0; i < n; i++) {
        if (pic[i].label[a] < 0) continue;
        w->index[rows] = i;
        w->target[rows] = pic[i].label[a];
        w->dlogp[rows++] = -weight;
    }
    if (rows == 0) return ST_OK;
    tensor index = tensor_rows(&w->t_index, 0, rows), target = tensor_rows(&w->t_target, 0, rows);
    tensor logp = tensor_rows(&w->t_logp, 0, rows), lse = tensor_rows(&w->t_lse, 0, rows);
    tensor dlogp = tensor_rows(&w->t_dlogp, 0, rows), x = tensor_rows(&w->picked, 0, rows),
           dx = tensor_rows(&w->dpicked, 0, rows);
    tensor all = tensor_rows(&w->cosine, 0, n), dall = tensor_rows(&w->dcosine, 0, n);
    b->upload(b, &index, w->index);
    b->upload(b, &target, w->target);
    b->upload(b, &dlogp, w->dlogp);
    b->rows_take(b, &x, &all, &index);
    b->logprob_fwd(b, &logp, &lse, NULL, &x, &w->words_unit, &target, &w->ban[a], scale);
    b->logprob_bwd(b, &dx, &w->dwords_unit, &x, &w->words_unit, &target, &w->ban[a], &lse, NULL, &dlogp, NULL, scale);
    b->rows_add(b, &dall, &dx, &index);
    b->download(b, w->logp, &logp);
    TRY(b->sync(b));
    for (int i = 0; i < rows; i++) {
        sum->loss -= weight * w->logp[i];
        sum->sure += w->logp[i] > -0.693147f;
        sum->labels += 1;
    }
    return ST_OK;
}

/* Forward and backward of pictures [0, n), which fit the limits. */
static status micro_batch(warmup *w, trainer *t, const picture *pic, int n, warmup_sums *sum)
{
    backend *b = t->p.b;
    float eps = model_cfg(t->p.m)->rms_eps;
    int64_t at = 0;
    w->cu[0] = 0;
    for (int i = 0; i < n; i++) {
        image_patches(w->patches + at * w->patch_dim, &w->grid[3 * i], &pic[i].view, t->p.ip);
        at += (int64_t)w->grid[3 * i] * w->grid[3 * i + 1] * w->grid[3 * i + 2];
        w->cu[i + 1] = w->cu[i] + image_grid_tokens(&w->grid[3 * i], t->p.ip->merge);
    }
    token_batch x = {.n_img = n, .grid = w->grid, .patches = w->patches};
    tensor vis = model_vision_forward(t->p.m, w->acts, &x);
    tensor cu = tensor_rows(&w->t_cu, 0, n + 1), pooled = tensor_rows(&w->pooled, 0, n),
           rstd = tensor_rows(&w->rstd, 0, n);
    tensor cosine = tensor_rows(&w->cosine, 0, n), dcosine = tensor_rows(&w->dcosine, 0, n),
           dpooled = tensor_rows(&w->dpooled, 0, n);
    tensor d_vis = tensor_rows(&w->d_vis, 0, w->cu[n]);
    tensor emb = model_embedding(t->p.m), demb = model_embedding_grad(t->p.m);
    b->upload(b, &cu, w->cu);
    b->pool_fwd(b, &pooled, &vis, &cu);
    b->rmsnorm_fwd(b, &cosine, &rstd, &pooled, &w->unit, eps);
    b->rows_take(b, &w->words, &emb, &w->word_id);
    b->rmsnorm_fwd(b, &w->words_unit, &w->words_rstd, &w->words, &w->unit, eps);
    b->fill(b, &dcosine, 0);
    b->fill(b, &w->dwords_unit, 0);
    for (int a = 0; a < w->n_attribute; a++) TRY(attribute_loss(w, t, pic, n, a, sum));
    b->rmsnorm_bwd(b, &dpooled, NULL, &dcosine, &pooled, &w->unit, &rstd);
    b->pool_bwd(b, &d_vis, &dpooled, &cu);
    model_vision_backward(t->p.m, w->acts, &x, &d_vis);
    b->rmsnorm_bwd(b, &w->dwords, NULL, &w->dwords_unit, &w->words, &w->unit, &w->words_rstd);
    b->rows_add(b, &demb, &w->dwords, &w->word_id);
    return b->sync(b);
}

static status shard(warmup *w, trainer *t, const picture *pic, int64_t n, warmup_sums *sum)
{
    for (int64_t at = 0; at < n;) {
        int64_t k = at, patches = 0;
        for (; k < n; k++) {
            int64_t p = (int64_t)(pic[k].view.w / t->p.ip->patch) * (pic[k].view.h / t->p.ip->patch);
            if (p > w->max_patch)
                return FAIL(ST_EINVAL, "a picture has %lld patches, more than train.max_patches %d", (long long)p,
                            w->max_patch);
            if (patches + p > w->max_patch || k - at >= w->max_img) break;
            patches += p;
        }
        TRY(micro_batch(w, t, pic + at, (int)(k - at), sum));
        at = k;
    }
    return ST_OK;
}

static status load_batch(warmup *w, trainer *t)
{
    status st = ST_OK;
    for (int64_t i = 0; i < t->warmup.batch; i++) {
        int64_t row = loader_next(w->order);
        if (i < w->first || i >= w->first + w->count || st != ST_OK) continue;
        st = load_picture(w, t, row, &w->pic[i - w->first]);
    }
    return st;
}

static status shards(warmup *w, trainer *t, warmup_sums *sum)
{
    int first, n;
    int64_t N = t->warmup.batch, S = t->optim_warmup.grad_shards;
    optim_shards(t->x, &first, &n);
    for (int s = first; s < first + n; s++) {
        int64_t from = s * N / S, to = (s + 1) * N / S;
        TRY(shard(w, t, w->pic + (from - w->first), to - from, &sum[s]));
        optim_shard_done(t->x);
    }
    return ST_OK;
}

static status warmup_step(trainer *t, void *state, int64_t step, double lr)
{
    (void)step;
    warmup *w = state;
    int64_t S = t->optim_warmup.grad_shards;
    warmup_sums *sum = calloc((size_t)S * 2, sizeof *sum), all = {0};
    if (!sum) return FAIL(ST_ENOMEM, "no memory for warmup");
    int first, n;
    optim_shards(t->x, &first, &n);
    double norm = 0, now = clock_now();
    status st = load_batch(w, t);
    now = spans_add(&t->phases, PHASE_DATA, now);
    if (st == ST_OK) st = shards(w, t, sum);
    now = spans_add(&t->phases, PHASE_VISION, now);
    st = comm_agree(t->p.world, st);
    if (st == ST_OK) st = trainer_apply(t, lr, &norm);
    if (st == ST_OK) st = comm_allgather(t->p.world, sum + first, sum + S, (size_t)n * sizeof *sum);
    spans_add(&t->phases, PHASE_OPTIMIZER, now);
    for (int64_t s = S; s < 2 * S; s++) { /* in shard order: the same sum for any rank count */
        all.loss += sum[s].loss;
        all.sure += sum[s].sure;
        all.labels += sum[s].labels;
    }
    free(sum);
    for (int64_t i = 0; i < w->count; i++) image_free(&w->pic[i].view);
    TRY(st);
    double sure = all.labels > 0 ? all.sure / all.labels : 0;
    metrics_num(t->out, "loss", all.loss);
    metrics_num(t->out, "sure", sure);
    metrics_num(t->out, "grad_norm", norm);
    t->sums = learn_sums_zero();
    snprintf(t->line, sizeof t->line, "loss %.4f  sure %.3f  |g| %.2f", all.loss, sure, norm);
    return ST_OK;
}

static loader *warmup_cursor(void *state) { return ((warmup *)state)->order; }
static int64_t warmup_steps(const trainer *t) { return t->warmup.steps; }
static const optim_opts *warmup_optim(const trainer *t) { return &t->optim_warmup; }
const stage_def stage_warmup = {"warmup",    warmup_steps, warmup_optim,  false,
                                warmup_open, warmup_step,  warmup_cursor, warmup_close};
