/* A checkpoint is everything: weights, moments, counters, data cursors. Written to step_N.tmp, fsynced, checksummed,
 * renamed, DONE last; a killed or failed write leaves the previous one loadable. Old ones beyond keep are removed only
 * after the new one is DONE. */
#ifndef RL_CHECKPOINT_H
#define RL_CHECKPOINT_H

#include "core/comm.h"
#include "core/json.h"
#include "core/model.h"
#include "rl/optim.h"

/* state: the trainer's own counters as a JSON object text (stage, step, loader states, ...). x may be NULL (no
 * optimizer state kept). Collective; rank 0 writes. */
status checkpoint_save(const char *dir, const char *name, model *m, optim *x, comm *world, const char *state_json, int keep);
/* Newest complete checkpoint in dir: *path malloc'ed, or NULL when there is none. Damaged ones are skipped with a
 * warning that names the damage. */
status checkpoint_find(const char *dir, char **path);
/* Collective. Verifies checksums first (ST_ECORRUPT leaves everything untouched). */
status checkpoint_load(const char *path, model *m, optim *x, json **state);

#endif
