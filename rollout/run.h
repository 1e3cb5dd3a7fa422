/* The state of one engine_run, shared by engine.c (order of things), group.c (prompts), pass.c (forward passes) and
 * calls.c (boxes). */
#ifndef ROLLOUT_RUN_H
#define ROLLOUT_RUN_H

#include "rollout/sched.h"
#include "rollout/session.h"

/* One prompt and its members. The prompt is prefilled once; its blocks are kept while members live. */
typedef struct group {
    const rollout_prompt *p;
    track t;
    session *member; /* [group], NULL before it is opened and after its last member ended */
    int n_live;
    bool started;     /* members have their first token */
    box_input *input; /* the prompt's pictures, made for the first call */
} group;

/* Renders the prompt and starts `size` members; index: of the group in the run. */
status group_open(group *g, const session_rules *r, const image_processor *ip, int index, int size);
void group_close(group *g, kv_pool *kv); /* members were freed */

/* Rows of the head that give the next token of a session. */
typedef struct target {
    session *s;
    int32_t row;
} target;

/* Buffers of one forward pass; capacities from the limits. */
typedef struct pass {
    model_limits lim;
    model_acts *acts;
    arena *mem;
    tensor hidden, index, key, id, logp; /* [max_batch] rows of the sampler */
    tensor ban, ban_opening;             /* u8[V]; all but what an opening allows */
    uint8_t *opening_bytes;              /* (V) */
    int32_t *ids, *pos, *cu, *slot, *table, *ctx, *row, *grid, *vis_tok, *vis_row;
    float *patches;
    size_t patches_cap; /* floats */
    int n_tok, n_seq, n_row, n_img, n_vis, n_patch, n_vis_row, n_prefill;
    int n_target, target_cap;
    target *target;
    int32_t *chunk_index, *chunk_id;
    uint32_t *chunk_key;
    float *chunk_logp;
} pass;

struct engine {
    rollout_parts part;
    rollout_opts o;
    session_rules rules;
    opening opening;
    kv_pool *kv;
    pass pass;
};

typedef struct run {
    engine *e;
    int n, size;                     /* prompts, samples per prompt */
    group *group;                    /* [n] */
    int first, next;                 /* groups [first, next) are open */
    int n_done;                      /* trajectories ended */
    int n_queued, n_running, n_held; /* calls */
    traj *out;
    rollout_stats stats;
    int item_cap;
    sched_item *item;
    int *plan;
    struct item_ref {
        group *g;
        session *s;
    } * ref; /* s NULL: the group's prompt */
} run;

status pass_create(pass *p, const engine *e);
void pass_destroy(pass *p);
void pass_begin(pass *p);
/* Appends `rows` tokens of t, whose KV room exists already. Returns the head row when t is complete with them, else -1.
 */
int pass_add(pass *p, engine *e, track *t, int rows, spans *phases);
/* s samples its next token from a head row. */
void pass_target(pass *p, session *s, int row);
/* The forward pass, and tokens of all targets; sampled tokens are handed to session_token. */
status pass_run(pass *p, run *r);

/* The code of s's last turn waits for a box from now on. */
void calls_add(run *r, session *s);
/* Starts what can start; takes finished calls, waiting up to timeout_ms for the first. */
status calls_step(run *r, int timeout_ms);
/* Hands out the results kept for the exchange of images. */
status calls_exchange(run *r);

#endif
