/* The strict row format: what is accepted comes through unchanged, everything else is refused with its place. */
#include "data/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_full_row(void **state)
{
    (void)state;
    const char *row =
        "{\"id\":\"a1\",\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"img/a.png\"},"
        "{\"type\":\"text\",\"text\":\"Gr\\u00fc\\u00dfe\\n\\t\\\"x\\\"\"},{\"type\":\"image\",\"path\":\"img/"
        "b.png\"}]},"
        "{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"tool\",\"content\":[{\"type\":\"image\",\"path\":\"img/"
        "a.png\"}]}],"
        "\"answer\":\"7\",\"verifier\":\"exact\",\"category\":\"rd\",\"domain\":\"math\",\"x_mine\":{\"k\":[1]}}";
    sample s = {0};
    if (sample_parse(&s, row, strlen(row), "a.jsonl:3") != ST_OK) fail_msg("%s", fail_message());
    assert_string_equal(s.id, "a1");
    assert_int_equal(s.n_message, 4);
    assert_int_equal(s.n_image, 3);
    assert_string_equal(s.images[0], "img/a.png");
    assert_string_equal(s.images[1], "img/b.png");
    assert_string_equal(s.images[2], "img/a.png");
    assert_int_equal(s.messages[0].role, ROLE_SYSTEM);
    assert_string_equal(s.messages[0].parts[0].text, "Be brief.");
    const message *m = &s.messages[1];
    assert_int_equal(m->n_part, 3);
    assert_null(m->parts[0].text);
    assert_int_equal(m->parts[0].image, 0);
    assert_string_equal(m->parts[1].text, "Gr\xc3\xbc\xc3\x9f"
                                          "e\n\t\"x\"");
    assert_int_equal(m->parts[2].image, 1);
    assert_string_equal(s.messages[2].parts[0].text, "");
    assert_string_equal(role_name(s.messages[3].role), "tool");
    assert_int_equal(s.messages[3].parts[0].image, 2);
    assert_string_equal(s.answer, "7");
    assert_string_equal(s.verifier, "exact");
    assert_string_equal(s.category, "rd");
    assert_string_equal(s.domain, "math");
    assert_int_equal(json_int(json_at(json_get(json_get(s.row, "x_mine"), "k"), 0)), 1);
    sample_free(&s);
    assert_null(s.id);
    sample_free(&s);
}

static void test_defaults(void **state)
{
    (void)state;
    const char *row = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    sample s = {0};
    assert_int_equal(sample_parse(&s, row, strlen(row), "a.jsonl:12"), ST_OK);
    assert_string_equal(s.id, "a.jsonl:12");
    assert_true(!s.answer && !s.verifier && !s.category && !s.domain && s.n_image == 0);
    sample_free(&s);
}

static void refuse(const char *row, size_t n, const char *want)
{
    sample s = {0};
    if (sample_parse(&s, row, n, "a.jsonl:9") != ST_EINVAL) fail_msg("accepted: %s", row);
    if (!strstr(fail_message(), want)) fail_msg("message '%s' lacks '%s'", fail_message(), want);
    assert_ptr_equal(strstr(fail_message(), "a.jsonl:9"), fail_message());
    assert_null(s.row);
}

