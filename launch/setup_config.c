#include <stddef.h>

#include "core/thread.h"
#include "launch/setup.h"
#include "reward/reward.h"
#include "rl/algo.h"
#include "rl/optim.h"
#include "rl/stage.h"
#include "rollout/engine.h"

#define AT(f) offsetof(setup_opts, f)

static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const tiers[] = {"namespaces", "rlimits", "landlock", NULL};

const cfg_field run_fields[] = {
    {"name", CFG_STRING, AT(name), "run", 0, 0, NULL, "Name of the run."},
    {"dir", CFG_STRING, AT(dir), "null", 0, 0, NULL, "Run directory; null is runs/NAME."},
    {"seed", CFG_INT, AT(seed), "0", 0, 9e15, NULL, "Seed of every random decision of the run."},
    {"log_level", CFG_CHOICE, AT(log_level), "info", 0, 0, levels, "Least important lines shown on the terminal."},
    {.key = NULL}};

const cfg_field device_fields[] = {
    {"device", CFG_STRING, AT(device), "cpu", 0, 0, NULL, "Where the model runs: cpu, cuda (one per rank) or cuda:N."},
    {"threads", CFG_INT, AT(threads), "0", 0, 4096, NULL, "Threads per rank on the CPU; 0 is the usable CPUs shared by the ranks of the machine."},
    {"isa", CFG_STRING, AT(isa), "auto", 0, 0, NULL, "Instruction set of the CPU kernels: auto, avx512, avx2 or generic; all give the same bits."},
    {.key = NULL}};

const cfg_field model_fields[] = {
    {"path", CFG_STRING, AT(model_path), "null", 0, 0, NULL, "Hugging Face directory of the model to start from."},
    {"default_system", CFG_STRING, AT(default_system), "null", 0, 0, NULL,
     "System message put in front of conversations that have none; null is none."},
    {.key = NULL}};

const cfg_field sandbox_fields[] = {
    {"min_tier", CFG_CHOICE, AT(min_tier), "rlimits", 0, 0, tiers,
     "Weakest isolation accepted: namespaces (with memory control groups), rlimits (namespaces without them), landlock (no namespaces)."},
    {"imports", CFG_STRINGS, AT(imports), "[numpy, PIL.Image]", 0, 0, NULL, "Python modules loaded once and shared by all boxes."},
    {"preset", CFG_STRING, AT(preset), "\"\"", 0, 0, NULL, "Python run in every new box before the first turn."},
    {"spares", CFG_INT, AT(spares), "4", 0, 256, NULL, "Boxes started ahead of need."},
    {"max_live", CFG_INT, AT(max_live), "256", 1, 65536, NULL, "Trajectories that may hold a box at once on each rank."},
    {"max_starting", CFG_INT, AT(max_starting), "0", 0, 1024, NULL, "Boxes starting at once; 0 is twice the CPUs."},
    {"wall_s", CFG_FLOAT, AT(limits.wall_s), "10", 0.05, 3600, NULL, "Seconds of real time per turn before KeyboardInterrupt."},
    {"wall_grace_s", CFG_FLOAT, AT(limits.wall_grace_s), "1", 0, 60, NULL, "Further seconds before the box is killed."},
    {"cpu_s", CFG_FLOAT, AT(limits.cpu_s), "10", 0.05, 3600, NULL, "Seconds of CPU time per turn."},
    {"memory_mib", CFG_INT, AT(limits.memory_mib), "1024", 64, 1 << 20, NULL, "Memory of a box, in MiB."},
    {"tmp_mib", CFG_INT, AT(limits.tmp_mib), "64", 1, 1 << 16, NULL, "Files a box may hold in /tmp, in MiB."},
    {"output_kib_kept", CFG_INT, AT(limits.output_kib_kept), "32", 1, 1 << 14, NULL, "Printed text kept per turn (head and tail), in KiB."},
    {"output_kib_max", CFG_INT, AT(limits.output_kib_max), "8192", 1, 1 << 20, NULL, "Printed text per turn before the box is killed, in KiB."},
    {"code_kib", CFG_INT, AT(limits.code_kib), "256", 1, 1 << 14, NULL, "Longest code of one turn, in KiB."},
    {"pids", CFG_INT, AT(limits.pids), "64", 1, 4096, NULL, "Processes and threads of a box."},
    {"images_per_turn", CFG_INT, AT(limits.images_per_turn), "8", 0, 64, NULL, "Pictures one turn may return."},
    {"image_max_pixels", CFG_INT, AT(limits.image_max_pixels), "16777216", 1, 1 << 28, NULL, "Pixels of one returned picture."},
    {"image_max_side", CFG_INT, AT(limits.image_max_side), "8192", 1, 32768, NULL, "Longest side of a returned picture, in pixels."},
    {.key = NULL}};

const cfg_section config_sections[] = {
    {"run", run_fields},         {"device", device_fields},
    {"model", model_fields},     {"sandbox", sandbox_fields},
    {"rollout", rollout_fields}, {"reward", reward_fields},
    {"train", train_fields},     {"warmup", warmup_fields},
    {"optim_warmup", optim_warmup_fields}, {"sft", sft_fields},
    {"optim_sft", optim_sft_fields},       {"rl", rl_fields},
    {"rl", algo_fields},         {"optim_rl", optim_rl_fields},
    {"eval", eval_fields},       {"check", check_fields},
    {NULL, NULL}};

void setup_box_opts(const setup_opts *o, box_opts *out, const char **imports_out)
{
    static const box_tier lowest[] = {BOX_T0, BOX_T1, BOX_T2};
    for (int i = 0; i < o->imports.n; i++) imports_out[i] = o->imports.v[i];
    imports_out[o->imports.n] = NULL;
    *out = (box_opts){.limits = o->limits, .min_tier = lowest[o->min_tier], .imports = imports_out,
                      .preset = o->preset != NULL && o->preset[0] != '\0' ? o->preset : NULL, .spares = (int)o->spares,
                      .max_live = (int)o->max_live,
                      .max_starting = o->max_starting > 0 ? (int)o->max_starting : 2 * thread_cpus()};
}
