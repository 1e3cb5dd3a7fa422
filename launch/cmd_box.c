#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/json.h"
#include "data/image.h"
#include "launch/args.h"
#include "launch/box_record.h"
#include "launch/commands.h"
#include "launch/setup.h"

/* One Python file in the sandbox, one JSON record per turn. */

typedef struct box_args {
    arg_list images, files, sets;
    const char *preset, *limits, *tier, *out, *python;
    const char *record, *replay;
    int64_t seed, trajectory;
    bool interactive;
} box_args;

/* What turns need. */
typedef struct box_session {
    box_pool *pool;
    box *b;
    const char *dir;          /* for pictures; may be NULL */
    FILE *record;             /* may be NULL */
    const box_replay *replay; /* all-zero: none */
    int turn;
} box_session;

/* ---- arguments -> sandbox section ---- */

enum { SETS = 40 };
typedef struct set_list {
    int n;
    char *v[SETS];
} set_list;

static status add_set(set_list *s, char *text)
{
    if (text == NULL) return FAIL(ST_ENOMEM, "no memory for options");
    if (s->n == SETS) {
        free(text);
        return args_usage("too many options");
    }
    s->v[s->n++] = text;
    return ST_OK; // NOLINT(clang-analyzer-unix.Malloc): read_config frees the list; the analyzer loses the array
}

/* "wall=2,memory=256": short names of the limits, or the sandbox keys themselves. */
static status add_limits(set_list *s, const char *list)
{
    static const char *const names[][2] = {
        {"wall", "wall_s"},           {"grace", "wall_grace_s"}, {"cpu", "cpu_s"},
        {"memory", "memory_mib"},     {"tmp", "tmp_mib"},        {"output", "output_kib_max"},
        {"images", "images_per_turn"}};
    char *copy = strdup(list), *save = NULL;
    if (copy == NULL) return FAIL(ST_ENOMEM, "no memory for options");
    status st = ST_OK;
    for (char *item = strtok_r(copy, ",", &save); item != NULL && st == ST_OK; item = strtok_r(NULL, ",", &save)) {
        char *value = strchr(item, '='), *text = NULL;
        if (value == NULL) {
            st = args_usage("--limits: \"%s\" has no value; write wall=2,memory=256", item);
            break;
        }
        *value++ = '\0';
        const char *key = item;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (strcmp(names[i][0], item) == 0) key = names[i][1];
        if (asprintf(&text, "sandbox.%s=%s", key, value) < 0) text = NULL;
        st = add_set(s, text);
    }
    free(copy);
    return st;
}

static status add_tier(set_list *s, const char *tier)
{
    char *text = NULL;
    if (asprintf(&text, "sandbox.min_tier=%s", tier) < 0) text = NULL;
    return add_set(s, text);
}

/* Relative to the working directory, as on any command line; the config key wants the whole path. */
static status add_python(set_list *s, const char *python)
{
    char here[4096] = "", *text = NULL;
    if (python[0] != '/' && getcwd(here, sizeof here) == NULL)
        return FAIL(ST_EIO, "working directory: %s", strerror(errno));
    if (asprintf(&text, "sandbox.python='%s%s%s'", here, here[0] != '\0' ? "/" : "", python) < 0) text = NULL;
    return add_set(s, text);
}

static status read_config(config **cfg, box_config *c, const box_args *a, const box_replay *replay)
{
    set_list s = {0};
    status st = ST_OK;
    for (int i = 0; replay->n > 0 && st == ST_OK; i++) { /* what the command line says comes after and wins */
        char *set = box_replay_setting(replay, i);
        if (set == NULL) break;
        st = add_set(&s, set);
    }
    if (st == ST_OK) st = a->limits != NULL ? add_limits(&s, a->limits) : ST_OK;
    if (st == ST_OK && a->tier != NULL) st = add_tier(&s, a->tier);
    if (st == ST_OK && a->python != NULL) st = add_python(&s, a->python);
    for (int i = 0; i < a->sets.n && st == ST_OK; i++) st = add_set(&s, strdup(a->sets.v[i]));
    if (st == ST_OK) st = config_load(cfg, a->files.v, a->files.n, (const char *const *)s.v, s.n);
    if (st == ST_OK) st = config_bind(*cfg, "sandbox", box_fields, c);
    if (st == ST_OK)
        st = config_check(*cfg, config_sections); /* other sections of a shared config file are legal, typos are not */
    if (st == ST_OK) st = config_finish(*cfg);
    for (int i = 0; i < s.n; i++) free(s.v[i]);
    return st;
}

