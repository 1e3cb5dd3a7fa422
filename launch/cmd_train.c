#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/log.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/setup.h"
#include "rl/trainer.h"

static volatile sig_atomic_t stop;

/* The first signal asks, the second one ends the process as usual. */
static void ask_to_stop(int sig)
{
    stop = 1;
    signal(sig, SIG_DFL);
}

/* Every directory of the path. */
static status make_dirs(const char *path)
{
    char *p = strdup(path);
    CHECK(p != NULL);
    for (char *at = p + 1;; at++) {
        if (*at != '/' && *at != '\0') continue;
        char c = *at;
        *at = '\0';
        if (mkdir(p, 0777) != 0 && errno != EEXIST) {
            status st = FAIL(ST_EIO, "%s: %s", p, strerror(errno));
            free(p);
            return st;
        }
        *at = c;
        if (c == '\0') break;
    }
    free(p);
    return ST_OK;
}

/* The run directory with the resolved config and the log. */
static status open_run_dir(setup *s)
{
    status st = ST_OK;
    char path[4096];
    if (s->world->rank == 0) {
        st = make_dirs(s->o.dir);
        snprintf(path, sizeof path, "%s/config.yaml", s->o.dir);
        FILE *f = st == ST_OK ? fopen(path, "w") : NULL;
        char *text = config_dump(s->cfg, true);
        if (st == ST_OK && (f == NULL || fputs(text, f) == EOF)) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
        if (f != NULL && fclose(f) != 0 && st == ST_OK) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
        free(text);
        snprintf(path, sizeof path, "%s/log.txt", s->o.dir);
        if (st == ST_OK) st = log_open_file(path);
    }
    return comm_agree(s->world, st);
}

static status train(setup *s, trainer *t, const char *dir, bool resume)
{
    TRY(setup_finish(s));
    TRY(open_run_dir(s));
    TRY(setup_open(s, SETUP_MODEL | SETUP_GRADIENTS | (trainer_needs_boxes(t) ? SETUP_BOXES : 0), dir));
    log_info("%s: %.2f M parameters on %s, %d rank%s, run directory %s", s->o.model_path,
             1e-6 * (double)model_param_count(s->m), s->b->describe, s->world->size, s->world->size == 1 ? "" : "s",
             s->o.dir);
    if (s->boxes != NULL) log_info("sandbox: tier %s", box_tier_name(box_pool_tier(s->boxes)));
    trainer_parts p = {.b = s->b,
                       .world = s->world,
                       .m = s->m,
                       .c = &s->chat,
                       .ip = &s->ip,
                       .boxes = s->boxes,
                       .run_dir = s->o.dir,
                       .side_dir = s->o.model_path,
                       .seed = (uint64_t)s->o.seed,
                       .stop = &stop};
    signal(SIGINT, ask_to_stop);
    signal(SIGTERM, ask_to_stop);
    return trainer_run(t, &p, resume);
}

status cmd_train(int argc, char **argv)
{
    arg_list files = {0}, sets = {0};
    const char *dir = NULL, *device = NULL;
    bool resume = false, helped = false;
    const arg table[] = {
        {"device", ARG_STR, &device, "auto|cpu|cuda:N", "where the model runs (device.device)"},
        {"set", ARG_LIST, &sets, "SECTION.KEY=VALUE", "override one key"},
        {"model", ARG_STR, &dir, "DIR", "the Hugging Face directory to start from; overrides model.path"},
        {"resume", ARG_FLAG, &resume, NULL, "go on from the newest checkpoint of the run directory"},
        {.name = NULL}};
    TRY(args_parse(
        argc, argv, "runs the stages of a config: train CONFIG...",
        "codedance train configs/demo.yaml --set run.seed=1\n  mpirun -np 2 codedance train configs/demo.yaml --resume",
        table, &files, &helped));
    if (helped) return ST_OK;
    TRY(setup_device(&sets, device));
    setup s = {0};
    trainer *t = NULL;
    status st = setup_config(&s, files.v, files.n, sets.v, sets.n);
    if (st == ST_OK) st = trainer_create(&t, s.world, s.cfg);
    if (st == ST_OK) st = train(&s, t, dir, resume);
    trainer_destroy(t);
    setup_close(&s);
    return st;
}
