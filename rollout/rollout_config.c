#include "rollout/engine.h"

#define AT(member) offsetof(rollout_opts, member)

static const char *const forces[] = {"free", "direct", "tool", NULL};
static const char *const tool_errors[] = {"class", "message", NULL};

const cfg_field rollout_fields[] = {
    {"group", CFG_INT, AT(group), "8", 1, 1024, NULL, "Samples per prompt."},
    {"temperature", CFG_FLOAT, AT(temperature), "1.0", 0, 100, NULL, "Sampling temperature; 0 is greedy."},
    {"max_turns", CFG_INT, AT(max_turns), "5", 0, 64, NULL,
     "Code turns executed at most per trajectory; one more generation may answer."},
    {"max_new_tokens", CFG_INT, AT(max_new_tokens), "1024", 1, 1 << 20, NULL,
     "Tokens the model may write in one turn; a longer turn is cut and not executed."},
    {"max_tokens", CFG_INT, AT(max_tokens), "8192", 8, 1 << 20, NULL,
     "Tokens of a whole trajectory, prompt, images and tool results included."},
    {"max_images", CFG_INT, AT(max_images), "16", 0, 1024, NULL,
     "Images of a whole trajectory, the prompt's included."},
    {"kv_tokens", CFG_INT, AT(kv_tokens), "65536", 64, 1 << 30, NULL,
     "Tokens the KV pool holds; when it is full the youngest sequences are prefilled again later."},
    {"max_batch", CFG_INT, AT(max_batch), "64", 1, 65536, NULL, "Sequences in one forward pass."},
    {"prefill_tokens", CFG_INT, AT(prefill_tokens), "2048", 16, 1 << 20, NULL,
     "Tokens of prompts and tool results in one forward pass; at least those of the largest picture."},
    {"force", CFG_CHOICE, AT(force), "free", 0, 0, forces,
     "For evaluation: the first turn begins with one of direct_openings or tool_openings, chosen by the model."},
    {"direct_openings", CFG_STRINGS, AT(direct_openings), "[]", 0, 0, NULL,
     "Beginnings of a turn that answers at once, such as '<think>I can see it.</think><answer>'."},
    {"tool_openings", CFG_STRINGS, AT(tool_openings), "[]", 0, 0, NULL,
     "Beginnings of a turn that runs code, such as '<think>Zoom in.</think><code>'."},
    {"shuffle_tools", CFG_BOOL, AT(shuffle_tools), "false", 0, 0, NULL,
     "For evaluation: exchange the returned images between trajectories (answers that need them must fail)."},
    {"tool_text_kib", CFG_INT, AT(tool_text_kib), "8", 1, 1024, NULL,
     "Longest tool text given to the model, in KiB; the rest is cut with a notice."},
    {"tool_error", CFG_CHOICE, AT(tool_error), "class", 0, 0, tool_errors,
     "What a failed call says: class gives 'Error: NameError', message adds the output so far, text and line."},
    {.key = NULL},
};

const char *rollout_force_name(const rollout_opts *o) { return forces[o->force]; }
