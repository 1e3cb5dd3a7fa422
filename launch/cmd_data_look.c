/* data inspect, data filter, data verify: commands that read. */
#include "core/log.h"
#include "data/dataset.h"
#include "data/file.h"
#include "data/shard.h"
#include "launch/args.h"
#include "launch/cmd_data.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_GROUPS = 256 };

typedef struct tally {
    char name[64];
    int64_t n;
} tally;

static void count(tally *t, int *n, const char *name)
{
    int i = 0;
    while (i < *n && strncmp(t[i].name, name, sizeof t[i].name - 1) != 0) i++;
    if (i == MAX_GROUPS) i = MAX_GROUPS - 1; /* the last one collects the rest */
    if (i == *n) {
        snprintf(t[i].name, sizeof t[i].name, "%s", i == MAX_GROUPS - 1 ? "(others)" : name);
        t[i].n = 0;
        ++*n;
    }
    t[i].n++;
}

static void print_image(dataset *d, const char *ref)
{
    image im = {0};
    if (dataset_image(d, ref, &im) == ST_OK)
        printf("[image %dx%d %s]", im.w, im.h, ref);
    else
        printf("[image %s: %s]", ref, fail_message());
    image_free(&im);
}

static void print_fields(const sample *s)
{
    json_out o;
    for (int64_t i = 0; i < json_len(s->row); i++) {
        const char *key = json_key_at(s->row, i);
        if (strcmp(key, "messages") == 0) continue;
        json_begin(&o, false);
        json_put_node(&o, json_at(s->row, i));
        printf("  %-12s %.*s\n", key, (int)o.len, o.text);
        json_end(&o);
    }
}

static status print_row(dataset *d, int64_t i)
{
    sample s;
    TRY(dataset_sample(d, i, &s));
    printf("row %lld\n", (long long)i);
    print_fields(&s);
    for (int m = 0; m < s.n_message; m++) {
        printf("--- %s\n", role_name(s.messages[m].role));
        for (int k = 0; k < s.messages[m].n_part; k++) {
            const part *p = &s.messages[m].parts[k];
            if (p->text)
                printf("%s", p->text);
            else
                print_image(d, s.images[p->image]);
        }
        printf("\n");
    }
    sample_free(&s);
    return ST_OK;
}

static status print_counts(dataset *d, const char *path)
{
    tally *group = calloc(MAX_GROUPS, sizeof *group);
    CHECK(group);
    int groups = 0;
    int64_t n = dataset_count(d), messages = 0, images = 0, answers = 0, longest = 0;
    status st = ST_OK;
    progress *bar = progress_start("inspect", n);
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        sample s;
        st = dataset_sample(d, i, &s);
        if (st != ST_OK) break;
        count(group, &groups, s.category ? s.category : "(no category)");
        messages += s.n_message, images += s.n_image, answers += s.answer != NULL;
        if (s.n_message > longest) longest = s.n_message;
        sample_free(&s);
        progress_set(bar, i + 1, NULL);
    }
    progress_end(bar);
    if (st == ST_OK) {
        printf("%s: %lld rows, %lld messages (at most %lld in a row), %lld pictures, %lld reference answers\n", path,
               (long long)n, (long long)messages, (long long)longest, (long long)images, (long long)answers);
        for (int i = 0; i < groups; i++)
            printf("  %-16s %8lld  %5.1f%%\n", group[i].name, (long long)group[i].n,
                   100.0 * (double)group[i].n / (double)n);
    }
    free(group);
    return st;
}

status data_inspect(int argc, char **argv)
{
    int64_t row = -1;
    bool helped = false;
    arg_list pos = {0};
    const arg table[] = {{"row", ARG_INT, &row, "I", "show this row (from 0) as a conversation instead of counting"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv, "shows what a dataset holds: PATH is a .jsonl, a .h5 or a folder of shards",
                   "codedance data inspect data/sft/data.jsonl --row 3", table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1) return args_usage("one PATH is needed");
    dataset *d = NULL;
    TRY(dataset_open(&d, pos.v[0]));
    status st;
    if (row < -1 || row >= dataset_count(d))
        st = args_usage("--row must be between 0 and %lld", (long long)dataset_count(d) - 1);
    else
        st = row >= 0 ? print_row(d, row) : print_counts(d, pos.v[0]);
    dataset_close(d);
    return st;
}

/* ---- filter --------------------------------------------------------------------------------------------------- */

typedef struct wanted {
    const char *category;
    arg_list where;
    int64_t min_messages, max_messages, max_chars, limit;
} wanted;

/* Is name one of the comma-separated names? */
static bool listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && strncmp(p, name, n) == 0) return true;
    return false;
}

