#include "launch/report_impl.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "data/tokenizer.h"

/* ---- small files ---- */

bool report_exists(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0;
}

/* *bytes is NULL-terminated one past n; false when the file isn't readable. */
bool report_read_all(const char *path, char **bytes, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) return false;
    size_t cap = 1 << 16;
    char *p = malloc(cap + 1);
    *n = 0;
    while (p != NULL) {
        *n += fread(p + *n, 1, cap - *n, f);
        if (*n < cap || *n >= MAX_FILE) break;
        char *more = realloc(p, 2 * cap + 1);
        if (more == NULL) free(p);
        p = more;
        cap *= 2;
    }
    bool ok = p != NULL && !ferror(f);
    fclose(f);
    if (!ok) {
        free(p);
        return false;
    }
    p[*n] = '\0';
    *bytes = p;
    return true;
}

/* Five digits are more than a chart shows, and a third of the bytes. */
void report_put_short(json_out *o, double v)
{
    char b[32];
    if (!isfinite(v))
        json_put_null(o);
    else
        json_put_raw(o, b, (size_t)snprintf(b, sizeof b, "%.5g", v));
}

/* ---- pictures as data: URIs, each content once ---- */

static char *data_uri(const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *head = n > 1 && p[0] == 0xff ? "data:image/jpeg;base64," : "data:image/png;base64,";
    char *out = malloc(strlen(head) + (n + 2) / 3 * 4 + 1), *o = out;
    CHECK(out != NULL);
    o += sprintf(o, "%s", head);
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        *o++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *o++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *o = '\0';
    return out;
}

/* Index of the picture in the page's table, -1 when it can't be read or the page is full. */
static int add_image(report *r, const char *path)
{
    char *bytes = NULL;
    size_t n;
    if (!report_read_all(path, &bytes, &n)) return -1;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    int at = -1;
    for (int i = 0; i < r->n_image && at < 0; i++) {
        if (r->seen[i].hash == h && r->seen[i].n == n) at = i;
    }
    if (at < 0 && r->image_bytes + n <= MAX_IMAGES) {
        if (r->n_image == r->cap_image) {
            r->cap_image = r->cap_image == 0 ? 256 : 2 * r->cap_image;
            r->image = realloc(r->image, (size_t)r->cap_image * sizeof *r->image);
            r->seen = realloc(r->seen, (size_t)r->cap_image * sizeof *r->seen);
            CHECK(r->image != NULL && r->seen != NULL);
        }
        at = r->n_image++;
        r->image[at] = data_uri((const unsigned char *)bytes, n);
        r->seen[at] = (picture){h, n};
        r->image_bytes += n;
    }
    free(bytes);
    return at;
}

/* ---- trajectories ---- */

static bool is_picture(const char *s)
{
    size_t n = strlen(s);
    return n > 4 && (strcmp(s + n - 4, ".png") == 0 || strcmp(s + n - 4, ".jpg") == 0);
}

/* Copies a node: names of pictures beside the file become "@index", numbers are shortened. */
static void copy_node(report *r, json_out *o, const json *j, const char *dir)
{
    json_type t = json_kind(j);
    if (t == JSON_STRING && is_picture(json_str(j))) {
        char path[PATH], ref[32];
        snprintf(path, sizeof path, "%s/%s", dir, json_str(j));
        int at = add_image(r, path);
        snprintf(ref, sizeof ref, "@%d", at);
        json_put_str(o, at >= 0 ? ref : json_str(j));
    } else if (t == JSON_NUMBER && !json_is_int(j)) {
        report_put_short(o, json_num(j));
    } else if (t == JSON_ARRAY || t == JSON_OBJECT) {
        json_open(o, t == JSON_OBJECT ? '{' : '[');
        for (int64_t i = 0; i < json_len(j); i++) {
            if (t == JSON_OBJECT) json_key(o, json_key_at(j, i));
            copy_node(r, o, json_at(j, i), dir);
        }
        json_close(o, t == JSON_OBJECT ? '}' : ']');
    } else {
        json_put_node(o, j);
    }
}

