/* What the sandbox returned, as the trajectory keeps it: the record, the text for the model, the pictures as it will
 * see them. */
#ifndef ROLLOUT_TOOL_H
#define ROLLOUT_TOOL_H

#include "data/traj.h"
#include "rollout/engine.h"

typedef struct tool_result {
    tool_record rec;
    char *text; /* valid UTF-8, at most tool_text_kib and a notice */
    int n_image;
    traj_image *image; /* owned */
} tool_result;

/* A picture the image processor refuses, or with more than max_image_tokens tokens, is dropped with a notice in text.
 */
status tool_result_make(tool_result *out, const box_result *r, const rollout_opts *o, const image_processor *ip,
                        int max_image_tokens);
void tool_result_free(tool_result *r);
/* True for verdicts about us and not about the program. */
bool tool_verdict_infra(box_verdict v);

#endif
