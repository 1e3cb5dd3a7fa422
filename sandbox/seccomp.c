#include "sandbox/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "the system-call filter knows x86-64 and aarch64"
#endif

/* Calls without arguments worth looking at. sandbox/README.md says why each family is in or out. */
static const int16_t allowed[] = {
#define C(name) SYS_##name,
    C(read) C(write) C(futex) C(mmap) C(munmap) C(brk) C(close) C(mprotect) C(madvise) C(openat) C(lseek) C(readv)
        C(writev) C(pread64) C(pwrite64) C(close_range) C(fstat) C(newfstatat) C(statx) C(faccessat) C(faccessat2)
            C(mremap) C(msync) C(mincore) C(rt_sigaction) C(rt_sigprocmask) C(rt_sigreturn) C(sigaltstack) C(
                rt_sigtimedwait) C(rt_sigpending) C(rt_sigsuspend) C(restart_syscall) C(nanosleep) C(clock_nanosleep)
                C(clock_gettime) C(clock_getres) C(gettimeofday) C(times) C(getrusage) C(getpid) C(gettid) C(getppid) C(
                    getpgid) C(getsid) C(getuid) C(geteuid) C(getgid) C(getegid) C(getresuid) C(getresgid) C(getgroups)
                    C(uname) C(sysinfo) C(getcwd) C(chdir) C(fchdir) C(getdents64) C(readlinkat) C(mkdirat) C(unlinkat)
                        C(renameat) C(renameat2) C(symlinkat) C(linkat) C(fchmod) C(fchmodat) C(utimensat) C(
                            umask) C(truncate) C(ftruncate) C(fallocate) C(fsync) C(fdatasync) C(fadvise64) C(sendfile)
                            C(copy_file_range) C(dup) C(dup3) C(pipe2) C(ppoll) C(pselect6) C(epoll_create1)
                                C(epoll_ctl) C(epoll_pwait) C(eventfd2) C(set_robust_list) C(get_robust_list)
                                    C(set_tid_address) C(rseq) C(sched_yield) C(sched_getaffinity) C(sched_getparam)
                                        C(sched_getscheduler) C(getpriority) C(getcpu)
                                            C(getrandom) C(memfd_create) C(exit) C(exit_group) C(kill) C(tgkill)
                                                C(tkill) C(wait4) C(waitid) C(setitimer) C(getitimer) C(timer_create)
                                                    C(timer_settime) C(timer_gettime) C(timer_delete) C(statfs)
                                                        C(fstatfs) C(membarrier) C(sendto) C(recvfrom) C(sendmsg)
                                                            C(recvmsg) C(shutdown) C(getsockopt) C(getsockname)
                                                                C(getpeername) C(execve)
#ifdef SYS_open
                                                                    C(open) C(stat) C(lstat) C(access) C(pause) C(time)
                                                                        C(getpgrp) C(getdents) C(readlink) C(mkdir)
                                                                            C(rmdir) C(unlink) C(rename) C(symlink)
                                                                                C(link) C(chmod) C(dup2) C(pipe) C(poll)
                                                                                    C(select) C(epoll_wait) C(alarm)
                                                                                        C(getrlimit) C(arch_prctl)
                                                                                            C(fork) C(vfork)
#endif
    /* the zygote's and runner's own; the holder filter takes them away again */
    C(unshare) C(setns) C(mount) C(umount2) C(capset) C(capget) C(prctl) C(seccomp) C(landlock_create_ruleset)
        C(landlock_add_rule) C(landlock_restrict_self) C(prlimit64) C(setsid) C(setpgid) C(pidfd_open) C(setsockopt)
            C(signalfd4)
#undef C
};

/* What a holder may not call although the base filter lets it through. */
static const int16_t holder_denied[] = {
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_capset,
    SYS_seccomp,
    SYS_landlock_create_ruleset,
    SYS_landlock_add_rule,
    SYS_landlock_restrict_self,
    SYS_setsid,
    SYS_setpgid,
    SYS_pidfd_open,
    SYS_setsockopt,
    SYS_signalfd4,
    SYS_sendmsg,      /* descriptors in flight are counted per user: one box could keep the others from sending any */
    SYS_timer_create, /* its signal is in memory, out of a filter's sight: see hold_still */
};