/* ---- input ---- */

static status read_stream(FILE *f, const char *what, char **text)
{
    size_t n = 0, cap = 1 << 16;
    char *s = malloc(cap);
    while (s != NULL) {
        n += fread(s + n, 1, cap - n - 1, f);
        if (n + 1 < cap) break;
        char *more = cap < 64u << 20 ? realloc(s, cap *= 2) : NULL;
        if (more == NULL) free(s);
        s = more;
    }
    if (s == NULL) return FAIL(ST_EINVAL, "%s: too long", what);
    s[n] = '\0';
    if (ferror(f)) {
        free(s);
        return FAIL(ST_EIO, "%s: %s", what, strerror(errno));
    }
    *text = s;
    return ST_OK;
}

static status read_script(const char *path, char **text)
{
    if (strcmp(path, "-") == 0) return read_stream(stdin, "standard input", text);
    FILE *f = fopen(path, "rb");
    if (f == NULL) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    status st = read_stream(f, path, text);
    fclose(f);
    return st;
}

/* all: pixels owned, freed by free_images. */
static status load_images(const arg_list *paths, record_inputs *all, box_input **in)
{
    status st = ST_OK;
    for (int i = 0; i < paths->n && st == ST_OK; i++) {
        image im = {0};
        st = image_read_file(&im, paths->v[i]);
        if (st == ST_OK) all->at[all->n++] = (box_image){im.w, im.h, im.rgb};
    }
    if (st == ST_OK && paths->n > 0) st = box_input_create(in, all->at, paths->n);
    return st;
}

static void free_images(record_inputs *all)
{
    for (int i = 0; i < all->n; i++) free(all->at[i].rgb);
}

/* ---- output ---- */

static status write_images(const box_result *r, const char *dir, int turn, json_out *o)
{
    status st = ST_OK;
    json_key(o, "images");
    json_open(o, '[');
    for (int i = 0; i < r->n_image && st == ST_OK; i++) {
        const image im = {r->images[i].w, r->images[i].h, r->images[i].rgb};
        char path[4096] = "";
        json_open(o, '{');
        json_key(o, "w");
        json_put_int(o, im.w);
        json_key(o, "h");
        json_put_int(o, im.h);
        json_key(o, "file");
        if (dir != NULL) {
            snprintf(path, sizeof path, "%s/turn%d_%d.png", dir, turn, i);
            st = image_write_png(&im, path);
            json_put_str(o, path);
        } else {
            json_put_null(o);
        }
        json_close(o, '}');
    }
    json_close(o, ']');
    return st;
}

static status print_record(const box_result *r, const char *dir, int turn)
{
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    json_key(&o, "verdict");
    json_put_str(&o, box_verdict_name(r->verdict));
    json_key(&o, "code");
    json_put_int(&o, r->code);
    json_key(&o, "stdout");
    json_put_str(&o, r->text);
    json_key(&o, "truncated");
    json_put_bool(&o, r->truncated);
    json_key(&o, "error");
    if (r->error_type[0] != '\0' || r->error_message != NULL) { /* a failure of ours has no type */
        json_open(&o, '{');
        json_key(&o, "type");
        json_put_str(&o, r->error_type);
        json_key(&o, "message");
        json_put_str(&o, r->error_message != NULL ? r->error_message : "");
        json_key(&o, "line");
        json_put_int(&o, r->error_line);
        json_key(&o, "source");
        json_put_str(&o, r->error_source);
        json_close(&o, '}');
    } else {
        json_put_null(&o);
    }
    status st = write_images(r, dir, turn, &o);
    const struct {
        const char *key;
        double v;
    } numbers[] = {
        {"wall_ms", r->wall_ms}, {"cpu_ms", r->cpu_ms}, {"queue_ms", r->queue_ms}, {"peak_mib", r->peak_mib}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        json_key(&o, numbers[i].key);
        json_put_num(&o, (double)(int64_t)(numbers[i].v * 1000 + 0.5) / 1000);
    }
    json_key(&o, "tier");
    json_put_str(&o, box_tier_name(r->tier));
    json_key(&o, "state_lost");
    json_put_bool(&o, r->state_lost);
    json_key(&o, "replayed");
    json_put_bool(&o, r->replayed);
    json_close(&o, '}');
    puts(o.text);
    fflush(stdout);
    json_end(&o);
    return st;
}

