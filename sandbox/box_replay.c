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

uint64_t box_image_print(const box_image *im)
{
    const int32_t size[] = {im->w, im->h};
    return mix(mix(0, size, sizeof size), im->rgb, 3 * (size_t)im->w * (size_t)im->h);
}

uint64_t replay_print(const box_result *r)
{
    const int32_t head[] = {(int32_t)r->verdict, r->code, r->truncated, r->n_image};
    uint64_t h = mix(0, head, sizeof head);
    h = mix(h, r->text, strlen(r->text));
    for (int i = 0; i < r->n_image; i++) {
        uint64_t one = box_image_print(&r->images[i]);
        h = mix(h, &one, sizeof one);
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