static void put_tokens(json_out *o, const json *list, const tokenizer *tok)
{
    json_key(o, "tokens");
    json_open(o, '[');
    for (int64_t i = 0; i < json_len(list); i++) {
        int32_t id = (int32_t)json_int(json_at(list, i));
        char *text = tokenizer_text(tok, &id, 1, false);
        json_put_str(o, text);
        free(text);
    }
    json_close(o, ']');
}

typedef struct kept {
    char key[48];
    int n;
} kept;

/* At most r->gallery of each category and result, so that failures are there to look at too. */
static bool keep(const report *r, kept *k, int *n_kept, const json *t)
{
    const char *category = json_str(json_get(json_get(t, "sample"), "category"));
    char key[48];
    double acc = json_num(json_get(t, "acc"));
    snprintf(key, sizeof key, "%.40s %d", category != NULL ? category : "all", acc >= 0.5);
    int i = 0;
    while (i < *n_kept && strcmp(k[i].key, key) != 0) i++;
    if (i == 128) return false;
    if (i == *n_kept) {
        memcpy(k[i].key, key, sizeof key);
        (*n_kept)++;
    }
    return k[i].n++ < r->gallery;
}

/* from: a JSON object that says where they come from. */
static status add_trajectories(report *r, const char *dir, const char *from, const tokenizer *tok)
{
    char path[LONG_PATH + 32], what[LONG_PATH + 64], *text = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/trajectories.jsonl", dir);
    if (!report_read_all(path, &text, &n)) return ST_OK;
    kept *k = calloc(129, sizeof *k);
    CHECK(k != NULL);
    int n_kept = 0, line = 0;
    status st = ST_OK;
    for (char *p = text, *end; p < text + n && st == ST_OK; p = end + 1) {
        end = memchr(p, '\n', (size_t)(text + n - p));
        if (end == NULL) end = text + n;
        line++;
        if (end == p) continue;
        json *t = NULL;
        snprintf(what, sizeof what, "%s:%d", path, line);
        st = json_parse(&t, p, (size_t)(end - p), what);
        if (st == ST_OK && keep(r, k, &n_kept, t)) {
            json_out *o = &r->trajs;
            json_open(o, '{');
            json_key(o, "from"), json_put_raw(o, from, strlen(from));
            const json *list = json_get(t, "ids");
            if (tok != NULL && list != NULL) put_tokens(o, list, tok);
            json_key(o, "t"), copy_node(r, o, t, dir);
            json_close(o, '}');
        }
        json_free(t);
    }
    free(k);
    free(text);
    return st;
}

/* ---- evaluations ---- */

/* How an evaluation was run. */
static void put_how(json_out *o, const json *e)
{
    const char *force = json_str(json_get(e, "force"));
    int64_t scale = json_int(json_get(e, "tile_scale"));
    json_key(o, "force"), json_put_str(o, force != NULL ? force : "free");
    if (scale > 0) json_key(o, "tile_scale"), json_put_int(o, scale);
    json_key(o, "shuffled"), json_put_bool(o, json_bool(json_get(e, "shuffled")));
}

/* A row of the summary. A forced measurement, or one at another size, gets that in its arm's name (fixed_tool_x8), so that
 * arm, stage, seed and category name one row. */
static void put_row(json_out *o, const json *e, const json *row, const char *arm, int64_t seed)
{
    char full[128];
    const char *force = json_str(json_get(e, "force")), *own = json_str(json_get(e, "arm"));
    int64_t scale = json_int(json_get(e, "tile_scale"));
    bool forced = force != NULL && strcmp(force, "free") != 0;
    int len = snprintf(full, sizeof full, "%.80s%s%.20s", own != NULL ? own : arm, forced ? "_" : "", forced ? force : "");
    if (scale > 0) snprintf(full + len, sizeof full - (size_t)len, "_x%lld", (long long)scale);
    static const char *const numbers[] = {"n", "accuracy", "low", "high", "tool_rate", "code_fail_rate", "mean_calls"};
    json_open(o, '{');
    json_key(o, "arm"), json_put_str(o, full);
    json_key(o, "seed"), json_put_int(o, json_is_int(json_get(e, "seed")) ? json_int(json_get(e, "seed")) : seed);
    put_how(o, e);
    static const char *const labels[] = {"stage", "step"};
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) {
        const json *v = json_get(e, labels[i]);
        if (v != NULL) json_key(o, labels[i]), json_put_node(o, v);
    }
    json_key(o, "category"), json_put_node(o, json_get(row, "category"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_key(o, numbers[i]), json_put_node(o, json_get(row, numbers[i]));
    }
    json_close(o, '}');
}

