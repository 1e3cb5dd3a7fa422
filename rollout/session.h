/* One trajectory's turn loop, without model and without boxes: tokens in, what to do next out.
 *
 *     RUN  --token-->  RUN ... --im_end--> CALL (code) --result--> RUN ... --im_end--> DONE
 *
 * A track is what the model is fed: known tokens, their positions, and how many of them are in the KV cache. */
#ifndef ROLLOUT_SESSION_H
#define ROLLOUT_SESSION_H

#include "rollout/engine.h"
#include "rollout/kv.h"
#include "rollout/opening.h"
#include "rollout/tool.h"

typedef struct track {
    chat_seq seq; /* complete parts */
    ids turn;     /* sampled so far in the current turn; not in seq yet */
    int32_t *pos; /* (cap,3) rotary positions of the tokens known */
    int n_pos, cap;
    int32_t next;            /* rotary position of the next token */
    kv_seq kv;               /* kv.n_token tokens are in the cache */
    int n_image, n_borrowed; /* pixels of the first n_borrowed images belong to the prompt's owner */
    traj_image *image;       /* in order of seq.image */
} track;

static inline int track_tokens(const track *t) { return t->seq.id.n + t->turn.n; }
static inline int32_t track_id(const track *t, int i)
{
    return i < t->seq.id.n ? t->seq.id.v[i] : t->turn.v[i - t->seq.id.n];
}
void track_reserve(track *t, int n_token);
/* Positions of everything in seq that has none yet. */
void track_extend(track *t, int merge);
void track_copy(track *out,
                const track *t); /* tokens, positions, images (whose pixels t's owner keeps); not the cache */
void track_free(track *t);       /* CHECKs that kv was released */

typedef enum session_state { SESSION_RUN, SESSION_CALL, SESSION_DONE } session_state;

/* Where a call is: waiting for a free box, running, or finished and kept for the exchange of images. */
typedef enum call_state { CALL_NONE, CALL_QUEUED, CALL_RUNNING, CALL_HELD } call_state;

typedef struct session {
    session_state state;
    track t;
    int index;          /* sample of the group */
    int group;          /* which prompt of the run */
    int left;           /* tokens this turn may still take */
    opening_at opening; /* of the first turn; alive 0: it writes freely */
    int n_opening;      /* tokens of the first turn that the opening gave */
    float *logp;        /* (cap) */
    int16_t *turn_of;   /* (cap) */
    int cap;
    int n_turn;
    traj_turn *turns;
    int n_call; /* calls executed */
    traj_outcome outcome;
    char *answer;
    double started, tool_wait_s, wall_s;
    uint64_t box_seed;
    /* the call in flight (calls.c) */
    call_state call;
    box *box;
    bool anew; /* in a fresh box: what earlier turns left is gone */
    double called;
    tool_result held;
} session;

/* Borrowed by every session of an engine. */
typedef struct session_rules {
    const rollout_opts *o;
    const chat *c;
    const opening *opening; /* NULL: free */
    int max_image_tokens;
} session_rules;

/* A new trajectory after the prompt, ready for its first token (or DONE when the prompt alone exhausts a budget). */
void session_start(session *s, const session_rules *r, const track *prompt, int group, int index);
/* One sampled token. At the end of the turn the state becomes CALL (turns[n_turn-1].code) or DONE. */
status session_token(session *s, const session_rules *r, int32_t id, float logp);
/* The result of the call: appended and the next turn opened, or DONE when a budget is exhausted. Takes res over. */
status session_result(session *s, const session_rules *r, tool_result *res);
void session_end(session *s, traj_outcome outcome);
/* Moves everything into out and empties the session. */
void session_finish(session *s, const rollout_prompt *p, traj *out);
void session_free(session *s); /* CHECKs that box and kv were given back */

#endif
