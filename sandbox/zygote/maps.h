/* The mappings of this process, as /proc/self/maps lists them. */
#ifndef SANDBOX_MAPS_H
#define SANDBOX_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct mapping {
    uintptr_t lo, hi;
    char flags[8];   /* "rwxp": permissions, p = private */
    char name[4200]; /* of the file; "[heap]" and such; "" = none */
} mapping;

/* proc: O_PATH of /proc. NULL if it cannot be read; to be closed with fclose. */
FILE *maps_open(int proc);
/* The next one, by address; false after the last. f may be NULL. */
bool maps_next(FILE *f, mapping *m);

#endif
