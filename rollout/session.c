#include "rollout/session.h"

#include <stdlib.h>
#include <string.h>

static void *grown(void *p, size_t n, size_t size)
{
    p = realloc(p, n * size);
    CHECK(p || n * size == 0);
    return p;
}

void track_reserve(track *t, int n_token)
{
    if (n_token <= t->cap) return;
    int cap = t->cap ? t->cap : 128;
    while (cap < n_token) cap *= 2;
    t->pos = grown(t->pos, (size_t)cap * 3, sizeof *t->pos);
    t->cap = cap;
}

void track_extend(track *t, int merge)
{
    int from = t->n_pos, n = t->seq.id.n - from, first = 0;
    CHECK(n >= 0);
    track_reserve(t, t->seq.id.n);
    while (first < t->seq.n_image && t->seq.image[first].start < from) first++;
    int n_image = t->seq.n_image - first;
    mrope_image *run = n_image ? grown(NULL, (size_t)n_image, sizeof *run) : NULL;
    for (int i = 0; i < n_image; i++) {
        run[i] = t->seq.image[first + i];
        run[i].start -= from;
    }
    mrope_positions(t->pos + 3 * (size_t)from, n, run, n_image, merge, 1, &t->next);
    free(run);
    t->n_pos = t->seq.id.n;
}

void track_copy(track *out, const track *t)
{
    memset(out, 0, sizeof *out);
    const chat_seq *s = &t->seq;
    CHECK(t->turn.n == 0);
    for (int i = 0; i < s->id.n; i++) ids_push(&out->seq.id, s->id.v[i]);
    out->seq.mask = grown(NULL, (size_t)s->id.n, 1);
    memcpy(out->seq.mask, s->mask, (size_t)s->id.n);
    out->seq.mask_cap = s->id.n;
    if (s->n_image) {
        out->seq.image = grown(NULL, (size_t)s->n_image, sizeof *s->image);
        memcpy(out->seq.image, s->image, (size_t)s->n_image * sizeof *s->image);
        out->seq.n_image = out->seq.image_cap = s->n_image;
    }
    track_reserve(out, t->n_pos);
    memcpy(out->pos, t->pos, (size_t)t->n_pos * 3 * sizeof *t->pos);
    out->n_pos = t->n_pos;
    out->next = t->next;
    out->n_image = out->n_borrowed = t->n_image;
    if (t->n_image == 0) return;
    out->image = grown(NULL, (size_t)t->n_image, sizeof *out->image);
    memcpy(out->image, t->image, (size_t)t->n_image * sizeof *out->image);
}

void track_free(track *t)
{
    chat_seq_free(&t->seq);
    ids_free(&t->turn);
    free(t->pos);
    for (int i = t->n_borrowed; i < t->n_image; i++) image_free(&t->image[i].view);
    free(t->image);
    kv_seq_free(&t->kv);
    memset(t, 0, sizeof *t);
}

/* A trajectory ends with the last token the policy wrote: what follows (the template's newline) teaches nothing. */
void session_end(session *s, traj_outcome outcome)
{
    if (s->n_turn) s->t.seq.id.n = s->turns[s->n_turn - 1].end;
    s->state = SESSION_DONE;
    s->outcome = outcome;
}

/* A token of the current turn. */
static void push_token(session *s, int32_t id, float logp)
{
    int at = track_tokens(&s->t);
    ids_push(&s->t.turn, id);
    s->logp[at] = logp;
    for (int a = 0; a < 3; a++) s->t.pos[3 * (size_t)at + a] = s->t.next;
    s->t.next++;
    s->t.n_pos++;
    s->left--;
}

/* Tokens of the opening about which there is no choice. */
static void push_opening(session *s, const session_rules *r)
{
    int32_t id;
    while (s->opening.alive && (id = opening_forced(r->opening, s->opening)) >= 0) {
        opening_take(r->opening, &s->opening, id);
        push_token(s, id, 0);
        s->n_opening++;
    }
}

