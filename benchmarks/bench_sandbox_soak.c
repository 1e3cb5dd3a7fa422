/* Hostile and honest code side by side for a long time.
 *     bench_sandbox_soak [MINUTES [WIDE [NAME]]]     defaults 30, 12 hostile boxes at a time; NAME: only such inputs
 *
 * Random inputs of tests/hostile run beside honest boxes; one minute in five is for the honest ones alone, which gives
 * what "quiet" means on a machine that may have other work; an input that did not end as it has to is run again alone
 * then, since some of them measure times themselves, and only that counts. A line per minute; at the end a verdict,
 * exit status 1 if it is bad: resident memory or descriptors of supervisor and zygote grow, an honest box gets a wrong
 * answer or one three times as late as in quiet minutes (p95), an input ends in another verdict than it has to,
 * something is left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/common/boxes.h"
#include "core/clock.h"
#include "tests/common/hostile.h"

enum { LANES = 16, HONEST = 4, TRIES = 3, MINUTES = 24 * 60, SAMPLES = 1 << 20 };

typedef struct lane {
    box *b;
    const hostile_input *in;
    bool alone;
    int turn, tries, stage; /* 0 free, 1 prelude, 2 turn, 3 waiting before one */
    double sent, due;
} lane;

typedef struct honest {
    box *b;
    long n, x;
    bool busy;
    double sent, next;
} honest;

typedef struct samples {
    double *v;
    int n;
} samples;

typedef struct minute {
    double boxd_rss, zygote_rss;
    int boxd_fds, zygote_fds, groups, processes;
} minute;

static struct {
    box_pool *pool;
    box_input *picture;
    hostile_input *in;
    const hostile_input *usable[HOSTILE_FILES];
    int n_in, n_usable, wide;
    char *prelude;
    lane lanes[LANES];
    honest honest[HONEST];
    samples quiet, loaded, now; /* latencies of honest turns, ms, queue included */
    samples own[2], queue[2];   /* what of it was the turn's own by its result, and waiting: quiet, loaded */
    const hostile_input *doubt[HOSTILE_FILES];
    int hostile_turns, wrong, rushed, disturbed, doubts, n_doubt;
    double latest_ms;
    uint64_t random;
    minute at[MINUTES];
} s;

static uint64_t draw(void)
{
    s.random ^= s.random << 13;
    s.random ^= s.random >> 7;
    return s.random ^= s.random << 17;
}

static void note(samples *a, double v)
{
    if (!a->v) a->v = malloc(SAMPLES * sizeof *a->v);
    CHECK(a->v);
    if (a->n < SAMPLES) a->v[a->n++] = v;
}

/* ---- hostile boxes ---- */

static void submit(lane *l, int stage, const char *code)
{
    l->stage = stage;
    l->sent = clock_now();
    CHECK(box_submit(l->b, code, strlen(code)) == ST_OK);
}

static void lane_open(lane *l)
{
    CHECK(box_open(s.pool, draw(), s.picture, &l->b) == ST_OK);
    box_set_user(l->b, l);
    submit(l, 1, s.prelude);
}

static void lane_next(lane *l)
{
    const hostile_turn *t = &l->in->turn[l->turn];
    if (t->pause_s > 0 && l->stage != 3) {
        l->stage = 3;
        l->due = clock_now() + t->pause_s;
    } else {
        submit(l, 2, t->code);
    }
}

static void lane_start(lane *l, const hostile_input *in, int tries)
{
    *l = (lane){.in = in, .tries = tries};
    lane_open(l);
}

/* The input did not end as it has to. */
static void lane_failed(const lane *l)
{
    s.doubts++;
    if (l->alone)
        s.wrong++;
    else if (s.n_doubt < HOSTILE_FILES)
        s.doubt[s.n_doubt++] = l->in;
    else
        s.wrong++;
}

