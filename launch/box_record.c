#include "launch/box_record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 64 << 20 };

static void put_images(json_out *o, const box_image *im, int n)
{
    json_key(o, "images");
    json_open(o, '[');
    for (int i = 0; i < n; i++) {
        char print[24];
        snprintf(print, sizeof print, "%016" PRIx64, box_image_print(&im[i]));
        json_open(o, '{');
        json_member_int(o, "w", im[i].w);
        json_member_int(o, "h", im[i].h);
        json_member_str(o, "print", print);
        json_close(o, '}');
    }
    json_close(o, ']');
}

/* How many boxes there are and how weak a jail is accepted decides no result. */
static bool decides(const char *key)
{
    static const char *const not [] = {"min_tier", "spares", "max_live", "max_starting"};
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
        if (strcmp(key, not [i]) == 0) return false;
    return true;
}

static void put_settings(json_out *o, const box_config *c)
{
    json_key(o, "sandbox");
    json_open(o, '{');
    for (const cfg_field *f = box_fields; f->key != NULL; f++) {
        const void *v = (const char *)c + f->offset;
        if (!decides(f->key)) continue;
        json_key(o, f->key);
        if (f->type == CFG_INT) {
            json_put_int(o, *(const int64_t *)v);
        } else if (f->type == CFG_FLOAT) {
            json_put_num(o, *(const double *)v);
        } else if (f->type == CFG_STRINGS) {
            const cfg_strings *s = v;
            json_open(o, '[');
            for (int i = 0; i < s->n; i++) json_put_str(o, s->v[i]);
            json_close(o, ']');
        } else {
            CHECK(f->type == CFG_STRING);
            const char *s = *(char *const *)v;
            json_put_str(o, s != NULL ? s : "");
        }
    }
    json_close(o, '}');
}

static status write_line(FILE *f, json_out *o)
{
    bool ok = fwrite(o->text, 1, o->len, f) == o->len && fputc('\n', f) != EOF && fflush(f) == 0;
    int e = errno;
    json_end(o);
    return ok ? ST_OK : FAIL(ST_EIO, "--record: %s", strerror(e));
}

status box_record_begin(FILE *f, int64_t seed, box_tier tier, const record_inputs *in, const box_config *c)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_member_int(&o, "box", 1);
    json_member_int(&o, "seed", seed);
    json_member_str(&o, "tier", box_tier_name(tier));
    put_images(&o, in->at, in->n);
    put_settings(&o, c);
    json_close(&o, '}');
    return write_line(f, &o);
}

static void put_result(json_out *o, const box_result *r)
{
    json_member_str(o, "verdict", box_verdict_name(r->verdict));
    json_member_int(o, "exit", r->code);
    json_member_str(o, "text", r->text);
    json_key(o, "truncated");
    json_put_bool(o, r->truncated);
    json_key(o, "error");
    if (r->error_type[0] != '\0') {
        json_open(o, '{');
        json_member_str(o, "type", r->error_type);
        json_member_str(o, "message", r->error_message);
        json_member_int(o, "line", r->error_line);
        json_member_str(o, "source", r->error_source);
        json_close(o, '}');
    } else {
        json_put_null(o);
    }
    put_images(o, r->images, r->n_image);
}

status box_record_turn(FILE *f, int turn, const char *code, size_t len, const box_result *r)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_member_int(&o, "turn", turn);
    json_key(&o, "code");
    json_put_strn(&o, code, len);
    put_result(&o, r);
    json_close(&o, '}');
    return write_line(f, &o);
}

/* ---- trajectories of a run: the same lines, as far as they are known ---- */

