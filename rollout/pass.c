#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "rollout/run.h"

static status plan_memory(pass *p, const engine *e)
{
    model *m = e->part.m;
    backend *b = model_backend(m);
    const model_config *c = model_cfg(m);
    int64_t key_dim[2] = {p->lim.seq, 4};
    TRY(arena_create(&p->mem, b, "sampler"));
    arena_add_act(p->mem, &p->hidden, p->lim.seq, c->hidden);
    arena_add_1d(p->mem, &p->index, DT_I32, p->lim.seq);
    arena_add(p->mem, &p->key, DT_U32, 2, key_dim);
    arena_add_1d(p->mem, &p->id, DT_I32, p->lim.seq);
    arena_add_1d(p->mem, &p->logp, DT_F32, p->lim.seq);
    arena_add_1d(p->mem, &p->ban, DT_U8, c->vocab);
    arena_add_1d(p->mem, &p->ban_opening, DT_U8, c->vocab);
    return arena_commit(p->mem);
}

status pass_create(pass *p, const engine *e)
{
    const rollout_opts *o = &e->o;
    const model_config *c = model_cfg(e->part.m);
    int merge = e->part.ip->merge;
    int seq = (int)o->max_batch, tok = seq + (int)o->prefill_tokens, vis = c->has_vision ? (int)o->prefill_tokens : 0;
    int max_block = (int)((o->max_tokens + ATTN_BLOCK - 1) / ATTN_BLOCK);
    memset(p, 0, sizeof *p);
    p->lim = (model_limits){
        .tok = tok, .seq = seq, .patch = vis * merge * merge, .img = vis, .row = seq, .max_block = max_block};
    size_t n_tok = (size_t)tok, n_seq = (size_t)seq, n_vis = (size_t)vis + 1;
    struct {
        void *at;
        size_t n;
    } list[] = {
        {&p->ids, n_tok},
        {&p->pos, 3 * n_tok},
        {&p->cu, n_seq + 1},
        {&p->slot, n_tok},
        {&p->table, n_seq * (size_t)max_block},
        {&p->ctx, n_seq},
        {&p->row, n_seq},
        {&p->grid, 3 * n_vis},
        {&p->vis_tok, n_vis},
        {&p->vis_row, n_vis},
        {&p->chunk_index, n_seq},
        {&p->chunk_id, n_seq},
        {&p->chunk_key, 4 * n_seq},
        {&p->chunk_logp, n_seq},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) { /* every element type is four bytes wide */
        void *v = calloc(list[i].n, 4);
        if (!v) return FAIL(ST_ENOMEM, "no memory for passes of %d tokens", tok);
        memcpy(list[i].at, &v, sizeof v);
    }
    p->opening_bytes = malloc((size_t)c->vocab);
    if (!p->opening_bytes) return FAIL(ST_ENOMEM, "no memory for %d banned ids", c->vocab);
    TRY(model_acts_create(&p->acts, e->part.m, &p->lim, false));
    return plan_memory(p, e);
}

void pass_destroy(pass *p)
{
    void *list[] = {p->ids,      p->pos,       p->cu,         p->slot,    p->table,        p->ctx,
                    p->row,      p->grid,      p->vis_tok,    p->vis_row, p->patches,      p->chunk_index,
                    p->chunk_id, p->chunk_key, p->chunk_logp, p->target,  p->opening_bytes};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) free(list[i]);
    model_acts_destroy(p->acts);
    arena_destroy(p->mem);
    memset(p, 0, sizeof *p);
}

void pass_begin(pass *p)
{
    p->n_tok = p->n_seq = p->n_row = p->n_img = p->n_vis = p->n_patch = p->n_vis_row = p->n_prefill = 0;
    p->n_target = 0;
}

static void add_image(pass *p, engine *e, const traj_image *im, int at)
{
    const image_processor *ip = e->part.ip;
    size_t dim = (size_t)vision_patch_dim(&model_cfg(e->part.m)->vision);
    int n = im->grid[0] * im->grid[1] * im->grid[2], tokens = image_grid_tokens(im->grid, ip->merge);
    CHECK(p->n_patch + n <= p->lim.patch && p->n_img < p->lim.img);
    size_t need = ((size_t)p->n_patch + (size_t)n) * dim;
    if (need > p->patches_cap) {
        p->patches = realloc(p->patches, need * sizeof *p->patches);
        CHECK(p->patches);
        p->patches_cap = need;
    }
    int32_t grid[3];
    image_patches(p->patches + (size_t)p->n_patch * dim, grid, &im->view, ip);
    CHECK(memcmp(grid, im->grid, sizeof grid) == 0);
    memcpy(p->grid + 3 * (size_t)p->n_img++, grid, sizeof grid);
    for (int i = 0; i < tokens; i++) {
        p->vis_tok[p->n_vis] = at + i;
        p->vis_row[p->n_vis++] = p->n_vis_row + i;
    }
    p->n_vis_row += tokens;
    p->n_patch += n;
}

