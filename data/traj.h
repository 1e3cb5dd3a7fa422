/* A finished episode is a value: the contract between rollout (writes it), reward (scores it) and rl (learns from it).
 */
#ifndef DATA_TRAJ_H
#define DATA_TRAJ_H

#include "data/chat.h"

/* How the episode ended. Only ANSWERED is a normal end; the config decides what happens to the others. */
#define TRAJ_OUTCOMES(X)      \
    X(ANSWERED, "answered")   \
    X(NO_ANSWER, "no_answer") \
    X(MAX_TURNS, "max_turns") \
    X(MAX_TOKENS, "max_tokens") X(MAX_IMAGES, "max_images") X(TURN_CUT, "turn_cut") X(INFRA, "infra")
typedef enum traj_outcome {
#define TRAJ_ENUM(id, name) TRAJ_##id,
    TRAJ_OUTCOMES(TRAJ_ENUM)
#undef TRAJ_ENUM
        TRAJ_OUTCOME_COUNT
} traj_outcome;
const char *traj_outcome_name(traj_outcome o);

/* What the sandbox said about one call, as a value (never parsed from text). */
typedef struct tool_record {
    bool ran;            /* a code block was executed */
    bool ok;             /* verdict OK and something came back (text or image) */
    char verdict[24];    /* "OK", "PY_ERROR", "TIMEOUT_SOFT", ... sandbox/box.h names */
    char error_type[48]; /* Python exception class, "" if none */
    int error_line;
    bool truncated, state_lost, empty_output;
    bool replayed; /* the sandbox failed; this turn, or earlier ones before it, ran again in a fresh box */
    float wall_ms, cpu_ms, queue_ms, peak_mib;
    char tier[8];
} tool_record;

typedef struct traj_turn {
    int start, end; /* token range the policy sampled, [start,end) */
    char *text;     /* decoded, valid UTF-8 */
    char *code;     /* NULL: no call */
    tool_record tool;
    char *tool_text;         /* what went back to the model; NULL: no call */
    int image_from, n_image; /* returned images: range in traj.images */
} traj_turn;

typedef struct traj_image {
    image view; /* what the model saw */
    int32_t grid[3];
    int w, h; /* original size */
} traj_image;

enum { TRAJ_MAX_PART = 8 };
typedef struct reward_part {
    char name[24];
    float value;
} reward_part;

typedef struct traj {
    const sample *sample; /* borrowed from the dataset batch */
    int64_t prompt;       /* index of the prompt in this step; group = all trajectories with equal prompt */
    int index;            /* 0..group size-1 */
    int n_tok;
    int32_t *id;
    uint8_t *mask;           /* 1 = sampled by the policy */
    float *logp;             /* of each sampled token at the sampling temperature; 0 elsewhere */
    int16_t *turn_of;        /* turn index of sampled tokens, -1 elsewhere */
    int n_image, n_borrowed; /* views of the first n_borrowed images belong to the prompt, which outlives this */
    traj_image *images;      /* in order of the image runs: prompt images first, then returned ones */
    mrope_image *run;        /* (n_image) where each sits in id */
    int n_turn;
    traj_turn *turns;
    traj_outcome outcome;
    char *answer; /* NULL unless one was given */
    /* reward fills these */
    float acc; /* verifier's score in [0,1] */
    bool format_ok;
    float reward; /* total R */
    int n_part;
    reward_part parts[TRAJ_MAX_PART];
    /* rl fills these */
    float adv_seq;
    float *adv;  /* (n_tok) per-token advantage; NULL until computed */
    bool masked; /* takes no part in the loss (infra failure, or budget cut when so configured) */
    double wall_s, tool_wait_s;
    uint64_t box_seed; /* of the box its code ran in, for codedance box --replay; 0: none ran */
} traj;

void traj_free(traj *t); /* zeroes; all-zero legal */

/* JSON form of architecture.md section 1: the conversation with turns, ids, log-probs, reward. image_names[i]: where
 * image i was written ("img/x.png"), or NULL to leave pixels out. */
void traj_to_json(const traj *t, const char *const *image_names, json_out *o);
/* Reads back what traj_to_json wrote (images stay empty); *s receives the sample it owns. */
status traj_from_json(traj *t, sample *s, const json *j, const char *what);

#endif
