#include <stddef.h>

#include "rl/stage.h"

#define AT(type, f) offsetof(type, f)

const cfg_field train_fields[] = {
    {.key = "stages", .type = CFG_STRINGS, .offset = AT(train_opts, stages), .dflt = "[sft, rl]",
     .help = "Stages in order: warmup, sft, rl."},
    {.key = "arm", .type = CFG_STRING, .offset = AT(train_opts, arm), .dflt = "main",
     .help = "Label of this run in evaluation files and reports."},
    {.key = "checkpoint_every", .type = CFG_INT, .offset = AT(train_opts, checkpoint_every), .dflt = "0", .min = 0, .max = 1e9,
     .help = "Steps between checkpoints within a stage; 0 = only at the end of a stage."},
    {.key = "keep", .type = CFG_INT, .offset = AT(train_opts, keep), .dflt = "2", .min = 1, .max = 1e6,
     .help = "Newest checkpoints kept."},
    {.key = "max_tokens", .type = CFG_INT, .offset = AT(train_opts, max_tokens), .dflt = "8192", .min = 16, .max = 1e7,
     .help = "Tokens of one micro-batch; bounds the activation memory and the longest sequence."},
    {.key = "max_patches", .type = CFG_INT, .offset = AT(train_opts, max_patches), .dflt = "16384", .min = 4, .max = 1e8,
     .help = "Image patches of one micro-batch."},
    {.key = "log_every", .type = CFG_INT, .offset = AT(train_opts, log_every), .dflt = "10", .min = 1, .max = 1e9,
     .help = "Steps between console lines of warmup and sft; rl prints every step."},
    {.key = NULL}};

const cfg_field warmup_fields[] = {
    {.key = "data", .type = CFG_STRING, .offset = AT(warmup_opts, data), .dflt = "\"\"",
     .help = "Pictures with attribute words (rows with x_labels): the stand-in for a pretrained vision tower."},
    {.key = "steps", .type = CFG_INT, .offset = AT(warmup_opts, steps), .dflt = "800", .min = 1, .max = 1e9,
     .help = "Updates of the vision warm-up."},
    {.key = "batch", .type = CFG_INT, .offset = AT(warmup_opts, batch), .dflt = "32", .min = 1, .max = 1e6,
     .help = "Pictures per update."},
    {.key = "scale", .type = CFG_FLOAT, .offset = AT(warmup_opts, scale), .dflt = "12", .min = 0.01, .max = 1000,
     .help = "Logits are scale * cosine of pooled picture and word embedding."},
    {.key = NULL}};

const cfg_field sft_fields[] = {
    {.key = "data", .type = CFG_STRING, .offset = AT(sft_opts, data), .dflt = "\"\"",
     .help = "Conversations to imitate: a .jsonl file, a .h5 shard or a directory of shards."},
    {.key = "steps", .type = CFG_INT, .offset = AT(sft_opts, steps), .dflt = "1000", .min = 1, .max = 1e9,
     .help = "Updates of supervised fine-tuning."},
    {.key = "batch", .type = CFG_INT, .offset = AT(sft_opts, batch), .dflt = "32", .min = 1, .max = 1e6,
     .help = "Conversations per update."},
    {.key = NULL}};

const cfg_field rl_fields[] = {
    {.key = "data", .type = CFG_STRING, .offset = AT(rl_opts, data), .dflt = "\"\"",
     .help = "Prompts with answers: a .jsonl file, a .h5 shard or a directory of shards."},
    {.key = "steps", .type = CFG_INT, .offset = AT(rl_opts, steps), .dflt = "130", .min = 1, .max = 1e9,
     .help = "Steps of reinforcement learning; each rolls out its prompts once."},
    {.key = "prompts", .type = CFG_INT, .offset = AT(rl_opts, prompts), .dflt = "8", .min = 1, .max = 1e6,
     .help = "Prompts per step, rollout.group rollouts each; a multiple of ranks * minibatches."},
    {.key = "minibatches", .type = CFG_INT, .offset = AT(rl_opts, minibatches), .dflt = "2", .min = 1, .max = 1e6,
     .help = "Updates per pass over a step's rollouts."},
    {.key = "epochs", .type = CFG_INT, .offset = AT(rl_opts, epochs), .dflt = "1", .min = 1, .max = 1000,
     .help = "Passes over a step's rollouts."},
    {.key = NULL}};

const cfg_field eval_fields[] = {
    {.key = "data", .type = CFG_STRING, .offset = AT(evaluate_opts, data), .dflt = "\"\"",
     .help = "Prompts with answers to measure on; empty = no evaluation while training."},
    {.key = "every", .type = CFG_INT, .offset = AT(evaluate_opts, every), .dflt = "0", .min = 0, .max = 1e9,
     .help = "Steps of sft and rl between evaluations; 0 = only at the end of a stage."},
    {.key = "limit", .type = CFG_INT, .offset = AT(evaluate_opts, limit), .dflt = "0", .min = 0, .max = 1e12,
     .help = "Rows measured; 0 = all."},
    {.key = "keep", .type = CFG_INT, .offset = AT(evaluate_opts, keep), .dflt = "4", .min = 0, .max = 1e6,
     .help = "Trajectories of each category kept with their pictures."},
    {.key = "batch", .type = CFG_INT, .offset = AT(evaluate_opts, batch), .dflt = "64", .min = 1, .max = 1e6,
     .help = "Prompts rolled out together."},
    {.key = "temperature", .type = CFG_FLOAT, .offset = AT(evaluate_opts, temperature), .dflt = "1", .min = 0, .max = 10,
     .help = "Sampling temperature of evaluations; 0 = greedy."},
    {.key = NULL}};

static const char *const when_choices[] = {"off", "first", "every", NULL};
const cfg_field check_fields[] = {
    {.key = "logp", .type = CFG_CHOICE, .offset = AT(check_opts, logp), .dflt = "every", .choices = when_choices,
     .help = "Rollout log-probs must equal the trainer's bit for bit before a step's first update: off, first step only, "
             "or every step."},
    {.key = NULL}};
