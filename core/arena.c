#include "core/arena.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define REDZONE 64
#else
#define REDZONE 0
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { ALIGN = 64 };

typedef struct entry {
    tensor *t;
    size_t at, bytes;
} entry;

struct arena {
    backend *b;
    const char *name;
    entry *entries;
    int n, cap;
    size_t bytes; /* planned */
    char *base;
    bool flat, committed;
};

static atomic_int_fast64_t commits;

static status create(arena **out, backend *b, const char *name, bool flat)
{
    arena *a = calloc(1, sizeof *a);
    if (!a) return FAIL(ST_ENOMEM, "out of memory for arena %s", name);
    a->b = b;
    a->name = name;
    a->flat = flat;
    *out = a;
    return ST_OK;
}

status arena_create(arena **out, backend *b, const char *name) { return create(out, b, name, false); }
status arena_create_flat(arena **out, backend *b, const char *name) { return create(out, b, name, true); }

void arena_add(arena *a, tensor *t, dtype type, int ndim, const int64_t *dim)
{
    CHECK(!a->committed);
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 32;
        a->entries = realloc(a->entries, (size_t)a->cap * sizeof *a->entries);
        CHECK(a->entries);
    }
    *t = tensor_view(NULL, type, ndim, dim);
    if (!a->flat) a->bytes = (a->bytes + ALIGN - 1) / ALIGN * ALIGN;
    a->entries[a->n++] = (entry){t, a->bytes, tensor_bytes(t)};
    CHECK(!a->flat || type == a->entries[0].t->type);
    a->bytes += tensor_bytes(t) + (a->flat ? 0 : REDZONE);
}

void arena_add_1d(arena *a, tensor *t, dtype type, int64_t n) { arena_add(a, t, type, 1, &n); }

void arena_add_2d(arena *a, tensor *t, dtype type, int64_t rows, int64_t cols)
{
    arena_add(a, t, type, 2, (int64_t[]){rows, cols});
}

dtype arena_act(const arena *a) { return a->b ? a->b->act : DT_F32; }
void arena_add_act(arena *a, tensor *t, int64_t rows, int64_t cols) { arena_add_2d(a, t, arena_act(a), rows, cols); }

size_t arena_bytes(const arena *a) { return a->bytes; }
const char *arena_name(const arena *a) { return a->name; }

status arena_commit(arena *a)
{
    CHECK(!a->committed);
    void *base = NULL;
    status st = a->b->alloc(a->b, a->bytes ? a->bytes : 1, &base);
    if (st != ST_OK) return fail_within(st, "not enough memory for %s", a->name);
    a->base = base;
    a->committed = true;
    atomic_fetch_add(&commits, 1);
    for (int i = 0; i < a->n; i++) {
        entry *e = &a->entries[i];
        e->t->data = a->base + e->at;
        if (REDZONE && !a->flat) ASAN_POISON_MEMORY_REGION(a->base + e->at + e->bytes, REDZONE);
    }
    return ST_OK;
}

tensor arena_flat(const arena *a)
{
    CHECK(a->flat && a->n > 0);
    dtype type = a->entries[0].t->type;
    return tensor_1d(a->base, type, (int64_t)(a->bytes / dtype_size(type)));
}

void arena_destroy(arena *a)
{
    if (!a) return;
    if (a->base) {
        ASAN_UNPOISON_MEMORY_REGION(a->base, a->bytes);
        a->b->release(a->b, a->base);
    }
    free(a->entries);
    free(a);
}

int64_t arena_commits(void) { return atomic_load(&commits); }
