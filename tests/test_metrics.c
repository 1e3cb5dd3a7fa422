/* The log of a run: lines, resuming, TensorBoard's framing, and the counting behind evaluations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/json.h"
#include "rl/events.h"
#include "rl/metrics.h"
#include "rl/tally.h"

static char dir[64];

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/codedance_metrics_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static void log_steps(const char *stage, int64_t resume, int64_t from, int64_t to)
{
    metrics *m;
    ok(metrics_open(&m, dir, 0, stage, resume));
    for (int64_t i = from; i < to; i++) {
        metrics_num(m, "loss", 1.0 / (double)(i + 1));
        metrics_num(m, "hole", NAN);
        metrics_str(m, "note", "a \"b\"");
        ok(metrics_step(m, stage, i));
    }
    metrics_close(m);
}

/* "sft0 sft1 ..." of the file. */
static void read_steps(char *out, size_t n)
{
    char path[128], *text = NULL;
    size_t cap = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    *out = 0;
    for (ssize_t len; (len = getline(&text, &cap, f)) > 0;) {
        json *j = NULL;
        ok(json_parse(&j, text, (size_t)len, path));
        size_t at = strlen(out);
        snprintf(out + at, n - at, "%s%lld ", json_str(json_get(j, "stage")), (long long)json_int(json_get(j, "step")));
        assert_int_equal(json_kind(json_get(j, "hole")), JSON_NULL);
        assert_string_equal(json_str(json_get(j, "note")), "a \"b\"");
        json_free(j);
    }
    free(text);
    fclose(f);
}

static void test_resume_drops_the_lost_future(void **state)
{
    (void)state;
    char got[256], path[128];
    log_steps("sft", 0, 0, 4);
    log_steps("rl", 0, 0, 3);
    read_steps(got, sizeof got);
    assert_string_equal(got, "sft0 sft1 sft2 sft3 rl0 rl1 rl2 ");
    log_steps("rl", 1, 1, 2);
    read_steps(got, sizeof got);
    assert_string_equal(got, "sft0 sft1 sft2 sft3 rl0 rl1 ");
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    FILE *f = fopen(path, "a"); /* a line the killed run did not finish */
    fputs("{\"loss\": 0.", f);
    fclose(f);
    log_steps("rl", 2, 2, 3);
    read_steps(got, sizeof got);
    assert_string_equal(got, "sft0 sft1 sft2 sft3 rl0 rl1 rl2 ");
    log_steps("sft", 2, 2, 3); /* going back a stage */
    read_steps(got, sizeof got);
    assert_string_equal(got, "sft0 sft1 sft2 ");
}

static void test_other_ranks_write_nothing(void **state)
{
    (void)state;
    metrics *m;
    ok(metrics_open(&m, "/nowhere", 1, "sft", 0));
    metrics_num(m, "loss", 1);
    metrics_str(m, "note", "x");
    ok(metrics_step(m, "sft", 0));
    metrics_close(m);
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t c = crc32c(p, n);
    return ((c >> 15) | (c << 17)) + 0xa282ead8u;
}

static void test_events(void **state)
{
    (void)state;
    assert_int_equal(crc32c("123456789", 9), 0xe3069283u); /* the check value of CRC-32C */
    log_steps("sft", 0, 0, 2);
    char path[512] = "", tb[96];
    snprintf(tb, sizeof tb, "%s/tb", dir);
    DIR *d = opendir(tb);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, "tfevents")) snprintf(path, sizeof path, "%s/%s", tb, e->d_name);
    closedir(d);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    uint64_t n;
    uint32_t crc;
    uint8_t buf[1024];
    int records = 0, losses = 0;
    while (fread(&n, sizeof n, 1, f) == 1) {
        assert_true(fread(&crc, 4, 1, f) == 1 && crc == masked(&n, sizeof n));
        assert_true(n < sizeof buf && fread(buf, 1, n, f) == n);
        assert_true(fread(&crc, 4, 1, f) == 1 && crc == masked(buf, n));
        assert_int_equal(buf[0], 1 << 3 | 1); /* wall_time, a double */
        buf[n] = 0;
        for (size_t i = 0; i + 8 < n; i++) losses += memcmp(buf + i, "sft/loss", 8) == 0;
        records++;
    }
    fclose(f);
    assert_int_equal(records, 3); /* the version, then one number per step; the NaN is not written */
    assert_int_equal(losses, 2);
}

static void test_tally(void **state)
{
    (void)state;
    tally_note n[7] = {0};
    for (int i = 0; i < 6; i++) {
        n[i] = (tally_note){.acc = i < 3, .calls = i % 2, .fails = i == 1, .tokens = 10, .outcome = TRAJ_ANSWERED};
        strcpy(n[i].category, i < 4 ? "b" : "a");
    }
    n[6] = (tally_note){.category = "b", .outcome = TRAJ_INFRA};
    eval_result *r = calloc(1, sizeof *r);
    ok(tally_rows(r, n, 7));
    assert_int_equal(r->n_row, 2);
    assert_string_equal(r->row[0].category, "a");
    assert_int_equal(r->row[1].n, 4);
    assert_true(r->row[1].accuracy == 0.75 && r->row[1].tool_rate == 0.5 && r->row[1].code_fail_rate == 0.5);
    assert_true(r->row[1].acc_tool == 0.5 && r->row[1].acc_direct == 1);
    assert_true(fabs(r->row[1].low - 0.3006) < 1e-3 && fabs(r->row[1].high - 0.9544) < 1e-3); /* Wilson for 3 of 4 */
    assert_true(fabs(r->infra - 1.0 / 7) < 1e-12 && r->all.n == 6);
    ok(tally_rows(r, n, 0));
    assert_true(r->n_row == 0 && isnan(r->all.accuracy));
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_resume_drops_the_lost_future, setup, teardown),
        cmocka_unit_test(test_other_ranks_write_nothing),
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test(test_tally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
