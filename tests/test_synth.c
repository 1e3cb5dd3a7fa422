/* The demo's scenes: deterministic, exactly mixed, small files, and an oracle whose code gives what it claims. */
#include "data/synth.h"

#include "data/dataset.h"
#include "data/synth_part.h"
#include "tests/common/tempdir.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static const float ALL[SYNTH_CATEGORY_COUNT] = {1, 1, 1, 1, 1, 1, 1, 1};

static void ok(status st)
{
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        exit(77);
    }
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static synth_opts opts(synth_kind kind, int64_t n)
{
    return (synth_opts){.kind = kind, .n = n, .seed = 11, .split = "test", .describe = SYNTH_DESCRIBE, .threads = 1};
}

static void same_for_any_threads(void **state)
{
    (void)state;
    synth_opts o = opts(SYNTH_SFT, 60);
    ok(synth_write(temppath("one"), &o));
    o.threads = 3;
    ok(synth_write(temppath("three"), &o));
    char *a = temp_read(temppath("one/data.jsonl"), NULL), *b = temp_read(temppath("three/data.jsonl"), NULL);
    assert_string_equal(a, b); /* pictures are named by content, so equal names are equal pictures */
    assert_int_equal(temp_count(temppath("one/img")), temp_count(temppath("three/img")));
    free(a);
    free(b);
}

static int in_both(const char *a, const char *b)
{
    int n = 0;
    DIR *d = opendir(a);
    struct stat s;
    char path[2048];
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        snprintf(path, sizeof path, "%s/%s", b, e->d_name);
        n += e->d_name[0] != '.' && stat(path, &s) == 0;
    }
    closedir(d);
    return n;
}

static void splits_and_kinds(void **state)
{
    (void)state;
    synth_opts o = opts(SYNTH_PROMPTS, 40);
    o.mix = ALL;
    ok(synth_write(temppath("p"), &o));
    o.split = "other";
    ok(synth_write(temppath("q"), &o));
    o.split = "test", o.seed = 12;
    ok(synth_write(temppath("r"), &o));
    o.seed = 11, o.kind = SYNTH_DIRECT, o.describe = 0;
    ok(synth_write(temppath("s"), &o));
    assert_int_equal(in_both(temppath("p/img"), temppath("q/img")), 0);
    assert_int_equal(in_both(temppath("p/img"), temppath("r/img")), 0);
    assert_int_equal(in_both(temppath("p/img"), temppath("s/img")), 40);
}

typedef struct tally {
    int rows[SYNTH_CATEGORY_COUNT], describe, tool, tool_hard, hard, errors, code;
} tally;

static void count_row(const sample *s, tally *t)
{
    int c = 0;
    while (c < SYNTH_CATEGORY_COUNT && strcmp(s->category, synth_category_name((synth_category)c)) != 0) c++;
    if (c == SYNTH_CATEGORY_COUNT) {
        assert_string_equal(s->category, "describe");
        t->describe++;
        return;
    }
    t->rows[c]++;
    bool tool = s->n_message > 2, hard = c != SYNTH_RD_EASY && c != SYNTH_CNT_EASY && c != SYNTH_RD_MID;
    t->tool += tool, t->hard += hard, t->tool_hard += tool && hard;
    for (int m = 1; m < s->n_message; m++) {
        const char *text = s->messages[m].parts[0].text;
        if (s->messages[m].role == ROLE_ASSISTANT)
            t->code += strstr(text, "<code>") != NULL;
        else
            t->errors += text && strncmp(text, "Error: ", 7) == 0;
    }
    const char *last = s->messages[s->n_message - 1].parts[0].text;
    char want[64];
    snprintf(want, sizeof want, "<answer>%s</answer>", s->answer);
    assert_non_null(strstr(last, want));
}

/* Shares: categories exactly, coin flips within four standard deviations. */
static void sft_mix(void **state)
{
    (void)state;
    enum { N = 1200 };
    synth_opts o = opts(SYNTH_SFT, N);
    ok(synth_write(temppath("mix"), &o));
    dataset *d;
    ok(dataset_open(&d, temppath("mix/data.jsonl")));
    tally t;
    memset(&t, 0, sizeof t);
    for (int64_t i = 0; i < N; i++) {
        sample s;
        ok(dataset_sample(d, i, &s));
        count_row(&s, &t);
        sample_free(&s);
    }
    dataset_close(d);
    static const float share[SYNTH_CATEGORY_COUNT] = {.18f, .20f, .17f, .16f, .13f, .16f, 0, .16f};
    int asked = N - t.describe;
    for (int c = 0; c < SYNTH_CATEGORY_COUNT; c++)
        assert_true(abs(t.rows[c] - (int)(share[c] / 1.16f * (float)asked + .5f)) <= 1);
    assert_in_range(t.describe, 40, 105);
    assert_in_range(t.tool * 1000 / asked, 440, 560);
    assert_in_range(t.tool_hard * 1000 / t.hard, 425, 575); /* the coin doesn't look at the difficulty */
    assert_in_range(t.errors * 1000 / (t.code - t.errors), 170, 330);
}

