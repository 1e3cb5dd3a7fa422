#include "tests/common/hostile.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int listen_inet(int type, int *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) || (type == SOCK_STREAM && listen(fd, 8)) ||
        getsockname(fd, (struct sockaddr *)&a, &n))
        return -1;
    *port = ntohs(a.sin_port);
    return fd;
}

static int listen_unix(const char *path, bool abstract)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(a.sun_path + abstract, sizeof a.sun_path - 1, "%s", path);
    socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path));
    return fd < 0 || bind(fd, (struct sockaddr *)&a, n) || listen(fd, 8) ? -1 : fd;
}

bool hostile_witness_open(hostile_witness *w)
{
    char path[96];
    unsigned long long r[2];
    *w = (hostile_witness){0};
    snprintf(w->dir, sizeof w->dir, "/tmp/hostile-XXXXXX");
    if (!mkdtemp(w->dir) || getentropy(r, sizeof r)) return false;
    snprintf(w->secret, sizeof w->secret, "SECRET%016llx%016llx", r[0], r[1]);
    setenv("TRAINER_TOKEN", w->secret, 1);
    snprintf(w->file, sizeof w->file, "%s/answer", w->dir);
    FILE *f = fopen(w->file, "w");
    if (!f || fputs(w->secret, f) < 0 || fclose(f) || chmod(w->file, 0644)) return false;
    snprintf(path, sizeof path, "%s/socket", w->dir);
    w->tcp = listen_inet(SOCK_STREAM, &w->port_tcp);
    w->udp = listen_inet(SOCK_DGRAM, &w->port_udp);
    w->named = listen_unix(path, false);
    w->abstract = listen_unix(w->dir, true);
    return w->tcp >= 0 && w->udp >= 0 && w->named >= 0 && w->abstract >= 0;
}

void hostile_witness_describe(const hostile_witness *w, char *out, size_t n)
{
    snprintf(out, n, "TRAINER_DIR, TRAINER_FILE, TCP_PORT, UDP_PORT, TRAINER_PID = '%s', '%s', %d, %d, %d\n", w->dir,
             w->file, w->port_tcp, w->port_udp, (int)getpid());
}

int hostile_witness_check(const hostile_witness *w)
{
    struct stat s = {0};
    char c, text[64] = "";
    int seen = 0;
    const struct {
        const char *what;
        bool touched;
    } t[] = {{"TCP port", accept(w->tcp, NULL, NULL) >= 0},
             {"UDP port", recv(w->udp, &c, 1, 0) >= 0},
             {"named socket", accept(w->named, NULL, NULL) >= 0},
             {"abstract socket", accept(w->abstract, NULL, NULL) >= 0}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (t[i].touched) {
            fprintf(stderr, "the machine's %s was reached from a box\n", t[i].what);
            seen++;
        }
    FILE *f = fopen(w->file, "r");
    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = 0;
        fclose(f);
    }
    if (strcmp(text, w->secret) != 0 || stat(w->file, &s) || (s.st_mode & 07777) != 0644 || s.st_nlink != 1 ||
        s.st_mtime < 1000000000) {
        fprintf(stderr, "the machine's file was changed from a box: mode %o, text \"%s\"\n", s.st_mode, text);
        seen++;
    }
    if (!access("/tmp/box-was-here", F_OK) || !access("/var/tmp/box-was-here", F_OK) ||
        !access("/dev/shm/box-was-here", F_OK)) {
        fprintf(stderr, "a box left a file on the machine\n");
        seen++;
    }
    return seen;
}

void hostile_witness_close(hostile_witness *w)
{
    char path[96];
    const int fd[] = {w->tcp, w->udp, w->named, w->abstract};
    for (int i = 0; i < 4; i++)
        if (fd[i] > 0) close(fd[i]);
    snprintf(path, sizeof path, "%s/socket", w->dir);
    unlink(path);
    unlink(w->file);
    rmdir(w->dir);
}

int hostile_drop_root(void)
{
    if (geteuid() != 0) return 0;
    enum { NOBODY = 65534 };
    if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)) return -1;
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

int hostile_deny_namespaces(void)
{
    static const int denied[] = {SYS_unshare,       SYS_setns,     SYS_mount,      SYS_umount2, SYS_pivot_root,
                                 SYS_mount_setattr, SYS_open_tree, SYS_move_mount, SYS_fsopen};
    struct sock_filter f[64];
    unsigned short n = 0;
    f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) {
        f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)denied[i], 0, 1);
        f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args));
    f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x7e020000, 0, 1);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog p = {n, f};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) ? -1 : 0;
}
