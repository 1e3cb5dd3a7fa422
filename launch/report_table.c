#include <math.h>
#include <stdio.h>
#include <string.h>

#include "launch/report.h"

enum { MAX_COLUMNS = 12, MAX_LINES = 48 };

typedef struct cell {
    double acc, tool;
    int seeds;
} cell;
typedef struct line {
    const char *arm, *stage;
    cell at[MAX_COLUMNS];
    double fail, calls; /* of the largest row: all categories of an evaluation, or its only one */
    int64_t all_n;
    int all_seeds;
} line;

static const char *text(const json *row, const char *key) { return json_str(json_get(row, key)); }

static line *line_of(line *lines, int *n, const json *row)
{
    const char *arm = text(row, "arm"), *stage = text(row, "stage");
    if (arm == NULL || stage == NULL) return NULL;
    for (int i = 0; i < *n; i++)
        if (strcmp(lines[i].arm, arm) == 0 && strcmp(lines[i].stage, stage) == 0) return &lines[i];
    if (*n == MAX_LINES) return NULL;
    lines[*n] = (line){.arm = arm, .stage = stage};
    return &lines[(*n)++];
}

static int column_of(const char **columns, int *n, const char *name)
{
    for (int i = 0; i < *n; i++)
        if (strcmp(columns[i], name) == 0) return i;
    if (*n == MAX_COLUMNS) return -1;
    columns[*n] = name;
    return (*n)++;
}

static double number(const json *row, const char *key)
{
    double v = json_num(json_get(row, key));
    return isnan(v) ? 0 : v;
}

static void add_all(line *l, const json *row)
{
    int64_t n = json_int(json_get(row, "n"));
    if (n < l->all_n) return;
    if (n > l->all_n) l->fail = l->calls = 0, l->all_seeds = 0;
    l->all_n = n;
    l->fail += number(row, "code_fail_rate");
    l->calls += number(row, "mean_calls");
    l->all_seeds++;
}

/* Plain measurements only: not forced, not exchanged, at the categories' own sizes. */
static bool plain(const json *row)
{
    const char *force = text(row, "force");
    return (force == NULL || strcmp(force, "free") == 0) && !json_bool(json_get(row, "shuffled")) &&
           json_get(row, "tile_scale") == NULL && text(row, "category") != NULL;
}

static void put_lines(const line *lines, int n, const char *const *columns, int n_column, FILE *f)
{
    fprintf(f, "\n  %-20s", "accuracy / with code");
    for (int c = 0; c < n_column; c++) fprintf(f, " %11s", columns[c]);
    fprintf(f, "  failed code  calls\n");
    for (int i = 0; i < n; i++) {
        const line *l = &lines[i];
        char name[40];
        snprintf(name, sizeof name, "%s, %s", l->arm, l->stage);
        fprintf(f, "  %-20s", name);
        for (int c = 0; c < n_column; c++) {
            const cell *k = &l->at[c];
            if (k->seeds > 0)
                fprintf(f, "   %.2f/%.2f", k->acc / k->seeds, k->tool / k->seeds);
            else
                fprintf(f, " %11s", "-");
        }
        if (l->all_seeds > 0) fprintf(f, "  %11.3f  %5.2f", l->fail / l->all_seeds, l->calls / l->all_seeds);
        fputc('\n', f);
    }
    fputc('\n', f);
}

status report_table(const json_out *summary, FILE *f)
{
    json *root = NULL;
    line lines[MAX_LINES];
    const char *columns[MAX_COLUMNS];
    int n = 0, n_column = 0;
    TRY(json_parse(&root, summary->text, summary->len, "summary"));
    const json *rows = json_get(root, "rows");
    for (int64_t i = 0; i < json_len(rows); i++) {
        const json *row = json_at(rows, i);
        line *l = plain(row) ? line_of(lines, &n, row) : NULL;
        if (l == NULL) continue;
        add_all(l, row);
        if (strcmp(text(row, "category"), "all") == 0) continue;
        int c = column_of(columns, &n_column, text(row, "category"));
        if (c < 0) continue;
        l->at[c].acc += number(row, "accuracy");
        l->at[c].tool += number(row, "tool_rate");
        l->at[c].seeds++;
    }
    if (n > 0) put_lines(lines, n, columns, n_column, f);
    json_free(root);
    return ST_OK;
}
