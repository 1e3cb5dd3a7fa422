#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_impl.h"

void json_place_name(char *out, size_t n, const char *what, uint32_t line, uint32_t col)
{
    const char *colon = strrchr(what, ':');
    if (colon != NULL && colon[1] != '\0' && strspn(colon + 1, "0123456789") == strlen(colon + 1)) {
        long long first = strtoll(colon + 1, NULL, 10);
        snprintf(out, n, "%.*s:%lld:%u", (int)(colon - what), what, first + line - 1, col);
    } else {
        snprintf(out, n, "%s:%u:%u", what, line, col);
    }
}

uint32_t json_hash_key(const char *key)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const unsigned char *p = (const unsigned char *)key; *p != 0; p++) h = (h ^ *p) * 0x100000001b3u;
    return (uint32_t)(h ^ (h >> 32));
}

void json_free(json *root)
{
    if (root == NULL) return;
    doc *d = root->d;
    CHECK(d == NULL || root == &d->root);
    d = (doc *)root; /* a failed parse may not have reached the root value */
    for (chunk *c = d->chunks, *next; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    free(d->what);
    free(d);
}

json_type json_kind(const json *j) { return j == NULL ? JSON_NULL : (json_type)j->type; }
int64_t json_len(const json *j) { return j == NULL ? 0 : (int64_t)j->len; }

const json *json_at(const json *j, int64_t i)
{
    json_type t = json_kind(j);
    if ((t != JSON_ARRAY && t != JSON_OBJECT) || i < 0 || i >= j->len) return NULL;
    return &j->v.items[i];
}

const char *json_key_at(const json *j, int64_t i)
{
    if (json_kind(j) != JSON_OBJECT || i < 0 || i >= j->len) return NULL;
    return j->x.m->key[i];
}

const json *json_get(const json *j, const char *key)
{
    if (json_kind(j) != JSON_OBJECT) return NULL;
    const members *m = j->x.m;
    if (m->index == NULL) {
        for (uint32_t i = 0; i < j->len; i++) {
            if (strcmp(m->key[i], key) == 0) return &j->v.items[i];
        }
        return NULL;
    }
    for (uint32_t at = json_hash_key(key) & m->mask; m->index[at] != 0; at = (at + 1) & m->mask) {
        uint32_t i = m->index[at] - 1;
        if (strcmp(m->key[i], key) == 0) return &j->v.items[i];
    }
    return NULL;
}

const char *json_str(const json *j) { return json_kind(j) == JSON_STRING ? j->v.str : NULL; }
double json_num(const json *j) { return json_kind(j) == JSON_NUMBER ? j->v.num : (double)NAN; }
bool json_is_int(const json *j) { return json_kind(j) == JSON_NUMBER && j->is_int; }
int64_t json_int(const json *j) { return json_is_int(j) ? j->x.i : 0; }
bool json_bool(const json *j) { return json_kind(j) == JSON_BOOL && j->yes; }

static status need(const json *j, const char *key, const json **out, const char *type)
{
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "member \"%s\" asked of a value that is no object", key);
    char place[600];
    *out = json_get(j, key);
    if (*out == NULL) {
        json_place_name(place, sizeof place, j->d->what, j->line, j->col);
        return FAIL(ST_EINVAL, "%s: member \"%s\" (%s) is missing", place, key, type);
    }
    return ST_OK;
}

static status mistyped(const json *v, const char *key, const char *type)
{
    static const char *const names[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
    char place[600];
    json_place_name(place, sizeof place, v->d->what, v->line, v->col);
    return FAIL(ST_EINVAL, "%s: member \"%s\" must be %s, not %s", place, key, type, names[v->type]);
}

status json_need_str(const json *j, const char *key, const char **out)
{
    const json *v = NULL;
    TRY(need(j, key, &v, "a string"));
    if (json_kind(v) != JSON_STRING) return mistyped(v, key, "a string");
    *out = v->v.str;
    return ST_OK;
}

status json_need_int(const json *j, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json *v = NULL;
    TRY(need(j, key, &v, "an integer"));
    if (json_kind(v) != JSON_NUMBER) return mistyped(v, key, "an integer");
    if (!v->is_int || v->x.i < min || v->x.i > max) {
        char place[600];
        json_place_name(place, sizeof place, v->d->what, v->line, v->col);
        return FAIL(ST_EINVAL, "%s: member \"%s\" = %.17g must be an integer in [%lld, %lld]", place, key, v->v.num,
                    (long long)min, (long long)max);
    }
    *out = v->x.i;
    return ST_OK;
}

status json_need_num(const json *j, const char *key, double *out)
{
    const json *v = NULL;
    TRY(need(j, key, &v, "a number"));
    if (json_kind(v) != JSON_NUMBER) return mistyped(v, key, "a number");
    *out = v->v.num;
    return ST_OK;
}

void json_place(const json *j, int *line, int *col)
{
    *line = j == NULL ? 0 : (int)j->line;
    *col = j == NULL ? 0 : (int)j->col;
}
