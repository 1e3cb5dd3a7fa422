#include "sandbox/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/seccomp.h"

#define STEP(what, call)                                                                          \
    do {                                                                                          \
        if ((call) < 0) return FAIL(ST_ESYS, "sandbox step \"%s\": %s", (what), strerror(errno)); \
    } while (0)

static status write_at(int dir, const char *path, const char *text)
{
    int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return FAIL(ST_ESYS, "sandbox: cannot open /proc/%s: %s", path, strerror(errno));
    ssize_t n = write(fd, text, strlen(text));
    int e = errno;
    close(fd);
    if (n != (ssize_t)strlen(text)) return FAIL(ST_ESYS, "sandbox: cannot write /proc/%s: %s", path, strerror(e));
    return ST_OK;
}

static status map_ids(int proc, unsigned uid, unsigned gid)
{
    char line[64];
    TRY(write_at(proc, "self/setgroups", "deny"));
    snprintf(line, sizeof line, "1000 %u 1", uid);
    TRY(write_at(proc, "self/uid_map", line));
    snprintf(line, sizeof line, "1000 %u 1", gid);
    return write_at(proc, "self/gid_map", line);
}

/* ---- the zygote's root file system: the Python tree read-only, three devices, nothing else ---- */

typedef struct mount_attr_1 {
    uint64_t set, clr, propagation, userns_fd;
} mount_attr_1;
enum { ATTR_RDONLY = 1, ATTR_NOSUID = 2, ATTR_NODEV = 4, ATTR_NOEXEC = 8, AT_RECURSIVE_ = 0x8000 };
#define ROOT "/sys" /* every machine has it and no box needs it: a place to build the new root on */

static status set_attr(const char *path, uint64_t set, int recursive)
{
    mount_attr_1 a = {.set = set};
    STEP("mount_setattr (Linux 5.12 or newer)",
         syscall(SYS_mount_setattr, AT_FDCWD, path, recursive ? AT_RECURSIVE_ : 0, &a, sizeof a));
    return ST_OK;
}

