/* Hostile sizes: headers and indexes as large as the format allows, made of what blows up in memory or time. Each is
 * one clear error with little more address space than the file itself. */
#include <fcntl.h>
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

#include "data/file.h"
#include "data/safetensors.h"
#include "tests/common/tempdir.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LIMITED = 0 }; /* a sanitizer's shadow is larger than any limit */
#else
enum { LIMITED = 1 };
#endif

enum { MB = 1000000 };

/* open_with, pattern again and again, close_with: a header of n bytes; n_data zeros follow. */
static void write_header(size_t n, const char *open_with, const char *pattern, const char *close_with, size_t n_data)
{
    FILE *f = fopen(temppath("huge"), "wb");
    assert_non_null(f);
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)((uint64_t)n >> 8 * i);
    fwrite(prefix, 1, 8, f);
    size_t used = strlen(open_with), end = strlen(close_with), len = strlen(pattern);
    fputs(open_with, f);
    char many[4096];
    size_t copies = sizeof many / len;
    for (size_t i = 0; i < copies; i++) memcpy(many + i * len, pattern, len);
    for (size_t left; (left = (n - used - end) / len) > 0;) {
        if (left > copies) left = copies;
        fwrite(many, 1, left * len, f);
        used += left * len;
    }
    for (; used + end < n; used++) fputc(' ', f);
    fputs(close_with, f);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(ftruncate(fileno(f), (off_t)(8 + n + n_data)), 0);
    fclose(f);
}

static size_t address_space(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%zu", &pages), 1);
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Opening it with at most `extra` bytes of address space beside the mapped file says `want`, in under 20 s of CPU. */
static void refused_within(size_t extra, const char *want)
{
    struct rlimit was, now;
    struct timespec begin, end;
    st_file *f = NULL;
    FILE *file = fopen(temppath("huge"), "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    fclose(file);
    assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
    now = was;
    now.rlim_cur = address_space() + size + extra;
    if (LIMITED) assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    status st = st_open(&f, temppath("huge"));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    setrlimit(RLIMIT_AS, &was);
    if (st == ST_OK) fail_msg("accepted; wanted '%s'", want);
    if (!strstr(fail_message(), want)) fail_msg("'%s' does not say '%s'", fail_message(), want);
    assert_true(strlen(fail_message()) < 1000);
    if (LIMITED) assert_true(end.tv_sec - begin.tv_sec < 20);
}

static void headers(void **state)
{
    (void)state;
    write_header(100 * MB + 1, "{", " ", "}", 0);
    refused_within(MB, "header length 100000001 is too large");
    write_header(100 * MB, "{", " ", "x", 0);
    refused_within(2 * MB + 100 * MB, "expected a tensor's name");
    write_header(100 * MB, "{\"a\":{\"dtype\":[", "1,", "1]}}", 0);
    refused_within(2 * MB + 100 * MB, "longer than any tensor's");
    write_header(100 * MB, "{\"__metadata__\":{\"x\":[", "0,", "0]}}", 0);
    refused_within(2 * MB + 100 * MB, "longer than any tensor's");
    write_header(100 * MB, "{\"a\":", "[", "", 0);
    refused_within(2 * MB + 100 * MB, "must have exactly");
    write_header(100 * MB, "{\"a\":{\"b\":", "[", "", 0);
    refused_within(2 * MB + 100 * MB, "deeper than 64");
    write_header(100 * MB, "{\"", "a", "\":{}}", 0);
    refused_within(2 * MB + 100 * MB, "a name longer");
    write_header(100 * MB, "{\"", "\\\\", "", 0);
    refused_within(2 * MB + 100 * MB, "a name has no end");
    write_header(100 * MB, "{\"a\":{\"", "\\\"", "", 0);
    refused_within(2 * MB + 100 * MB, "longer than any tensor's");
    /* two million entries, one key: every one is well-formed, so they are kept until names are compared */
    write_header(LIMITED ? 100 * MB : 10 * MB, "{", "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},",
                 "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0);
    refused_within(1000 * (size_t)MB, "tensor a appears twice");
}

static void open_one(const char *entry, size_t n_data, const char *want)
{
    char text[512];
    snprintf(text, sizeof text, "{\"a\":%s}", entry);
    write_header(strlen(text), text, " ", "", n_data);
    refused_within(MB, want);
}

static void shapes(void **state)
{
    (void)state;
    open_one("{\"dtype\":\"U8\",\"shape\":[9223372036854775808],\"data_offsets\":[0,1]}", 1, "bad dimension");
    open_one("{\"dtype\":\"U8\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}", 1,
             "outside the file");
    open_one("{\"dtype\":\"F64\",\"shape\":[9223372036854775807],\"data_offsets\":[0,8]}", 8, "too large");
    open_one("{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}", 0, "too large");
    open_one("{\"dtype\":\"F32\",\"shape\":[1e18],\"data_offsets\":[0,0]}", 0, "bad dimension");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[18446744073709551612,18446744073709551616]}", 4,
             "outside the file");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}", 4, "given twice");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[0],"
             "\"data_offsets\":[4,4]}",
             4, "tensor a appears twice");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\\u0000\":{\"dtype\":\"F32\",\"shape\":[0],"
             "\"data_offsets\":[4,4]}",
             4, "NUL");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},", 4, "expected a tensor's name");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"__metadata__\":{},\"__metadata__\":{}", 4,
             "__metadata__ appears twice");
    open_one("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}{", 4, "text after the header's end");
}

/* Zero-size tensors share an offset; hundreds of thousands of names are found quickly. */
static void many_tensors(void **state)
{
    (void)state;
    enum { N = 300000 };
    FILE *f = fopen(temppath("many"), "wb");
    assert_non_null(f);
    fseek(f, 8, SEEK_SET);
    for (int i = 0; i < N; i++)
        fprintf(f, "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[%d,%d]}", i ? ',' : '{',
                (int)((int64_t)i * 7919 % N), i % 2, i / 2, i / 2 + i % 2);
    fputc('}', f);
    uint64_t n = (uint64_t)ftell(f) - 8;
    for (int i = 0; i < N / 2; i++) fputc(i, f);
    rewind(f);
    for (int i = 0; i < 8; i++) fputc((int)(n >> 8 * i & 255), f);
    fclose(f);
    st_file *s = NULL;
    if (st_open(&s, temppath("many")) != ST_OK) fail_msg("%s", fail_message());
    assert_int_equal(st_count(s), N);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", (int)((int64_t)i * 7919 % N));
        const st_tensor *t = st_find(s, name);
        assert_non_null(t);
        assert_int_equal(t->bytes, i % 2);
        uint8_t got;
        if (i % 1000 != 1) continue;
        assert_int_equal(st_read(s, t, 0, &got, 1), ST_OK);
        assert_int_equal(got, (uint8_t)(i / 2));
    }
    /* shorter than when it was opened: an error, not a signal */
    assert_int_equal(truncate(temppath("many"), (off_t)n), 0);
    uint8_t got;
    assert_int_equal(st_read(s, st_at(s, N - 1), 0, &got, 1), ST_EIO);
    assert_non_null(strstr(fail_message(), "became shorter"));
    st_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(headers), cmocka_unit_test(shapes),
                                       cmocka_unit_test(many_tensors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
