/* codedance-zygote: started by the supervisor only. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sandbox/opener.h"
#include "sandbox/zygote/zygote.h"

void zygote_environment(const char *path)
{
    char programs[PYTHON_PATH + 32];
    snprintf(programs, sizeof programs, "%s%s/usr/bin:/bin", path ? path : "", path ? ":" : "");
    clearenv();
    setenv("PATH", programs, 1);
    setenv("HOME", "/tmp", 1);
    setenv("TMPDIR", "/tmp", 1);
    setenv("LANG", "C.UTF-8", 1);
    setenv("PYTHONHASHSEED", "0", 1); /* for a Python the model code starts itself */
    setenv("MPLBACKEND", "Agg", 1);
    setenv("MPLCONFIGDIR", "/tmp/.matplotlib", 1);
    /* One thread: a second one would not survive the fork, and results must not depend on their number. */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("MKL_NUM_THREADS", "1", 1);
    setenv("OPENCV_FOR_THREADS_NUM", "1", 1); /* wheels of it have a pool of their own */
    setenv("OPENCV_LOG_TIMESTAMP", "0", 1);   /* its warnings tell milliseconds since it was loaded */
}

int zygote_main(int sock)
{
    static zygote_state z = {.size = sizeof z};
    int fds[WIRE_FDS], n_fd = 0;
    ssize_t n = wire_recv(sock, &z.msg, sizeof z.msg - 3, fds, &n_fd, NULL, 0);
    if (n < (ssize_t)sizeof(wire_pool) || z.msg.pool.h.op != OP_INIT) return 1;
    if (z.msg.pool.h.nonce != wire_build()) /* replaced while the program runs, perhaps */
        return wire_send_status(
            sock, OP_INIT_OK, OP_INIT_FAIL, (box_tier)z.msg.pool.tier,
            FAIL(ST_ESYS, "sandbox: codedance-zygote is of another build than the running program"));
    memset(z.msg.bytes + n, 0, 3);
    z.modules = z.preset = sizeof(wire_pool);
    while (z.msg.bytes[z.preset]) z.preset += strlen(z.msg.bytes + z.preset) + 1;
    z.preset++;
    z.interpreter = z.preset + strlen(z.msg.bytes + z.preset) + 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    z.j.tier = (box_tier)z.msg.pool.tier;
    const char *python = z.msg.bytes + z.interpreter;
    status st = !*python ? ST_OK : n_fd > 1 ? opener_ask(fds[1], python, &z.python) : python_find(python, &z.python);
    if (*python && st == ST_OK && n_fd == 0)
        st = FAIL(ST_ESYS,
                  "sandbox.python: codedance-zygote.so is not beside the program: it is built with codedance and "
                  "goes into the same folder");
    box_tier reached = z.j.tier;
    z.j.python = *python ? &z.python : NULL;
    if (*python) become_prepare();
    if (st == ST_OK && (st = jail_zygote_enter(&z.j, sock)) != ST_OK)
        reached = BOX_T3; /* it is the machine that refuses, not what came before or after */
    if (st == ST_OK && *python) {
        st = become_python(&z, fds[0]);
    } else if (st == ST_OK) {
        if (n_fd) close(fds[0]);
        zygote_environment(NULL);
        if ((st = embed_python()) == ST_OK) return zygote_serve(&z, sock, ST_OK);
    }
    wire_send_status(sock, OP_INIT_OK, OP_INIT_FAIL, reached, st);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "@zygote") != 0 || wire_inherit(argv[2])) return 2;
    prctl(PR_SET_NAME, "box-zygote"); /* it was exec'ed by descriptor, which is no name */
    /* Now and not later: malloc reads in /sys, which the jail hides, how large huge pages are. */
    mallopt(M_ARENA_MAX, 2);            /* each further arena would reserve 64 MiB of the address-space limit */
    mallopt(M_MMAP_THRESHOLD, 4 << 20); /* pictures and their arithmetic reuse pages instead of mapping new ones */
    mallopt(M_TRIM_THRESHOLD, 8 << 20);
    return zygote_main(WIRE_INHERITED);
}
