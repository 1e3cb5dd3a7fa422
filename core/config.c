#include "core/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/config_impl.h"

enum { MAX_INCLUDE = 16, MAX_FILE = 1 << 22 };

void *config_own(config *c, void *p)
{
    CHECK(p != NULL);
    if (c->n_own == c->cap_own) {
        c->cap_own = c->cap_own == 0 ? 64 : 2 * c->cap_own;
        c->own = realloc(c->own, (size_t)c->cap_own * sizeof *c->own);
        CHECK(c->own != NULL);
    }
    c->own[c->n_own++] = p;
    return p;
}

static char *own_copy(config *c, const char *s, size_t n) { return config_own(c, strndup(s, n)); }

int config_find(const config *c, const char *section, const char *key)
{
    for (int i = 0; i < c->n_value; i++) {
        if (strcmp(c->value[i].key, key) == 0 && strcmp(c->value[i].section, section) == 0) return i;
    }
    return -1;
}

void config_where(const cfg_value *v, bool at_key, char *out, size_t n)
{
    if (v->file == NULL)
        snprintf(out, n, "--set %s", v->set);
    else
        snprintf(out, n, "%s:%d:%d", v->file, at_key ? v->key_line : v->line, at_key ? v->key_col : v->col);
}

/* ---- YAML events: two levels of block or flow mappings, then scalars and lists of scalars ---- */

typedef struct reader {
    yaml_parser_t yaml;
    yaml_event_t ev;
    bool have;
    const char *what;
} reader;

static int line_of(const reader *r) { return (int)r->ev.start_mark.line + 1; }
static int col_of(const reader *r) { return (int)r->ev.start_mark.column + 1; }

static status next(reader *r)
{
    if (r->have) yaml_event_delete(&r->ev);
    r->have = false;
    if (!yaml_parser_parse(&r->yaml, &r->ev)) {
        const yaml_parser_t *y = &r->yaml;
        return FAIL(ST_EINVAL, "%s:%zu:%zu: %s%s%s", r->what, y->problem_mark.line + 1, y->problem_mark.column + 1,
                    y->problem != NULL ? y->problem : "not readable as YAML", y->context != NULL ? " " : "",
                    y->context != NULL ? y->context : "");
    }
    r->have = true;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (r->ev.type) {
    case YAML_ALIAS_EVENT: anchor = r->ev.data.alias.anchor; break;
    case YAML_SCALAR_EVENT: anchor = r->ev.data.scalar.anchor, tag = r->ev.data.scalar.tag; break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = r->ev.data.sequence_start.anchor, tag = r->ev.data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT: anchor = r->ev.data.mapping_start.anchor, tag = r->ev.data.mapping_start.tag; break;
    default: break;
    }
    if (anchor != NULL || tag != NULL) {
        return FAIL(ST_EINVAL, "%s:%d:%d: anchors, aliases and tags are not allowed in a config", r->what, line_of(r),
                    col_of(r));
    }
    return ST_OK;
}

static const char *scalar_text(const reader *r) { return (const char *)r->ev.data.scalar.value; }
static size_t scalar_len(const reader *r) { return r->ev.data.scalar.length; }

static status take_scalar(config *c, reader *r, cfg_scalar *s)
{
    if (strlen(scalar_text(r)) != scalar_len(r)) {
        return FAIL(ST_EINVAL, "%s:%d:%d: a value contains a NUL character", r->what, line_of(r), col_of(r));
    }
    *s = (cfg_scalar){own_copy(c, scalar_text(r), scalar_len(r)), r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE,
                      line_of(r), col_of(r)};
    return ST_OK;
}

/* The current event starts a value; on return it is the value's last event. */
static status take_value(config *c, reader *r, cfg_value *v)
{
    v->line = line_of(r);
    v->col = col_of(r);
    if (r->ev.type == YAML_SCALAR_EVENT) {
        v->n = 1;
        v->item = config_own(c, malloc(sizeof *v->item));
        return take_scalar(c, r, v->item);
    }
    if (r->ev.type != YAML_SEQUENCE_START_EVENT) {
        return FAIL(ST_EINVAL, "%s:%d:%d: expected a value or a list; a config has two levels: section, key", r->what,
                    v->line, v->col);
    }
    v->list = true;
    int cap = 8;
    cfg_scalar *item = malloc((size_t)cap * sizeof *item);
    CHECK(item != NULL);
    status st;
    for (;;) {
        TRY_OR(next(r), fail);
        if (r->ev.type == YAML_SEQUENCE_END_EVENT) break;
        if (r->ev.type != YAML_SCALAR_EVENT) {
            st = FAIL(ST_EINVAL, "%s:%d:%d: list elements must be plain values", r->what, line_of(r), col_of(r));
            goto fail;
        }
        if (v->n == cap) {
            cfg_scalar *grown = realloc(item, (size_t)(cap *= 2) * sizeof *item);
            CHECK(grown != NULL);
            item = grown;
        }
        TRY_OR(take_scalar(c, r, &item[v->n]), fail);
        v->n++;
    }
    v->item = config_own(c, item);
    return ST_OK;
fail:
    free(item);
    return st;
}

