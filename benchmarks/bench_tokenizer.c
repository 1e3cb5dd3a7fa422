/* Encoding beside Hugging Face's tokenizers, one thread each, the same texts, in turn:
 *     bench_tokenizer TOKENIZER.json ROUNDS PYTHON TEXTS...      (TEXTS: UTF-8, a NUL between texts)
 * PYTHON is an interpreter that has tokenizers. Ids must be equal. Seconds are the process's CPU time, the least of
 * ROUNDS, so that other work on the machine counts little. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/file.h"
#include "data/tokenizer.h"

static void die(status st)
{
    if (st == ST_OK) return;
    fprintf(stderr, "bench_tokenizer: %s\n", fail_message());
    exit(1);
}

typedef struct figure {
    double seconds;
    long long n;
    unsigned long long sum;
} figure;

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* All texts once; one list for all. */
static double encode_all(const tokenizer *t, const char *text, size_t size, ids *l)
{
    double from = cpu_now();
    l->n = 0;
    for (const char *at = text, *end = text + size; at <= end;) {
        const char *stop = memchr(at, 0, (size_t)(end - at));
        if (!stop) stop = end;
        die(tokenizer_encode(t, at, (size_t)(stop - at), true, l));
        at = stop + 1;
    }
    return cpu_now() - from;
}

static figure ours(const tokenizer *t, const char *text, size_t size, int rounds)
{
    figure f = {.seconds = 1e30};
    ids l = {0};
    for (int i = 0; i < rounds; i++) {
        double s = encode_all(t, text, size, &l);
        if (s < f.seconds) f.seconds = s;
    }
    f.n = l.n;
    for (int i = 0; i < l.n; i++) f.sum = (f.sum * 31 + (unsigned)l.v[i]) & 0xffffffff;
    ids_free(&l);
    return f;
}

static figure theirs(const char *python, const char *model, const char *texts, int rounds, char version[40])
{
    figure f = {0};
    char cmd[2000];
    snprintf(cmd, sizeof cmd, "%s benchmarks/tokenizer_peer.py %s %s %d", python, model, texts, rounds);
    FILE *p = popen(cmd, "r");
    if (!p || fscanf(p, "%lf %lld %llu %39s", &f.seconds, &f.n, &f.sum, version) != 4) {
        fprintf(stderr, "bench_tokenizer: no figures from: %s\n", cmd);
        exit(1);
    }
    pclose(p);
    return f;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_tokenizer TOKENIZER.json ROUNDS PYTHON TEXTS...\n");
        return 2;
    }
    tokenizer *t;
    double from = cpu_now();
    die(tokenizer_load(&t, argv[1]));
    printf("%s: loaded in %.0f ms, vocabulary %d\n", argv[1], 1e3 * (cpu_now() - from), tokenizer_vocab(t));
    int rounds = atoi(argv[2]);
    printf("%-28s %8s %7s %8s %8s %6s\n", "texts", "MB", "bytes", "ours", "library", "ratio");
    for (int i = 4; i < argc; i++) {
        char *text, version[40];
        size_t size;
        die(file_read(argv[i], &text, &size));
        figure a = ours(t, text, size, rounds), b = theirs(argv[3], argv[1], argv[i], rounds, version);
        if (a.n != b.n || a.sum != b.sum) {
            fprintf(stderr, "%s: %lld ids here, %lld in the library, or others\n", argv[i], a.n, b.n);
            return 1;
        }
        double mb = (double)size / 1e6;
        const char *name = strrchr(argv[i], '/');
        printf("%-28s %8.2f %7.2f %5.1f MB/s %5.2f MB/s %5.1fx\n", name ? name + 1 : argv[i], mb,
               (double)size / (double)a.n, mb / a.seconds, mb / b.seconds, b.seconds / a.seconds);
        if (i + 1 == argc) printf("tokenizers %s\n", version);
        free(text);
    }
    tokenizer_destroy(t);
    return 0;
}
