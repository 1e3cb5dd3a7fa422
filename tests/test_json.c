#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "core/json.h"

static json *parse(const char *text)
{
    json *j = NULL;
    if (json_parse(&j, text, strlen(text), "t.json") != ST_OK) fail_msg("%s: %s", text, fail_message());
    return j;
}

static void refuse_n(const char *text, size_t n, const char *message)
{
    json *j = NULL;
    assert_int_equal(json_parse(&j, text, n, "t.json"), ST_EINVAL);
    assert_null(j);
    if (strstr(fail_message(), message) == NULL) fail_msg("'%s' gives '%s', not '%s'", text, fail_message(), message);
}

static void refuse(const char *text, const char *message) { refuse_n(text, strlen(text), message); }

static void values(void **state)
{
    (void)state;
    json *j = parse(" {\"a\": [1, -2.5e3, true, false, null, \"x\"], \"b\": {}, \"c\":[]}\r\n");
    assert_int_equal(json_kind(j), JSON_OBJECT);
    assert_int_equal(json_len(j), 3);
    assert_string_equal(json_key_at(j, 1), "b");
    const json *a = json_get(j, "a");
    assert_int_equal(json_len(a), 6);
    assert_true(json_is_int(json_at(a, 0)));
    assert_int_equal(json_int(json_at(a, 0)), 1);
    assert_false(json_is_int(json_at(a, 1)));
    assert_true(json_num(json_at(a, 1)) == -2500.0);
    assert_true(json_bool(json_at(a, 2)));
    assert_int_equal(json_kind(json_at(a, 3)), JSON_BOOL);
    assert_false(json_bool(json_at(a, 3)));
    assert_int_equal(json_kind(json_at(a, 4)), JSON_NULL);
    assert_string_equal(json_str(json_at(a, 5)), "x");
    assert_null(json_at(a, 6));
    assert_null(json_at(a, -1));
    assert_null(json_get(j, "d"));
    assert_null(json_get(a, "d"));
    assert_true(isnan(json_num(json_at(a, 5))));
    assert_int_equal(json_kind(NULL), JSON_NULL);
    json_free(j);
    json_free(NULL);
}

static void strings(void **state)
{
    (void)state;
    json *j = parse("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\", \"\\u00e9\\u20ac\\ud83d\\ude00\", "
                    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\", \"a\\u0000b\"]");
    assert_string_equal(json_str(json_at(j, 0)), "\"\\/\b\f\n\r\t");
    assert_string_equal(json_str(json_at(j, 1)), json_str(json_at(j, 2)));
    assert_int_equal(json_len(json_at(j, 3)), 3);
    assert_memory_equal(json_str(json_at(j, 3)), "a\0b", 4);
    json_free(j);

    refuse("\"abc", "t.json:1:1: string without a closing quote");
    refuse("\"abc\\\"", "closing quote");
    refuse("\"\\x\"", "t.json:1:2: unknown escape");
    refuse("\"\\u12g4\"", "four hexadecimal digits");
    refuse("\"\\ud800\"", "high surrogate");
    refuse("\"\\ud800\\u0041\"", "high surrogate");
    refuse("\"\\udc00\"", "low surrogate");
    refuse("\"a\tb\"", "t.json:1:3: control character");
    refuse("{\"a\\u0000\": 1}", "NUL character");
}

static void utf8(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xc3",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[16];
        snprintf(text, sizeof text, "\"x%s\"", bad[i]);
        refuse(text, "t.json:1:3: invalid UTF-8");
    }
    refuse("\xef\xbb\xbf{}", "byte order mark");
}

