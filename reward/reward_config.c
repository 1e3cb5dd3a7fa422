#include <stddef.h>

#include "reward/reward.h"

static const char *const bat_choices[] = {"published", "fixed", "none", "naive", NULL};
static const char *const verifier_choices[] = {"exact", "number", "choice", "box_iou", NULL};
static const char *const normalize_choices[] = {"none", "batch", NULL};

#define AT(f) offsetof(reward_opts, f)
const cfg_field reward_fields[] = {
    {.key = "bat", .type = CFG_CHOICE, .offset = AT(bat), .dflt = "fixed", .choices = bat_choices,
     .help = "Tool term of the reward: published (arXiv 2512.17312 as coded), fixed (a failed call never pays), none, or "
             "naive (d = 1)."},
    {.key = "verifier", .type = CFG_CHOICE, .offset = AT(verifier), .dflt = "exact", .choices = verifier_choices,
     .help = "Verifier of rows that name none."},
    {.key = "w_format", .type = CFG_FLOAT, .offset = AT(w_format), .dflt = "0.2", .min = 0, .max = 10,
     .help = "Weight of the format term, which is 0 or -1."},
    {.key = "gamma", .type = CFG_FLOAT, .offset = AT(gamma), .dflt = "4", .min = 0, .max = 100,
     .help = "Steepness of d = (1 + tanh(gamma (0.5 - mu))) / 2 - delta."},
    {.key = "delta", .type = CFG_FLOAT, .offset = AT(delta), .dflt = "0.2", .min = -1, .max = 1,
     .help = "Offset of d: above 0 calls cost something where the group already succeeds."},
    {.key = "c_right", .type = CFG_FLOAT, .offset = AT(c_right), .dflt = "1.5", .min = 0, .max = 100,
     .help = "Case weight of the tool term when the answer is right."},
    {.key = "c_wrong", .type = CFG_FLOAT, .offset = AT(c_wrong), .dflt = "0.5", .min = 0, .max = 100,
     .help = "Case weight of the tool term when the answer is wrong."},
    {.key = "math_acc", .type = CFG_FLOAT, .offset = AT(math_acc), .dflt = "1.2", .min = 0, .max = 100,
     .help = "Weight of accuracy for rows of domain math (1 for the others)."},
    {.key = "math_format", .type = CFG_FLOAT, .offset = AT(math_format), .dflt = "0.4", .min = 0, .max = 10,
     .help = "Weight of the format term for rows of domain math."},
    {.key = "math_c_right", .type = CFG_FLOAT, .offset = AT(math_c_right), .dflt = "2", .min = 0, .max = 100,
     .help = "c_right for rows of domain math."},
    {.key = "math_c_wrong", .type = CFG_FLOAT, .offset = AT(math_c_wrong), .dflt = "1", .min = 0, .max = 100,
     .help = "c_wrong for rows of domain math."},
    {.key = "turn_penalty", .type = CFG_FLOAT, .offset = AT(turn_penalty), .dflt = "0.5", .min = 0, .max = 100,
     .help = "A failed call gives its turn minus this."},
    {.key = "turn_discount", .type = CFG_FLOAT, .offset = AT(turn_discount), .dflt = "0.2", .min = 0, .max = 1,
     .help = "How much of the next turn's return reaches the turn before it."},
    {.key = "turn_weight", .type = CFG_FLOAT, .offset = AT(turn_weight), .dflt = "0.2", .min = 0, .max = 100,
     .help = "Weight (lambda) of the turn returns when they are added to the advantage."},
    {.key = "turn_normalize", .type = CFG_CHOICE, .offset = AT(turn_normalize), .dflt = "none",
     .choices = normalize_choices,
     .help = "Turn returns: none (as they are) or batch (z-scores over all calls of the step, as published)."},
    {.key = "number_tolerance", .type = CFG_FLOAT, .offset = AT(number_tolerance), .dflt = "0.000001", .min = 0, .max = 1,
     .help = "Relative tolerance of the verifier number."},
    {.key = NULL}};