static void lane_result(lane *l, const box_result *r)
{
    double ms = 1e3 * (clock_now() - l->sent) - r->queue_ms;
    if (ms > s.latest_ms) s.latest_ms = ms;
    if (l->stage == 1 && r->verdict == BOX_OK) {
        lane_next(l);
        return;
    }
    bool ran_out = r->verdict == BOX_TIMEOUT_SOFT || r->verdict == BOX_TIMEOUT_HARD || r->verdict == BOX_CPU;
    bool expected = l->stage == 2 && l->in->turn[l->turn].verdicts >> r->verdict & 1;
    s.hostile_turns++;
    const hostile_input *again = NULL;
    if (ran_out && !expected && !l->alone &&
        l->tries + 1 < TRIES) { /* many want the processors: it gets another chance */
        s.rushed++;
        again = l->in;
    } else if (l->stage == 1) {
        fprintf(stderr, "%s: its box does not start: %s %s\n", l->in->name, box_verdict_name(r->verdict),
                r->error_message ? r->error_message : "");
        lane_failed(l);
    } else if (!hostile_judge(l->in, l->turn, r)) {
        lane_failed(l);
    } else if (++l->turn < l->in->n_turn) {
        bool fresh = l->in->turn[l->turn].fresh;
        if (fresh) box_close(l->b);
        if (fresh)
            lane_open(l);
        else
            lane_next(l);
        return;
    }
    box_close(l->b);
    l->stage = 0;
    if (again) lane_start(l, again, l->tries + 1);
}

/* ---- honest boxes: a few turns each, with state and pictures, then another box ---- */

static const char honest_first[] = "n, x = 0, 12345\n";
static const char honest_turn[] = "n += 1\nx = (x * 48271 + n) % 2147483647\n"
                                  "show(img.crop((0, 0, 16, 16)))\nprint(n, x, sum(range(1000)))\n";

static void honest_result(honest *h, const box_result *r, bool quiet)
{
    char text[96] = "";
    double ms = 1e3 * (clock_now() - h->sent);
    bool ok = r->verdict == BOX_OK && !r->state_lost;
    h->busy = false;
    h->next = clock_now() + 0.02 + 1e-3 * (double)(draw() % 60); /* the model writes */
    if (h->n++ >= 0) {
        h->x = (h->x * 48271 + h->n) % 2147483647;
        snprintf(text, sizeof text, "%ld %ld 499500\n", h->n, h->x);
        ok = ok && r->n_image == 1 && r->images[0].w == 16 && r->images[0].rgb[5] == 143;
    }
    note(quiet ? &s.quiet : &s.loaded, ms);
    note(&s.own[!quiet], r->wall_ms);
    note(&s.queue[!quiet], r->queue_ms);
    note(&s.now, ms);
    if (!ok || strcmp(r->text, text) != 0) {
        fprintf(stderr, "an honest box was disturbed: %s %s, lost %d, \"%.200s\" for \"%s\"\n",
                box_verdict_name(r->verdict), r->error_message ? r->error_message : "", r->state_lost, r->text, text);
        s.disturbed++;
        h->n = 99;
    }
    if (h->n < 12) return;
    box_close(h->b);
    h->b = NULL;
}

static void honest_go(honest *h)
{
    if (!h->b) {
        *h = (honest){.n = -1, .x = 12345};
        CHECK(box_open(s.pool, 7, s.picture, &h->b) == ST_OK);
        box_set_user(h->b, h);
    }
    const char *code = h->n < 0 ? honest_first : honest_turn;
    h->busy = true;
    h->sent = clock_now();
    CHECK(box_submit(h->b, code, strlen(code)) == ST_OK);
}

/* ---- the clock ---- */

/* One step of everything; hostile boxes are started only if they may, and those under way go on. */
static int step(bool hostile, bool honest_on, bool quiet)
{
    int busy = 0;
    for (int i = 0; i < s.wide && hostile; i++)
        if (!s.lanes[i].stage) lane_start(&s.lanes[i], s.usable[draw() % (uint64_t)s.n_usable], 0);
    double now = clock_now();
    for (int i = 0; i < s.wide; i++)
        if (s.lanes[i].stage == 3 && now >= s.lanes[i].due) lane_next(&s.lanes[i]);
    for (int i = 0; i < HONEST && honest_on; i++)
        if (!s.honest[i].busy && now >= s.honest[i].next) honest_go(&s.honest[i]);
    box *d[32];
    int k = box_poll(s.pool, d, 32, 2);
    for (int i = 0; i < k; i++) {
        box_result r;
        box_result_take(d[i], &r);
        void *who = box_user(d[i]);
        if (who >= (void *)s.lanes && who < (void *)(s.lanes + LANES))
            lane_result(who, &r);
        else
            honest_result(who, &r, quiet);
        box_result_free(&r);
    }
    int waiting = 0;
    for (int i = 0; i < LANES; i++) {
        busy += s.lanes[i].stage != 0;
        waiting += s.lanes[i].stage == 3;
    }
    for (int i = 0; i < HONEST; i++) busy += s.honest[i].busy;
    /* box_poll waits only for turns under way. A client that spins between them keeps a processor awake, and the quiet
     * minutes would be measured with one client, those beside hostile code, where some turn is always under way, with
     * another. */
    if (busy == waiting) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return busy;
}

