#include "core/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"

/* Work is announced by a generation counter; workers take chunks of indices from one atomic cursor. A worker spins for
 * SPIN_SECONDS after its last job (the next op usually follows at once), then sleeps on a condition variable.
 *
 * A worker joins a loop through the gate, which its caller closes when no chunk is left: the caller waits for those who
 * joined, never for one that slept or lost its core meanwhile and would only find that nothing is left to do. */
#define SPIN_SECONDS 20e-6
#define OPEN 0x80000000u

struct thread_pool {
    int n;
    pthread_t *thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int sleeping; /* under lock */
    atomic_uint generation;
    atomic_uint gate; /* OPEN, and how many workers are inside */
    atomic_int cursor;
    atomic_bool stop;
    int total, chunk;
    thread_fn *fn;
    void *ctx;
};

typedef struct worker_arg {
    thread_pool *p;
    int id;
} worker_arg;

static void take_chunks(thread_pool *p, int id)
{
    for (;;) {
        int begin = atomic_fetch_add_explicit(&p->cursor, p->chunk, memory_order_relaxed);
        if (begin >= p->total) return;
        int end = begin + p->chunk;
        p->fn(p->ctx, begin, end < p->total ? end : p->total, id);
    }
}

static bool join(thread_pool *p)
{
    unsigned gate = atomic_load_explicit(&p->gate, memory_order_relaxed);
    while (gate & OPEN)
        if (atomic_compare_exchange_weak_explicit(&p->gate, &gate, gate + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void *worker(void *arg)
{
    worker_arg a = *(worker_arg *)arg;
    free(arg);
    thread_pool *p = a.p;
    unsigned seen = 0;
    for (;;) {
        double since = clock_now();
        for (int i = 0; atomic_load_explicit(&p->generation, memory_order_acquire) == seen; i++) {
            relax();
            if (i % 64 == 63 && clock_now() - since > SPIN_SECONDS) {
                pthread_mutex_lock(&p->lock);
                p->sleeping++;
                while (atomic_load(&p->generation) == seen) pthread_cond_wait(&p->wake, &p->lock);
                p->sleeping--;
                pthread_mutex_unlock(&p->lock);
                break;
            }
        }
        seen = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (atomic_load(&p->stop)) return NULL;
        if (!join(p)) continue;
        take_chunks(p, a.id);
        atomic_fetch_sub_explicit(&p->gate, 1, memory_order_release);
    }
}

static void announce(thread_pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    if (p->sleeping) pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

status thread_pool_create(thread_pool **out, int n)
{
    CHECK(n >= 1);
    thread_pool *p = calloc(1, sizeof *p);
    if (!p || !(p->thread = calloc((size_t)n, sizeof *p->thread))) {
        free(p);
        return FAIL(ST_ENOMEM, "out of memory for a thread pool");
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->n = 1;
    for (int i = 1; i < n; i++) {
        worker_arg *a = malloc(sizeof *a);
        if (a) *a = (worker_arg){p, i};
        if (!a || pthread_create(&p->thread[i], NULL, worker, a) != 0) {
            free(a);
            thread_pool_destroy(p);
            return FAIL(ST_ESYS, "cannot start thread %d of %d; lower device.threads", i + 1, n);
        }
        p->n++;
    }
    *out = p;
    return ST_OK;
}

int thread_pool_size(const thread_pool *p) { return p->n; }

void thread_pool_for(thread_pool *p, int n, int grain, thread_fn *fn, void *ctx)
{
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    if (p->n == 1 || n <= grain) {
        fn(ctx, 0, n, 0);
        return;
    }
    int chunk = n / (p->n * 16); /* small chunks even out noise and unequal work, such as sequences of all lengths */
    p->total = n;
    p->chunk = chunk > grain ? chunk : grain;
    p->fn = fn;
    p->ctx = ctx;
    atomic_store_explicit(&p->cursor, 0, memory_order_relaxed);
    atomic_store_explicit(&p->gate, OPEN, memory_order_release);
    announce(p);
    take_chunks(p, 0);
    atomic_fetch_and_explicit(&p->gate, ~OPEN, memory_order_relaxed);
    for (int i = 0; atomic_load_explicit(&p->gate, memory_order_acquire) != 0; i++) {
        if (i < 4096)
            relax();
        else
            sched_yield(); /* a worker lost its core: don't hold ours */
    }
}

void thread_pool_destroy(thread_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    if (p->n > 1) announce(p);
    for (int i = 1; i < p->n; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->thread);
    free(p);
}

/* cgroup v2 "max 100000" or "quota period"; v1 keeps the numbers in two files. */
static int quota_cpus(void)
{
    long quota = -1, period = 100000;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fscanf(f, "%ld %ld", &quota, &period) != 2) quota = -1;
        fclose(f);
    } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re"))) {
        if (fscanf(f, "%ld", &quota) != 1) quota = -1;
        fclose(f);
        if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re"))) {
            if (fscanf(f, "%ld", &period) != 1) quota = -1;
            fclose(f);
        }
    }
    if (quota <= 0 || period <= 0) return 1 << 20;
    return (int)((quota + period - 1) / period);
}

int thread_cpus(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int q = quota_cpus();
    return n < q ? n : q;
}
