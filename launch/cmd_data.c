#include "launch/cmd_data.h"

#include "core/config.h"
#include "launch/args.h"
#include "launch/commands.h"

#include <stdio.h>
#include <string.h>

typedef struct sub {
    const char *name, *help;
    status (*run)(int argc, char **argv);
} sub;
static const sub subs[] = {
#define DATA_ROW(name, help) {#name, help, data_##name},
    DATA_COMMANDS(DATA_ROW)
#undef DATA_ROW
};
enum { SUB_COUNT = sizeof subs / sizeof subs[0] };

static void print_help(void)
{
    printf("codedance data COMMAND ...\n\n");
    for (int i = 0; i < SUB_COUNT; i++) printf("  %-10s %s\n", subs[i].name, subs[i].help);
    printf("\nEach has its own --help. Example:\n"
           "  codedance data synth --kind prompts --n 100 --split try --out /tmp/try\n"
           "  codedance data inspect /tmp/try/data.jsonl --row 0\n");
}

status cmd_data(int argc, char **argv)
{
    if (argc < 2)
        return args_usage("which one? synth, import, inspect, filter, verify, tokenizer or leak (see --help)");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return print_help(), ST_OK;
    const sub *nearest = NULL;
    int best = 3;
    for (int i = 0; i < SUB_COUNT; i++) {
        if (strcmp(argv[1], subs[i].name) == 0) {
            char name[32];
            snprintf(name, sizeof name, "data %s", subs[i].name);
            argv[1] = name; /* what --help and messages call it */
            return subs[i].run(argc - 1, argv + 1);
        }
        int d = config_distance(argv[1], subs[i].name);
        if (d < best) best = d, nearest = &subs[i];
    }
    if (nearest) return args_usage("unknown command \"data %s\"; did you mean \"data %s\"?", argv[1], nearest->name);
    return args_usage("unknown command \"data %s\" (see codedance data --help)", argv[1]);
}
