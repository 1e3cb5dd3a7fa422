#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "data/traj.h"
#include "launch/args.h"
#include "launch/commands.h"
#include "rl/algo.h"

/* One line of the file in numbers; a trajectory (with turns) is scored into them first. */
typedef struct line {
    bat_row row;
    int n_call;
    bool *fail;
    char *group;
    bool number; /* the group was written as a number */
} line;

static bool known(const char *field)
{
    static const char *const names[] = {"group", "acc", "format_ok", "calls", "domain", NULL};
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], field) == 0) return true;
    return false;
}

static status minimal_row(const json *j, line *l)
{
    double acc;
    TRY(json_need_num(j, "acc", &acc));
    if (acc < 0 || acc > 1) return FAIL(ST_EINVAL, "acc %g is not in [0, 1]", acc);
    const json *ok = json_get(j, "format_ok"), *calls = json_get(j, "calls"), *domain = json_get(j, "domain");
    if (json_kind(ok) != JSON_BOOL) return FAIL(ST_EINVAL, "format_ok must be true or false");
    if (json_kind(calls) != JSON_ARRAY) return FAIL(ST_EINVAL, "calls must be a list of \"ok\" and \"fail\"");
    if (domain != NULL &&
        (json_str(domain) == NULL || (strcmp(json_str(domain), "vqa") != 0 && strcmp(json_str(domain), "math") != 0)))
        return FAIL(ST_EINVAL, "domain must be \"vqa\" or \"math\"");
    l->row.acc = (float)acc;
    l->row.format_ok = json_bool(ok);
    l->row.math = domain != NULL && strcmp(json_str(domain), "math") == 0;
    l->fail = calloc((size_t)json_len(calls) + 1, sizeof *l->fail);
    CHECK(l->fail != NULL);
    for (int64_t i = 0; i < json_len(calls); i++) {
        const char *c = json_str(json_at(calls, i));
        if (c == NULL || (strcmp(c, "ok") != 0 && strcmp(c, "fail") != 0))
            return FAIL(ST_EINVAL, "calls must be a list of \"ok\" and \"fail\"");
        l->fail[l->n_call++] = strcmp(c, "fail") == 0;
    }
    for (int64_t i = 0; i < json_len(j); i++) {
        const char *k = json_key_at(j, i);
        if (strncmp(k, "x_", 2) != 0 && !known(k)) return FAIL(ST_EINVAL, "unknown field %s", k);
    }
    return ST_OK;
}

static status trajectory_row(const reward_opts *o, const json *j, const char *what, line *l)
{
    traj t = {0};
    sample s = {0};
    TRY(traj_from_json(&t, &s, j, what));
    t.sample = &s;
    status st = reward_score(o, &t, 1); /* a group of one: only acc and format are kept */
    l->row.acc = t.acc;
    l->row.format_ok = t.format_ok;
    l->row.math = s.domain != NULL && strcmp(s.domain, "math") == 0;
    l->fail = calloc((size_t)t.n_turn + 1, sizeof *l->fail);
    CHECK(l->fail != NULL);
    for (int k = 0; k < t.n_turn; k++)
        if (t.turns[k].code != NULL && t.turns[k].tool.ran) l->fail[l->n_call++] = !t.turns[k].tool.ok;
    if (st == ST_OK && json_get(j, "group") == NULL) l->group = strdup(s.id);
    traj_free(&t);
    sample_free(&s);
    return st;
}

/* The group as written, number or text; a trajectory without one belongs to its sample. */
static status group_name(const json *j, line *l)
{
    const json *g = json_get(j, "group");
    if (l->group != NULL) return ST_OK;
    if (json_str(g) != NULL)
        l->group = strdup(json_str(g));
    else if ((l->number = json_is_int(g)) && asprintf(&l->group, "%lld", (long long)json_int(g)) < 0)
        l->group = NULL;
    return l->group != NULL ? ST_OK : FAIL(ST_EINVAL, "group must be a whole number or a text");
}

static status read_lines(const reward_opts *o, const char *path, line **out, int *n)
{
    FILE *f = fopen(path, "r");
    if (f == NULL) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    char *text = NULL, what[4200];
    size_t cap = 0;
    ssize_t len;
    status st = ST_OK;
    for (int at = 1; st == ST_OK && (len = getline(&text, &cap, f)) > 0; at++) {
        if (strspn(text, " \t\r\n") == (size_t)len) continue;
        json *j = NULL;
        snprintf(what, sizeof what, "%s:%d", path, at);
        size_t n_text = strcspn(text, "\r\n");
        TRY_OR(json_parse(&j, text, n_text, what), done);
        line *more = realloc(*out, sizeof **out * (size_t)(*n + 1));
        CHECK(more != NULL);
        *out = more;
        line *l = &more[(*n)++];
        *l = (line){0};
        st = json_get(j, "turns") != NULL ? trajectory_row(o, j, what, l) : minimal_row(j, l);
        if (st == ST_OK) st = group_name(j, l);
        json_free(j);
        if (st != ST_OK) {
            fail_within(st, "%s", what);
            break;
        }
        for (int k = 0; k < *n; k++)
            if (strcmp(more[k].group, l->group) == 0) {
                l->row.group = k; /* the first line of the group names it */
                break;
            }
        for (int k = 0; k < l->n_call; k++) l->fail[k] ? l->row.n_fail++ : l->row.n_ok++;
    }
done:
    free(text);
    fclose(f);
    return st;
}