static status reader_open(reader *r, const char *text, size_t n, const char *what)
{
    *r = (reader){.what = what};
    if (!yaml_parser_initialize(&r->yaml)) return FAIL(ST_ENOMEM, "%s: out of memory", what);
    yaml_parser_set_input_string(&r->yaml, (const unsigned char *)text, n);
    return next(r); /* the stream's start */
}

static void reader_close(reader *r)
{
    if (r->have) yaml_event_delete(&r->ev);
    yaml_parser_delete(&r->yaml);
}

status config_parse_value(config *c, cfg_value *v, const char *text, const char *what)
{
    reader r;
    status st;
    v->list = false;
    v->n = 0;
    TRY_OR(reader_open(&r, text, strlen(text), what), out);
    TRY_OR(next(&r), out);
    if (r.ev.type == YAML_STREAM_END_EVENT) { /* nothing at all is the empty string */
        v->n = 1;
        v->item = config_own(c, malloc(sizeof *v->item));
        *v->item = (cfg_scalar){own_copy(c, "", 0), true, 1, 1};
        goto out;
    }
    TRY_OR(next(&r), out);
    TRY_OR(take_value(c, &r, v), out);
    TRY_OR(next(&r), out);
    TRY_OR(next(&r), out);
    if (r.ev.type != YAML_STREAM_END_EVENT) st = FAIL(ST_EINVAL, "%s: more than one value", what);
out:
    reader_close(&r);
    return st;
}

/* ---- files ---- */

static void store(config *c, const cfg_value *v)
{
    int i = config_find(c, v->section, v->key);
    if (i >= 0) {
        CHECK(c->value != NULL);
        c->value[i] = *v;
        return;
    }
    if (c->n_value == c->cap_value) {
        c->cap_value = c->cap_value == 0 ? 64 : 2 * c->cap_value;
        c->value = realloc(c->value, (size_t)c->cap_value * sizeof *c->value);
        CHECK(c->value != NULL);
    }
    c->value[c->n_value++] = *v;
}

static status load_file(config *c, const char *path, int depth);

/* Keys must be new within one file: seen[0..n) of it. */
typedef struct seen {
    int n, cap;
    struct {
        const char *section, *key;
        int line;
    } * at;
} seen;

static status remember(seen *s, const char *what, const char *section, const char *key, int line, int col)
{
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->at[i].section, section) != 0 || strcmp(s->at[i].key, key) != 0) continue;
        return FAIL(ST_EINVAL, "%s:%d:%d: %s%s%s is given twice; first in line %d", what, line, col, section,
                    *key != '\0' ? "." : "", key, s->at[i].line);
    }
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 64 : 2 * s->cap;
        s->at = realloc(s->at, (size_t)s->cap * sizeof *s->at);
        CHECK(s->at != NULL);
    }
    s->at[s->n].section = section;
    s->at[s->n].key = key;
    s->at[s->n++].line = line;
    return ST_OK;
}

static status load_section(config *c, reader *r, const char *file, const char *section, seen *s)
{
    if (r->ev.type == YAML_SCALAR_EVENT && scalar_len(r) == 0 && r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        return ST_OK; /* a section with every key commented out */
    }
    if (r->ev.type != YAML_MAPPING_START_EVENT) {
        return FAIL(ST_EINVAL, "%s:%d:%d: section %s must hold keys (\"key: value\" lines, indented)", file, line_of(r),
                    col_of(r), section);
    }
    for (;;) {
        TRY(next(r));
        if (r->ev.type == YAML_MAPPING_END_EVENT) return ST_OK;
        if (r->ev.type != YAML_SCALAR_EVENT) {
            return FAIL(ST_EINVAL, "%s:%d:%d: expected a key", file, line_of(r), col_of(r));
        }
        cfg_value v = {.section = own_copy(c, section, strlen(section)),
                       .key = own_copy(c, scalar_text(r), scalar_len(r)),
                       .file = file,
                       .key_line = line_of(r),
                       .key_col = col_of(r)};
        TRY(remember(s, file, v.section, v.key, v.key_line, v.key_col));
        TRY(next(r));
        TRY(take_value(c, r, &v));
        store(c, &v);
    }
}

