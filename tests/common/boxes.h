/* A pool for tests and one-line turns in it. */
#ifndef TESTS_COMMON_BOXES_H
#define TESTS_COMMON_BOXES_H

#include "sandbox/box.h"

/* numpy and PIL, preset "W, H = 224, 116" and np; small limits: wall 1 + 0.5 s, cpu 2 s, 256 MiB, 32 MiB of files, 24
 * processes, 4 pictures, 16 KiB of output kept and 1 MiB at most. */
box_opts test_box_opts(void);
/* Runs one turn to its end. */
box_result test_turn(box_pool *p, box *b, const char *code);
/* Same, checks the verdict (printing what came instead) and gives back the text, malloc'ed. */
char *test_expect(box_pool *p, box *b, const char *code, box_verdict v);

#endif
