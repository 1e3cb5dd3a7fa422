#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "sandbox/protocol.h"
#include "tests/common/boxes.h"
#include "tests/common/hostile.h"

enum { LANES = 6, HONEST = 3, SIDE = 24 };
static const double THINK_S = 0.03;

typedef enum stage { STAGE_FREE, STAGE_PRELUDE, STAGE_TURN, STAGE_AFTER } stage;
typedef struct lane {
    box *b;
    hostile_input *in;
    int turn;
    stage stage;
    double sent, due; /* due > 0: the turn waits for its time */
} lane;
typedef struct honest {
    box *b;
    long n, x; /* what its state has to be */
    bool busy;
    double sent;
} honest;

static struct {
    box_tier tier;
    const char *python, *only;
    bool cv2;
    box_pool *pool;
    box_input *picture;
    hostile_input *in;
    int n_in, n_bad, n_again, n_honest, n_boxd_fds, n_boxd_children;
    hostile_input *again[HOSTILE_FILES];
    hostile_witness witness;
    char *prelude;
    lane lanes[LANES];
    honest honest[HONEST];
    double worst_ms, latency[1 << 16];
    const char *worst;
} suite;

box_opts hostile_box_opts(void)
{
    box_opts o = test_box_opts();
    static const char *const with_cv2[] = {"numpy", "PIL.Image", "cv2", NULL};
    if (suite.cv2) o.imports = with_cv2;
    o.limits.wall_s = 2; /* on two busy processors, too, what ends by itself ends before that */
    o.limits.wall_grace_s = 0.5;
    o.limits.cpu_s = 4;
    return o;
}

static box_opts options(int lanes, int spares)
{
    box_opts o = hostile_box_opts();
    o.min_tier = suite.tier;
    o.python = suite.python;
    o.spares = spares;
    o.max_live = lanes + HONEST;
    return o;
}

static status pool_start(int lanes, int spares)
{
    box_opts o = options(lanes, spares);
    return box_pool_create(&suite.pool, &o);
}

static box *open_box(void *user)
{
    box *b = NULL;
    if (box_open(suite.pool, 1, suite.picture, &b) != ST_OK) fail_msg("box_open: %s", fail_message());
    box_set_user(b, user);
    return b;
}

static void submit(lane *l, stage s, const char *code)
{
    l->stage = s;
    l->sent = clock_now();
    if (box_submit(l->b, code, strlen(code)) != ST_OK) fail_msg("%s: %s", l->in->name, fail_message());
}

static void lane_start(lane *l, hostile_input *in)
{
    *l = (lane){.in = in, .b = open_box(l)};
    submit(l, STAGE_PRELUDE, suite.prelude);
}

/* Before every other input's turns, as a model would: their processes are made ahead meanwhile. Which ones these are
 * differs from tier to tier. */
static double pause_s(const lane *l)
{
    double own = l->turn < l->in->n_turn ? l->in->turn[l->turn].pause_s : 0;
    return own > 0 ? own : (l->in - suite.in + suite.tier) % 2 ? THINK_S : 0;
}

/* The next turn, now or when the loop finds it due. */
static void submit_turn(lane *l)
{
    double s = l->due > 0 ? 0 : pause_s(l);
    l->due = s > 0 ? clock_now() + s : 0;
    if (l->due > 0) return;
    bool more = l->turn < l->in->n_turn;
    submit(l, more ? STAGE_TURN : STAGE_AFTER, more ? l->in->turn[l->turn].code : "print(alive)");
}

static bool leaked(const char *name, const box_result *r)
{
    if (!strstr(r->text, suite.witness.secret) && !(r->error_message && strstr(r->error_message, suite.witness.secret)))
        return false;
    fprintf(stderr, "%s: the machine's secret was read\n", name);
    return true;
}

