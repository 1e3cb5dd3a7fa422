#include "sandbox/zygote/repeat.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>

#define NS 1000000000ll

static struct {
    int (*clock)(clockid_t, struct timespec *);
    int (*sleep)(clockid_t, int, const struct timespec *, struct timespec *);
    bool on;
    uint64_t key; /* of the random bytes */
    atomic_uint_fast64_t wall_ns, drawn, forks;
    uint64_t next_fork, child_seed;
} r;
static _Thread_local int64_t last_ns; /* the monotonic clock's last reading: sleeps are said from there */

static void find(void)
{
    if (r.clock) return;
    *(void **)&r.sleep = dlsym(RTLD_NEXT, "clock_nanosleep");
    *(void **)&r.clock = dlsym(RTLD_NEXT, "clock_gettime");
}

static int64_t ns_of(const struct timespec *t) { return t->tv_sec * NS + t->tv_nsec; }
static struct timespec timespec_of(int64_t ns) { return (struct timespec){ns / NS, ns % NS}; }

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Children of the code's own forks draw other bytes than their parent, the same in every run. Turns are forks, too, but
 * not by fork(): they go on where the last one was. */
static void before_fork(void) { r.next_fork = 1 + atomic_fetch_add(&r.forks, 1); }

static void in_child(void)
{
    r.key = mix(r.key ^ r.next_fork << 32);
    atomic_store(&r.drawn, 0);
    atomic_store(&r.forks, 0);
    r.child_seed = mix(r.key) | 1;
}

void repeat_start(uint64_t seed)
{
    find();
    if (!r.on) pthread_atfork(before_fork, NULL, in_child);
    r.key = mix(seed);
    r.child_seed = 0;
    atomic_store(&r.wall_ns, (uint64_t)REPEAT_EPOCH_S * NS);
    atomic_store(&r.drawn, 0);
    atomic_store(&r.forks, 0);
    r.on = true;
}

uint64_t repeat_child_seed(void)
{
    uint64_t s = r.child_seed;
    r.child_seed = 0;
    return s;
}

#pragma GCC visibility push(default) /* libc's own names, from the library form of the zygote as well */

/* ---- the wall clock ---- */

static int64_t read_wall(void) { return (int64_t)atomic_fetch_add(&r.wall_ns, REPEAT_STEP_NS) + REPEAT_STEP_NS; }

static bool is_wall(clockid_t id)
{
    return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_REALTIME_ALARM || id == CLOCK_TAI;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    if (r.on && is_wall(id)) {
        *t = timespec_of(read_wall());
        return 0;
    }
    find();
    int e = r.clock(id, t);
    if (e == 0 && id == CLOCK_MONOTONIC) last_ns = ns_of(t);
    return e;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    struct timespec now;
    if (zone) memset(zone, 0, sizeof(struct timezone));
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    *t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

static void add_wait(int64_t ns)
{
    if (r.on && ns > 0) atomic_fetch_add(&r.wall_ns, (uint64_t)ns);
}

/* Python's sleep reads the monotonic clock and waits until so much later: that difference is what the code asked for,
 * to the nanosecond. */
int clock_nanosleep(clockid_t id, int flags, const struct timespec *want, struct timespec *left)
{
    find();
    int64_t from = id == CLOCK_MONOTONIC && flags & TIMER_ABSTIME ? last_ns : 0;
    int e = r.sleep(id, flags, want, left);
    if (e == 0 && (from || !(flags & TIMER_ABSTIME))) add_wait(ns_of(want) - from);
    return e;
}

int nanosleep(const struct timespec *want, struct timespec *left)
{
    int e = clock_nanosleep(CLOCK_REALTIME, 0, want, left);
    if (e) errno = e;
    return e ? -1 : 0;
}

int select(int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict err, struct timeval *restrict wait)
{
    static int (*real)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "select");
    int64_t ns = wait ? wait->tv_sec * NS + wait->tv_usec * 1000ll : 0;
    int k = real(n, in, out, err, wait);
    if (k == 0) add_wait(ns); /* how Python before 3.11 sleeps */
    return k;
}