static void numbers(void **state)
{
    (void)state;
    json *j =
        parse("[9223372036854775807, -9223372036854775808, 9223372036854775808, -9223372036854775809, 1.0, 1e2,"
              " 0.1, 1.7976931348623157e308, 5e-324, 1e-400, 123456789012345678901234567890, -0, 0.30000000000000004,"
              " 1e22, 1e23]");
    assert_true(json_int(json_at(j, 0)) == INT64_MAX);
    assert_true(json_int(json_at(j, 1)) == INT64_MIN);
    assert_false(json_is_int(json_at(j, 2)));
    assert_true(json_num(json_at(j, 2)) == 9223372036854775808.0);
    assert_false(json_is_int(json_at(j, 3)));
    assert_false(json_is_int(json_at(j, 4)));
    assert_false(json_is_int(json_at(j, 5)));
    assert_true(json_num(json_at(j, 6)) == 0.1);
    assert_true(json_num(json_at(j, 7)) == DBL_MAX);
    assert_true(json_num(json_at(j, 8)) == 5e-324);
    assert_true(json_num(json_at(j, 9)) == 0.0);
    assert_true(json_num(json_at(j, 10)) == 123456789012345678901234567890.0);
    assert_true(signbit(json_num(json_at(j, 11))));
    assert_true(json_num(json_at(j, 12)) == 0.30000000000000004);
    assert_true(json_num(json_at(j, 13)) == 1e22);
    assert_true(json_num(json_at(j, 14)) == 1e23);
    json_free(j);

    static const char *const bad[] = {"01",  "-",   "1.",       ".5",        "+1",   "1e",
                                      "1e+", "NaN", "Infinity", "-Infinity", "0x10", "--1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refuse(bad[i], "t.json:1:");
    refuse("1e400", "too large for a double");
    char *big = malloc(5001);
    memset(big, '9', 5000);
    big[5000] = '\0';
    refuse(big, "longer than 1023");
    free(big);
}

static void structure(void **state)
{
    (void)state;
    refuse("", "end of the text");
    refuse("  \n ", "t.json:2:2");
    refuse("{\"a\" 1}", "t.json:1:6: expected ':', found '1'");
    refuse("{\"a\": 1,}", "expected a key in quotes");
    refuse("[1,]", "expected a value");
    refuse("[1 2]", "expected ',' or ']', found '2'");
    refuse("[1", "found the end of the text");
    refuse("{a: 1}", "expected a key in quotes");
    refuse("{\"a\": tru}", "t.json:1:7: expected a value");
    refuse("[] []", "t.json:1:4: expected the end of the text");
    refuse("{\n \"a\": 1,\n \"a\": 2}", "t.json:3:7: key \"a\" is given twice");
    refuse_n("[1]\0", 4, "found byte 0x00");
    refuse("[1] // no", "expected the end of the text");

    char deep[140];
    for (int n = 64; n <= 65; n++) {
        memset(deep, '[', (size_t)n);
        memset(deep + n, ']', (size_t)n);
        deep[2 * n] = '\0';
        if (n == 64)
            json_free(parse(deep));
        else
            refuse(deep, "t.json:1:65: nested deeper than 64 levels");
    }

    json *j = NULL;
    assert_int_equal(json_parse(&j, "{\"a\" 1}", 7, "a.jsonl:12"), ST_EINVAL);
    assert_string_equal(fail_message(), "a.jsonl:12:6: expected ':', found '1'");
}

static void large_objects(void **state)
{
    (void)state;
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    for (int i = 0; i < 5000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        json_key(&o, key);
        json_put_int(&o, i);
    }
    json_close(&o, '}');
    json *j = parse(o.text);
    for (int i = 0; i < 5000; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(json_int(json_get(j, key)), i);
        assert_string_equal(json_key_at(j, i), key);
    }
    assert_null(json_get(j, "k5000"));
    json_free(j);
    o.text[o.len - 1] = ','; /* reopen the object and repeat a key */
    json_put_raw(&o, "\"k77\":0}", 8);
    refuse(o.text, "key \"k77\" is given twice");
    json_end(&o);
}

static void places(void **state)
{
    (void)state;
    json *j = parse("{\n  \"a\": 1,\n  \"b\": [true,\n    \"x\"]\n}");
    int line, col;
    json_place(j, &line, &col);
    assert_int_equal(line, 1);
    assert_int_equal(col, 1);
    json_place(json_at(json_get(j, "b"), 1), &line, &col);
    assert_int_equal(line, 4);
    assert_int_equal(col, 5);

    const char *s = NULL;
    int64_t i = -1;
    double d = -1;
    assert_int_equal(json_need_str(j, "a", &s), ST_EINVAL);
    assert_string_equal(fail_message(), "t.json:2:8: member \"a\" must be a string, not a number");
    assert_int_equal(json_need_str(j, "zz", &s), ST_EINVAL);
    assert_string_equal(fail_message(), "t.json:1:1: member \"zz\" (a string) is missing");
    assert_int_equal(json_need_int(j, "a", 5, 9, &i), ST_EINVAL);
    assert_string_equal(fail_message(), "t.json:2:8: member \"a\" = 1 must be an integer in [5, 9]");
    assert_int_equal(i, -1);
    assert_int_equal(json_need_int(j, "a", 0, 9, &i), ST_OK);
    assert_int_equal(i, 1);
    assert_int_equal(json_need_num(j, "a", &d), ST_OK);
    assert_true(d == 1.0);
    assert_int_equal(json_need_num(j, "b", &d), ST_EINVAL);
    json_free(j);
}

static void writer(void **state)
{
    (void)state;
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_key(&o, "s");
    json_put_str(&o, "a\"\\\n\x01\xc3\xa9\xff"
                     "b");
    json_key(&o, "n");
    json_open(&o, '[');
    json_put_int(&o, INT64_MIN);
    json_put_num(&o, 0.1);
    json_put_num(&o, 1.0 / 3.0);
    json_put_num(&o, 5e-324);
    json_put_num(&o, NAN);
    json_put_num(&o, INFINITY);
    json_put_bool(&o, true);
    json_put_str(&o, NULL);
    json_close(&o, ']');
    json_key(&o, "e");
    json_open(&o, '{');
    json_close(&o, '}');
    json_close(&o, '}');
    assert_string_equal(o.text, "{\"s\":\"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd"
                                "b\",\"n\":[-9223372036854775808,0.1,"
                                "0.3333333333333333,5e-324,null,null,true,null],\"e\":{}}");
    json *j = parse(o.text);
    json_out again;
    json_begin(&again, false);
    json_put_node(&again, j);
    assert_string_equal(again.text, o.text);
    json_end(&again);
    json_begin(&again, true);
    json_put_node(&again, j);
    json *k = parse(again.text);
    assert_string_equal(json_str(json_get(k, "s")), json_str(json_get(j, "s")));
    assert_non_null(strstr(again.text, "{\n  \"s\": \"a"));
    json_free(k);
    json_free(j);
    json_end(&again);
    json_end(&o);

    for (int i = 0; i < 20000; i++) { /* any double survives the trip */
        uint64_t bits = (uint64_t)i * 0x9e3779b97f4a7c15u + 12345;
        double v;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) continue;
        json_begin(&o, false);
        json_open(&o, '[');
        json_put_num(&o, v);
        json_close(&o, ']');
        j = parse(o.text);
        double back = json_num(json_at(j, 0));
        assert_memory_equal(&back, &v, sizeof v);
        json_free(j);
        json_end(&o);
    }
}