static void labels(void **state)
{
    (void)state;
    enum { N = 600 };
    synth_opts o = opts(SYNTH_LABELS, N);
    ok(synth_write(temppath("labels"), &o));
    dataset *d;
    ok(dataset_open(&d, temppath("labels/data.jsonl")));
    int large = 0, turned = 0, medium = 0, small = 0;
    for (int64_t i = 0; i < N; i++) {
        sample s;
        ok(dataset_sample(d, i, &s));
        const json *l = json_get(s.row, "x_labels");
        const char *size = json_str(json_get(l, "size")), *value = json_str(json_get(l, "value"));
        const char *turn = json_str(json_get(l, "turn")), *kind = json_str(json_get(s.row, "x_kind"));
        assert_true(s.n_message == 1 && s.n_image == 1 && s.messages[0].n_part == 1 && !s.answer);
        assert_non_null(json_str(json_get(l, "colour")));
        bool is_large = strcmp(size, "large") == 0, digit = strcmp(kind, "digit") == 0;
        int64_t scale = json_int(json_get(s.row, "x_tile_scale"));
        if (!is_large) assert_string_equal(size, scale == 1 ? "tiny" : scale < 8 ? "small" : "medium");
        assert_int_equal(value != NULL, is_large || scale >= 8); /* no label for what can't be seen */
        assert_int_equal(turn != NULL, is_large && digit);
        large += is_large, medium += scale == 8 || scale == 16, small += scale == 2 || scale == 4;
        turned += turn && strcmp(turn, "up") != 0;
        sample_free(&s);
    }
    dataset_close(d);
    static const int total = 140; /* the shares' sum in percent; turned is the sum of two of them */
    assert_in_range(large, N * 94 / total - 4, N * 94 / total + 4);
    assert_in_range(medium, N * 28 / total - 2, N * 28 / total + 2);
    assert_in_range(small, N * 6 / total - 2, N * 6 / total + 2);
    assert_in_range(turned, N * 18 / total - 2, N * 18 / total + 2);
}

static int colours(const image *im)
{
    static bool seen[1 << 24];
    memset(seen, 0, sizeof seen);
    int n = 0;
    for (int i = 0; i < im->w * im->h; i++) {
        int c = im->rgb[3 * i] << 16 | im->rgb[3 * i + 1] << 8 | im->rgb[3 * i + 2];
        n += !seen[c];
        seen[c] = true;
    }
    return n;
}

static void picture_limits(void **state)
{
    (void)state;
    for (int c = 0; c < SYNTH_CATEGORY_COUNT; c++)
        for (uint64_t k = 0; k < 12; k++) {
            rng r = {rng_make_key(5, RNG_TEST, (uint64_t)c, k, 0, 0), 0};
            synth_scene s;
            synth_draw(&s, (synth_category)c, 0, &r);
            assert_true(s.picture.w == SYNTH_SIDE && s.picture.h == SYNTH_SIDE);
            assert_true(colours(&s.picture) <= 256);
            uint8_t *png;
            size_t n;
            ok(image_encode_png(&s.picture, 1, &png, &n));
            assert_true(n <= 16000);
            free(png);
            synth_scene_free(&s);
        }
}

/* The plate of a hard digit covers exactly one pixel of the view: everything but that pixel and the bar's is card. */
static void one_view_pixel(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 40; k++) {
        rng r = {rng_make_key(6, RNG_TEST, k, 0, 0, 0), 0};
        synth_scene s;
        synth_draw(&s, k % 2 ? SYNTH_RD_HARD : SYNTH_ROT_HARD, 0, &r);
        image view;
        ok(image_resize(&view, &s.picture, SYNTH_VIEW, SYNTH_VIEW, RESAMPLE_BOX));
        int mixed = 0, mid = (SYNTH_CELL + SYNTH_CENTRE) / SYNTH_BLOCK;
        for (int y = 0; y < SYNTH_VIEW; y++)
            for (int x = 0; x < SYNTH_VIEW; x++) {
                const uint8_t *corner =
                    s.picture.rgb + 3 * ((size_t)y * SYNTH_BLOCK * SYNTH_SIDE + (size_t)x * SYNTH_BLOCK);
                bool plain = true;
                for (int i = 0; i < SYNTH_BLOCK && plain; i++)
                    for (int j = 0; j < SYNTH_BLOCK && plain; j++)
                        plain = memcmp(corner, corner + 3 * (i * SYNTH_SIDE + j), 3) == 0;
                if (plain)
                    assert_memory_equal(view.rgb + 3 * (y * SYNTH_VIEW + x), corner, 3);
                else
                    assert_true(abs(x - mid) + abs(y - mid) <= 1); /* the plate's pixel, the bar's beside it */
                mixed += !plain;
            }
        assert_int_equal(mixed, 2);
        image_free(&view);
        synth_scene_free(&s);
    }
}