static bool hostile_left(void)
{
    for (int i = 0; i < LANES; i++)
        if (s.lanes[i].stage) return true;
    return false;
}

/* Those that have to be looked at again, one after the other with nothing beside them. */
static void run_doubts(void)
{
    while (step(false, false, false)) continue;
    for (int i = 0; i < s.n_doubt; i++) {
        int wrong = s.wrong;
        lane_start(&s.lanes[0], s.doubt[i], 0);
        s.lanes[0].alone = true;
        while (step(false, false, true)) continue;
        printf("{\"again\": \"%s\", \"good\": %d}\n", s.doubt[i]->name, s.wrong == wrong);
    }
    s.n_doubt = 0;
}

static void measure(int m, const bench_pids *id, bool quiet)
{
    minute *a = &s.at[m];
    *a = (minute){(double)bench_proc(id->boxd, "status", "VmRSS") / 1024,
                  (double)bench_proc(id->zygote, "status", "VmRSS") / 1024,
                  bench_fds(id->boxd),
                  bench_fds(id->zygote),
                  bench_cgroups(id->boxd),
                  bench_descendants(id->boxd, NULL, 0)};
    printf(
        "{\"minute\": %d, \"quiet\": %d, \"boxd_mib\": %.2f, \"zygote_mib\": %.2f, \"boxd_fds\": %d, \"zygote_fds\": "
        "%d, \"cgroups\": %d, \"processes\": %d, \"honest\": %d, \"p50_ms\": %.2f, \"p95_ms\": %.2f, \"hostile\": %d, "
        "\"rushed\": %d, \"doubts\": %d, \"wrong\": %d, \"disturbed\": %d}\n",
        m + 1, quiet, a->boxd_rss, a->zygote_rss, a->boxd_fds, a->zygote_fds, a->groups, a->processes, s.now.n,
        bench_percentile(s.now.v, s.now.n, 0.5), bench_percentile(s.now.v, s.now.n, 0.95), s.hostile_turns, s.rushed,
        s.doubts, s.wrong, s.disturbed);
    fflush(stdout);
    s.now.n = 0;
}

/* Growth per minute by least squares over the second half: the first fills pools and caches. */
static double slope(int n, double (*of)(const minute *))
{
    double sx = 0, sy = 0, sxx = 0, sxy = 0;
    int from = n / 2, k = n - from;
    for (int i = from; i < n; i++) {
        double x = i, y = of(&s.at[i]);
        sx += x;
        sy += y;
        sxx += x * x;
        sxy += x * y;
    }
    double d = k * sxx - sx * sx;
    return d > 0 ? (k * sxy - sx * sy) / d : 0;
}
static double boxd_rss(const minute *a) { return a->boxd_rss; }
static double zygote_rss(const minute *a) { return a->zygote_rss; }
static double boxd_fds(const minute *a) { return a->boxd_fds; }
static double zygote_fds(const minute *a) { return a->zygote_fds; }

