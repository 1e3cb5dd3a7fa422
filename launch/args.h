/* Command-line arguments, one table per command. Unknown option: ST_EINVAL with the nearest valid one. */
#ifndef LAUNCH_ARGS_H
#define LAUNCH_ARGS_H

#include <stdbool.h>

#include "core/config.h"

typedef enum arg_kind { ARG_FLAG /* bool */, ARG_STR /* const char * */, ARG_INT /* int64_t */, ARG_NUM /* double */,
    ARG_LIST /* arg_list: may be repeated */ } arg_kind;
typedef struct arg_list { int n; const char *v[64]; } arg_list;
typedef struct arg { const char *name; arg_kind kind; void *dst; const char *value_name, *help; } arg; /* ends with name NULL */

/* argv[0] is the command's name. Positional arguments go to pos. On --help prints usage (what, options, example) and
 * sets *helped; the caller then returns ST_OK at once. */
status args_parse(int argc, char **argv, const char *what, const char *example, const arg *table, arg_list *pos, bool *helped);

#endif