static double took_ms(const lane *l, const box_result *r) { return 1e3 * (clock_now() - l->sent) - r->queue_ms; }
static double most_ms(void) { return 1e3 * (options(0, 0).limits.wall_s + 1); }

static bool late(const lane *l, const box_result *r)
{
    double ms = took_ms(l, r), most = most_ms();
    if (ms > suite.worst_ms) {
        suite.worst_ms = ms;
        suite.worst = l->in->name;
    }
    if (ms <= most) return false;
    fprintf(stderr, "%s turn %d: %.0f ms (%.0f by its own account), at most %.0f\n", l->in->name, l->turn + 1, ms,
            r->wall_ms, most);
    return true;
}

static bool ran_out(const box_result *r)
{
    return r->verdict == BOX_TIMEOUT_SOFT || r->verdict == BOX_TIMEOUT_HARD || r->verdict == BOX_CPU;
}

static void lane_end(lane *l, bool ok)
{
    suite.n_bad += !ok;
    box_close(l->b);
    l->stage = STAGE_FREE;
}

static bool judge_after(const lane *l, const box_result *r)
{
    bool ok = r->verdict != BOX_INFRA;
    if (l->in->after == AFTER_ALIVE) ok = r->verdict == BOX_OK && !strcmp(r->text, "1\n") && !r->state_lost;
    if (l->in->after == AFTER_LOST) ok = r->verdict == BOX_DEAD || r->state_lost;
    if (!ok)
        fprintf(stderr, "%s: afterwards the state is not as expected: %s, lost %d, \"%.200s\" %s\n", l->in->name,
                box_verdict_name(r->verdict), r->state_lost, r->text, r->error_message ? r->error_message : "");
    return ok;
}

static void lane_result(lane *l, const box_result *r, bool alone)
{
    bool ok = !leaked(l->in->name, r);
    if (l->stage == STAGE_PRELUDE) {
        if (r->verdict != BOX_OK) {
            fprintf(stderr, "%s: its box does not start: %s %s: %s\n", l->in->name, box_verdict_name(r->verdict),
                    r->error_type, r->error_message ? r->error_message : "");
            lane_end(l, false);
            return;
        }
        submit_turn(l);
        return;
    }
    if (l->stage == STAGE_AFTER) {
        lane_end(l, judge_after(l, r) && ok);
        return;
    }
    bool rushed = ran_out(r) && !(l->in->turn[l->turn].verdicts >> r->verdict & 1);
    if (!alone && (rushed || took_ms(l, r) > most_ms())) {
        suite.again[suite.n_again++] = l->in; /* eight others want the processors: judged when it has them to itself */
        lane_end(l, ok);
        return;
    }
    ok = hostile_judge(l->in, l->turn, r) && !late(l, r) && ok;
    if (r->replayed && l->in->after == AFTER_ALIVE) {
        fprintf(stderr, "%s turn %d: it made the sandbox fail, and was run again\n", l->in->name, l->turn + 1);
        ok = false;
    }
    if (r->state_lost && l->in->after == AFTER_ALIVE) {
        fprintf(stderr, "%s turn %d: the state is gone\n", l->in->name, l->turn + 1);
        ok = false;
    }
    if (!ok) {
        lane_end(l, false);
    } else if (++l->turn < l->in->n_turn && l->in->turn[l->turn].fresh) {
        box_close(l->b);
        l->b = open_box(l);
        submit(l, STAGE_PRELUDE, suite.prelude);
    } else {
        submit_turn(l);
    }
}

/* ---- honest boxes beside them: state, files, pictures in and out have to stay right ---- */

static const char honest_first[] = "n, x = 0, 12345\n";
static const char honest_turn[] = "n += 1\nx = (x * 48271 + n) % 2147483647\n"
                                  "show(np.full((16, 24, 3), x % 251, np.uint8))\n"
                                  "print(n, x, img.getpixel((3, 5))[0], sum(range(1000)))\n";

