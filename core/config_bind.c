#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_impl.h"
#include "core/json.h"

int config_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    int n = (int)strlen(a), m = (int)strlen(b), row[3][MAX + 1];
    if (n > MAX || m > MAX) return n > m ? n : m;
    for (int j = 0; j <= m; j++) row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *cur = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
        cur[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best) best = up[j] + 1;
            if (cur[j - 1] + 1 < best) best = cur[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            cur[j] = best;
        }
    }
    return row[n % 3][m];
}

/* ---- one value ---- */

typedef struct target {
    const char *where, *section;
    const cfg_field *f;
} target;

static status wrong(const target *t, const cfg_scalar *s, const char *need)
{
    return FAIL(ST_EINVAL, "%s: %s.%s is \"%s\", must be %s", t->where, t->section, t->f->key, s->text, need);
}

const char *config_range_text(const cfg_field *f, char *buf, size_t n)
{
    const double huge = 1e15;
    if (f->min == 0 && f->max == 0) return "";
    if (f->max >= huge && f->min <= -huge) return "";
    if (f->max >= huge)
        snprintf(buf, n, "at least %.12g", f->min);
    else if (f->min <= -huge)
        snprintf(buf, n, "at most %.12g", f->max);
    else
        snprintf(buf, n, "%.12g to %.12g", f->min, f->max);
    return buf;
}

static status check_range(const target *t, const cfg_scalar *s, double v)
{
    char range[96];
    const char *text = config_range_text(t->f, range, sizeof range);
    if (*text == '\0' || (v >= t->f->min && v <= t->f->max)) return ST_OK;
    return FAIL(ST_EINVAL, "%s: %s.%s is %s, must be %s", t->where, t->section, t->f->key, s->text, text);
}

static status to_int(const target *t, const cfg_scalar *s, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(s->text, &end, 10);
    if (!s->plain || *s->text == '\0' || *end != '\0' || isspace((unsigned char)*s->text))
        return wrong(t, s, "a whole number");
    if (errno == ERANGE) return wrong(t, s, "a number that fits 64 bits");
    TRY(check_range(t, s, (double)v));
    *out = v;
    return ST_OK;
}

static status to_float(const target *t, const cfg_scalar *s, double *out)
{
    char *end;
    bool written = s->plain && *s->text != '\0' && strspn(s->text, "+-0123456789.eE") == strlen(s->text);
    double v = written ? strtod(s->text, &end) : 0;
    if (!written || *end != '\0' || !isfinite(v)) return wrong(t, s, "a number");
    TRY(check_range(t, s, v));
    *out = v;
    return ST_OK;
}

static const char *nearest_choice(const char *text, const char *const *choices)
{
    const char *best = NULL;
    int d = 3;
    for (int i = 0; choices[i] != NULL; i++) {
        int k = config_distance(text, choices[i]);
        if (k < d) d = k, best = choices[i];
    }
    return best;
}

void config_join_choices(const char *const *choices, char *buf, size_t n)
{
    *buf = '\0';
    for (int i = 0; choices[i] != NULL; i++) {
        size_t at = strlen(buf);
        snprintf(buf + at, n - at, "%s%s", i > 0 ? ", " : "", choices[i]);
    }
}

static status to_choice(const target *t, const cfg_scalar *s, int *out)
{
    for (int i = 0; t->f->choices[i] != NULL; i++) {
        if (strcmp(t->f->choices[i], s->text) != 0) continue;
        *out = i;
        return ST_OK;
    }
    char need[400];
    snprintf(need, sizeof need, "one of: ");
    config_join_choices(t->f->choices, need + strlen(need), sizeof need - strlen(need));
    const char *best = nearest_choice(s->text, t->f->choices);
    size_t at = strlen(need);
    if (best != NULL) snprintf(need + at, sizeof need - at, "; did you mean %s?", best);
    return wrong(t, s, need);
}

static bool is_null(const cfg_scalar *s)
{
    return s->plain && (strcmp(s->text, "null") == 0 || strcmp(s->text, "~") == 0);
}

