/* Rewards: verifier, format, tool terms, and the balanced adaptive tool-call reward (BAT, arXiv 2512.17312) for groups.
 * Nothing here parses text to learn whether a tool call worked: that comes from tool_record. */
#ifndef REWARD_REWARD_H
#define REWARD_REWARD_H

#include "core/config.h"
#include "data/traj.h"

typedef enum bat_mode { BAT_PUBLISHED, BAT_FIXED, BAT_NONE, BAT_NAIVE } bat_mode;

typedef struct reward_opts {
    int bat;                 /* bat_mode */
    int verifier;            /* default verifier */
    double w_format;         /* weight of the format term (0 or -1) */
    double gamma, delta;     /* d = (1 + tanh(gamma (0.5 - mu))) / 2 - delta */
    double c_right, c_wrong; /* case weights of the tool term for vqa; math uses math_* */
    double math_acc, math_format, math_c_right, math_c_wrong;
    double turn_penalty, turn_discount; /* turn level: r = -penalty on a failed call, G = r + discount * G_next */
    double turn_weight;                 /* lambda: weight of the turn term when added to the advantage */
    int turn_normalize;                 /* 0 none, 1 batch z-score (published) */
    double number_tolerance;            /* relative, for verifier number */
} reward_opts;
extern const cfg_field reward_fields[];

/* Verifiers: exact (trimmed, case-insensitive), number, choice, box_iou. Score in [0,1]; reason is static text. */
typedef float verifier_fn(const char *truth, const char *answer, const reward_opts *o, const char **reason);
typedef struct verifier_def {
    const char *name;
    verifier_fn *fn;
    const char *help;
} verifier_def;
extern const verifier_def verifiers[]; /* ends with name NULL */
const verifier_def *verifier_find(const char *name);

/* Plain numbers of one row, so that BAT can be tested and called without trajectories. */
typedef struct bat_row {
    int64_t group;
    float acc; /* verifier score */
    bool format_ok;
    int n_ok, n_fail; /* tool calls */
    bool math;
    /* outputs */
    float score, d, tool_term, reward;
} bat_row;
/* Fills the outputs of all rows; rows of one group share mu. The formulas with their sources are in bat.c. */
void bat_score(const reward_opts *o, bat_row *row, int n);
/* Turn-level returns of one trajectory: fail[k] of its n calls in order -> g[n]. */
void bat_turns(const reward_opts *o, const bool *fail, int n, float *g);

/* Scores all trajectories of a batch (whole groups): acc, format_ok, parts, reward. ST_EINVAL when a sample lacks an
 * answer its verifier needs (names the sample). */
status reward_score(const reward_opts *o, traj *t, int n);

#endif
