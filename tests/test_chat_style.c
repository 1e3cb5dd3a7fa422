/* Chat styles: recognising a checkpoint's template, and what a style refuses because its template would lose it. */
#include "data/chat_style.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "data/chat.h"
#include "data/file.h"
#include "data/pyjson.h"

#define OK(call)                                                        \
    do {                                                                \
        if ((call) != ST_OK) fail_msg("%s: %s", #call, fail_message()); \
    } while (0)

static char dir[] = "/tmp/test_chat_style_XXXXXX";

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (text)
        OK(file_write(path, text, strlen(text)));
    else
        unlink(path);
}

static void expect_refused(const char *words)
{
    const chat_style *s = NULL;
    assert_int_equal(chat_style_of_dir(&s, dir), ST_EINVAL);
    if (!strstr(fail_message(), words)) fail_msg("'%s' does not say '%s'", fail_message(), words);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(chat_style_names[0], "auto");
    int n = 0;
    for (; chat_styles[n].name; n++) assert_string_equal(chat_styles[n].name, chat_style_names[n + 1]);
    assert_null(chat_style_names[n + 1]);
    assert_ptr_equal(chat_style_find("codedance"), chat_styles);
    assert_null(chat_style_find("auto"));
}

/* What `codedance init` writes is recognised (its directory is read back); another text names the setting to use. */
static void test_recognise(void **state)
{
    (void)state;
    const chat_style *s = NULL;
    OK(chat_style_of_dir(&s, dir)); /* no template at all */
    assert_string_equal(s->name, "codedance");
    put("tokenizer_config.json", "{\"eos_token\": \"x\"}");
    OK(chat_style_of_dir(&s, dir));
    put("tokenizer_config.json", "{\"chat_template\": \"{{ messages }}\"}");
    expect_refused("model.chat_style");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\", \"template\": \"{{ x }}\"}]}");
    expect_refused("tokenizer_config.json: codedance doesn't know");
    put("tokenizer_config.json", "{\"chat_template\": 3}");
    expect_refused("must be a string");
    put("chat_template.json", "{\"chat_template\": \"{{ a }}\"}");
    expect_refused("chat_template.json: codedance");
    put("chat_template.jinja", "{{ b }}\n");
    expect_refused("chat_template.jinja: codedance");
    put("chat_template.jinja", NULL);
    put("chat_template.json", "{");
    expect_refused("chat_template.json");
    put("chat_template.json", NULL);
    put("tokenizer_config.json", NULL);
}

static tokenizer *tok;
static chat c;

static status append(const char *style, const char *row, chat_seq *q)
{
    static const int32_t grid[1][3] = {{1, 4, 4}};
    sample s;
    OK(sample_parse(&s, row, strlen(row), "row"));
    c.style = chat_style_find(style);
    status st = chat_append_messages(&c, q, s.messages, s.n_message, s.tools, grid);
    sample_free(&s);
    return st;
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const
        tools = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[{\"name\":\"f\"}]}",
        *const late = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"system\",\"content\":\"b\"}]}",
        *const thought =
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\","
            "\"reasoning_content\":\"c\"}]}",
        *const call = "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"name\":\"f\","
                      "\"arguments\":{}}]}]}",
        *const picture = "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"a\"}]}]}";
    static const struct {
        const char *style, *row, *words;
    } cases[] = {{"codedance", tools, "no place for tools"}, {"qwen2_5_vl", tools, "qwen2_5_vl_tools"},
                 {"qwen3_vl", late, "not the first"},        {"qwen3_vl", thought, "reasoning_content"},
                 {"qwen2_5_vl", call, "no tool calls"},      {"qwen3", picture, "no images"}};
    chat_seq q = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(append(cases[i].style, cases[i].row, &q), ST_EINVAL);
        if (!strstr(fail_message(), cases[i].words)) fail_msg("'%s' lacks '%s'", fail_message(), cases[i].words);
        assert_int_equal(q.id.n, 0);
        assert_int_equal(q.n_image, 0);
    }
    OK(append("qwen2_5_vl", late, &q));
    c.style = chat_style_find("qwen2_5_vl");
    int from = q.id.n;
    OK(chat_append_tool(&c, &q, "out", NULL, 0));
    char *text = tokenizer_text(tok, q.id.v + from, q.id.n - from, false);
    assert_string_equal(text, "<|im_start|>tool\nout<|im_end|>\n"); /* what its template makes of a tool message */
    free(text);
    assert_int_equal(append("qwen3", tools, &q), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "before the first"));
    chat_seq_free(&q);
}

static void test_printed_json(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"b\":1,\"a\":[true,null,{}],\"e\":[]}", "{\"b\": 1, \"a\": [true, null, {}], \"e\": []}"},
        {"[0,-0,-0.0,1.0,1e15,1e16,123456789012345680.0]",
         "[0, 0, -0.0, 1.0, 1000000000000000.0, 1e+16, 1.2345678901234568e+17]"},
        {"[0.0001,0.00001,1.5e-7,0.1,100.25,5e-324,1.7976931348623157e18]",
         "[0.0001, 1e-05, 1.5e-07, 0.1, 100.25, 5e-324, 1.7976931348623158e+18]"},
        {"\"\\u0001\\u007f\\u00e9\\n\\/\\\"\\\\\"", "\"\\u0001\x7f\xc3\xa9\\n/\\\"\\\\\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json *j = NULL;
        char *text = NULL;
        size_t n = 0;
        OK(json_parse(&j, cases[i][0], strlen(cases[i][0]), "x"));
        OK(pyjson_write(j, &text, &n));
        assert_string_equal(text, cases[i][1]);
        assert_int_equal(n, strlen(text));
        free(text);
        json_free(j);
    }
    json *j = NULL;
    char *text = NULL;
    size_t n = 0;
    OK(json_parse(&j, "[12345678901234567890]", 22, "x"));
    assert_int_equal(pyjson_write(j, &text, &n), ST_EINVAL);
    assert_null(text);
    json_free(j);
}

static void test_bad_rows(void **state)
{
    (void)state;
#define ASSISTANT(more) "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"," more "}]}"
    static const char *const cases[][2] = {
        {ASSISTANT("\"tool_calls\":{}"), "tool_calls must be a list"},
        {ASSISTANT("\"tool_calls\":[]"), "1..64"},
        {ASSISTANT("\"tool_calls\":[1]"), "tool_calls[0] must be an object"},
        {ASSISTANT("\"tool_calls\":[{\"name\":\"f\"}]"), "name and arguments"},
        {ASSISTANT("\"tool_calls\":[{\"function\":{\"name\":1,\"arguments\":{}}}]"), "name and arguments"},
        {ASSISTANT("\"tool_calls\":[{\"name\":\"f\",\"arguments\":[1e300]}]"), "64 bits"},
        {ASSISTANT("\"reasoning_content\":1"), "reasoning_content must be a string"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"tool_calls\":[]}]}", "only assistant"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "content must be"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":{}}", "tools must be a list"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample s;
        assert_int_equal(sample_parse(&s, cases[i][0], strlen(cases[i][0]), "row"), ST_EINVAL);
        if (!strstr(fail_message(), cases[i][1])) fail_msg("'%s' lacks '%s'", fail_message(), cases[i][1]);
    }
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir) || tokenizer_load(&tok, SOURCE_DIR "/tests/fixtures/text/tokenizer.json") != ST_OK) return -1;
    return chat_init(&c, tok, 2, NULL);
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_destroy(tok);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_recognise),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_printed_json),
                                       cmocka_unit_test(test_bad_rows)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
