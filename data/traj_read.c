/* Reads the trajectories that traj_write.c writes; every list is checked against the others. */
#include "data/traj.h"

#include <stdlib.h>
#include <string.h>

static status need(const json *j, const char *key, json_type type, const json **out)
{
    static const char *const names[] = {"null", "true or false", "a number", "a string", "a list", "an object"};
    const json *v = json_get(j, key);
    if (!v || json_kind(v) != type) return FAIL(ST_EINVAL, "'%s' must be %s", key, names[type]);
    *out = v;
    return ST_OK;
}

static status get_int(const json *j, const char *key, int64_t min, int64_t max, int *out)
{
    const json *v = json_get(j, key);
    if (!json_is_int(v) || json_int(v) < min || json_int(v) > max)
        return FAIL(ST_EINVAL, "'%s' must be a whole number from %lld to %lld", key, (long long)min, (long long)max);
    *out = (int)json_int(v);
    return ST_OK;
}

static status get_float(const json *j, const char *key, float *out)
{
    const json *v = NULL;
    TRY(need(j, key, JSON_NUMBER, &v));
    *out = (float)json_num(v);
    return ST_OK;
}

static status get_bool(const json *j, const char *key, bool *out)
{
    const json *v = NULL;
    TRY(need(j, key, JSON_BOOL, &v));
    *out = json_bool(v);
    return ST_OK;
}

/* A string or null. */
static status get_text(const json *j, const char *key, bool null_ok, char **out)
{
    const json *v = json_get(j, key);
    if (null_ok && json_kind(v) == JSON_NULL) return ST_OK;
    TRY(need(j, key, JSON_STRING, &v));
    *out = strdup(json_str(v));
    return *out ? ST_OK : FAIL(ST_ENOMEM, "out of memory");
}

static status get_name(const json *j, const char *key, char *to, size_t cap)
{
    const json *v = NULL;
    TRY(need(j, key, JSON_STRING, &v));
    if ((size_t)json_len(v) >= cap) return FAIL(ST_EINVAL, "'%s' is longer than %zu bytes", key, cap - 1);
    memcpy(to, json_str(v), (size_t)json_len(v) + 1);
    return ST_OK;
}

static status check_keys(const json *j, const char *const *known)
{
    for (int64_t i = 0; i < json_len(j); i++) {
        const char *key = json_key_at(j, i);
        bool ok = !strncmp(key, "x_", 2);
        for (const char *const *k = known; *k && !ok; k++) ok = !strcmp(key, *k);
        if (!ok) return FAIL(ST_EINVAL, "unknown field '%.60s' (your own fields start with x_)", key);
    }
    return ST_OK;
}

/* Each list must have t->n_tok numbers; null stands for 0 where null_ok. */
static status read_floats(const json *list, int n, bool null_ok, const char *key, float **out)
{
    if (json_len(list) != n)
        return FAIL(ST_EINVAL, "'%s' has %lld elements, 'ids' has %d", key, (long long)json_len(list), n);
    *out = calloc((size_t)n + 1, sizeof **out);
    if (!*out) return FAIL(ST_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        const json *v = json_at(list, i);
        if (json_kind(v) == JSON_NUMBER)
            (*out)[i] = (float)json_num(v);
        else if (!null_ok || json_kind(v) != JSON_NULL)
            return FAIL(ST_EINVAL, "'%s'[%d] must be a number", key, i);
    }
    return ST_OK;
}

static status read_tokens(traj *t, const json *j)
{
    const json *list = NULL, *mask = NULL, *logp = NULL;
    TRY(need(j, "ids", JSON_ARRAY, &list));
    TRY(need(j, "mask", JSON_ARRAY, &mask));
    TRY(need(j, "logprobs", JSON_ARRAY, &logp));
    if (json_len(list) > INT32_MAX / 8) return FAIL(ST_EINVAL, "'ids' is too long");
    int n = (int)json_len(list);
    if (json_len(mask) != n)
        return FAIL(ST_EINVAL, "'mask' has %lld elements, 'ids' has %d", (long long)json_len(mask), n);
    t->id = calloc((size_t)n + 1, sizeof *t->id);
    t->mask = calloc((size_t)n + 1, 1);
    t->turn_of = calloc((size_t)n + 1, sizeof *t->turn_of);
    if (!t->id || !t->mask || !t->turn_of) return FAIL(ST_ENOMEM, "out of memory");
    t->n_tok = n;
    for (int i = 0; i < n; i++) {
        const json *id = json_at(list, i), *m = json_at(mask, i);
        if (!json_is_int(id) || json_int(id) < 0 || json_int(id) > INT32_MAX)
            return FAIL(ST_EINVAL, "'ids'[%d] is no token id", i);
        if (!json_is_int(m) || json_int(m) < 0 || json_int(m) > 1)
            return FAIL(ST_EINVAL, "'mask'[%d] must be 0 or 1", i);
        t->id[i] = (int32_t)json_int(id);
        t->mask[i] = (uint8_t)json_int(m);
        t->turn_of[i] = -1;
    }
    return read_floats(logp, n, true, "logprobs", &t->logp);
}

