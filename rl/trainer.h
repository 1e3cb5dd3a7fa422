/* The training loop: stages named in the config (warmup, sft, rl), each resumable at any step. */
#ifndef RL_TRAINER_H
#define RL_TRAINER_H

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
} trainer_parts;

typedef struct trainer trainer;
/* Binds the sections train, warmup, sft, rl, optim.*, rollout, reward, eval, check. The caller then runs config_finish. */
status trainer_create(trainer **out, const trainer_parts *p, config *c);
/* Runs all stages from the newest checkpoint when resume, else from the start. Collective. */
status trainer_run(trainer *t, bool resume);
void trainer_destroy(trainer *t);

#endif
