#include "tests/common/hostile.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool bad(const char *name, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", name, line, what);
    return false;
}

static bool read_verdicts(const char *s, hostile_turn *t)
{
    char word[128];
    t->verdicts = 0;
    t->code_is = -1;
    snprintf(word, sizeof word, "%.127s", s);
    char *number = strchr(word, ' ');
    if (number) {
        *number++ = 0;
        t->code_is = atoi(number);
    }
    for (char *save, *w = strtok_r(word, "|", &save); w; w = strtok_r(NULL, "|", &save)) {
        int v = 0;
        while (v <= BOX_SHED && strcmp(w, box_verdict_name((box_verdict)v)) != 0) v++;
        if (v > BOX_SHED) return false;
        t->verdicts |= 1u << v;
    }
    return t->verdicts != 0;
}

/* \n, \t and \\ */
static char *unescaped(const char *s)
{
    char *out = malloc(strlen(s) + 1), *o = out;
    if (!out) abort();
    for (; *s; s++) {
        if (*s == '\\' && s[1]) {
            s++;
            *o++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s;
        } else {
            *o++ = *s;
        }
    }
    *o = 0;
    return out;
}

/* "T2 expect": for other tiers than this one the line is read past. */
static bool applies(const char *key, box_tier tier, const char **rest)
{
    *rest = key;
    if (key[0] != 'T' || !strchr(key, ' ')) return true;
    bool mine = false;
    for (const char *p = key; *p != ' '; p++) mine |= *p == 'T' && p[1] - '0' == (int)tier;
    *rest = strchr(key, ' ') + 1;
    return mine;
}

static void set_text(char **at, const char *value)
{
    free(*at);
    *at = strcmp(value, "-") ? unescaped(value) : NULL;
}

static bool set_key(hostile_input *in, hostile_turn *t, const char *key, const char *value)
{
    if (!strcmp(key, "why")) return true;
    if (!strcmp(key, "expect")) return read_verdicts(value, t);
    if (!strcmp(key, "text"))
        set_text(&t->text, value);
    else if (!strcmp(key, "has"))
        set_text(&t->has, value);
    else if (!strcmp(key, "needs"))
        snprintf(in->needs, sizeof in->needs, "%.95s", value);
    else if (!strcmp(key, "images"))
        t->n_image = atoi(value);
    else if (!strcmp(key, "pause"))
        t->pause_s = atof(value);
    else if (!strcmp(key, "after"))
        in->after = !strcmp(value, "alive") ? AFTER_ALIVE : !strcmp(value, "lost") ? AFTER_LOST : AFTER_ANY;
    else
        return false;
    return !strcmp(key, "after") ? strstr("alive lost any", value) != NULL : true;
}

/* The lines "# key: value" a turn starts with. */
static bool read_header(hostile_input *in, hostile_turn *t, box_tier tier, int line)
{
    t->code_is = t->n_image = -1;
    for (const char *p = t->code; p[0] == '#' && p[1] == ' ';) {
        char key[32], value[512];
        const char *end = strchr(p, '\n'), *colon = strchr(p, ':'), *name;
        if (!end || !colon || colon > end || colon - p - 2 >= (long)sizeof key || end - colon > (long)sizeof value)
            return bad(in->name, line, "a header line is \"# key: value\"");
        snprintf(key, sizeof key, "%.*s", (int)(colon - p - 2), p + 2);
        const char *from = colon[1] == ' ' ? colon + 2 : colon + 1;
        snprintf(value, sizeof value, "%.*s", (int)(end - from), from);
        if (applies(key, tier, &name) && !set_key(in, t, name, value))
            return bad(in->name, line, "unknown key or value");
        p = end + 1;
        line++;
    }
    return t->verdicts ? true : bad(in->name, line, "no \"# expect: VERDICT\"");
}

