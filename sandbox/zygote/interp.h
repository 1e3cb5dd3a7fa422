/* The interpreter, once it runs: what the zygote loads into it, what survives a fork, and one turn of model code. Knows
 * Python by python_api.h only, so that the same code serves the built-in one and one of the user's own. */
#ifndef SANDBOX_INTERP_H
#define SANDBOX_INTERP_H

#include "sandbox/jail.h"
#include "sandbox/wire.h"

/* Imports, prelude, preset. modules: NUL-terminated names, ended by an empty one. preset may be "". Once per zygote.
 * The message of a failure starts with the key of the section that is to blame ("sandbox.imports: "). */
status interp_start(const char *modules, const char *preset, const box_limits *l, const jail *j);
void interp_before_fork(void); /* these three around a fork of a process that has run model code */
void interp_after_fork_parent(void);
void interp_after_fork_child(void);
/* A turn like many, of nobody, a box's first or another: for pages_learn. */
void interp_trial(bool first);
/* In a fresh holder: seeds, pictures (input < 0: none), preset. 0, or -1 with the claim filled. */
int interp_open_box(uint64_t seed, int input, wire_claim *claim);
/* Runs one turn; images go to image_fd. Fills everything of the claim but its head. */
void interp_run(const char *code, size_t len, uint32_t turn, int image_fd, wire_claim *claim);

extern const char *const prelude_parts[]; /* the Python side of a turn, in pieces; ends with NULL */
extern const char prelude_trial[];        /* the code of interp_trial */

#endif
