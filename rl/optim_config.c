#include <math.h>
#include <stddef.h>

#include "rl/optim.h"

static const char *const schedule_choices[] = {"constant", "linear", "cosine", NULL};

#define AT(f) offsetof(optim_opts, f)
/* The keys of one section; the arguments are what differs between the stages. */
#define OPTIM_TABLE(lr_, beta1_, beta2_, decay_, schedule_, warmup_, min_)                                           \
    {                                                                                                                \
        {.key = "lr",                                                                                                \
         .type = CFG_FLOAT,                                                                                          \
         .offset = AT(lr),                                                                                           \
         .dflt = (lr_),                                                                                              \
         .min = 0,                                                                                                   \
         .max = 10,                                                                                                  \
         .help = "Peak learning rate of AdamW."},                                                                    \
            {.key = "beta1",                                                                                         \
             .type = CFG_FLOAT,                                                                                      \
             .offset = AT(beta1),                                                                                    \
             .dflt = (beta1_),                                                                                       \
             .min = 0,                                                                                               \
             .max = 0.9999,                                                                                          \
             .help = "Decay of the first moment."},                                                                  \
            {.key = "beta2",                                                                                         \
             .type = CFG_FLOAT,                                                                                      \
             .offset = AT(beta2),                                                                                    \
             .dflt = (beta2_),                                                                                       \
             .min = 0,                                                                                               \
             .max = 0.99999,                                                                                         \
             .help = "Decay of the second moment."},                                                                 \
            {.key = "eps",                                                                                           \
             .type = CFG_FLOAT,                                                                                      \
             .offset = AT(eps),                                                                                      \
             .dflt = "0.00000001",                                                                                   \
             .min = 0,                                                                                               \
             .max = 1,                                                                                               \
             .help = "Added to the root of the second moment."},                                                     \
            {.key = "weight_decay",                                                                                  \
             .type = CFG_FLOAT,                                                                                      \
             .offset = AT(weight_decay),                                                                             \
             .dflt = (decay_),                                                                                       \
             .min = 0,                                                                                               \
             .max = 10,                                                                                              \
             .help = "Decoupled weight decay of matrices; norms and biases have none."},                             \
            {.key = "clip_norm",                                                                                     \
             .type = CFG_FLOAT,                                                                                      \
             .offset = AT(clip_norm),                                                                                \
             .dflt = "1",                                                                                            \
             .min = 0,                                                                                               \
             .max = 1e6,                                                                                             \
             .help = "Largest global gradient norm; 0 = no clipping."},                                              \
            {.key = "grad_shards",                                                                                   \
             .type = CFG_INT,                                                                                        \
             .offset = AT(grad_shards),                                                                              \
             .dflt = "4",                                                                                            \
             .min = 1,                                                                                               \
             .max = 4096,                                                                                            \
             .help =                                                                                                 \
                 "Parts the global batch is cut into (a power of two, a multiple of the ranks): fixes the order of " \
                 "the gradient sum for any rank count."},                                                            \
            {.key = "schedule",                                                                                      \
             .type = CFG_CHOICE,                                                                                     \
             .offset = AT(schedule),                                                                                 \
             .dflt = (schedule_),                                                                                    \
             .choices = schedule_choices,                                                                            \
             .help = "Learning rate after the warm-up."},                                                            \
            {.key = "warmup_steps",                                                                                  \
             .type = CFG_INT,                                                                                        \
             .offset = AT(warmup_steps),                                                                             \
             .dflt = (warmup_),                                                                                      \
             .min = 0,                                                                                               \
             .max = 1e9,                                                                                             \
             .help = "Steps of linear warm-up."},                                                                    \
            {.key = "min_lr",                                                                                        \
             .type = CFG_FLOAT,                                                                                      \
             .offset = AT(min_lr),                                                                                   \
             .dflt = (min_),                                                                                         \
             .min = 0,                                                                                               \
             .max = 1,                                                                                               \
             .help = "Share of lr left at the last step."},                                                          \
        {                                                                                                            \
            .key = NULL                                                                                              \
        }                                                                                                            \
    }

const cfg_field optim_warmup_fields[] = OPTIM_TABLE("0.0015", "0.9", "0.98", "0.02", "linear", "20", "0.2");
const cfg_field optim_sft_fields[] = OPTIM_TABLE("0.002", "0.9", "0.98", "0.02", "cosine", "100", "0");
const cfg_field optim_rl_fields[] = OPTIM_TABLE("0.0002", "0.9", "0.98", "0.02", "linear", "0", "0.1");

double optim_lr(const optim_opts *o, int64_t step, int64_t total)
{
    if (step < o->warmup_steps) return o->lr * (double)(step + 1) / (double)o->warmup_steps;
    if (o->schedule == 0) return o->lr;
    double span = (double)(total - o->warmup_steps);
    double x = span > 0 ? fmin(1, (double)(step - o->warmup_steps) / span) : 1;
    double left = o->schedule == 1 ? 1 - x : 0.5 * (1 + cos(x * 3.14159265358979323846));
    return o->lr * (o->min_lr + (1 - o->min_lr) * left);
}