static status make_parents(char *path)
{
    for (char *at = strchr(path + sizeof ROOT, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        int bad = mkdir(path, 0755) && errno != EEXIST;
        *at = '/';
        if (bad) STEP(path, -1);
    }
    return ST_OK;
}

/* Shows a path of the machine at ROOT/path: a link as a link to target, else the mount, or (-1) what lies there. */
static status show_as(const char *p, const char *target, const struct stat *s, int mount_fd, uint64_t attr)
{
    char to[PATH_MAX];
    if ((size_t)snprintf(to, sizeof to, ROOT "%s", p) >= sizeof to) return FAIL(ST_EINVAL, "sandbox: %s: too long", p);
    TRY(make_parents(to));
    if (target) {
        STEP(p, symlink(target, to));
        return ST_OK;
    }
    if (S_ISDIR(s->st_mode)) {
        STEP(to, mkdir(to, 0755));
    } else {
        int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        STEP(to, fd);
        close(fd);
    }
    if (mount_fd >= 0)
        STEP(p, syscall(SYS_move_mount, mount_fd, "", AT_FDCWD, to, 4 /* MOVE_MOUNT_F_EMPTY_PATH */));
    else
        STEP(p, mount(p, to, NULL, MS_BIND | MS_REC, NULL));
    return set_attr(to, attr, 1);
}

/* Absent paths are skipped. */
static status show(const char *p, uint64_t attr)
{
    struct stat s;
    char target[PATH_MAX];
    if (lstat(p, &s)) return ST_OK;
    if (!S_ISLNK(s.st_mode)) return show_as(p, NULL, &s, -1, attr);
    ssize_t n = readlink(p, target, sizeof target - 1);
    if (n < 0) return ST_OK;
    target[n] = 0;
    return show_as(p, target, &s, -1, attr);
}

static status show_python(const python_env *e)
{
    int i = 0;
    for (const char *p = e->paths; *p; p = python_next(p), i++) {
        struct stat s;
        const char *target = *python_target(p) ? python_target(p) : NULL;
        if (!target && (e->mounts[i] < 0 ? stat(p, &s) : fstat(e->mounts[i], &s)))
            return FAIL(ST_EINVAL,
                        "sandbox.python: %s: %s for the user that boxes run as (id %u); open the folders above it with "
                        "chmod o+x",
                        p, strerror(errno), geteuid());
        TRY(show_as(p, target, &s, e->mounts[i], ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV));
        if (e->mounts[i] >= 0) close(e->mounts[i]);
    }
    return ST_OK;
}

/* All of the machine that a box sees. */
static const char *const tree[] = {"/usr",
                                   "/bin",
                                   "/sbin",
                                   "/lib",
                                   "/lib32",
                                   "/lib64",
                                   "/etc/alternatives",
                                   "/etc/fonts",
                                   "/etc/ld.so.cache",
                                   "/etc/matplotlibrc",
                                   NULL};

static status build_root(const jail *j)
{
    STEP("private mounts", mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    STEP("tmpfs root", mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=1024,mode=755"));
    static const char *const dirs[] = {"/etc", "/dev", "/tmp", "/var", "/var/cache"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        char to[64];
        snprintf(to, sizeof to, ROOT "%s", dirs[i]);
        STEP(to, mkdir(to, 0755));
    }
    for (const char *const *p = tree; *p; p++) TRY(show(*p, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV));
    if (j->python) TRY(show_python(j->python));
    /* A read-only mount takes writes to a device, but no new mode or time stamp, which all boxes would see. */
    TRY(show("/dev/null", ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC));
    TRY(show("/dev/zero", ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC));
    TRY(show("/dev/urandom", ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC));
    STEP("/dev/shm", symlink("/tmp", ROOT "/dev/shm")); /* multiprocessing's semaphores, inside the box's own quota */
    STEP("new root", chdir(ROOT));
    STEP("pivot_root", syscall(SYS_pivot_root, ".", "."));
    STEP("detach the old root", umount2(".", MNT_DETACH));
    STEP("new root", chdir("/"));
    return ST_OK;
}

static status enter_namespaces(jail *j, int sock)
{
    unsigned uid = geteuid(), gid = getegid();
    STEP("user namespace", unshare(CLONE_NEWUSER | CLONE_NEWPID));
    TRY(map_ids(j->proc, uid, gid));
    pid_t inner = fork();
    STEP("fork", inner);
    if (inner) {
        close(sock); /* so that the supervisor sees the end of file of the inner process */
        int st = 0;
        while (waitpid(inner, &st, 0) < 0 && errno == EINTR) {}
        _exit(WIFEXITED(st) ? WEXITSTATUS(st) : 70);
    }
    STEP("parent death signal", prctl(PR_SET_PDEATHSIG, SIGKILL));
    j->pidns = openat(j->proc, "self/ns/pid", O_RDONLY | O_CLOEXEC);
    STEP("open own pid namespace", j->pidns);
    STEP("mount, net, ipc, uts, cgroup namespaces",
         unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP));
    STEP("host name", sethostname("box", 3));
    return build_root(j); /* AppArmor lets unshare pass and stops here */
}

status jail_zygote_enter(jail *j, int sock)
{
    j->pidns = -1;
    j->proc = open("/proc", O_PATH | O_CLOEXEC);
    STEP("open /proc", j->proc);
    STEP("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (j->tier >= BOX_T2 || enter_namespaces(j, sock) == ST_OK) return ST_OK;
    return FAIL(ST_EUNAVAIL,
                "no namespaces (%s); allow unprivileged user namespaces (sysctl user.max_user_namespaces, "
                "kernel.unprivileged_userns_clone, AppArmor; in a container --security-opt seccomp=unconfined) or run "
                "as root with "
                "CAP_SYS_ADMIN",
                fail_message());
}

status jail_zygote_seal(jail *j)
{
    char text[64] = "";
    int fd = openat(j->proc, "self/statm", O_RDONLY | O_CLOEXEC);
    STEP("own size", fd);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    long pages = 0;
    if (n <= 0 || sscanf(text, "%ld", &pages) != 1) return FAIL(ST_ESYS, "sandbox: cannot read /proc/self/statm");
    j->base_mib = pages / (1048576 / sysconf(_SC_PAGESIZE)) + 1;
    if (j->tier < BOX_T2) TRY(set_attr("/", ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0));
    int e = seccomp_base();
    return e ? FAIL(ST_EUNAVAIL,
                    "sandbox step \"base system-call filter\": %s; the kernel needs CONFIG_SECCOMP_FILTER, and a "
                    "container "
                    "has to allow seccomp",
                    strerror(-e))
             : ST_OK;
}

int jail_threads(const jail *j)
{
    struct stat s;
    return fstatat(j->proc, "self/task", &s, 0) ? -1 : (int)s.st_nlink - 2;
}

/* ---- per box ---- */

static status set_limit(int what, rlim_t v)
{
    struct rlimit r = {v, v}, have;
    if (getrlimit(what, &have) == 0 && have.rlim_max != RLIM_INFINITY && have.rlim_max < v)
        r.rlim_cur = r.rlim_max = have.rlim_max;
    STEP("resource limits", setrlimit(what, &r));
    return ST_OK;
}

static status set_limits(const jail *j, const box_limits *l)
{
    /* Without a user namespace the count is of everything this user runs; there the filter allows one thread only. */
    if (j->tier < BOX_T2) TRY(set_limit(RLIMIT_NPROC, (rlim_t)l->pids));
    const rlim_t mib = 1 << 20;
    int64_t file = l->tmp_mib > 64 ? l->tmp_mib : 64; /* the image memfd is 64 MiB */
    TRY(set_limit(RLIMIT_AS, (rlim_t)(j->base_mib + l->memory_mib) * mib));
    TRY(set_limit(RLIMIT_FSIZE, (rlim_t)file * mib));
    TRY(set_limit(RLIMIT_NOFILE, 256));
    TRY(set_limit(RLIMIT_CORE, 0));
    TRY(set_limit(RLIMIT_MEMLOCK, 0));
    TRY(set_limit(RLIMIT_MSGQUEUE, 0));
    TRY(set_limit(RLIMIT_SIGPENDING, 64));
    TRY(set_limit(RLIMIT_RTPRIO, 0));
    return set_limit(RLIMIT_STACK, 8 * mib);
}

static status mount_tmp(const box_limits *l)
{
    char opt[96];
    snprintf(opt, sizeof opt, "size=%lldm,nr_inodes=4096,mode=700,uid=1000,gid=1000", (long long)l->tmp_mib);
    STEP("private /tmp", mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, opt));
    STEP("private /tmp", chdir("/tmp"));
    return ST_OK;
}

status jail_box(const jail *j, const box_limits *l)
{
    STEP("setsid", setsid());
    if (j->proc >= 0) TRY(write_at(j->proc, "self/oom_score_adj", "1000")); /* never the trainer in its place */
    if (j->tier >= BOX_T2) {
        STEP("parent death signal", prctl(PR_SET_PDEATHSIG, SIGKILL));
        STEP("working directory", chdir("/"));
        return set_limits(j, l);
    }
    unsigned uid = geteuid(), gid = getegid();
    STEP("user namespace", unshare(CLONE_NEWUSER)); /* counts its processes apart from the other boxes' */
    TRY(map_ids(j->proc, uid, gid));
    STEP("mount, ipc, uts namespaces", unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS));
    TRY(mount_tmp(l));
    return set_limits(j, l);
}

status jail_box_renew(const jail *j, const box_limits *l)
{
    if (j->tier >= BOX_T2) return ST_OK; /* nothing was writable */
    STEP("leave /tmp", chdir("/"));
    STEP("drop /tmp", umount2("/tmp", MNT_DETACH));
    return mount_tmp(l);
}

/* Debian 12's header is older than the kernels this runs on. */
typedef struct landlock_attr {
    uint64_t fs, net, scoped;
} landlock_attr;
typedef struct landlock_path {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed)) landlock_path;
enum {
    LL_EXECUTE = 1,
    LL_WRITE = 2,
    LL_READ = 4,
    LL_READ_DIR = 8,
    LL_ALL_V1 = 0x1fff,
    LL_REFER = 0x2000,
    LL_TRUNCATE = 0x4000,
    LL_IOCTL_DEV = 0x8000
};