/* Writes the value to dst + offset unless dst is NULL: a failed check leaves the struct alone. */
static status convert(config *c, const target *t, const cfg_value *v, char *dst)
{
    const cfg_field *f = t->f;
    bool list = f->type == CFG_INTS || f->type == CFG_STRINGS;
    if (list != v->list) {
        return FAIL(ST_EINVAL, "%s: %s.%s must be %s", t->where, t->section, f->key,
                    list ? "a list, such as [a, b]" : "one value, not a list");
    }
    const cfg_scalar *s = v->item;
    void *at = dst == NULL ? NULL : dst + f->offset;
    switch (f->type) {
    case CFG_BOOL: {
        bool yes = strcmp(s->text, "true") == 0;
        if (!s->plain || (!yes && strcmp(s->text, "false") != 0)) return wrong(t, s, "true or false");
        if (at != NULL) *(bool *)at = yes;
        break;
    }
    case CFG_INT: {
        int64_t i = 0;
        TRY(to_int(t, s, &i));
        if (at != NULL) *(int64_t *)at = i;
        break;
    }
    case CFG_FLOAT: {
        double d = 0;
        TRY(to_float(t, s, &d));
        if (at != NULL) *(double *)at = d;
        break;
    }
    case CFG_STRING:
        if (at != NULL) *(char **)at = is_null(s) ? NULL : s->text;
        break;
    case CFG_CHOICE: {
        int i = 0;
        TRY(to_choice(t, s, &i));
        if (at != NULL) *(int *)at = i;
        break;
    }
    case CFG_INTS: {
        cfg_ints l = {v->n, config_own(c, calloc((size_t)v->n + 1, sizeof *l.v))};
        for (int i = 0; i < v->n; i++) TRY(to_int(t, &s[i], &l.v[i]));
        if (at != NULL) *(cfg_ints *)at = l;
        break;
    }
    case CFG_STRINGS: {
        cfg_strings l = {v->n, config_own(c, calloc((size_t)v->n + 1, sizeof *l.v))};
        for (int i = 0; i < v->n; i++) l.v[i] = s[i].text;
        if (at != NULL) *(cfg_strings *)at = l;
        break;
    }
    }
    return ST_OK;
}

/* ---- writing YAML ---- */

static void put_string(json_out *o, const cfg_scalar *s, bool in_list)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"};
    const char *t = s->text;
    bool plain = is_null(s) || (*t != '\0' && (isalpha((unsigned char)*t) || *t == '/' || *t == '_' || *t == '.'));
    for (const char *p = t; *p != '\0' && plain && !is_null(s); p++) {
        plain = isalnum((unsigned char)*p) || strchr("_/.+-", *p) != NULL || (*p == ' ' && p[1] != '\0' && !in_list) ||
                (*p == ':' && p[1] != '\0' && p[1] != ' ' && !in_list);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words && plain && !is_null(s); i++)
        plain = strcasecmp(t, words[i]) != 0;
    if (plain && *t == '.' && isalnum((unsigned char)t[1])) plain = false; /* .5, .inf */
    if (plain)
        json_put_raw(o, t, strlen(t));
    else
        json_put_str(o, t); /* a JSON string is a YAML string */
}

static char *yaml_text(const cfg_field *f, const cfg_value *v)
{
    json_out o;
    json_begin(&o, false);
    bool text = f->type == CFG_STRING || f->type == CFG_STRINGS;
    if (v->list) json_put_raw(&o, "[", 1);
    for (int i = 0; i < v->n; i++) {
        if (i > 0) json_put_raw(&o, ", ", 2);
        if (text)
            put_string(&o, &v->item[i], v->list);
        else
            json_put_raw(&o, v->item[i].text, strlen(v->item[i].text));
    }
    if (v->list) json_put_raw(&o, "]", 1);
    return o.text;
}

/* ---- binding ---- */

int config_find_bound(const config *c, const char *section, const char *key)
{
    for (int i = 0; i < c->n_bound; i++) {
        if (strcmp(c->bound[i].section, section) == 0 && strcmp(c->bound[i].field->key, key) == 0) return i;
    }
    return -1;
}

