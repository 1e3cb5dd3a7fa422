/* The files of a box, /tmp, as they were after its last good turn, so that a failed turn is undone on disk as well. The
 * copy lies in a file system of its own that no holder can reach. While these run every other process of the box is
 * stopped or dead. A box without files costs a system call a turn; one with files costs the copy of those that changed.
 */
#ifndef SANDBOX_FILES_H
#define SANDBOX_FILES_H

#include "sandbox/box.h"

typedef struct files {
    int store;         /* the copy's file system, -1 before it is needed */
    struct entry *all; /* mapped, not allocated: the heap of a runner that is used again stays as a new one's */
    int n;
    bool mapped; /* files may have been written through mappings, which need not change their times */
    bool lost;   /* the last save failed: there is nothing to go back to */
} files;
#define FILES_NONE ((files){.store = -1})

/* Makes the copy equal to /tmp; mapped: not by the files' times alone. Trees deeper than 32 folders cannot be saved;
 * then, as after any error, the next files_restore fails. */
void files_save(files *f, const box_limits *l, bool mapped);
/* Makes /tmp equal to the copy, empty if there is none; inodes that still exist keep their identity. -1: impossible,
 * /tmp is neither state. */
int files_restore(files *f);
void files_drop(files *f);

#endif
