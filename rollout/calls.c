#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "rollout/run.h"

enum {
    POLL_MAX = 32,
    OPEN_PATIENCE_S = 60 /* a pool that gives no box for so long, while we hold none, has failed */
};

void calls_add(run *r, session *s)
{
    s->call = CALL_QUEUED;
    s->called = clock_now();
    r->n_queued++;
    r->stats.tool_calls++;
}

static group *group_of(run *r, const session *s) { return &r->group[s->group]; }

static status make_input(group *g)
{
    const rollout_prompt *p = g->p;
    if (g->input || p->n_image == 0) return ST_OK;
    CHECK(p->picture && p->picture[0].rgb);
    box_image *im = malloc((size_t)p->n_image * sizeof *im);
    if (!im) return FAIL(ST_ENOMEM, "no memory for %d pictures", p->n_image);
    for (int i = 0; i < p->n_image; i++) im[i] = (box_image){p->picture[i].w, p->picture[i].h, p->picture[i].rgb};
    status st = box_input_create(&g->input, im, p->n_image);
    free(im);
    return st;
}

/* The call is over: the session goes on, or ends as INFRA. */
static status deliver(run *r, session *s, tool_result *res)
{
    double waited = clock_now() - s->called;
    s->tool_wait_s += waited;
    r->stats.tool_wait_s += waited;
    if (r->e->o.shuffle_tools && res->n_image > 0) {
        s->held = *res;
        s->call = CALL_HELD;
        r->n_held++;
        return ST_OK;
    }
    s->call = CALL_NONE;
    return session_result(s, &r->e->rules, res);
}

static void fail_infra(run *r, session *s, const char *text)
{
    traj_turn *turn = &s->turns[s->n_turn - 1];
    double waited = clock_now() - s->called;
    turn->tool.ran = true;
    snprintf(turn->tool.verdict, sizeof turn->tool.verdict, "%s", box_verdict_name(BOX_INFRA));
    turn->tool_text = strdup(text);
    CHECK(turn->tool_text);
    s->tool_wait_s += waited;
    r->stats.tool_wait_s += waited;
    s->call = CALL_NONE;
    session_end(s, TRAJ_INFRA);
}

/* The state is gone, by the code's own doing, and an earlier result said so: it goes on in a fresh box, however often;
 * a policy that could have its sample masked so would. */
static void start_anew(run *r, session *s)
{
    box_close(s->box);
    s->box = NULL;
    s->anew = true;
    s->call = CALL_QUEUED;
    r->n_queued++;
}

/* ST_EAGAIN: no box is free; another failure is the sandbox's. */
static status start(run *r, session *s)
{
    group *g = group_of(r, s);
    if (!s->box) {
        const rollout_prompt *p = g->p;
        rng_key k = rng_make_key(p->seed, RNG_SANDBOX, p->step, p->prompt_id, (uint64_t)s->index, 0);
        TRY(make_input(g));
        s->box_seed = k.w[0] | (uint64_t)k.w[1] << 32;
        TRY(box_open(r->e->part.boxes, s->box_seed, g->input, &s->box));
        box_set_user(s->box, s);
    }
    const char *code = s->turns[s->n_turn - 1].code;
    TRY(box_submit(s->box, code, strlen(code)));
    s->call = CALL_RUNNING;
    return ST_OK;
}

static void start_queued(run *r)
{
    bool full = false;
    int holders = 0, given_up = 0;
    for (int i = r->first; i < r->next && r->n_queued; i++) {
        group *g = &r->group[i];
        for (int k = 0; g->member && k < r->size; k++) {
            session *s = &g->member[k];
            holders += s->box != NULL;
            if (s->state != SESSION_CALL || s->call != CALL_QUEUED) continue;
            if (full && !s->box) continue;
            status st = start(r, s);
            if (st == ST_OK) {
                r->n_queued--;
                r->n_running++;
            } else if (st == ST_EAGAIN) {
                full = true;
            } else { /* our trouble, not the program's */
                fail_infra(r, s, fail_message());
                r->n_queued--;
            }
        }
    }
    if (!full || r->n_running || holders) return;
    for (int i = r->first; i < r->next; i++) {
        group *g = &r->group[i];
        for (int k = 0; g->member && k < r->size; k++) {
            session *s = &g->member[k];
            if (s->state != SESSION_CALL || s->call != CALL_QUEUED || clock_now() - s->called < OPEN_PATIENCE_S)
                continue;
            fail_infra(r, s, "no sandbox became free");
            given_up++;
        }
    }
    r->n_queued -= given_up;
}

static status take(run *r, box *b)
{
    session *s = box_user(b);
    CHECK(s && s->box == b && s->call == CALL_RUNNING);
    box_result res;
    box_result_take(b, &res);
    r->n_running--;
    status st = ST_OK;
    if (res.verdict == BOX_DEAD) {
        start_anew(r, s);
    } else if (tool_verdict_infra(res.verdict)) { /* the pool has tried again: sandbox/box.h */
        fail_infra(r, s, res.error_message ? res.error_message : "the sandbox failed");
    } else {
        tool_result out;
        res.state_lost |= s->anew;
        s->anew = false;
        st = tool_result_make(&out, &res, &r->e->o, r->e->part.ip, r->e->rules.max_image_tokens);
        if (st == ST_OK) st = deliver(r, s, &out);
    }
    box_result_free(&res);
    return st;
}

status calls_step(run *r, int timeout_ms)
{
    if (r->n_queued) start_queued(r);
    if (r->n_running == 0 && r->n_queued == 0) return ST_OK;
    box *done[POLL_MAX];
    int n = box_poll(r->e->part.boxes, done, POLL_MAX, timeout_ms);
    for (int i = 0; i < n; i++) TRY(take(r, done[i]));
    if (n && r->n_queued) start_queued(r); /* in a fresh box */
    return ST_OK;
}

/* Rotates the images of the held results by the largest number a prompt has among them, so that nobody gets a picture
 * of its own prompt as long as no prompt has the majority. */
static void exchange(session **held, int n)
{
    int largest = 1;
    for (int i = 0; i < n;) {
        int j = i;
        while (j < n && held[j]->group == held[i]->group) j++;
        if (j - i > largest) largest = j - i;
        i = j;
    }
    if (n < 2) return;
    int by = 2 * largest <= n ? largest : 1;
    traj_image **list = malloc((size_t)n * sizeof *list);
    int *count = malloc((size_t)n * sizeof *count);
    CHECK(list && count);
    for (int i = 0; i < n; i++) {
        list[i] = held[i]->held.image;
        count[i] = held[i]->held.n_image;
    }
    for (int i = 0; i < n; i++) {
        held[i]->held.image = list[(i + by) % n];
        held[i]->held.n_image = count[(i + by) % n];
    }
    free(list);
    free(count);
}

status calls_exchange(run *r)
{
    session **held = malloc((size_t)r->n_held * sizeof *held + 1);
    CHECK(held);
    int n = 0;
    for (int i = r->first; i < r->next; i++)
        for (int k = 0; r->group[i].member && k < r->size; k++)
            if (r->group[i].member[k].call == CALL_HELD) held[n++] = &r->group[i].member[k];
    CHECK(n == r->n_held);
    exchange(held, n);
    status st = ST_OK;
    for (int i = 0; i < n && st == ST_OK; i++) {
        held[i]->call = CALL_NONE;
        r->n_held--;
        tool_result res = held[i]->held;
        memset(&held[i]->held, 0, sizeof held[i]->held);
        st = session_result(held[i], &r->e->rules, &res);
    }
    free(held);
    return st;
}
