/* A checkpoint is everything: weights, moments, counters, data cursors. Written to NAME.tmp, fsynced, checksummed,
 * renamed, DONE last; a killed or failed write leaves the previous one loadable. Old ones beyond keep are removed only
 * after the new one is DONE.
 *
 *   config.json model.safetensors   a Hugging Face directory (fp32)
 *   optim.safetensors               moments m, v as flat f32[P] (absent without an optimizer)
 *   state.json                      {"t": updates, "trainer": {...}}
 *   checksums.json                  {"file": {"bytes", "xxh64"}}
 *   DONE                            empty; its presence says that everything above reached the disk */
#ifndef RL_CHECKPOINT_H
#define RL_CHECKPOINT_H

#include "core/comm.h"
#include "core/json.h"
#include "core/model.h"
#include "rl/optim.h"

/* state: the trainer's own counters as a JSON object text (stage, step, loader states, ...). x may be NULL (no
 * optimizer state kept). side_dir (may be NULL): tokenizer and other side files copied along. Names sort by age:
 * step_00000042. Collective; rank 0 writes. */
status checkpoint_save(const char *dir, const char *name, model *m, optim *x, comm *world, const char *side_dir,
                       const char *state_json, int keep);
/* Newest complete checkpoint in dir: *path malloc'ed, or NULL when there is none. Damaged ones are skipped with a
 * warning that names the damage. Not collective. */
status checkpoint_find(const char *dir, char **path);
/* Every file against checksums.json; ST_ECORRUPT names the first damage. Not collective. */
status checkpoint_verify(const char *path);
/* The trainer's part of state.json; *root is the document to free. Not collective. */
status checkpoint_state(const char *path, json **root, const json **state);
/* Collective. Verifies checksums first (ST_ECORRUPT leaves everything untouched). x may be NULL. */
status checkpoint_load(const char *path, model *m, optim *x, comm *world);

#endif
