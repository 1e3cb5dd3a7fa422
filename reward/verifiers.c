#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "reward/reward.h"

typedef struct span {
    const char *s;
    size_t n;
} span;

static span trim(const char *s)
{
    while (isspace((unsigned char)*s)) s++;
    size_t n = strlen(s);
    while (n > 0 && isspace((unsigned char)s[n - 1])) n--;
    return (span){s, n};
}

static float verify_exact(const char *truth, const char *answer, const reward_opts *o, const char **reason)
{
    (void)o;
    span t = trim(truth), a = trim(answer);
    bool same = t.n == a.n && strncasecmp(t.s, a.s, t.n) == 0;
    *reason = same ? "equal" : "differs";
    return same ? 1 : 0;
}

/* A number written by people: thousands commas, a leading $, a trailing % or full stop; also a fraction a/b. */
static bool read_number(const char *text, double *out)
{
    char buf[64];
    span t = trim(text);
    if (t.n > 0 && *t.s == '$') t.s++, t.n--;
    while (t.n > 0 && (t.s[t.n - 1] == '%' || t.s[t.n - 1] == '.')) t.n--;
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (t.s[i] == ',') continue;
        if (n + 1 == sizeof buf || !strchr("0123456789+-.eE/", t.s[i])) return false;
        buf[n++] = t.s[i];
    }
    buf[n] = 0;
    char *slash = strchr(buf, '/'), *end;
    if (slash) *slash = 0;
    double v = strtod(buf, &end);
    if (end == buf || *end) return false;
    if (slash) {
        double below = strtod(slash + 1, &end);
        if (end == slash + 1 || *end || below == 0) return false;
        v /= below;
    }
    *out = v;
    return isfinite(v);
}

static float verify_number(const char *truth, const char *answer, const reward_opts *o, const char **reason)
{
    double t, a;
    if (!read_number(truth, &t)) return *reason = "the reference is no number", 0.0f;
    if (!read_number(answer, &a)) return *reason = "the answer is no number", 0.0f;
    bool same = fabs(a - t) <= o->number_tolerance * fmax(1, fabs(t));
    *reason = same ? "equal within tolerance" : "differs";
    return same ? 1 : 0;
}

/* The option letter: "B", "(B)", "B.", "B) a dog", "B: a dog". 0 when there is none. */
static int read_choice(const char *text)
{
    span t = trim(text);
    if (t.n > 0 && (*t.s == '(' || *t.s == '[')) t.s++, t.n--;
    if (t.n == 0 || !isalpha((unsigned char)*t.s)) return 0;
    if (t.n > 1 && !strchr(").:,] \t\n", t.s[1])) return 0;
    return toupper((unsigned char)*t.s);
}

static float verify_choice(const char *truth, const char *answer, const reward_opts *o, const char **reason)
{
    (void)o;
    int t = read_choice(truth), a = read_choice(answer);
    if (!t) return *reason = "the reference names no option letter", 0.0f;
    if (!a) return *reason = "the answer names no option letter", 0.0f;
    *reason = t == a ? "same option" : "other option";
    return t == a ? 1 : 0;
}

/* Exactly four numbers, whatever stands between them. */
static bool read_box(const char *text, double b[4])
{
    int n = 0;
    for (const char *s = text; *s;) {
        if (isdigit((unsigned char)*s) || ((*s == '-' || *s == '.') && isdigit((unsigned char)s[1]))) {
            char *end;
            double v = strtod(s, &end);
            if (n == 4 || !isfinite(v)) return false;
            b[n++] = v;
            s = end;
        } else {
            s++;
        }
    }
    return n == 4 && b[2] > b[0] && b[3] > b[1];
}

static float verify_box_iou(const char *truth, const char *answer, const reward_opts *o, const char **reason)
{
    (void)o;
    double t[4], a[4];
    if (!read_box(truth, t)) return *reason = "the reference is no box x1,y1,x2,y2", 0.0f;
    if (!read_box(answer, a)) return *reason = "the answer is no box x1,y1,x2,y2", 0.0f;
    double w = fmin(t[2], a[2]) - fmax(t[0], a[0]), h = fmin(t[3], a[3]) - fmax(t[1], a[1]);
    double both = w > 0 && h > 0 ? w * h : 0;
    double all = (t[2] - t[0]) * (t[3] - t[1]) + (a[2] - a[0]) * (a[3] - a[1]) - both;
    *reason = both > 0 ? "overlap" : "apart";
    return (float)(both / all);
}

const verifier_def verifiers[] = {{"exact", verify_exact, "same text after trimming, case ignored"},
                                  {"number", verify_number, "same number within reward.number_tolerance"},
                                  {"choice", verify_choice, "same option letter"},
                                  {"box_iou", verify_box_iou, "intersection over union of two boxes x1,y1,x2,y2"},
                                  {NULL, NULL, NULL}};

const verifier_def *verifier_find(const char *name)
{
    for (const verifier_def *v = verifiers; v->name; v++)
        if (strcmp(v->name, name) == 0) return v;
    return NULL;
}
