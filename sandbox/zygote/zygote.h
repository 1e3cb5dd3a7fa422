/* The process every box is a fork of, in its two shapes. Built-in Python: codedance-zygote enters the jail, starts the
 * interpreter it contains and serves. Python of one's own (sandbox.python): codedance-zygote enters the jail and then
 * becomes that interpreter, which loads codedance-zygote.so, which serves: same code, same jail. */
#ifndef SANDBOX_ZYGOTE_ZYGOTE_H
#define SANDBOX_ZYGOTE_ZYGOTE_H

#include "sandbox/jail.h"
#include "sandbox/wire.h"
#include "sandbox/python.h"

typedef struct zygote_state {
    size_t size; /* of this struct: program and library are from one build */
    jail j;
    python_env python;
    size_t modules, preset, interpreter; /* where in msg these strings start */
    union {
        wire_pool pool; /* followed by the strings */
        char bytes[WIRE_MSG_MAX];
    } msg;
} zygote_state;

/* What Python and its libraries find in every box. path: folder of programs before the machine's, or NULL. */
void zygote_environment(const char *path);

/* Descriptors of an interpreter on its way from codedance-zygote to codedance-zygote.so. */
enum { BECOME_SOCK = WIRE_INHERITED, BECOME_STATE, BECOME_PROC, BECOME_PIDNS, BECOME_LIBRARY, BECOME_FDS };
#define BECOME_FILE "/codedance-zygote.so"               /* in the jail, until it is loaded */
#define BECOME_THP "/sys/kernel/mm/transparent_hugepage" /* likewise: enabled, hpage_pmd_size */

/* Initialises the built-in interpreter; ST_EUNAVAIL in a build without one. */
status embed_python(void);
/* Outside, before the jail: remembers what of the machine become_python needs and a jail hides. */
void become_prepare(void);
/* In the jail: becomes the interpreter of z->python, returns only if that fails. library: codedance-zygote.so, open. */
status become_python(zygote_state *z, int library);

/* Imports, seals, answers the supervisor and makes boxes until it is gone; returns the exit status. Python runs
 * already. st: a failure so far, to be reported. */
int zygote_serve(zygote_state *z, int sock, status st);

#endif
