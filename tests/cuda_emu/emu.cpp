/* The scheduler and the memory of the stand-in CUDA runtime: see cuda_runtime.h. */
#include "tests/cuda_emu/cuda_runtime.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <map>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;
unsigned char *emu_dynamic_shared;

namespace {

enum { MAX_THREADS = 1024, STACK = 128 << 10, SHARED_LIMIT = 227 << 10, STATIC_LIMIT = 48 << 10 };

/* A barrier's generation goes up when everyone has come. */
struct barrier {
    unsigned generation, came;
};

struct copy {
    void *to;
    const void *from;
    int bytes, group;
};

struct fiber {
    ucontext_t start;
    jmp_buf at;
    dim3 thread;
    int warp, lane, turn; /* turn: which of the warp's two slots the next exchange uses */
    bool begun, done;
    const barrier *waits; /* until its generation is not `past` */
    unsigned past;
    char *stack;
    std::vector<copy> copies; /* begun, not done */
    int groups;                      /* of copies, committed */
};

struct warp_state {
    barrier bar;
    emu_slot slot[2][warpSize];
};

fiber fibers[MAX_THREADS];
warp_state warps[MAX_THREADS / warpSize];
barrier block_bar;
jmp_buf scheduler;
fiber *now;
int n_threads, n_done;
unsigned order_seed;
emu_body *body;
const void *call;
const char *kernel;

[[noreturn]] void die(const char *why)
{
    fprintf(stderr, "cuda_emu: %s\n  in %s, block (%u, %u, %u), thread %u\n", why, kernel, blockIdx.x, blockIdx.y,
            blockIdx.z, threadIdx.x);
    abort();
}

void wait_for(const barrier *b)
{
    now->waits = b;
    now->past = b->generation;
    if (_setjmp(now->at) == 0) _longjmp(scheduler, 1);
}

void arrive(barrier *b, int everyone)
{
    if (static_cast<int>(++b->came) < everyone) {
        wait_for(b);
        return;
    }
    b->came = 0;
    b->generation++;
}

/* A fiber runs threads until one has to wait in the middle; that one keeps the stack. */
void fiber_main()
{
    body(call);
    now->done = true;
    n_done++;
    _longjmp(scheduler, 1);
}

void resume(fiber *f)
{
    now = f;
    threadIdx = f->thread;
    if (_setjmp(scheduler) != 0) return;
    if (f->begun) _longjmp(f->at, 1);
    f->begun = true;
    if (!f->stack) {
        f->stack = static_cast<char *>(mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (f->stack == MAP_FAILED) die("no memory for a stack");
    }
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = f->stack;
    f->start.uc_stack.ss_size = STACK;
    f->start.uc_link = nullptr;
    makecontext(&f->start, fiber_main, 0);
    setcontext(&f->start);
}

void run_block()
{
    n_threads = static_cast<int>(blockDim.x);
    n_done = 0;
    block_bar = barrier();
    for (auto &w : warps) w = warp_state();
    for (int i = 0; i < n_threads; i++) {
        fiber &f = fibers[i];
        f.thread = dim3(static_cast<unsigned>(i), 0, 0);
        f.warp = i / warpSize;
        f.lane = i % warpSize;
        f.turn = f.groups = 0;
        f.copies.clear();
        f.begun = f.done = false;
        f.waits = nullptr;
    }
    /* an order of its own for each seed: i -> (i step + first) mod a prime above the threads */
    const unsigned prime = 1031, step = 1 + order_seed * 7 % 1000, first = order_seed * 131 % prime;
    while (n_done < n_threads) {
        bool moved = false;
        for (unsigned k = 0; k < (order_seed ? prime : static_cast<unsigned>(n_threads)); k++) {
            unsigned i = order_seed ? (k * step + first) % prime : k;
            if (i >= static_cast<unsigned>(n_threads)) continue;
            fiber &f = fibers[i];
            if (f.done || (f.waits && f.waits->generation == f.past)) continue;
            f.waits = nullptr;
            resume(&f);
            moved = true;
        }
        if (!moved) die("deadlock: a barrier that not every thread reaches");
    }
    if (block_bar.came) die("threads ended while others waited");
}

/* ---- memory ---- */

struct region {
    char *map;
    size_t mapped, bytes;
};
std::map<void *, region> regions;

void device_access(bool on)
{
    for (auto &r : regions)
        if (mprotect(r.second.map, r.second.mapped, on ? PROT_READ | PROT_WRITE : PROT_NONE) != 0) die("mprotect failed");
}

bool inside(const void *p, size_t bytes)
{
    for (auto &r : regions)
        if (static_cast<const char *>(p) >= r.first && static_cast<const char *>(p) + bytes <= static_cast<char *>(r.first) + r.second.bytes)
            return true;
    return bytes == 0;
}

} // namespace

struct emu_stream {};
struct emu_event {
    timespec at;
};

extern unsigned char __start_cuda_shared[] __attribute__((weak)), __stop_cuda_shared[] __attribute__((weak));

extern "C" void emu_order(unsigned seed) { order_seed = seed; }

void __syncthreads() { arrive(&block_bar, n_threads); }

void __syncwarp(unsigned mask) { arrive(&warps[now->warp].bar, __builtin_popcount(mask)); }

static const emu_slot *gather(unsigned mask, const void *mine, size_t bytes)
{
    fiber *me = now;
    if (!(mask >> me->lane & 1)) die("a lane outside the mask of its own exchange");
    warp_state *w = &warps[me->warp];
    emu_slot *slot = w->slot[me->turn];
    me->turn ^= 1;
    memcpy(slot[me->lane].bytes, mine, bytes);
    arrive(&w->bar, __builtin_popcount(mask));
    return slot;
}

const emu_slot *emu_gather(const void *mine, size_t bytes) { return gather(0xffffffffu, mine, bytes); }

uint64_t emu_exchange(unsigned mask, uint64_t mine, int from_lane)
{
    const emu_slot *all = gather(mask, &mine, sizeof mine);
    if (!(mask >> from_lane & 1)) die("a shuffle reads a lane outside its mask");
    memcpy(&mine, all[from_lane].bytes, sizeof mine);
    return mine;
}

unsigned __ballot_sync(unsigned mask, int yes)
{
    const emu_slot *slot = gather(mask, &yes, sizeof yes);
    unsigned all = 0;
    for (int i = 0; i < warpSize; i++) {
        memcpy(&yes, slot[i].bytes, sizeof yes);
        if ((mask >> i & 1) && yes) all |= 1u << i;
    }
    return all;
}

void emu_copy_begin(void *to, const void *from, int bytes)
{
    if (bytes < 0 || bytes > 16 || reinterpret_cast<uintptr_t>(to) % 16 || (bytes && reinterpret_cast<uintptr_t>(from) % 16))
        die("cp.async: more than 16 bytes or an address that is not 16-byte aligned");
    memset(to, 0xff, 16);
    now->copies.push_back({to, from, bytes, now->groups});
}

void emu_copy_commit() { now->groups++; }

void emu_copy_wait(int groups_left)
{
    size_t kept = 0;
    for (const copy &one : now->copies)
        if (one.group < now->groups - groups_left) {
            memset(one.to, 0, 16);
            if (one.bytes) memcpy(one.to, one.from, static_cast<size_t>(one.bytes));
        } else {
            now->copies[kept++] = one;
        }
    now->copies.resize(kept);
}

void emu_die(const char *why) { die(why); }

cudaError_t emu_launch(const cudaLaunchConfig_t *c, emu_body *fn, const void *args, const char *name)
{
    const dim3 g = c->gridDim, b = c->blockDim;
    kernel = name;
    if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > INT32_MAX || g.y > 65535 || g.z > 65535) return cudaErrorInvalidValue;
    if (b.x == 0 || b.y != 1 || b.z != 1 || b.x > MAX_THREADS || c->dynamicSmemBytes > SHARED_LIMIT)
        return cudaErrorInvalidValue;
    std::vector<uint64_t> shared(c->dynamicSmemBytes / 8 + 4);
    emu_dynamic_shared = reinterpret_cast<unsigned char *>(shared.data());
    emu_dynamic_shared += (16 - reinterpret_cast<uintptr_t>(emu_dynamic_shared) % 16) % 16;
    body = fn;
    call = args;
    gridDim = g;
    blockDim = b;
    device_access(true);
    for (unsigned z = 0; z < g.z; z++)
        for (unsigned y = 0; y < g.y; y++)
            for (unsigned x = 0; x < g.x; x++) {
                blockIdx = dim3(x, y, z);
                if (__start_cuda_shared)
                    memset(__start_cuda_shared, 0xff, static_cast<size_t>(__stop_cuda_shared - __start_cuda_shared));
                memset(emu_dynamic_shared, 0xff, c->dynamicSmemBytes);
                run_block();
            }
    device_access(false);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    default: return "invalid argument";
    }
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device != 0) return cudaErrorInvalidDevice;
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof p->name, "emulated GPU");
    p->major = 9;
    p->multiProcessorCount = 4;
    p->sharedMemPerBlockOptin = SHARED_LIMIT;
    p->totalGlobalMem = size_t(4) << 30;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr a, int device)
{
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess) return cudaErrorInvalidDevice;
    *value = a == cudaDevAttrMultiProcessorCount ? p.multiProcessorCount : a == cudaDevAttrClockRate ? 1000000 : a == cudaDevAttrComputeCapabilityMinor ? p.minor : p.major;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = new emu_stream;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    *all = size_t(4) << 30;
    *left = *all;
    for (auto &r : regions) *left -= r.second.mapped < *left ? r.second.mapped : *left;
    return cudaSuccess;
}

