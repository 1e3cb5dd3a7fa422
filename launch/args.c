#include "launch/args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"

static bool failed;

bool args_failed(void) { return failed; }

status args_usage(const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    failed = true;
    return FAIL(ST_EINVAL, "%s", text);
}

static const char *bare(const char *name) { return name + strspn(name, "-"); }

static void print_help(const char *command, const char *what, const char *example, const arg *table)
{
    printf("codedance %s: %s\n", command, what);
    int width = 6;
    for (const arg *a = table; a != NULL && a->name != NULL; a++) {
        int n = (int)(strlen(bare(a->name)) + 3 + (a->value_name != NULL ? strlen(a->value_name) : 0));
        if (n > width) width = n;
    }
    printf("\noptions:\n");
    for (const arg *a = table; a != NULL && a->name != NULL; a++) {
        char left[128];
        snprintf(left, sizeof left, "--%s %s", bare(a->name), a->value_name != NULL ? a->value_name : "");
        printf("  %-*s  %s%s\n", width, left, a->help, a->kind == ARG_LIST ? " (may be repeated)" : "");
    }
    printf("  %-*s  %s\n", width, "--help", "this text");
    if (example != NULL) printf("\nexample:\n  %s\n", example);
}

static const arg *find(const arg *table, const char *name, size_t n)
{
    for (const arg *a = table; a != NULL && a->name != NULL; a++) {
        if (strlen(bare(a->name)) == n && strncmp(bare(a->name), name, n) == 0) return a;
    }
    return NULL;
}

static status unknown(const arg *table, const char *name, size_t n)
{
    char given[64];
    snprintf(given, sizeof given, "%.*s", (int)n, name);
    const char *best = NULL;
    int least = 1 + (int)n / 3;
    for (const arg *a = table; a != NULL && a->name != NULL; a++) {
        int d = config_distance(given, bare(a->name));
        if (d <= least) least = d - 1, best = bare(a->name);
    }
    if (best != NULL) return args_usage("unknown option --%s; did you mean --%s?", given, best);
    return args_usage("unknown option --%s (--help lists the options)", given);
}

static status take(const arg *a, const char *value)
{
    char *end;
    errno = 0;
    switch (a->kind) {
    case ARG_FLAG: *(bool *)a->dst = true; break;
    case ARG_STR: *(const char **)a->dst = value; break;
    case ARG_INT: {
        long long v = strtoll(value, &end, 10);
        if (*value == '\0' || *end != '\0' || errno != 0)
            return args_usage("--%s needs a whole number, not \"%s\"", bare(a->name), value);
        *(int64_t *)a->dst = v;
        break;
    }
    case ARG_NUM: {
        double v = strtod(value, &end);
        if (*value == '\0' || *end != '\0' || !isfinite(v))
            return args_usage("--%s needs a number, not \"%s\"", bare(a->name), value);
        *(double *)a->dst = v;
        break;
    }
    case ARG_LIST: {
        arg_list *l = a->dst;
        if (l->n == (int)(sizeof l->v / sizeof *l->v))
            return args_usage("--%s given more than 64 times", bare(a->name));
        l->v[l->n++] = value;
        break;
    }
    }
    return ST_OK;
}

status args_parse(int argc, char **argv, const char *what, const char *example, const arg *table, arg_list *pos,
                  bool *helped)
{
    bool options = true;
    *helped = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(argv[0], what, example, table);
            *helped = true;
            return ST_OK;
        }
    }
    for (int i = 1; i < argc; i++) {
        const char *s = argv[i];
        if (!options || s[0] != '-' || s[1] == '\0') {
            if (pos == NULL) return args_usage("unexpected argument \"%s\"", s);
            if (pos->n == (int)(sizeof pos->v / sizeof *pos->v)) return args_usage("more than 64 arguments");
            pos->v[pos->n++] = s;
            continue;
        }
        if (strcmp(s, "--") == 0) {
            options = false;
            continue;
        }
        if (s[1] != '-') return args_usage("unknown option %s (options start with two dashes)", s);
        const char *name = s + 2, *eq = strchr(name, '=');
        size_t n = eq != NULL ? (size_t)(eq - name) : strlen(name);
        const arg *a = find(table, name, n);
        if (a == NULL) return unknown(table, name, n);
        const char *value = eq != NULL ? eq + 1 : NULL;
        if (a->kind == ARG_FLAG && value != NULL) return args_usage("--%s takes no value", bare(a->name));
        if (a->kind != ARG_FLAG && value == NULL) {
            if (i + 1 >= argc)
                return args_usage("--%s needs a value (%s)", bare(a->name),
                                  a->value_name != NULL ? a->value_name : "VALUE");
            value = argv[++i];
        }
        TRY(take(a, value));
    }
    return ST_OK;
}

status args_dtype(const char *value)
{
    static const char *const known[] = {"fp32", "bf16", "fp16"};
    for (int i = 0; i < 3; i++)
        if (!value || !strcmp(value, known[i])) return ST_OK;
    return args_usage("--dtype %s: fp32, bf16 or fp16", value);
}
