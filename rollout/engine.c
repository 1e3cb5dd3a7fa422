#include "rollout/engine.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "rollout/run.h"

/* ---- creation ---- */

static status check_opts(const rollout_parts *p, const rollout_opts *o)
{
    if (o->max_turns > 0 && !p->boxes)
        return FAIL(ST_EINVAL, "rollout.max_turns is %lld but there is no sandbox; set it to 0 or start one",
                    (long long)o->max_turns);
    if (o->kv_tokens < o->max_tokens + 2 * ATTN_BLOCK)
        return FAIL(ST_EINVAL, "rollout.kv_tokens (%lld) must hold one whole sequence: at least max_tokens + %d = %lld",
                    (long long)o->kv_tokens, 2 * ATTN_BLOCK, (long long)o->max_tokens + 2 * ATTN_BLOCK);
    if (model_cfg(p->m)->has_vision) {
        if (p->c->image_pad != model_cfg(p->m)->image_token)
            return FAIL(ST_EINVAL, "the tokenizer's <|image_pad|> is %d, config.json's image_token_id is %d",
                        p->c->image_pad, model_cfg(p->m)->image_token);
        int side = p->ip->patch * p->ip->merge;
        int64_t largest = p->ip->max_pixels / ((int64_t)side * side);
        if (o->prefill_tokens < largest)
            return FAIL(
                ST_EINVAL,
                "rollout.prefill_tokens (%lld) is below the %lld tokens of the largest picture (max_pixels %lld): "
                "raise it, or lower max_pixels in preprocessor_config.json",
                (long long)o->prefill_tokens, (long long)largest, (long long)p->ip->max_pixels);
    }
    return ST_OK;
}

static status make_ban(engine *e)
{
    backend *b = model_backend(e->part.m);
    int vocab = model_cfg(e->part.m)->vocab;
    uint8_t *ban = calloc((size_t)vocab, 1);
    if (!ban) return FAIL(ST_ENOMEM, "no memory for %d banned ids", vocab);
    chat_ban(e->part.c, vocab, ban);
    b->upload(b, &e->pass.ban, ban);
    status st = b->sync(b); /* the bytes are ours */
    free(ban);
    return st;
}

/* Takes over the options of o that don't need other memory. */
static status adopt(engine *e, const rollout_opts *o)
{
    opening fresh = {0};
    bool direct = o->force == FORCE_DIRECT;
    if (o->force != FORCE_NONE) {
        const cfg_strings *texts = direct ? &o->direct_openings : &o->tool_openings;
        const char *key = direct ? "rollout.direct_openings" : "rollout.tool_openings";
        TRY(opening_make(&fresh, e->part.c->tok, texts, key));
        if (fresh.longest >= o->max_new_tokens) {
            status st = FAIL(ST_EINVAL, "rollout.max_new_tokens (%lld) leaves no room after a text of %s (%d tokens)",
                             (long long)o->max_new_tokens, key, fresh.longest);
            opening_free(&fresh);
            return st;
        }
    }
    opening_free(&e->opening);
    e->opening = fresh;
    e->o = *o;
    e->rules = (session_rules){.o = &e->o,
                               .c = e->part.c,
                               .opening = fresh.n ? &e->opening : NULL,
                               .max_image_tokens = (int)o->prefill_tokens};
    return ST_OK;
}

status engine_create(engine **out, const rollout_parts *p, const rollout_opts *o)
{
    TRY(check_opts(p, o));
    engine *e = calloc(1, sizeof *e);
    if (!e) return FAIL(ST_ENOMEM, "no memory for the rollout engine");
    e->part = *p;
    status st = ST_OK;
    TRY_OR(adopt(e, o), fail);
    st = kv_create(&e->kv, p->m, (int)((o->kv_tokens + ATTN_BLOCK - 1) / ATTN_BLOCK));
    TRY_OR(fail_advice(st, ST_ENOMEM, "lower rollout.kv_tokens (%lld)", (long long)o->kv_tokens), fail);
    st = pass_create(&e->pass, e);
    TRY_OR(fail_advice(st, ST_ENOMEM, "lower rollout.prefill_tokens (%lld) or rollout.max_batch (%lld)",
                       (long long)o->prefill_tokens, (long long)o->max_batch),
           fail);
    TRY_OR(make_ban(e), fail);
    *out = e;
    return ST_OK;
fail:
    engine_destroy(e);
    return st;
}

int engine_group(const engine *e) { return (int)e->o.group; }

void engine_destroy(engine *e)
{
    if (!e) return;
    opening_free(&e->opening);
    pass_destroy(&e->pass);
    kv_destroy(e->kv);
    free(e);
}

const rollout_opts *engine_opts(const engine *e) { return &e->o; }

status engine_set_opts(engine *e, const rollout_opts *o)
{
    if (o->kv_tokens != e->o.kv_tokens || o->max_batch != e->o.max_batch || o->prefill_tokens != e->o.prefill_tokens ||
        o->max_tokens != e->o.max_tokens)
        return FAIL(ST_EINVAL,
                    "the sizes of a rollout engine (kv_tokens, max_batch, prefill_tokens, max_tokens) are fixed");
    TRY(check_opts(&e->part, o));
    return adopt(e, o);
}

