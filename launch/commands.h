/* Subcommands. Each parses its own arguments, prints its own --help with an example, and returns a status; main prints
 * the message. */
#ifndef LAUNCH_COMMANDS_H
#define LAUNCH_COMMANDS_H

#include "core/status.h"

#define COMMANDS(X)                                                           \
    X(train, "train the stages named in a config")                            \
    X(generate, "let a model answer: a dataset, or one image and a question") \
    X(eval, "measure a model on a dataset, by category")                      \
    X(score, "log-prob of every token of given conversations")                \
    X(reward, "the reward breakdown of given trajectories or rows")           \
    X(box, "run one Python file in the sandbox")                              \
    X(boxd, "serve the sandbox to other processes of this machine")           \
    X(data, "import, inspect, synthesise, tokenize datasets")                 \
    X(export, "checkpoint to a Hugging Face directory")                       \
    X(init, "a new randomly initialised model")                               \
    X(report, "runs as one self-contained HTML page")                         \
    X(plan, "memory and parallel plan of a config")                           \
    X(doctor, "what this machine offers and what is missing")                 \
    X(config, "the resolved config; explain a key")

#define COMMAND_PROTO(name, help) status cmd_##name(int argc, char **argv);
COMMANDS(COMMAND_PROTO)
#undef COMMAND_PROTO

#endif
