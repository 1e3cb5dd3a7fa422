/* Loading a checkpoint beside `cat` of its weight files to /dev/null: bench_load DIR [ROUNDS]
 * Both read from the page cache (the first cat fills it) and take turns. Weights are kept in bf16. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "data/hf.h"
#include "kernels/kernels.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cat(const char *dir)
{
    char command[PATH_MAX + 64];
    snprintf(command, sizeof command, "cat '%s'/*.safetensors >/dev/null", dir);
    double begin = now();
    if (system(command) != 0) exit(1);
    return now() - begin;
}

typedef struct loaded {
    double seconds, model_bytes;
    long rss_kib, base_kib;
} loaded;

/* In a child, so that each starts from nothing and its peak is its own. */
static loaded load(const char *dir)
{
    loaded r = {0};
    int pipes[2];
    if (pipe(pipes) != 0) exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        struct rusage u;
        model_config c;
        model *m = NULL;
        backend *b = NULL;
        getrusage(RUSAGE_SELF, &u);
        r.base_kib = u.ru_maxrss;
        double begin = now();
        bool ok = hf_load_config(&c, dir) == ST_OK && backend_open_cpu(&b, 0, "auto") == ST_OK &&
                  model_create_stored(&m, b, &c, DT_BF16_ROWS) == ST_OK && hf_load_weights(m, dir) == ST_OK;
        r.seconds = now() - begin;
        if (!ok) fprintf(stderr, "%s\n", fail_message());
        getrusage(RUSAGE_SELF, &u);
        r.rss_kib = u.ru_maxrss;
        r.model_bytes = ok ? 2.0 * (double)model_param_count(m) : 0;
        if (write(pipes[1], &r, sizeof r) != sizeof r) _exit(1);
        _exit(!ok);
    }
    int end = 1;
    bool got = read(pipes[0], &r, sizeof r) == sizeof r;
    waitpid(pid, &end, 0);
    close(pipes[0]), close(pipes[1]);
    if (!got || end != 0) exit(1);
    return r;
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 3;
    if (argc < 2 || rounds < 1) {
        fprintf(stderr, "usage: bench_load DIR [ROUNDS]\n");
        return 2;
    }
    double best_cat = 1e9, best_load = 1e9;
    cat(argv[1]);
    for (int i = 0; i < rounds; i++) {
        double c = cat(argv[1]);
        loaded l = load(argv[1]);
        if (c < best_cat) best_cat = c;
        if (l.seconds < best_load) best_load = l.seconds;
        printf("cat %.3f s, load %.3f s, ratio %.2f; peak RSS %.1f MiB = weights %.1f MiB x %.4f\n", c, l.seconds,
               l.seconds / c, (double)l.rss_kib / 1024, l.model_bytes / (1 << 20),
               (double)l.rss_kib * 1024 / l.model_bytes);
    }
    printf("best of each: cat %.3f s, load %.3f s, ratio %.2f\n", best_cat, best_load, best_load / best_cat);
    return 0;
}
