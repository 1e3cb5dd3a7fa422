#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "launch/report.h"
#include "launch/report_page.h"

static status write_file(const char *path, FILE *f, bool ok)
{
    int err = errno;
    if (f != NULL && fclose(f) != 0 && ok) err = errno, ok = false;
    return ok ? ST_OK : FAIL(ST_EIO, "%s: %s", path, strerror(err));
}

/* JSON inside a script element: '<' occurs only in strings and must not end the element. */
static bool put_json(FILE *f, const json_out *o)
{
    size_t done = 0;
    for (size_t i = 0; i < o->len; i++) {
        if (o->text[i] != '<') continue;
        if (fwrite(o->text + done, 1, i - done, f) != i - done || fputs("\\u003c", f) < 0) return false;
        done = i + 1;
    }
    return fwrite(o->text + done, 1, o->len - done, f) == o->len - done;
}

static bool put_text(FILE *f, const unsigned char *text, size_t n) { return fwrite(text, 1, n, f) == n; }

/* The page with its marks replaced: "{{style}}", "{{data}}", "{{script}}", in this order. */
static status write_page(const char *path, const json_out *data)
{
    static const char *const marks[] = {"{{style}}", "{{data}}", "{{script}}"};
    FILE *f = fopen(path, "w");
    bool ok = f != NULL;
    const char *page = (const char *)report_html, *end = page + report_html_len;
    for (int i = 0; i < 3 && ok; i++) {
        const char *at = memmem(page, (size_t)(end - page), marks[i], strlen(marks[i]));
        CHECK(at != NULL);
        ok = put_text(f, (const unsigned char *)page, (size_t)(at - page));
        if (ok && i == 0) ok = put_text(f, report_css, report_css_len);
        if (ok && i == 1) ok = put_json(f, data);
        if (ok && i == 2)
            ok = put_text(f, report_charts_js, report_charts_js_len) &&
                 put_text(f, report_page_js, report_page_js_len) &&
                 put_text(f, report_gallery_js, report_gallery_js_len);
        page = at + strlen(marks[i]);
    }
    ok = ok && put_text(f, (const unsigned char *)page, (size_t)(end - page));
    return write_file(path, f, ok);
}

static status write_summary(const char *path, const json_out *o)
{
    FILE *f = fopen(path, "w");
    bool ok = f != NULL && fwrite(o->text, 1, o->len, f) == o->len && fputc('\n', f) != EOF;
    return write_file(path, f, ok);
}

static status gather(report *r, const arg_list *runs, const arg_list *evals)
{
    int found = 0;
    for (int i = 0; i < runs->n; i++) {
        bool used = false;
        TRY(report_add_run(r, runs->v[i], &used));
        found += used;
        if (!used) log_debug("%s holds no run", runs->v[i]);
    }
    for (int i = 0; i < evals->n; i++) TRY(report_add_evals(r, evals->v[i], "main", 0));
    if (found + evals->n > 0) return ST_OK;
    return FAIL(ST_EINVAL, "none of the %d directories holds a run (metrics.jsonl or eval/)", runs->n);
}

status cmd_report(int argc, char **argv)
{
    arg_list runs = {0}, evals = {0};
    const char *out = "report.html", *summary = NULL, *leak = NULL;
    double wall = (double)NAN;
    int64_t gallery = 3;
    bool helped = false;
    const arg table[] = {
        {"out", ARG_STR, &out, "FILE", "the page (report.html)"},
        {"eval", ARG_LIST, &evals, "DIR", "a directory of evaluation files besides those of the runs"},
        {"leak", ARG_STR, &leak, "FILE", "the result of codedance data leak"},
        {"summary", ARG_STR, &summary, "FILE", "also write the numbers as JSON"},
        {"wall", ARG_NUM, &wall, "SECONDS", "wall-clock time to show (default: the sum of the runs' wall_s files)"},
        {"gallery", ARG_INT, &gallery, "N", "trajectories shown per evaluation, category and result (3)"},
        {.name = NULL}};
    TRY(args_parse(argc, argv, "runs as one self-contained HTML page: RUN_DIR...",
                   "codedance report runs/demo/seed0/* --eval runs/demo/eval --out report.html", table, &runs,
                   &helped));
    if (helped) return ST_OK;
    if (runs.n + evals.n == 0) return args_usage("needs at least one run directory or --eval DIR");
    if (gallery < 0 || gallery > 1000) return args_usage("--gallery must be 0 to 1000");
    report *r = NULL;
    TRY(report_create(&r, (int)gallery));
    json_out data = {0}, numbers = {0};
    status st = gather(r, &runs, &evals);
    if (st == ST_OK && leak != NULL) st = report_add_leak(r, leak);
    if (st == ST_OK) {
        report_page_data(r, wall, &data);
        st = write_page(out, &data);
    }
    if (st == ST_OK) {
        report_summary(r, wall, &numbers);
        st = report_table(&numbers, stdout);
    }
    if (st == ST_OK && summary != NULL) st = write_summary(summary, &numbers);
    if (st == ST_OK) printf("%s (%.1f MB)\n", out, (double)data.len / 1e6);
    json_end(&data);
    json_end(&numbers);
    report_destroy(r);
    return st;
}
