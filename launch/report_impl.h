/* Shared by report.c (evaluations, trajectories, output) and report_run.c (run directories). */
#ifndef LAUNCH_REPORT_IMPL_H
#define LAUNCH_REPORT_IMPL_H

#include "launch/report.h"

enum { MAX_FILE = 1 << 30, MAX_IMAGES = 32 << 20, PATH = 4096, LONG_PATH = PATH + 300 };

typedef struct picture {
    uint64_t hash;
    size_t n;
} picture;

struct report {
    int gallery;
    json_out runs, evals, trajs, rows; /* each an open array */
    char **image;                      /* data: URIs */
    picture *seen;
    int n_image, cap_image;
    size_t image_bytes;
    double wall_s, peak_rss, logp_diff, share_sum;
    int64_t share_n;
    int n_eval;
    json *leak;
};

bool report_exists(const char *path);
/* The whole file, NUL-terminated behind n; false when it isn't readable. */
bool report_read_all(const char *path, char **bytes, size_t *n);
void report_put_short(json_out *o, double v);
/* model and run (may be NULL): where to look for the tokenizer when an evaluation doesn't name its model. */
status report_scan_evals(report *r, const char *dir, const char *arm, int64_t seed, const char *model, const char *run);
/* RUN/rollouts/step_N: conversations the run learned from. */
status report_add_rollouts(report *r, const char *run, const char *arm, int64_t seed, const char *model);

#endif
