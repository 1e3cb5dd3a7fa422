/* Hostile sizes for the readers of JSON, pictures and small files: one clear error, with little memory and soon. What
 * safetensors files can do is in test_safetensors_huge.c, small inputs are in tests/fuzz/corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/json.h"
#include "data/file.h"
#include "data/image.h"
#include "data/sample.h"
#include "data/tokenizer.h"
#include "tests/common/tempdir.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMITED = 0 }; /* a sanitizer's shadow is larger than any limit */
#else
enum { LIMITED = 1 };
#endif

enum { MB = 1 << 20, EXTRA = 32 * MB, SECONDS = 10 };

static struct rlimit before;
static struct timespec begin;

/* From here on EXTRA bytes more of address space, and SECONDS of CPU. */
static void limit(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu", &pages), 1);
    fclose(f);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit now = before;
    now.rlim_cur = pages * (size_t)sysconf(_SC_PAGESIZE) + EXTRA;
    if (LIMITED) assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
}

static void refused(status st, const char *want)
{
    struct timespec end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    setrlimit(RLIMIT_AS, &before);
    if (st == ST_OK) fail_msg("accepted; wanted '%s'", want);
    if (!strstr(fail_message(), want)) fail_msg("'%s' does not say '%s'", fail_message(), want);
    assert_true(strlen(fail_message()) < 1000);
    assert_true(end.tv_sec - begin.tv_sec < SECONDS);
}

/* Files of 8 GiB of zeros, or of endless zeros. */
static void large_files(void **state)
{
    (void)state;
    const char *path = temppath("large");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (off_t)8 << 30), 0);
    fclose(f);
    tokenizer *t = NULL;
    image im;
    json *j = NULL;
    char *text = NULL;
    size_t n = 0;
    limit();
    refused(tokenizer_load(&t, path), "large: larger than");
    limit();
    refused(image_read_file(&im, path), "large: larger than");
    limit();
    refused(json_read_file(&j, path, MB), "large: larger than");
    limit();
    refused(file_read(path, &text, &n), "large has 8589934592 bytes");
    limit();
    refused(json_read_file(&j, "/dev/zero", MB), "/dev/zero: larger than");
    limit();
    refused(file_read("/dev/zero", &text, &n), "/dev/zero: not a regular file");
}

/* open_with, then pattern until n bytes are full. */
static char *make(size_t n, const char *open_with, const char *pattern)
{
    char *text = malloc(n + 1);
    assert_non_null(text);
    size_t at = strlen(open_with), len = strlen(pattern);
    memcpy(text, open_with, at);
    for (; at + len <= n; at += len) memcpy(text + at, pattern, len);
    memset(text + at, ' ', n - at);
    text[n] = 0;
    return text;
}

static void large_texts(void **state)
{
    (void)state;
    const size_t n = 64 * MB;
    static const struct {
        const char *open_with, *pattern, *want;
    } row[] = {{"", "[", "nested deeper than 64"},
               {"", "{\"a\":", "nested deeper than 64"},
               {"{\"messages\":", "[{\"content\":", "nested deeper than 64"},
               {"\"", "a", "without a closing quote"},
               {"\"", "\\\"", "without a closing quote"},
               {"{\"", "\\u0061", "without a closing quote"},
               {"", "9", "longer than 1023"},
               {"1.", "0", "longer than 1023"},
               {"1e", "9", "longer than 1023"},
               {"-", "0", "leading zero"},
               {"", " ", "expected a value"},
               {"", "\n", ":67108865:1: expected a value"},
               {"{}", "\n", ""}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char *text = make(n, row[i].open_with, row[i].pattern);
        json *j = NULL;
        sample s;
        limit();
        status st = json_parse(&j, text, n, "row");
        if (*row[i].want) {
            refused(st, row[i].want);
            assert_null(j);
        } else {
            assert_int_equal(st, ST_OK);
            json_free(j);
            setrlimit(RLIMIT_AS, &before);
        }
        limit();
        refused(sample_parse(&s, text, n, "rows.jsonl:1"), *row[i].want ? row[i].want : "messages must be a list");
        free(text);
    }
}

/* The same key again and again. */
static void many_keys(void **state)
{
    (void)state;
    json *j = NULL;
    char *text = make(2 * MB, "{\"a\":0", ",\"a\":0");
    char *end = strchr(text, 0);
    while (end[-1] == ' ') end--;
    *end = '}';
    limit();
    setrlimit(RLIMIT_AS, &before); /* the members are there before they are compared; only the time counts */
    refused(json_parse(&j, text, (size_t)(end + 1 - text), "row"), "\"a\" is given twice");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(large_files), cmocka_unit_test(large_texts),
                                       cmocka_unit_test(many_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