static status read_image(traj *t, int i, const json *j)
{
    static const char *const known[] = {"start", "grid", "w", "h", "file", NULL};
    TRY(check_keys(j, known));
    const json *grid = NULL;
    TRY(get_int(j, "start", 0, t->n_tok, &t->run[i].start));
    TRY(get_int(j, "w", 1, IMAGE_MAX_SIDE, &t->images[i].w));
    TRY(get_int(j, "h", 1, IMAGE_MAX_SIDE, &t->images[i].h));
    TRY(need(j, "grid", JSON_ARRAY, &grid));
    int *to[3] = {&t->run[i].t, &t->run[i].h, &t->run[i].w};
    for (int k = 0; k < 3; k++) {
        const json *v = json_at(grid, k);
        if (json_len(grid) != 3 || !json_is_int(v) || json_int(v) < 1 || json_int(v) > IMAGE_MAX_SIDE)
            return FAIL(ST_EINVAL, "'grid' must be 3 positive whole numbers");
        *to[k] = t->images[i].grid[k] = (int32_t)json_int(v);
    }
    if (i && t->run[i].start <= t->run[i - 1].start) return FAIL(ST_EINVAL, "images must be in order of 'start'");
    return ST_OK;
}

static status read_images(traj *t, const json *j)
{
    const json *list = NULL;
    TRY(need(j, "images", JSON_ARRAY, &list));
    int64_t n = json_len(list);
    if (n > 4096) return FAIL(ST_EINVAL, "'images' is too long");
    t->images = calloc((size_t)n + 1, sizeof *t->images);
    t->run = calloc((size_t)n + 1, sizeof *t->run);
    if (!t->images || !t->run) return FAIL(ST_ENOMEM, "out of memory");
    t->n_image = (int)n;
    for (int i = 0; i < t->n_image; i++) {
        status st = read_image(t, i, json_at(list, i));
        if (st != ST_OK) return fail_within(st, "images[%d]", i);
    }
    return ST_OK;
}

static status read_tool(tool_record *r, const json *j)
{
    static const char *const known[] = {"ran",       "ok",         "verdict",      "error_type", "error_line",
                                        "truncated", "state_lost", "empty_output", "wall_ms",    "cpu_ms",
                                        "queue_ms",  "peak_mib",   "tier",         "replayed",   NULL};
    TRY(check_keys(j, known));
    TRY(get_bool(j, "ran", &r->ran));
    TRY(get_bool(j, "ok", &r->ok));
    TRY(get_name(j, "verdict", r->verdict, sizeof r->verdict));
    TRY(get_name(j, "error_type", r->error_type, sizeof r->error_type));
    TRY(get_int(j, "error_line", -1, INT32_MAX, &r->error_line));
    TRY(get_bool(j, "truncated", &r->truncated));
    TRY(get_bool(j, "state_lost", &r->state_lost));
    TRY(get_bool(j, "empty_output", &r->empty_output));
    if (json_get(j, "replayed")) TRY(get_bool(j, "replayed", &r->replayed)); /* absent before 2026-11-23 */
    TRY(get_float(j, "wall_ms", &r->wall_ms));
    TRY(get_float(j, "cpu_ms", &r->cpu_ms));
    TRY(get_float(j, "queue_ms", &r->queue_ms));
    TRY(get_float(j, "peak_mib", &r->peak_mib));
    return get_name(j, "tier", r->tier, sizeof r->tier);
}

static status read_turn(traj *t, int i, const json *j)
{
    static const char *const known[] = {"start",     "end",        "text",    "code", "tool",
                                        "tool_text", "image_from", "n_image", NULL};
    traj_turn *u = &t->turns[i];
    TRY(check_keys(j, known));
    TRY(get_int(j, "start", i ? t->turns[i - 1].end : 0, t->n_tok, &u->start));
    TRY(get_int(j, "end", u->start, t->n_tok, &u->end));
    TRY(get_text(j, "text", false, &u->text));
    TRY(get_text(j, "code", true, &u->code));
    for (int k = u->start; k < u->end; k++) t->turn_of[k] = (int16_t)i;
    if (!u->code) return ST_OK;
    const json *tool = NULL;
    TRY(need(j, "tool", JSON_OBJECT, &tool));
    TRY(read_tool(&u->tool, tool));
    TRY(get_text(j, "tool_text", true, &u->tool_text));
    TRY(get_int(j, "image_from", 0, t->n_image, &u->image_from));
    return get_int(j, "n_image", 0, t->n_image - u->image_from, &u->n_image);
}

