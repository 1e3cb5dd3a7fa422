/* Trajectories kept for people to read: DIR/trajectories.jsonl (one JSON object a line, data/traj.h) and what the model
 * saw as DIR/img/ROW_SAMPLE_IMAGE.png. The report's gallery reads such directories. */
#ifndef RL_RECORD_H
#define RL_RECORD_H

#include "core/comm.h"
#include "data/traj.h"

typedef struct record {
    const char *dir; /* borrowed */
    json_out lines;
} record;

/* Makes DIR and DIR/img. All ranks may open the same directory. */
status record_open(record *r, const char *dir);
/* Writes the pictures of t now and keeps its line; row names the pictures and must differ between prompts. */
status record_add(record *r, const traj *t, int64_t row);
/* Collective: rank 0 writes the lines of all ranks, in rank order. */
status record_write(const record *r, comm *world);
void record_free(record *r); /* all-zero legal */

#endif
