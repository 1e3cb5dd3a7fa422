/* Packing: rows, targets, shared pictures, what is left out, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rl/batch.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

enum { PAD = 9, SIDE = 56 }; /* a 56x56 view: 16 patches, 4 tokens */

typedef struct rig {
    model_config c;
    image_processor ip;
    model_limits lim;
    batch *b;
    image a, z;
} rig;

static void rig_open(rig *r, int tok, int patch)
{
    *r = (rig){.lim = {.tok = tok, .seq = 8, .patch = patch, .img = patch / 4, .row = tok}};
    r->c.has_vision = true;
    r->c.vision = (vision_config){.patch = 14, .temporal_patch = 2, .merge = 2, .in_channels = 3};
    image_processor_default(&r->ip);
    r->a = (image){SIDE, SIDE, calloc(SIDE * SIDE, 3)};
    r->z = (image){SIDE, SIDE, malloc(SIDE * SIDE * 3)};
    memset(r->z.rgb, 255, SIDE * SIDE * 3);
    ok(batch_create(&r->b, &r->c, &r->ip, &r->lim));
}

static void rig_close(rig *r)
{
    batch_destroy(r->b);
    image_free(&r->a);
    image_free(&r->z);
}

/* start, picture (4 pads), x, answer 20 21, end: targets are 20 and 21. */
static const int32_t seq_id[9] = {1, PAD, PAD, PAD, PAD, 2, 20, 21, 3};
static const uint8_t mask[9] = {0, 0, 0, 0, 0, 0, 1, 1, 0};
static const mrope_image run = {1, 1, 4, 4};

static batch_seq with_picture(const image *const *view)
{
    return (batch_seq){
        .n_tok = 9, .id = seq_id, .mask = mask, .n_image = 1, .run = &run, .view = view, .weight = 0.5, .name = "p"};
}

static void test_rows_and_sharing(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, 64, 64);
    const image *va = &r.a, *vz = &r.z;
    batch_seq s[3] = {with_picture(&va), with_picture(&va), with_picture(&vz)};
    int at = 0;
    ok(batch_pack(r.b, s, 3, &at));
    assert_int_equal(at, 3);
    const token_batch *x = batch_tokens(r.b);
    assert_int_equal(x->n_seq, 3);
    assert_int_equal(x->n_tok, 3 * 7); /* the last target and what follows it are no inputs */
    assert_int_equal(x->n_img, 2);     /* equal pointers are one picture */
    assert_int_equal(x->n_row, 6);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(x->cu[i + 1], 7 * (i + 1));
        for (int k = 0; k < 2; k++) {
            assert_int_equal(x->row[2 * i + k], 7 * i + 5 + k);
            assert_int_equal(batch_target(r.b)[2 * i + k], 20 + k);
            assert_int_equal(batch_seq_of(r.b)[2 * i + k], i);
            assert_true(batch_weight(r.b)[2 * i + k] == 0.5);
        }
        for (int k = 0; k < 4; k++) {
            assert_int_equal(x->vis_tok[4 * i + k], 7 * i + 1 + k);
            assert_int_equal(x->vis_row[4 * i + k], (i == 2 ? 4 : 0) + k);
        }
    }
    assert_int_equal(x->n_vis, 12);
    assert_true(x->patches[0] != x->patches[16 * 3 * 2 * 14 * 14]); /* black, then white */
    rig_close(&r);
}

static void test_limits(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, 16, 32);
    const image *va = &r.a, *vz = &r.z, *many[3] = {&r.a, &r.z, &r.a};
    batch_seq s[3] = {with_picture(&va), with_picture(&vz), with_picture(&va)};
    int at = 0;
    ok(batch_pack(r.b, s, 3, &at));
    assert_int_equal(at, 2); /* 3 * 7 tokens don't fit 16 */
    ok(batch_pack(r.b, s, 3, &at));
    assert_int_equal(at, 3);
    assert_int_equal(batch_tokens(r.b)->n_seq, 1);

    int32_t *long_id = calloc(20, sizeof *long_id);
    uint8_t long_mask[20] = {0};
    long_mask[19] = 1;
    batch_seq big = {.n_tok = 20, .id = long_id, .mask = long_mask, .name = "the long one"};
    at = 0;
    assert_int_equal(batch_pack(r.b, &big, 1, &at), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "the long one"));
    assert_non_null(strstr(fail_message(), "train.max_tokens"));
    free(long_id);

    mrope_image runs[3] = {{1, 1, 4, 4}, {5, 1, 4, 4}, {9, 1, 4, 4}};
    int32_t id[15] = {1, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD, 2, 20};
    uint8_t m[15] = {0};
    m[14] = 1;
    batch_seq two = {.n_tok = 15, .id = id, .mask = m, .n_image = 3, .run = runs, .view = many, .name = "pictures"};
    at = 0;
    ok(batch_pack(r.b, &two, 1, &at)); /* the third picture is the first: two are encoded */
    assert_int_equal(batch_tokens(r.b)->n_img, 2);
    rig_close(&r);
    rig_open(&r, 16, 16);
    many[0] = &r.a, many[1] = &r.z, many[2] = &r.a;
    at = 0;
    assert_int_equal(batch_pack(r.b, &two, 1, &at), ST_EINVAL);
    assert_non_null(strstr(fail_message(), "train.max_patches"));
    rig_close(&r);
}

static void test_left_out(void **state)
{
    (void)state;
    rig r;
    rig_open(&r, 64, 64);
    const image *va = &r.a;
    uint8_t none[9] = {0};
    batch_seq s[3] = {{.n_tok = 0}, with_picture(&va), with_picture(&va)};
    s[1].mask = none; /* nothing to learn: no room taken */
    int at = 0;
    ok(batch_pack(r.b, s, 2, &at));
    assert_int_equal(at, 2);
    assert_int_equal(batch_tokens(r.b)->n_row, 0);
    /* A picture after the last target is not encoded. */
    const int32_t id[8] = {1, 20, 2, PAD, PAD, PAD, PAD, 3};
    const uint8_t m[8] = {0, 1};
    mrope_image later = {3, 1, 4, 4};
    s[0] = (batch_seq){.n_tok = 8, .id = id, .mask = m, .n_image = 1, .run = &later, .view = &va};
    at = 0;
    ok(batch_pack(r.b, s, 1, &at));
    assert_int_equal(batch_tokens(r.b)->n_img, 0);
    assert_int_equal(batch_tokens(r.b)->n_tok, 1);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows_and_sharing), cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_left_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
