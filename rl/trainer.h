/* The training loop: stages named in the config (warmup, sft, rl), each resumable at any step. */
#ifndef RL_TRAINER_H
#define RL_TRAINER_H

#include <signal.h>

#include "core/comm.h"
#include "core/config.h"
#include "core/model.h"
#include "rl/algo.h"
#include "rl/optim.h"
#include "rollout/engine.h"

/* Borrowed; launch wires them. boxes NULL when no stage needs tools. */
typedef struct trainer_parts {
    backend *b;
    comm *world;
    model *m;
    const chat *c;
    const image_processor *ip;
    box_pool *boxes;
    const char *run_dir;
    const char *side_dir; /* tokenizer etc. for exports */
    uint64_t seed;
    const volatile sig_atomic_t *stop; /* set by a signal: write a checkpoint after this step and end; may be NULL */
} trainer_parts;

typedef struct trainer trainer;
/* Binds the sections train, warmup, sft, rl, optim_*, rollout, reward, eval, check; the caller then runs config_finish
 * and only then opens what trainer_parts holds. Borrows c. */
status trainer_create(trainer **out, comm *world, config *c);
bool trainer_needs_boxes(const trainer *t);
/* Runs all stages from the newest checkpoint when resume, else from the start. Borrows the parts' contents. Collective.
 */
status trainer_run(trainer *t, const trainer_parts *p, bool resume);
void trainer_destroy(trainer *t);

#endif
