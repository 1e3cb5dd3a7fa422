/* The embedded interpreter: what the zygote starts, what survives a fork, and one turn of model code. The only header
 * besides interp.c and prelude.c that knows there is a Python; built without it, interp_start is ST_EUNAVAIL. */
#ifndef SANDBOX_INTERP_H
#define SANDBOX_INTERP_H

#include "sandbox/protocol.h"

/* modules: NUL-terminated names, ended by an empty one. preset may be "". Once per zygote. */
status interp_start(const char *modules, const char *preset, const box_limits *l);
void interp_before_fork(void); /* these three around a fork of a process that has run model code */
void interp_after_fork_parent(void);
void interp_after_fork_child(void);
/* In a fresh holder: seeds, pictures (input < 0: none), preset. 0, or -1 with the claim filled. */
int interp_open_box(uint64_t seed, int input, wire_claim *claim);
/* Runs one turn; images go to image_fd. Fills everything of the claim but its head. */
void interp_run(const char *code, size_t len, uint32_t turn, int image_fd, wire_claim *claim);

extern const char *const prelude_parts[]; /* the Python side of a turn, in pieces; ends with NULL */

#endif