/* The block ends, but for the 256 bytes of alignment that cudaMalloc promises, where a page that can't be touched
 * begins. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    size_t left, all, page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), room = (bytes + 255) / 256 * 256;
    cudaMemGetInfo(&left, &all);
    if (bytes > left) return cudaErrorMemoryAllocation;
    region r = {nullptr, (room + page - 1) / page * page, bytes};
    if (r.mapped == 0) r.mapped = page;
    void *map = mmap(nullptr, r.mapped + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return cudaErrorMemoryAllocation;
    r.map = static_cast<char *>(map);
    *p = r.map + r.mapped - room;
    regions[*p] = r;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    auto r = regions.find(p);
    if (!p) return cudaSuccess;
    if (r == regions.end()) return cudaErrorInvalidValue;
    munmap(r->second.map, r->second.mapped + static_cast<size_t>(sysconf(_SC_PAGESIZE)));
    regions.erase(r);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t)
{
    if (!inside(p, bytes)) return cudaErrorInvalidValue;
    device_access(true);
    memset(p, byte, bytes);
    device_access(false);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t)
{
    bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
    if (bytes && (inside(to, bytes) != to_device || inside(from, bytes) != from_device)) return cudaErrorInvalidValue;
    device_access(true);
    memmove(to, from, bytes);
    device_access(false);
    return cudaSuccess;
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = new emu_event();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
    clock_gettime(CLOCK_MONOTONIC, &e->at);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = static_cast<float>(to->at.tv_sec - from->at.tv_sec) * 1e3f +
          static_cast<float>(to->at.tv_nsec - from->at.tv_nsec) * 1e-6f;
    return cudaSuccess;
}
