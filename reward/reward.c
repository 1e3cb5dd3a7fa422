#include "reward/reward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX_CHARS = 1000 }; /* published: a longer answer breaks the format and counts as wrong */

/* Think tags pair in every turn; exactly one answer, in the last turn, and not overlong. */
static bool format_holds(const traj *t)
{
    if (t->n_turn == 0) return false;
    for (int k = 0; k < t->n_turn; k++) {
        const traj_turn *u = &t->turns[k];
        chat_turn p;
        chat_parse_turn(u->text, strlen(u->text), &p);
        if (p.think_n < 0) return false;
        if (k < t->n_turn - 1 && p.n_answer != 0) return false;
        if (k == t->n_turn - 1 && (p.n_answer != 1 || p.answer_len >= ANSWER_MAX_CHARS)) return false;
    }
    return true;
}

static status verify(const reward_opts *o, traj *t)
{
    const sample *s = t->sample;
    const verifier_def *v = s->verifier ? verifier_find(s->verifier) : &verifiers[o->verifier];
    if (!v)
        return FAIL(ST_EINVAL, "sample %s: unknown verifier '%s' (exact, number, choice, box_iou)", s->id, s->verifier);
    if (!s->answer) return FAIL(ST_EINVAL, "sample %s has no answer, which verifier %s compares with", s->id, v->name);
    t->acc = 0;
    if (t->answer && strlen(t->answer) < ANSWER_MAX_CHARS) {
        const char *reason;
        t->acc = v->fn(s->answer, t->answer, o, &reason);
    }
    return ST_OK;
}

static void add_part(traj *t, const char *name, double value)
{
    CHECK(t->n_part < TRAJ_MAX_PART);
    reward_part *p = &t->parts[t->n_part++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->value = (float)value;
}

status reward_score(const reward_opts *o, traj *t, int n)
{
    bat_row *row = calloc((size_t)n + 1, sizeof *row);
    if (!row) return FAIL(ST_ENOMEM, "no memory for the rewards of %d trajectories", n);
    int m = 0;
    for (int i = 0; i < n; i++) {
        traj *x = &t[i];
        x->n_part = 0;
        x->reward = x->acc = 0;
        x->format_ok = false;
        status st = verify(o, x);
        if (st != ST_OK) {
            free(row);
            return st;
        }
        if (x->outcome == TRAJ_INFRA) continue; /* our failure, not the policy's: no part in the group's mean */
        x->format_ok = format_holds(x);
        bat_row *r = &row[m++];
        *r = (bat_row){.group = x->prompt, .acc = x->acc, .format_ok = x->format_ok};
        r->math = x->sample->domain && strcmp(x->sample->domain, "math") == 0;
        for (int k = 0; k < x->n_turn; k++) {
            if (!x->turns[k].code || !x->turns[k].tool.ran) continue; /* beyond a limit: no call */
            if (x->turns[k].tool.ok)
                r->n_ok++;
            else
                r->n_fail++;
        }
    }
    bat_score(o, row, m);
    for (int i = 0, k = 0; i < n; i++) {
        traj *x = &t[i];
        if (x->outcome == TRAJ_INFRA) continue;
        const bat_row *r = &row[k++];
        x->reward = r->reward;
        add_part(x, "acc", x->acc);
        add_part(x, "score", r->score);
        add_part(x, "d", r->d);
        add_part(x, "tool", r->tool_term);
    }
    free(row);
    return ST_OK;
}
