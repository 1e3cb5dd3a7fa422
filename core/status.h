/* One meaning of success for the whole program, and one message for each failure.
 *
 * Three kinds of trouble, never mixed:
 *   programmer error (shape, null handle, broken invariant)   CHECK: aborts with file:line, never compiled out
 *   the world (file, config, network, device, memory)         status: the first function that knows writes the
 *                                                             message with FAIL, everyone above passes it on with TRY,
 *                                                             only main prints it
 *   the data (generated code crashed, answer unparsable)      a value: box_verdict, traj_outcome, a reward of 0
 */
#ifndef CORE_STATUS_H
#define CORE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum status {
    ST_OK = 0,
    ST_EINVAL = -1, /* the user's input is wrong: config, data, arguments */
    ST_ENOMEM = -2,
    ST_EIO = -3,  /* file system */
    ST_ESYS = -4, /* any other system call */
    ST_EDEVICE = -5,
    ST_ECOMM = -6,
    ST_EAGAIN = -7,   /* nothing is wrong; asking again later is right */
    ST_EUNAVAIL = -8, /* not built with, or not on this machine; tests turn it into SKIP */
    ST_ECORRUPT = -9, /* a file of ours fails its own checks */
} status;

/* Keeps the formatted message for this thread and returns code. Outputs of a failing function stay untouched. */
status fail_at(status code, const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Puts "text: " in front of the kept message (context such as a file name) and returns code. */
status fail_within(status code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "; text" behind the kept message, what to do about it, if code is what it is for; returns code. */
status fail_advice(status code, status when, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The message of the last FAIL on this thread; "" before the first. Valid until the next FAIL on this thread. */
const char *fail_message(void);
/* Where it was raised, "file.c:123"; for logs at debug level. */
const char *fail_place(void);
const char *status_name(status s);

void check_failed(const char *expr, const char *file, int line) __attribute__((noreturn));

#ifdef __clang_analyzer__ /* it can't see into status.c that the code comes back unchanged */
#define FAIL(code, ...) (fail_at((code), __FILE__, __LINE__, __VA_ARGS__), (code))
#else
#define FAIL(code, ...) fail_at((code), __FILE__, __LINE__, __VA_ARGS__)
#endif
#define TRY(expr)                             \
    do {                                      \
        status try_st_ = (expr);              \
        if (try_st_ != ST_OK) return try_st_; \
    } while (0)
/* For functions with cleanup: needs a local `status st` and a label. */
#define TRY_OR(expr, label)          \
    do {                             \
        st = (expr);                 \
        if (st != ST_OK) goto label; \
    } while (0)
#define CHECK(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

#ifdef __cplusplus
}
#endif
#endif
