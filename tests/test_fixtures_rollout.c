/* Rollouts of every family: sampled tokens and their log-probs don't depend on batch size, chunked prefill or
 * preemption, and the trainer gives the same bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/common/subject.h"
#include "tests/common/tiny_rollout.h"

enum { GROUP = 4, MAX_TRAJ = FIXTURE_CHATS * GROUP };

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static rollout_opts options(int64_t kv_tokens, int64_t max_batch, int64_t prefill)
{
    return (rollout_opts){.group = GROUP,
                          .temperature = 1.25,
                          .max_new_tokens = 14,
                          .max_images = 8,
                          .kv_tokens = kv_tokens,
                          .max_batch = max_batch,
                          .prefill_tokens = prefill,
                          .tool_text_kib = 1};
}

static rollout_stats roll(const subject *s, const rollout_prompt *p, const rollout_opts *o, traj *t)
{
    engine *e = NULL;
    rollout_stats stats;
    rollout_parts parts = {.m = s->m, .c = &s->chat, .ip = &s->ip};
    ok(engine_create(&e, &parts, o));
    ok(engine_run(e, p, s->n, t, &stats, NULL));
    engine_destroy(e);
    return stats;
}

static int64_t preempted; /* over all fixtures */

static void check_rollout(fixture *f)
{
    subject s;
    prompt_row row[FIXTURE_CHATS];
    rollout_prompt p[FIXTURE_CHATS];
    traj wide[MAX_TRAJ] = {{0}}, tight[MAX_TRAJ] = {{0}};
    subject_open(&s, f);
    for (int k = 0; k < s.n; k++) {
        ok(prompt_load(&row[k], s.data, k, &s.ip, false));
        p[k] = (rollout_prompt){.sample = &row[k].s,
                                .prompt = k,
                                .seed = 3,
                                .prompt_id = (uint64_t)k,
                                .n_image = row[k].n_image,
                                .view = row[k].view};
    }
    int n = s.n * GROUP, longest = 0, seen = 0;
    for (int k = 0; k < s.n; k++) longest = s.row[k].seq.id.n > longest ? s.row[k].seq.id.n : longest;
    rollout_opts most = options(16384, 64, 2048);
    most.max_tokens = longest + 16;
    rollout_stats stats = roll(&s, p, &most, wide);
    for (int room = 1; room <= 3; room++) {
        rollout_opts least = options((int64_t)longest * room + 48, 3 + 2 * room, 96);
        least.max_tokens = most.max_tokens;
        preempted += roll(&s, p, &least, tight).preempted;
        for (int i = 0; i < n; i++) {
            if (!traj_same(&wide[i], &tight[i])) fail_msg("%s: trajectory %d depends on the batch", f->name, i);
            traj_free(&tight[i]);
        }
    }
    tiny_policy trainer = {.tok = s.tok, .chat = s.chat, .ip = s.ip, .b = s.b, .m = s.m};
    for (int max_tok = 512; max_tok <= 2048; max_tok *= 4) {
        int differ = trainer_logps_differ(&trainer, wide, n, max_tok, 1 / 1.25f, &seen);
        if (differ) fail_msg("%s: %d of %d log-probs differ from the trainer's", f->name, differ, seen);
        assert_int_equal(seen, stats.sampled);
    }
    for (int i = 0; i < n; i++) traj_free(&wide[i]);
    for (int k = 0; k < s.n; k++) prompt_free(&row[k]);
    subject_close(&s);
}

static void rollouts_have_the_bits_of_the_trainer(void **state)
{
    (void)state;
    assert_true(fixture_each(check_rollout) >= 8);
    assert_true(preempted > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rollouts_have_the_bits_of_the_trainer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
