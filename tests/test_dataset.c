/* Datasets and the loader: rows and pictures come back as written, errors name the line, order depends on identity
 * only. */
#include "data/dataset.h"

#include "data/shard.h"
#include "tests/common/tempdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROW(id) "{\"id\":\"" id "\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static dataset *open_ok(const char *path)
{
    dataset *d = NULL;
    if (dataset_open(&d, path) != ST_OK) fail_msg("%s", fail_message());
    return d;
}

static void says(const char *want)
{
    if (!strstr(fail_message(), want)) fail_msg("message '%s' lacks '%s'", fail_message(), want);
}

static void refuse_open(const char *path, status want, const char *words)
{
    dataset *d = NULL;
    assert_int_equal(dataset_open(&d, path), want);
    assert_null(d);
    says(words);
}

static void lines(void **state)
{
    (void)state;
    const char *path = temppath("rows.jsonl");
    const char *text[] = {ROW("a") "\n" ROW("b") "\n" ROW("c") "\n", ROW("a") "\n" ROW("b") "\r\n" ROW("c")};
    for (int k = 0; k < 2; k++) { /* with and without the last newline */
        temp_text(path, text[k]);
        dataset *d = open_ok(path);
        assert_int_equal(dataset_count(d), 3);
        for (int i = 2; i >= 0; i--) {
            sample s;
            if (dataset_sample(d, i, &s) != ST_OK) fail_msg("%s", fail_message());
            assert_int_equal(s.id[0], 'a' + i);
            sample_free(&s);
        }
        dataset_close(d);
    }
}

static void long_lines(void **state)
{
    (void)state;
    size_t n = 3 << 20; /* longer than the index's read buffer */
    char *text = malloc(n + 256);
    int at = sprintf(text, "{\"id\":\"a\",\"messages\":[{\"role\":\"user\",\"content\":\"");
    memset(text + at, 'x', n);
    strcpy(text + at + n, "\"}]}\n" ROW("b") "\n");
    temp_text(temppath("long.jsonl"), text);
    free(text);
    dataset *d = open_ok(temppath("long.jsonl"));
    assert_int_equal(dataset_count(d), 2);
    sample s;
    assert_int_equal(dataset_sample(d, 0, &s), ST_OK);
    assert_int_equal(strlen(s.messages[0].parts[0].text), n);
    sample_free(&s);
    assert_int_equal(dataset_sample(d, 1, &s), ST_OK);
    assert_string_equal(s.id, "b");
    sample_free(&s);
    dataset_close(d);
}

static void bad_rows(void **state)
{
    (void)state;
    static const struct {
        const char *row, *words;
    } bad[] = {{"[1,2]", "must be a JSON object"},
               {"", "bad.jsonl:2"},
               {"{\"messages\":", "bad.jsonl:2"},
               {"{\"id\":\"x\"}", "messages"},
               {"{\"messages\":[],\"colour\":1}", "colour"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, ROW("a") "\n%s\n" ROW("c") "\n", bad[i].row);
        temp_text(temppath("bad.jsonl"), text);
        dataset *d = open_ok(temppath("bad.jsonl"));
        assert_int_equal(dataset_count(d), 3);
        sample s = {0};
        assert_int_equal(dataset_sample(d, 1, &s), ST_EINVAL);
        assert_null(s.row);
        says("bad.jsonl:2");
        says(bad[i].words);
        assert_int_equal(dataset_sample(d, 2, &s), ST_OK); /* its neighbours are fine */
        sample_free(&s);
        dataset_close(d);
    }
}

static void bad_files(void **state)
{
    (void)state;
    temp_text(temppath("empty.jsonl"), "");
    temp_text(temppath("rows.txt"), ROW("a"));
    temp_text(temppath("folder/readme"), "no shards here");
    refuse_open(temppath("nowhere.jsonl"), ST_EIO, "nowhere.jsonl: No such file");
    refuse_open(temppath("empty.jsonl"), ST_EINVAL, "empty");
    refuse_open(temppath("rows.txt"), ST_EINVAL, ".jsonl");
    refuse_open(temppath("folder"), ST_EINVAL, "no .h5");
#ifdef HAVE_HDF5
    temp_text(temppath("text.h5"), "not HDF5");
    refuse_open(temppath("text.h5"), ST_ECORRUPT, "text.h5");
    temp_text(temppath("folder2/shard_00000.h5"), "");
    refuse_open(temppath("folder2"), ST_ECORRUPT, "shard_00000.h5");
#else
    temp_text(temppath("text.h5"), "any");
    refuse_open(temppath("text.h5"), ST_EUNAVAIL, "HDF5");
#endif
}

static image checker(int w, int h)
{
    image im = {w, h, malloc(3 * (size_t)w * (size_t)h)};
    for (int i = 0; i < w * h; i++)
        for (int c = 0; c < 3; c++) im.rgb[3 * i + c] = (uint8_t)((i % w * 5 + i / w * 3) * (c + 1));
    return im;
}

