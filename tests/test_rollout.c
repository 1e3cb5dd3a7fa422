/* The rollout engine against a scripted policy and boxes that are doubles of the sandbox: this file defines every
 * function of sandbox/box.h, so the real ones are not linked. The real sandbox has its own run in test_rollout_box.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "rollout/engine.h"
#include "rollout/tool.h"
#include "tests/common/tiny_rollout.h"

/* ---- boxes: results depend on seed, state and code; arrival order on the pool's mood ---- */

struct box_pool {
    int mood, live, max_live, max_seen, fail_every, dead_every, calls, n_box, opened;
    box *list[4096];
};
struct box {
    box_pool *pool;
    void *user;
    uint64_t seed;
    int state, delay; /* delay 0: nothing runs */
    box_result res;
};
struct box_input {
    int n, refs;
};

const char *box_verdict_name(box_verdict v)
{
    static const char *const names[] = {
#define NAME(n) #n,
        BOX_VERDICTS(NAME)
#undef NAME
    };
    return names[v];
}
const char *box_tier_name(box_tier t) { return t == BOX_T3 ? "T3" : "T0"; }

status box_input_create(box_input **out, const box_image *img, int n)
{
    assert_true(n > 0 && img[0].rgb != NULL);
    *out = calloc(1, sizeof **out);
    (*out)->n = n;
    (*out)->refs = 1;
    return ST_OK;
}
static void drop_input(box_input *in)
{
    if (in && --in->refs == 0) free(in);
}
void box_input_release(box_input *in) { drop_input(in); }

static box_input *held_input[4096];
status box_open(box_pool *p, uint64_t seed, box_input *in, box **out)
{
    if (p->live == p->max_live) return FAIL(ST_EAGAIN, "%d boxes live", p->live);
    assert_non_null(in);
    in->refs++;
    box *b = calloc(1, sizeof *b);
    b->pool = p;
    b->seed = seed;
    held_input[p->n_box] = in;
    p->list[p->n_box++] = b;
    p->opened++;
    if (++p->live > p->max_seen) p->max_seen = p->live;
    *out = b;
    return ST_OK;
}
void box_set_user(box *b, void *user) { b->user = user; }
void *box_user(const box *b) { return b->user; }

static void answer(box *b, const char *code)
{
    box_result *r = &b->res;
    memset(r, 0, sizeof *r);
    r->verdict = BOX_OK;
    r->text = strdup("");
    rng_key k = rng_make_key(b->seed, RNG_TEST, (uint64_t)b->state, strlen(code), 0, 0);
    if (strstr(code, "show")) {
        r->n_image = 1;
        r->images = calloc(1, sizeof *r->images);
        r->images[0] = (box_image){20, 20, malloc(1200)};
        for (int i = 0; i < 1200; i++) r->images[0].rgb[i] = (uint8_t)rng_u32(k, (uint64_t)i);
    } else if (strstr(code, "print")) {
        char text[64];
        snprintf(text, sizeof text, "%u after %d\n", rng_u32(k, 0) % 100, b->state);
        free(r->text);
        r->text = strdup(text);
    } else if (strstr(code, "undefined")) {
        r->verdict = BOX_PY_ERROR;
        snprintf(r->error_type, sizeof r->error_type, "NameError");
        r->error_message = strdup("name 'undefined_name'\nis not defined");
        r->error_line = 1;
    }
    if (r->verdict == BOX_OK) b->state++;
}

status box_submit(box *b, const char *code, size_t len)
{
    assert_int_equal(b->delay, 0);
    assert_int_equal(strlen(code), len);
    box_pool *p = b->pool;
    b->delay = 1 + (int)((b->seed + (uint64_t)b->state * 7) % (uint64_t)(1 + p->mood));
    if (p->fail_every && ++p->calls % p->fail_every == 0)
        b->res = (box_result){.verdict = BOX_INFRA, .text = strdup(""), .error_message = strdup("it broke")};
    else if (p->dead_every && b->state && ++p->calls % p->dead_every == 0)
        b->res = (box_result){.verdict = BOX_DEAD, .text = strdup("")};
    else
        answer(b, code);
    return ST_OK;
}