static status run_turn(box_session *s, const char *code, size_t len)
{
    box *done = NULL;
    box_result r;
    int turn = ++s->turn;
    TRY(box_submit(s->b, code, len));
    while (box_poll(s->pool, &done, 1, 1000) == 0) continue; /* every turn ends: the supervisor has its clock */
    box_result_take(done, &r);
    status st = s->replay->n > 0 ? box_replay_compare(s->replay, turn - 1, &r) : print_record(&r, s->dir, turn);
    if (st == ST_OK && s->record != NULL) st = box_record_turn(s->record, turn, code, len, &r);
    box_result_free(&r);
    return st;
}

static status replay_turns(box_session *s)
{
    for (int i = 0; i < s->replay->n; i++) {
        size_t len;
        const char *code = box_replay_code(s->replay, i, &len);
        TRY(run_turn(s, code, len));
    }
    printf("reproduced %d turn%s\n", s->replay->n, s->replay->n == 1 ? "" : "s");
    return ST_OK;
}

/* Turns are separated by lines that start with "# %%"; on a terminal an empty line ends a turn too. */
static status run_turns(box_session *s, const char *path)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (f == NULL) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    bool terminal = f == stdin && isatty(0);
    char *line = NULL, *code = NULL;
    size_t cap = 0, len = 0;
    ssize_t n = 0;
    status st = ST_OK;
    while (n >= 0 && st == ST_OK) {
        if (terminal) fputs(len ? "... " : ">>> ", stderr);
        n = getline(&line, &cap, f);
        bool ends = n < 0 || strncmp(line, "# %%", 4) == 0 || (terminal && n == 1);
        if (!ends) {
            char *more = realloc(code, len + (size_t)n + 1);
            if (more == NULL) {
                st = FAIL(ST_ENOMEM, "no memory for a turn");
                break;
            }
            code = more;
            memcpy(code + len, line, (size_t)n);
            len += (size_t)n;
        } else if (len > 0) {
            st = run_turn(s, code, len);
            len = 0;
        }
    }
    free(line);
    free(code);
    if (f != stdin) fclose(f);
    return st;
}

static status run(const box_args *a, const char *path, const box_replay *replay, const config *cfg, box_config *c)
{
    box_opts o;
    TRY(box_config_opts(c, cfg, &o));
    o.spares = 0; /* one box only */
    o.max_live = 1;
    box_session s = {.dir = a->out, .replay = replay};
    box_input *in = NULL;
    record_inputs inputs = {0};
    char *code = NULL;
    int64_t seed = replay->n > 0 ? replay->seed : a->seed;
    status st;
    if (a->out != NULL && mkdir(a->out, 0777) != 0 && errno != EEXIST) {
        st = FAIL(ST_EIO, "%s: %s", a->out, strerror(errno));
        goto out;
    }
    TRY_OR(load_images(&a->images, &inputs, &in), out);
    if (replay->n > 0) TRY_OR(box_replay_inputs(replay, &inputs), out);
    if (replay->n == 0 && !a->interactive) TRY_OR(read_script(path, &code), out);
    TRY_OR(box_config_pool(cfg, &o, &s.pool), out);
    TRY_OR(box_open(s.pool, (uint64_t)seed, in, &s.b), out);
    if (a->record != NULL) {
        s.record = fopen(a->record, "wb");
        st = s.record != NULL ? box_record_begin(s.record, seed, box_pool_tier(s.pool), &inputs, c)
                              : FAIL(ST_EIO, "%s: %s", a->record, strerror(errno));
        if (st != ST_OK) goto out;
    }
    if (replay->n > 0)
        st = replay_turns(&s);
    else
        st = code == NULL ? run_turns(&s, path) : run_turn(&s, code, strlen(code));
out:
    if (s.record != NULL && fclose(s.record) != 0 && st == ST_OK)
        st = FAIL(ST_EIO, "%s: %s", a->record, strerror(errno));
    box_close(s.b);
    box_input_release(in);
    box_pool_destroy(s.pool);
    free_images(&inputs);
    free(code);
    return st;
}

