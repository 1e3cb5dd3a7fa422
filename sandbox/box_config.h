/* Section `sandbox` of the configuration. */
#ifndef SANDBOX_BOX_CONFIG_H
#define SANDBOX_BOX_CONFIG_H

#include "core/config.h"
#include "sandbox/box.h"

typedef struct box_config {
    double wall_s, wall_grace_s, cpu_s;
    int64_t memory_mib, tmp_mib, pids, output_kib, output_kib_max, code_kib, images_per_turn, image_max_pixels,
        image_max_side;
    int min_tier;
    cfg_strings imports;
    char *preset, *python, *socket;
    int64_t spares, max_live, max_starting;
    const char *names[33]; /* filled by box_config_opts */
} box_config;
extern const cfg_field box_fields[];

/* o borrows from c. ST_EINVAL for pairs that make no sense. */
status box_config_opts(box_config *c, const config *cfg, box_opts *o);
/* box_pool_create; a failure that is some key's fault says where that key was set. */
status box_config_pool(const config *cfg, const box_opts *o, box_pool **out);

#endif
