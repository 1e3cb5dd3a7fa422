/* Command-line arguments, one table per command. Unknown option: ST_EINVAL with the nearest valid one. */
#ifndef LAUNCH_ARGS_H
#define LAUNCH_ARGS_H

#include <stdbool.h>

#include "core/config.h"

typedef enum arg_kind {
    ARG_FLAG /* bool */,
    ARG_STR /* const char * */,
    ARG_INT /* int64_t */,
    ARG_NUM /* double */,
    ARG_LIST /* arg_list: may be repeated */
} arg_kind;
typedef struct arg_list {
    int n;
    const char *v[64];
} arg_list;
/* name without the dashes: "model" is given as --model DIR or --model=DIR. A table ends with name NULL. dst keeps its
 * value when the option is absent. */
typedef struct arg {
    const char *name;
    arg_kind kind;
    void *dst;
    const char *value_name, *help;
} arg;

/* argv[0] is the command's name. Positional arguments go to pos (NULL: there are none); "--" ends the options. On
 * --help prints usage (what, options, example) and sets *helped; the caller then returns ST_OK at once. */
status args_parse(int argc, char **argv, const char *what, const char *example, const arg *table, arg_list *pos,
                  bool *helped);
/* Whether the last failure of args_parse (or a call of args_usage) is what main reports: exit code 2. */
bool args_failed(void);
/* A command's own complaint about its arguments: FAIL with ST_EINVAL, exit code 2. */
status args_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* --dtype of weight files: fp32, bf16, fp16 or NULL; anything else is a complaint. */
status args_dtype(const char *value);

#endif
