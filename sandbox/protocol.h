/* Messages between the four parties: client (trainer) <-> boxd <-> zygote, boxd <-> runner (PID 1 of a jail) <-> holder
 * (the process that runs model code). All are SOCK_SEQPACKET: one struct, optional bytes, optional descriptors. Client,
 * boxd, zygote and runner come from one build and trust each other's structs; what a holder sends is a claim: the
 * runner checks its size, nonce and sender, boxd checks every number in it. */
#ifndef SANDBOX_PROTOCOL_H
#define SANDBOX_PROTOCOL_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/box.h"

enum {
    WIRE_CODE_MAX = 256 << 10, /* one message must fit the default socket buffer (wmem_max 208 KiB, doubled) */
    WIRE_MSG_MAX = 320 << 10,
    WIRE_FDS = 7, /* of a box that starts: its three, and the control groups to join */
    WIRE_IMAGES = 16,
    WIRE_IMAGE_BYTES = 64 << 20, /* size of a box's image memfd; sparse until used */
    WIRE_MESSAGE_MAX = 2048,
    WIRE_SOURCE_MAX = 256,
    WIRE_INPUTS = 16,
    WIRE_INHERITED = 3,
    BOX_HOLDER_FDS = 8 /* 0 null, 1-2 output, 3-4 channels, 5 images out, 6 images in, 7 spare of the output */
};

/* clang-format off */
typedef enum wire_op {
    OP_POOL = 1, OP_OPEN, OP_EXEC, OP_CLOSE, OP_POOL_END,     /* client -> boxd */
    OP_POOL_OK, OP_POOL_FAIL, OP_RESULT, OP_NOTE,             /* boxd -> client; a note is followed by text for the log */
    OP_INIT, OP_SPAWN,                                        /* boxd -> zygote */
    OP_PYTHON,                                                /* boxd -> opener -> zygote */
    OP_INIT_OK, OP_INIT_FAIL, OP_PID,                         /* zygote -> boxd */
    OP_AHEAD, OP_RUN, OP_PAUSE, OP_RESUME, OP_INTERRUPT, OP_KILL, OP_COMMIT, OP_ROLLBACK, OP_RESET, /* boxd -> runner */
    OP_READY, OP_JAIL_FAIL, OP_END,                           /* runner -> boxd */
    OP_FORK, OP_HELLO, OP_CLAIM                               /* runner <-> holder; OP_RUN as well */
} wire_op;
/* clang-format on */

typedef struct wire_head {
    uint32_t op, id, turn, len;
    uint64_t nonce;
} wire_head; /* len: bytes after the struct */

/* OP_POOL, OP_INIT: followed by the modules, an empty string, the preset, the interpreter ("": the built-in one), each
 * NUL-terminated. OP_INIT carries codedance-zygote.so and, where there is an opener and an interpreter, a
 * connection to it. */
typedef struct wire_pool {
    wire_head h;
    box_limits limits;
    int32_t min_tier, spares, max_live, max_starting;
    int32_t tier; /* OP_INIT: what the zygote shall build */
} wire_pool;

typedef struct wire_layer {
    char name[32];
    int32_t ok;
    char evidence[128], remedy[160];
} wire_layer;
enum { WIRE_LAYERS = 40 };
/* OP_POOL_OK, OP_POOL_FAIL, OP_INIT_OK, OP_INIT_FAIL, OP_JAIL_FAIL */
typedef struct wire_reply {
    wire_head h;
    int32_t code, tier, n_layer;
    char text[512];
    wire_layer layer[WIRE_LAYERS];
} wire_reply;

/* OP_OPEN (fd: the pictures), OP_EXEC and OP_RUN (followed by the code). */
typedef struct wire_run {
    wire_head h;
    uint64_t seed;
    int32_t has_input;
} wire_run;

typedef struct wire_image {
    int32_t w, h;
    int64_t offset;
} wire_image;

typedef enum claim_kind { CLAIM_OK, CLAIM_ERROR, CLAIM_EXIT } claim_kind;
/* What a holder says about its turn. */
typedef struct wire_claim {
    wire_head h;
    int32_t kind, code, line, n_image, images_dropped, message_len, mapped; /* mapped: files, perhaps */
    int64_t children_cpu_us, max_rss_kib;
    char type[48], source[WIRE_SOURCE_MAX]; /* source: text of the line at fault */
    wire_image image[WIRE_IMAGES];
    char message[WIRE_MESSAGE_MAX];
} wire_claim;

/* OP_END: what the runner saw (wait status, clocks of the kernel) and the claim, if a well-formed one came. */
typedef struct wire_end {
    wire_head h;
    int32_t has_claim, protocol, infra, killed, dead, wait_status, at_pid_cap, state_lost;
    double cpu_ms;
    int64_t max_rss_kib;
    wire_claim claim;
} wire_end;

/* OP_RESULT: followed by text_len + message_len bytes; carries the image memfd when n_image > 0. */
typedef struct wire_result {
    wire_head h;
    int32_t verdict, code, truncated, error_line, n_image, state_lost, tier, text_len, message_len;
    char error_type[48], error_source[WIRE_SOURCE_MAX];
    double wall_ms, cpu_ms, queue_ms, peak_mib;
    wire_image image[WIRE_IMAGES];
} wire_result;

/* Head of an input memfd, followed by the pixels as Pillow holds them: four bytes each, the last 255. */
typedef struct wire_input {
    int32_t n, pad;
    wire_image image[WIRE_INPUTS];
} wire_input;

#endif
