/* What `codedance report` reads: run directories and evaluation files, gathered into one JSON object for the page and
 * one for machines. */
#ifndef LAUNCH_REPORT_H
#define LAUNCH_REPORT_H

#include <stdio.h>

#include "core/json.h"

typedef struct report report;

/* gallery: trajectories kept per evaluation, category and result. */
status report_create(report **out, int gallery);
void report_destroy(report *r);
/* A run directory: config.yaml, metrics.jsonl, eval/. *used false when it holds none of them. Files wall_s and
 * peak_rss_mib, when there, hold one number each for the summary. */
status report_add_run(report *r, const char *dir, bool *used);
/* A directory of evaluation files NAME.json with NAME/trajectories.jsonl beside them. */
status report_add_evals(report *r, const char *dir, const char *arm, int64_t seed);
/* The result of `codedance data leak`. */
status report_add_leak(report *r, const char *path);
/* wall_s: NaN when not given. */
void report_page_data(report *r, double wall_s, json_out *o);
void report_summary(const report *r, double wall_s, json_out *o);
/* The summary's plain rows as a table for people: a line per arm and stage, means over seeds. */
status report_table(const json_out *summary, FILE *f);

#endif