int box_poll(box_pool *p, box **done, int max, int timeout_ms)
{
    int n = 0;
    do {
        for (int i = 0; i < p->n_box && n < max; i++) {
            int k = p->mood % 2 ? p->n_box - 1 - i : i;
            if (p->list[k]->delay > 1)
                p->list[k]->delay--;
            else if (p->list[k]->delay == 1 && p->list[k]->res.text) {
                p->list[k]->delay = 0;
                done[n++] = p->list[k];
            }
        }
    } while (n == 0 && timeout_ms-- > 0);
    return n;
}
void box_result_take(box *b, box_result *out)
{
    *out = b->res;
    memset(&b->res, 0, sizeof b->res);
}
void box_result_free(box_result *r)
{
    for (int i = 0; i < r->n_image; i++) free(r->images[i].rgb);
    free(r->images);
    free(r->text);
    free(r->error_message);
    memset(r, 0, sizeof *r);
}
void box_close(box *b)
{
    if (!b) return;
    box_pool *p = b->pool;
    for (int i = 0; i < p->n_box; i++) {
        if (p->list[i] != b) continue;
        drop_input(held_input[i]);
        p->n_box--;
        p->list[i] = p->list[p->n_box];
        held_input[i] = held_input[p->n_box];
        break;
    }
    p->live--;
    box_result_free(&b->res);
    free(b);
}

/* ---- a world ---- */

enum { PROMPTS = 6, GROUP = 4, N = PROMPTS * GROUP };

static tiny_policy world;
static tiny_prompts ask;

static model_family family;

static int open_world(void **state)
{
    (void)state;
    tiny_policy_open_as(&world, family, 1, 3);
    tiny_prompts_open(&ask, &world, PROMPTS);
    return 0;
}

static int open_qwen3(void **state)
{
    family = FAMILY_QWEN3;
    return open_world(state);
}

static int close_world(void **state)
{
    (void)state;
    tiny_prompts_close(&ask);
    tiny_policy_close(&world);
    return 0;
}

static const rollout_opts usual = {
    .group = GROUP,
    .temperature = 1,
    .max_turns = 4,
    .max_new_tokens = 24,
    .max_tokens = 400,
    .max_images = 8,
    .kv_tokens = 16384,
    .max_batch = 64,
    .prefill_tokens = 256,
    .tool_text_kib = 4,
};

typedef struct setting {
    rollout_opts o;
    box_pool pool;
} setting;

static setting plain(void) { return (setting){.o = usual, .pool = {.max_live = 4096}}; }

static status run(tiny_policy *w, setting *s, traj *out, rollout_stats *stats)
{
    engine *e = NULL;
    rollout_parts parts = {.m = w->m, .c = &w->chat, .ip = &w->ip, .boxes = s->o.max_turns ? &s->pool : NULL};
    status st = engine_create(&e, &parts, &s->o);
    if (st != ST_OK) return st;
    st = engine_run(e, ask.p, PROMPTS, out, stats, NULL);
    engine_destroy(e);
    assert_int_equal(s->pool.live, 0);
    return st;
}

static void free_all(traj *t, int n)
{
    for (int i = 0; i < n; i++) traj_free(&t[i]);
}

static void assert_same(const traj *a, const traj *b)
{
    for (int i = 0; i < N; i++)
        if (!traj_same(&a[i], &b[i])) fail_msg("trajectory %d differs", i);
}