int poll(struct pollfd *p, nfds_t n, int ms)
{
    static int (*real)(struct pollfd *, nfds_t, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "poll");
    int k = real(p, n, ms);
    if (k == 0) add_wait(ms * 1000000ll);
    return k;
}

int epoll_wait(int fd, struct epoll_event *ev, int n, int ms)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "epoll_wait");
    int k = real(fd, ev, n, ms);
    if (k == 0) add_wait(ms * 1000000ll);
    return k;
}

/* A deadline on the wall clock was made from a reading of it: the same time from now on the monotonic clock. */
static struct timespec deadline(const struct timespec *wall)
{
    struct timespec now;
    find();
    r.clock(CLOCK_MONOTONIC, &now);
    int64_t left = ns_of(wall) - (int64_t)atomic_load(&r.wall_ns);
    return timespec_of(ns_of(&now) + (left > 0 ? left : 0));
}

/* Some waits say nothing of their clock: no machine has been up for as long as since 1970. */
static bool on_wall(const struct timespec *t) { return r.on && t->tv_sec > REPEAT_EPOCH_S / 2; }

/* e: what a wait for a lock came back with. */
static int waited(int e, const struct timespec *until)
{
    int64_t now = (int64_t)atomic_load(&r.wall_ns);
    if (e == ETIMEDOUT && r.on) add_wait(ns_of(until) - now);
    return e;
}

int sem_clockwait(sem_t *restrict s, clockid_t id, const struct timespec *restrict until)
{
    static int (*real)(sem_t *, clockid_t, const struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "sem_clockwait");
    int64_t from = last_ns;
    int e = real(s, id, until);
    if (e && errno == ETIMEDOUT && id == CLOCK_MONOTONIC && from) add_wait(ns_of(until) - from);
    return e;
}

int sem_timedwait(sem_t *restrict s, const struct timespec *restrict until)
{
    struct timespec t = r.on ? deadline(until) : *until;
    last_ns = 0;
    int e = sem_clockwait(s, r.on ? CLOCK_MONOTONIC : CLOCK_REALTIME, &t);
    if (e) waited(errno, until);
    return e;
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict m, const struct timespec *restrict until)
{
    struct timespec t = r.on ? deadline(until) : *until;
    return waited(pthread_mutex_clocklock(m, r.on ? CLOCK_MONOTONIC : CLOCK_REALTIME, &t), until);
}

int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m,
                           const struct timespec *restrict until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (on_wall(until)) {
        struct timespec t = deadline(until);
        return waited(pthread_cond_clockwait(c, m, CLOCK_MONOTONIC, &t), until);
    }
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    return real(c, m, until);
}

/* ---- random bytes ---- */

ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
    static ssize_t (*real)(void *, size_t, unsigned);
    if (!r.on) {
        if (!real) *(void **)&real = dlsym(RTLD_NEXT, "getrandom");
        return real(buf, n, flags);
    }
    for (size_t at = 0, k; at < n; at += k) {
        uint64_t word = mix(r.key + mix(atomic_fetch_add(&r.drawn, 1)));
        k = n - at < sizeof word ? n - at : sizeof word;
        memcpy((char *)buf + at, &word, k);
    }
    return (ssize_t)n;
}

int getentropy(void *buf, size_t n)
{
    if (n > 256) {
        errno = EIO;
        return -1;
    }
    return getrandom(buf, n, 0) == (ssize_t)n ? 0 : -1;
}

/* Not allowed in a box; libgcrypt, which OpenCV brings along, would say so in the code's output. */
int mlock(const void *at, size_t n)
{
    (void)at;
    (void)n;
    return 0;
}

#pragma GCC visibility pop
