#include "rl/learn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct learner {
    model *m;
    backend *b;
    batch *pack;
    model_acts *acts;
    arena *mem;
    tensor target, logp, lse, entropy, dlogp, dent; /* (R) */
    tensor dh;                                      /* (R, C) */
    tensor ban;                                     /* (V) u8 */
    float *host_logp, *host_dlogp, *host_dent;      /* (R) */
};

status learner_create(learner **out, model *m, const chat *c, const image_processor *ip, int64_t max_tokens,
                      int64_t max_patches)
{
    const model_config *cfg = model_cfg(m);
    learner *l = calloc(1, sizeof *l);
    if (!l) return FAIL(ST_ENOMEM, "no memory for the learner");
    *l = (learner){.m = m, .b = model_backend(m)};
    int merge2 = ip->merge * ip->merge;
    model_limits lim = {.tok = (int)max_tokens,
                        .seq = (int)(max_tokens / 2 + 1),
                        .patch = (int)max_patches,
                        .img = (int)(max_patches / merge2),
                        .row = (int)max_tokens};
    int64_t rows = lim.row;
    uint8_t *ban = NULL;
    status st;
    TRY_OR(batch_create(&l->pack, cfg, ip, &lim), fail);
    st = model_acts_create(&l->acts, m, &lim, model_grads(m).data != NULL);
    TRY_OR(fail_advice(st, ST_ENOMEM, "lower train.max_tokens (%lld) or train.max_patches (%lld)", (long long)max_tokens,
                       (long long)max_patches),
           fail);
    TRY_OR(arena_create(&l->mem, l->b, "loss"), fail);
    arena_add_1d(l->mem, &l->target, DT_I32, rows);
    tensor *column[] = {&l->logp, &l->lse, &l->entropy, &l->dlogp, &l->dent};
    for (size_t i = 0; i < sizeof column / sizeof column[0]; i++) arena_add_1d(l->mem, column[i], DT_F32, rows);
    arena_add_act(l->mem, &l->dh, rows, cfg->hidden);
    arena_add_1d(l->mem, &l->ban, DT_U8, cfg->vocab);
    TRY_OR(arena_commit(l->mem), fail);
    ban = calloc((size_t)cfg->vocab, 1);
    l->host_logp = malloc((size_t)rows * sizeof *l->host_logp);
    l->host_dlogp = malloc((size_t)rows * sizeof *l->host_dlogp);
    l->host_dent = malloc((size_t)rows * sizeof *l->host_dent);
    if (!ban || !l->host_logp || !l->host_dlogp || !l->host_dent) {
        st = FAIL(ST_ENOMEM, "no memory for the learner");
        goto fail;
    }
    chat_ban(c, cfg->vocab, ban);
    l->b->upload(l->b, &l->ban, ban);
    free(ban);
    *out = l;
    return ST_OK;
fail:
    free(ban);
    learner_destroy(l);
    return st;
}

void learner_destroy(learner *l)
{
    if (!l) return;
    batch_destroy(l->pack);
    model_acts_destroy(l->acts);
    arena_destroy(l->mem);
    free(l->host_logp);
    free(l->host_dlogp);
    free(l->host_dent);
    free(l);
}

size_t learner_bytes(const learner *l) { return model_acts_bytes(l->acts) + arena_bytes(l->mem); }

learn_sums learn_sums_zero(void) { return (learn_sums){.diff_seq = -1}; }

typedef struct head {
    tensor logp, lse, entropy, target, dlogp, dent, dh;
    const tensor *ban;
    float inv_temp;
    bool need_entropy;
} head;

static head head_rows(learner *l, const learn_job *j, int rows)
{
    head h = {tensor_rows(&l->logp, 0, rows),
              tensor_rows(&l->lse, 0, rows),
              tensor_rows(&l->entropy, 0, rows),
              tensor_rows(&l->target, 0, rows),
              tensor_rows(&l->dlogp, 0, rows),
              tensor_rows(&l->dent, 0, rows),
              tensor_rows(&l->dh, 0, rows),
              NULL,
              1,
              false};
    if (j->algo) {
        h.ban = &l->ban;
        h.inv_temp = (float)(1 / j->temperature);
        h.need_entropy = j->algo->entropy_coef != 0;
    }
    return h;
}