int jail_landlock_abi(void)
{
    long v = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);
    return v < 0 ? 0 : (int)v;
}

static status landlock_allow(int set, const char *path, uint64_t rights)
{
    landlock_path p = {rights, open(path, O_PATH | O_CLOEXEC)};
    STEP(path, p.fd);
    long r = syscall(SYS_landlock_add_rule, set, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &p, 0);
    close(p.fd);
    STEP("Landlock rule", r);
    return ST_OK;
}

static status landlock_show(int set, const char *p)
{
    struct stat s;
    if (stat(p, &s)) return ST_OK;
    return landlock_allow(set, p, S_ISDIR(s.st_mode) ? LL_EXECUTE | LL_READ | LL_READ_DIR : LL_EXECUTE | LL_READ);
}

/* At T2 the tree is the machine's: what jail_zygote_enter would have shown, and nothing to write. */
static status landlock_tree(int set, const python_env *python)
{
    for (const char *const *p = tree; *p; p++) TRY(landlock_show(set, *p));
    for (const char *p = python ? python->paths : ""; *p; p = python_next(p))
        if (!*python_target(p)) TRY(landlock_show(set, p));
    TRY(landlock_allow(set, "/dev/zero", LL_READ));
    return landlock_allow(set, "/dev/urandom", LL_READ);
}