/* ---- one run ---- */

static void finish(run *r, session *s)
{
    group *g = &r->group[s->group];
    kv_release(r->e->kv, &s->t.kv);
    box_close(s->box);
    s->box = NULL;
    s->wall_s = clock_now() - s->started;
    session_finish(s, g->p, &r->out[s->group * r->size + s->index]);
    session_free(s);
    s->state = SESSION_DONE;
    r->n_done++;
    if (--g->n_live == 0) group_close(g, r->e->kv);
    while (r->first < r->next && !r->group[r->first].member) r->first++;
}

static status open_group(run *r)
{
    int index = r->next++;
    group *g = &r->group[index];
    TRY(group_open(g, &r->e->rules, r->e->part.ip, index, r->size));
    for (int i = 0; i < r->size && g->member; i++)
        if (g->member[i].state == SESSION_DONE) finish(r, &g->member[i]);
    return ST_OK;
}

/* Sequences that want rows now or soon: keeps the number of open groups near what a pass can hold. */
static int count_runnable(const run *r)
{
    int n = 0;
    for (int i = r->first; i < r->next; i++)
        for (int k = 0; r->group[i].member && k < r->size; k++) n += r->group[i].member[k].state == SESSION_RUN;
    return n;
}

static bool waits_for_box(const session *s) { return s->state == SESSION_CALL && s->call == CALL_QUEUED && !s->box; }

static void push_item(run *r, int *n, group *g, session *s, sched_item it)
{
    if (*n == r->item_cap) {
        r->item_cap = r->item_cap ? 2 * r->item_cap : 128;
        r->item = realloc(r->item, (size_t)r->item_cap * sizeof *r->item);
        r->plan = realloc(r->plan, (size_t)r->item_cap * sizeof *r->plan);
        r->ref = realloc(r->ref, (size_t)r->item_cap * sizeof *r->ref);
        CHECK(r->item && r->plan && r->ref);
    }
    const track *t = s ? &s->t : &g->t;
    const kv_pool *kv = r->e->kv;
    it.resident = t->kv.n_block > 0;
    it.held = kv_private(kv, &t->kv);
    it.run = t->seq.image;
    it.n_run = t->seq.n_image;
    it.merge = r->e->part.c->merge;
    r->item[*n] = it;
    r->ref[(*n)++] = (struct item_ref){g, s};
}

static void push_prompt(run *r, int *n, group *g)
{
    bool wanted = !g->started;
    for (int k = 0; k < r->size; k++) wanted |= g->member[k].state == SESSION_RUN && g->member[k].t.kv.n_block == 0;
    int left = g->t.seq.id.n - g->t.kv.n_token;
    push_item(
        r, n, g, NULL,
        (sched_item){.pending = wanted ? left : 0, .n_token = g->t.kv.n_token, .extra = g->started ? 0 : 2 * r->size});
}

static void push_member(run *r, int *n, group *g, session *s)
{
    if (s->state == SESSION_DONE) return;
    bool in = s->t.kv.n_block > 0, prompt_in = g->t.kv.n_token == g->t.seq.id.n;
    int from = in ? s->t.kv.n_token : g->t.seq.id.n;
    bool runs = s->state == SESSION_RUN && g->started && (in || prompt_in);
    push_item(r, n, g, s,
              (sched_item){.pending = runs ? track_tokens(&s->t) - from : 0,
                           .n_token = from,
                           .tail_shared = in ? kv_tail_shared(r->e->kv, &s->t.kv) : true});
}

/* Items in priority order: by identity, but sequences that wait for a free box come last: others hold the boxes, and
 * must be able to take the blocks they need to give them back. */
static int list_items(run *r)
{
    int n = 0;
    for (int blocked = 0; blocked < 2; blocked++) {
        for (int i = r->first; i < r->next; i++) {
            group *g = &r->group[i];
            if (!g->member) continue;
            bool all_blocked = true;
            for (int k = 0; k < r->size; k++)
                all_blocked &= g->member[k].state == SESSION_DONE || waits_for_box(&g->member[k]);
            if (all_blocked == (blocked == 1)) push_prompt(r, &n, g);
            for (int k = 0; k < r->size; k++)
                if (waits_for_box(&g->member[k]) == (blocked == 1)) push_member(r, &n, g, &g->member[k]);
        }
    }
    return n;
}

static void feed_prompt(run *r, group *g, int rows)
{
    engine *e = r->e;
    CHECK(kv_grow(e->kv, &g->t.kv, rows) == ST_OK);
    int row = pass_add(&e->pass, e, &g->t, rows, &r->stats.phases);
    if (row < 0 || g->started) return;
    g->started = true;
    for (int k = 0; k < r->size; k++) {
        session *s = &g->member[k];
        if (s->state != SESSION_RUN) continue;
        kv_share(e->kv, &g->t.kv, &s->t.kv);
        if (s->t.turn.n == 0) pass_target(&e->pass, s, row); /* else a forced opening comes first */
    }
}