/* Forward of the packed batch: log-probs of its rows to the host. */
static status forward(learner *l, const token_batch *x, head *h, tensor *hidden)
{
    *hidden = model_forward(l->m, l->acts, x);
    tensor w = model_head(l->m);
    l->b->upload(l->b, &h->target, batch_target(l->pack));
    l->b->logprob_fwd(l->b, &h->logp, &h->lse, h->need_entropy ? &h->entropy : NULL, hidden, &w, &h->target, h->ban,
                      h->inv_temp);
    l->b->download(l->b, l->host_logp, &h->logp);
    return l->b->sync(l->b);
}

static void compare(const learner *l, int rows, learn_sums *sums)
{
    const float *old = batch_old(l->pack);
    const int *seq = batch_seq_of(l->pack);
    for (int r = 0, first = 0; r < rows; r++) {
        if (r > 0 && seq[r] != seq[r - 1]) first = r;
        double diff = fabs((double)l->host_logp[r] - (double)old[r]);
        if (diff <= 0) continue; /* a NaN goes on */
        if (sums->diff_seq < 0) sums->diff_seq = seq[r], sums->diff_tok = r - first;
        if (!(diff <= sums->max_diff)) sums->max_diff = diff;
    }
}

/* The loss of every row; fills host_dlogp and host_dent. */
static void row_losses(learner *l, const learn_job *j, int rows, learn_sums *sums)
{
    const double *weight = batch_weight(l->pack);
    for (int r = 0; r < rows; r++) {
        double d;
        sums->logp += l->host_logp[r];
        if (j->algo) {
            const algo *a = &algos[j->algo->algo];
            a->loss(j->algo, l->host_logp[r], batch_old(l->pack)[r], batch_adv(l->pack)[r], weight[r], &d, &sums->loss);
            l->host_dent[r] = (float)(-j->algo->entropy_coef * weight[r]);
        } else {
            d = -weight[r];
            sums->loss.loss -= weight[r] * l->host_logp[r];
            sums->loss.n += 1;
        }
        l->host_dlogp[r] = (float)d;
    }
}

static void backward(learner *l, const token_batch *x, head *h, const tensor *hidden)
{
    tensor w = model_head(l->m), dw = model_head_grad(l->m);
    l->b->upload(l->b, &h->dlogp, l->host_dlogp);
    if (h->need_entropy) l->b->upload(l->b, &h->dent, l->host_dent);
    l->b->logprob_bwd(l->b, &h->dh, &dw, hidden, &w, &h->target, h->ban, &h->lse, h->need_entropy ? &h->entropy : NULL,
                      &h->dlogp, h->need_entropy ? &h->dent : NULL, h->inv_temp);
    model_backward(l->m, l->acts, x, &h->dh);
}

status learner_run(learner *l, const learn_job *j, const batch_seq *seq, int n, learn_sums *sums, spans *ph)
{
    for (int at = 0; at < n;) {
        double now = clock_now();
        TRY(batch_pack(l->pack, seq, n, &at));
        const token_batch *x = batch_tokens(l->pack);
        if (x->n_row == 0) continue;
        now = spans_add(ph, PHASE_DATA, now);
        head h = head_rows(l, j, x->n_row);
        tensor hidden;
        TRY(forward(l, x, &h, &hidden));
        if (j->check) compare(l, x->n_row, sums);
        now = spans_add(ph, j->backward ? PHASE_FORWARD : PHASE_CHECK_LOGP, now);
        sums->tokens += x->n_tok;
        sums->batches++;
        double flops = model_train_flops(model_cfg(l->m), x);
        sums->flops += j->backward ? flops : flops / 3;
        if (!j->backward) continue;
        row_losses(l, j, x->n_row, sums);
        backward(l, x, &h, &hidden);
        TRY(l->b->sync(l->b));
        spans_add(ph, PHASE_BACKWARD, now);
    }
    return ST_OK;
}

status learner_score(learner *l, const learn_job *j, const batch_seq *seq, int n, float *out)
{
    for (int at = 0; at < n;) {
        TRY(batch_pack(l->pack, seq, n, &at));
        const token_batch *x = batch_tokens(l->pack);
        if (x->n_row == 0) continue;
        head h = head_rows(l, j, x->n_row);
        tensor hidden;
        TRY(forward(l, x, &h, &hidden));
        memcpy(out, l->host_logp, sizeof *out * (size_t)x->n_row);
        out += x->n_row;
    }
    return ST_OK;
}