status cmd_box(int argc, char **argv)
{
    box_args a = {0};
    arg_list pos = {0};
    bool helped = false;
    const arg table[] = {
        {"image", ARG_LIST, &a.images, "FILE",
         "picture the code sees as img / input_image; may be repeated (input_images)"},
        {"out", ARG_STR, &a.out, "DIR", "directory for the pictures the code returns"},
        {"python", ARG_STR, &a.python, "PATH", "interpreter to run in the box, such as venv/bin/python"},
        {"preset", ARG_STR, &a.preset, "PYTHON", "run before the first turn, instead of sandbox.preset"},
        {"limits", ARG_STR, &a.limits, "K=V,...",
         "wall, grace, cpu (s), memory, tmp (MiB), pids, output (KiB), images"},
        {"tier", ARG_STR, &a.tier, "T0|T1|T2", "weakest isolation accepted"},
        {"seed", ARG_INT, &a.seed, "N", "seed of Python's and numpy's generators"},
        {"record", ARG_STR, &a.record, "OUT", "write what the turns were and gave to OUT, for --replay"},
        {"replay", ARG_STR, &a.replay, "RECORD",
         "run the recorded turns again with the recorded settings; fails where they give something else"},
        {"trajectory", ARG_INT, &a.trajectory, "N",
         "RECORD is a run's trajectories.jsonl: replay its line N, with the run's --config and the prompt's --image"},
        {"interactive", ARG_FLAG, &a.interactive, NULL, "many turns in one box, separated by lines starting with # %%"},
        {"config", ARG_LIST, &a.files, "FILE", "config whose sandbox section is used"},
        {"set", ARG_LIST, &a.sets, "S.K=V", "override a config key"},
        {NULL, ARG_FLAG, NULL, NULL, NULL}};
    TRY(args_parse(argc, argv,
                   "Run Python in the sandbox: FILE, or - for standard input. Prints one JSON record per turn.",
                   "codedance box --image photo.png --out shown --limits wall=2 crop.py", table, &pos, &helped));
    if (helped) return ST_OK;
    if (a.replay == NULL && pos.n != 1) return args_usage("give one Python file, or - for standard input");
    if (a.replay != NULL && (pos.n > 0 || a.interactive))
        return args_usage("--replay takes its code from the record: give no Python file");
    if (a.trajectory < 0 || (a.trajectory > 0 && a.replay == NULL))
        return args_usage("--trajectory N is a line of the file given to --replay, from 1");
    config *cfg = NULL;
    box_config c = {0};
    box_replay replay = {0};
    status st = a.replay != NULL ? box_replay_read(&replay, a.replay, a.trajectory) : ST_OK;
    if (st == ST_OK) st = read_config(&cfg, &c, &a, &replay);
    if (a.preset != NULL) c.preset = (char *)(uintptr_t)a.preset; /* nobody writes to it */
    if (st == ST_OK) st = run(&a, pos.n > 0 ? pos.v[0] : "", &replay, cfg, &c);
    config_destroy(cfg);
    box_replay_free(&replay);
    return st;
}