/* What every result must be, whatever happened. */
static void check_form(const traj *t, const rollout_opts *o)
{
    uint8_t ban[4096] = {0};
    chat_ban(&world.chat, model_cfg(world.m)->vocab, ban);
    for (int i = 0; i < N; i++, t++) {
        assert_ptr_equal(t->sample, &ask.row[i / GROUP]);
        assert_int_equal(t->prompt, i / GROUP);
        assert_int_equal(t->index, i % GROUP);
        assert_true((t->n_tok <= o->max_tokens || t->n_turn == 0) && t->n_image <= o->max_images &&
                    t->n_turn <= o->max_turns + 1);
        assert_int_equal(t->answer != NULL, t->outcome == TRAJ_ANSWERED);
        int shown = 0, sampled = 0, calls = 0;
        for (int k = 0; k < t->n_tok; k++) {
            if (t->mask[k]) {
                assert_true(t->turn_of[k] >= 0 && k >= t->turns[t->turn_of[k]].start &&
                            k < t->turns[t->turn_of[k]].end);
                assert_false(ban[t->id[k]]);
                assert_true(t->logp[k] <= 0);
                sampled++;
            } else {
                assert_int_equal(t->turn_of[k], -1);
                assert_true(t->logp[k] == 0);
            }
        }
        for (int k = 0; k < t->n_image; k++) {
            assert_int_equal(t->id[t->run[k].start], world.chat.image_pad);
            assert_int_equal(t->id[t->run[k].start - 1], world.chat.vision_start);
        }
        for (int k = 0; k < t->n_turn; k++) {
            const traj_turn *turn = &t->turns[k];
            sampled -= turn->end - turn->start;
            assert_true(turn->end - turn->start <= o->max_new_tokens);
            assert_int_equal(turn->code != NULL, turn->tool.ran);
            assert_int_equal(turn->code != NULL, turn->tool_text != NULL);
            calls += turn->tool.ran;
            if (turn->n_image) assert_int_equal(turn->image_from, 1 + shown);
            shown += turn->n_image;
        }
        assert_int_equal(sampled, 0);
        assert_int_equal(t->n_image, 1 + shown);
        assert_true(calls <= o->max_turns);
        if (t->n_turn) assert_int_equal(t->n_tok, t->turns[t->n_turn - 1].end);
    }
}

/* ---- log-probs ---- */

static void check_logps(const traj *t, int max_tok, float inv_temp)
{
    int seen, differ = trainer_logps_differ(&world, t, N, max_tok, inv_temp, &seen);
    if (differ) fail_msg("%d of %d log-probs differ from the trainer's", differ, seen);
    assert_true(seen > 60);
}

static void test_logps_are_the_trainers(void **state)
{
    (void)state;
    setting s = plain();
    traj t[N];
    rollout_stats stats;
    assert_int_equal(run(&world, &s, t, &stats), ST_OK);
    check_form(t, &s.o);
    check_logps(t, 2048, 1);
    check_logps(t, 420, 1);
    int calls = 0, images = 0, failed = 0, seen[TRAJ_OUTCOME_COUNT] = {0};
    for (int i = 0; i < N; i++) {
        seen[t[i].outcome]++;
        images += t[i].n_image - 1;
        for (int k = 0; k < t[i].n_turn; k++) {
            calls += t[i].turns[k].tool.ran;
            failed += t[i].turns[k].tool.ran && !t[i].turns[k].tool.ok;
        }
    }
    assert_true(calls > 10 && images > 3 && failed > 2 && seen[TRAJ_ANSWERED] > 2); /* the policy does try everything */
    assert_int_equal(stats.tool_calls, calls);
    assert_int_equal(stats.preempted, 0);
    assert_true(stats.sampled > 60 && stats.wall_s > 0 && stats.prefilled > 0);
    free_all(t, N);
}

static void test_temperature(void **state)
{
    (void)state;
    setting s = plain();
    s.o.temperature = 0.7;
    traj t[N], u[N];
    assert_int_equal(run(&world, &s, t, NULL), ST_OK);
    check_logps(t, 1024, (float)(1 / 0.7));
    free_all(t, N);
    s.o.temperature = 0; /* greedy: members agree; log-probs at temperature 1 */
    s.o.max_turns = 0;
    assert_int_equal(run(&world, &s, u, NULL), ST_OK);
    for (int i = 1; i < GROUP; i++) {
        assert_int_equal(u[i].n_tok, u[0].n_tok);
        assert_memory_equal(u[i].id, u[0].id, 4 * (size_t)u[0].n_tok);
    }
    free_all(u, N);
}

