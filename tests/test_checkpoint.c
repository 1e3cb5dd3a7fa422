/* Checkpoints under bad luck: damage, a full disk, a kill at any moment. What was complete stays loadable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/log.h"
#include "core/rng.h"
#include "kernels/kernels.h"
#include "rl/checkpoint.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

typedef struct rig {
    backend *b;
    comm *self;
    model *m;
    optim *x;
    size_t bytes;
    char dir[64];
} rig;

static void rig_open(rig *r)
{
    model_config c = {.hidden = 16,
                      .n_layer = 2,
                      .n_head = 2,
                      .n_kv = 1,
                      .head_dim = 8,
                      .intermediate = 24,
                      .vocab = 301,
                      .max_position = 64,
                      .tied = true,
                      .qkv_bias = true,
                      .rms_eps = 1e-6f,
                      .rope_theta = 1e4,
                      .mrope_section = {1, 1, 2},
                      .has_vision = true,
                      .image_token = 7,
                      .video_token = 8,
                      .vision_start_token = 5,
                      .vision_end_token = 6,
                      .bos_token = 1,
                      .eos_token = 2};
    c.vision = (vision_config){.depth = 1,
                               .hidden = 8,
                               .intermediate = 12,
                               .n_head = 2,
                               .patch = 14,
                               .temporal_patch = 2,
                               .merge = 2,
                               .in_channels = 3,
                               .window = 112,
                               .out_hidden = 16,
                               .tokens_per_second = 2,
                               .n_full = 1,
                               .full_blocks = {0}};
    optim_opts o = {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8, .grad_shards = 1};
    ok(backend_open_cpu(&r->b, 1, "auto"));
    ok(comm_open_self(&r->self));
    ok(model_create(&r->m, r->b, &c, true));
    model_init(r->m, 7);
    ok(optim_create(&r->x, r->m, r->self, &o));
    r->bytes = sizeof(float) * (size_t)model_param_count(r->m);
    strcpy(r->dir, "/tmp/codedance_checkpoint_XXXXXX");
    assert_non_null(mkdtemp(r->dir));
}

static void rig_close(rig *r)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", r->dir);
    assert_int_equal(system(cmd), 0);
    optim_destroy(r->x);
    model_destroy(r->m);
    comm_close(r->self);
    backend_close(r->b);
}

static void one_update(rig *r, uint64_t id)
{
    rng_key k = rng_make_key(1, RNG_TEST, id, 0, 0, 0);
    float *g = model_grads(r->m).data;
    for (size_t i = 0; i < r->bytes / sizeof *g; i++) g[i] = rng_normal(k, i);
    optim_shard_done(r->x);
    ok(optim_step(r->x, 1e-2, NULL, NULL));
}

static status save(rig *r, int n, int keep)
{
    char name[32], state[64];
    snprintf(name, sizeof name, "step_%08d", n);
    snprintf(state, sizeof state, "{\"n\": %d}", n);
    return checkpoint_save(r->dir, name, r->m, r->x, r->self, NULL, state, keep);
}

/* The newest complete checkpoint's number, 0 for none. */
static int newest(rig *r)
{
    char *path;
    json *root;
    const json *s;
    ok(checkpoint_find(r->dir, &path));
    if (!path) return 0;
    ok(checkpoint_state(path, &root, &s));
    int n = (int)json_int(json_get(s, "n"));
    json_free(root);
    free(path);
    return n;
}

static void load_newest(rig *r)
{
    char *path;
    ok(checkpoint_find(r->dir, &path));
    assert_non_null(path);
    ok(checkpoint_load(path, r->m, r->x, r->self));
    free(path);
}

static void test_round_trip(void **state)
{
    (void)state;
    rig r;
    rig_open(&r);
    assert_int_equal(newest(&r), 0);
    one_update(&r, 1);
    ok(save(&r, 1, 2));
    one_update(&r, 2);
    float *want = malloc(r.bytes);
    memcpy(want, model_params(r.m).data, r.bytes);
    one_update(&r, 3);
    load_newest(&r);
    one_update(&r, 2); /* weights, moments and t were all restored: the same update gives the same bits */
    assert_memory_equal(model_params(r.m).data, want, r.bytes);
    free(want);
    rig_close(&r);
}