/* Every prefix and many one-byte changes of a text: no crash, and a refused text leaves the output alone. */
static void damage(void **state)
{
    (void)state;
    const char *text = "{\"a\": [1, -2.5e-3, \"x\\u00e9\xc3\xa9\"], \"b\": {\"c\": null, \"d\": true}}";
    size_t n = strlen(text);
    json *j = NULL;
    for (size_t i = 0; i < n; i++) {
        char *copy = malloc(i == 0 ? 1 : i); /* exact size, so that a read past the end is seen by the sanitizer */
        memcpy(copy, text, i);
        assert_int_equal(json_parse(&j, copy, i, "t"), ST_EINVAL);
        assert_null(j);
        free(copy);
    }
    char *copy = malloc(n);
    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < 256; c++) {
            memcpy(copy, text, n);
            copy[i] = (char)c;
            j = NULL;
            if (json_parse(&j, copy, n, "t") == ST_OK) json_free(j);
        }
    }
    free(copy);
}

static void files(void **state)
{
    (void)state;
    char path[] = "/tmp/test_json_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs("{\"a\": 1}", f);
    fclose(f);
    json *j = NULL;
    assert_int_equal(json_read_file(&j, path, 8), ST_OK);
    json_free(j);
    j = NULL;
    assert_int_equal(json_read_file(&j, path, 7), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "larger than"));
    remove(path);
    assert_int_equal(json_read_file(&j, path, 100), ST_EIO);
    assert_int_equal(json_read_file(&j, "/tmp", 100), ST_EIO);
    assert_null(j);
}

/* The shape of a 7 MB tokenizer.json; the time is printed, not judged. */
static void big_file(void **state)
{
    (void)state;
    json_out o;
    json_begin(&o, true);
    json_open(&o, '{');
    json_key(&o, "vocab");
    json_open(&o, '{');
    char buf[32];
    for (int i = 0; i < 151643; i++) {
        snprintf(buf, sizeof buf, "\xc4\xa0tok%x", i * 7);
        json_key(&o, buf);
        json_put_int(&o, i);
    }
    json_close(&o, '}');
    json_key(&o, "merges");
    json_open(&o, '[');
    for (int i = 0; i < 151387; i++) {
        snprintf(buf, sizeof buf, "\xc4\xa0t ok%x", i);
        json_put_str(&o, buf);
    }
    json_close(&o, ']');
    json_close(&o, '}');
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    json *j = parse(o.text);
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("parsed %.1f MB in %.1f ms\n", (double)o.len / 1e6,
                  (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    assert_int_equal(json_len(json_get(j, "vocab")), 151643);
    assert_int_equal(json_int(json_get(json_get(j, "vocab"), "\xc4\xa0tok7")), 1);
    json_free(j);
    json_end(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),  cmocka_unit_test(strings),   cmocka_unit_test(utf8),
        cmocka_unit_test(numbers), cmocka_unit_test(structure), cmocka_unit_test(large_objects),
        cmocka_unit_test(places),  cmocka_unit_test(writer),    cmocka_unit_test(damage),
        cmocka_unit_test(files),   cmocka_unit_test(big_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
