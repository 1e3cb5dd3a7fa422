/* The balanced adaptive tool-call reward (BAT) of CodeDance, arXiv 2512.17312.
 *
 * For a prompt's group of rollouts with mean mu:   d = (1 + tanh(gamma (0.5 - mu))) / 2 - delta      (paper, eq. 1)
 * A trajectory with N calls, n_ok of them good:    reward = score + d T,   T = 0 when N = 0
 *   published  mu = mean score (what the public code feeds in, although the paper says accuracy),  T = c n_ok / N
 *   fixed      mu = mean accuracy,  T = c n_ok / N for d >= 0,  T = c (1 + n_fail) for d < 0
 *   naive      d = 1,  T = c n_ok / N
 *   none       no tool term
 * c is 1.5 for a right and 0.5 for a wrong answer (2 and 1 for math), and
 * score = acc - 0.2 [format broken] (1.2 acc - 0.4 [format broken] for math).
 *
 * Why fixed: on easy prompts d is negative and the published T contains n_ok / N, so a failing call in front of a good
 * one makes the punishment smaller: training then learns to write failing code. With (1 + n_fail) it makes it larger.
 */
#include <math.h>
#include <stdlib.h>

#include "reward/reward.h"

static float score_of(const reward_opts *o, const bat_row *r)
{
    double fmt = r->format_ok ? 0 : -1;
    if (r->math) return (float)(o->math_acc * r->acc + o->math_format * fmt);
    return (float)(r->acc + o->w_format * fmt);
}

static double tool_part(const reward_opts *o, const bat_row *r, double d)
{
    int n = r->n_ok + r->n_fail;
    if (n == 0 || o->bat == BAT_NONE) return 0;
    bool right = r->acc >= 0.5f;
    double c = r->math ? (right ? o->math_c_right : o->math_c_wrong) : (right ? o->c_right : o->c_wrong);
    if (o->bat == BAT_FIXED && d < 0) return c * (1 + r->n_fail);
    return c * r->n_ok / n;
}

static double difficulty(const reward_opts *o, double mu)
{
    if (o->bat == BAT_NONE) return 0;
    if (o->bat == BAT_NAIVE) return 1;
    return (1 + tanh(o->gamma * (0.5 - mu))) / 2 - o->delta;
}

typedef struct place {
    int64_t group;
    int row;
} place;

static int place_order(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return x->row - y->row;
}

void bat_score(const reward_opts *o, bat_row *row, int n)
{
    if (n == 0) return;
    place *at = malloc((size_t)n * sizeof *at);
    CHECK(at);
    for (int i = 0; i < n; i++) {
        row[i].score = score_of(o, &row[i]);
        at[i] = (place){row[i].group, i};
    }
    qsort(at, (size_t)n, sizeof *at, place_order);
    for (int a = 0, b; a < n; a = b) {
        double sum = 0;
        for (b = a; b < n && at[b].group == at[a].group; b++) {
            const bat_row *r = &row[at[b].row];
            sum += o->bat == BAT_PUBLISHED ? r->score : r->acc;
        }
        double d = difficulty(o, sum / (b - a));
        for (int k = a; k < b; k++) {
            bat_row *r = &row[at[k].row];
            r->d = (float)d;
            r->tool_term = (float)(d * tool_part(o, r, d));
            r->reward = r->score + r->tool_term;
        }
    }
    free(at);
}

void bat_turns(const reward_opts *o, const bool *fail, int n, float *g)
{
    double next = 0;
    for (int k = n - 1; k >= 0; k--) {
        next = (fail[k] ? -o->turn_penalty : 0) + o->turn_discount * next;
        g[k] = (float)next;
    }
}
