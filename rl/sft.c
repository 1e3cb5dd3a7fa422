/* Supervised fine-tuning: whole conversations packed, loss on what the policy writes, normalised by the global number
 * of target tokens. */
#include <stdlib.h>
#include <stdio.h>

#include "rl/render.h"
#include "rl/stage.h"

typedef struct sft {
    dataset *d;
    loader *order;
    rendered *row;
    batch_seq *seq;
    int64_t count;
} sft;

static void sft_close(void *state)
{
    sft *s = state;
    if (!s) return;
    loader_destroy(s->order);
    dataset_close(s->d);
    free(s->row);
    free(s->seq);
    free(s);
}

static status sft_open(trainer *t, void **state)
{
    TRY(trainer_need_learner(t));
    sft *s = calloc(1, sizeof *s);
    if (!s) return FAIL(ST_ENOMEM, "no memory for sft");
    status st = trainer_open_data(t, "sft", t->sft.data, &s->d, &s->order, true);
    int64_t first;
    trainer_part(t, t->sft.batch, &first, &s->count);
    s->row = calloc((size_t)s->count + 1, sizeof *s->row);
    s->seq = calloc((size_t)s->count + 1, sizeof *s->seq);
    if (st == ST_OK && (!s->row || !s->seq)) st = FAIL(ST_ENOMEM, "no memory for sft");
    if (st != ST_OK)
        sft_close(s);
    else
        *state = s;
    return st;
}

static status load(trainer *t, sft *s, int64_t *targets)
{
    int64_t first, count;
    trainer_part(t, t->sft.batch, &first, &count);
    status st = ST_OK;
    *targets = 0;
    for (int64_t i = 0; i < t->sft.batch; i++) {
        int64_t row = loader_next(s->order); /* every rank walks the whole order, and reads only its own rows */
        if (i < first || i >= first + count || st != ST_OK) continue;
        st = render_row(&s->row[i - first], s->d, row, t->p.c, t->p.ip);
        if (st == ST_OK) *targets += render_targets(&s->row[i - first]);
    }
    return st;
}

static status sft_step(trainer *t, void *state, int64_t step, double lr)
{
    sft *s = state;
    (void)step;
    double now = clock_now(), norm = 0;
    int64_t targets;
    status st = comm_agree(t->p.world, load(t, s, &targets));
    if (st == ST_OK) st = trainer_sum(t, &targets, 1);
    if (st == ST_OK && targets == 0)
        st = FAIL(ST_EINVAL, "sft.data: a whole batch without a target token (no assistant turns?)");
    if (st == ST_OK) {
        for (int64_t i = 0; i < s->count; i++) s->seq[i] = render_sequence(&s->row[i], 1.0 / (double)targets);
        spans_add(&t->phases, PHASE_DATA, now);
        learn_job j = {.backward = true};
        st = trainer_update(t, &j, s->seq, t->sft.batch, lr, &t->sums, &norm);
    }
    for (int64_t i = 0; i < s->count; i++) render_free(&s->row[i]);
    TRY(st);
    metrics_num(t->out, "loss", t->sums.loss.loss);
    metrics_num(t->out, "grad_norm", norm);
    metrics_num(t->out, "target_tokens", (double)targets);
    snprintf(t->line, sizeof t->line, "loss %.4f  |g| %.2f", t->sums.loss.loss, norm);
    return ST_OK;
}

static loader *sft_cursor(void *state) { return ((sft *)state)->order; }
static int64_t sft_steps(const trainer *t) { return t->sft.steps; }
static const optim_opts *sft_optim(const trainer *t) { return &t->optim_sft; }
const stage_def stage_sft = {"sft", sft_steps, sft_optim, true, sft_open, sft_step, sft_cursor, sft_close};