/* Same identities, other circumstances: every bit equal. */
static void test_same_whatever_happens(void **state)
{
    (void)state;
    setting s = plain();
    traj want[N], got[N];
    rollout_stats stats;
    assert_int_equal(run(&world, &s, want, NULL), ST_OK);
    static const struct {
        int batch, prefill, kv, mood, live;
    } how[] = {
        {1, 256, 16384, 0, 4096}, {3, 256, 16384, 3, 4096}, {8, 16, 16384, 6, 4096}, {64, 23, 16384, 1, 5},
        {64, 256, 1200, 2, 4096}, {8, 64, 432, 5, 4096},    {64, 64, 432, 4, 2},     {3, 16, 432, 7, 1},
    };
    int preempted = 0;
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        s = plain();
        s.o.max_batch = how[i].batch;
        s.o.prefill_tokens = how[i].prefill;
        s.o.kv_tokens = how[i].kv;
        s.pool.mood = how[i].mood;
        s.pool.max_live = how[i].live;
        assert_int_equal(run(&world, &s, got, &stats), ST_OK);
        assert_same(want, got);
        assert_true(s.pool.max_seen <= how[i].live);
        if (how[i].kv == 432) assert_true(stats.preempted > 0);
        preempted += (int)stats.preempted;
        free_all(got, N);
    }
    assert_true(preempted > 5);
    tiny_policy two;
    tiny_policy_open_as(&two, family, 2, 3);
    s = plain();
    assert_int_equal(run(&two, &s, got, NULL), ST_OK);
    assert_same(want, got);
    free_all(got, N);
    tiny_policy_close(&two);
    free_all(want, N);
}

static void test_members_differ(void **state)
{
    (void)state;
    setting s = plain();
    s.o.max_turns = 0;
    traj t[N];
    assert_int_equal(run(&world, &s, t, NULL), ST_OK);
    int equal = 0, pairs = 0;
    for (int g = 0; g < PROMPTS; g++) {
        for (int i = 0; i < GROUP; i++) {
            for (int j = 0; j < i; j++) {
                const traj *a = &t[g * GROUP + i], *b = &t[g * GROUP + j];
                equal += a->n_tok == b->n_tok && memcmp(a->id, b->id, 4 * (size_t)a->n_tok) == 0;
                pairs++;
            }
        }
    }
    assert_true(equal < pairs / 2);
    for (int i = 0; i < N; i++)
        assert_true(t[i].outcome == TRAJ_ANSWERED || t[i].outcome == TRAJ_NO_ANSWER || t[i].outcome == TRAJ_TURN_CUT);
    free_all(t, N);
}

/* ---- budgets ---- */

static int count_outcome(rollout_opts o, traj_outcome want)
{
    setting s = plain();
    s.o = o;
    traj t[N];
    int n = 0;
    assert_int_equal(run(&world, &s, t, NULL), ST_OK);
    check_form(t, &o);
    for (int i = 0; i < N; i++) n += t[i].outcome == want;
    free_all(t, N);
    return n;
}

static void test_budgets(void **state)
{
    (void)state;
    rollout_opts o = usual;
    o.max_turns = 1;
    assert_true(count_outcome(o, TRAJ_MAX_TURNS) > 0);
    o = usual;
    o.max_new_tokens = 1; /* a turn without its end never counts, whatever it says */
    assert_int_equal(count_outcome(o, TRAJ_TURN_CUT), N);
    o = usual;
    o.max_images = 1;
    assert_true(count_outcome(o, TRAJ_MAX_IMAGES) > 0);
    o = usual;
    o.max_images = 0;
    traj t[N];
    setting s = plain();
    s.o = o;
    assert_int_equal(run(&world, &s, t, NULL), ST_OK); /* the prompts' own pictures exceed it */
    for (int i = 0; i < N; i++) assert_true(t[i].outcome == TRAJ_MAX_IMAGES && t[i].n_turn == 0);
    free_all(t, N);
    o = usual;
    for (o.max_tokens = 20; o.max_tokens < 120; o.max_tokens += 9) assert_true(count_outcome(o, TRAJ_MAX_TOKENS) > 0);
    o = usual;
    assert_true(count_outcome(o, TRAJ_NO_ANSWER) > 0);
}

