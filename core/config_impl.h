/* Shared by config.c (files and YAML) and config_bind.c (types and tables); nobody else includes this. */
#ifndef CORE_CONFIG_IMPL_H
#define CORE_CONFIG_IMPL_H

#include "core/config.h"

typedef struct cfg_scalar {
    char *text;
    bool plain;
    int line, col;
} cfg_scalar;

typedef struct cfg_value {
    char *section, *key;
    const char *file; /* NULL: came from --set */
    const char *set;  /* the whole argument */
    int key_line, key_col, line, col;
    bool list, used;
    int n; /* 1 unless a list */
    cfg_scalar *item;
} cfg_value;

/* A key some table knows, with the text it resolved to. */
typedef struct cfg_bound {
    const char *section;
    const cfg_field *field;
    int value; /* index, -1: default */
    char *yaml;
} cfg_bound;

struct config {
    int n_value, cap_value;
    cfg_value *value; /* one per section.key: later files and sets replace */
    int n_bound, cap_bound;
    cfg_bound *bound;
    void **own;
    int n_own, cap_own;
};

/* Keeps p (malloc'ed) until config_destroy; aborts the program when memory for the list itself is gone. */
void *config_own(config *c, void *p);
/* Parses text as one YAML value (scalar or list of scalars) into v. what names it in errors. */
status config_parse_value(config *c, cfg_value *v, const char *text, const char *what);
int config_find(const config *c, const char *section, const char *key); /* -1 when not set */
/* "f.yaml:3:9" of the value, or "--set rl.group=0". */
void config_where(const cfg_value *v, bool at_key, char *out, size_t n);

/* config_bind.c, for config_list.c. */
int config_find_bound(const config *c, const char *section, const char *key); /* -1 when no table knows it */
const char *config_range_text(const cfg_field *f, char *buf, size_t n);       /* "" when unbounded */
void config_join_choices(const char *const *choices, char *buf, size_t n);
/* "; did you mean rl.group?" or "". */
void config_suggest(const config *c, const char *section, const char *key, char *out, size_t n);

#endif