/* What the model was told of a turn stands for its text: see compare_told. */
static void put_told(json_out *o, const json *turn, int number)
{
    const json *tool = json_get(turn, "tool"), *code = json_get(turn, "code");
    const char *type = json_str(json_get(tool, "error_type"));
    json_open(o, '{');
    json_member_int(o, "turn", number);
    json_key(o, "code");
    json_put_strn(o, json_str(code), (size_t)json_len(code));
    json_member_str(o, "verdict", json_str(json_get(tool, "verdict")));
    json_member_int(o, "exit", 0);
    const char *told = json_str(json_get(turn, "tool_text"));
    json_member_str(o, "text", told != NULL ? told : "");
    json_key(o, "told");
    json_put_bool(o, true);
    json_key(o, "error");
    json_open(o, '{');
    json_member_str(o, "type", type != NULL ? type : "");
    json_member_int(o, "line", json_int(json_get(tool, "error_line")));
    json_close(o, '}');
    json_close(o, '}');
}

static status add_line(box_replay *r, json *j, int n)
{
    json **more = realloc(r->line, sizeof(json *) * (size_t)(n + 1));
    if (more == NULL) {
        json_free(j);
        return FAIL(ST_ENOMEM, "no memory for %s", r->path);
    }
    r->line = more;
    more[n] = j;
    r->n = n;
    return ST_OK;
}

/* Numbers the calls that ran and answered; a failure of ours had no effect and ends the trajectory. */
static status read_trajectory(box_replay *r, const json *traj, const char *what)
{
    const char *seed = json_str(json_get(traj, "box_seed"));
    const json *turns = json_get(traj, "turns");
    if (seed == NULL) return FAIL(ST_EINVAL, "%s: no code ran in this trajectory (no \"box_seed\")", what);
    status st = ST_OK;
    for (int64_t i = -1; i < json_len(turns) && st == ST_OK; i++) {
        json_out o;
        json *j = NULL;
        const json *turn = json_at(turns, i);
        const char *verdict = json_str(json_get(json_get(turn, "tool"), "verdict"));
        if (i >= 0 && (json_str(json_get(turn, "code")) == NULL || verdict == NULL || *verdict == '\0' ||
                       strcmp(verdict, box_verdict_name(BOX_INFRA)) == 0))
            continue;
        json_begin(&o, false);
        if (i >= 0) {
            put_told(&o, turn, r->n + 1);
        } else {
            json_open(&o, '{');
            json_member_int(&o, "seed", (int64_t)strtoull(seed, NULL, 16));
            json_close(&o, '}');
        }
        st = json_parse(&j, o.text, o.len, what);
        if (st == ST_OK) st = add_line(r, j, i >= 0 ? r->n + 1 : 0);
        json_end(&o);
    }
    return st;
}

/* ---- reading ---- */

static status check_line(const box_replay *r, const json *j)
{
    int64_t v;
    const char *s;
    if (r->line == NULL) {
        TRY(json_need_int(j, "box", 1, 1, &v));
        TRY(json_need_int(j, "seed", INT64_MIN, INT64_MAX, &v));
        if (json_kind(json_get(j, "images")) != JSON_ARRAY || json_kind(json_get(j, "sandbox")) != JSON_OBJECT)
            return FAIL(ST_EINVAL, "%s:1: no record of a box: \"images\" or \"sandbox\" is missing", r->path);
        return ST_OK;
    }
    TRY(json_need_int(j, "turn", r->n + 1, r->n + 1, &v));
    TRY(json_need_str(j, "code", &s));
    TRY(json_need_str(j, "verdict", &s));
    TRY(json_need_str(j, "text", &s));
    return json_need_int(j, "exit", INT32_MIN, INT32_MAX, &v);
}

