#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/config.h"

typedef struct opts {
    bool on;
    int64_t group;
    double lr;
    char *name, *system;
    int mode;
    cfg_ints sizes;
    cfg_strings imports;
} opts;

static const char *const modes[] = {"token", "response", NULL};
static const cfg_field fields[] = {
    {"on", CFG_BOOL, offsetof(opts, on), "true", 0, 0, NULL, "Whether to."},
    {"group", CFG_INT, offsetof(opts, group), "4", 1, 1024, NULL, "Samples per prompt"},
    {"lr", CFG_FLOAT, offsetof(opts, lr), "1e-3", 0, 1e18, NULL, "Peak learning rate."},
    {"name", CFG_STRING, offsetof(opts, name), "demo", 0, 0, NULL, "Name of the run."},
    {"system", CFG_STRING, offsetof(opts, system), "null", 0, 0, NULL, "System text."},
    {"mode", CFG_CHOICE, offsetof(opts, mode), "response", 0, 0, modes, "Aggregation."},
    {"sizes", CFG_INTS, offsetof(opts, sizes), "[1, 2, 4]", 1, 9, NULL, "Sizes."},
    {"imports", CFG_STRINGS, offsetof(opts, imports), "[numpy, PIL.Image]", 0, 0, NULL, "Modules."},
    {0}};
static const cfg_field more[] = {{"clip_low", CFG_FLOAT, 0, "0.2", 0, 1, NULL, "Lower clip."}, {0}};
static const cfg_section others[] = {{"algo", more}, {"rl", fields}, {NULL, NULL}};

static char dir[64];