static void honest_go(honest *h)
{
    const char *code = h->n < 0 ? honest_first : honest_turn;
    h->busy = true;
    h->sent = clock_now();
    if (box_submit(h->b, code, strlen(code)) != ST_OK) fail_msg("%s", fail_message());
}

static void honest_start(honest *h)
{
    *h = (honest){.n = -1, .x = 12345, .b = open_box(h)};
    honest_go(h);
}

static void honest_result(honest *h, const box_result *r)
{
    char text[96] = "";
    bool ok = r->verdict == BOX_OK;
    h->busy = false;
    if (++h->n > 0) {
        h->x = (h->x * 48271 + h->n) % 2147483647;
        snprintf(text, sizeof text, "%ld %ld 143 499500\n", h->n, h->x);
        ok = ok && r->n_image == 1 && r->images[0].w == 24 && r->images[0].h == 16;
        for (int i = 0; ok && i < 16 * 24 * 3; i++) ok = r->images[0].rgb[i] == h->x % 251;
        suite.latency[suite.n_honest++ & 0xffff] = 1e3 * (clock_now() - h->sent);
    }
    if (ok && !r->state_lost && !r->replayed && !strcmp(r->text, text)) return;
    if (suite.n_bad > 50) fail_msg("the sandbox is broken");
    fprintf(stderr, "an honest box was disturbed: %s %s, lost %d, \"%.200s\" for \"%s\", %d pictures\n",
            box_verdict_name(r->verdict), r->error_message ? r->error_message : "", r->state_lost, r->text, text,
            r->n_image);
    suite.n_bad++;
    box_close(h->b);
    honest_start(h);
}

/* ---- all inputs, lanes at a time ---- */

static void run_all(hostile_input **in, int n, int lanes, bool alone)
{
    int next = 0, busy = 0;
    for (int i = 0; i < HONEST; i++) honest_start(&suite.honest[i]);
    double until = clock_now() + 240;
    for (;;) {
        double now = clock_now();
        bool ending = next == n && busy == 0;
        int waiting = 0;
        for (int i = 0; i < lanes && next < n; i++)
            if (suite.lanes[i].stage == STAGE_FREE) lane_start(&suite.lanes[i], in[next++]);
        for (int i = 0; i < HONEST; i++) {
            honest *h = &suite.honest[i];
            if (!h->busy && !ending && now > h->sent + 0.05) honest_go(h);
            waiting += h->busy;
        }
        if (ending && !waiting) break;
        if (now > until) fail_msg("the suite hangs");
        for (int i = 0; i < lanes; i++)
            if (suite.lanes[i].stage != STAGE_FREE && suite.lanes[i].due > 0 && now > suite.lanes[i].due)
                submit_turn(&suite.lanes[i]);
        box *done[16];
        int k = box_poll(suite.pool, done, 16, 20);
        for (int i = 0; i < k; i++) {
            box_result r;
            box_result_take(done[i], &r);
            void *who = box_user(done[i]);
            if (who >= (void *)suite.lanes && who < (void *)(suite.lanes + LANES))
                lane_result(who, &r, alone);
            else
                honest_result(who, &r);
            box_result_free(&r);
        }
        busy = 0;
        for (int i = 0; i < lanes; i++) busy += suite.lanes[i].stage != STAGE_FREE;
    }
    for (int i = 0; i < HONEST; i++) box_close(suite.honest[i].b);
}

/* ---- what is left of them ---- */

static pid_t boxd_pid(void)
{
    DIR *d = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        char path[300], text[128] = "";
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        FILE *f = atoi(e->d_name) > 0 ? fopen(path, "r") : NULL;
        if (!f) continue;
        bool child = fscanf(f, "%*d %*s %*c %d", &parent) == 1 && parent == getpid();
        fclose(f);
        snprintf(path, sizeof path, "/proc/%.20s/cmdline", e->d_name);
        if (!child || !(f = fopen(path, "r"))) continue;
        size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        if (strlen(text) + 1 < n && !strcmp(text + strlen(text) + 1, "@boxd")) found = atoi(e->d_name);
    }
    if (d) closedir(d);
    return found;
}

