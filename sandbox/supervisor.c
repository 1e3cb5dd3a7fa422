#include "sandbox/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct supervisor supervisor = {.sock = -1};

/* ---- names and defaults ---- */

const char *box_verdict_name(box_verdict v)
{
    static const char *const name[] = {
#define BOX_NAME(n) #n,
        BOX_VERDICTS(BOX_NAME)
#undef BOX_NAME
    };
    return v >= 0 && (size_t)v < sizeof name / sizeof *name ? name[v] : "?";
}

const char *box_tier_name(box_tier t)
{
    static const char *const name[] = {"T0", "T1", "T2", "T3"};
    return t >= BOX_T0 && t <= BOX_T3 ? name[t] : "?";
}

void box_limits_default(box_limits *l)
{
    *l = (box_limits){.wall_s = 10,
                      .wall_grace_s = 1,
                      .cpu_s = 10,
                      .memory_mib = 1024,
                      .tmp_mib = 64,
                      .output_kib_kept = 32,
                      .output_kib_max = 8192,
                      .code_kib = 256,
                      .pids = 64,
                      .images_per_turn = 8,
                      .image_max_pixels = 16 << 20,
                      .image_max_side = 8192};
}

/* ---- the supervisor process ---- */

static int connect_to(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(at.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), e;
    if (fd < 0) return -1;
    wire_buffers(fd);
    if (connect(fd, (struct sockaddr *)&at, sizeof at)) {
        e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    supervisor.sock = fd;
    supervisor.generation++;
    return 0;
}

int supervisor_start(void)
{
    if (supervisor.path) return connect_to(supervisor.path);
    int sv[2];
    if ((errno = -wire_pair(sv))) return -1;
    char fd_arg[16];
    snprintf(fd_arg, sizeof fd_arg, "%d", WIRE_INHERITED);
    char *argv[] = {(char *)"codedance", (char *)"@boxd", fd_arg, NULL};
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDWR, 0);
    for (int i = 1; i < 3; i++) posix_spawn_file_actions_adddup2(&fa, 0, i);
    posix_spawn_file_actions_adddup2(&fa, sv[1], WIRE_INHERITED); /* in the child only: nobody else can inherit it */
    int e = posix_spawn(&supervisor.pid, supervisor.exe, &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(sv[1]);
    if (e || fcntl(sv[0], F_SETFL, O_NONBLOCK)) {
        if (!e) kill(supervisor.pid, SIGKILL);
        close(sv[0]);
        supervisor.pid = 0;
        errno = e ? e : EBADF;
        return -1;
    }
    supervisor.sock = sv[0];
    supervisor.generation++;
    return 0;
}

int box_boot(int argc, char **argv, const char *exe)
{
    if (argc == 3 && !strcmp(argv[1], "@boxd")) return wire_inherit(argv[2]) ? 2 : boxd_main(WIRE_INHERITED, NULL);
    free(supervisor.exe);
    supervisor.exe = strdup(exe ? exe : "/proc/self/exe");
    if (supervisor.exe) supervisor_start(); /* if it fails, creating a pool says so: many commands need no boxes */
    return -1;
}

void supervisor_stop(void)
{
    if (supervisor.sock >= 0) close(supervisor.sock);
    supervisor.sock = -1;
    if (supervisor.pid <= 0) return;
    for (int i = 0; i < 400; i++) { /* it ends itself at end of file, after removing what it made */
        pid_t r = waitpid(supervisor.pid, NULL, WNOHANG);
        if (r == supervisor.pid || (r < 0 && errno == ECHILD)) {
            supervisor.pid = 0;
            return;
        }
        usleep(5000);
    }
    kill(supervisor.pid, SIGKILL);
    waitpid(supervisor.pid, NULL, 0);
    supervisor.pid = 0;
}

const char *supervisor_bury(void)
{
    static char how[64];
    int st = 0;
    if (supervisor.sock >= 0) close(supervisor.sock);
    supervisor.sock = -1;
    snprintf(how, sizeof how, "closed its connection");
    if (supervisor.pid > 0) {
        bool ended = false;
        for (int i = 0; i < 20 && !ended; i++) { /* the end of its socket is seen before its death */
            ended = waitpid(supervisor.pid, &st, WNOHANG) == supervisor.pid;
            if (!ended) usleep(1000);
        }
        if (ended && WIFSIGNALED(st)) snprintf(how, sizeof how, "was killed by signal %d", WTERMSIG(st));
        if (ended && WIFEXITED(st)) snprintf(how, sizeof how, "ended with status %d", WEXITSTATUS(st));
        if (!ended) {
            kill(supervisor.pid, SIGKILL);
            waitpid(supervisor.pid, NULL, 0);
            snprintf(how, sizeof how, "had to be ended");
        }
    }
    supervisor.pid = 0;
    return how;
}

void box_shutdown(void)
{
    supervisor_stop();
    free(supervisor.exe);
    free(supervisor.path);
    supervisor.exe = supervisor.path = NULL;
}
