/* Forced openings (evaluation only): the first turn begins with one of some given texts. Where they differ, the policy
 * chooses among what they allow; where they agree, tokens are taken without asking it. */
#ifndef ROLLOUT_OPENING_H
#define ROLLOUT_OPENING_H

#include "core/config.h"
#include "data/tokenizer.h"

enum { OPENING_MAX = 32 };

typedef struct opening {
    int n, longest; /* texts, tokens of the longest */
    ids text[OPENING_MAX];
} opening;

/* Where a turn is inside its opening. alive: texts it still agrees with, one bit each; 0: the opening is over. */
typedef struct opening_at {
    uint32_t alive;
    int depth;
} opening_at;

/* key names the texts in messages. */
status opening_make(opening *o, const tokenizer *t, const cfg_strings *texts, const char *key);
void opening_free(opening *o);
opening_at opening_start(const opening *o);
int32_t opening_forced(const opening *o, opening_at at); /* the only token allowed; -1: several are */
void opening_take(const opening *o, opening_at *at, int32_t token);
void opening_ban(const opening *o, opening_at at, int vocab, uint8_t *ban); /* all but the tokens allowed */

#endif
