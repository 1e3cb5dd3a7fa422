#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/model.h"
#include "data/file.h"
#include "data/safetensors.h"
#include "kernels/kernels.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "rl/checkpoint.h"

static bool is_model_dir(const char *dir)
{
    return file_exists(dir, "config.json") &&
           (file_exists(dir, "model.safetensors") || file_exists(dir, "model.safetensors.index.json"));
}

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

static status export_model(const char *from, const char *to, const char *type)
{
    backend *b = NULL;
    model *m = NULL;
    model_config c;
    if (file_same(from, to)) return FAIL(ST_EINVAL, "--to is the directory to export itself");
    TRY(hf_load_config(&c, from));
    TRY(backend_open_cpu(&b, 1, "auto"));
    status st = model_create(&m, b, &c, false);
    if (st == ST_OK) st = hf_load_weights(m, from);
    if (st == ST_OK) st = hf_export(m, from, to, type);
    if (st == ST_OK) printf("%s: %lld parameters of %s as %s\n", to, (long long)model_param_count(m), from, type);
    model_destroy(m);
    backend_close(b);
    return st;
}

status cmd_export(int argc, char **argv)
{
    arg_list pos = {0};
    char *to = NULL, *type = (char *)"f32", *from = NULL;
    bool helped = false;
    const arg table[] = {{"to", ARG_STR, &to, "DIR", "where the Hugging Face directory is written"},
                         {"dtype", ARG_STR, &type, "f32|bf16", "of the weights (f32)"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv, "writes a model as a Hugging Face directory: RUN, CHECKPOINT or MODEL directory",
                   "codedance export runs/demo --to out --dtype bf16", table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1 || !to) return args_usage("one directory to export and --to are needed");
    if (strcmp(type, "f32") != 0 && strcmp(type, "bf16") != 0) return args_usage("--dtype %s: f32 or bf16", type);
    TRY(find_model(pos.v[0], &from));
    status st = export_model(from, to, type);
    free(from);
    return st;
}
