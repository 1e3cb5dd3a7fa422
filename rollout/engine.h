/* Rollouts: continuous batching over the model and a paged KV pool, many turns per trajectory, tools in boxes. Each
 * trajectory waits for its own call while the others decode. Results depend only on identities (seed, step, prompt,
 * sample), never on arrival, batch composition or preemption. */
#ifndef ROLLOUT_ENGINE_H
#define ROLLOUT_ENGINE_H

#include "core/clock.h"
#include "core/config.h"
#include "core/model.h"
#include "data/dataset.h"
#include "data/traj.h"
#include "sandbox/box.h"

typedef struct rollout_opts {
    int64_t group;         /* samples per prompt */
    double temperature;    /* 0 = greedy */
    int64_t max_turns;     /* code turns executed at most; one more generation may answer */
    int64_t max_new_tokens; /* per turn */
    int64_t max_tokens;    /* whole sequence, images included */
    int64_t max_images;    /* images per trajectory, the prompt's included */
    int64_t kv_tokens;     /* tokens in the KV pool */
    int64_t max_batch;     /* sequences decoding at once */
    int64_t prefill_tokens; /* tokens per prefill batch */
    int force;             /* 0 free, 1 direct (the turn starts with the direct opening), 2 tool: evaluation only */
    char *force_direct_text, *force_tool_text; /* openings, tokenised as assistant text */
    int shuffle_tools;     /* 1: returned images are exchanged between trajectories (control experiment) */
    int64_t tool_text_kib; /* longest tool text given to the model */
} rollout_opts;
extern const cfg_field rollout_fields[];

/* Borrowed parts; boxes may be NULL when max_turns is 0 (no tools: code blocks end the episode as NO_ANSWER). */
typedef struct rollout_parts { model *m; const chat *c; const image_processor *ip; box_pool *boxes; } rollout_parts;

typedef struct engine engine;
status engine_create(engine **out, const rollout_parts *p, const rollout_opts *o);
void engine_destroy(engine *e);

/* One prompt: runs `group` trajectories. key identifies it for random numbers: (run seed, step, prompt id). picture:
 * decoded originals of the sample's prompt images (n = images in its prompt); views the model sees. Messages up to the
 * first assistant turn are the prompt. sample must outlive the trajectories. */
typedef struct rollout_prompt { const sample *sample; int64_t prompt; uint64_t seed, step, prompt_id; const image *picture; const image *view; int n_image; } rollout_prompt;

typedef struct rollout_stats { int64_t sampled, prefilled, tool_calls; double tool_wait_s, idle_s, wall_s; spans phases; } rollout_stats;

/* Runs all prompts to the end; out[n*group] in identity order (prompt-major), whatever the order of completion.
 * progress name may be NULL. On failure out is empty and everything freed. */
status engine_run(engine *e, const rollout_prompt *p, int n, traj *out, rollout_stats *stats, const char *progress);

#endif
