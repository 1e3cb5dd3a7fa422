#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"

static const char default_head[] =
    "# Every key with its default. A config of yours holds only what differs; --set section.key=value goes on top.\n"
    "# Written by `codedance config --defaults`; a test keeps it equal to the program.\n\n";

static status print(const arg_list *files, const arg_list *sets, const char *key, bool help, bool defaults)
{
    config *c = NULL;
    char *text = NULL;
    TRY(config_load(&c, files->v, files->n, sets->v, sets->n));
    status st = config_check(c, config_sections);
    if (st == ST_OK) st = config_finish(c);
    if (st == ST_OK && key != NULL)
        st = config_explain(c, key, &text);
    else if (st == ST_OK)
        text = config_dump(c, help);
    if (st == ST_OK) printf("%s%s", defaults ? default_head : "", text);
    free(text);
    config_destroy(c);
    return st;
}

status cmd_config(int argc, char **argv)
{
    arg_list pos = {0}, sets = {0};
    bool defaults = false, help = false, helped = false;
    const arg table[] = {{"set", ARG_LIST, &sets, "SECTION.KEY=VALUE", "override one key"},
                         {"explain-all", ARG_FLAG, &help, NULL, "with each key's help as a comment"},
                         {"defaults", ARG_FLAG, &defaults, NULL, "the text of configs/default.yaml"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv, "prints the resolved config: [FILE...]; or one key: explain KEY [FILE...]",
                   "codedance config configs/demo.yaml --set rl.steps=10\n  codedance config explain rollout.max_turns",
                   table, &pos, &helped));
    if (helped) return ST_OK;
    const char *key = NULL;
    if (pos.n > 0 && strcmp(pos.v[0], "explain") == 0) {
        if (pos.n < 2) return args_usage("explain needs a key, such as rollout.max_turns");
        key = pos.v[1];
        pos.n -= 2;
        memmove(pos.v, pos.v + 2, (size_t)pos.n * sizeof *pos.v);
    }
    if (defaults && (pos.n > 0 || sets.n > 0 || key != NULL))
        return args_usage("--defaults takes no file and no --set");
    return print(&pos, &sets, key, help || defaults, defaults);
}