static int open_fds(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static void processes_below(pid_t boxd, int *n)
{
    DIR *d = opendir("/proc");
    *n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[64], name[32] = "", state = 0;
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        FILE *f = atoi(e->d_name) > 0 ? fopen(path, "r") : NULL;
        if (!f) continue;
        if (fscanf(f, "%*d %31s %c %d", name, &state, &parent) == 3 && parent == boxd && state != 'Z') ++*n;
        fclose(f);
    }
    if (d) closedir(d);
}

static void nothing_is_left(void **s)
{
    (void)s;
    pid_t boxd = boxd_pid();
    int fds = 0, children = 1;
    assert_true(boxd > 0);
    for (double until = clock_now() + 2; clock_now() < until; usleep(10000)) {
        fds = open_fds(boxd);
        processes_below(boxd, &children);
        if (children == suite.n_boxd_children && fds == suite.n_boxd_fds) break;
    }
    assert_int_equal(children, suite.n_boxd_children);
    assert_int_equal(fds, suite.n_boxd_fds);
    assert_int_equal(hostile_witness_check(&suite.witness), 0);
}

/* ---- tests ---- */

static void every_input_meets_its_verdict(void **s)
{
    (void)s;
    hostile_input **list = calloc(HOSTILE_FILES, sizeof *list);
    int n = 0;
    for (int i = 0; i < suite.n_in; i++)
        if (!suite.in[i].has_fresh && !strstr(suite.in[i].needs, "cv2")) list[n++] = &suite.in[i];
    run_all(list, n, LANES, false);
    free(list);
    box_pool_destroy(suite.pool);
    assert_int_equal(suite.n_bad, 0);
}

/* One jail besides the honest ones', so that the next box is in the jail of the one before. */
static void the_next_box_is_as_new(void **s)
{
    (void)s;
    hostile_input **list = calloc(2 * HOSTILE_FILES, sizeof *list);
    int n = 0;
    for (int i = 0; i < suite.n_again; i++) list[n++] = suite.again[i];
    for (int i = 0; i < suite.n_in; i++)
        if (suite.in[i].has_fresh) list[n++] = &suite.in[i];
    suite.n_bad = 0;
    if (pool_start(1, 0) != ST_OK) fail_msg("%s", fail_message());
    run_all(list, n, 1, true);
    free(list);
    box_pool_destroy(suite.pool);
    assert_int_equal(suite.n_bad, 0);
}

static void pictures_in_opencv(void **s)
{
    (void)s;
    hostile_input *list[32];
    int n = 0;
    for (int i = 0; i < suite.n_in && n < 32; i++)
        if (strstr(suite.in[i].needs, "cv2")) list[n++] = &suite.in[i];
    suite.n_bad = 0;
    suite.cv2 = true;
    status st = n ? pool_start(2, 2) : ST_OK;
    suite.cv2 = false;
    if (n == 0) skip();
    if (st == ST_EUNAVAIL && strstr(fail_message(), "cv2")) {
        print_message("SKIP: %d inputs need OpenCV: %s\n", n, fail_message());
        skip();
    }
    if (st != ST_OK) fail_msg("%s", fail_message());
    run_all(list, n, 2, true);
    box_pool_destroy(suite.pool);
    assert_int_equal(suite.n_bad, 0);
}

