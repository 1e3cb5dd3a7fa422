/* A small process that keeps root when the supervisor gives it up, for one thing: homes closed to others (/root is), in
 * which the interpreter of sandbox.python may lie. For each zygote that starts it finds out, with the boxes' id and the
 * right to read, what that interpreter needs, and hands over mounts of just these folders. */
#ifndef SANDBOX_OPENER_H
#define SANDBOX_OPENER_H

#include "sandbox/python.h"

/* Forks it; it ends with its caller. Returns the descriptor to connect by; -1 if there is no root to keep, or no
 * process to be had. uid: what python_find runs as. */
int opener_start(unsigned uid);
/* A connection for one opener_ask, to be handed to whoever asks; -1 if the opener is gone. */
int opener_connect(int opener);
/* python_find, with mount descriptors where the kernel lends any. Closes the connection. */
status opener_ask(int connection, const char *path, python_env *out);

#endif