static const char *put_file(const char *name, const char *text)
{
    static char path[4][128];
    static int at;
    char *p = path[at++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    FILE *f = fopen(p, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return p;
}

static status load(config **c, opts *o, const char *text, const char *set)
{
    const char *file = put_file("a.yaml", text);
    *c = NULL;
    TRY(config_load(c, &file, 1, &set, set != NULL));
    status st = config_bind(*c, "rl", fields, o);
    if (st == ST_OK) st = config_check(*c, others);
    if (st == ST_OK) st = config_finish(*c);
    if (st != ST_OK) {
        config_destroy(*c);
        *c = NULL;
    }
    return st;
}

/* The message without the directory. */
static void refuse(const char *text, const char *set, const char *want)
{
    config *c;
    opts o = {0};
    assert_int_equal(load(&c, &o, text, set), ST_EINVAL);
    const char *got = fail_message();
    if (strncmp(got, dir, strlen(dir)) == 0) got += strlen(dir) + 1;
    if (strcmp(got, want) != 0) fail_msg("\n got: %s\nwant: %s", got, want);
}

static void defaults_and_values(void **state)
{
    (void)state;
    config *c;
    opts o;
    assert_int_equal(load(&c, &o, "", NULL), ST_OK);
    assert_true(o.on);
    assert_int_equal(o.group, 4);
    assert_true(o.lr == 1e-3);
    assert_string_equal(o.name, "demo");
    assert_null(o.system);
    assert_int_equal(o.mode, 1);
    assert_int_equal(o.sizes.n, 3);
    assert_int_equal(o.sizes.v[2], 4);
    assert_string_equal(o.imports.v[1], "PIL.Image");
    config_destroy(c);

    if (load(&c, &o,
             "# comment\nrl:\n  on: false\n  group: 16\n  lr: 5.0e-6\n  name: \"a: b # c\"\n  system: ''\n  mode: "
             "token\n"
             "  sizes: []\n  imports:\n    - os\nalgo: {clip_low: 0.1}\n",
             NULL) != ST_OK)
        fail_msg("%s", fail_message());
    assert_false(o.on);
    assert_int_equal(o.group, 16);
    assert_true(o.lr == 5e-6);
    assert_string_equal(o.name, "a: b # c");
    assert_string_equal(o.system, "");
    assert_int_equal(o.mode, 0);
    assert_int_equal(o.sizes.n, 0);
    assert_int_equal(o.imports.n, 1);
    config_destroy(c);
}

static void sets_win(void **state)
{
    (void)state;
    config *c;
    opts o;
    assert_int_equal(load(&c, &o, "rl:\n  group: 16\n", "rl.group=2"), ST_OK);
    assert_int_equal(o.group, 2);
    config_destroy(c);
    assert_int_equal(load(&c, &o, "", "rl.sizes=[3,5]"), ST_OK);
    assert_int_equal(o.sizes.v[1], 5);
    config_destroy(c);
    assert_int_equal(load(&c, &o, "", "rl.name="), ST_OK);
    assert_string_equal(o.name, "");
    config_destroy(c);
    assert_int_equal(load(&c, &o, "", "rl.name=x=y"), ST_OK);
    assert_string_equal(o.name, "x=y");
    config_destroy(c);
    refuse("", "rl.group=0", "--set rl.group=0: rl.group is 0, must be 1 to 1024");
}

static void unknown(void **state)
{
    (void)state;
    refuse("rl:\n  gruop: 3\n", NULL, "a.yaml:2:3: unknown key rl.gruop; did you mean rl.group?");
    refuse("algo:\n  clp_low: 3\n", NULL, "a.yaml:2:3: unknown key algo.clp_low; did you mean algo.clip_low?");
    refuse("rl:\n  clip_low: 3\n", NULL, "a.yaml:2:3: unknown key rl.clip_low; did you mean algo.clip_low?");
    refuse("rl:\n  zzzzzzzz: 3\n", NULL, "a.yaml:2:3: unknown key rl.zzzzzzzz");
    refuse("aglo:\n  zzzzzzzz: 3\n", NULL,
           "a.yaml:2:3: unknown section aglo (key zzzzzzzz); did you mean section algo?");
    refuse("", "rl.grup=1", "--set rl.grup=1: unknown key rl.grup; did you mean rl.group?");
    refuse("", "group=1", "--set group=1: expected section.key=value");
    refuse("", "rl.group", "--set rl.group: expected section.key=value");
}

static void wrong_types(void **state)
{
    (void)state;
    refuse("rl:\n  group: 1.5\n", NULL, "a.yaml:2:10: rl.group is \"1.5\", must be a whole number");
    refuse("rl:\n  group: \"4\"\n", NULL, "a.yaml:2:10: rl.group is \"4\", must be a whole number");
    refuse("rl:\n  group:\n", NULL, "a.yaml:2:9: rl.group is \"\", must be a whole number");
    refuse("rl:\n  group: 99999999999999999999\n", NULL,
           "a.yaml:2:10: rl.group is \"99999999999999999999\", must be a number that fits 64 bits");
    refuse("rl:\n  group: 0\n", NULL, "a.yaml:2:10: rl.group is 0, must be 1 to 1024");
    refuse("rl:\n  group: 2000\n", NULL, "a.yaml:2:10: rl.group is 2000, must be 1 to 1024");
    refuse("rl:\n  lr: fast\n", NULL, "a.yaml:2:7: rl.lr is \"fast\", must be a number");
    refuse("rl:\n  lr: .inf\n", NULL, "a.yaml:2:7: rl.lr is \".inf\", must be a number");
    refuse("rl:\n  lr: 1e999\n", NULL, "a.yaml:2:7: rl.lr is \"1e999\", must be a number");
    refuse("rl:\n  lr: -1\n", NULL, "a.yaml:2:7: rl.lr is -1, must be at least 0");
    refuse("rl:\n  on: yes\n", NULL, "a.yaml:2:7: rl.on is \"yes\", must be true or false");
    refuse("rl:\n  mode: tokens\n", NULL,
           "a.yaml:2:9: rl.mode is \"tokens\", must be one of: token, response; did you mean token?");
    refuse("rl:\n  sizes: 3\n", NULL, "a.yaml:2:10: rl.sizes must be a list, such as [a, b]");
    refuse("rl:\n  group: [3]\n", NULL, "a.yaml:2:10: rl.group must be one value, not a list");
    refuse("rl:\n  sizes: [3, 10]\n", NULL, "a.yaml:2:10: rl.sizes is 10, must be 1 to 9");
}

static void structure(void **state)
{
    (void)state;
    refuse("rl:\n  group: 3\n  lr: 1\n  group: 4\n", NULL, "a.yaml:4:3: rl.group is given twice; first in line 2");
    refuse("rl:\n  group: 3\nrl:\n  lr: 4\n", NULL, "a.yaml:3:1: rl is given twice; first in line 1");
    refuse("rl: 3\n", NULL, "a.yaml:1:5: section rl must hold keys (\"key: value\" lines, indented)");
    refuse("rl:\n  group: {a: 1}\n", NULL,
           "a.yaml:2:10: expected a value or a list; a config has two levels: section, key");
    refuse("rl:\n  sizes: [[1]]\n", NULL, "a.yaml:2:11: list elements must be plain values");
    refuse("- a\n", NULL, "a.yaml:1:1: expected sections (\"section:\" with indented \"key: value\" lines)");
    refuse("rl:\n  group: &x 3\n", NULL, "a.yaml:2:10: anchors, aliases and tags are not allowed in a config");
    refuse("rl:\n  group: 3\n---\nrl:\n  group: 4\n", NULL,
           "a.yaml:3:1: a config is one YAML document; \"---\" starts a second one");
    config *c;
    opts o;
    assert_int_equal(load(&c, &o, "rl:\n  group: 3\n bad\n", NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "a.yaml:3"));
    assert_int_equal(load(&c, &o, "rl:\n# nothing\n", NULL), ST_OK);
    config_destroy(c);
}

static void includes(void **state)
{
    (void)state;
    config *c;
    opts o;
    put_file("base.yaml", "rl:\n  group: 7\n  lr: 0.5\n");
    assert_int_equal(load(&c, &o, "include: base.yaml\nrl:\n  group: 9\n", NULL), ST_OK);
    assert_int_equal(o.group, 9);
    assert_true(o.lr == 0.5);
    assert_string_equal(config_place(c, "rl", "lr"), dir);
    assert_string_equal(config_place(c, "rl", "mode"), "");
    config_destroy(c);

    put_file("base.yaml", "rl:\n  group: 7\n  grop: 0.5\n");
    assert_int_equal(load(&c, &o, "include: base.yaml\n", NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "base.yaml:3:3: unknown key rl.grop; did you mean rl.group?"));
    put_file("loop.yaml", "include: loop.yaml\n");
    assert_int_equal(load(&c, &o, "include: loop.yaml\n", NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "circle"));
    assert_int_equal(load(&c, &o, "include: none.yaml\n", NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "a.yaml:1:10: include: "));
    refuse("rl:\n  group: 3\ninclude: base.yaml\n", NULL,
           "a.yaml:3:1: include must be the first line, because what follows overrides it");

    const char *files[2] = {put_file("one.yaml", "rl: {group: 5, lr: 0.25}\n"),
                            put_file("two.yaml", "rl: {group: 6}\n")};
    assert_int_equal(config_load(&c, files, 2, NULL, 0), ST_OK);
    assert_int_equal(config_bind(c, "rl", fields, &o), ST_OK);
    assert_int_equal(o.group, 6);
    assert_true(o.lr == 0.25);
    config_destroy(c);
    const char *gone = "/nonexistent/x.yaml";
    assert_int_equal(config_load(&c, &gone, 1, NULL, 0), ST_EINVAL);
}

/* What is dumped loads back to the same values. */
static void dump(void **state)
{
    (void)state;
    config *c, *d;
    opts o, p;
    assert_int_equal(
        load(&c, &o, "rl:\n  name: \"true\"\n  system: \"- x: #1 \\n\"\n  imports: [\"a, b\", c, \"1\"]\n  lr: 1e-6\n",
             NULL),
        ST_OK);
    for (int help = 0; help < 2; help++) {
        char *text = config_dump(c, help);
        if (load(&d, &p, text, NULL) != ST_OK) fail_msg("%s\n%s", fail_message(), text);
        assert_string_equal(p.name, "true");
        assert_string_equal(p.system, "- x: #1 \n");
        assert_int_equal(p.imports.n, 3);
        assert_string_equal(p.imports.v[0], "a, b");
        assert_string_equal(p.imports.v[2], "1");
        assert_true(p.lr == 1e-6);
        assert_int_equal(p.group, 4);
        assert_int_equal(strstr(text, "# Samples per prompt. Range: 1 to 1024.") != NULL, help);
        config_destroy(d);
        free(text);
    }
    char *text = NULL;
    assert_int_equal(config_explain(c, "rl.lr", &text), ST_OK);
    assert_non_null(strstr(text, "rl.lr = 1e-6"));
    assert_non_null(strstr(text, "default 1e-3"));
    free(text);
    assert_int_equal(config_explain(c, "rl.lrr", &text), ST_EINVAL);
    assert_string_equal(fail_message(), "no config key rl.lrr; did you mean rl.lr?");

    assert_int_equal(config_fail(c, "rl", "lr", "too %s", "small"), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "a.yaml:5:7: rl.lr: too small"));
    assert_int_equal(config_fail(c, "rl", "mode", "no"), ST_EINVAL);
    assert_string_equal(fail_message(), "rl.mode (its default): no");
    config_destroy(c);
}

/* Every prefix and single-byte damage of a config: an answer, never a crash. */
static void damage(void **state)
{
    (void)state;
    const char *text = "# c\nrl:\n  group: 3\n  sizes: [1, 2]\n  name: \"a\\nb\"\nalgo: {clip_low: 0.5}\n";
    char copy[128];
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        for (int c = 1; c < 256; c += 3) {
            memcpy(copy, text, n + 1);
            copy[i] = (char)c;
            config *k;
            opts o;
            if (load(&k, &o, copy, NULL) == ST_OK) config_destroy(k);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_values),
        cmocka_unit_test(sets_win),
        cmocka_unit_test(unknown),
        cmocka_unit_test(wrong_types),
        cmocka_unit_test(structure),
        cmocka_unit_test(includes),
        cmocka_unit_test(dump),
        cmocka_unit_test(damage),
    };
    snprintf(dir, sizeof dir, "/tmp/test_config_XXXXXX");
    if (mkdtemp(dir) == NULL) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) == 0 ? rc : 1;
}