static status read_lines(box_replay *r, FILE *f, int64_t trajectory)
{
    char *text = NULL, what[4200];
    size_t cap = 0;
    status st = ST_OK;
    for (int i = 1; st == ST_OK; i++) {
        ssize_t n = getline(&text, &cap, f);
        json *j = NULL;
        if (n < 0) break;
        if (trajectory > 0 && i != trajectory) continue;
        n -= text[n - 1] == '\n';
        snprintf(what, sizeof what, "%.4000s:%d", r->path, i);
        st = n <= LINE_MAX_BYTES ? json_parse(&j, text, (size_t)n, what)
                                 : FAIL(ST_EINVAL, "%s: longer than %d MiB", what, LINE_MAX_BYTES >> 20);
        if (st == ST_OK && trajectory == 0 && i == 1 && json_get(j, "turns") != NULL)
            st = FAIL(ST_EINVAL, "%s: trajectories of a run: say which line with --trajectory N", r->path);
        if (st == ST_OK && trajectory == 0) st = check_line(r, j);
        if (st == ST_OK && trajectory == 0) {
            st = add_line(r, j, i - 1);
            continue;
        }
        if (st == ST_OK) st = read_trajectory(r, j, what);
        json_free(j);
    }
    if (st == ST_OK && ferror(f)) st = FAIL(ST_EIO, "%s: %s", r->path, strerror(errno));
    if (st == ST_OK && r->n < 1)
        st = FAIL(ST_EINVAL, "%s: no turns in it; make a record with codedance box --record", r->path);
    free(text);
    return st;
}

status box_replay_read(box_replay *r, const char *path, int64_t trajectory)
{
    *r = (box_replay){.path = path};
    FILE *f = fopen(path, "rb");
    if (f == NULL) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    status st = read_lines(r, f, trajectory);
    fclose(f);
    if (st == ST_OK)
        r->seed = json_int(json_get(r->line[0], "seed"));
    else
        box_replay_free(r);
    return st;
}

void box_replay_free(box_replay *r)
{
    for (int i = 0; r->line != NULL && i <= r->n; i++) json_free(r->line[i]);
    free(r->line);
    *r = (box_replay){0};
}

char *box_replay_setting(const box_replay *r, int i)
{
    const json *all = json_get(r->line[0], "sandbox");
    if (i >= json_len(all)) return NULL;
    json_out o;
    char *text = NULL;
    json_begin(&o, false);
    json_put_node(&o, json_at(all, i)); /* JSON is YAML */
    if (asprintf(&text, "sandbox.%s=%s", json_key_at(all, i), o.text) < 0) text = NULL;
    json_end(&o);
    CHECK(text);
    return text;
}

static bool same_image(const json *j, const box_image *im)
{
    const char *print = json_str(json_get(j, "print"));
    char now[24];
    snprintf(now, sizeof now, "%016" PRIx64, box_image_print(im));
    return print != NULL && strcmp(print, now) == 0 && json_int(json_get(j, "w")) == im->w &&
           json_int(json_get(j, "h")) == im->h;
}

status box_replay_inputs(const box_replay *r, const record_inputs *in)
{
    const json *all = json_get(r->line[0], "images");
    if (all == NULL) return ST_OK; /* of a trajectory: not known */
    if (json_len(all) != in->n)
        return FAIL(ST_EINVAL, "%s: recorded with %lld picture(s), replayed with %d: give the same ones with --image",
                    r->path, (long long)json_len(all), in->n);
    for (int i = 0; i < in->n; i++)
        if (!same_image(json_at(all, i), &in->at[i]))
            return FAIL(ST_EINVAL, "%s: --image %d is not the recorded picture (%lldx%lld)", r->path, i + 1,
                        (long long)json_int(json_get(json_at(all, i), "w")),
                        (long long)json_int(json_get(json_at(all, i), "h")));
    return ST_OK;
}

const char *box_replay_code(const box_replay *r, int i, size_t *len)
{
    const json *code = json_get(r->line[1 + i], "code");
    *len = (size_t)json_len(code);
    return json_str(code);
}

/* ---- comparing ---- */

/* Names the first line in which two texts differ. */
static status differing_line(const box_replay *r, int turn, const char *what, const char *was, const char *now)
{
    int line = 1;
    size_t at = 0;
    for (size_t i = 0; was[i] != '\0' && was[i] == now[i]; i++)
        if (was[i] == '\n') {
            line++;
            at = i + 1;
        }
    return FAIL(ST_EINVAL, "%s: turn %d differs in line %d of its %s: recorded \"%.*s\", now \"%.*s\"", r->path, turn,
                line, what, (int)strcspn(was + at, "\n") > 120 ? 120 : (int)strcspn(was + at, "\n"), was + at,
                (int)strcspn(now + at, "\n") > 120 ? 120 : (int)strcspn(now + at, "\n"), now + at);
}