static status load_include(config *c, reader *r, const char *file, int depth)
{
    if (r->ev.type != YAML_SCALAR_EVENT || scalar_len(r) == 0) {
        return FAIL(ST_EINVAL, "%s:%d:%d: include needs one file name", file, line_of(r), col_of(r));
    }
    int line = line_of(r), col = col_of(r);
    const char *name = scalar_text(r), *slash = strrchr(file, '/');
    size_t dir = slash != NULL && name[0] != '/' ? (size_t)(slash - file) + 1 : 0;
    char *path = malloc(dir + scalar_len(r) + 1);
    CHECK(path != NULL);
    memcpy(path, file, dir);
    memcpy(path + dir, name, scalar_len(r) + 1);
    config_own(c, path);
    if (depth >= MAX_INCLUDE)
        return FAIL(ST_EINVAL, "%s:%d:%d: includes nest deeper than 16; do they form a circle?", file, line, col);
    status st = load_file(c, path, depth + 1);
    if (st == ST_EIO) return fail_within(ST_EINVAL, "%s:%d:%d: include", file, line, col);
    return st;
}

static status load_events(config *c, reader *r, const char *file, int depth, seen *s)
{
    TRY(next(r));
    if (r->ev.type == YAML_STREAM_END_EVENT) return ST_OK; /* an empty overlay */
    TRY(next(r));
    if (r->ev.type == YAML_SCALAR_EVENT && scalar_len(r) == 0) return ST_OK; /* only comments */
    if (r->ev.type != YAML_MAPPING_START_EVENT) {
        return FAIL(ST_EINVAL, "%s:%d:%d: expected sections (\"section:\" with indented \"key: value\" lines)", file,
                    line_of(r), col_of(r));
    }
    for (bool first = true;; first = false) {
        TRY(next(r));
        if (r->ev.type == YAML_MAPPING_END_EVENT) break;
        if (r->ev.type != YAML_SCALAR_EVENT)
            return FAIL(ST_EINVAL, "%s:%d:%d: expected a section name", file, line_of(r), col_of(r));
        char *section = own_copy(c, scalar_text(r), scalar_len(r));
        int line = line_of(r), col = col_of(r);
        TRY(remember(s, file, section, "", line, col));
        TRY(next(r));
        if (strcmp(section, "include") != 0) {
            TRY(load_section(c, r, file, section, s));
        } else if (!first) {
            return FAIL(ST_EINVAL, "%s:%d:%d: include must be the first line, because what follows overrides it", file,
                        line, col);
        } else {
            TRY(load_include(c, r, file, depth));
        }
    }
    TRY(next(r)); /* document end */
    TRY(next(r));
    if (r->ev.type != YAML_STREAM_END_EVENT) {
        return FAIL(ST_EINVAL, "%s:%d:%d: a config is one YAML document; \"---\" starts a second one", file, line_of(r),
                    col_of(r));
    }
    return ST_OK;
}

static status load_file(config *c, const char *path, int depth)
{
    const char *file = own_copy(c, path, strlen(path));
    FILE *f = fopen(path, "rb");
    if (f == NULL) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    char *text = malloc(MAX_FILE);
    CHECK(text != NULL);
    size_t n = fread(text, 1, MAX_FILE, f);
    int err = ferror(f) ? errno : 0;
    fclose(f);
    if (err != 0 || n == MAX_FILE) {
        free(text);
        return err != 0 ? FAIL(ST_EIO, "%s: %s", path, strerror(err)) : FAIL(ST_EINVAL, "%s: larger than 4 MiB", path);
    }
    reader r;
    seen s = {0};
    status st = reader_open(&r, text, n, file);
    if (st == ST_OK) st = load_events(c, &r, file, depth, &s);
    reader_close(&r);
    free(s.at);
    free(text);
    return st;
}

static status load_set(config *c, const char *set)
{
    char what[300];
    snprintf(what, sizeof what, "--set %s", set);
    const char *eq = strchr(set, '='), *dot = NULL;
    for (const char *p = set; eq != NULL && p < eq; p++) {
        if (*p == '.') dot = p;
    }
    if (dot == NULL || dot == set || dot + 1 == eq) return FAIL(ST_EINVAL, "%s: expected section.key=value", what);
    cfg_value v = {.section = own_copy(c, set, (size_t)(dot - set)),
                   .key = own_copy(c, dot + 1, (size_t)(eq - dot - 1)),
                   .set = own_copy(c, set, strlen(set))};
    TRY(config_parse_value(c, &v, eq + 1, what));
    store(c, &v);
    return ST_OK;
}

status config_load(config **out, const char *const *files, int n_files, const char *const *sets, int n_sets)
{
    config *c = calloc(1, sizeof *c);
    if (c == NULL) return FAIL(ST_ENOMEM, "out of memory while reading the config");
    status st = ST_OK;
    for (int i = 0; i < n_files && st == ST_OK; i++) {
        st = load_file(c, files[i], 0);
        if (st == ST_EIO) st = ST_EINVAL; /* a name the user gave */
    }
    for (int i = 0; i < n_sets && st == ST_OK; i++) st = load_set(c, sets[i]);
    if (st == ST_OK)
        *out = c;
    else
        config_destroy(c);
    return st;
}

void config_destroy(config *c)
{
    if (c == NULL) return;
    for (int i = 0; i < c->n_own; i++) free(c->own[i]);
    free(c->own);
    free(c->value);
    free(c->bound);
    free(c);
}