static const uint32_t fcntl_ok[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD,      F_SETFD,     F_GETFL,
                                    F_SETFL, F_GETLK,         F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS};
static const uint32_t ioctl_ok[] = {0x5401 /* TCGETS */, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX};

enum {
    CLONE_NEWTIME_ = 0x80,
    CLONE_DENIED = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                   CLONE_NEWNET | CLONE_NEWTIME_ | CLONE_PTRACE
};

typedef struct program {
    struct sock_filter f[1024];
    unsigned n;
} program;

static void emit(program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
    if (p->n < sizeof p->f / sizeof *p->f) p->f[p->n] = (struct sock_filter){code, jt, jf, k};
    p->n++;
}

static void load(program *p, size_t offset) { emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0); }
static void ret(program *p, uint32_t action) { emit(p, BPF_RET | BPF_K, action, 0, 0); }
static void if_equal(program *p, uint32_t k, uint8_t skip) { emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, skip); }
static void load_nr(program *p) { load(p, offsetof(struct seccomp_data, nr)); }
/* low and high half of argument i; both supported architectures are little-endian */
static size_t arg_low(int i) { return offsetof(struct seccomp_data, args) + 8u * (size_t)i; }
static size_t arg_high(int i) { return arg_low(i) + 4; }

enum { ALLOW = SECCOMP_RET_ALLOW, KILL = (int)SECCOMP_RET_KILL_PROCESS };
static uint32_t err(int e) { return SECCOMP_RET_ERRNO | (uint32_t)e; }

static void prologue(program *p)
{
    load(p, offsetof(struct seccomp_data, arch));
    if_equal(p, ARCH, 1);
    emit(p, BPF_JMP | BPF_JA, 1, 0, 0);
    ret(p, (uint32_t)KILL);
    load_nr(p);
#ifdef __x86_64__
    emit(p, BPF_JMP | BPF_JSET | BPF_K, 0x40000000, 0, 1); /* x32 numbers */
    ret(p, (uint32_t)KILL);
#endif
}

/* if nr: allow when argument `arg` is one of the list, else errno */
static void allow_values(program *p, int nr, int arg, const uint32_t *v, unsigned n, int e)
{
    if_equal(p, (uint32_t)nr, (uint8_t)(2 + 2 * n));
    load(p, arg_low(arg));
    for (unsigned i = 0; i < n; i++) {
        if_equal(p, v[i], 1);
        ret(p, ALLOW);
    }
    ret(p, err(e));
}

static void errno_for(program *p, int nr, int e)
{
    if_equal(p, (uint32_t)nr, 1);
    ret(p, err(e));
}

/* if nr: errno when argument `arg` is v, else on to the next rule */
static void deny_value(program *p, int nr, int arg, uint32_t v, int e)
{
    if_equal(p, (uint32_t)nr, 4);
    load(p, arg_low(arg));
    if_equal(p, v, 1);
    ret(p, err(e));
    load_nr(p);
}

static int install(program *p)
{
    if (p->n > sizeof p->f / sizeof *p->f) return -E2BIG;
    struct sock_fprog prog = {(unsigned short)p->n, p->f};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) ? -errno : 0;
}

