#include "sandbox/box_config.h"

#include <stdio.h>
#include <string.h>

static const char *const tiers[] = {"T0", "T1", "T2", NULL};

#define ROW(k, t, d, lo, hi, h)                            \
    {                                                      \
#k, t, offsetof(box_config, k), d, lo, hi, NULL, h \
    }
const cfg_field box_fields[] = {
    ROW(wall_s, CFG_FLOAT, "10", 0.01, 3600, "seconds a turn may take before it is interrupted (KeyboardInterrupt)"),
    ROW(wall_grace_s, CFG_FLOAT, "1", 0.01, 60, "seconds after the interrupt until the turn is killed"),
    ROW(cpu_s, CFG_FLOAT, "10", 0.01, 3600,
        "CPU seconds of a turn, all its processes together; of one process in whole seconds"),
    ROW(memory_mib, CFG_INT, "1024", 16, 1 << 20,
        "MiB of address space a turn's process may add to what the imports use; with T0 also of all memory of a box"),
    ROW(tmp_mib, CFG_INT, "64", 1, 1 << 16, "MiB of files in a box's private /tmp"),
    ROW(pids, CFG_INT, "64", 4, 4096, "processes and threads of a box, its two own included"),
    ROW(output_kib, CFG_INT, "32", 1, 128,
        "KiB of printed text kept per turn: the first three quarters and the last quarter"),
    ROW(output_kib_max, CFG_INT, "8192", 1, 1 << 20, "KiB of printed text after which the turn is killed (OUTPUT)"),
    ROW(code_kib, CFG_INT, "256", 1, 256, "KiB of code accepted per turn"),
    ROW(images_per_turn, CFG_INT, "8", 0, 16,
        "pictures a turn may return; further ones are dropped and the result says truncated"),
    ROW(image_max_pixels, CFG_INT, "16777216", 1, 1 << 24, "pixels of a returned picture"),
    ROW(image_max_side, CFG_INT, "8192", 1, 32768, "longest side of a returned picture, pixels"),
    {"min_tier", CFG_CHOICE, offsetof(box_config, min_tier), "T1", 0, 0, tiers,
     "weakest isolation to start with: T0 namespaces and control groups, T1 namespaces, T2 Landlock and system-call "
     "filter only"},
    ROW(imports, CFG_STRINGS, "[numpy, PIL.Image]", 0, 0,
        "modules loaded once before the boxes are forked; others are imported by the code itself, slower"),
    ROW(python, CFG_STRING, "", 0, 0,
        "interpreter the boxes run, such as /home/me/venv/bin/python (CPython 3.8 or newer); empty: the built-in one"),
    ROW(socket, CFG_STRING, "", 0, 0,
        "socket of this machine's sandbox daemon (codedance boxd --listen PATH), for processes that may not make "
        "namespaces; empty: a supervisor of the program's own"),
    ROW(preset, CFG_STRING, "import numpy as np", 0, 0,
        "Python run in every box before its first turn, such as constants the code may use"),
    ROW(spares, CFG_INT, "8", 0, 1000, "boxes kept ready; each takes about 5 MiB"),
    ROW(max_live, CFG_INT, "256", 1, 4000, "boxes open at the same time"),
    ROW(max_starting, CFG_INT, "4", 1, 256, "boxes being set up at the same time; about twice the cores"),
    {0},
};

status box_config_opts(box_config *c, const config *cfg, box_opts *o)
{
    if (c->output_kib_max < c->output_kib)
        return config_fail(cfg, "sandbox", "output_kib_max", "is smaller than output_kib (%lld)",
                           (long long)c->output_kib);
    if (c->imports.n > 32) return config_fail(cfg, "sandbox", "imports", "at most 32 modules");
    if (3 * c->image_max_pixels > 64 << 20)
        return config_fail(cfg, "sandbox", "image_max_pixels", "a turn's pictures have 64 MiB: at most %d",
                           (64 << 20) / 3);
    if (c->python && c->python[0] && c->python[0] != '/')
        return config_fail(cfg, "sandbox", "python",
                           "%s: give the interpreter's whole path, such as /home/me/venv/bin/python", c->python);
    for (int i = 0; i < c->imports.n; i++) c->names[i] = c->imports.v[i];
    c->names[c->imports.n] = NULL;
    *o = (box_opts){
        .limits = {.wall_s = c->wall_s,
                   .wall_grace_s = c->wall_grace_s,
                   .cpu_s = c->cpu_s,
                   .memory_mib = c->memory_mib,
                   .tmp_mib = c->tmp_mib,
                   .output_kib_kept = c->output_kib,
                   .output_kib_max = c->output_kib_max,
                   .code_kib = c->code_kib,
                   .pids = c->pids,
                   .images_per_turn = c->images_per_turn,
                   .image_max_pixels = c->image_max_pixels,
                   .image_max_side = c->image_max_side},
        .min_tier = (box_tier)c->min_tier,
        .imports = c->names,
        .python = c->python,
        .preset = c->preset,
        .socket = c->socket,
        .spares = (int)c->spares,
        .max_live = (int)c->max_live,
        .max_starting = (int)c->max_starting,
    };
    return ST_OK;
}

status box_config_pool(const config *cfg, const box_opts *o, box_pool **out)
{
    status st = box_pool_create(out, o);
    if (st == ST_OK) return st;
    for (const cfg_field *f = box_fields; f->key; f++) {
        char start[64];
        size_t n = (size_t)snprintf(start, sizeof start, "sandbox.%s: ", f->key);
        if (strncmp(fail_message(), start, n) != 0) continue;
        (void)config_fail(cfg, "sandbox", f->key, "%s", fail_message() + n);
        break;
    }
    return st;
}