static void oracle_turns_upright(void **state)
{
    (void)state;
    static const uint8_t white[3] = {250, 250, 250};
    for (uint64_t k = 0; k < 24; k++) {
        rng r = {rng_make_key(7, RNG_TEST, k, 0, 0, 0), 0};
        synth_scene s;
        synth_draw(&s, SYNTH_SCN_ROT, 0, &r);
        image tile, up;
        synth_crop(&tile, &s.picture, s.cell_col * SYNTH_CELL + SYNTH_CENTRE, s.cell_row * SYNTH_CELL + SYNTH_CENTRE,
                   10);
        synth_rotate(&up, &tile, 4 - s.turns);
        for (int x = 7; x < 14; x++) assert_memory_equal(up.rgb + 3 * (3 * SYNTH_TILE + x), white, 3);
        image_free(&tile);
        image_free(&up);
        synth_scene_free(&s);
    }
}

static void sizes(void **state)
{
    (void)state;
    float mix[SYNTH_CATEGORY_COUNT] = {[SYNTH_RD_EASY] = 1, [SYNTH_CNT_HARD] = 1};
    for (int scale = 1; scale <= 32; scale *= 2) {
        synth_opts o = opts(SYNTH_SFT, 8);
        o.mix = mix, o.tile_scale = scale, o.describe = 0;
        ok(synth_write(temppath("size%d", scale), &o));
    }
}

static void replay(const char *dir)
{
    char command[2048];
    snprintf(command, sizeof command, "/usr/bin/python3 '%s/tests/synth_replay.py' '%s'", SOURCE_DIR, dir);
    int rc = system(command);
    if (WIFEXITED(rc) && (WEXITSTATUS(rc) == 77 || WEXITSTATUS(rc) == 127)) {
        printf("SKIP: no /usr/bin/python3 with PIL and numpy\n");
        skip();
    }
    assert_int_equal(rc, 0);
}

static void oracle_code_runs(void **state)
{
    (void)state;
    synth_opts o = opts(SYNTH_SFT, 240);
    o.mix = ALL, o.describe = 0;
    ok(synth_write(temppath("run"), &o));
    replay(temppath("run"));
    for (int scale = 1; scale <= 32; scale *= 2) replay(temppath("size%d", scale));
}

static void refused(const synth_opts *o, const char *words)
{
    assert_int_equal(synth_write(temppath("refused"), o), ST_EINVAL);
    if (!strstr(fail_message(), words)) fail_msg("message '%s' lacks '%s'", fail_message(), words);
}

static void bad_options(void **state)
{
    (void)state;
    float zero[SYNTH_CATEGORY_COUNT] = {0}, negative[SYNTH_CATEGORY_COUNT] = {-1, 2};
    synth_opts o = opts(SYNTH_SFT, 0);
    refused(&o, "at least 1");
    o = opts(SYNTH_SFT, 5), o.split = "a/b";
    refused(&o, "split");
    o = opts(SYNTH_SFT, 5), o.mix = zero;
    refused(&o, "positive weight");
    o.mix = negative;
    refused(&o, "weight");
    o = opts(SYNTH_SFT, 5), o.tile_scale = 3;
    refused(&o, "tile scale 3");
    o.tile_scale = 16;
    refused(&o, "scn_hard");
    o = opts(SYNTH_LABELS, 5), o.mix = ALL;
    refused(&o, "label rows");
    o = opts(SYNTH_SFT, 5), o.describe = 2;
    refused(&o, "describe");
    temp_text(temppath("file"), "x");
    o = opts(SYNTH_SFT, 5);
    assert_int_equal(synth_write(temppath("file/below"), &o), ST_EIO);
}

static void disk_full(void **state)
{
    (void)state;
    struct rlimit old, low;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    synth_opts o = opts(SYNTH_SFT, 40);
    for (int limit = 100; limit <= 15000; limit *= 3) { /* first the pictures fail, then data.jsonl */
        low = old;
        low.rlim_cur = (rlim_t)limit;
        setrlimit(RLIMIT_FSIZE, &low);
        status st = synth_write(temppath("full"), &o);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(st, ST_EIO);
        assert_int_equal(temp_count(temppath("full")), 1); /* img alone: no data.jsonl, no temporary file */
    }
    ok(synth_write(temppath("full"), &o));
    ok(synth_write(temppath("fresh"), &o));
    assert_int_equal(in_both(temppath("full/img"), temppath("fresh/img")), temp_count(temppath("fresh/img")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_for_any_threads),
                                       cmocka_unit_test(splits_and_kinds),
                                       cmocka_unit_test(sft_mix),
                                       cmocka_unit_test(labels),
                                       cmocka_unit_test(picture_limits),
                                       cmocka_unit_test(one_view_pixel),
                                       cmocka_unit_test(oracle_turns_upright),
                                       cmocka_unit_test(sizes),
                                       cmocka_unit_test(oracle_code_runs),
                                       cmocka_unit_test(bad_options),
                                       cmocka_unit_test(disk_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
