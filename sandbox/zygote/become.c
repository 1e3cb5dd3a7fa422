#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/zygote/zygote.h"

/* Loads the library without a module of it: its init function does not return (attach.c). */
static const char load[] = "import sys, _imp\n"
                           "class S: name, origin = sys.argv[1:]\n"
                           "_imp.create_dynamic(S)\n";

/* T0, T1: a copy in the jail's root; the folder it came from is not shown there. */
static status copy_library(int from)
{
    int to = open(BECOME_FILE, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    char part[16384];
    bool ok = to >= 0;
    for (ssize_t n, at = 0; ok && (n = pread(from, part, sizeof part, at)) != 0; at += n)
        ok = n > 0 && write(to, part, (size_t)n) == n;
    if (to >= 0) close(to);
    return ok ? ST_OK : FAIL(ST_ESYS, "sandbox.python: no copy of codedance-zygote.so: %s", strerror(errno));
}

/* malloc reads there whether and how large huge pages are, when the interpreter starts. */
static struct {
    char path[64], text[64];
    ssize_t n;
} thp[] = {{.path = BECOME_THP "/enabled"}, {.path = BECOME_THP "/hpage_pmd_size"}};

void become_prepare(void)
{
    for (int i = 0; i < 2; i++) {
        int fd = open(thp[i].path, O_RDONLY | O_CLOEXEC);
        thp[i].n = fd < 0 ? 0 : read(fd, thp[i].text, sizeof thp[i].text);
        if (fd >= 0) close(fd);
    }
}

static void copy_thp(void)
{
    char folder[] = BECOME_THP;
    for (char *at = strchr(folder + 1, '/');; at = strchr(at + 1, '/')) {
        if (at) *at = 0;
        mkdir(folder, 0755);
        if (!at) break;
        *at = '/';
    }
    for (int i = 0; i < 2; i++) {
        int fd = thp[i].n > 0 ? open(thp[i].path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644) : -1;
        if (fd >= 0 && write(fd, thp[i].text, (size_t)thp[i].n) < 0) unlink(thp[i].path); /* small pages, then */
        if (fd >= 0) close(fd);
    }
}

/* The rights the zygote has in its own user namespace outlive an execve only as ambient ones. */
static status keep_capabilities(void)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    if (syscall(SYS_capget, &h, d)) return FAIL(ST_ESYS, "sandbox step \"own capabilities\": %s", strerror(errno));
    for (int i = 0; i < 2; i++) d[i].inheritable = d[i].permitted;
    if (syscall(SYS_capset, &h, d)) return FAIL(ST_ESYS, "sandbox step \"own capabilities\": %s", strerror(errno));
    for (int c = 0; c < 64; c++)
        if (d[c / 32].permitted & 1u << c % 32 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0))
            return FAIL(ST_ESYS, "sandbox step \"ambient capabilities\": %s", strerror(errno));
    return ST_OK;
}

static void set_environment(const python_env *p, const char *library)
{
    char folder[PYTHON_PATH], *libs = getenv("LD_LIBRARY_PATH");
    if (libs) libs = strdup(libs);
    snprintf(folder, sizeof folder, "%s", p->exe);
    *strrchr(folder, '/') = 0;
    zygote_environment(folder);
    if (libs) setenv("LD_LIBRARY_PATH", libs, 1);
    free(libs);
    if (*p->paths)
        setenv("LD_ORIGIN_PATH", folder,
               1); /* stays, for its children too: the loader's $ORIGIN, where /proc is missing */
    /* What the built-in one is told by its configuration; attach.c takes it away again. */
    setenv("LD_BIND_NOW", "1", 1);
    setenv("LD_PRELOAD", library, 1); /* repeat.c comes before libc */
    setenv("GLIBC_TUNABLES",
           "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=4194304:"
           "glibc.malloc.trim_threshold=8388608",
           1);
    setenv("PYTHONUTF8", "1", 1);
    setenv("PYTHONNOUSERSITE", "1", 1);
    setenv("PYTHONSAFEPATH", "1", 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
}

static status place(int fd, int at)
{
    return fd == at || dup2(fd, at) >= 0 ? ST_OK : FAIL(ST_ESYS, "sandbox: dup2: %s", strerror(errno));
}

/* Everything attach.c takes over, at its number. */
static status hand_over(zygote_state *z, int library)
{
    int state = memfd_create("box-zygote", MFD_CLOEXEC);
    if (state < 0 || write(state, z, sizeof *z) != (ssize_t)sizeof *z)
        return FAIL(ST_ESYS, "sandbox: no memory for a zygote: %s", strerror(errno));
    int from[] = {state, z->j.proc, z->j.pidns, library};
    for (int i = 0; i < 4; i++)
        if (from[i] >= 0 && (from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64)) < 0)
            return FAIL(ST_ESYS, "sandbox: too many open files");
    for (int i = 0; i < 4; i++)
        if (from[i] >= 0) TRY(place(from[i], BECOME_STATE + i));
    return fcntl(BECOME_SOCK, F_SETFD, 0) ? FAIL(ST_ESYS, "sandbox: the supervisor's socket is lost") : ST_OK;
}

status become_python(zygote_state *z, int library)
{
    static char said[4096], file[] = "/proc/self/fd/7";
    bool in_jail = z->j.tier < BOX_T2;
    char *argv[] = {
        z->python.exe, (char *)"-c", (char *)load, (char *)"codedance_trial", in_jail ? (char *)BECOME_FILE : file,
        NULL};
    if (in_jail) TRY(copy_library(library));
    if (in_jail) copy_thp();
    TRY(hand_over(z, library));
    set_environment(&z->python, argv[4]);
    if (chdir("/")) return FAIL(ST_ESYS, "sandbox: chdir: %s", strerror(errno));
    /* Once as a rehearsal that stops at the library's door, because it can still be heard what goes wrong. */
    int rc = python_capture(argv, BECOME_FDS, said, sizeof said, 60);
    if (rc != 1 || !strstr(said, "\nImportError: trial"))
        return FAIL(
            ST_EINVAL, "sandbox.python: %s does not start in a box: %.300s%s", z->msg.bytes + z->interpreter,
            rc < 0 ? "no answer in a minute" : python_last_line(said),
            in_jail ? "" : " (without namespaces, all folders it lies in must be open to the boxes' user: chmod o+x)");
    argv[3] = (char *)"codedance_zygote";
    if (in_jail) TRY(keep_capabilities());
    execv(argv[0], argv);
    return FAIL(ST_EINVAL, "sandbox.python: %s: %s", argv[0], strerror(errno));
}
