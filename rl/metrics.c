#include "rl/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "rl/events.h"

struct metrics {
    FILE *f;
    char *path;
    events *tb;
    json_out line; /* members gathered for the next step */
    int n;
    struct {
        char name[64];
        double value;
    } * num;
    int n_num, cap_num;
};

/* Keeps the lines before the first one of `stage` at resume_step or later; everything after it is from the lost future.
 */
static status drop_future(const char *path, const char *stage, int64_t resume_step)
{
    FILE *in = fopen(path, "r");
    if (!in) return errno == ENOENT ? ST_OK : FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    char *text = NULL;
    size_t cap = 0;
    ssize_t n;
    long keep = 0;
    bool cut = false;
    while (!cut && (n = getline(&text, &cap, in)) > 0) {
        json *j = NULL;
        if (text[n - 1] != '\n' || json_parse(&j, text, (size_t)n, path) != ST_OK) {
            cut = true; /* a line the killed run never finished */
            break;
        }
        const char *s = json_str(json_get(j, "stage"));
        cut = s && strcmp(s, stage) == 0 && json_int(json_get(j, "step")) >= resume_step;
        json_free(j);
        if (!cut) keep = ftell(in);
    }
    free(text);
    fclose(in);
    if (cut && truncate(path, keep) != 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    return ST_OK;
}

status metrics_open(metrics **out, const char *dir, int rank, const char *stage, int64_t resume_step)
{
    metrics *m = calloc(1, sizeof *m);
    if (!m) return FAIL(ST_ENOMEM, "no memory for metrics");
    *out = m;
    if (rank != 0) return ST_OK;
    char *tb = NULL;
    status st = ST_OK;
    if (asprintf(&m->path, "%s/metrics.jsonl", dir) < 0 || asprintf(&tb, "%s/tb", dir) < 0) {
        st = FAIL(ST_ENOMEM, "no memory for metrics");
        goto fail;
    }
    TRY_OR(drop_future(m->path, stage, resume_step), fail);
    m->f = fopen(m->path, "a");
    if (!m->f) {
        st = FAIL(ST_EIO, "%s: %s", m->path, strerror(errno));
        goto fail;
    }
    TRY_OR(events_open(&m->tb, tb), fail);
    json_begin(&m->line, false);
    free(tb);
    return ST_OK;
fail:
    free(tb);
    metrics_close(m);
    *out = NULL;
    return st;
}

void metrics_num(metrics *m, const char *name, double value)
{
    if (!m->f) return;
    if (m->n_num == m->cap_num) {
        m->cap_num = m->cap_num ? 2 * m->cap_num : 32;
        m->num = realloc(m->num, sizeof *m->num * (size_t)m->cap_num);
        CHECK(m->num);
    }
    snprintf(m->num[m->n_num].name, sizeof m->num->name, "%s", name);
    m->num[m->n_num++].value = value;
}

void metrics_str(metrics *m, const char *name, const char *value)
{
    if (!m->f) return;
    if (m->n++ == 0) json_open(&m->line, '{');
    json_member_str(&m->line, name, value);
}

status metrics_step(metrics *m, const char *stage, int64_t step)
{
    if (!m->f) return ST_OK;
    if (m->n == 0) json_open(&m->line, '{');
    json_member_str(&m->line, "stage", stage);
    json_member_int(&m->line, "step", step);
    for (int i = 0; i < m->n_num; i++) {
        json_member_num(&m->line, m->num[i].name, m->num[i].value); /* NaN becomes null */
        if (isfinite(m->num[i].value)) {
            char tag[128];
            snprintf(tag, sizeof tag, "%s/%s", stage, m->num[i].name);
            events_scalar(m->tb, tag, step, m->num[i].value);
        }
    }
    json_close(&m->line, '}');
    bool ok =
        fwrite(m->line.text, 1, m->line.len, m->f) == m->line.len && fputc('\n', m->f) != EOF && fflush(m->f) == 0;
    int error = errno;
    json_end(&m->line);
    json_begin(&m->line, false);
    m->n = m->n_num = 0;
    if (!ok) return FAIL(ST_EIO, "%s: %s", m->path, strerror(error));
    return events_flush(m->tb);
}

void metrics_close(metrics *m)
{
    if (!m) return;
    if (m->f) {
        fclose(m->f);
        json_end(&m->line);
    }
    events_close(m->tb);
    free(m->num);
    free(m->path);
    free(m);
}