static void pictures(void **state)
{
    (void)state;
    image im = checker(120, 60);
    uint8_t *png;
    size_t n;
    if (image_encode_png(&im, 1, &png, &n) != ST_OK) {
        printf("SKIP: %s\n", fail_message());
        image_free(&im);
        skip();
    }
    temp_write(temppath("pic/img/a.png"), png, n);
    temp_write(temppath("pic/img/cut.png"), png, n / 2);
    free(png);
    temp_text(temppath("pic/data.jsonl"), ROW("a") "\n");
    dataset *d = open_ok(temppath("pic/data.jsonl"));
    image got;
    if (dataset_image(d, "img/a.png", &got) != ST_OK) fail_msg("%s", fail_message());
    assert_int_equal(got.w, 120);
    assert_memory_equal(got.rgb, im.rgb, 3 * 120 * 60);
    image_free(&got);
    assert_int_equal(dataset_image(d, temppath("pic/img/a.png"), &got), ST_OK); /* absolute */
    image_free(&got);

    image_processor p;
    image_processor_default(&p);
    p.min_pixels = p.max_pixels = 56 * 28;
    p.filter = RESAMPLE_BOX;
    int w = 0, h = 0;
    image want;
    assert_int_equal(dataset_view(d, "img/a.png", &p, &got, &w, &h), ST_OK);
    assert_int_equal(image_view(&want, &im, &p), ST_OK);
    assert_int_equal(w, 120);
    assert_int_equal(h, 60);
    assert_true(got.w == want.w && got.h == want.h);
    assert_memory_equal(got.rgb, want.rgb, 3 * (size_t)want.w * (size_t)want.h);
    image_free(&got);
    image_free(&want);
    image_free(&im);

    assert_int_equal(dataset_image(d, "img/none.png", &got), ST_EIO);
    says("img/none.png");
    assert_int_equal(dataset_view(d, "img/cut.png", &p, &got, NULL, NULL), ST_EINVAL);
    says("cut.png");
    dataset_close(d);
}

enum { ROWS = 257 };

static dataset *many(void)
{
    char text[ROWS * 80], *t = text;
    for (int i = 0; i < ROWS; i++)
        t += sprintf(t, "{\"id\":\"%d\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n", i);
    temp_text(temppath("many.jsonl"), text);
    return open_ok(temppath("many.jsonl"));
}

static void order(void **state)
{
    (void)state;
    dataset *d = many();
    loader *a, *b, *other, *plain;
    assert_int_equal(loader_create(&a, d, 7, true), ST_OK);
    assert_int_equal(loader_create(&b, d, 7, true), ST_OK);
    assert_int_equal(loader_create(&other, d, 8, true), ST_OK);
    assert_int_equal(loader_create(&plain, d, 7, false), ST_OK);
    int64_t first[ROWS];
    int same = 0, moved = 0, different = 0;
    for (int e = 0; e < 3; e++) {
        bool seen[ROWS] = {false};
        for (int i = 0; i < ROWS; i++) {
            int64_t row = loader_next(a);
            assert_true(row >= 0 && row < ROWS && !seen[row]); /* each epoch is a permutation */
            seen[row] = true;
            assert_int_equal(loader_next(b), row);
            assert_int_equal(loader_next(plain), i);
            different += loader_next(other) != row;
            moved += row != i;
            if (e == 0)
                first[i] = row;
            else
                same += first[i] == row;
        }
        assert_int_equal(loader_tell(a).epoch, e);
        assert_int_equal(loader_tell(a).index, ROWS);
    }
    assert_true(moved > 3 * ROWS * 9 / 10 && different > 3 * ROWS * 9 / 10 && same < ROWS / 10);
    loader_destroy(a);
    loader_destroy(b);
    loader_destroy(other);
    loader_destroy(plain);
    dataset_close(d);
}

static void resume(void **state)
{
    (void)state;
    dataset *d = many();
    loader *a, *b;
    assert_int_equal(loader_create(&a, d, 3, true), ST_OK);
    for (int i = 0; i < ROWS + 40; i++) loader_next(a);
    loader_state at = loader_tell(a);
    assert_int_equal(at.epoch, 1);
    assert_int_equal(at.index, 40);
    assert_int_equal(loader_create(&b, d, 3, true), ST_OK);
    assert_int_equal(loader_seek(b, at), ST_OK);
    for (int i = 0; i < 2 * ROWS; i++) assert_int_equal(loader_next(a), loader_next(b));
    assert_int_equal(loader_seek(b, (loader_state){0, ROWS + 1}), ST_EINVAL);
    assert_int_equal(loader_seek(b, (loader_state){-1, 0}), ST_EINVAL);
    assert_int_equal(loader_next(a), loader_next(b)); /* a refused seek changes nothing */
    loader_destroy(a);
    loader_destroy(b);
    dataset_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines),    cmocka_unit_test(long_lines),
                                       cmocka_unit_test(bad_rows), cmocka_unit_test(bad_files),
                                       cmocka_unit_test(pictures), cmocka_unit_test(order),
                                       cmocka_unit_test(resume)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
