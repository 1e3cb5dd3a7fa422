#include "rollout/opening.h"

#include <string.h>

void opening_free(opening *o)
{
    for (int i = 0; i < o->n; i++) ids_free(&o->text[i]);
    memset(o, 0, sizeof *o);
}

status opening_make(opening *o, const tokenizer *t, const cfg_strings *texts, const char *key)
{
    opening made = {0};
    if (texts->n == 0) return FAIL(ST_EINVAL, "rollout.force needs texts to begin with: set %s", key);
    if (texts->n > OPENING_MAX)
        return FAIL(ST_EINVAL, "%s has %d texts, at most %d are possible", key, texts->n, OPENING_MAX);
    for (int i = 0; i < texts->n; i++) {
        ids *l = &made.text[made.n++];
        status st = tokenizer_encode(t, texts->v[i], strlen(texts->v[i]), true, l);
        if (st == ST_OK && l->n == 0) st = FAIL(ST_EINVAL, "%s: text %d is empty", key, i + 1);
        if (st != ST_OK) {
            opening_free(&made);
            return st;
        }
        if (l->n > made.longest) made.longest = l->n;
    }
    *o = made;
    return ST_OK;
}

opening_at opening_start(const opening *o) { return (opening_at){.alive = (uint32_t)((1ull << o->n) - 1)}; }

int32_t opening_forced(const opening *o, opening_at at)
{
    int32_t only = -1;
    for (int i = 0; i < o->n; i++) {
        if (!(at.alive >> i & 1)) continue;
        int32_t token = o->text[i].v[at.depth];
        if (only >= 0 && token != only) return -1;
        only = token;
    }
    return only;
}

void opening_take(const opening *o, opening_at *at, int32_t token)
{
    bool over = false;
    for (int i = 0; i < o->n; i++) {
        if (!(at->alive >> i & 1)) continue;
        if (o->text[i].v[at->depth] != token)
            at->alive &= ~(1u << i);
        else
            over |= o->text[i].n == at->depth + 1;
    }
    at->depth++;
    if (over) at->alive = 0;
}

void opening_ban(const opening *o, opening_at at, int vocab, uint8_t *ban)
{
    memset(ban, 1, (size_t)vocab);
    for (int i = 0; i < o->n; i++)
        if (at.alive >> i & 1) ban[o->text[i].v[at.depth]] = 0;
}