/* Opens the next assistant turn, or ends the trajectory when no token fits. */
static void open_turn(session *s, const session_rules *r)
{
    int n = s->t.seq.id.n;
    int64_t left = r->o->max_tokens - n;
    if (left > r->o->max_new_tokens) left = r->o->max_new_tokens;
    bool open = r->opening && s->n_turn == 0;
    if (left <= (open ? r->opening->longest : 0)) {
        session_end(s, TRAJ_MAX_TOKENS);
        return;
    }
    s->left = (int)left;
    track_reserve(&s->t, n + s->left);
    if (s->cap < s->t.cap) {
        s->cap = s->t.cap;
        s->logp = grown(s->logp, (size_t)s->cap, sizeof *s->logp);
        s->turn_of = grown(s->turn_of, (size_t)s->cap, sizeof *s->turn_of);
    }
    s->turns = grown(s->turns, (size_t)s->n_turn + 1, sizeof *s->turns);
    s->turns[s->n_turn] = (traj_turn){.start = n, .end = n, .image_from = s->t.n_image};
    s->state = SESSION_RUN;
    if (!open) return;
    s->opening = opening_start(r->opening);
    push_opening(s, r);
}

void session_start(session *s, const session_rules *r, const track *prompt, int group, int index)
{
    memset(s, 0, sizeof *s);
    track_copy(&s->t, prompt);
    s->group = group;
    s->index = index;
    if (s->t.n_image > r->o->max_images)
        session_end(s, TRAJ_MAX_IMAGES);
    else
        open_turn(s, r);
}

static char *copy_text(const char *text, int at, int n)
{
    char *s = grown(NULL, (size_t)n + 1, 1);
    memcpy(s, text + at, (size_t)n);
    s[n] = 0;
    return s;
}

/* Code wins over an answer in the same turn: it runs, and the reward judges the form. */
static void decide(session *s, const session_rules *r, traj_turn *turn, bool ended)
{
    if (!ended) {
        bool full = turn->end >= r->o->max_tokens;
        session_end(s, full ? TRAJ_MAX_TOKENS : TRAJ_TURN_CUT);
        return;
    }
    chat_turn said;
    chat_parse_turn(turn->text, strlen(turn->text), &said);
    if (said.code_at >= 0) {
        if (r->o->max_turns == 0) {
            session_end(s, TRAJ_NO_ANSWER);
        } else if (s->n_call >= r->o->max_turns) {
            session_end(s, TRAJ_MAX_TURNS);
        } else {
            turn->code = copy_text(turn->text, said.code_at, said.code_len);
            s->state = SESSION_CALL;
            s->n_call++;
        }
    } else if (said.answer_at >= 0) {
        s->answer = copy_text(turn->text, said.answer_at, said.answer_len);
        session_end(s, TRAJ_ANSWERED);
    } else {
        session_end(s, TRAJ_NO_ANSWER);
    }
}

static status end_turn(session *s, const session_rules *r, bool ended)
{
    traj_turn *turn = &s->turns[s->n_turn];
    turn->end = turn->start + s->t.turn.n;
    for (int i = turn->start; i < turn->end; i++) s->turn_of[i] = (int16_t)s->n_turn;
    turn->text = tokenizer_text(r->c->tok, s->t.turn.v, s->t.turn.n, true);
    if (!turn->text) return FAIL(ST_ENOMEM, "no memory for the text of a turn");
    s->n_turn++;
    TRY(chat_append_sampled(r->c, &s->t.seq, s->t.turn.v, s->t.turn.n));
    if (turn == s->turns) memset(s->t.seq.mask + turn->start, 0, (size_t)s->n_opening);
    s->t.turn.n = 0;
    decide(s, r, turn, ended);
    if (s->state != SESSION_DONE) track_extend(&s->t, r->c->merge);
    return ST_OK;
}

status session_token(session *s, const session_rules *r, int32_t id, float logp)
{
    CHECK(s->state == SESSION_RUN && s->left > 0);
    push_token(s, id, logp);
    if (s->opening.alive) { /* a choice among openings: not the policy's own token */
        s->n_opening++;
        opening_take(r->opening, &s->opening, id);
        push_opening(s, r);
        return ST_OK;
    }
    bool ended = id == r->c->im_end || id == r->c->endoftext;
    if (ended || s->left == 0) return end_turn(s, r, ended);
    return ST_OK;
}

