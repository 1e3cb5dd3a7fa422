#include "rl/tally.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tally_note tally_of(const traj *t)
{
    tally_note n = {.acc = t->acc, .reward = t->reward, .outcome = (int32_t)t->outcome};
    snprintf(n.category, sizeof n.category, "%s", t->sample->category ? t->sample->category : "all");
    for (int k = 0; k < t->n_turn; k++) {
        if (!t->turns[k].code || !t->turns[k].tool.ran) continue;
        n.calls++;
        n.fails += !t->turns[k].tool.ok;
    }
    for (int i = 0; i < t->n_tok; i++) n.tokens += t->mask[i];
    return n;
}

status tally_gather(const tally_note *mine, int64_t n, comm *world, tally_note **all, int64_t *n_all)
{
    size_t *bytes = malloc(sizeof *bytes * (size_t)world->size);
    if (!bytes) return FAIL(ST_ENOMEM, "no memory for the tally");
    void *buf = NULL;
    status st = comm_allgatherv(world, mine, sizeof *mine * (size_t)n, &buf, bytes);
    size_t total = 0;
    for (int r = 0; r < world->size && st == ST_OK; r++) total += bytes[r];
    free(bytes);
    TRY(st);
    *all = buf;
    *n_all = (int64_t)(total / sizeof *mine);
    return ST_OK;
}

typedef struct counter {
    int64_t n, tool, calls, fails, tokens;
    double acc, acc_tool, acc_direct;
} counter;

static void count(counter *c, const tally_note *t)
{
    c->n++;
    c->acc += t->acc;
    c->calls += t->calls;
    c->fails += t->fails;
    c->tokens += t->tokens;
    if (t->calls > 0)
        c->tool++, c->acc_tool += t->acc;
    else
        c->acc_direct += t->acc;
}

static double share(double a, double b) { return b > 0 ? a / b : NAN; }

/* Wilson's score interval of a proportion p of n, 95 %. */
static void wilson(double p, double n, double *low, double *high)
{
    const double z = 1.959963984540054;
    if (n <= 0) {
        *low = *high = NAN;
        return;
    }
    double mid = p + z * z / (2 * n), half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)), all = 1 + z * z / n;
    *low = fmax(0, (mid - half) / all);
    *high = fmin(1, (mid + half) / all);
}

static eval_row make_row(const char *category, const counter *c)
{
    double n = (double)c->n;
    eval_row r = {.n = c->n,
                  .accuracy = share(c->acc, n),
                  .tool_rate = share((double)c->tool, n),
                  .mean_calls = share((double)c->calls, n),
                  .code_fail_rate = share((double)c->fails, (double)c->calls),
                  .acc_tool = share(c->acc_tool, (double)c->tool),
                  .acc_direct = share(c->acc_direct, (double)(c->n - c->tool)),
                  .mean_tokens = share((double)c->tokens, n)};
    snprintf(r.category, sizeof r.category, "%s", category);
    wilson(r.accuracy, n, &r.low, &r.high);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const eval_row *)a)->category, ((const eval_row *)b)->category);
}

status tally_rows(eval_result *out, const tally_note *note, int64_t n)
{
    counter each[EVAL_MAX_CATEGORIES] = {{0}}, all = {0};
    char name[EVAL_MAX_CATEGORIES][32];
    int64_t infra = 0;
    int used = 0;
    for (int64_t i = 0; i < n; i++) {
        if (note[i].outcome == TRAJ_INFRA) {
            infra++;
            continue;
        }
        int k = 0;
        while (k < used && strcmp(name[k], note[i].category) != 0) k++;
        if (k == EVAL_MAX_CATEGORIES)
            return FAIL(ST_EINVAL, "more than %d categories in one evaluation", EVAL_MAX_CATEGORIES);
        if (k == used) snprintf(name[used++], sizeof *name, "%s", note[i].category);
        count(&each[k], &note[i]);
        count(&all, &note[i]);
    }
    *out = (eval_result){.n_row = used, .infra = share((double)infra, (double)n)};
    for (int k = 0; k < used; k++) out->row[k] = make_row(name[k], &each[k]);
    qsort(out->row, (size_t)used, sizeof *out->row, by_name);
    out->all = make_row("all", &all);
    return ST_OK;
}