static status bind_field(config *c, const char *section, const cfg_field *f, void *dst)
{
    char where[400];
    cfg_value dflt = {0};
    int i = config_find(c, section, f->key);
    const cfg_value *v = i >= 0 ? &c->value[i] : &dflt;
    if (i >= 0) {
        config_where(v, false, where, sizeof where);
        c->value[i].used = true;
    } else {
        snprintf(where, sizeof where, "default of %s.%s", section, f->key);
        TRY(config_parse_value(c, &dflt, f->dflt, where));
    }
    target t = {where, section, f};
    TRY(convert(c, &t, v, dst));
    int at = config_find_bound(c, section, f->key);
    if (at < 0) {
        if (c->n_bound == c->cap_bound) {
            c->cap_bound = c->cap_bound == 0 ? 64 : 2 * c->cap_bound;
            c->bound = realloc(c->bound, (size_t)c->cap_bound * sizeof *c->bound);
            CHECK(c->bound != NULL);
        }
        at = c->n_bound++;
    }
    c->bound[at] = (cfg_bound){config_own(c, strdup(section)), f, i, config_own(c, yaml_text(f, v))};
    return ST_OK;
}

status config_bind(config *c, const char *section, const cfg_field *fields, void *dst)
{
    for (const cfg_field *f = fields; f->key != NULL; f++) TRY(bind_field(c, section, f, dst));
    return ST_OK;
}

status config_check(config *c, const cfg_section *sections)
{
    for (const cfg_section *s = sections; s->name != NULL; s++) {
        for (const cfg_field *f = s->fields; f->key != NULL; f++) {
            if (config_find_bound(c, s->name, f->key) < 0) TRY(bind_field(c, s->name, f, NULL));
        }
    }
    return ST_OK;
}

/* The bound "section.key" nearest to section.key, or "" when nothing is near. A right section counts more. */
void config_suggest(const config *c, const char *section, const char *key, char *out, size_t n)
{
    char asked[160], name[160];
    int best = 1000;
    *out = '\0';
    snprintf(asked, sizeof asked, "%s.%s", section, key);
    for (int i = 0; i < c->n_bound; i++) {
        const cfg_bound *b = &c->bound[i];
        int d = 2 * config_distance(key, b->field->key);
        bool same = strcmp(section, b->section) == 0;
        if (!same) d += 1 + config_distance(section, b->section) / 2;
        if (d >= best || d / 2 > 1 + (int)strlen(key) / 3) continue;
        best = d;
        snprintf(name, sizeof name, "%s.%s", b->section, b->field->key);
        snprintf(out, n, "; did you mean %s?", name);
    }
}

static bool section_bound(const config *c, const char *section)
{
    for (int i = 0; i < c->n_bound; i++) {
        if (strcmp(c->bound[i].section, section) == 0) return true;
    }
    return false;
}

status config_finish(config *c)
{
    for (int i = 0; i < c->n_value; i++) {
        const cfg_value *v = &c->value[i];
        char where[400], near[200];
        if (v->used) continue;
        config_where(v, true, where, sizeof where);
        config_suggest(c, v->section, v->key, near, sizeof near);
        if (*near == '\0' && !section_bound(c, v->section)) {
            const char *best = NULL;
            int d = 3;
            for (int k = 0; k < c->n_bound; k++) {
                int e = config_distance(v->section, c->bound[k].section);
                if (e < d) d = e, best = c->bound[k].section;
            }
            if (best != NULL) snprintf(near, sizeof near, "; did you mean section %s?", best);
            return FAIL(ST_EINVAL, "%s: unknown section %s (key %s)%s", where, v->section, v->key, near);
        }
        return FAIL(ST_EINVAL, "%s: unknown key %s.%s%s", where, v->section, v->key, near);
    }
    return ST_OK;
}

status config_fail(const config *c, const char *section, const char *key, const char *fmt, ...)
{
    char text[1024], where[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    int i = config_find(c, section, key);
    if (i < 0) return FAIL(ST_EINVAL, "%s.%s (its default): %s", section, key, text);
    config_where(&c->value[i], false, where, sizeof where);
    return FAIL(ST_EINVAL, "%s: %s.%s: %s", where, section, key, text);
}

const char *config_place(const config *c, const char *section, const char *key)
{
    int i = config_find(c, section, key);
    if (i < 0 || c->value[i].file == NULL) return "";
    const char *slash = strrchr(c->value[i].file, '/');
    if (slash == NULL) return ".";
    return config_own((config *)c,
                      strndup(c->value[i].file, slash == c->value[i].file ? 1 : (size_t)(slash - c->value[i].file)));
}
