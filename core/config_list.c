/* The config for people: the resolved file, one key explained. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_impl.h"

static void describe(const cfg_field *f, char *out, size_t n)
{
    char range[400];
    size_t len = strlen(f->help);
    const char *dot = len > 0 && strchr(".?!)", f->help[len - 1]) == NULL ? "." : "";
    const char *r = f->choices != NULL ? (config_join_choices(f->choices, range, sizeof range), range)
                                       : config_range_text(f, range, sizeof range);
    if (f->choices == NULL && f->type != CFG_INT && f->type != CFG_FLOAT && f->type != CFG_INTS) r = "";
    snprintf(out, n, "%s%s%s%s%s", f->help, dot, *r != '\0' ? f->choices != NULL ? " One of: " : " Range: " : "", r,
             *r != '\0' ? "." : "");
}

/* Comment lines of at most 118 columns, broken at spaces. */
static void put_comment(FILE *f, const char *text)
{
    while (*text != '\0') {
        size_t n = strlen(text), cut = n;
        if (n > 112) {
            cut = 112;
            while (cut > 0 && text[cut] != ' ') cut--;
            if (cut == 0) cut = 112;
        }
        fprintf(f, "  # %.*s\n", (int)cut, text);
        text += cut;
        while (*text == ' ') text++;
    }
}

char *config_dump(const config *c, bool with_help)
{
    char *text = NULL, help[1400];
    size_t n;
    FILE *f = open_memstream(&text, &n);
    CHECK(f != NULL);
    for (int i = 0; i < c->n_bound; i++) { /* sections in the order of their first key, each once */
        const char *section = c->bound[i].section;
        bool first = true;
        for (int k = 0; k < i && first; k++) first = strcmp(c->bound[k].section, section) != 0;
        if (!first) continue;
        fprintf(f, "%s%s:\n", i > 0 ? "\n" : "", section);
        for (int k = i; k < c->n_bound; k++) {
            const cfg_bound *b = &c->bound[k];
            if (strcmp(b->section, section) != 0) continue;
            if (with_help) {
                describe(b->field, help, sizeof help);
                put_comment(f, help);
            }
            fprintf(f, "  %s: %s\n", b->field->key, b->yaml);
        }
    }
    CHECK(fclose(f) == 0);
    return text;
}

status config_explain(const config *c, const char *key, char **out)
{
    char where[400] = "default", help[1400], near[200];
    const char *dot = strrchr(key, '.');
    char *section = strndup(key, dot == NULL ? 0 : (size_t)(dot - key));
    CHECK(section != NULL);
    int i = dot == NULL ? -1 : config_find_bound(c, section, dot + 1);
    if (i < 0) {
        config_suggest(c, section, dot == NULL ? key : dot + 1, near, sizeof near);
        free(section);
        return FAIL(ST_EINVAL, "no config key %s%s", key, near);
    }
    free(section);
    const cfg_bound *b = &c->bound[i];
    if (b->value >= 0) config_where(&c->value[b->value], false, where, sizeof where);
    describe(b->field, help, sizeof help);
    size_t n;
    FILE *f = open_memstream(out, &n);
    CHECK(f != NULL);
    fprintf(f, "%s = %s   (%s", key, b->yaml, where);
    if (b->value >= 0) fprintf(f, "; default %s", *b->field->dflt != '\0' ? b->field->dflt : "\"\"");
    fprintf(f, ")\n  %s\n", help);
    CHECK(fclose(f) == 0);
    return ST_OK;
}
