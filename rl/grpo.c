/* GRPO (arXiv 2402.03300): group-relative advantages and the clipped policy loss, with asymmetric clipping (DAPO, arXiv
 * 2503.14476) and the dual clip (arXiv 1912.09729). */
#include <math.h>
#include <stdlib.h>

#include "rl/algo.h"

void grpo_group(const algo_opts *o, const float *reward, const bool *skip, int n, float *adv)
{
    double sum = 0, lo = INFINITY, hi = -INFINITY;
    int m = 0;
    for (int i = 0; i < n; i++) {
        adv[i] = 0;
        if (skip && skip[i]) continue;
        sum += reward[i];
        lo = fmin(lo, reward[i]);
        hi = fmax(hi, reward[i]);
        m++;
    }
    /* Exactly: a rounded mean of equal fractions leaves a residue that a tiny std would blow up to a real gradient. */
    if (m < 2 || lo == hi) return;
    double mean = sum / m, sq = 0;
    for (int i = 0; i < n; i++)
        if (!skip || !skip[i]) sq += (reward[i] - mean) * (reward[i] - mean);
    double scale = o->norm ? 1 / (sqrt(sq / (m - 1)) + o->norm_eps) : 1;
    for (int i = 0; i < n; i++)
        if (!skip || !skip[i]) adv[i] = (float)((reward[i] - mean) * scale);
}

static status fill_tokens(const reward_opts *r, const turn_norm *z, traj *t)
{
    free(t->adv);
    t->adv = calloc((size_t)t->n_tok + 1, sizeof *t->adv);
    float *turn = calloc((size_t)t->n_turn + 1, sizeof *turn);
    if (!t->adv || !turn) {
        free(turn);
        return FAIL(ST_ENOMEM, "no memory for the advantages of %d tokens", t->n_tok);
    }
    if (!t->masked) {
        algo_turn_part(r, z, t, turn);
        for (int i = 0; i < t->n_tok; i++) {
            if (!t->mask[i]) continue;
            int k = t->turn_of[i];
            CHECK(k >= 0 && k < t->n_turn);
            t->adv[i] = t->adv_seq + turn[k];
        }
    }
    free(turn);
    return ST_OK;
}

static status grpo_advantage(const algo_opts *o, const reward_opts *r, const turn_norm *z, traj *t, int n, int group)
{
    CHECK(group > 0 && n % group == 0);
    float *reward = malloc(sizeof *reward * (size_t)group), *adv = malloc(sizeof *adv * (size_t)group);
    bool *skip = malloc(sizeof *skip * (size_t)group);
    status st = reward && adv && skip ? ST_OK : FAIL(ST_ENOMEM, "no memory for a group of %d", group);
    for (int g = 0; g < n && st == ST_OK; g += group) {
        for (int i = 0; i < group; i++) {
            const traj *x = &t[g + i];
            CHECK(x->prompt == t[g].prompt);
            skip[i] = x->masked;
            reward[i] = x->reward;
            if (!skip[i] && !isfinite(x->reward)) {
                st = FAIL(ST_EINVAL, "sample %s, rollout %d: the reward is not finite", x->sample->id, x->index);
                goto done;
            }
        }
        grpo_group(o, reward, skip, group, adv);
        for (int i = 0; i < group && st == ST_OK; i++) {
            t[g + i].adv_seq = adv[i];
            st = fill_tokens(r, z, &t[g + i]);
        }
    }
done:
    free(reward);
    free(adv);
    free(skip);
    return st;
}

static double clip_loss(const algo_opts *o, double logp, double old, double adv, double weight, double *dlogp,
                        loss_stats *s)
{
    double delta = fmin(fmax(logp - old, -20), 20), ratio = exp(delta);
    double lo = 1 - o->clip_low, hi = 1 + o->clip_high;
    double plain = -adv * ratio, capped = -adv * fmin(fmax(ratio, lo), hi);
    double loss = plain, grad = -adv * ratio;
    bool clipped = false;
    if (capped > plain) loss = capped, grad = 0, clipped = true;
    if (o->dual_clip > 0 && adv < 0 && loss > -adv * o->dual_clip) loss = -adv * o->dual_clip, grad = 0, clipped = true;
    if (delta != logp - old) grad = 0; /* the clamp itself is flat */
    *dlogp = weight * grad;
    s->loss += weight * loss;
    s->ratio_max = fmax(s->ratio_max, ratio);
    s->clip_frac += clipped;
    s->kl_old += ratio - 1 - delta; /* k3 estimate of KL(old || now): tokens were drawn from old */
    s->n += 1;
    return weight * loss;
}

const algo algos[] = {{"grpo", grpo_advantage, clip_loss, "group-relative advantages, clipped ratio"},
                      {NULL, NULL, NULL, NULL}};