static status compare_error(const box_replay *r, int turn, const json *was, const box_result *now)
{
    const char *type = json_str(json_get(was, "type")), *message = json_str(json_get(was, "message"));
    if (strcmp(type != NULL ? type : "", now->error_type) != 0)
        return differing_line(r, turn, "error's class", type != NULL ? type : "", now->error_type);
    if (now->error_type[0] == '\0') return ST_OK;
    if (strcmp(message != NULL ? message : "", now->error_message) != 0)
        return differing_line(r, turn, "error message", message != NULL ? message : "", now->error_message);
    if (json_int(json_get(was, "line")) != now->error_line)
        return FAIL(ST_EINVAL, "%s: turn %d: recorded an error in line %lld, now in line %d", r->path, turn,
                    (long long)json_int(json_get(was, "line")), now->error_line);
    return ST_OK;
}

/* The model was told the printed text of a good turn and what became of its pictures, or "No output."; of a failed one
 * not even that much in every configuration. */
static status compare_told(const box_replay *r, int turn, const json *was, const box_result *now)
{
    const char *told = json_str(json_get(was, "text"));
    const json *error = json_get(was, "error");
    size_t n = strlen(now->text);
    while (n > 0 && strchr("\r\n", now->text[n - 1]) != NULL) n--;
    if (strcmp(json_str(json_get(error, "type")), now->error_type) != 0)
        return differing_line(r, turn, "error's class", json_str(json_get(error, "type")), now->error_type);
    if (json_int(json_get(error, "line")) != now->error_line)
        return FAIL(ST_EINVAL, "%s: turn %d: recorded an error in line %lld, now in line %d", r->path, turn,
                    (long long)json_int(json_get(error, "line")), now->error_line);
    bool cut = strstr(told, " characters left out ...]") != NULL;
    if (now->verdict != BOX_OK || cut || strncmp(told, now->text, n) == 0) return ST_OK;
    return differing_line(r, turn, "text", told, now->text);
}

status box_replay_compare(const box_replay *r, int i, const box_result *now)
{
    const json *was = r->line[1 + i];
    const char *verdict = json_str(json_get(was, "verdict")), *text = json_str(json_get(was, "text"));
    int turn = i + 1;
    if (strcmp(verdict, box_verdict_name(now->verdict)) != 0)
        return FAIL(ST_EINVAL, "%s: turn %d: recorded verdict %s, now %s%s%s", r->path, turn, verdict,
                    box_verdict_name(now->verdict), now->error_type[0] != '\0' ? " " : "", now->error_type);
    if (now->verdict != BOX_OK && now->verdict != BOX_PY_ERROR && now->verdict != BOX_EXIT) return ST_OK;
    if (json_bool(json_get(was, "told"))) return compare_told(r, turn, was, now);
    if (json_int(json_get(was, "exit")) != now->code)
        return FAIL(ST_EINVAL, "%s: turn %d: recorded exit %lld, now %d", r->path, turn,
                    (long long)json_int(json_get(was, "exit")), now->code);
    if (strcmp(text, now->text) != 0) return differing_line(r, turn, "text", text, now->text);
    TRY(compare_error(r, turn, json_get(was, "error"), now));
    const json *images = json_get(was, "images");
    if (json_len(images) != now->n_image)
        return FAIL(ST_EINVAL, "%s: turn %d: recorded %lld pictures, now %d", r->path, turn,
                    (long long)json_len(images), now->n_image);
    for (int k = 0; k < now->n_image; k++)
        if (!same_image(json_at(images, k), &now->images[k]))
            return FAIL(ST_EINVAL, "%s: turn %d: picture %d is another one now (%dx%d)", r->path, turn, k + 1,
                        now->images[k].w, now->images[k].h);
    return ST_OK;
}