#define USER(content) "{\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *row, *error;
    } cases[] = {{"", ""},
                 {"[]", "a row must be a JSON object"},
                 {"7", "a row must be a JSON object"},
                 {"null", "a row must be a JSON object"},
                 {"{\"messages\":[]}", "1..64 messages"},
                 {"{}", "1..64 messages"},
                 {"{\"messages\":\"x\"}", "1..64 messages"},
                 {"{\"messages\":[7]}", "messages[0] must be an object"},
                 {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
                 {"{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role"},
                 {"{\"messages\":[{\"role\":\"bot\",\"content\":\"x\"}]}", "system, user, assistant or tool"},
                 {"{\"messages\":[{\"role\":7,\"content\":\"x\"}]}", "messages[0].role"},
                 {USER("7"), "messages[0].content must be a string or a list"},
                 {USER("null"), "messages[0].content must be a string or a list"},
                 {USER("[]"), "1..256 parts"},
                 {USER("[\"x\"]"), "messages[0].content[0] must be an object"},
                 {USER("[{\"type\":\"video\",\"path\":\"x\"}]"), "messages[0].content[0].type"},
                 {USER("[{\"text\":\"x\"}]"), "content[0].type"},
                 {USER("[{\"type\":\"text\"}]"), "content[0].text must be a string"},
                 {USER("[{\"type\":\"text\",\"text\":3}]"), "content[0].text must be a string"},
                 {USER("[{\"type\":\"text\",\"text\":\"x\",\"path\":\"y\"}]"), "has no path"},
                 {USER("[{\"type\":\"image\",\"path\":\"x\",\"text\":\"y\"}]"), "has no text"},
                 {USER("[{\"type\":\"image\"}]"), "content[0].path must be a string"},
                 {USER("[{\"type\":\"image\",\"path\":\"\"}]"), "path is empty"},
                 {USER("[{\"type\":\"image\",\"url\":\"x\"}]"), "unknown field 'url' in messages[0].content[0]"},
                 {"{\"messages\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"image\",\"path\":\"x\"}]}]}",
                  "only user and tool"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"name\":\"y\"}]}",
                  "unknown field 'name' in messages[0]"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"anwser\":\"7\"}", "unknown field 'anwser'"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"answer\":7}", "answer must be a string"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"answer\":null}", "answer must be a string"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"id\":1}", "id must be a string"},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]} trailing", ""},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"id\":\"a\",\"id\":\"b\"}", ""},
                 {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}", ""},
                 {USER("\"a\\u0000b\""), "control character"},
                 {USER("\"a\\u001bb\""), "control character"},
                 {USER("\"a\\u007fb\""), "control character"},
                 {USER("\"a\\u009bb\""), "control character"},
                 {USER("\"a\\ud800b\""), ""},
                 {USER("\"a\xff"
                       "b\""),
                  ""},
                 {USER("\"a\xc0\x80"
                       "b\""),
                  ""},
                 {USER("\"a\xed\xa0\x80"
                       "b\""),
                  ""},
                 {USER("\"a\nb\""), ""}, /* raw control characters are not JSON either */
                 {USER("NaN"), ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(cases[i].row, strlen(cases[i].row), cases[i].error);
}

static void test_bounds(void **state)
{
    (void)state;
    static char row[20000];
    for (int n = 64; n <= 65; n++)
        for (int images = 0; images < 2; images++) {
            int at = sprintf(row, "{\"messages\":[");
            if (images) at += sprintf(row + at, "{\"role\":\"user\",\"content\":[");
            for (int i = 0; i < n; i++)
                at += sprintf(row + at, "%s%s", i ? "," : "",
                              images ? "{\"type\":\"image\",\"path\":\"p\"}" : "{\"role\":\"user\",\"content\":\"x\"}");
            at += sprintf(row + at, images ? "]}]}" : "]}");
            if (n == 65) {
                refuse(row, (size_t)at, "64");
            } else {
                sample s;
                assert_int_equal(sample_parse(&s, row, (size_t)at, "b:1"), ST_OK);
                sample_free(&s);
            }
        }
}

/* Every prefix of a good row, and every byte replaced: refused or accepted, never a crash (run under ASan). */
static void test_mangled(void **state)
{
    (void)state;
    const char *good =
        "{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"p\"},"
        "{\"type\":\"text\",\"text\":\"t\"}]}],\"answer\":\"7\",\"x_a\":[1,{\"b\":null}]}";
    size_t n = strlen(good);
    char *row = malloc(n);
    for (size_t cut = 0; cut < n; cut++) refuse(good, cut, "");
    static const char bytes[] = "\"{}[],:7x\\\xff\x01";
    int accepted = 0;
    for (size_t at = 0; at < n; at++)
        for (size_t b = 0; b < sizeof bytes; b++) {
            memcpy(row, good, n);
            row[at] = bytes[b];
            sample s = {0};
            accepted += sample_parse(&s, row, n, "m:1") == ST_OK;
            sample_free(&s);
        }
    assert_true(accepted > 0);
    free(row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_full_row), cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_mangled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