/* "x_size=tiny": the field as text, strings without quotes. */
static bool field_is(const sample *s, const char *rule)
{
    char key[128];
    size_t n = strcspn(rule, "=");
    snprintf(key, sizeof key, "%.*s", (int)n, rule);
    const json *v = json_get(s->row, key);
    if (!v) return false;
    if (json_str(v)) return strcmp(json_str(v), rule + n + 1) == 0;
    json_out o;
    json_begin(&o, false);
    json_put_node(&o, v);
    bool same = o.len == strlen(rule + n + 1) && memcmp(o.text, rule + n + 1, o.len) == 0;
    json_end(&o);
    return same;
}

static bool keeps(const wanted *w, const sample *s)
{
    int64_t chars = 0;
    for (int i = 0; i < s->n_message; i++)
        for (int k = 0; k < s->messages[i].n_part; k++)
            if (s->messages[i].parts[k].text) chars += (int64_t)strlen(s->messages[i].parts[k].text);
    if (s->n_message < w->min_messages || s->n_message > w->max_messages || chars > w->max_chars) return false;
    if (w->category && (!s->category || !listed(w->category, s->category))) return false;
    for (int i = 0; i < w->where.n; i++)
        if (!field_is(s, w->where.v[i])) return false;
    return true;
}

static status copy_rows(const wanted *w, const char *in, FILE *to, const char *out)
{
    dataset *d = NULL;
    TRY(dataset_open(&d, in));
    int64_t n = dataset_count(d), kept = 0;
    status st = ST_OK;
    progress *bar = progress_start("filter", n);
    for (int64_t i = 0; i < n && kept < w->limit && st == ST_OK; i++) {
        sample s;
        st = dataset_sample(d, i, &s);
        if (st != ST_OK) break;
        if (keeps(w, &s)) {
            json_out o;
            json_begin(&o, false);
            json_put_node(&o, s.row);
            if (fprintf(to, "%.*s\n", (int)o.len, o.text) < 0) st = FAIL(ST_EIO, "%s: %s", out, strerror(errno));
            json_end(&o);
            kept++;
        }
        sample_free(&s);
        progress_set(bar, i + 1, NULL);
    }
    progress_end(bar);
    dataset_close(d);
    if (st == ST_OK) printf("%s: %lld of %lld rows\n", out, (long long)kept, (long long)n);
    return st;
}