static void test_keep(void **state)
{
    (void)state;
    rig r;
    char path[128];
    rig_open(&r);
    for (int n = 1; n <= 4; n++) ok(save(&r, n, 2));
    for (int n = 1; n <= 4; n++) {
        snprintf(path, sizeof path, "%s/step_%08d", r.dir, n);
        assert_int_equal(access(path, F_OK) == 0, n > 2);
    }
    assert_int_equal(newest(&r), 4);
    ok(save(&r, 4, 2)); /* the same name again */
    assert_int_equal(newest(&r), 4);
    rig_close(&r);
}

static void damage(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    fputc(c ^ 0x10, f);
    fclose(f);
}

static void test_damage(void **state)
{
    (void)state;
    static const char *const files[] = {"model.safetensors", "optim.safetensors", "state.json", "config.json",
                                        "checksums.json"};
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        rig r;
        char path[256], whole[160];
        rig_open(&r);
        ok(save(&r, 1, 3));
        ok(save(&r, 2, 3));
        snprintf(whole, sizeof whole, "%s/step_00000002", r.dir);
        snprintf(path, sizeof path, "%s/%s", whole, files[k]);
        damage(path, -9);
        float *before = malloc(r.bytes);
        one_update(&r, 1);
        memcpy(before, model_params(r.m).data, r.bytes);
        status st = checkpoint_load(whole, r.m, r.x, r.self);
        assert_true(st != ST_OK);
        assert_memory_equal(before, model_params(r.m).data, r.bytes);
        assert_int_equal(newest(&r), 1);
        free(before);
        rig_close(&r);
    }
}

static void test_cut_short(void **state)
{
    (void)state;
    rig r;
    char path[160];
    rig_open(&r);
    ok(save(&r, 1, 3));
    ok(save(&r, 2, 3));
    snprintf(path, sizeof path, "%s/step_00000002/model.safetensors", r.dir);
    assert_int_equal(truncate(path, 1000), 0);
    assert_int_equal(newest(&r), 1);
    snprintf(path, sizeof path, "%s/step_00000001/DONE", r.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(newest(&r), 0);
    rig_close(&r);
}

/* Writing more than the limit fails as a full disk does: a short write, then an error. */
static void test_full_disk(void **state)
{
    (void)state;
    rig r;
    rig_open(&r);
    ok(save(&r, 1, 1));
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit was, tight;
    getrlimit(RLIMIT_FSIZE, &was);
    for (rlim_t room = 100; room < 60000; room = room * 5) {
        tight = (struct rlimit){room, was.rlim_max};
        setrlimit(RLIMIT_FSIZE, &tight);
        status st = save(&r, 2, 1);
        setrlimit(RLIMIT_FSIZE, &was);
        assert_int_equal(st, ST_EIO);
        assert_non_null(strstr(fail_message(), "earlier checkpoints are untouched"));
        assert_int_equal(newest(&r), 1);
    }
    load_newest(&r);
    ok(save(&r, 2, 1));
    assert_int_equal(newest(&r), 2);
    rig_close(&r);
}

static void test_killed_while_writing(void **state)
{
    (void)state;
    rig r;
    rig_open(&r);
    ok(save(&r, 1, 2));
    int last = 1;
    for (int k = 0; k < 12; k++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int n = last + 1;; n++)
                if (save(&r, n, 2) != ST_OK) _exit(1);
        }
        usleep(3000 + 2711 * (unsigned)k);
        kill(child, SIGKILL);
        int how;
        waitpid(child, &how, 0);
        assert_true(WIFSIGNALED(how));
        int n = newest(&r);
        assert_true(n >= last);
        last = n;
        load_newest(&r);
    }
    rig_close(&r);
}

int main(void)
{
    log_setup(LOG_ERROR, 0, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_keep),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_full_disk),  cmocka_unit_test(test_killed_while_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
