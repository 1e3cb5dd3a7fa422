#include "sandbox/zygote/turn_log.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BYTES = 8 << 20 };

void turn_log_clear(turn_log *l)
{
    if (l->text) munmap(l->text, BYTES);
    *l = (turn_log){0};
}

/* Behind what is kept. Mapped, not allocated, so that the heap the next box's holder inherits is as a new jail's. */
void turn_log_note(turn_log *l, const void *code, size_t len)
{
    if (!l->text)
        l->text = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->text == MAP_FAILED) _exit(1);
    l->next = sizeof len + len;
    if (l->used + l->next > BYTES) return;
    memcpy(l->text + l->used, &len, sizeof len);
    memcpy(l->text + l->used + sizeof len, code, len);
}

void turn_log_keep(turn_log *l)
{
    if (l->used + l->next > BYTES) _exit(1);
    l->used += l->next;
    l->n++;
}