static bool read_file(const char *dir, const char *name, box_tier tier, hostile_input *in)
{
    char path[600], *text = NULL;
    size_t cap = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(in->name, sizeof in->name, "%.*s", (int)(strlen(name) - 3), name);
    FILE *f = fopen(path, "r");
    ssize_t n = f ? getdelim(&text, &cap, 0, f) : -1;
    if (f) fclose(f);
    if (n <= 0) {
        free(text);
        return bad(name, 0, "cannot be read");
    }
    bool ok = true;
    int line = 1;
    for (char *p = text; p && ok;) {
        if (in->n_turn == HOSTILE_TURNS) {
            ok = bad(name, line, "too many turns");
            break;
        }
        hostile_turn *t = &in->turn[in->n_turn++];
        if (!strncmp(p, "# %%", 4)) { /* the separator belongs to the turn it opens */
            t->fresh = !strncmp(p, "# %% next box", 13);
            in->has_fresh |= t->fresh;
            p = strchr(p, '\n');
            p = p ? p + 1 : text + n;
            line++;
        }
        char *end = strstr(p, "\n# %%");
        t->code = strndup(p, end ? (size_t)(end + 1 - p) : strlen(p));
        if (!t->code) abort();
        ok = read_header(in, t, tier, line);
        for (const char *c = t->code; *c; c++) line += *c == '\n';
        p = end ? end + 1 : NULL;
    }
    free(text);
    return ok;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int is_input(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 6 && !strcmp(e->d_name + n - 3, ".py") && e->d_name[0] >= '0' && e->d_name[0] <= '9';
}

bool hostile_read(const char *dir, box_tier tier, const char *only, hostile_input **out, int *n)
{
    struct dirent **list;
    int k = scandir(dir, &list, is_input, by_name);
    bool ok = k > 0 || bad(dir, 0, strerror(errno));
    *n = 0;
    *out = calloc(HOSTILE_FILES, sizeof **out);
    if (!*out) abort();
    for (int i = 0; i < k; i++) {
        if (ok && strstr(list[i]->d_name, only) && *n < HOSTILE_FILES)
            ok = read_file(dir, list[i]->d_name, tier, &(*out)[(*n)++]);
        free(list[i]);
    }
    if (k >= 0) free(list);
    return ok;
}

void hostile_free(hostile_input *in, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < in[i].n_turn; k++) {
            free(in[i].turn[k].code);
            free(in[i].turn[k].text);
            free(in[i].turn[k].has);
        }
    free(in);
}

static bool says(const char *text, const char *wanted)
{
    size_t n = strlen(text), k = strlen(wanted);
    if (n && text[n - 1] == '\n') n--;
    if (k && wanted[k - 1] == '\n') k--;
    return n == k && !strncmp(text, wanted, n);
}

bool hostile_judge(const hostile_input *in, int turn, const box_result *r)
{
    const hostile_turn *t = &in->turn[turn];
    const char *message = r->error_message ? r->error_message : "";
    bool ok = (t->verdicts >> r->verdict & 1) && (t->code_is < 0 || t->code_is == r->code) &&
              (!t->text || says(r->text, t->text)) && (t->n_image < 0 || t->n_image == r->n_image) &&
              (!t->has || strstr(r->text, t->has) || strstr(r->error_type, t->has) || strstr(message, t->has));
    if (ok) return true;
    char wanted[128] = "";
    for (int v = 0; v <= BOX_SHED; v++)
        if (t->verdicts >> v & 1)
            snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), "%s ", box_verdict_name((box_verdict)v));
    fprintf(stderr, "%s turn %d: %s code %d, %d pictures, %.0f ms, %s: %s\n  text \"%.600s\"\n  expected %s", in->name,
            turn + 1, box_verdict_name(r->verdict), r->code, r->n_image, r->wall_ms, r->error_type, message, r->text,
            wanted);
    if (t->code_is >= 0) fprintf(stderr, "code %d ", t->code_is);
    if (t->n_image >= 0) fprintf(stderr, "%d pictures ", t->n_image);
    fprintf(stderr, "text \"%s\"%s%s\n", t->text ? t->text : "(any)", t->has ? " with " : "", t->has ? t->has : "");
    return false;
}
