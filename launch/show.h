/* A trajectory for people: what was asked, thought, run, seen and answered. */
#ifndef LAUNCH_SHOW_H
#define LAUNCH_SHOW_H

#include <stdio.h>

#include "data/traj.h"

/* image_names[i]: the file image i was written to, NULL for none. colour: terminal escapes for the labels. Control
 * characters in the texts are shown, not obeyed. */
void show_traj(FILE *f, const traj *t, const char *const *image_names, bool colour);

#endif