static void test_sizes_are_checked(void **state)
{
    (void)state;
    traj t[N];
    setting s = plain();
    s.o.kv_tokens = 400;
    assert_int_equal(run(&world, &s, t, NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "rollout.kv_tokens"));
    s = plain();
    s.o.prefill_tokens = 3; /* a picture is 4 tokens */
    assert_int_equal(run(&world, &s, t, NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "rollout.prefill_tokens"));
    engine *e;
    rollout_parts parts = {.m = world.m, .c = &world.chat, .ip = &world.ip};
    assert_int_equal(engine_create(&e, &parts, &usual), ST_EINVAL); /* turns without a sandbox */
    s = plain();
    s.o.max_turns = 0;
    assert_int_equal(engine_create(&e, &parts, &s.o), ST_OK);
    s.o.group = 1;
    s.o.temperature = 0;
    assert_int_equal(engine_set_opts(e, &s.o), ST_OK);
    s.o.max_batch = 2;
    assert_int_equal(engine_set_opts(e, &s.o), ST_EINVAL);
    assert_int_equal(engine_opts(e)->max_batch, 64);
    engine_destroy(e);
}

/* ---- tools ---- */

static void test_infra(void **state)
{
    (void)state;
    setting s = plain();
    traj want[N], got[N];
    assert_int_equal(run(&world, &s, want, NULL), ST_OK);
    s = plain();
    s.pool.fail_every = 7; /* the box library tried twice: nobody else notices */
    s.pool.mood = 3;
    assert_int_equal(run(&world, &s, got, NULL), ST_OK);
    int equal = 0, infra = 0;
    for (int i = 0; i < N; i++) {
        infra += got[i].outcome == TRAJ_INFRA;
        equal += traj_same(&want[i], &got[i]);
    }
    assert_true(infra > 0 && equal > 0 && equal + infra == N);
    free_all(got, N);
    s = plain();
    s.pool.dead_every = 3; /* lost by the code's own doing, and it was told: on in a fresh box */
    assert_int_equal(run(&world, &s, got, NULL), ST_OK);
    check_form(got, &s.o);
    int calls = 0;
    for (int i = 0; i < N; i++) {
        assert_int_not_equal(got[i].outcome, TRAJ_INFRA);
        calls += got[i].n_turn > 0 && got[i].turns[0].tool.ran;
    }
    assert_true(s.pool.opened > calls);
    free_all(got, N);
    s = plain();
    s.pool.fail_every = 1;
    assert_int_equal(run(&world, &s, got, NULL), ST_OK);
    check_form(got, &s.o);
    for (int i = 0; i < N; i++) {
        bool called = want[i].turns[0].tool.ran;
        assert_int_equal(got[i].outcome == TRAJ_INFRA, called);
        if (!called) continue;
        assert_string_equal(got[i].turns[0].tool.verdict, "INFRA");
        assert_string_equal(got[i].turns[0].tool_text, "it broke");
    }
    free_all(got, N);
    free_all(want, N);
}