static void folder_of(const char *path, char *out, size_t cap)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(out, cap, ".");
    else
        snprintf(out, cap, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* Pictures are named relative to the file, so the result must lie next to it. */
static status same_folder(const char *a, const char *b)
{
    char fa[4096], fb[4096];
    folder_of(a, fa, sizeof fa);
    folder_of(b, fb, sizeof fb);
    if (!file_same(fa, fb))
        return args_usage("--out must be in the folder of %s: its picture paths are relative to it", a);
    return ST_OK;
}

status data_filter(int argc, char **argv)
{
    wanted w = {.max_messages = INT64_MAX, .max_chars = INT64_MAX, .limit = INT64_MAX};
    const char *out = NULL;
    bool helped = false;
    arg_list pos = {0};
    const arg table[] = {{"category", ARG_STR, &w.category, "NAME,...", "keep these categories"},
                         {"where", ARG_LIST, &w.where, "FIELD=VALUE", "keep rows whose field has this value"},
                         {"min-messages", ARG_INT, &w.min_messages, "N", "keep rows with at least N messages"},
                         {"max-messages", ARG_INT, &w.max_messages, "N", "keep rows with at most N messages"},
                         {"max-chars", ARG_INT, &w.max_chars, "N", "keep rows with at most N bytes of text"},
                         {"limit", ARG_INT, &w.limit, "N", "stop after N kept rows"},
                         {"out", ARG_STR, &out, "FILE", "the .jsonl to write, in the same folder"},
                         {.name = NULL}};
    TRY(args_parse(argc, argv, "copies the rows of FILE.jsonl that meet every condition",
                   "codedance data filter data/sft/data.jsonl --category rd_hard,rot_hard --where x_form=tool --out "
                   "data/sft/tool.jsonl",
                   table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1) return args_usage("one FILE.jsonl is needed");
    if (!out) return args_usage("--out FILE is needed");
    size_t n = strlen(pos.v[0]);
    if (n < 6 || strcmp(pos.v[0] + n - 6, ".jsonl") != 0)
        return args_usage("%s: only .jsonl files can be filtered", pos.v[0]);
    for (int i = 0; i < w.where.n; i++)
        if (!strchr(w.where.v[i], '=')) return args_usage("--where needs FIELD=VALUE, not \"%s\"", w.where.v[i]);
    TRY(same_folder(pos.v[0], out));
    char tmp[4200];
    snprintf(tmp, sizeof tmp, "%s.tmp.%ld", out, (long)getpid());
    FILE *to = fopen(tmp, "w");
    if (!to) return FAIL(ST_EIO, "%s: %s", tmp, strerror(errno));
    status st = copy_rows(&w, pos.v[0], to, out);
    if (fclose(to) != 0 && st == ST_OK) st = FAIL(ST_EIO, "%s: %s", out, strerror(errno));
    if (st == ST_OK && rename(tmp, out) != 0) st = FAIL(ST_EIO, "%s: %s", out, strerror(errno));
    if (st != ST_OK) unlink(tmp);
    return st;
}

/* ---- verify --------------------------------------------------------------------------------------------------- */

static status verify_shard(const char *path)
{
    shard *s = NULL;
    TRY(shard_open(&s, path));
    status st = shard_verify(s);
    shard_close(s);
    return st;
}

static status verify_shards(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode)) return verify_shard(path);
    struct dirent **entry = NULL;
    int n = scandir(path, &entry, NULL, alphasort);
    if (n < 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    status st = ST_OK;
    progress *bar = progress_start("checksums", n);
    for (int i = 0; i < n; i++) {
        char file[4400];
        size_t len = strlen(entry[i]->d_name);
        snprintf(file, sizeof file, "%s/%s", path, entry[i]->d_name);
        if (st == ST_OK && len > 3 && strcmp(entry[i]->d_name + len - 3, ".h5") == 0) st = verify_shard(file);
        free(entry[i]);
        progress_set(bar, i + 1, NULL);
    }
    progress_end(bar);
    free(entry);
    return st;
}

static status verify_row(dataset *d, int64_t i, bool decode, int64_t *images)
{
    sample s;
    TRY(dataset_sample(d, i, &s));
    status st = ST_OK;
    for (int k = 0; k < s.n_image && st == ST_OK && decode; k++) {
        image im = {0};
        st = dataset_image(d, s.images[k], &im);
        image_free(&im);
    }
    *images += s.n_image;
    sample_free(&s);
    return st;
}

status data_verify(int argc, char **argv)
{
    bool helped = false;
    arg_list pos = {0};
    const arg table[] = {{.name = NULL}};
    TRY(args_parse(argc, argv,
                   "reads every row and picture of PATH (.jsonl, .h5 or a folder of shards) and compares checksums",
                   "codedance data verify data/sft/shards", table, &pos, &helped));
    if (helped) return ST_OK;
    if (pos.n != 1) return args_usage("one PATH is needed");
    const char *path = pos.v[0];
    size_t len = strlen(path);
    bool jsonl = len > 6 && strcmp(path + len - 6, ".jsonl") == 0;
    if (!jsonl) TRY(verify_shards(path)); /* compares every picture's bytes with its content hash */
    dataset *d = NULL;
    TRY(dataset_open(&d, path));
    int64_t images = 0, n = dataset_count(d);
    status st = ST_OK;
    progress *bar = progress_start("verify", n);
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        st = verify_row(d, i, jsonl, &images);
        if (st != ST_OK) st = fail_within(st, "row %lld", (long long)i);
        progress_set(bar, i + 1, NULL);
    }
    progress_end(bar);
    dataset_close(d);
    if (st == ST_OK) printf("%s: ok, %lld rows, %lld pictures named\n", path, (long long)n, (long long)images);
    return st;
}
