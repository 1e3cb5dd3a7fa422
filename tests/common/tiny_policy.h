/* A tiny vision-language model with real layers that nevertheless writes sensible turns: its tokenizer has whole turns
 * as single added tokens, and its head is a table "after this token, one of those". Random, diverse, and fast. */
#ifndef TESTS_TINY_POLICY_H
#define TESTS_TINY_POLICY_H

#include "core/model.h"
#include "data/chat.h"

/* One token each; after any of them the policy ends its turn. */
#define TINY_ZOOM "<think>Zoom in.</think><code>\n```python\nshow(img.crop((0,0,20,20)))\n```\n</code>"
#define TINY_PRINT "<think>Count.</think><code>\n```python\nprint(6*7)\n```\n</code>"
#define TINY_FAIL "<think>Count.</think><code>\n```python\nundefined_name\n```\n</code>"
#define TINY_QUIET "<think>Count.</think><code>\n```python\nx=1\n```\n</code>"
#define TINY_ANSWER "<think>I see.</think><answer>7</answer>"
#define TINY_BABBLE "la la" /* followed by itself, mostly */

typedef struct tiny_policy {
    char dir[64];
    tokenizer *tok;
    chat chat;
    image_processor ip; /* every square picture is 56x56: 4 tokens */
    backend *b;
    model *m;
} tiny_policy;

/* Qwen2.5-VL. CHECKs success. */
void tiny_policy_open(tiny_policy *t, int threads, uint64_t seed);
/* Or Qwen3-VL, with DeepStack into both decoder layers. */
void tiny_policy_open_as(tiny_policy *t, model_family family, int threads, uint64_t seed);
void tiny_policy_close(tiny_policy *t);

#endif