/* Takes back what was appended after n tokens and n_image image runs. */
static void roll_back(track *t, int n, int n_image)
{
    t->seq.id.n = n;
    t->seq.n_image = n_image;
}

status session_result(session *s, const session_rules *r, tool_result *res)
{
    CHECK(s->state == SESSION_CALL);
    traj_turn *turn = &s->turns[s->n_turn - 1];
    turn->tool = res->rec;
    turn->tool_text = res->text;
    res->text = NULL;
    if (s->t.n_image + res->n_image > r->o->max_images) {
        tool_result_free(res);
        session_end(s, TRAJ_MAX_IMAGES);
        return ST_OK;
    }
    int n = s->t.seq.id.n, n_image = s->t.seq.n_image;
    int32_t(*grid)[3] = res->n_image ? grown(NULL, (size_t)res->n_image, sizeof *grid) : NULL;
    for (int i = 0; i < res->n_image; i++) memcpy(grid[i], res->image[i].grid, sizeof grid[i]);
    status st = chat_append_tool(r->c, &s->t.seq, turn->tool_text, (const int32_t(*)[3])grid, res->n_image);
    if (st == ST_OK) st = chat_append_generation_prompt(r->c, &s->t.seq);
    free(grid);
    if (st != ST_OK) {
        tool_result_free(res);
        return st;
    }
    if (s->t.seq.id.n >= r->o->max_tokens) { /* no room for the result and one token of reply */
        roll_back(&s->t, n, n_image);
        tool_result_free(res);
        session_end(s, TRAJ_MAX_TOKENS);
        return ST_OK;
    }
    turn->image_from = s->t.n_image;
    turn->n_image = res->n_image;
    if (res->n_image) {
        s->t.image = grown(s->t.image, (size_t)(s->t.n_image + res->n_image), sizeof *s->t.image);
        memcpy(s->t.image + s->t.n_image, res->image, (size_t)res->n_image * sizeof *res->image);
        s->t.n_image += res->n_image;
        res->n_image = 0; /* the pixels moved */
    }
    tool_result_free(res);
    track_extend(&s->t, r->c->merge);
    open_turn(s, r);
    return ST_OK;
}

void session_finish(session *s, const rollout_prompt *p, traj *out)
{
    int n = s->t.seq.id.n;
    memset(out, 0, sizeof *out);
    out->sample = p->sample;
    out->prompt = p->prompt;
    out->index = s->index;
    out->n_tok = n;
    out->id = s->t.seq.id.v;
    out->mask = s->t.seq.mask;
    out->n_image = s->t.n_image;
    out->n_borrowed = s->t.n_borrowed;
    out->images = s->t.image;
    out->run = s->t.seq.image;
    s->logp = grown(s->logp, (size_t)n, sizeof *s->logp);
    s->turn_of = grown(s->turn_of, (size_t)n, sizeof *s->turn_of);
    for (int i = 0; i < n; i++) {
        if (out->mask[i]) continue;
        s->logp[i] = 0;
        s->turn_of[i] = -1;
    }
    out->logp = s->logp;
    out->turn_of = s->turn_of;
    out->n_turn = s->n_turn;
    out->turns = s->turns;
    out->outcome = s->outcome;
    out->answer = s->answer;
    out->wall_s = s->wall_s;
    out->tool_wait_s = s->tool_wait_s;
    out->box_seed = s->box_seed;
    memset(&s->t.seq, 0, sizeof s->t.seq);
    s->t.image = NULL;
    s->t.n_image = s->t.n_borrowed = 0;
    s->logp = NULL;
    s->turn_of = NULL;
    s->turns = NULL;
    s->n_turn = 0;
    s->answer = NULL;
}

void session_free(session *s)
{
    CHECK(!s->box);
    track_free(&s->t);
    free(s->logp);
    free(s->turn_of);
    for (int i = 0; i < s->n_turn; i++) {
        free(s->turns[i].text);
        free(s->turns[i].code);
        free(s->turns[i].tool_text);
    }
    free(s->turns);
    free(s->answer);
    tool_result_free(&s->held);
    memset(s, 0, sizeof *s);
}
