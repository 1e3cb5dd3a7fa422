/* Recorded boxes, for `codedance box --record` and `--replay`. A record is JSON lines:
 *   {"box": 1, "seed", "tier", "images": [{"w", "h", "print"}], "sandbox": {what of that section decides results}}
 *   {"turn": 1, "code", "verdict", "exit", "text", "truncated", "error": null or {"type", "message", "line", "source"},
 *    "images": [{"w", "h", "print"}]}                                                             one for every turn
 * A print is box_image_print in hexadecimal digits. Clocks and memory are not recorded: they differ every time. */
#ifndef LAUNCH_BOX_RECORD_H
#define LAUNCH_BOX_RECORD_H

#include <stdio.h>

#include "core/json.h"
#include "sandbox/box_config.h"

enum { RECORD_INPUTS = 64 };
typedef struct record_inputs {
    int n;
    box_image at[RECORD_INPUTS]; /* rgb borrowed and only looked at while the record is begun or checked */
} record_inputs;

/* Appends to f. */
status box_record_begin(FILE *f, int64_t seed, box_tier tier, const record_inputs *in, const box_config *c);
status box_record_turn(FILE *f, int turn, const char *code, size_t len, const box_result *r);

typedef struct box_replay {
    const char *path; /* borrowed */
    int64_t seed;
    int n;       /* turns */
    json **line; /* (1 + n) */
} box_replay;
/* Reads a record, or (trajectory > 0) that line of a run's trajectories.jsonl (data/traj.h), which has no settings and
 * no pictures: what is told to the model is compared. ST_EINVAL says line and remedy. */
status box_replay_read(box_replay *r, const char *path, int64_t trajectory);
/* The recorded setting i of section sandbox as "sandbox.key=value", malloc'ed; NULL past the last. */
char *box_replay_setting(const box_replay *r, int i);
/* ST_EINVAL if these are not the recorded pictures. */
status box_replay_inputs(const box_replay *r, const record_inputs *in);
const char *box_replay_code(const box_replay *r, int i, size_t *len); /* of turn i, from 0 */
/* ST_EINVAL if turn i ended in another way than recorded: where they part. Of a turn that a limit or a signal ended
 * only the verdict is compared, since the clock decides how far it came. */
status box_replay_compare(const box_replay *r, int i, const box_result *got);
void box_replay_free(box_replay *r); /* all-zero legal */

#endif