char *hostile_prelude(const hostile_witness *w, box_tier tier)
{
    char facts[512], numbers[512], *text = NULL, *all = NULL;
    size_t cap = 0;
    FILE *f = fopen(SOURCE_DIR "/tests/hostile/prelude.py", "r");
    if (!f || getdelim(&text, &cap, 0, f) <= 0) return NULL;
    fclose(f);
    hostile_witness_describe(w, facts, sizeof facts);
    snprintf(numbers, sizeof numbers,
             "TIER, OP_HELLO, OP_CLAIM, CLAIM_SIZE = %d, %d, %d, %zu\n"
             "CLAIM_IMAGES, CLAIM_N_IMAGE, CLAIM_MESSAGE_LEN = %zu, %zu, %zu\n",
             (int)tier, OP_HELLO, OP_CLAIM, sizeof(wire_claim), offsetof(wire_claim, image),
             offsetof(wire_claim, n_image), offsetof(wire_claim, message_len));
    if (asprintf(&all, "%s%s%s", facts, numbers, text) < 0) all = NULL;
    free(text);
    return all;
}

static int by_value(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

static void summary(double seconds)
{
    int n = suite.n_honest < 1 << 16 ? suite.n_honest : 1 << 16;
    qsort(suite.latency, (size_t)n, sizeof *suite.latency, by_value);
    printf("%s: %d inputs in %.1f s, %d of them run again alone; the longest turn %.0f ms (%s)\n",
           box_tier_name(suite.tier), suite.n_in, seconds, suite.n_again, suite.worst_ms,
           suite.worst ? suite.worst : "");
    if (n)
        printf("%d honest turns beside them: p50 %.1f ms, p95 %.1f ms, worst %.1f ms\n", suite.n_honest,
               suite.latency[n / 2], suite.latency[n * 95 / 100], suite.latency[n - 1]);
}

int hostile_main(int argc, char **argv, box_tier tier)
{
    suite.tier = tier;
    suite.only = "";
    for (int i = 1; i < argc; i++) *(strchr(argv[i], '/') ? &suite.python : &suite.only) = argv[i];
    if (access(CODEDANCE_EXE, X_OK)) {
        printf("SKIP: %s cannot be run by this user\n", CODEDANCE_EXE);
        return 77;
    }
    if (!hostile_witness_open(&suite.witness)) {
        printf("SKIP: no sockets or files in /tmp for witnesses\n");
        return 77;
    }
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    uint8_t rgb[16 * 16 * 3];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = 143;
    rc = 1;
    status st = pool_start(1, 0);
    if (st == ST_OK) { /* what one pool leaves open is what all may */
        box_pool_destroy(suite.pool);
        usleep(300000);
        suite.n_boxd_fds = open_fds(boxd_pid());
        processes_below(boxd_pid(), &suite.n_boxd_children);
        st = pool_start(LANES, 4);
    }
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        rc = 77;
    } else if (st != ST_OK) {
        printf("%s\n", fail_message());
    } else if (box_pool_tier(suite.pool) != tier) {
        printf("SKIP: this machine gives %s, this run is about %s\n", box_tier_name(box_pool_tier(suite.pool)),
               box_tier_name(tier));
        box_pool_destroy(suite.pool);
        rc = 77;
    } else if (!(suite.prelude = hostile_prelude(&suite.witness, tier)) ||
               !hostile_read(SOURCE_DIR "/tests/hostile", tier, suite.only, &suite.in, &suite.n_in) ||
               box_input_create(&suite.picture, &(box_image){16, 16, rgb}, 1) != ST_OK) {
        printf("tests/hostile cannot be read\n");
    } else {
        const struct CMUnitTest tests[] = {cmocka_unit_test(every_input_meets_its_verdict),
                                           cmocka_unit_test(the_next_box_is_as_new),
                                           cmocka_unit_test(pictures_in_opencv), cmocka_unit_test(nothing_is_left)};
        double from = clock_now();
        rc = cmocka_run_group_tests(tests, NULL, NULL);
        summary(clock_now() - from);
        hostile_free(suite.in, suite.n_in);
        box_input_release(suite.picture);
    }
    free(suite.prelude);
    box_shutdown();
    hostile_witness_close(&suite.witness);
    return rc;
}
