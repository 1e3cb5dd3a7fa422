/* Run directories: what was run, and metrics.jsonl as columns. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "launch/report_impl.h"

static double read_number(const char *dir, const char *name)
{
    char path[PATH], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!report_read_all(path, &text, &n)) return (double)NAN;
    double v = strtod(text, NULL);
    free(text);
    return v;
}

typedef struct run_info {
    char *name, *arm, *model;
    int64_t seed;
    double gamma, delta;
    int bat;
} run_info;

/* The few keys a report shows; the rest of the file is not looked at, so that older configs still open. */
static status read_info(config **c, run_info *info, const char *dir)
{
    static const char *const bats[] = {"published", "fixed", "none", "naive", NULL};
    static const cfg_field run[] = {{"name", CFG_STRING, offsetof(run_info, name), "run", 0, 0, NULL, ""},
                                    {"seed", CFG_INT, offsetof(run_info, seed), "0", 0, 0, NULL, ""},
                                    {.key = NULL}};
    static const cfg_field train[] = {{"arm", CFG_STRING, offsetof(run_info, arm), "main", 0, 0, NULL, ""},
                                      {.key = NULL}};
    static const cfg_field from[] = {{"path", CFG_STRING, offsetof(run_info, model), "null", 0, 0, NULL, ""},
                                     {.key = NULL}};
    static const cfg_field reward[] = {{"gamma", CFG_FLOAT, offsetof(run_info, gamma), "4", 0, 0, NULL, ""},
                                       {"delta", CFG_FLOAT, offsetof(run_info, delta), "0.2", 0, 0, NULL, ""},
                                       {"bat", CFG_CHOICE, offsetof(run_info, bat), "fixed", 0, 0, bats, ""},
                                       {.key = NULL}};
    char path[PATH];
    const char *file = path;
    snprintf(path, sizeof path, "%s/config.yaml", dir);
    TRY(config_load(c, &file, report_exists(path), NULL, 0));
    TRY(config_bind(*c, "run", run, info));
    TRY(config_bind(*c, "train", train, info));
    TRY(config_bind(*c, "model", from, info));
    return config_bind(*c, "reward", reward, info);
}

/* metrics.jsonl as columns: {"rl": {"step": [...], "reward": [...]}}; a name missing in a line is null there. */
typedef struct column {
    char name[64];
    double *v;
} column;
typedef struct table {
    char stage[32];
    int n, cap, n_col;
    column *col;
} table;

static double *cell(table *t, const char *name)
{
    int i = 0;
    while (i < t->n_col && strcmp(t->col[i].name, name) != 0) i++;
    if (i == t->n_col) {
        t->col = realloc(t->col, (size_t)(t->n_col + 1) * sizeof *t->col);
        CHECK(t->col != NULL);
        column *c = &t->col[t->n_col++];
        snprintf(c->name, sizeof c->name, "%s", name);
        c->v = malloc((size_t)t->cap * sizeof *c->v);
        CHECK(c->v != NULL);
        for (int k = 0; k < t->cap; k++) c->v[k] = (double)NAN;
    }
    return &t->col[i].v[t->n - 1];
}

static void add_line(report *r, table *t, const json *line)
{
    if (t->n == t->cap) {
        int cap = t->cap == 0 ? 256 : 2 * t->cap;
        for (int i = 0; i < t->n_col; i++) {
            t->col[i].v = realloc(t->col[i].v, (size_t)cap * sizeof(double));
            CHECK(t->col[i].v != NULL);
            for (int k = t->cap; k < cap; k++) t->col[i].v[k] = (double)NAN;
        }
        t->cap = cap;
    }
    t->n++;
    for (int64_t i = 0; i < json_len(line); i++) {
        const json *v = json_at(line, i);
        if (json_kind(v) == JSON_NUMBER) *cell(t, json_key_at(line, i)) = json_num(v);
    }
    double diff = json_num(json_get(line, "max_logp_diff")), share = json_num(json_get(line, "share_of_peak"));
    double rss = json_num(json_get(line, "peak_rss_mib"));
    if (diff >= 0 && !(r->logp_diff >= diff)) r->logp_diff = diff;
    if (rss > 0 && !(r->peak_rss >= rss)) r->peak_rss = rss;
    if (share > 0 && strcmp(t->stage, "rl") == 0) r->share_sum += share, r->share_n++;
}