/* The tokenizer that turns a trajectory's ids into texts: of the measured model. */
static tokenizer *find_tokenizer(const char *model)
{
    char path[LONG_PATH + 32];
    tokenizer *t = NULL;
    if (model == NULL || *model == '\0') return NULL;
    snprintf(path, sizeof path, "%s/tokenizer.json", model);
    if (!report_exists(path) || tokenizer_load(&t, path) != ST_OK) return NULL;
    return t;
}

/* Of the model the run started from, else of the one it left. */
static tokenizer *run_tokenizer(const char *model, const char *run)
{
    char left[LONG_PATH];
    tokenizer *tok = find_tokenizer(model);
    if (tok != NULL || run == NULL) return tok;
    snprintf(left, sizeof left, "%s/export", run);
    return find_tokenizer(left);
}

static status add_eval(report *r, const char *dir, const char *name, const char *arm, int64_t seed, const char *model,
                       const char *run)
{
    char path[LONG_PATH], beside[LONG_PATH], from[32];
    json *e = NULL;
    snprintf(path, sizeof path, "%s/%s.json", dir, name);
    TRY(json_read_file(&e, path, MAX_FILE));
    const json *rows = json_get(e, "rows");
    if (json_kind(rows) != JSON_ARRAY) { /* some other JSON file */
        json_free(e);
        return ST_OK;
    }
    json_out *o = &r->evals;
    json_open(o, '{');
    json_key(o, "file"), json_put_str(o, name);
    if (json_get(e, "arm") == NULL) json_key(o, "arm"), json_put_str(o, arm);
    if (json_get(e, "seed") == NULL) json_key(o, "seed"), json_put_int(o, seed);
    put_how(o, e);
    static const char *const rest[] = {"arm", "seed", "stage", "step", "infra", "model", "rows"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        if (json_get(e, rest[i]) == NULL) continue;
        json_key(o, rest[i]);
        copy_node(r, o, json_get(e, rest[i]), dir);
    }
    json_close(o, '}');
    int64_t n_row = json_len(rows) == 2 ? 1 : json_len(rows); /* the mean over one category says nothing new */
    for (int64_t i = 0; i < n_row; i++) put_row(&r->rows, e, json_at(rows, i), arm, seed);
    const char *own = json_str(json_get(e, "model"));
    tokenizer *tok = find_tokenizer(own);
    if (tok == NULL) tok = run_tokenizer(model, run);
    snprintf(beside, sizeof beside, "%s/%s", dir, name);
    snprintf(from, sizeof from, "{\"eval\":%d}", r->n_eval++);
    status st = add_trajectories(r, beside, from, tok);
    tokenizer_destroy(tok);
    json_free(e);
    return st;
}

static int is_eval(const struct dirent *d)
{
    size_t n = strlen(d->d_name);
    return n > 5 && strcmp(d->d_name + n - 5, ".json") == 0 && d->d_name[0] != '.';
}

status report_scan_evals(report *r, const char *dir, const char *arm, int64_t seed, const char *model, const char *run)
{
    struct dirent **list = NULL;
    int n = scandir(dir, &list, is_eval, alphasort);
    if (n < 0) return FAIL(ST_EIO, "%s: %s", dir, strerror(errno));
    status st = ST_OK;
    for (int i = 0; i < n; i++) {
        list[i]->d_name[strlen(list[i]->d_name) - 5] = '\0';
        if (st == ST_OK) st = add_eval(r, dir, list[i]->d_name, arm, seed, model, run);
        free(list[i]);
    }
    free(list);
    return st;
}

status report_add_evals(report *r, const char *dir, const char *arm, int64_t seed)
{
    return report_scan_evals(r, dir, arm, seed, NULL, NULL);
}