static status landlock(const jail *j)
{
    const box_tier tier = j->tier;
    int abi = jail_landlock_abi();
    if (abi < 1)
        return tier < BOX_T2
                   ? ST_OK
                   : FAIL(ST_EUNAVAIL, "tier T2 needs Landlock: Linux 5.13 or newer, lsm=landlock,... at boot");
    landlock_attr a = {.fs = LL_ALL_V1};
    if (abi >= 2) a.fs |= LL_REFER;
    if (abi >= 3) a.fs |= LL_TRUNCATE;
    if (abi >= 4) a.net = 3; /* bind and connect TCP: no rule, so never */
    if (abi >= 5) a.fs |= LL_IOCTL_DEV;
    if (abi >= 6) a.scoped = 3; /* abstract sockets and signals stay inside */
    size_t size = abi >= 6 ? sizeof a : abi >= 4 ? 16 : 8;
    int set = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
    STEP("Landlock ruleset", set);
    status st =
        tier < BOX_T2 ? landlock_allow(set, "/", LL_EXECUTE | LL_READ | LL_READ_DIR) : landlock_tree(set, j->python);
    if (st == ST_OK && tier < BOX_T2) st = landlock_allow(set, "/tmp", a.fs & ~(uint64_t)(LL_EXECUTE | LL_IOCTL_DEV));
    if (st == ST_OK) st = landlock_allow(set, "/dev/null", LL_WRITE | LL_READ);
    if (st == ST_OK && syscall(SYS_landlock_restrict_self, set, 0))
        st = FAIL(ST_ESYS, "sandbox step \"Landlock\": %s", strerror(errno));
    close(set);
    return st;
}

status jail_holder(const jail *j)
{
    TRY(landlock(j));
    if (j->tier >= BOX_T2) STEP("parent death signal", prctl(PR_SET_PDEATHSIG, SIGKILL));
    for (int cap = 0; cap <= 63; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)) break; /* EINVAL past the last one; EPERM: there are none to drop */
    STEP("ambient capabilities", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    if (j->tier < BOX_T2)
        STEP("securebits",
             prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                          SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                          SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED));
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    STEP("capabilities", syscall(SYS_capset, &h, none));
    int e = j->tier < BOX_T2 ? seccomp_holder(j->tier != BOX_T0) : seccomp_holder_t2(getpid());
    return e ? FAIL(ST_ESYS, "sandbox step \"system-call filter\": %s", strerror(-e)) : ST_OK;
}