int seccomp_base(void)
{
    static program p;
    p.n = 0;
    prologue(&p);
    for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        if_equal(&p, (uint32_t)allowed[i], 1);
        ret(&p, ALLOW);
    }
    allow_values(&p, SYS_fcntl, 1, fcntl_ok, sizeof fcntl_ok / sizeof *fcntl_ok, EPERM);
    allow_values(&p, SYS_ioctl, 1, ioctl_ok, sizeof ioctl_ok / sizeof *ioctl_ok, EPERM);
    allow_values(&p, SYS_socketpair, 0, (uint32_t[]){AF_UNIX}, 1, EACCES);
    if_equal(&p, SYS_clone, 4); /* flags fit the low half */
    load(&p, arg_low(0));
    emit(&p, BPF_JMP | BPF_JSET | BPF_K, CLONE_DENIED, 1, 0);
    ret(&p, ALLOW);
    ret(&p, err(EPERM));
    errno_for(&p, SYS_clone3, ENOSYS); /* its flags are out of a filter's sight; glibc falls back to clone */
#ifdef SYS_openat2
    errno_for(&p, SYS_openat2, ENOSYS);
#endif
    errno_for(&p, SYS_socket, EACCES);
    /* Numbers younger than this list: ENOSYS, so that libraries take their fallback. */
    emit(&p, BPF_JMP | BPF_JGT | BPF_K, SYS_landlock_restrict_self, 0, 1);
    ret(&p, err(ENOSYS));
    ret(&p, err(EPERM));
    return install(&p);
}

/* The runner ends a turn with SIGSTOP. What is stopped stays so because nothing inside can send SIGCONT: not by hand,
 * not by a timer, not as the signal that a child's death sends. */
static void hold_still(program *p)
{
    deny_value(p, SYS_kill, 1, SIGCONT, EPERM);
    deny_value(p, SYS_tkill, 1, SIGCONT, EPERM);
    deny_value(p, SYS_tgkill, 2, SIGCONT, EPERM);
    if_equal(p, SYS_clone, 6);
    load(p, arg_low(0));
    emit(p, BPF_ALU | BPF_AND | BPF_K, 0xff, 0, 0);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, SIGCHLD, 1, 0);
    ret(p, err(EPERM));
    load_nr(p);
}

static void holder_rules(program *p)
{
    prologue(p);
    for (unsigned i = 0; i < sizeof holder_denied / sizeof *holder_denied; i++) errno_for(p, holder_denied[i], EPERM);
    static const uint32_t prctl_ok[] = {PR_SET_NAME, PR_GET_NAME, 0x53564d41 /* PR_SET_VMA: glibc names its heaps */};
    allow_values(p, SYS_prctl, 0, prctl_ok, sizeof prctl_ok / sizeof *prctl_ok, EPERM);
    hold_still(p);
    /* prlimit64(pid, resource, new limit must be NULL, old) */
    if_equal(p, SYS_prlimit64, 6);
    load(p, arg_low(2));
    if_equal(p, 0, 3);
    load(p, arg_high(2));
    if_equal(p, 0, 1);
    ret(p, ALLOW);
    ret(p, err(EPERM));
}

int seccomp_holder(int without_memfd)
{
    program p;
    p.n = 0;
    holder_rules(&p);
    if (without_memfd) errno_for(&p, SYS_memfd_create, EPERM);
    ret(&p, ALLOW);
    return install(&p);
}

int seccomp_holder_t2(pid_t self)
{
    program p;
    p.n = 0;
    holder_rules(&p);
    allow_values(&p, SYS_kill, 0, (uint32_t[]){(uint32_t)self}, 1, EPERM);
    allow_values(&p, SYS_tgkill, 0, (uint32_t[]){(uint32_t)self}, 1, EPERM);
    static const int16_t denied[] = {
        SYS_clone,
        SYS_execve,
        SYS_tkill,
        SYS_memfd_create,
        SYS_socketpair,
        SYS_linkat,
        /* Landlock does not look at these, and files outside may belong to the same user */
        SYS_fchmod,
        SYS_fchmodat,
        SYS_utimensat,
        SYS_truncate,
#ifdef SYS_fork
        SYS_fork,
        SYS_vfork,
        SYS_link,
        SYS_chmod,
#endif
    };
    for (unsigned i = 0; i < sizeof denied / sizeof *denied; i++) errno_for(&p, denied[i], EPERM);
    ret(&p, ALLOW);
    return install(&p);
}
