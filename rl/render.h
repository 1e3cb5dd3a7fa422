/* A dataset row as the model sees it: rendered tokens with their loss mask, and the pictures' views. */
#ifndef RL_RENDER_H
#define RL_RENDER_H

#include "data/chat.h"
#include "data/dataset.h"
#include "rl/batch.h"

typedef struct rendered {
    sample s;
    chat_seq seq;
    image *view;         /* (s.n_image) */
    const image **shown; /* (seq.n_image) in order of the runs in seq */
} rendered;

/* Row `row` of d, all messages. */
status render_row(rendered *out, dataset *d, int64_t row, const chat *c, const image_processor *ip);
/* A prompt as the rollout engine takes it: the row, the original pictures before its first answer, and their views. */
typedef struct prompt_row {
    sample s;
    int n_image;
    image *picture, *view;
} prompt_row;
/* originals false: only the views (no tool will see the pictures). */
status prompt_load(prompt_row *out, dataset *d, int64_t row, const image_processor *ip, bool originals);
void prompt_free(prompt_row *p); /* all-zero is legal */

/* Only the views of the sample's first n pictures; view[n] is the caller's, freed with image_free. */
status render_views(image *view, int n, dataset *d, const sample *s, const image_processor *ip);
void render_free(rendered *r); /* all-zero is legal */
/* Borrows r. weight as in batch_seq. */
batch_seq render_sequence(const rendered *r, double weight);
int render_targets(const rendered *r);

#endif
