/* From kill -9 of a trainer with many trajectories alive until nothing of theirs is left: processes, control groups.
 *     bench_sandbox_kill [LIVE [full]]     JSON lines: of the trainer, then of its supervisor */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"

enum { MOST = 1 << 14 };

/* The one that will be killed: n boxes with a state. */
static _Noreturn void trainer(char **argv, bool full, int n, int ready)
{
    static const char first[] = "x = np.arange(10)\n";
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK(bench_boot(1, argv) < 0);
    box_opts o = bench_box_opts(full);
    o.max_live = n;
    box_pool *p = bench_pool(&o);
    int ended = 0;
    for (int i = 0; i < n; i++) {
        box *b;
        CHECK(box_open(p, (uint64_t)i, NULL, &b) == ST_OK && box_submit(b, first, sizeof first - 1) == ST_OK);
    }
    while (ended < n) {
        box *d[16];
        int k = box_poll(p, d, 16, 1000);
        for (int i = 0; i < k; i++, ended++) {
            box_result r;
            box_result_take(d[i], &r);
            CHECK(r.verdict == BOX_OK);
            box_result_free(&r);
        }
    }
    sleep(1); /* what is made between turns is made */
    int boxd = bench_find().boxd;
    CHECK(write(ready, &boxd, sizeof boxd) == sizeof boxd);
    for (;;) pause();
}

/* Dead but not waited for counts as gone. */
static bool lives(int pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    if (f) fclose(f);
    return state != 'Z';
}

/* How many are left of those; they become the first. The last ones are looked at closely. */
static int remaining(int *pid, int n)
{
    int left = 0;
    for (int i = 0; i < n; i++)
        if (kill(pid[i], 0) == 0 && (n > 20 || lives(pid[i]))) pid[left++] = pid[i];
    return left;
}

static void killed(char **argv, bool full, int n, bool supervisor)
{
    static int pids[MOST];
    int pipe_fd[2], boxd = 0;
    CHECK(pipe(pipe_fd) == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) trainer(argv, full, n, pipe_fd[1]);
    close(pipe_fd[1]);
    CHECK(child > 0 && read(pipe_fd[0], &boxd, sizeof boxd) == sizeof boxd);
    close(pipe_fd[0]);
    int all = bench_descendants(child, pids, MOST), last = supervisor ? boxd : child;
    CHECK(all < MOST && bench_cgroups(boxd) != 0);
    if (supervisor) kill(child, SIGSTOP); /* it would start another */
    double t = clock_now(), processes;
    kill(last, SIGKILL);
    if (!supervisor) CHECK(waitpid(child, NULL, 0) == child);
    for (int left = all; (left = remaining(pids, left)) > 0 && clock_now() < t + 60;) usleep(2000);
    processes = clock_now() - t;
    while (bench_cgroups(boxd) > 0 && clock_now() < t + 60) usleep(2000);
    printf(
        "{\"killed\": \"%s\", \"live\": %d, \"processes\": %d, \"processes_gone_s\": %.3f, \"groups_gone_s\": %.3f}\n",
        supervisor ? "supervisor" : "trainer", n, all, processes, clock_now() - t);
    fflush(stdout);
    kill(child, SIGKILL);
    if (supervisor) waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    bool full = argc > 2 && !strcmp(argv[2], "full");
    killed(argv, full, n, false);
    killed(argv, full, n, true);
    return 0;
}
