/* Rollouts: continuous batching over the model and a paged KV pool, many turns per trajectory, tools in boxes. Each
 * trajectory waits for its own call while the others decode. Results depend only on identities (seed, step, prompt,
 * sample), never on arrival, batch composition or preemption. */
#ifndef ROLLOUT_ENGINE_H
#define ROLLOUT_ENGINE_H

#include <stdbool.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/model.h"
#include "data/dataset.h"
#include "data/traj.h"
#include "sandbox/box.h"

typedef enum rollout_force { FORCE_NONE, FORCE_DIRECT, FORCE_TOOL } rollout_force;
typedef enum rollout_tool_error { TOOL_ERROR_CLASS, TOOL_ERROR_MESSAGE } rollout_tool_error;

typedef struct rollout_opts {
    int64_t group;          /* samples per prompt */
    double temperature;     /* 0 = greedy */
    int64_t max_turns;      /* code turns executed at most; one more generation may answer */
    int64_t max_new_tokens; /* per turn */
    int64_t max_tokens;     /* whole sequence, images included */
    int64_t max_images;     /* images per trajectory, the prompt's included */
    int64_t kv_tokens;      /* tokens in the KV pool */
    int64_t max_batch;      /* sequences in one forward pass */
    int64_t
        prefill_tokens; /* tokens of prompts and tool results in one forward pass, besides one per decoding sequence */
    int force;          /* rollout_force, evaluation only: how the first turn must begin */
    cfg_strings direct_openings, tool_openings; /* the texts for it; the policy chooses among them */
    bool shuffle_tools;    /* returned images are exchanged between trajectories (control experiment) */
    int64_t tool_text_kib; /* longest tool text given to the model */
    int tool_error;        /* rollout_tool_error: what a failed call says */
} rollout_opts;
extern const cfg_field rollout_fields[];
/* The config's word for o->force: "free", "direct", "tool". */
const char *rollout_force_name(const rollout_opts *o);

/* Borrowed parts; boxes may be NULL when max_turns is 0 (no tools: code blocks end the episode as NO_ANSWER). */
typedef struct rollout_parts {
    model *m;
    const chat *c;
    const image_processor *ip;
    box_pool *boxes;
} rollout_parts;

typedef struct engine engine;
status engine_create(engine **out, const rollout_parts *p, const rollout_opts *o);
void engine_destroy(engine *e);    /* NULL is legal */
int engine_group(const engine *e); /* trajectories per prompt */
/* Between runs: other options in the same memory (evaluation with group 1, greedy, forced...). kv_tokens, max_batch,
 * prefill_tokens and max_tokens must stay as created: ST_EINVAL. */
status engine_set_opts(engine *e, const rollout_opts *o);
const rollout_opts *engine_opts(const engine *e);

/* One prompt: runs `group` trajectories. (seed, step, prompt_id) identifies it for random numbers; prompt is what the
 * trajectories carry. picture: decoded originals of the sample's prompt images, as the boxes get them; view: what the
 * model sees of them. Messages before the first assistant turn are the prompt. sample and views must outlive the
 * trajectories; pictures are borrowed for the run (NULL when there are no boxes). */
typedef struct rollout_prompt {
    const sample *sample;
    int64_t prompt;
    uint64_t seed, step, prompt_id;
    int n_image;
    const image *picture, *view;
} rollout_prompt;

/* Images of the sample's prompt: the first so many of sample.images. */
int rollout_prompt_images(const sample *s);

typedef struct rollout_stats {
    int64_t sampled;   /* tokens the policy wrote */
    int64_t prefilled; /* tokens fed otherwise, re-prefill after preemption included */
    int64_t preempted; /* sequences pushed out of the KV pool */
    int64_t passes;    /* forward passes */
    int64_t tool_calls;
    double tool_wait_s; /* summed over trajectories */
    double idle_s;      /* nothing to compute, waiting for tools */
    double wall_s;
    spans phases; /* VISION is host image work; a mixed pass is split over PREFILL and DECODE by rows */
} rollout_stats;

/* Runs all prompts to the end: out[n*group] in identity order (prompt-major), whatever the order of completion. stats
 * (may be NULL) is overwritten; progress is the bar's name, NULL for none. On failure out is empty and everything
 * freed. */
status engine_run(engine *e, const rollout_prompt *p, int n, traj *out, rollout_stats *stats, const char *progress);

#endif