static status add_metrics(report *r, const char *path)
{
    table t[16];
    int n_table = 0, line = 0;
    char *text = NULL, what[PATH + 32];
    size_t n;
    status st = ST_OK;
    if (!report_read_all(path, &text, &n)) return ST_OK;
    for (char *p = text, *end; p < text + n && st == ST_OK; p = end + 1) {
        end = memchr(p, '\n', (size_t)(text + n - p));
        line++;
        if (end == NULL) break; /* a line still being written */
        json *j = NULL;
        snprintf(what, sizeof what, "%s:%d", path, line);
        st = json_parse(&j, p, (size_t)(end - p), what);
        const char *stage = st == ST_OK ? json_str(json_get(j, "stage")) : NULL;
        int i = 0;
        while (stage != NULL && i < n_table && strncmp(t[i].stage, stage, sizeof t->stage - 1) != 0) i++;
        if (stage != NULL && i < 16) {
            if (i == n_table) {
                t[n_table] = (table){0};
                snprintf(t[n_table++].stage, sizeof t->stage, "%s", stage);
            }
            add_line(r, &t[i], j);
        }
        json_free(j);
    }
    json_open(&r->runs, '{');
    for (int i = 0; i < n_table; i++) {
        json_key(&r->runs, t[i].stage);
        json_open(&r->runs, '{');
        for (int k = 0; k < t[i].n_col; k++) {
            json_key(&r->runs, t[i].col[k].name);
            json_open(&r->runs, '[');
            for (int s = 0; s < t[i].n; s++) report_put_short(&r->runs, t[i].col[k].v[s]);
            json_close(&r->runs, ']');
            free(t[i].col[k].v);
        }
        json_close(&r->runs, '}');
        free(t[i].col);
    }
    json_close(&r->runs, '}');
    free(text);
    return st;
}

status report_add_run(report *r, const char *dir, bool *used)
{
    char conf[PATH], metrics[PATH], eval[PATH];
    snprintf(conf, sizeof conf, "%s/config.yaml", dir);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", dir);
    snprintf(eval, sizeof eval, "%s/eval", dir);
    *used = report_exists(metrics) || report_exists(eval);
    if (!*used) return ST_OK;
    config *c = NULL;
    run_info info = {0};
    status st = read_info(&c, &info, dir);
    if (st == ST_OK) {
        static const char *const bats[] = {"published", "fixed", "none", "naive"};
        json_out *o = &r->runs;
        char *text = NULL;
        size_t n;
        json_open(o, '{');
        json_key(o, "dir"), json_put_str(o, dir);
        json_key(o, "name"), json_put_str(o, info.name);
        json_key(o, "arm"), json_put_str(o, info.arm);
        json_key(o, "seed"), json_put_int(o, info.seed);
        json_key(o, "bat"), json_put_str(o, bats[info.bat]);
        json_key(o, "gamma"), json_put_num(o, info.gamma);
        json_key(o, "delta"), json_put_num(o, info.delta);
        json_key(o, "config");
        if (report_read_all(conf, &text, &n))
            json_put_strn(o, text, n);
        else
            json_put_null(o);
        free(text);
        json_key(o, "metrics");
        st = add_metrics(r, metrics);
        json_close(o, '}');
        double wall = read_number(dir, "wall_s"), rss = read_number(dir, "peak_rss_mib");
        if (wall >= 0) r->wall_s = (r->wall_s >= 0 ? r->wall_s : 0) + wall;
        if (rss > 0 && !(r->peak_rss >= rss)) r->peak_rss = rss;
    }
    if (st == ST_OK) st = report_add_rollouts(r, dir, info.arm, info.seed, info.model);
    if (st == ST_OK && report_exists(eval)) st = report_scan_evals(r, eval, info.arm, info.seed, info.model, dir);
    config_destroy(c);
    return st;
}