static status read_turns(traj *t, const json *j)
{
    const json *list = NULL;
    TRY(need(j, "turns", JSON_ARRAY, &list));
    int64_t n = json_len(list);
    if (n > 4096) return FAIL(ST_EINVAL, "'turns' is too long");
    t->turns = calloc((size_t)n + 1, sizeof *t->turns);
    if (!t->turns) return FAIL(ST_ENOMEM, "out of memory");
    t->n_turn = (int)n;
    for (int i = 0; i < t->n_turn; i++) {
        status st = read_turn(t, i, json_at(list, i));
        if (st != ST_OK) return fail_within(st, "turns[%d]", i);
    }
    return ST_OK;
}

static status read_score(traj *t, const json *j)
{
    const json *parts = NULL, *adv = json_get(j, "adv");
    TRY(get_float(j, "acc", &t->acc));
    TRY(get_bool(j, "format_ok", &t->format_ok));
    TRY(get_float(j, "reward", &t->reward));
    TRY(get_float(j, "adv_seq", &t->adv_seq));
    TRY(get_bool(j, "masked", &t->masked));
    TRY(need(j, "parts", JSON_ARRAY, &parts));
    if (json_len(parts) > TRAJ_MAX_PART) return FAIL(ST_EINVAL, "'parts' has more than %d elements", TRAJ_MAX_PART);
    for (int64_t i = 0; i < json_len(parts); i++) {
        TRY(get_name(json_at(parts, i), "name", t->parts[i].name, sizeof t->parts[i].name));
        TRY(get_float(json_at(parts, i), "value", &t->parts[i].value));
        t->n_part = (int)i + 1;
    }
    return adv ? read_floats(adv, t->n_tok, false, "adv", &t->adv) : ST_OK;
}

static status read_sample(sample *s, const json *j, const char *what)
{
    const json *row = NULL;
    TRY(need(j, "sample", JSON_OBJECT, &row));
    json_out o;
    json_begin(&o, false);
    json_put_node(&o, row);
    status st = sample_parse(s, o.text, o.len, what);
    json_end(&o);
    return st;
}

static status read_all(traj *t, const json *j)
{
    static const char *const known[] = {"prompt",      "index",    "sample",  "ids",          "mask",   "logprobs",
                                        "images",      "turns",    "outcome", "given_answer", "acc",    "format_ok",
                                        "reward",      "parts",    "adv_seq", "adv",          "masked", "wall_s",
                                        "tool_wait_s", "box_seed", NULL};
    if (json_kind(j) != JSON_OBJECT) return FAIL(ST_EINVAL, "a trajectory must be a JSON object");
    TRY(check_keys(j, known));
    const json *prompt = NULL, *outcome = NULL;
    TRY(need(j, "prompt", JSON_NUMBER, &prompt));
    t->prompt = json_int(prompt);
    TRY(get_int(j, "index", 0, INT32_MAX, &t->index));
    TRY(read_tokens(t, j));
    TRY(read_images(t, j));
    TRY(read_turns(t, j));
    TRY(need(j, "outcome", JSON_STRING, &outcome));
    int k = 0;
    while (k < TRAJ_OUTCOME_COUNT && strcmp(traj_outcome_name((traj_outcome)k), json_str(outcome)) != 0) k++;
    if (k == TRAJ_OUTCOME_COUNT) return FAIL(ST_EINVAL, "unknown outcome '%.40s'", json_str(outcome));
    t->outcome = (traj_outcome)k;
    TRY(get_text(j, "given_answer", true, &t->answer));
    TRY(read_score(t, j));
    TRY(json_need_num(j, "wall_s", &t->wall_s));
    TRY(json_need_num(j, "tool_wait_s", &t->tool_wait_s));
    char seed[17] = "", *end = seed;
    if (json_get(j, "box_seed")) TRY(get_name(j, "box_seed", seed, sizeof seed));
    t->box_seed = strtoull(seed, &end, 16);
    return *end ? FAIL(ST_EINVAL, "'box_seed' must be hexadecimal digits") : ST_OK;
}

status traj_from_json(traj *t, sample *s, const json *j, const char *what)
{
    traj made = {0};
    status st = read_all(&made, j);
    if (st != ST_OK) fail_within(st, "%s", what);
    if (st == ST_OK) st = read_sample(s, j, what);
    if (st != ST_OK) {
        traj_free(&made);
        return st;
    }
    made.sample = s;
    *t = made;
    return ST_OK;
}