static void feed_member(run *r, group *g, session *s, int rows)
{
    engine *e = r->e;
    if (s->t.kv.n_block == 0) kv_share(e->kv, &g->t.kv, &s->t.kv);
    CHECK(kv_grow(e->kv, &s->t.kv, rows) == ST_OK);
    int row = pass_add(&e->pass, e, &s->t, rows, &r->stats.phases);
    if (row >= 0) pass_target(&e->pass, s, row);
}

/* Fills the next pass; returns the number of sequences in it. */
static int fill_pass(run *r)
{
    engine *e = r->e;
    int n = list_items(r);
    sched_limits lim = {
        .seqs = e->pass.lim.seq, .prefill_rows = (int)e->o.prefill_tokens, .free_blocks = kv_free_blocks(e->kv)};
    int fed = sched_plan(r->item, n, &lim, r->plan);
    for (int i = n - 1; i >= 0 && fed; i--) {
        if (r->plan[i] != SCHED_EVICT) continue;
        kv_release(e->kv, r->ref[i].s ? &r->ref[i].s->t.kv : &r->ref[i].g->t.kv);
        r->stats.preempted++;
    }
    pass_begin(&e->pass);
    for (int i = 0; i < n; i++) {
        if (r->plan[i] <= 0) continue;
        if (r->ref[i].s)
            feed_member(r, r->ref[i].g, r->ref[i].s, r->plan[i]);
        else
            feed_prompt(r, r->ref[i].g, r->plan[i]);
    }
    return fed;
}

/* Sessions whose state changed: calls go to the boxes, finished ones out. */
static void sweep(run *r)
{
    for (int i = r->first; i < r->next; i++) {
        group *g = &r->group[i];
        for (int k = 0; g->member && k < r->size; k++) {
            session *s = &g->member[k];
            if (s->state == SESSION_CALL && s->call == CALL_NONE)
                calls_add(r, s);
            else if (s->state == SESSION_DONE && s->t.seq.id.v)
                finish(r, s);
        }
    }
}

static status loop(run *r, progress *bar)
{
    engine *e = r->e;
    while (r->n_done < r->n * r->size) {
        int runnable = count_runnable(r);
        while (r->next < r->n && (runnable == 0 || runnable + r->size <= e->o.max_batch)) {
            TRY(open_group(r));
            runnable = count_runnable(r);
        }
        TRY(calls_step(r, 0));
        sweep(r);
        if (fill_pass(r) > 0) {
            TRY(pass_run(&e->pass, r));
        } else if (r->n_held && r->n_running == 0) {
            TRY(calls_exchange(r));
        } else if (r->n_running || r->n_queued) {
            double since = clock_now();
            TRY(calls_step(r, 100));
            r->stats.idle_s += clock_now() - since;
            spans_add(&r->stats.phases, PHASE_TOOL_WAIT, since);
        } else {
            CHECK(count_runnable(r) == 0); /* the scheduler always moves the oldest runnable sequence */
        }
        sweep(r);
        if (bar) progress_set(bar, r->n_done, NULL);
    }
    return ST_OK;
}

/* Gives everything back: after success only the lists, after a failure whatever was under way. */
static void run_free(run *r)
{
    for (int i = r->first; i < r->next; i++) {
        group *g = &r->group[i];
        if (!g->member) continue;
        for (int k = 0; k < r->size; k++) {
            session *s = &g->member[k];
            kv_release(r->e->kv, &s->t.kv);
            box_close(s->box);
            s->box = NULL;
            session_free(s);
        }
        group_close(g, r->e->kv);
    }
    free(r->group);
    free(r->item);
    free(r->plan);
    free(r->ref);
}

status engine_run(engine *e, const rollout_prompt *p, int n, traj *out, rollout_stats *stats, const char *name)
{
    run r = {.e = e, .n = n, .size = (int)e->o.group, .out = out};
    double since = clock_now();
    memset(out, 0, (size_t)n * (size_t)r.size * sizeof *out);
    spans_reset(&r.stats.phases);
    r.group = calloc((size_t)n + 1, sizeof *r.group);
    if (!r.group) return FAIL(ST_ENOMEM, "no memory for %d prompts", n);
    for (int i = 0; i < n; i++) r.group[i].p = &p[i];
    progress *bar = name ? progress_start(name, (int64_t)n * r.size) : NULL;
    status st = loop(&r, bar);
    progress_end(bar);
    run_free(&r);
    if (st != ST_OK) {
        for (int i = 0; i < n * r.size; i++) traj_free(&out[i]);
        return st;
    }
    CHECK(kv_free_blocks(e->kv) == kv_blocks(e->kv));
    r.stats.wall_s = clock_now() - since;
    if (stats) *stats = r.stats;
    return ST_OK;
}