int pass_add(pass *p, engine *e, track *t, int rows, spans *phases)
{
    int from = t->kv.n_token - rows, first = p->n_tok;
    CHECK(from >= 0 && first + rows <= p->lim.tok && p->n_seq < p->lim.seq);
    bool prefill = track_tokens(t) - from > 1;
    for (int i = 0; i < rows; i++) {
        p->ids[first + i] = track_id(t, from + i);
        p->slot[first + i] = kv_slot(&t->kv, from + i);
    }
    memcpy(p->pos + 3 * (size_t)first, t->pos + 3 * (size_t)from, (size_t)rows * 3 * sizeof *p->pos);
    memcpy(p->table + (size_t)p->n_seq * (size_t)p->lim.max_block, t->kv.block,
           (size_t)t->kv.n_block * sizeof *p->table);
    p->cu[p->n_seq] = first;
    p->ctx[p->n_seq++] = t->kv.n_token;
    p->n_tok += rows;
    p->cu[p->n_seq] = p->n_tok;
    if (prefill) {
        p->n_prefill += rows;
        double since = clock_now();
        bool any = false;
        for (int i = 0; i < t->seq.n_image; i++) {
            int at = t->seq.image[i].start - from;
            if (at < 0 || at >= rows) continue;
            add_image(p, e, &t->image[i], first + at);
            any = true;
        }
        if (any) spans_add(phases, PHASE_VISION, since);
    }
    if (t->kv.n_token < track_tokens(t)) return -1;
    p->row[p->n_row] = first + rows - 1;
    return p->n_row++;
}

void pass_target(pass *p, session *s, int row)
{
    if (p->n_target == p->target_cap) {
        p->target_cap = p->target_cap ? 2 * p->target_cap : 64;
        p->target = realloc(p->target, (size_t)p->target_cap * sizeof *p->target);
        CHECK(p->target);
    }
    p->target[p->n_target++] = (target){s, row};
}

/* One call of the sampler for targets [at, at + n), which share a ban list. */
static void sample_chunk(pass *p, run *r, const tensor *hidden, int at, int n, const tensor *ban)
{
    backend *b = model_backend(r->e->part.m);
    const rollout_opts *o = &r->e->o;
    for (int i = 0; i < n; i++) {
        const session *s = p->target[at + i].s;
        const rollout_prompt *q = r->group[s->group].p;
        rng_key k =
            rng_make_key(q->seed, RNG_SAMPLE, q->step, q->prompt_id, (uint64_t)s->index, (uint64_t)track_tokens(&s->t));
        memcpy(p->chunk_key + 4 * (size_t)i, k.w, sizeof k.w);
        p->chunk_index[i] = p->target[at + i].row;
    }
    tensor x = tensor_rows(&p->hidden, 0, n), index = tensor_rows(&p->index, 0, n), key = tensor_rows(&p->key, 0, n);
    tensor id = tensor_rows(&p->id, 0, n), logp = tensor_rows(&p->logp, 0, n), head = model_head(r->e->part.m);
    b->upload(b, &index, p->chunk_index);
    b->upload(b, &key, p->chunk_key);
    b->rows_take(b, &x, hidden, &index);
    b->sample(b, &id, &logp, &x, &head, ban, &key, o->temperature > 0 ? (float)(1 / o->temperature) : 0);
    b->download(b, p->chunk_id, &id);
    b->download(b, p->chunk_logp, &logp);
}

static void swap_targets(pass *p, int i, int j)
{
    target t = p->target[i];
    p->target[i] = p->target[j];
    p->target[j] = t;
}

static bool same_opening(opening_at a, opening_at b)
{
    return a.alive == b.alive && (a.alive == 0 || a.depth == b.depth);
}

/* Targets from `at` on that share a ban list move together; returns their number, *ban is their list. */
static int next_targets(pass *p, run *r, int at, const tensor **ban)
{
    opening_at o = p->target[at].s->opening;
    int stop = at + 1;
    for (int i = stop; i < p->n_target; i++)
        if (same_opening(p->target[i].s->opening, o)) swap_targets(p, i, stop++);
    *ban = &p->ban;
    if (o.alive) {
        backend *b = model_backend(r->e->part.m);
        opening_ban(&r->e->opening, o, model_cfg(r->e->part.m)->vocab, p->opening_bytes);
        b->upload(b, &p->ban_opening, p->opening_bytes);
        *ban = &p->ban_opening;
    }
    return stop - at < p->lim.seq ? stop - at : p->lim.seq;
}

status pass_run(pass *p, run *r)
{
    model *m = r->e->part.m;
    double since = clock_now();
    if (p->n_row == 0) p->row[p->n_row++] = 0; /* a pass that only fills the cache: some row, nobody reads it */
    kv_view kv = {
        .layer = kv_layers(r->e->kv), .slot = p->slot, .table = p->table, .max_block = p->lim.max_block, .ctx = p->ctx};
    token_batch x = {
        .n_tok = p->n_tok,
        .n_seq = p->n_seq,
        .ids = p->ids,
        .pos = p->pos,
        .cu = p->cu,
        .n_img = p->n_img,
        .grid = p->grid,
        .patches = p->patches,
        .n_vis = p->n_vis,
        .vis_tok = p->vis_tok,
        .vis_row = p->vis_row,
        .kv = &kv,
        .n_row = p->n_row,
        .row = p->row,
    };
    tensor hidden = model_forward(m, p->acts, &x);
    for (int at = 0; at < p->n_target;) {
        const tensor *ban;
        int n = next_targets(p, r, at, &ban);
        sample_chunk(p, r, &hidden, at, n, ban);
        TRY(model_backend(m)->sync(model_backend(m)));
        for (int i = 0; i < n; i++)
            TRY(session_token(p->target[at + i].s, &r->e->rules, p->chunk_id[i], p->chunk_logp[i]));
        at += n;
    }
    TRY(model_backend(m)->sync(model_backend(m)));
    double sec = clock_now() - since, share = p->n_tok ? (double)p->n_prefill / p->n_tok : 0;
    r->stats.phases.sec[PHASE_PREFILL] += sec * share;
    r->stats.phases.sec[PHASE_DECODE] += sec * (1 - share);
    r->stats.prefilled += p->n_prefill;
    r->stats.sampled += p->n_target;
    r->stats.passes++;
    return ST_OK;
}
