#include "rl/algo.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

static const char *const algo_choices[] = {"grpo", NULL}; /* the rows of algos[], in order */
static const char *const norm_choices[] = {"none", "std", NULL};
static const char *const aggregate_choices[] = {"token", "response", NULL};
static const char *const cut_choices[] = {"penalise", "mask", NULL};

#define AT(f) offsetof(algo_opts, f)
const cfg_field algo_fields[] = {
    {.key = "algo",
     .type = CFG_CHOICE,
     .offset = AT(algo),
     .dflt = "grpo",
     .choices = algo_choices,
     .help = "How rewards become advantages and a loss."},
    {.key = "norm",
     .type = CFG_CHOICE,
     .offset = AT(norm),
     .dflt = "std",
     .choices = norm_choices,
     .help = "Advantage: reward minus the group's mean, divided by the group's std or by nothing."},
    {.key = "norm_eps",
     .type = CFG_FLOAT,
     .offset = AT(norm_eps),
     .dflt = "0.000001",
     .min = 0,
     .max = 1,
     .help = "Added to the std."},
    {.key = "clip_low",
     .type = CFG_FLOAT,
     .offset = AT(clip_low),
     .dflt = "0.2",
     .min = 0,
     .max = 1,
     .help = "The probability ratio is clipped below 1 - clip_low."},
    {.key = "clip_high",
     .type = CFG_FLOAT,
     .offset = AT(clip_high),
     .dflt = "0.25",
     .min = 0,
     .max = 100,
     .help = "The probability ratio is clipped above 1 + clip_high."},
    {.key = "dual_clip",
     .type = CFG_FLOAT,
     .offset = AT(dual_clip),
     .dflt = "3",
     .min = 0,
     .max = 100,
     .help = "Largest ratio that counts for a negative advantage; 0 = no such bound."},
    {.key = "aggregate",
     .type = CFG_CHOICE,
     .offset = AT(aggregate),
     .dflt = "response",
     .choices = aggregate_choices,
     .help = "Mean over all tokens, or over each response first and then over responses."},
    {.key = "entropy_coef",
     .type = CFG_FLOAT,
     .offset = AT(entropy_coef),
     .dflt = "0",
     .min = 0,
     .max = 1,
     .help = "Weight of the entropy bonus."},
    {.key = "budget_cut",
     .type = CFG_CHOICE,
     .offset = AT(budget_cut),
     .dflt = "penalise",
     .choices = cut_choices,
     .help = "Trajectories cut by a token, turn or image budget: keep their reward, or leave them out of the loss."},
    {.key = NULL}};

static bool cut_by_budget(traj_outcome o)
{
    return o == TRAJ_MAX_TURNS || o == TRAJ_MAX_TOKENS || o == TRAJ_MAX_IMAGES || o == TRAJ_TURN_CUT;
}

int algo_targets(const traj *t)
{
    int n = 0;
    for (int i = 0; i < t->n_tok; i++) n += t->mask[i];
    return n;
}

void algo_mask(const algo_opts *o, traj *t, int n)
{
    for (int i = 0; i < n; i++)
        t[i].masked =
            t[i].outcome == TRAJ_INFRA || (o->budget_cut && cut_by_budget(t[i].outcome)) || algo_targets(&t[i]) == 0;
}

static bool called(const traj_turn *u) { return u->code && u->tool.ran; }

/* Returns of a trajectory's calls in order into g, which has room for n_turn. */
static int turn_returns(const reward_opts *r, const traj *t, float *g)
{
    bool *fail = calloc((size_t)t->n_turn + 1, sizeof *fail);
    CHECK(fail);
    int n = 0;
    for (int k = 0; k < t->n_turn; k++)
        if (called(&t->turns[k])) fail[n++] = !t->turns[k].tool.ok;
    bat_turns(r, fail, n, g);
    free(fail);
    return n;
}

status algo_turn_norm(const reward_opts *r, const traj *t, int n, comm *world, turn_norm *out)
{
    *out = (turn_norm){0, 1};
    if (!r->turn_normalize) return ST_OK;
    size_t cap = 1;
    for (int i = 0; i < n; i++) cap += (size_t)t[i].n_turn;
    float *mine = malloc(cap * sizeof *mine);
    size_t *bytes = malloc(sizeof *bytes * (size_t)world->size);
    void *all = NULL;
    if (!mine || !bytes) {
        free(mine);
        free(bytes);
        return FAIL(ST_ENOMEM, "no memory for %zu turn returns", cap);
    }
    size_t m = 0;
    for (int i = 0; i < n; i++)
        if (!t[i].masked) m += (size_t)turn_returns(r, &t[i], mine + m);
    status st = comm_allgatherv(world, mine, m * sizeof *mine, &all, bytes);
    if (st == ST_OK) {
        const float *g = all;
        size_t total = 0;
        for (int k = 0; k < world->size; k++) total += bytes[k] / sizeof *g;
        double mean = 0, sq = 0;
        for (size_t i = 0; i < total; i++) mean += g[i];
        mean = total ? mean / (double)total : 0;
        for (size_t i = 0; i < total; i++) sq += (g[i] - mean) * (g[i] - mean);
        double std = total ? sqrt(sq / (double)total) : 0;
        if (std > 1e-8) *out = (turn_norm){mean, 1 / std};
    }
    free(all);
    free(mine);
    free(bytes);
    return st;
}

void algo_turn_part(const reward_opts *r, const turn_norm *z, const traj *t, float *out)
{
    int n = turn_returns(r, t, out);
    for (int k = t->n_turn - 1; k >= 0; k--) /* call n sits at turn k >= n: spread from the back */
        out[k] = called(&t->turns[k]) ? (float)(r->turn_weight * (out[--n] - z->mean) * z->inv_std) : 0;
}

double algo_weight(const algo_opts *o, int64_t tokens, int64_t responses, int own)
{
    if (o->aggregate == AGGREGATE_TOKEN) return tokens > 0 ? 1.0 / (double)tokens : 0;
    return responses > 0 && own > 0 ? 1.0 / ((double)responses * own) : 0;
}
