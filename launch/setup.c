#include "launch/setup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/thread.h"
#include "data/hf.h"
#include "kernels/kernels.h"

enum { DTYPE_BF16 = 1 }; /* of model.dtype */
enum { PRECISION_FP32 = 1, PRECISION_BF16 = 2 };

static comm *world; /* MPI can be started and ended once per process */

/* Ranks on this machine, for sharing its CPUs. Collective. */
static status local_ranks(comm *c, int *out)
{
    char mine[64] = {0}, *all = calloc((size_t)c->size, sizeof mine);
    CHECK(all != NULL);
    gethostname(mine, sizeof mine - 1);
    status st = comm_allgather(c, mine, all, sizeof mine);
    *out = 0;
    for (int i = 0; i < c->size; i++) *out += strncmp(all + (size_t)i * sizeof mine, mine, sizeof mine) == 0;
    free(all);
    return st;
}

static status bind_all(setup *s, const char *const *files, int n_files, const char *const *sets, int n_sets)
{
    TRY(config_load(&s->cfg, files, n_files, sets, n_sets));
    TRY(config_bind(s->cfg, "run", run_fields, &s->o));
    TRY(config_bind(s->cfg, "device", device_fields, &s->o));
    TRY(config_bind(s->cfg, "model", model_fields, &s->o));
    TRY(config_bind(s->cfg, "sandbox", box_fields, &s->box));
    const char *d = s->o.device;
    char *end = NULL;
    if (d != NULL && strncmp(d, "cuda:", 5) == 0) {
        if (strtol(d + 5, &end, 10) < 0 || end == d + 5 || *end != '\0')
            return config_fail(s->cfg, "device", "device", "\"%s\": expected cuda:N", d);
    } else if (d == NULL || (strcmp(d, "cpu") != 0 && strcmp(d, "cuda") != 0 && strcmp(d, "auto") != 0)) {
        return config_fail(s->cfg, "device", "device", "must be auto, cpu, cuda or cuda:N");
    }
    if (d[0] == 'c' && d[1] == 'p' && s->o.precision == PRECISION_BF16)
        return config_fail(s->cfg, "device", "precision", "a CPU computes in fp32; bf16 needs device cuda");
    box_opts unused;
    TRY(box_config_opts(&s->box, s->cfg, &unused)); /* its own checks, before anything is started */
    if (s->o.name == NULL || s->o.name[0] == '\0') return config_fail(s->cfg, "run", "name", "must not be empty");
    return ST_OK;
}

status setup_config(setup *s, const char *const *files, int n_files, const char *const *sets, int n_sets)
{
    memset(s, 0, sizeof *s);
    if (world == NULL) {
        int argc = 0;
        char *none[] = {NULL}, **argv = none;
        TRY(comm_open(&world, &argc, &argv));
    }
    s->world = world;
    TRY(comm_agree(world, bind_all(s, files, n_files, sets, n_sets)));
    log_setup((log_level)s->o.log_level, world->rank, world->size);
    if (s->o.dir == NULL) {
        if (asprintf(&s->run_dir, "runs/%s", s->o.name) < 0) return FAIL(ST_ENOMEM, "out of memory");
        s->o.dir = s->run_dir;
    }
    return ST_OK;
}

status setup_finish(setup *s)
{
    TRY(config_check(s->cfg, config_sections));
    return config_finish(s->cfg);
}

static status open_cpu(setup *s, int local)
{
    int threads = (int)s->o.threads, cpus = thread_cpus();
    if (threads == 0) threads = cpus / local > 0 ? cpus / local : 1;
    if (local > 1 && cpus == 1 && sysconf(_SC_NPROCESSORS_ONLN) > local && s->world->rank == 0) {
        log_warn("mpirun pinned each rank to one CPU; start it with --bind-to none to use all %ld",
                 sysconf(_SC_NPROCESSORS_ONLN));
    }
    return backend_open_cpu(&s->b, threads, s->o.isa != NULL ? s->o.isa : "auto");
}

static status open_backend(setup *s)
{
    const char *d = s->o.device;
    int local = 1;
    TRY(local_ranks(s->world, &local));
    CHECK(local > 0);
    if (strcmp(d, "cpu") == 0) return open_cpu(s, local);
    int n = d[4] == ':' ? atoi(d + 5) : s->world->rank % local;
    status st = backend_open_cuda(&s->b, n, s->o.precision == PRECISION_FP32 ? DT_F32 : DT_BF16, NULL);
    if (st != ST_EUNAVAIL || strcmp(d, "auto") != 0 || s->o.precision == PRECISION_BF16) return st;
    log_info("no GPU: %s", fail_message());
    return open_cpu(s, local);
}

