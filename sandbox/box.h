/* Boxes: model-written Python in a jailed process per trajectory. The process tree, layers and limits are described in
 * sandbox/README.md. Verdicts come from the kernel and the clock, never from the child; images come out as pixels that
 * the trusted side checks.
 *
 *     int main(int argc, char **argv) { int rc = box_boot(argc, argv); if (rc >= 0) return rc; ... }   // FIRST
 *     box_pool_create(&pool, &opts);
 *     box_open(pool, seed, images, n, &b); box_submit(b, code, len);
 *     while (box_poll(pool, done, 16, 100)) ... box_result_take(b, &r) ... box_close(b);
 *
 * Single-threaded use: one thread owns a pool. */
#ifndef SANDBOX_BOX_H
#define SANDBOX_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define BOX_VERDICTS(X) \
    X(OK)               \
    X(PY_ERROR)         \
    X(EXIT)             \
    X(TIMEOUT_SOFT)     \
    X(TIMEOUT_HARD) X(CPU) X(OOM) X(PIDS) X(OUTPUT) X(SIGNAL) X(EXITED) X(PROTOCOL) X(DEAD) X(INFRA) X(SHED)
typedef enum box_verdict {
#define BOX_ENUM(n) BOX_##n,
    BOX_VERDICTS(BOX_ENUM)
#undef BOX_ENUM
} box_verdict;
const char *box_verdict_name(box_verdict v);

typedef enum box_tier { BOX_T0, BOX_T1, BOX_T2, BOX_T3 } box_tier; /* T0 strongest; T3 = none possible */
const char *box_tier_name(box_tier t);

typedef struct box_limits {
    double wall_s, wall_grace_s, cpu_s; /* per turn */
    int64_t memory_mib, tmp_mib, output_kib_kept, output_kib_max, code_kib;
    int64_t pids, images_per_turn, image_max_pixels, image_max_side;
} box_limits;
void box_limits_default(box_limits *l);

typedef struct box_opts {
    box_limits limits;
    box_tier min_tier;          /* refuse to start below */
    const char *const *imports; /* modules the zygote preloads, NULL-terminated ("numpy", "PIL.Image", ...) */
    const char *python;         /* interpreter's absolute path; NULL or "": the built-in one */
    const char *preset;         /* Python run once per box before the first turn (constants such as W,H); may be NULL */
    const char *socket;         /* of a daemon (box_listen) to use; NULL or "": a supervisor of this process's own */
    int spares;                 /* pre-forked boxes kept ready */
    int max_live, max_starting;
} box_opts;

/* Must be the first call of main: when argv says this process is a role of ours (boxd, zygote) it runs it and returns
 * its exit code (>= 0); otherwise spawns the supervisor and returns -1. exe: NULL = /proc/self/exe, tests name the
 * codedance binary. No threads, CUDA or MPI may exist yet. */
int box_boot(int argc, char **argv, const char *exe);
/* Ends the supervisor and everything below it; also happens when this process dies in any way. */
void box_shutdown(void);

typedef struct box_pool box_pool;
typedef struct box box;
typedef struct box_image {
    int w, h;
    uint8_t *rgb;
} box_image; /* owned where it is in a result */
/* Of size and pixels: equal pictures have equal ones, in every build; made to find differences, not forgeries. */
uint64_t box_image_print(const box_image *im);

/* Starts the zygote, runs the canaries. ST_EUNAVAIL says which layer is missing and the remedy. */
status box_pool_create(box_pool **out, const box_opts *o);
void box_pool_destroy(box_pool *p);
/* Serves pools of other processes at a Unix socket until *stop: `codedance boxd`. Allowed are this user, root and group
 * (a name or number; NULL: nobody else). Each client gets its own supervisor, whose limits, imports apart, may not exceed
 * `most`. This process must have no threads. ST_EINVAL for a path that is in use or no socket's. */
status box_listen(const char *path, const char *group, int max_clients, const box_opts *most, const volatile int *stop);
box_tier box_pool_tier(const box_pool *p);

/* Pictures shared by several boxes (a group's prompt): one sealed memfd. Caller releases; boxes keep their own hold. */
typedef struct box_input box_input;
status box_input_create(box_input **out, const box_image *img, int n);
void box_input_release(box_input *in);

/* Reserves a trajectory; the process starts at the first submit. seed keys Python's and numpy's generators. in may be
 * NULL. ST_EAGAIN when max_live is reached. */
status box_open(box_pool *p, uint64_t seed, box_input *in, box **out);
void box_set_user(box *b, void *user);
void *box_user(const box *b);
/* Runs code with the state of earlier successful turns; returns at once. One turn at a time. */
status box_submit(box *b, const char *code, size_t len);
/* Waits up to timeout_ms (0 = don't) and gives boxes whose turn ended; returns how many. When a part of the sandbox
 * dies, the turns it had under way are run once more in fresh boxes, after the successful turns before them; INFRA only
 * if that fails, too, or an earlier turn now gives something else. A supervisor that died is started again (with
 * pauses, at most five times in a minute: then every turn is INFRA). */
int box_poll(box_pool *p, box **done, int max, int timeout_ms);

typedef struct box_result {
    box_verdict verdict;
    int code;   /* signal number or exit status */
    char *text; /* stdout+stderr in order, head and tail, valid UTF-8, malloc'ed */
    bool truncated;
    char error_type[48], *error_message; /* PY_ERROR: class and message, INFRA: the reason; malloc'ed or NULL */
    int error_line;                      /* of this turn's code; 0 = not in it */
    char *error_source; /* that line's text, and the line of an earlier turn where a function of it failed; malloc'ed
                           or NULL */
    int n_image;
    box_image *images; /* RGB8, checked */
    double wall_ms, cpu_ms, queue_ms, peak_mib; /* queue_ms: waiting for its turn to run, not in wall_ms */
    bool state_lost; /* earlier turns' variables are gone */
    bool replayed;   /* the sandbox failed and this turn, or earlier ones before it, ran again in a fresh box */
    box_tier tier;
} box_result;
void box_result_take(box *b, box_result *out); /* CHECKs that a turn ended */
void box_result_free(box_result *r);
void box_close(box *b); /* kills its process; NULL is legal */

/* One line per layer for doctor: name, ok, evidence, remedy. Runs the canaries with the limits, interpreter and socket of
 * o, without imports. */
typedef struct box_layer {
    char name[32];
    bool ok;
    char evidence[128], remedy[160];
} box_layer;
int box_doctor(const box_opts *o, box_layer *out, int max, box_tier *tier);

#endif
