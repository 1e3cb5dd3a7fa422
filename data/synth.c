#include "data/synth.h"

#include "core/log.h"
#include "core/thread.h"
#include "data/file.h"
#include "data/hash.h"
#include "data/synth_part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Shares of the categories, in the order of SYNTH_CATEGORIES; the held-out pair is only drawn when asked for. */
static const float MIX_SFT[SYNTH_CATEGORY_COUNT] = {.18f, .20f, .17f, .16f, .13f, .16f, 0, .16f};
/* Easy-heavy: with fewer easy prompts the policy never finds out that it can do without code. */
static const float MIX_PROMPTS[SYNTH_CATEGORY_COUNT] = {.28f, .28f, .10f, .13f, .08f, .13f, 0, .08f};

/* Single cards for attribute learning: all sizes and turns the policy will see, mostly readable ones. */
typedef struct look {
    synth_category category;
    int tile_scale;
    bool zoomed;
    float share;
} look;
static const look LOOKS[] = {
    {SYNTH_RD_EASY, 32, false, .32f}, {SYNTH_ROT_HARD, 32, false, .08f}, {SYNTH_RD_HARD, 1, true, .16f},
    {SYNTH_ROT_HARD, 1, true, .10f},  {SYNTH_CNT_EASY, 32, false, .28f}, {SYNTH_RD_HARD, 1, false, .04f},
    {SYNTH_ROT_HARD, 1, false, .04f}, {SYNTH_CNT_HARD, 1, false, .04f}, {SYNTH_RD_MID, 2, false, .03f},
    {SYNTH_RD_MID, 4, false, .03f},   {SYNTH_RD_MID, 8, false, .12f},   {SYNTH_RD_MID, 16, false, .16f},
};
enum { LOOK_COUNT = sizeof LOOKS / sizeof LOOKS[0], BATCH = 256 };

/* Picks the category furthest behind its share: counts follow the mix to within one row. */
typedef struct quota {
    int n;
    double share[SYNTH_CATEGORY_COUNT + LOOK_COUNT], given[SYNTH_CATEGORY_COUNT + LOOK_COUNT];
} quota;

static int quota_next(quota *q)
{
    int best = 0;
    for (int i = 0; i < q->n; i++) q->given[i] += q->share[i];
    for (int i = 1; i < q->n; i++)
        if (q->given[i] > q->given[best]) best = i;
    q->given[best] -= 1;
    return best;
}

static status quota_init(quota *q, const float *share, int n)
{
    double total = 0;
    memset(q, 0, sizeof *q);
    q->n = n;
    for (int i = 0; i < n; i++) {
        if (!(share[i] >= 0) || share[i] > 1e6f)
            return FAIL(ST_EINVAL, "mix: weight of category %d must be between 0 and 1e6", i);
        total += share[i];
    }
    if (!(total > 0)) return FAIL(ST_EINVAL, "mix: at least one category needs a positive weight");
    for (int i = 0; i < n; i++) q->share[i] = share[i] / total;
    return ST_OK;
}

typedef struct job {
    const synth_opts *o;
    const char *dir;
    uint64_t split;
    int64_t first;
    int plan[BATCH]; /* category, or SYNTH_CATEGORY_COUNT + look */
    synth_row row[BATCH];
    status st[BATCH];
    char error[BATCH][512];
} job;

static status write_all(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return FAIL(ST_EIO, "%s", strerror(k < 0 ? errno : ENOSPC));
        p += k, n -= (size_t)k;
    }
    return ST_OK;
}

/* A file of the same name and length is the same picture: names are content hashes. */
static status write_picture(const char *dir, const synth_picture *p)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s/img/%s", dir, p->name);
    if (stat(path, &info) == 0 && info.st_size == (off_t)p->n) return ST_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    status st = write_all(fd, p->bytes, p->n);
    if (close(fd) != 0 && st == ST_OK) st = FAIL(ST_EIO, "%s", strerror(errno));
    if (st != ST_OK) {
        unlink(path);
        return fail_within(st, "%s", path);
    }
    return ST_OK;
}

static status make_row(job *j, int at)
{
    const synth_opts *o = j->o;
    uint64_t index = (uint64_t)(j->first + at);
    rng scene_rng = {rng_make_key(o->seed, RNG_SYNTH, j->split, index, 0, 0), 0};
    rng words = {rng_make_key(o->seed, RNG_SYNTH, j->split, index, 1, 0), 0};
    char id[96];
    snprintf(id, sizeof id, "%s-%06lld", o->split, (long long)index);
    synth_ask ask = {.id = id, .kind = o->kind};
    synth_scene s;
    int plan = j->plan[at];
    if (plan >= SYNTH_CATEGORY_COUNT) {
        const look *l = &LOOKS[plan - SYNTH_CATEGORY_COUNT];
        ask.describe = o->kind != SYNTH_LABELS;
        ask.zoomed = l->zoomed;
        synth_draw(&s, l->category, l->tile_scale, &scene_rng);
    } else {
        synth_draw(&s, (synth_category)plan, o->tile_scale, &scene_rng);
    }
    status st = synth_row_write(&j->row[at], &s, &ask, &words);
    synth_scene_free(&s);
    if (st != ST_OK) return fail_within(st, "row %s", id);
    for (int i = 0; i < j->row[at].n_picture; i++) TRY(write_picture(j->dir, &j->row[at].picture[i]));
    return ST_OK;
}

