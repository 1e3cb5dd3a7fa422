/* Memory with a plan: add every tensor first, commit once, never allocate inside a step.
 *
 *     arena *a;  arena_create(&a, b, "activations");
 *     arena_add_2d(a, &acts->h, DT_F32, max_tok, C);
 *     TRY(arena_commit(a));                       // one allocation; every tensor's data now points into it
 *
 * An arena owns its memory; tensors borrow it. ASan builds put a poisoned redzone between tensors. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/ops.h"

typedef struct arena arena;

/* Borrows b (must outlive the arena). name is shown in memory reports; borrowed string literal. */
status arena_create(arena **out, backend *b, const char *name);
/* Remembers where to write: *t must stay at its address until commit. CHECKs that the arena is not committed. */
void arena_add(arena *a, tensor *t, dtype type, int ndim, const int64_t *dim);
void arena_add_1d(arena *a, tensor *t, dtype type, int64_t n);
void arena_add_2d(arena *a, tensor *t, dtype type, int64_t rows, int64_t cols);
/* Activations, in the type the backend computes them in (backend.act). */
void arena_add_act(arena *a, tensor *t, int64_t rows, int64_t cols);
dtype arena_act(const arena *a);
size_t arena_bytes(const arena *a); /* planned so far, or committed */
const char *arena_name(const arena *a);
/* The one allocation (zeroed). ST_ENOMEM names the arena and its MiB. Seals the arena. */
status arena_commit(arena *a);
/* Everything committed as one flat tensor (parameters, gradients). CHECKs that all entries have one dtype and that
 * padding between them is zero elements: only arenas created by arena_create_flat can be flattened. */
tensor arena_flat(const arena *a);
/* Like arena_create, but entries are packed without padding (64-byte alignment only at the start). */
status arena_create_flat(arena **out, backend *b, const char *name);
void arena_destroy(arena *a); /* NULL is legal */
/* Number of commits in this process: a debug counter; a training step must not move it. */
int64_t arena_commits(void);

#endif
