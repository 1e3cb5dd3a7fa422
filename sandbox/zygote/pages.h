/* Pages that every turn writes to. A fork shares all memory with its parent until one of them writes, and then pays for
 * each page with a fault: some 150 of them are a third of a short turn. Which ones they are is learned once, so that a
 * process made ahead has them before its turn comes. Only time depends on it. */
#ifndef SANDBOX_PAGES_H
#define SANDBOX_PAGES_H

#include <stdbool.h>

/* In the zygote: has a first turn run in a fork of it, another in a fork of that, and remembers which pages the latter
 * made its own or mapped from files. proc: a folder with /proc's content. */
void pages_learn(int proc, void (*turn)(bool first));
/* In a fork of the zygote, or of a fork: makes them its own; files: maps those of files as well, which saves a turn
 * more than it costs only if nobody waits. Pages that are not there any more are left out. */
void pages_bring(bool files);

#endif