static void group_advantages(const algo_opts *a, const line *l, int n, float *adv)
{
    float *reward = malloc(sizeof *reward * (size_t)n), *got = malloc(sizeof *got * (size_t)n);
    CHECK(reward != NULL && got != NULL);
    for (int g = 0; g < n; g++) {
        if (l[g].row.group != g) continue;
        int m = 0;
        for (int i = g; i < n; i++)
            if (l[i].row.group == g) reward[m++] = l[i].row.reward;
        grpo_group(a, reward, NULL, m, got);
        m = 0;
        for (int i = g; i < n; i++)
            if (l[i].row.group == g) adv[i] = got[m++];
    }
    free(reward);
    free(got);
}

/* Mean and 1/std of all turn returns, as rl/algo.c computes them for a step. */
static turn_norm turn_moments(const reward_opts *o, const line *l, int n)
{
    turn_norm z = {0, 1};
    double sum = 0, sq = 0, m = 0;
    for (int pass = 0; pass < 2 && o->turn_normalize; pass++) {
        for (int i = 0; i < n; i++) {
            float *g = malloc(sizeof *g * (size_t)(l[i].n_call + 1));
            CHECK(g != NULL);
            bat_turns(o, l[i].fail, l[i].n_call, g);
            for (int k = 0; k < l[i].n_call; k++) {
                if (pass == 0)
                    sum += g[k], m += 1;
                else
                    sq += (g[k] - sum / m) * (g[k] - sum / m);
            }
            free(g);
        }
    }
    if (m > 0 && sqrt(sq / m) > 1e-8) z = (turn_norm){sum / m, 1 / sqrt(sq / m)};
    return z;
}

/* The shortest text of a float's value, not of the double it was widened to. */
static void put_float(json_out *o, double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", v);
    json_put_raw(o, text, strlen(text));
}

static void print_line(const reward_opts *o, const turn_norm *z, const line *l, float adv)
{
    json_out j;
    json_begin(&j, false);
    json_open(&j, '{');
    json_key(&j, "group");
    if (l->number)
        json_put_raw(&j, l->group, strlen(l->group));
    else
        json_put_str(&j, l->group);
    const struct {
        const char *key;
        double value;
    } num[] = {{"acc", l->row.acc},       {"score", l->row.score}, {"d", l->row.d}, {"tool_term", l->row.tool_term},
               {"reward", l->row.reward}, {"adv_seq", adv}};
    for (size_t i = 0; i < sizeof num / sizeof *num; i++) {
        json_key(&j, num[i].key);
        put_float(&j, num[i].value);
    }
    float *g = malloc(sizeof *g * (size_t)(l->n_call + 1));
    CHECK(g != NULL);
    bat_turns(o, l->fail, l->n_call, g);
    json_key(&j, "adv_turn");
    json_open(&j, '[');
    for (int k = 0; k < l->n_call; k++) put_float(&j, o->turn_weight * (g[k] - z->mean) * z->inv_std);
    json_close(&j, ']');
    json_close(&j, '}');
    puts(j.text);
    json_end(&j);
    free(g);
}

static status bind(config **c, reward_opts *o, algo_opts *a, const arg_list *files, const arg_list *sets,
                   const char *bat)
{
    char set[64];
    const char *all[66];
    int n = 0;
    for (; n < sets->n; n++) all[n] = sets->v[n];
    if (bat != NULL) {
        snprintf(set, sizeof set, "reward.bat=%s", bat);
        all[n++] = set;
    }
    TRY(config_load(c, files->v, files->n, all, n));
    TRY(config_bind(*c, "reward", reward_fields, o));
    return config_bind(*c, "rl", algo_fields, a);
}

status cmd_reward(int argc, char **argv)
{
    arg_list pos = {0}, sets = {0}, files = {0};
    const char *bat = NULL;
    bool helped = false;
    const arg table[] = {{"bat", ARG_STR, &bat, "MODE", "published, fixed, none or naive; overrides reward.bat"},
                         {"config", ARG_LIST, &files, "FILE", "a config whose reward and rl sections are used"},
                         {"set", ARG_LIST, &sets, "SECTION.KEY=VALUE", "override one key"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv,
                   "prints the reward breakdown of trajectories or of rows {\"group\", \"acc\", \"format_ok\", "
                   "\"calls\"}: FILE.jsonl",
                   "codedance reward --bat published rows.jsonl", table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1) return args_usage("give one FILE.jsonl");
    config *c = NULL;
    reward_opts o;
    algo_opts a;
    line *l = NULL;
    int n = 0;
    status st = bind(&c, &o, &a, &files, &sets, bat);
    if (st == ST_OK) st = read_lines(&o, pos.v[0], &l, &n);
    if (st == ST_OK && n > 0) {
        bat_row *row = malloc(sizeof *row * (size_t)n);
        float *adv = calloc((size_t)n, sizeof *adv);
        CHECK(row != NULL && adv != NULL);
        for (int i = 0; i < n; i++) row[i] = l[i].row;
        bat_score(&o, row, n);
        for (int i = 0; i < n; i++) l[i].row = row[i];
        group_advantages(&a, l, n, adv);
        turn_norm z = turn_moments(&o, l, n);
        for (int i = 0; i < n; i++) print_line(&o, &z, &l[i], adv[i]);
        free(row);
        free(adv);
    }
    for (int i = 0; i < n; i++) {
        free(l[i].fail);
        free(l[i].group);
    }
    free(l);
    config_destroy(c);
    return st;
}
