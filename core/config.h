/* Configuration: configs/default.yaml <- overlay files <- --set section.key=value. No environment variables.
 *
 * Each module owns a table of cfg_field rows for its section and binds it to its options struct. Every error names
 * file:line:column (or the --set argument) and the nearest valid name:
 *     my.yaml:12:3: unknown key rl.clp_low; did you mean rl.clip_low?
 * An overlay may start with `include: other.yaml` (relative to itself), which is loaded before it. */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef enum cfg_type {
    CFG_BOOL,   /* bool */
    CFG_INT,    /* int64_t, range [min,max] */
    CFG_FLOAT,  /* double, range [min,max] */
    CFG_STRING, /* char *, owned by the config, lives as long as it; written null: NULL */
    CFG_CHOICE, /* int: index into choices */
    CFG_INTS,   /* cfg_ints */
    CFG_STRINGS /* cfg_strings */
} cfg_type;

typedef struct cfg_ints {
    int n;
    int64_t *v;
} cfg_ints; /* owned by the config */
typedef struct cfg_strings {
    int n;
    char **v;
} cfg_strings; /* owned by the config */

typedef struct cfg_field {
    const char *key; /* without the section */
    cfg_type type;
    size_t offset;              /* in the options struct */
    const char *dflt;           /* as written in YAML; a test keeps it equal to configs/default.yaml */
    double min, max;            /* CFG_INT, CFG_FLOAT, and each element of CFG_INTS; both 0: any */
    const char *const *choices; /* NULL-terminated, CFG_CHOICE only */
    const char *help;           /* one sentence, with the unit */
} cfg_field;                    /* a table ends with a row whose key is NULL */

/* What a module offers so that commands which do not use it can still check its keys, and `config` can list them. */
typedef struct cfg_section {
    const char *name;
    const cfg_field *fields;
} cfg_section; /* an array ends with name NULL */

typedef struct config config;

/* Reads the overlays in order, then the sets ("a.b=c", c in YAML syntax). Duplicate keys in one file, bad YAML and
 * missing files are ST_EINVAL with the place. Values are not interpreted before config_bind. */
status config_load(config **out, const char *const *files, int n_files, const char *const *sets, int n_sets);
/* Fills dst (the options struct) from the section: defaults, then what was loaded, checking type, range, choice. dst
 * NULL only checks. A section may be bound in parts, by several tables. */
status config_bind(config *c, const char *section, const cfg_field *fields, void *dst);
/* Checks every section of the list that nobody bound yet, as by config_bind with dst NULL. */
status config_check(config *c, const cfg_section *sections);
/* After every bind: any key nobody bound is an error (unknown key, with the nearest valid one). */
status config_finish(config *c);
/* For errors a module finds itself (impossible pair): "file:line:col: section.key: text". */
status config_fail(const config *c, const char *section, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The resolved configuration as YAML, every bound key, with its help as a comment if asked; malloc'ed, caller frees. */
char *config_dump(const config *c, bool with_help);
/* Directory of the file a key was set in ("" if it has its default or came from --set): relative paths in a config
 * are relative to the working directory; this exists for messages. */
const char *config_place(const config *c, const char *section, const char *key);
/* One bound key as "rl.group = 8 (demo.yaml:12:3; default 4; 1 to 1024)\n  help"; ST_EINVAL with the nearest name when
 * there is none. malloc'ed, caller frees. */
status config_explain(const config *c, const char *key, char **text);
void config_destroy(config *c);

/* Spelling distance (insertions, deletions, replacements, neighbours swapped), for "did you mean". */
int config_distance(const char *a, const char *b);

#endif
