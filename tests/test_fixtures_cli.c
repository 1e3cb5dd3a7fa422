/* The public commands on the checkpoints of tests/fixtures: `score` gives transformers' log-probs, greedy `generate`
 * its ids, `export` the same bytes back. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/json.h"
#include "tests/common/fixture.h"
#include "tests/common/tempdir.h"

/* Runs codedance; fails the test with its messages when it fails. Returns what it printed, malloc'ed. */
static char *codedance(const fixture *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *codedance(const fixture *f, const char *fmt, ...)
{
    char args[4096], cmd[8192], out[512], err[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(args, sizeof args, fmt, ap);
    va_end(ap);
    snprintf(out, sizeof out, "%s", temppath("stdout"));
    snprintf(err, sizeof err, "%s", temppath("stderr"));
    snprintf(cmd, sizeof cmd, "'%s' %s >'%s' 2>'%s'", CODEDANCE_EXE, args, out, err);
    int rc = system(cmd); // NOLINT(cert-env33-c)
    if (rc != 0) fail_msg("%s: codedance %s: %s", f->name, args, temp_read(err, NULL));
    return temp_read(out, NULL);
}

/* The chat template of a fixture is nobody's: it is told by name. */
static const char *style_option(const fixture *f)
{
    static char option[128];
    const st_tensor *t = fixture_get(f, "style");
    snprintf(option, sizeof option, "--set model.chat_style=%.*s", (int)t->bytes, (const char *)t->data);
    return option;
}

static json *parse(const char *text, size_t n)
{
    json *j = NULL;
    if (json_parse(&j, text, n, "output") != ST_OK) fail_msg("%s", fail_message());
    return j;
}

/* The integers [from, to) of an array member. */
static int32_t *integers(const json *row, const char *key, int64_t from, int64_t to)
{
    const json *a = json_get(row, key);
    int32_t *v = calloc((size_t)(to - from) + 1, sizeof *v);
    assert_non_null(v);
    for (int64_t i = from; i < to; i++) {
        assert_true(json_is_int(json_at(a, i)));
        v[i - from] = (int32_t)json_int(json_at(a, i));
    }
    return v;
}

/* Calls fn with every line of the text as JSON; returns how many. */
static int each_line(fixture *f, const char *text, void (*fn)(fixture *f, int k, const json *row))
{
    int n = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        json *row = parse(text, (size_t)(end - text));
        fn(f, n++, row);
        json_free(row);
    }
    return n;
}

static void check_score(fixture *f, int k, const json *row)
{
    const json *logp = json_get(row, "logprobs");
    int64_t n = json_len(logp);
    int32_t *id = integers(row, "ids", 0, json_len(json_get(row, "ids")));
    int32_t *mask = integers(row, "mask", 0, json_len(json_get(row, "mask")));
    fixture_same_ints(f, id, json_len(json_get(row, "ids")), "chat.%d.ids", k);
    const st_tensor *want = fixture_get(f, "chat.%d.mask", k);
    assert_int_equal(json_len(json_get(row, "mask")), want->bytes);
    for (size_t i = 0; i < want->bytes; i++) assert_int_equal(mask[i], ((const uint8_t *)want->data)[i]);
    float *v = calloc((size_t)n, sizeof *v);
    assert_non_null(v);
    assert_int_equal(json_kind(json_at(logp, 0)), JSON_NULL);
    for (int64_t i = 1; i < n; i++) v[i] = (float)json_num(json_at(logp, i));
    fixture_close_to(f, v, n, "chat.%d.logp", k);
    free(v);
    free(id);
    free(mask);
}

static void score_one(fixture *f)
{
    char *out = codedance(f, "score --model '%s' %s '%s/chats.jsonl'", f->dir, style_option(f), f->dir);
    int n = each_line(f, out, check_score);
    free(out);
    assert_true(n > 0 && fixture_has(f, "chat.%d.ids", n - 1) && !fixture_has(f, "chat.%d.ids", n));
}

static void score_is_transformers(void **state)
{
    (void)state;
    assert_true(fixture_each(score_one) >= 8);
}

static void check_answer(fixture *f, int k, const json *row)
{
    const json *turn = json_at(json_get(row, "turns"), 0);
    int64_t start = json_int(json_get(turn, "start")), end = json_int(json_get(turn, "end"));
    int32_t *id = integers(row, "ids", start, end);
    fixture_same_ints(f, id, end - start, "chat.%d.greedy", k);
    free(id);
}

static void generate_one(fixture *f)
{
    char *out = codedance(f,
                          "generate --model '%s' %s --data '%s/prompts.jsonl' --samples 1 --set rollout.temperature=0 "
                          "--set rollout.max_turns=0 --set rollout.max_new_tokens=12 --set rollout.max_tokens=1024 "
                          "--set rollout.kv_tokens=8192",
                          f->dir, style_option(f), f->dir);
    int n = each_line(f, out, check_answer);
    free(out);
    assert_true(n > 0 && !fixture_has(f, "chat.%d.greedy", n));
}

static void greedy_is_transformers(void **state)
{
    (void)state;
    assert_true(fixture_each(generate_one) >= 8);
}

/* ---- training: the losses that two AdamW steps give, and what the trained model says once exported ---- */

typedef struct losses {
    float v[3];
    int n;
} losses;
static losses seen;

static void read_metric(fixture *f, int k, const json *row)
{
    (void)k;
    const char *stage = json_str(json_get(row, "stage"));
    const json *loss = json_get(row, "loss");
    if (!stage || strcmp(stage, "sft") != 0 || json_kind(loss) != JSON_NUMBER) return;
    if (seen.n == 3) fail_msg("%s: more than three losses in metrics.jsonl", f->name);
    seen.v[seen.n++] = (float)json_num(loss);
}

static void add_score(fixture *f, int k, const json *row)
{
    (void)k;
    const json *logp = json_get(row, "logprobs"), *mask = json_get(row, "mask");
    double *sum = (double *)f->user;
    for (int64_t i = 1; i < json_len(logp); i++)
        if (json_int(json_at(mask, i))) sum[0] -= json_num(json_at(logp, i)), sum[1] += 1;
}

static void train_one(fixture *f)
{
    char dir[512], config[512], metrics[1024];
    snprintf(dir, sizeof dir, "%s", temppath("run_%s", f->name));
    snprintf(config, sizeof config, "%s", temppath("%s.yaml", f->name));
    FILE *out = fopen(config, "w");
    assert_non_null(out);
    /* ADAMW and DECAY of make_fixtures.py; the third step's update touches nothing that is compared */
    fprintf(out,
            "run: {dir: '%s'}\n"
            "model: {path: '%s'}\n"
            "train: {stages: [sft], max_tokens: 1024, max_patches: 1024, log_every: 1, checkpoint_every: 2, keep: 9}\n"
            "sft: {data: '%s/chats.jsonl', steps: 3, batch: 3}\n"
            "optim_sft: {lr: 0.003, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, clip_norm: 0, grad_shards: 2,\n"
            "  schedule: constant, warmup_steps: 0}\n",
            dir, f->dir, f->dir);
    fclose(out);
    free(codedance(f, "train '%s' %s", config, style_option(f)));
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", dir);
    char *text = temp_read(metrics, NULL);
    seen.n = 0;
    each_line(f, text, read_metric);
    free(text);
    assert_int_equal(seen.n, 3);
    fixture_close_to(f, seen.v, 3, "train.loss");

    double sum[2] = {0, 0};
    f->user = sum;
    char to[512];
    snprintf(to, sizeof to, "%s", temppath("trained_%s", f->name));
    free(codedance(f, "export '%s/checkpoints/step_00000002' --to '%s'", dir, to));
    text = codedance(f, "score --model '%s' %s '%s/chats.jsonl'", to, style_option(f), f->dir);
    each_line(f, text, add_score);
    free(text);
    float after = (float)(sum[0] / sum[1]);
    fixture_close_part(f, &after, 2, 1, "train.loss");
}

static void two_steps_of_training_are_torch(void **state)
{
    (void)state;
    assert_true(fixture_each(train_one) >= 8);
}

static void same_file(const fixture *f, const char *a, const char *b)
{
    size_t n_a, n_b;
    char *x = temp_read(a, &n_a), *y = temp_read(b, &n_b);
    if (n_a != n_b || memcmp(x, y, n_a) != 0) fail_msg("%s: %s and %s differ", f->name, a, b);
    free(x);
    free(y);
}

/* Every tensor under its name with its bytes, every side file as it was. */
static void export_one(fixture *f)
{
    char to[512], path[1024];
    st_file *had, *wrote;
    int n_side = 0;
    snprintf(to, sizeof to, "%s", temppath("export_%s", f->name));
    free(codedance(f, "export '%s' --to '%s'", f->dir, to));
    snprintf(path, sizeof path, "%s/model.safetensors", f->dir);
    assert_int_equal(st_open(&had, path), ST_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    assert_int_equal(st_open(&wrote, path), ST_OK);
    assert_int_equal(st_count(had), st_count(wrote));
    for (int i = 0; i < st_count(had); i++) {
        const st_tensor *a = st_at(had, i), *b = st_find(wrote, a->name);
        if (!b) fail_msg("%s: the export has no %s", f->name, a->name);
        bool same = a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) &&
                    !strcmp(a->dtype, b->dtype) && a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes);
        if (!same) fail_msg("%s: %s is exported with another shape, type or bytes", f->name, a->name);
    }
    st_close(had);
    st_close(wrote);
    DIR *dir = opendir(f->dir);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        static const char *const own[] = {"model.safetensors", "record.safetensors", "chats.jsonl", "prompts.jsonl",
                                          "img"};
        bool side = e->d_name[0] != '.';
        for (size_t i = 0; i < sizeof own / sizeof *own; i++) side &= strcmp(e->d_name, own[i]) != 0;
        if (!side) continue;
        char from[1024];
        snprintf(from, sizeof from, "%s/%s", f->dir, e->d_name);
        snprintf(path, sizeof path, "%s/%s", to, e->d_name);
        same_file(f, from, path);
        n_side++;
    }
    closedir(dir);
    assert_true(n_side >= 5); /* config, tokenizer and its config, template, generation config */
}

static void export_gives_the_same_bytes(void **state)
{
    (void)state;
    assert_true(fixture_each(export_one) >= 8);
}

int main(void)
{
    if (access(CODEDANCE_EXE, X_OK) != 0) {
        printf("SKIP: %s is not built\n", CODEDANCE_EXE);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(score_is_transformers), cmocka_unit_test(greedy_is_transformers),
        cmocka_unit_test(export_gives_the_same_bytes), cmocka_unit_test(two_steps_of_training_are_torch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
