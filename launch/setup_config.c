#include <stddef.h>

#include "launch/setup.h"
#include "reward/reward.h"
#include "rl/algo.h"
#include "rl/optim.h"
#include "rl/stage.h"
#include "rollout/engine.h"
#include "sandbox/box_config.h"

#define AT(f) offsetof(setup_opts, f)

static const char *const levels[] = {"debug", "info", "warn", "error", NULL};

const cfg_field run_fields[] = {
    {"name", CFG_STRING, AT(name), "run", 0, 0, NULL, "Name of the run."},
    {"dir", CFG_STRING, AT(dir), "null", 0, 0, NULL, "Run directory; null is runs/NAME."},
    {"seed", CFG_INT, AT(seed), "0", 0, 9e15, NULL, "Seed of every random decision of the run."},
    {"log_level", CFG_CHOICE, AT(log_level), "info", 0, 0, levels, "Least important lines shown on the terminal."},
    {.key = NULL}};

static const char *const precisions[] = {"auto", "fp32", "bf16", NULL};

const cfg_field device_fields[] = {
    {"device", CFG_STRING, AT(device), "cpu", 0, 0, NULL,
     "Where the model runs: cpu, cuda (one GPU per rank), cuda:N, or auto: a GPU if there is one, and why not if not."},
    {"precision", CFG_CHOICE, AT(precision), "auto", 0, 0, precisions,
     "What activations are kept and multiplied in: bf16 (GPU only) or fp32 (the same bits on GPU and CPU); auto is bf16 "
     "on a GPU. Weights, gradients and optimizer states have fp32 masters either way."},
    {"threads", CFG_INT, AT(threads), "0", 0, 4096, NULL,
     "Threads per rank on the CPU; 0 is the usable CPUs shared by the ranks of the machine."},
    {"isa", CFG_STRING, AT(isa), "auto", 0, 0, NULL,
     "Instruction set of the CPU kernels: auto, avx512, avx2 or generic; all give the same bits."},
    {.key = NULL}};

static const char *const dtypes[] = {"fp32", "bf16", NULL};

const cfg_field model_fields[] = {
    {"path", CFG_STRING, AT(model_path), "null", 0, 0, NULL, "Hugging Face directory of the model to start from."},
    {"dtype", CFG_CHOICE, AT(dtype), "fp32", 0, 0, dtypes,
     "What weights are kept in: bf16 takes half the memory and is for inference only; training needs fp32."},
    {"default_system", CFG_STRING, AT(default_system), "null", 0, 0, NULL,
     "System message put in front of conversations that have none; null is the chat style's own, \"\" is none."},
    {"image_processor", CFG_CHOICE, AT(image_processor), "pil", 0, 0, image_variant_names,
     "Whose pixels: pil (Pillow before 13), pil13 (Pillow from 13 on, which resizes tall pictures in the other order) "
     "or "
     "torchvision (what transformers from 4.54 on and vLLM use by default). They differ by 1 in a few bytes of a "
     "hundred; "
     "use the one that the model will be served with."},
    {"chat_style", CFG_CHOICE, AT(chat_style), "auto", 0, 0, chat_style_names,
     "How conversations are rendered; auto recognises the checkpoint's chat template."},
    {"enable_thinking", CFG_BOOL, AT(enable_thinking), "true", 0, 0, NULL,
     "False: a hybrid model (chat style qwen3) is prompted with an empty thought."},
    {"add_vision_id", CFG_BOOL, AT(add_vision_id), "false", 0, 0, NULL,
     "Whether images are counted in the text: Picture 1: before the first."},
    {.key = NULL}};

const cfg_section config_sections[] = {{"run", run_fields},
                                       {"device", device_fields},
                                       {"model", model_fields},
                                       {"sandbox", box_fields},
                                       {"rollout", rollout_fields},
                                       {"reward", reward_fields},
                                       {"train", train_fields},
                                       {"warmup", warmup_fields},
                                       {"optim_warmup", optim_warmup_fields},
                                       {"sft", sft_fields},
                                       {"optim_sft", optim_sft_fields},
                                       {"rl", rl_fields},
                                       {"rl", algo_fields},
                                       {"optim_rl", optim_rl_fields},
                                       {"eval", eval_fields},
                                       {"check", check_fields},
                                       {NULL, NULL}};