static status read_side_files(setup *s, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", dir);
    if (access(path, R_OK) != 0)
        return FAIL(ST_EINVAL, "%s is no model directory: config.json is missing or unreadable", dir);
    TRY(hf_load_config(&s->mc, dir));
    TRY(tokenizer_load_dir(&s->tok, dir));
    if (tokenizer_vocab(s->tok) > s->mc.vocab) {
        return FAIL(ST_EINVAL, "%s: the tokenizer has ids up to %d, but the model's vocabulary ends at %d", dir,
                    tokenizer_vocab(s->tok) - 1, s->mc.vocab - 1);
    }
    image_processor_default(&s->ip);
    if (s->mc.has_vision) TRY(image_processor_load(&s->ip, dir));
    s->ip.variant = (image_variant)s->o.image_processor;
    const vision_config *v = &s->mc.vision;
    if (s->mc.has_vision &&
        (v->patch != s->ip.patch || v->merge != s->ip.merge || v->temporal_patch != s->ip.temporal_patch)) {
        return FAIL(
            ST_EINVAL,
            "%s: the image processor's patch %d, merge %d, temporal patch %d differ from config.json's %d, %d, %d", dir,
            s->ip.patch, s->ip.merge, s->ip.temporal_patch, v->patch, v->merge, v->temporal_patch);
    }
    TRY(chat_init(&s->chat, s->tok, s->ip.merge, s->o.default_system));
    s->chat.no_think = !s->o.enable_thinking;
    s->chat.vision_ids = s->o.add_vision_id;
    if (s->o.chat_style == 0)
        TRY(chat_style_of_dir(&s->chat.style, dir));
    else
        s->chat.style = chat_style_find(chat_style_names[s->o.chat_style]);
    if (!s->o.enable_thinking && s->chat.style->think != CHAT_THINK_HYBRID)
        return config_fail(s->cfg, "model", "enable_thinking", "the chat style %s can't switch thinking off",
                           s->chat.style->name);
    return ST_OK;
}

static status open_boxes(setup *s)
{
    box_opts o;
    TRY(box_config_opts(&s->box, s->cfg, &o));
    return box_config_pool(s->cfg, &o, &s->boxes);
}

static status add_set(arg_list *sets, const char *line)
{
    if (sets->n == (int)(sizeof sets->v / sizeof *sets->v)) return args_usage("too many --set");
    sets->v[sets->n++] = line;
    return ST_OK;
}

status setup_dtype(arg_list *sets, const char *value)
{
    if (!value) return ST_OK;
    if (strcmp(value, "fp32") != 0 && strcmp(value, "bf16") != 0) return args_usage("--dtype %s: fp32 or bf16", value);
    return add_set(sets, strcmp(value, "bf16") == 0 ? "model.dtype=bf16" : "model.dtype=fp32");
}

status setup_device(arg_list *sets, const char *value)
{
    static char line[64];
    if (!value) return ST_OK;
    if (snprintf(line, sizeof line, "device.device='%s'", value) >= (int)sizeof line)
        return args_usage("--device %s: auto, cpu, cuda or cuda:N", value);
    return add_set(sets, line);
}

static status open_all(setup *s, int need, const char *dir)
{
    if (dir == NULL) dir = s->o.model_path;
    if (dir == NULL || dir[0] == '\0') return FAIL(ST_EINVAL, "no model named: give --model DIR or set model.path");
    s->o.model_path = (char *)dir;
    if ((need & SETUP_GRADIENTS) != 0 && s->o.dtype == DTYPE_BF16)
        return config_fail(s->cfg, "model", "dtype", "bf16 is for inference; training needs fp32");
    TRY(read_side_files(s, dir));
    if (need & SETUP_BOXES) TRY(open_boxes(s));
    TRY(open_backend(s));
    if ((need & SETUP_MODEL) == 0) return ST_OK;
    bool training = (need & SETUP_GRADIENTS) != 0;
    if (s->o.dtype == DTYPE_BF16)
        TRY(model_create_stored(&s->m, s->b, &s->mc, s->b->host ? DT_BF16_ROWS : DT_BF16));
    else
        TRY(model_create(&s->m, s->b, &s->mc, training));
    TRY(hf_load_weights(s->m, dir));
    s->b->params_changed(s->b);
    return s->b->sync(s->b);
}

status setup_open(setup *s, int need, const char *dir) { return comm_agree(s->world, open_all(s, need, dir)); }

void setup_close(setup *s)
{
    box_pool_destroy(s->boxes);
    model_destroy(s->m);
    if (s->b != NULL) backend_close(s->b);
    tokenizer_destroy(s->tok);
    config_destroy(s->cfg);
    free(s->run_dir);
    memset(s, 0, sizeof *s);
}

int setup_leave(status st, int code, const char *command)
{
    if (world == NULL || world->size == 1) {
        if (st != ST_OK) fprintf(stderr, "codedance %s: %s\n", command, fail_message());
        comm_close(world);
        return code;
    }
    /* Most failures are every rank's (a config, a missing file): give the others a moment to get here. */
    bool met = comm_meet(world, st == ST_OK ? (double)INFINITY : 3.0);
    if (met) st = comm_agree(world, st);
    if (st != ST_OK && (!met || world->rank == 0)) fprintf(stderr, "codedance %s: %s\n", command, fail_message());
    if (!met) {
        fflush(stdout);
        comm_abort(world, code);
    }
    comm_close(world);
    return st != ST_OK && code == 0 ? 3 : code;
}