static bool verdict(int minutes, const hostile_witness *w, const bench_pids *id)
{
    double quiet = bench_percentile(s.quiet.v, s.quiet.n, 0.95),
           loaded = bench_percentile(s.loaded.v, s.loaded.n, 0.95);
    double mib[] = {slope(minutes, boxd_rss), slope(minutes, zygote_rss)};
    double fds[] = {slope(minutes, boxd_fds), slope(minutes, zygote_fds)};
    int seen = hostile_witness_check(w);
    double t = clock_now();
    int left = 1, groups = 1;
    while (clock_now() - t < 2 && (left || groups)) {
        usleep(20000);
        left = bench_descendants(id->boxd, NULL, 0) + (bench_fds(id->boxd) >= 0);
        groups = bench_cgroups(id->boxd);
    }
    /* A page now and then is no growth: 0.05 MiB a minute would be 70 MiB a day. */
    bool ok = !s.wrong && !s.disturbed && !seen && !left && !groups && loaded < 3 * quiet && mib[0] < 0.05 &&
              mib[1] < 0.05 && fds[0] < 0.5 && fds[1] < 0.5;
    printf("{\"verdict\": \"%s\", \"minutes\": %d, \"hostile_turns\": %d, \"rushed\": %d, \"doubts\": %d, \"wrong\": "
           "%d, \"longest_ms\": "
           "%.0f, \"honest_turns\": %d, \"disturbed\": %d, \"quiet_p50_ms\": %.2f, \"quiet_p95_ms\": %.2f, "
           "\"loaded_p50_ms\": %.2f, \"loaded_p95_ms\": %.2f, \"ratio_p95\": %.2f, \"own_p95_ms\": [%.2f, %.2f], "
           "\"queue_p95_ms\": [%.2f, %.2f], "
           "\"boxd_mib_per_min\": %.4f, \"zygote_mib_per_min\": %.4f, \"boxd_fds_per_min\": %.3f, "
           "\"zygote_fds_per_min\": %.3f, \"witnesses\": %d, \"left\": %d, \"cgroups_left\": %d}\n",
           ok ? "good" : "BAD", minutes, s.hostile_turns, s.rushed, s.doubts, s.wrong, s.latest_ms,
           s.quiet.n + s.loaded.n, s.disturbed, bench_percentile(s.quiet.v, s.quiet.n, 0.5), quiet,
           bench_percentile(s.loaded.v, s.loaded.n, 0.5), loaded, quiet > 0 ? loaded / quiet : 0,
           bench_percentile(s.own[0].v, s.own[0].n, 0.95), bench_percentile(s.own[1].v, s.own[1].n, 0.95),
           bench_percentile(s.queue[0].v, s.queue[0].n, 0.95), bench_percentile(s.queue[1].v, s.queue[1].n, 0.95),
           mib[0], mib[1], fds[0], fds[1], seen, left, groups);
    return ok;
}

int main(int argc, char **argv)
{
    hostile_witness w;
    CHECK(hostile_witness_open(&w));
    int rc = bench_boot(argc, argv);
    if (rc >= 0) return rc;
    int minutes = argc > 1 ? atoi(argv[1]) : 30;
    if (minutes < 1 || minutes > MINUTES) minutes = 30;
    s.wide = argc > 2 ? atoi(argv[2]) : 12;
    if (s.wide < 1 || s.wide > LANES) s.wide = 12;
    s.random = 88172645463325252u;
    box_opts o = hostile_box_opts();
    o.spares = 8;
    o.max_live = LANES + HONEST;
    s.pool = bench_pool(&o);
    box_tier tier = box_pool_tier(s.pool);
    uint8_t rgb[16 * 16 * 3];
    memset(rgb, 143, sizeof rgb);
    if (!(s.prelude = hostile_prelude(&w, tier)) ||
        !hostile_read(SOURCE_DIR "/tests/hostile", tier, argc > 3 ? argv[3] : "", &s.in, &s.n_in) || s.n_in == 0 ||
        box_input_create(&s.picture, &(box_image){16, 16, rgb}, 1) != ST_OK) {
        fprintf(stderr, "tests/hostile cannot be read\n");
        return 1;
    }
    int n = 0; /* without those that want modules this pool does not hold */
    for (int i = 0; i < s.n_in; i++)
        if (!s.in[i].needs[0]) s.usable[n++] = &s.in[i];
    CHECK(n > 0);
    s.n_usable = n;
    bench_pids id = bench_find();
    CHECK(id.zygote);
    double start = clock_now();
    for (int m = 0; m < minutes; m++) {
        bool quiet = m % 5 == 0;
        while (quiet && hostile_left()) step(false, false, false); /* what is under way ends first */
        if (quiet) run_doubts();
        if (quiet) usleep(500000);
        while (clock_now() < start + 60.0 * (m + 1)) step(!quiet, true, quiet);
        measure(m, &id, quiet);
    }
    run_doubts();
    for (int i = 0; i < HONEST; i++) box_close(s.honest[i].b);
    box_input_release(s.picture);
    box_pool_destroy(s.pool);
    box_shutdown();
    rc = verdict(minutes, &w, &id) ? 0 : 1;
    hostile_free(s.in, s.n_in);
    hostile_witness_close(&w);
    free(s.prelude);
    return rc;
}
