#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"

typedef struct command {
    const char *name, *help;
    status (*run)(int argc, char **argv);
} command;

static const command commands[] = {
#define COMMAND_ROW(name, help) {#name, help, cmd_##name},
    COMMANDS(COMMAND_ROW)
#undef COMMAND_ROW
};
enum { N_COMMAND = sizeof commands / sizeof *commands };

static void print_overview(FILE *f)
{
    fprintf(f,
            "codedance %s: trains vision-language models that think by writing and running code\n\nusage: codedance "
            "COMMAND ...\n\n",
            CODEDANCE_VERSION);
    for (int i = 0; i < N_COMMAND; i++) fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].help);
    fprintf(f, "\n  codedance COMMAND --help   options and an example\n  codedance --version\n");
}

static const command *find(const char *name)
{
    for (int i = 0; i < N_COMMAND; i++) {
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    }
    return NULL;
}

static int unknown(const char *name)
{
    const char *best = NULL;
    int least = 3;
    for (int i = 0; i < N_COMMAND; i++) {
        int d = config_distance(name, commands[i].name);
        if (d < least) least = d, best = commands[i].name;
    }
    fprintf(stderr, "codedance: unknown command %s", name);
    if (best != NULL)
        fprintf(stderr, "; did you mean %s?\n", best);
    else
        fprintf(stderr, " (codedance --help lists them)\n");
    return 2;
}

static int exit_code(status st)
{
    if (st == ST_OK) return 0;
    if (args_failed()) return 2;
    return st == ST_EINVAL ? 1 : 3;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return 2;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || (strcmp(name, "help") == 0 && argc == 2)) {
        print_overview(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0) {
        printf("codedance %s\n", CODEDANCE_VERSION);
        return 0;
    }
    char *help_argv[] = {argv[0], argv[2], (char *)"--help", NULL}; /* "help CMD" is "CMD --help" */
    if (strcmp(name, "help") == 0) {
        name = argv[2];
        argc = 3;
        argv = help_argv;
    }
    const command *c = find(name);
    if (c == NULL) return unknown(name);
    status st = c->run(argc - 1, argv + 1);
    return setup_leave(st, exit_code(st), name);
}

int main(int argc, char **argv)
{
    int as_role = box_boot(argc, argv, NULL); /* before MPI, threads or a device exist: see sandbox/box.h */
    if (as_role >= 0) return as_role;
    int code = run(argc, argv);
    box_shutdown();
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("codedance: standard output");
        if (code == 0) code = 3;
    }
    return code;
}
