/* The subcommands of `codedance data`, one function each; cmd_data.c dispatches. */
#ifndef LAUNCH_CMD_DATA_H
#define LAUNCH_CMD_DATA_H

#include "core/status.h"

#define DATA_COMMANDS(X)                                              \
    X(synth, "write a dataset of the demo's scenes")                  \
    X(import, "pack a JSONL file and its pictures into HDF5 shards")  \
    X(inspect, "counts of a dataset, or one row as a conversation")   \
    X(filter, "keep some rows of a JSONL file")                       \
    X(verify, "read everything and report damage")                    \
    X(tokenizer, "learn a byte-level BPE tokenizer from JSONL files") \
    X(leak, "measure what the model's view gives away about hard details")

#define DATA_PROTO(name, help) status data_##name(int argc, char **argv);
DATA_COMMANDS(DATA_PROTO)
#undef DATA_PROTO

#endif
