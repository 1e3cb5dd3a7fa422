#include "data/chat_style.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/file.h"
#include "data/hash.h"

#define ASSISTANT "You are a helpful assistant."
#define QWEN "You are Qwen, created by Alibaba Cloud. " ASSISTANT

/* qwen2_5_vl is what the processor ships: it knows no tools and says the role tool literally. With tools the usual
 * practice is qwen2_5_vl_tools: the text template's tools, with pictures in user and tool messages. */
const chat_style chat_styles[] = {
    /*                    default    image  tools  raw    late */
    {"codedance", NULL, true, false, false, true, CHAT_TOOL_TIGHT, CHAT_THINK_NONE},
    {"qwen2_5_vl", ASSISTANT, true, false, false, true, CHAT_TOOL_ROLE, CHAT_THINK_NONE},
    {"qwen2_5_vl_tools", ASSISTANT, true, true, false, true, CHAT_TOOL_LINES, CHAT_THINK_NONE},
    {"qwen2_5", QWEN, false, true, false, true, CHAT_TOOL_LINES, CHAT_THINK_NONE},
    {"qwen3_vl", NULL, true, true, true, false, CHAT_TOOL_LINES, CHAT_THINK_NONE},
    {"qwen3_vl_thinking", NULL, true, true, true, false, CHAT_TOOL_LINES, CHAT_THINK_ALWAYS},
    {"qwen3", NULL, false, true, true, true, CHAT_TOOL_LINES, CHAT_THINK_HYBRID},
    {"qwen3_instruct", NULL, false, true, true, true, CHAT_TOOL_LINES, CHAT_THINK_NONE},
    {"qwen3_thinking", NULL, false, true, true, true, CHAT_TOOL_LINES, CHAT_THINK_ALWAYS},
    {.name = NULL}};

const char *const chat_style_names[] = {
    "auto",     "codedance",         "qwen2_5_vl", "qwen2_5_vl_tools", "qwen2_5",
    "qwen3_vl", "qwen3_vl_thinking", "qwen3",      "qwen3_instruct",   "qwen3_thinking",
    NULL};

/* hash_hex(hash_content) of the published texts (of the copies that TRL, commit f2cd577, tells checkpoints by), of the
 * text template with the other default system text (Qwen2.5-VL's tokenizer_config.json, qwen_vl_spec 7.2), and of
 * codedance init's. */
static const struct {
    const char *hash, *style;
} known[] = {
    {"d06dfa64f38fdacf8bf80266ad8fd51e", "qwen2_5_vl"}, {"313c84272ce8fcebd9824ae8e709984e", "qwen2_5_vl_tools"},
    {"14f39dfcc63bcdcb6136b4a1559283fc", "qwen2_5"},    {"6c2138339b396c607e1ba78b214a7577", "qwen3_vl"},
    {"a2f2632e64077a8ec16bee4bcb6d786b", "qwen3"},      {"438e1930d4ab6761d7b03cd825890932", "qwen3_instruct"},
    {"3737c4002829d64d6dc4cb076483da9a", "codedance"},
};

const chat_style *chat_style_find(const char *name)
{
    for (const chat_style *s = chat_styles; s->name; s++)
        if (!strcmp(s->name, name)) return s;
    return NULL;
}

static void hash_template(const char *text, size_t n, char hex[HASH_HEX])
{
    while (n && isspace((unsigned char)text[n - 1])) n--;
    hash_hex(hash_content(text, n), hex);
}

const chat_style *chat_style_of_template(const char *text, size_t n)
{
    char hex[HASH_HEX];
    hash_template(text, n, hex);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(hex, known[i].hash)) return chat_style_find(known[i].style);
    return NULL;
}

static status recognise(const chat_style **out, const char *text, size_t n, const char *dir, const char *file)
{
    *out = chat_style_of_template(text, n);
    if (*out) return ST_OK;
    char hex[HASH_HEX];
    hash_template(text, n, hex);
    return FAIL(ST_EINVAL,
                "%s/%s: codedance doesn't know this chat template (hash %s); set model.chat_style to the one it "
                "follows: codedance, qwen2_5_vl, qwen2_5_vl_tools, qwen2_5, qwen3_vl, qwen3_vl_thinking, qwen3, "
                "qwen3_instruct or qwen3_thinking",
                dir, file, hex);
}

enum { MAX_TEMPLATE = 16 << 20 };

/* The template in a JSON file: a string, or a list of {"name", "template"} of which "default" counts. */
static status from_json(const chat_style **out, const char *dir, const char *file)
{
    char path[PATH_MAX];
    json *root = NULL;
    TRY(file_join(path, sizeof path, dir, file));
    TRY(json_read_file(&root, path, MAX_TEMPLATE));
    const json *t = json_get(root, "chat_template");
    for (int64_t i = 0; json_kind(t) == JSON_ARRAY && i < json_len(t); i++) {
        const char *name = json_str(json_get(json_at(t, i), "name"));
        if (name && !strcmp(name, "default")) t = json_get(json_at(t, i), "template");
    }
    status st = ST_OK;
    if (json_kind(t) == JSON_STRING)
        st = recognise(out, json_str(t), (size_t)json_len(t), dir, file);
    else if (json_kind(t) != JSON_NULL)
        st = FAIL(ST_EINVAL, "%s: chat_template must be a string or a list with one named default", path);
    json_free(root);
    return st;
}

status chat_style_of_dir(const chat_style **out, const char *dir)
{
    static const char jinja[] = "chat_template.jinja", alone[] = "chat_template.json",
                      inside[] = "tokenizer_config.json";
    const chat_style *found = NULL;
    if (file_exists(dir, jinja)) {
        char path[PATH_MAX], *text = NULL;
        size_t n = 0;
        TRY(file_join(path, sizeof path, dir, jinja));
        TRY(file_read(path, &text, &n));
        status st = recognise(&found, text, n, dir, jinja);
        free(text);
        TRY(st);
    }
    if (!found && file_exists(dir, alone)) TRY(from_json(&found, dir, alone));
    if (!found && file_exists(dir, inside)) TRY(from_json(&found, dir, inside));
    *out = found ? found : chat_styles;
    return ST_OK;
}
