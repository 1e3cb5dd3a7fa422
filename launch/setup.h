/* The wiring every command shares: config -> ranks, device, model, tokenizer, chat, image processor, sandbox. */
#ifndef LAUNCH_SETUP_H
#define LAUNCH_SETUP_H

#include "core/comm.h"
#include "core/config.h"
#include "core/model.h"
#include "data/chat.h"
#include "data/image.h"
#include "launch/args.h"
#include "sandbox/box_config.h"

typedef struct setup_opts {
    /* run */ char *name, *dir;
    int64_t seed;
    int log_level;
    /* device */ char *device;
    int64_t threads;
    int precision; /* 0 auto, 1 fp32, 2 bf16 */
    char *isa;
    /* model */ char *model_path;
    int dtype; /* 0 fp32, 1 bf16 */
    char *default_system;
    int image_processor; /* an image_variant */
    int chat_style; /* index into chat_style_names */
    bool enable_thinking, add_vision_id;
} setup_opts;
extern const cfg_field run_fields[], device_fields[], model_fields[];
/* Every section of a config with its table, in the order of configs/default.yaml. */
extern const cfg_section config_sections[];

typedef enum setup_need { SETUP_MODEL = 1, SETUP_GRADIENTS = 2, SETUP_BOXES = 4 } setup_need;

typedef struct setup {
    config *cfg;
    setup_opts o;
    box_config box;
    comm *world; /* one per process; ended by setup_leave, not by setup_close */
    backend *b;
    model_config mc;
    model *m; /* NULL unless SETUP_MODEL */
    tokenizer *tok;
    chat chat;
    image_processor ip;
    box_pool *boxes; /* NULL unless SETUP_BOXES */
    char *run_dir;   /* what o.dir points to when the config names no directory */
} setup;

/* The config's run, device, model and sandbox sections are bound here; the command binds its own and calls setup_finish
 * before anything big is allocated: so this is two steps. Both zero what they don't set: setup_close is legal after any
 * failure. Collective: a failure on one rank is a failure on all. */
status setup_config(setup *s, const char *const *files, int n_files, const char *const *sets, int n_sets);
/* The value of a command's --dtype as a line of --set; NULL adds none. */
status setup_dtype(arg_list *sets, const char *value);
/* The same of --device. The text lives as long as the program. */
status setup_device(arg_list *sets, const char *value);
/* Checks the sections this command has no use for, then that no key is unknown. */
status setup_finish(setup *s);
/* dir: a Hugging Face directory, overrides model.path when not NULL. Without SETUP_MODEL the tokenizer, the chat format
 * and the image processor are still read from it. */
status setup_open(setup *s, int need, const char *dir);
void setup_close(setup *s);

/* For main, last: prints the failure once for all ranks, ends MPI (a failure the other ranks don't know of ends the
 * whole job) and returns the exit code. */
int setup_leave(status st, int code, const char *command);

#endif