static int is_step(const struct dirent *d) { return strncmp(d->d_name, "step_", 5) == 0; }

status report_add_rollouts(report *r, const char *run, const char *arm, int64_t seed, const char *model)
{
    char root[LONG_PATH], dir[LONG_PATH + 300];
    struct dirent **list = NULL;
    snprintf(root, sizeof root, "%s/rollouts", run);
    int n = report_exists(root) ? scandir(root, &list, is_step, alphasort) : 0;
    if (n < 0) return FAIL(ST_EIO, "%s: %s", root, strerror(errno));
    tokenizer *tok = n > 0 ? run_tokenizer(model, run) : NULL;
    status st = ST_OK;
    for (int i = 0; i < n; i++) {
        json_out from;
        json_begin(&from, false);
        json_open(&from, '{');
        json_key(&from, "arm"), json_put_str(&from, arm);
        json_key(&from, "seed"), json_put_int(&from, seed);
        json_key(&from, "stage"), json_put_str(&from, "rl");
        json_key(&from, "rollout_step"), json_put_int(&from, atoll(list[i]->d_name + 5));
        json_close(&from, '}');
        snprintf(dir, sizeof dir, "%s/%s", root, list[i]->d_name);
        if (st == ST_OK) st = add_trajectories(r, dir, from.text, tok);
        json_end(&from);
        free(list[i]);
    }
    free(list);
    tokenizer_destroy(tok);
    return st;
}

status report_add_leak(report *r, const char *path)
{
    json_free(r->leak);
    r->leak = NULL;
    return json_read_file(&r->leak, path, MAX_FILE);
}

/* ---- output ---- */

status report_create(report **out, int gallery)
{
    report *r = calloc(1, sizeof *r);
    if (r == NULL) return FAIL(ST_ENOMEM, "out of memory");
    r->gallery = gallery;
    r->wall_s = r->peak_rss = r->logp_diff = (double)NAN;
    json_out *lists[] = {&r->runs, &r->evals, &r->trajs, &r->rows};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        json_begin(lists[i], false);
        json_open(lists[i], '[');
    }
    *out = r;
    return ST_OK;
}

void report_destroy(report *r)
{
    if (r == NULL) return;
    json_out *lists[] = {&r->runs, &r->evals, &r->trajs, &r->rows};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) json_end(lists[i]);
    for (int i = 0; i < r->n_image; i++) free(r->image[i]);
    free(r->image);
    free(r->seen);
    json_free(r->leak);
    free(r);
}

/* The list so far as a finished array. */
static void put_list(json_out *o, const char *key, const json_out *list)
{
    char *text = malloc(list->len + 1);
    CHECK(text != NULL);
    memcpy(text, list->text, list->len);
    text[list->len] = ']';
    json_key(o, key), json_put_raw(o, text, list->len + 1);
    free(text);
}

static void put_totals(const report *r, double wall_s, json_out *o)
{
    json_key(o, "wall_s"), json_put_num(o, isnan(wall_s) ? r->wall_s : wall_s);
    json_key(o, "peak_rss_mib"), json_put_num(o, r->peak_rss);
    json_key(o, "max_logp_diff"), json_put_num(o, r->logp_diff);
    json_key(o, "gflops_share_of_peak"),
        json_put_num(o, r->share_n > 0 ? r->share_sum / (double)r->share_n : (double)NAN);
}

void report_page_data(report *r, double wall_s, json_out *o)
{
    json_begin(o, false);
    json_open(o, '{');
    put_totals(r, wall_s, o);
    put_list(o, "runs", &r->runs);
    put_list(o, "evals", &r->evals);
    put_list(o, "trajs", &r->trajs);
    json_key(o, "leak"), json_put_node(o, r->leak);
    json_key(o, "images");
    json_open(o, '[');
    for (int i = 0; i < r->n_image; i++) json_put_str(o, r->image[i]);
    json_close(o, ']');
    json_close(o, '}');
}

void report_summary(const report *r, double wall_s, json_out *o)
{
    json_begin(o, false);
    json_open(o, '{');
    put_list(o, "rows", &r->rows);
    put_totals(r, wall_s, o);
    json_close(o, '}');
}
