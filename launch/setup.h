/* The wiring every command shares: config -> ranks, device, model, tokenizer, chat, image processor, sandbox. */
#ifndef LAUNCH_SETUP_H
#define LAUNCH_SETUP_H

#include "core/comm.h"
#include "core/config.h"
#include "core/model.h"
#include "data/chat.h"
#include "data/image.h"
#include "sandbox/box.h"

typedef struct setup_opts {
    /* run */    char *name, *dir; int64_t seed; int log_level;
    /* device */ char *device; int64_t threads; char *isa;
    /* model */  char *model_path; char *default_system;
} setup_opts;
extern const cfg_field run_fields[], device_fields[], model_fields[];

typedef enum setup_need { SETUP_MODEL = 1, SETUP_GRADIENTS = 2, SETUP_BOXES = 4 } setup_need;

typedef struct setup {
    config *cfg;
    setup_opts o;
    comm *world;
    backend *b;
    model *m;
    tokenizer *tok;
    chat chat;
    image_processor ip;
    box_pool *boxes; /* NULL unless SETUP_BOXES */
} setup;

/* model: a Hugging Face directory, overrides model.path when not NULL. The config's run, device, model, sandbox sections
 * are bound here; the command binds its own and calls config_finish before anything big is allocated: so this is two steps. */
status setup_config(setup *s, const char *const *files, int n_files, const char *const *sets, int n_sets);
status setup_open(setup *s, int need, const char *model);
void setup_close(setup *s);

#endif
