/* The test fuzz_corpus: every committed input through its entry, without libFuzzer. */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "data/file.h"
#include "tests/fuzz/fuzz.h"

/* For one input. A sanitizer reserves terabytes of addresses, so that no limit on them is possible under it. */
enum { SECONDS = 10, MEGABYTES = 1500, LIMITED = !SANITIZED };

static const struct {
    const char *name;
    status (*entry)(const uint8_t *data, size_t n);
} entries[] = {{"safetensors", fuzz_safetensors},
               {"index", fuzz_index},
               {"tokenizer", fuzz_tokenizer},
               {"text", fuzz_text},
               {"config", fuzz_config},
               {"preprocessor", fuzz_preprocessor},
               {"conversation", fuzz_conversation},
               {"png", fuzz_png},
               {"jpeg", fuzz_jpeg},
               {"webp", fuzz_webp},
               {"gif", fuzz_gif}};

static char current[PATH_MAX]; /* for the handler */

static void died(int sig)
{
    static const char text[] = ": crashed or did not end\n";
    ssize_t n = write(2, current, strlen(current));
    n = write(2, text, sizeof text - 1);
    (void)n;
    signal(sig, SIG_DFL);
    raise(sig);
}

/* 1 if what became of the file is not what its name says. A format this program was built without says nothing. */
static int replay(int i, const char *path, const char *name)
{
    char *bytes = NULL;
    size_t n = 0;
    snprintf(current, sizeof current, "%s", path);
    if (file_read(path, &bytes, &n) != ST_OK) {
        printf("%s\n", fail_message());
        return 1;
    }
    uint8_t *exact = malloc(n ? n : 1); /* no byte more, so that a sanitizer sees reads past the end */
    CHECK(exact);
    memcpy(exact, bytes, n);
    free(bytes);
    alarm(SECONDS);
    status st = entries[i].entry(exact, n);
    alarm(0);
    free(exact);
    bool good = !strncmp(name, "good-", 5), bad = !strncmp(name, "bad-", 4);
    bool fine = st == ST_OK ? !bad : (!good && st != ST_ENOMEM && *fail_message()) || st == ST_EUNAVAIL;
    if (!fine) printf("%s: %s\n", path, st == ST_OK ? "accepted, but must be refused" : fail_message());
    return !fine;
}

static int replay_all(int i, int *count)
{
    char dir[PATH_MAX], path[PATH_MAX];
    int bad = 0, before = *count;
    snprintf(dir, sizeof dir, "%s/tests/fuzz/corpus/%s", SOURCE_DIR, entries[i].name);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        CHECK(file_join(path, sizeof path, dir, e->d_name) == ST_OK);
        bad += replay(i, path, e->d_name);
        ++*count;
    }
    if (d) closedir(d);
    if (*count == before) printf("%s: no inputs\n", dir);
    return bad + (*count == before);
}

int main(void)
{
    int bad = 0, count = 0;
    const int signals[] = {SIGALRM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], died);
    const struct rlimit memory = {(rlim_t)MEGABYTES << 20, (rlim_t)MEGABYTES << 20};
    CHECK(!LIMITED || setrlimit(RLIMIT_AS, &memory) == 0);
    for (int i = 0; i < (int)(sizeof entries / sizeof *entries); i++) bad += replay_all(i, &count);
    printf("%d inputs, %d wrong\n", count, bad);
    return bad ? 1 : 0;
}
