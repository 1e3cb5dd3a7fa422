/* The CPU backend: opening, memory, packed weights, scratch. */
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu.h"

#define ALIGN 64
#define HUGE_PAGE (2u << 20)
#define ROW_STEP 144 /* per thread: a few hundred KiB of the widest activations of small models */

bool cpu_isa_has(const char *isa)
{
    if (strcmp(isa, "generic") == 0) return true;
    if (strcmp(isa, "avx2") == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (strcmp(isa, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && cpu_isa_has("avx2");
    return false;
}

const char *cpu_isa_best(void) { return cpu_isa_has("avx512") ? "avx512" : cpu_isa_has("avx2") ? "avx2" : "generic"; }

/* Every block starts with this, so that releasing it can forget the packed weights inside. */
typedef struct block_head {
    size_t bytes, mapped; /* mapped 0: the block is malloc's */
    void *map;
} block_head;

/* Large blocks are mapped: zero without being touched, so that weights are written once and room for the largest
 * picture costs nothing until one comes. */
static bool map_block(block_head *h, char **block)
{
    h->mapped = h->bytes + ALIGN + HUGE_PAGE;
    h->map = h->mapped > h->bytes ? mmap(NULL, h->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                  : MAP_FAILED;
    if (h->map == MAP_FAILED) return false;
    *block = (char *)h->map + (HUGE_PAGE - (uintptr_t)h->map % HUGE_PAGE) % HUGE_PAGE;
    /* A kernel that walks down a column touches a page per row: with small pages it waits for page tables. */
    (void)madvise(*block, h->bytes + ALIGN, MADV_HUGEPAGE); /* a refusal costs only time */
    return true;
}

static status alloc(backend *b, size_t bytes, void **out)
{
    (void)b;
    block_head h = {.bytes = bytes};
    char *block = NULL;
    if (bytes >= HUGE_PAGE ? !map_block(&h, &block) : posix_memalign((void **)&block, ALIGN, bytes + ALIGN) != 0)
        return FAIL(ST_ENOMEM, "out of memory: %.1f MiB of host memory", (double)bytes / (1 << 20));
    if (!h.mapped) memset(block, 0, bytes + ALIGN);
    memcpy(block, &h, sizeof h);
    *out = block + ALIGN;
    return ST_OK;
}

static void release(backend *b, void *p)
{
    if (!p) return;
    char *block = (char *)p - ALIGN;
    block_head h;
    memcpy(&h, block, sizeof h);
    cpu_forget(cpu_of(b), p, h.bytes);
    if (h.mapped)
        munmap(h.map, h.mapped);
    else
        free(block);
}

static void upload(backend *b, tensor *dst, const void *src)
{
    if (tensor_bytes(dst) == 0) return;
    cpu_forget(cpu_of(b), dst->data, tensor_bytes(dst));
    memcpy(dst->data, src, tensor_bytes(dst));
}

static void download(backend *b, void *dst, const tensor *src)
{
    (void)b;
    if (tensor_bytes(src)) memcpy(dst, src->data, tensor_bytes(src));
}

static void params_changed(backend *b)
{
    cpu *c = cpu_of(b);
    for (int i = 0; i < c->n_pack; i++) c->packs[i].fresh = false;
}

static status sync_all(backend *b)
{
    status st = b->first_error;
    b->first_error = ST_OK;
    return st;
}

static void close_cpu(backend *b)
{
    cpu *c = cpu_of(b);
    for (int i = 0; i < c->n_pack; i++) free(c->packs[i].panels);
    free(c->packs);
    for (int i = 0; c->scratch && i <= c->n_thread; i++) free(c->scratch[i].data);
    free(c->scratch);
    thread_pool_destroy(c->pool);
    free(c);
}

void cpu_error(cpu *c, status st)
{
    if (c->base.first_error == ST_OK) c->base.first_error = st;
}

/* Waking a worker costs a few microseconds; below this many flops the caller is done sooner alone. */
#define INLINE_WORK 4e5

void cpu_for(cpu *c, int64_t n, double work, thread_fn *fn, void *ctx)
{
    CHECK(n <= INT32_MAX);
    if (n <= 0) return;
    if (work < INLINE_WORK)
        fn(ctx, 0, (int)n, 0);
    else
        thread_pool_for(c->pool, (int)n, 1, fn, ctx);
}

bool cpu_reserve(cpu *c, int first, int last, size_t bytes)
{
    for (int i = first; i <= last; i++) {
        if (c->scratch[i].size >= bytes) continue;
        free(c->scratch[i].data);
        size_t room = (bytes + bytes / 4 + ALIGN - 1) / ALIGN * ALIGN;
        c->scratch[i].data = aligned_alloc(ALIGN, room);
        c->scratch[i].size = c->scratch[i].data ? room : 0;
        if (!c->scratch[i].data) {
            cpu_error(c, FAIL(ST_ENOMEM, "out of memory: %.1f MiB of kernel scratch", (double)room / (1 << 20)));
            return false;
        }
    }
    return true;
}

void cpu_forget(cpu *c, const void *begin, size_t bytes)
{
    const char *lo = begin, *hi = lo + bytes;
    for (int i = 0; i < c->n_pack; i++) {
        const char *w = c->packs[i].weight;
        if (w < hi && w + c->packs[i].outputs * c->packs[i].inputs * (int64_t)sizeof(float) > lo)
            c->packs[i].fresh = false;
    }
}

typedef struct pack_job {
    const kern *k;
    float *panels;
    const float *w;
    int64_t outputs, inputs;
} pack_job;

static void pack_tasks(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    const pack_job *j = ctx;
    for (int64_t o = (int64_t)begin * LANES; o < (int64_t)end * LANES; o += LANES) {
        int n = j->outputs - o < LANES ? (int)(j->outputs - o) : LANES;
        j->k->to_lanes(j->panels + o * j->inputs, j->w + o * j->inputs, j->inputs, n, j->inputs);
    }
}

static packed *find_pack(cpu *c, const tensor *w, int64_t outputs, int64_t inputs)
{
    for (int i = 0; i < c->n_pack; i++) {
        packed *p = &c->packs[i];
        if (p->weight == w->data && p->outputs == outputs && p->inputs == inputs) return p;
    }
    if (c->n_pack == c->pack_capacity) {
        int capacity = c->pack_capacity ? 2 * c->pack_capacity : 64;
        packed *grown = realloc(c->packs, (size_t)capacity * sizeof *grown);
        if (!grown) return NULL;
        c->packs = grown;
        c->pack_capacity = capacity;
    }
    packed *p = &c->packs[c->n_pack++];
    *p = (packed){.weight = w->data, .outputs = outputs, .inputs = inputs};
    return p;
}

const float *cpu_pack(cpu *c, const tensor *w)
{
    int64_t outputs = rows_of(w), inputs = cols_of(w), need = (outputs + LANES - 1) / LANES * LANES * inputs + 1;
    packed *p = find_pack(c, w, outputs, inputs);
    if (p && p->capacity < need) {
        free(p->panels);
        p->panels = aligned_alloc(ALIGN, ((size_t)need * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN);
        p->capacity = p->panels ? need : 0;
    }
    if (!p || !p->panels) {
        cpu_error(
            c, FAIL(ST_ENOMEM, "out of memory: %.1f MiB for packed weights", (double)need * sizeof(float) / (1 << 20)));
        return NULL;
    }
    if (!p->fresh) {
        pack_job j = {c->k, p->panels, w->data, outputs, inputs};
        cpu_for(c, (outputs + LANES - 1) / LANES, 2.0 * (double)need, pack_tasks, &j);
    }
    p->fresh = true;
    return p->panels;
}

status backend_open_cpu(backend **out, int threads, const char *isa)
{
    if (strcmp(isa, "auto") == 0) isa = cpu_isa_best();
    const kern *all[] = {&kern_avx512, &kern_avx2, &kern_generic}, *k = NULL;
    for (int i = 0; i < 3; i++)
        if (strcmp(all[i]->name, isa) == 0) k = all[i];
    if (!k) return FAIL(ST_EINVAL, "device.isa: '%s' is not one of auto, avx512, avx2, generic", isa);
    if (!cpu_isa_has(isa))
        return FAIL(ST_EUNAVAIL, "device.isa: this CPU has no %s; its best is %s", isa, cpu_isa_best());
    if (threads < 0) return FAIL(ST_EINVAL, "device.threads: %d is negative; 0 means all CPUs", threads);
    cpu *c = calloc(1, sizeof *c);
    if (!c) return FAIL(ST_ENOMEM, "out of memory for the CPU backend");
    c->k = k;
    c->n_thread = threads ? threads : thread_cpus();
    c->scratch = calloc((size_t)c->n_thread + 1, sizeof *c->scratch);
    status st =
        c->scratch ? thread_pool_create(&c->pool, c->n_thread) : FAIL(ST_ENOMEM, "out of memory for the CPU backend");
    c->base = (backend){.name = "cpu",
                        .impl = c,
                        .act = DT_F32,
                        .host = true,
                        .row_step = ROW_STEP * (int64_t)c->n_thread,
                        .alloc = alloc,
                        .release = release,
                        .upload = upload,
                        .download = download,
                        .params_changed = params_changed,
                        .sync = sync_all,
                        .peak_gflops = cpu_fma_peak,
                        .close = close_cpu,
#define OPS_ENTRY(name, args) .name = cpu_##name,
                        OPS(OPS_ENTRY)
#undef OPS_ENTRY
    };
    if (st != ST_OK) {
        close_cpu(&c->base);
        return st;
    }
    snprintf(c->base.describe, sizeof c->base.describe, "cpu %s, %d thread%s", isa, c->n_thread,
             c->n_thread == 1 ? "" : "s");
    *out = &c->base;
    return ST_OK;
}

void backend_close(backend *b)
{
    if (b) b->close(b);
}
