/* Shards: what goes in comes out, pictures are shared, and damage is an error that names the file, never other data. */
#include "data/dataset.h"
#include "data/shard.h"
#include "data/synth.h"
#include "tests/common/tempdir.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef HAVE_HDF5

static void unavailable(void **state)
{
    (void)state;
    shard *s = NULL;
    assert_int_equal(shard_open(&s, "x.h5"), ST_EUNAVAIL);
    assert_non_null(strstr(fail_message(), "HDF5"));
    shard_opts o = {.keep_original = true, .rows_per_shard = 1};
    assert_int_equal(shard_import("x.jsonl", "x", &o), ST_EUNAVAIL);
    assert_int_equal(shard_register_zstd(), ST_EUNAVAIL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(unavailable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include <hdf5.h>

#include "data/hash.h"

/* HDF5 itself loses memory when a file can't be opened or flushed, which is what most tests here are about. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }

enum { ROWS = 24 };

static image_processor p84;

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static void says(const char *want)
{
    if (!strstr(fail_message(), want)) fail_msg("message '%s' lacks '%s'", fail_message(), want);
}

static const char *source(void) { return temppath("src/data.jsonl"); }

static int setup(void **state)
{
    (void)state;
    image_processor_default(&p84);
    p84.min_pixels = p84.max_pixels = 7056;
    p84.filter = RESAMPLE_BOX;
    synth_opts o = {.kind = SYNTH_SFT, .n = ROWS, .seed = 3, .split = "t", .describe = 0.1, .threads = 1};
    status st = synth_write(temppath("src"), &o);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        exit(77);
    }
    return st == ST_OK ? 0 : -1;
}

static shard_opts all = {.p = &p84, .views = true, .keep_original = true, .rows_per_shard = 10};

/* One number over everything a reader can see of a dataset, in order. A status other than ST_OK ends it. */
static status fingerprint(const char *path, bool originals, uint64_t *out)
{
    dataset *d = NULL;
    TRY(dataset_open(&d, path));
    hash_stream h;
    hash_begin(&h, 0);
    status st = ST_OK;
    for (int64_t i = 0; i < dataset_count(d) && st == ST_OK; i++) {
        sample s;
        st = dataset_sample(d, i, &s);
        if (st != ST_OK) break;
        hash_more(&h, s.id, strlen(s.id));
        for (int m = 0; m < s.n_message; m++)
            for (int k = 0; k < s.messages[m].n_part; k++)
                if (s.messages[m].parts[k].text)
                    hash_more(&h, s.messages[m].parts[k].text, strlen(s.messages[m].parts[k].text));
        for (int k = 0; k < s.n_image && st == ST_OK; k++) {
            image im = {0};
            int size[2] = {0};
            st = dataset_view(d, s.images[k], &p84, &im, &size[0], &size[1]);
            if (st == ST_OK) hash_more(&h, im.rgb, 3 * (size_t)im.w * (size_t)im.h);
            hash_more(&h, size, sizeof size);
            image_free(&im);
            if (!originals || st != ST_OK) continue;
            st = dataset_image(d, s.images[k], &im);
            if (st == ST_OK) hash_more(&h, im.rgb, 3 * (size_t)im.w * (size_t)im.h);
            image_free(&im);
        }
        sample_free(&s);
    }
    dataset_close(d);
    *out = hash_end(&h);
    return st;
}

static void round_trip(void **state)
{
    (void)state;
    uint64_t want, got;
    ok(shard_import(source(), temppath("trip"), &all));
    assert_int_equal(temp_count(temppath("trip")), 3); /* 10 + 10 + 4 rows */
    ok(fingerprint(source(), true, &want));
    ok(fingerprint(temppath("trip"), true, &got));
    assert_true(want == got);

    dataset *a, *b;
    ok(dataset_open(&a, source()));
    ok(dataset_open(&b, temppath("trip")));
    assert_int_equal(dataset_count(b), ROWS);
    for (int64_t i = 0; i < ROWS; i++) { /* every field, x_ fields too, apart from the pictures' names */
        sample x, y;
        ok(dataset_sample(a, i, &x));
        ok(dataset_sample(b, i, &y));
        assert_int_equal(json_len(x.row), json_len(y.row));
        assert_string_equal(x.answer, y.answer);
        assert_string_equal(json_str(json_get(x.row, "x_colour")), json_str(json_get(y.row, "x_colour")));
        assert_int_equal(json_int(json_get(x.row, "x_value")), json_int(json_get(y.row, "x_value")));
        for (int k = 0; k < y.n_image; k++) assert_int_equal(strlen(y.images[k]), 32);
        sample_free(&x);
        sample_free(&y);
    }
    dataset_close(a);
    dataset_close(b);
    shard *s;
    ok(shard_open(&s, temppath("trip/shard_00002.h5")));
    assert_int_equal(shard_rows(s), 4);
    assert_true(shard_processor(s) == image_processor_hash(&p84));
    ok(shard_verify(s));
    assert_int_equal(shard_find_image(s, "0123456789abcdef0123456789abcdef"), -1);
    assert_int_equal(shard_find_image(s, "no hash"), -1);
    shard_close(s);
}

static void same_bytes(void **state)
{
    (void)state;
    ok(shard_import(source(), temppath("a"), &all));
    sleep(1); /* no time stamps inside */
    ok(shard_import(source(), temppath("b"), &all));
    size_t n, m;
    char *x = temp_read(temppath("a/shard_00001.h5"), &n), *y = temp_read(temppath("b/shard_00001.h5"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
    assert_int_equal(shard_import(source(), temppath("a"), &all), ST_EINVAL); /* never mixes two imports */
    says("already holds shards");
}

static void any_threads(void **state)
{
    (void)state;
    synth_opts many = {.kind = SYNTH_SFT, .n = 90, .seed = 5, .split = "many", .threads = 1};
    ok(synth_write(temppath("many"), &many));
    shard_opts o = all;
    o.rows_per_shard = 1000, o.threads = 1;
    ok(shard_import(temppath("many/data.jsonl"), temppath("one"), &o));
    o.threads = 3;
    ok(shard_import(temppath("many/data.jsonl"), temppath("three"), &o));
    size_t n, m;
    char *x = temp_read(temppath("one/shard_00000.h5"), &n), *y = temp_read(temppath("three/shard_00000.h5"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* Three names for two pictures: stored twice, and both names find theirs. */
static void shared_pictures(void **state)
{
    (void)state;
    char row[512], text[2048] = "";
    sample s;
    dataset *d;
    ok(dataset_open(&d, source()));
    ok(dataset_sample(d, 0, &s));
    size_t n;
    char *png = temp_read(temppath("src/%s", s.images[0]), &n);
    sample_free(&s);
    temp_write(temppath("twin/a.png"), png, n);
    temp_write(temppath("twin/b.png"), png, n);
    free(png);
    ok(dataset_sample(d, 1, &s));
    png = temp_read(temppath("src/%s", s.images[0]), &n);
    sample_free(&s);
    dataset_close(d);
    temp_write(temppath("twin/c.png"), png, n);
    free(png);
    const char *use[] = {"a", "b", "c", "b", "a"};
    for (int i = 0; i < 5; i++) {
        snprintf(row, sizeof row,
                 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"%s.png\"}]}]}\n",
                 use[i]);
        strcat(text, row);
    }
    temp_text(temppath("twin/data.jsonl"), text);
    shard_opts o = all;
    o.rows_per_shard = 100;
    ok(shard_import(temppath("twin/data.jsonl"), temppath("twin/out"), &o));
    ok(dataset_open(&d, temppath("twin/out")));
    char *ref[5];
    for (int i = 0; i < 5; i++) {
        ok(dataset_sample(d, i, &s));
        ref[i] = strdup(s.images[0]);
        sample_free(&s);
    }
    dataset_close(d);
    assert_string_equal(ref[0], ref[1]);
    assert_string_equal(ref[1], ref[3]);
    assert_string_equal(ref[0], ref[4]);
    assert_string_not_equal(ref[0], ref[2]);
    shard *h;
    ok(shard_open(&h, temppath("twin/out/shard_00000.h5")));
    assert_true(shard_find_image(h, ref[0]) == 0 && shard_find_image(h, ref[2]) == 1); /* two stored */
    shard_close(h);
    for (int i = 0; i < 5; i++) free(ref[i]);
}

static void views_only(void **state)
{
    (void)state;
    shard_opts o = all;
    o.keep_original = false;
    ok(shard_import(source(), temppath("views"), &o));
    uint64_t want, got;
    ok(fingerprint(source(), false, &want));
    ok(fingerprint(temppath("views"), false, &got));
    assert_true(want == got);
    dataset *d;
    sample s;
    image im = {0};
    ok(dataset_open(&d, temppath("views")));
    ok(dataset_sample(d, 0, &s));
    assert_int_equal(dataset_image(d, s.images[0], &im), ST_EINVAL);
    says("--drop-originals");
    image_processor other = p84;
    other.filter = RESAMPLE_BICUBIC;
    assert_int_equal(dataset_view(d, s.images[0], &other, &im, NULL, NULL), ST_EINVAL);
    sample_free(&s);
    dataset_close(d);
    o.views = false;
    assert_int_equal(shard_import(source(), temppath("nothing"), &o), ST_EINVAL);
    o.keep_original = true; /* originals only: views are made on demand */
    ok(shard_import(source(), temppath("originals"), &o));
    ok(fingerprint(temppath("originals"), true, &got));
    ok(fingerprint(source(), true, &want));
    assert_true(want == got);
}

static void bad_input(void **state)
{
    (void)state;
    const char *good = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n";
    static const struct {
        const char *row;
        status want;
        const char *message;
    } bad[] = {{"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"img/gone.png\"}]}]}",
                ST_EIO, "img/gone.png"},
               {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\"data.jsonl\"}]}]}",
                ST_EINVAL, "data.jsonl"},
               {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"path\":\".\"}]}]}", ST_EIO,
                "regular file"},
               {"\"just a string\"", ST_EINVAL, "must be a JSON object"},
               {"{\"messages\":3}", ST_EINVAL, "messages"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text, "%s%s%s\n", good, good, bad[i].row);
        temp_text(temppath("bad/data.jsonl"), text);
        shard_opts o = all;
        o.rows_per_shard = 1; /* two shards are done when the third row fails */
        assert_int_equal(shard_import(temppath("bad/data.jsonl"), temppath("bad/out"), &o), bad[i].want);
        says("data.jsonl:3");
        says(bad[i].message);
        assert_int_equal(temp_count(temppath("bad/out")), 0);
    }
    assert_int_equal(shard_import(temppath("none.jsonl"), temppath("bad/out"), &all), ST_EIO);
    assert_int_equal(shard_import(temppath("bad/out"), temppath("bad/out"), &all), ST_EINVAL);
}

/* Every bit of what a reader returns is either right or refused, wherever a byte is flipped. */
static void flipped_bytes(void **state)
{
    (void)state;
    size_t n;
    char *bytes = temp_read(temppath("trip/shard_00002.h5"), &n);
    const char *path = temppath("flip.h5");
    uint64_t want, got;
    temp_write(path, bytes, n);
    ok(fingerprint(path, true, &want));
    int refused = 0, harmless = 0;
    for (size_t i = 0; i < 900; i++) {
        /* densely where HDF5 keeps its structure (front and back), sparsely elsewhere */
        size_t at = i < 300 ? i * 7 : i < 500 ? n - 1 - (i - 300) * 11 : (i - 500) * (n / 400);
        if (at >= n) continue;
        char old = bytes[at];
        bytes[at] = (char)(old ^ (1 << i % 8));
        temp_write(path, bytes, n);
        status st = fingerprint(path, true, &got);
        if (st == ST_OK) {
            assert_true(got == want);
            harmless++;
        } else {
            if (st != ST_ECORRUPT) fail_msg("byte %zu: %s", at, fail_message());
            says("flip.h5");
            refused++;
        }
        bytes[at] = old;
    }
    assert_true(refused > 500);
    (void)harmless; /* unused space between HDF5's structures */
    free(bytes);
}

static void truncated(void **state)
{
    (void)state;
    size_t n;
    char *bytes = temp_read(temppath("trip/shard_00002.h5"), &n);
    for (int i = 0; i <= 100; i++) {
        size_t keep = i < 100 ? n / 100 * (size_t)i : n - 1;
        uint64_t got;
        temp_write(temppath("cut.h5"), bytes, keep);
        assert_int_equal(fingerprint(temppath("cut.h5"), true, &got), ST_ECORRUPT);
        says("cut.h5");
    }
    free(bytes);
}

/* Writes other values into a table and makes its checksum fit, as a buggy writer would. */
static void forge(const char *path, const char *table, int index_of_sum, uint64_t at, uint64_t value)
{
    ok(shard_register_zstd());
    hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), d = H5Dopen2(f, table, H5P_DEFAULT), space = H5Dget_space(d);
    uint64_t v[256], sum[8];
    hssize_t n = H5Sget_simple_extent_npoints(space);
    assert_true(f >= 0 && d >= 0 && n > 0 && n <= 256 && at < (uint64_t)n);
    H5Dread(d, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, v);
    v[at] = value;
    H5Dwrite(d, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, v);
    hid_t a = H5Aopen(f, "checksum", H5P_DEFAULT);
    H5Aread(a, H5T_NATIVE_UINT64, sum);
    sum[index_of_sum] = hash_bytes(v, (size_t)n * 8, 0);
    H5Awrite(a, H5T_NATIVE_UINT64, sum);
    H5Aclose(a);
    H5Sclose(space);
    H5Dclose(d);
    assert_true(H5Fclose(f) >= 0);
}

static void wrong_offsets(void **state)
{
    (void)state;
    static const struct {
        const char *table;
        int sum;
        uint64_t at, value;
    } bad[] = {{"row_offset", 1, 1, UINT64_MAX}, {"row_offset", 1, 2, 0},
               {"row_offset", 1, 0, 5},          {"row_offset", 1, 4, 1u << 30},
               {"image_offset", 3, 1, 1u << 30}, {"image_offset", 3, 0, 1},
               {"view_offset", 6, 1, 5},         {"view_offset", 6, 1, UINT64_MAX / 2}};
    size_t n;
    char *bytes = temp_read(temppath("trip/shard_00002.h5"), &n);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *path = temppath("forged.h5");
        temp_write(path, bytes, n);
        forge(path, bad[i].table, bad[i].sum, bad[i].at, bad[i].value);
        shard *s = NULL;
        assert_int_equal(shard_open(&s, path), ST_ECORRUPT);
        says("forged.h5");
        says("wrong");
    }
    temp_write(temppath("forged.h5"), bytes, n); /* the forger itself does no other harm */
    forge(temppath("forged.h5"), "row_offset", 1, 0, 0);
    uint64_t x, y;
    ok(fingerprint(temppath("forged.h5"), true, &x));
    ok(fingerprint(temppath("trip/shard_00002.h5"), true, &y));
    assert_true(x == y);
    free(bytes);
}

/* The disk fills up at many different moments: an error, nothing left behind, and the next import works. */
static void disk_full(void **state)
{
    (void)state;
    struct rlimit old, low;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    shard_opts o = all;
    o.rows_per_shard = ROWS;
    ok(shard_import(source(), temppath("room"), &o));
    size_t n;
    free(temp_read(temppath("room/shard_00000.h5"), &n));
    for (int i = 0; i < 12; i++) {
        low = old;
        low.rlim_cur = i == 0 ? 10 : n * (size_t)i / 12;
        setrlimit(RLIMIT_FSIZE, &low);
        status st = shard_import(source(), temppath("full"), &o);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(st, ST_EIO);
        says("shard_00000.h5");
        assert_int_equal(temp_count(temppath("full")), 0);
    }
    ok(shard_import(source(), temppath("full"), &o));
    uint64_t x, y;
    ok(fingerprint(temppath("full"), true, &x));
    ok(fingerprint(source(), true, &y));
    assert_true(x == y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip),    cmocka_unit_test(same_bytes),
                                       cmocka_unit_test(any_threads),   cmocka_unit_test(shared_pictures),
                                       cmocka_unit_test(views_only),    cmocka_unit_test(bad_input),
                                       cmocka_unit_test(flipped_bytes), cmocka_unit_test(truncated),
                                       cmocka_unit_test(wrong_offsets), cmocka_unit_test(disk_full)};
    return cmocka_run_group_tests(tests, setup, NULL);
}

#endif