static void make_rows(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    job *j = ctx;
    for (int i = begin; i < end; i++) {
        j->st[i] = make_row(j, i);
        if (j->st[i] != ST_OK) snprintf(j->error[i], sizeof j->error[i], "%s", fail_message());
    }
}

static status check_opts(const synth_opts *o)
{
    if (o->n < 1) return FAIL(ST_EINVAL, "number of rows must be at least 1");
    if (!o->split || !*o->split || strlen(o->split) > 64 || strpbrk(o->split, "/\\\"\n"))
        return FAIL(ST_EINVAL, "split must be a name of 1 to 64 characters without slashes or quotes");
    if (o->kind == SYNTH_LABELS && (o->mix || o->tile_scale))
        return FAIL(ST_EINVAL,
                    "label rows have a mix and tile sizes of their own; leave out the mix and the tile scale");
    if (!(o->describe >= 0 && o->describe <= 1)) return FAIL(ST_EINVAL, "share of describe rows must be in [0,1]");
    const float *mix = o->mix ? o->mix : o->kind == SYNTH_PROMPTS ? MIX_PROMPTS : MIX_SFT;
    bool cards = mix[SYNTH_SCN_HARD] > 0 || mix[SYNTH_SCN_ROT] > 0;
    int s = o->tile_scale;
    if (s && s != 1 && s != 2 && s != 4 && s != 8 && s != 16 && s != 32)
        return FAIL(ST_EINVAL, "tile scale %d: must be 1, 2, 4, 8, 16 or 32", s);
    if (s > 8 && cards)
        return FAIL(ST_EINVAL, "tile scale %d does not fit the cards of scn_hard and scn_rot; give a mix without them",
                    s);
    return ST_OK;
}

/* Plans, draws and writes rows [j->first, j->first + n) and appends their lines to f. */
static status write_batch(job *j, thread_pool *pool, quota *mix, quota *looks, int n, FILE *f)
{
    const synth_opts *o = j->o;
    for (int i = 0; i < n; i++) {
        rng coin = {rng_make_key(o->seed, RNG_SYNTH, j->split, (uint64_t)(j->first + i), 2, 0), 0};
        bool describe = o->kind == SYNTH_LABELS ||
                        ((o->kind == SYNTH_SFT || o->kind == SYNTH_DIRECT) && rng_next(&coin) < o->describe);
        j->plan[i] = describe ? SYNTH_CATEGORY_COUNT + quota_next(looks) : quota_next(mix);
    }
    thread_pool_for(pool, n, 1, make_rows, j);
    status st = ST_OK;
    for (int i = 0; i < n; i++) {
        const json_out *line = &j->row[i].line;
        if (st == ST_OK && j->st[i] != ST_OK) st = FAIL(j->st[i], "%s", j->error[i]);
        if (st == ST_OK && (fwrite(line->text, 1, line->len, f) != line->len || fputc('\n', f) == EOF))
            st = FAIL(ST_EIO, "%s/data.jsonl: %s", j->dir, strerror(errno));
        synth_row_free(&j->row[i]);
    }
    return st;
}

status synth_write(const char *dir, const synth_opts *o)
{
    TRY(check_opts(o));
    char path[4096], tmp[4128];
    TRY(file_join(path, sizeof path - 64, dir, "img"));
    TRY(file_make_dir(path));
    quota mix, looks;
    float share[LOOK_COUNT];
    for (int i = 0; i < LOOK_COUNT; i++) share[i] = LOOKS[i].share;
    TRY(quota_init(&looks, share, LOOK_COUNT));
    TRY(quota_init(&mix, o->mix ? o->mix : o->kind == SYNTH_PROMPTS ? MIX_PROMPTS : MIX_SFT, SYNTH_CATEGORY_COUNT));

    snprintf(path, sizeof path, "%s/data.jsonl", dir);
    snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
    status st = ST_OK;
    thread_pool *pool = NULL;
    progress *bar = NULL;
    job *j = calloc(1, sizeof *j);
    FILE *f = fopen(tmp, "w");
    if (!j) TRY_OR(FAIL(ST_ENOMEM, "no memory for a batch of rows"), out);
    if (!f) TRY_OR(FAIL(ST_EIO, "%s: %s", tmp, strerror(errno)), out);
    TRY_OR(thread_pool_create(&pool, o->threads > 0 ? o->threads : thread_cpus()), out);
    j->o = o, j->dir = dir, j->split = hash_bytes(o->split, strlen(o->split), 0);
    if (o->progress) bar = progress_start("synth", o->n);
    for (; j->first < o->n; j->first += BATCH) {
        int n = o->n - j->first < BATCH ? (int)(o->n - j->first) : BATCH;
        TRY_OR(write_batch(j, pool, &mix, &looks, n, f), out);
        progress_set(bar, j->first + n, NULL);
    }
    if (fflush(f) != 0 || fsync(fileno(f)) != 0) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
out:
    progress_end(bar);
    thread_pool_destroy(pool);
    free(j);
    if (f && fclose(f) != 0 && st == ST_OK) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    if (f && st == ST_OK && rename(tmp, path) != 0) st = FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    if (f && st != ST_OK) unlink(tmp);
    return st;
}
