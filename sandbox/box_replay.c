#include <stdlib.h>
#include <string.h>

#include "sandbox/client.h"

/* Eight bytes a step: a turn may return 48 MB of pixels. It compares honest runs; nothing is gained by a collision. */
static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    const unsigned char *s = p;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t w = 0;
        memcpy(&w, s + i, n - i < 8 ? n - i : 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return (h ^ n) * 0x9e3779b97f4a7c15u;
}

uint64_t replay_print(const box_result *r)
{
    const int32_t head[] = {(int32_t)r->verdict, r->code, r->truncated, r->n_image};
    uint64_t h = mix(0, head, sizeof head);
    h = mix(h, r->text, strlen(r->text));
    for (int i = 0; i < r->n_image; i++) {
        const int32_t size[] = {r->images[i].w, r->images[i].h};
        h = mix(h, size, sizeof size);
        h = mix(h, r->images[i].rgb, 3 * (size_t)size[0] * (size_t)size[1]);
    }
    return h;
}

void replay_keep(box *b, uint64_t print)
{
    if (b->has_state && !b->n_past) return; /* it was too much once */
    b->past_bytes += b->len;
    past_turn *more = b->past_bytes > PAST_BYTES ? NULL : realloc(b->past, sizeof *more * (size_t)(b->n_past + 1));
    if (!more) {
        replay_forget(b);
        return;
    }
    b->past = more;
    more[b->n_past++] = (past_turn){.turn = b->turn, .code = b->code, .len = b->len, .print = print};
    b->code = NULL;
}

void replay_forget(box *b)
{
    for (int i = 0; i < b->n_past; i++) free(b->past[i].code);
    free(b->past);
    b->past = NULL;
    b->n_past = b->at = 0;
}
