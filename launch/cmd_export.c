#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/file.h"
#include "data/hf.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "rl/checkpoint.h"

static bool is_model_dir(const char *dir) { return file_exists(dir, "config.json") && hf_source_exists(dir); }

/* A model directory (a checkpoint is one), or the newest complete checkpoint of a run. malloc'ed. */
static status find_model(const char *from, char **out)
{
    char path[PATH_MAX];
    if (is_model_dir(from)) {
        *out = strdup(from);
        return *out ? ST_OK : FAIL(ST_ENOMEM, "out of memory");
    }
    if (access(from, F_OK) != 0) return FAIL(ST_EINVAL, "%s does not exist", from);
    if (file_exists(from, "checkpoints")) {
        TRY(file_join(path, sizeof path, from, "checkpoints"));
        from = path;
    }
    TRY(checkpoint_find(from, out));
    return *out ? ST_OK : FAIL(ST_EINVAL, "%s is no model directory, no run and holds no complete checkpoint", from);
}

static status export_model(const char *from, const char *to, const hf_export_opts *o)
{
    hf_exported done;
    TRY(hf_convert(from, to, o, &done));
    printf("%s: %lld parameters of %s as %s\n", to, (long long)done.params, from, done.dtype);
    return ST_OK;
}

status cmd_export(int argc, char **argv)
{
    arg_list pos = {0};
    hf_export_opts o = {0};
    char *to = NULL, *from = NULL;
    bool helped = false;
    const arg table[] = {
        {"out", ARG_STR, &to, "DIR", "where the Hugging Face directory is written"},
        {"to", ARG_STR, &to, "DIR", "the same"},
        {"dtype", ARG_STR, &o.dtype, "fp32|bf16|fp16", "of the weights (as they are; of a run, what it started from)"},
        {"shard-size", ARG_INT, &o.shard_bytes, "BYTES", "of tensors in one file (5000000000)"},
        {.name = NULL}};
    TRY(args_parse(argc, argv, "writes a model as a Hugging Face directory: RUN, CHECKPOINT or MODEL directory",
                   "codedance export runs/demo --out out", table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1 || !to) return args_usage("one directory to export and --out are needed");
    TRY(args_dtype(o.dtype));
    if (o.shard_bytes < 0) return args_usage("--shard-size must be positive");
    TRY(find_model(pos.v[0], &from));
    status st = export_model(from, to, &o);
    free(from);
    return st;
}
