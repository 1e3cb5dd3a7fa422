/* What T2, where a state is one process that cannot be forked, keeps to make a lost state again: the code of the turns.
 */
#ifndef SANDBOX_TURN_LOG_H
#define SANDBOX_TURN_LOG_H

#include <stddef.h>

/* Code of the turns that made a state: n times a size_t and so many bytes, and one more that is not known to be good.
 */
typedef struct turn_log {
    int n;
    size_t used, next; /* bytes of the n; of that one */
    char *text;
} turn_log;

/* The code of the turn that begins, in place of one that was not kept. Ends the process when there is no memory. */
void turn_log_note(turn_log *l, const void *code, size_t len);
/* It succeeded. Ends the process when 8 MiB do not hold it: the state could not be made again. */
void turn_log_keep(turn_log *l);
void turn_log_clear(turn_log *l);

#endif