static void test_shuffle(void **state)
{
    (void)state;
    traj want[N], got[N], again[N];
    setting s = plain();
    assert_int_equal(run(&world, &s, want, NULL), ST_OK);
    s = plain();
    s.o.shuffle_tools = true;
    assert_int_equal(run(&world, &s, got, NULL), ST_OK);
    check_form(got, &s.o);
    check_logps(got, 2048, 1);
    int first = 0, own = 0;
    for (int i = 0; i < N; i++) {
        if (want[i].n_turn == 0 || want[i].turns[0].n_image == 0) continue;
        first++;
        own += memcmp(want[i].images[1].view.rgb, got[i].images[1].view.rgb, 56 * 56 * 3) == 0;
    }
    assert_true(first > 1);
    assert_int_equal(own, 0);
    s.pool.mood = 5;
    assert_int_equal(run(&world, &s, again, NULL), ST_OK);
    assert_same(got, again);
    free_all(again, N);
    free_all(got, N);
    free_all(want, N);
}

static void test_force(void **state)
{
    (void)state;
    static char *tools[] = {TINY_ZOOM, TINY_PRINT, ("la" TINY_PRINT)}, *direct[] = {TINY_ANSWER}, *none[] = {""};
    int zoom = tokenizer_id(world.tok, TINY_ZOOM), print = tokenizer_id(world.tok, TINY_PRINT);
    setting s = plain();
    traj t[N], u[N];
    s.o.force = FORCE_TOOL;
    assert_int_equal(run(&world, &s, t, NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "rollout.tool_openings"));
    s.o.tool_openings = (cfg_strings){1, none};
    assert_int_equal(run(&world, &s, t, NULL), ST_EINVAL);
    s.o.tool_openings = (cfg_strings){3, tools};
    s.o.max_new_tokens = 2;
    assert_int_equal(run(&world, &s, t, NULL), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "rollout.max_new_tokens"));
    s.o.max_new_tokens = 24;
    assert_int_equal(run(&world, &s, t, NULL), ST_OK);
    int n_zoom = 0, n_print = 0;
    for (int i = 0; i < N; i++) {
        const traj_turn *first = &t[i].turns[0];
        bool la = strncmp(first->text, "la", 2) == 0;
        assert_true(strncmp(first->text,
                            la                              ? tools[2]
                            : t[i].id[first->start] == zoom ? TINY_ZOOM
                                                            : TINY_PRINT,
                            20) == 0);
        n_zoom += t[i].id[first->start] == zoom;
        n_print += t[i].id[first->start] == print;
        assert_int_equal(t[i].mask[first->start], 0); /* given, not learned */
        assert_int_equal(t[i].turn_of[first->start], -1);
        assert_true(t[i].logp[first->start] == 0);
        assert_int_equal(t[i].mask[first->end - 1], 1);
    }
    assert_true(n_zoom > 2 && n_print > 2); /* the policy chose */
    check_logps(t, 2048, 1);
    s.o.max_batch = 3;
    s.o.kv_tokens = 432;
    assert_int_equal(run(&world, &s, u, NULL), ST_OK);
    assert_same(t, u);
    free_all(t, N);
    free_all(u, N);
    s = plain();
    s.o.force = FORCE_DIRECT;
    s.o.direct_openings = (cfg_strings){1, direct};
    assert_int_equal(run(&world, &s, t, NULL), ST_OK);
    for (int i = 0; i < N; i++) {
        assert_int_equal(strncmp(t[i].turns[0].text, TINY_ANSWER, strlen(TINY_ANSWER)), 0);
        assert_true(t[i].outcome == TRAJ_ANSWERED || t[i].outcome == TRAJ_TURN_CUT || t[i].n_turn > 1);
    }
    free_all(t, N);
}

