/* An interpreter of the user's own for the boxes (sandbox.python): what it is and which folders of the machine it
 * needs. */
#ifndef SANDBOX_PYTHON_H
#define SANDBOX_PYTHON_H

#include <stddef.h>

#include "core/status.h"

enum { PYTHON_PATHS = 8192, PYTHON_PATH = 1024, PYTHON_MOUNTS = 64 };

typedef struct python_env {
    char exe[PYTHON_PATH]; /* what to execute, absolute */
    /* Files and folders beyond the machine's own that it needs: pairs of C strings, the path and where it points if it
     * is a link, else ""; an empty path at the end. Read with python_next and python_target. */
    char paths[PYTHON_PATHS];
    int mounts[PYTHON_MOUNTS]; /* of each path: a detached mount of it, -1 = none (opener.h) */
} python_env;
const char *python_next(const char *path);
const char *python_target(const char *path);

/* Asks the interpreter itself, without site-packages (-I -S): nothing but its standard library runs. Its folders are
 * bin, lib and the like of its prefix and base prefix, never a whole home. ST_EINVAL: no such file, not CPython 3.8 or
 * newer, no ctypes, a prefix that is a home or a system folder; the message starts with "sandbox.python: ". Blocks for
 * at most a minute; call it without threads or signal handlers (it forks). */
status python_find(const char *path, python_env *out);

/* Runs argv[0] with the environment as it is, both outputs together into text (cut at n - 1 bytes, always terminated).
 * keep: descriptors 3 up to keep - 1 stay open in it. The exit status, 128 + signal, or -1 after timeout_s. */
int python_capture(char *const *argv, int keep, char *text, size_t n, double timeout_s);
/* The last line that says something, for messages; cuts what is behind it. */
const char *python_last_line(char *text);

#endif