static void test_tool_text(void **state)
{
    (void)state;
    rollout_opts o = usual;
    tool_result t;
    struct {
        box_result r;
        const char *cls, *msg;
        bool ok;
    } row[] = {
        {{.verdict = BOX_OK, .text = "5\n\n"}, "5", "5", true},
        {{.verdict = BOX_OK, .text = "\n"}, "No output.", "No output.", false},
        {{.verdict = BOX_PY_ERROR,
          .text = "half\n",
          .error_type = "KeyError",
          .error_message = "a\nb",
          .error_line = 3},
         "Error: KeyError",
         "half\nError: KeyError: a b (line 3)",
         false},
        {{.verdict = BOX_PY_ERROR,
          .text = "",
          .error_type = "ZeroDivisionError",
          .error_message = "division by zero",
          .error_source = "b = a / 0\n",
          .error_line = 2},
         "Error: ZeroDivisionError",
         "Error: ZeroDivisionError: division by zero (line 2: b = a / 0 )",
         false},
        {{.verdict = BOX_TIMEOUT_SOFT, .text = "", .error_line = 7, .error_source = "while x:"},
         "Error: timeout",
         "Error: timeout (line 7: while x:)",
         false},
        {{.verdict = BOX_OOM, .text = ""}, "Error: out of memory", "Error: out of memory", false},
        {{.verdict = BOX_SIGNAL, .text = ""}, "Error: killed", "Error: killed", false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        for (int mode = TOOL_ERROR_CLASS; mode <= TOOL_ERROR_MESSAGE; mode++) {
            o.tool_error = mode;
            assert_int_equal(tool_result_make(&t, &row[i].r, &o, &world.ip, 256), ST_OK);
            assert_string_equal(t.text, mode ? row[i].msg : row[i].cls);
            assert_int_equal(t.rec.ok, row[i].ok);
            assert_string_equal(t.rec.verdict, box_verdict_name(row[i].r.verdict));
            tool_result_free(&t);
        }
    }
    /* a long text is cut between characters, with a notice */
    char *text = malloc(9001);
    for (int i = 0; i < 9000; i += 3) memcpy(text + i, "\xe2\x82\xac", 4);
    box_result r = {.verdict = BOX_OK, .text = text};
    assert_int_equal(tool_result_make(&t, &r, &o, &world.ip, 256), ST_OK);
    assert_true(t.rec.truncated && t.rec.ok);
    assert_memory_equal(t.text + 3072, "\n[... 1,635 characters left out ...]\n\xe2\x82\xac", 40);
    assert_string_equal(t.text + strlen(t.text) - 3, "\xe2\x82\xac");
    tool_result_free(&t);
    r.truncated = true; /* the sandbox left out some as well */
    assert_int_equal(tool_result_make(&t, &r, &o, &world.ip, 256), ST_OK);
    assert_non_null(strstr(t.text, "\n[... more than 1,635 characters left out ...]\n"));
    tool_result_free(&t);
    free(text);
    /* pictures the model can't be shown are dropped, and say so */
    box_image bad = {1, 1000, calloc(3000, 1)};
    r = (box_result){.verdict = BOX_OK, .text = "", .n_image = 1, .images = &bad};
    assert_int_equal(tool_result_make(&t, &r, &o, &world.ip, 256), ST_OK);
    assert_true(t.n_image == 0 && !t.rec.ok && strstr(t.text, "[image dropped: "));
    tool_result_free(&t);
    bad.w = 10, bad.h = 100;
    assert_int_equal(tool_result_make(&t, &r, &o, &world.ip, 1), ST_OK);
    assert_true(t.n_image == 0 && strstr(t.text, "the limit is 1"));
    tool_result_free(&t);
    free(bad.rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tool_text),         cmocka_unit_test(test_logps_are_the_trainers),
        cmocka_unit_test(test_temperature),       cmocka_unit_test(test_same_whatever_happens),
        cmocka_unit_test(test_members_differ),    cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_sizes_are_checked), cmocka_unit_test(test_infra),
        cmocka_unit_test(test_shuffle),           cmocka_unit_test(test_force),
    };
    const struct CMUnitTest again[] = {cmocka_unit_test(test_logps_are_the_trainers),
                                       cmocka_unit_test(test_temperature),
                                       cmocka_unit_test(test_same_whatever_happens)};
    int failed = cmocka_run_group_tests(tests, open_world, close_world);
    return failed + cmocka_run_group_tests_name("qwen3_vl", again, open_qwen3, close_world);
}
