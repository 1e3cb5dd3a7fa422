/* Pictures into boxes and out of them: sealed, checked, and a snapshot of the moment a turn ended, whatever the code
 * does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"
#include "sandbox/supervisor.h"
#include "tests/common/boxes.h"

static box_pool *pool;

static box *open_box(box_input *in)
{
    box *b = NULL;
    assert_int_equal(box_open(pool, 1, in, &b), ST_OK);
    return b;
}

static void says(box *b, const char *code, const char *text)
{
    char *got = test_expect(pool, b, code, BOX_OK);
    assert_string_equal(got, text);
    free(got);
}

/* The descriptor of a memfd of this process, by name. */
static int find_memfd(const char *name)
{
    char path[64], to[256];
    for (int fd = 3; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, to, sizeof to - 1);
        if (n < 0) continue;
        to[n] = 0;
        if (strstr(to, name)) return fd;
    }
    return -1;
}

static box_input *make_input(int w, int h)
{
    box_input *in = NULL;
    uint8_t *rgb = malloc((size_t)(3 * w * h));
    for (int i = 0; i < 3 * w * h; i++) rgb[i] = (uint8_t)i;
    box_image im = {w, h, rgb};
    assert_int_equal(box_input_create(&in, &im, 1), ST_OK);
    free(rgb);
    return in;
}

static void nobody_writes_to_input_pictures(void **s)
{
    (void)s;
    box_input *in = make_input(64, 48);
    int fd = find_memfd("box-input");
    assert_true(fd > 0);
    assert_int_equal(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 10), -1);
    assert_int_equal(errno, EPERM);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    assert_int_equal(errno, EPERM);
    assert_int_not_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    box *a = open_box(in), *b = open_box(in); /* two of a group, at the same time */
    says(a, "img.size, img.getpixel((1, 0))", "((64, 48), (3, 4, 5))\n");
    says(b, "img.getpixel((1, 0))", "(3, 4, 5)\n");
    /* Through PIL, through the address of its memory, through the descriptors it has. */
    says(a, "import ctypes, mmap, os\nimg.putpixel((1, 0), (9, 9, 9))\nimg.getpixel((1, 0))", "(9, 9, 9)\n");
    says(a,
         "done = 0\nfor fd in range(8):\n    try: mmap.mmap(fd, 4096, mmap.MAP_SHARED, 3)\n    except (OSError, "
         "ValueError): continue\n    done |= 1 << fd\ndone",
         "32\n"); /* its own pictures out */
    says(b, "img.getpixel((1, 0))", "(3, 4, 5)\n");
    box *c = open_box(in);
    says(c, "img.getpixel((1, 0))", "(3, 4, 5)\n");
    box_close(a);
    box_close(b);
    box_close(c);
    box_input_release(in);
    assert_int_equal(find_memfd("box-input"), -1);
}

/* A thread goes on writing when the turn ends: what is returned is what stood there when the turn was frozen, which its
 * own counter in the frozen state tells. */
static void a_snapshot_is_consistent(void **s)
{
    (void)s;
    box *b = open_box(NULL);
    box_result r = test_turn(pool, b,
                             "import threading, mmap\n"
                             "show(np.zeros((64, 64, 3), np.uint8))\n"
                             "m = mmap.mmap(5, 64 * 64 * 3, mmap.MAP_SHARED, 3)\n"
                             "v = np.frombuffer(m, np.int64)\n"
                             "n = np.zeros(1, np.int64)\n"
                             "def go():\n"
                             "    while True:\n"
                             "        n[0] += 1\n"
                             "        v[:] = n[0]\n"
                             "t = threading.Thread(target=go, daemon=True)\n"
                             "t.start()\n"
                             "while n[0] < 1000: pass\n");
    assert_int_equal(r.verdict, BOX_OK);
    assert_int_equal(r.n_image, 1);
    int64_t first, last, n;
    memcpy(&first, r.images[0].rgb, sizeof first);
    memcpy(&last, r.images[0].rgb + 64 * 64 * 3 - sizeof last, sizeof last);
    char *text = test_expect(pool, b, "int(n[0])", BOX_OK);
    n = strtoll(text, NULL, 10);
    if (n < first || n - last > 1)
        print_message("%lld, %lld in a state of %s", (long long)first, (long long)last, text);
    assert_true(n >= 1000 && n >= first && n - last <= 1 && first - last <= 1);
    free(text);
    box_result_free(&r);
    box_close(b);
}

static void what_code_does_to_the_file_stays_there(void **s)
{
    (void)s;
    static const struct {
        const char *code;
        box_verdict v;
        int n_image, value; /* of every byte */
    } t[] = {
        {"import os\nshow(np.full((8, 8, 3), 7, np.uint8))\nos.pwrite(5, bytes([9]) * 192, 0)", BOX_OK, 1, 9},
        {"import os\nshow(np.full((8, 8, 3), 7, np.uint8))\ntry: os.ftruncate(5, 0)\nexcept PermissionError: pass",
         BOX_OK, 1, 7},
        {"import os\nshow(np.full((8, 8, 3), 7, np.uint8))\nos.close(5)", BOX_OK, 1, 7},
        {"import os\nos.dup2(0, 5)\ntry: show(np.full((8, 8, 3), 7, np.uint8))\nexcept Exception: pass", BOX_OK, -1,
         -1},
        {"import os\nos.lseek(5, 0, 2)\nshow(np.full((8, 8, 3), 7, np.uint8))", BOX_OK, 1, 7},
        {"import os, ctypes\nshow(np.full((8, 8, 3), 7, np.uint8))\nctypes.CDLL(None).fallocate(5, 3, 0, "
         "ctypes.c_long(1 "
         "<< 20))",
         BOX_OK, 1, 0},
        {"import ctypes\nlibc = ctypes.CDLL(None)\nfor b in (1, 2, 4, 8, 16): libc.fcntl(5, 1033, b)\nshow(np.full((8, "
         "8, "
         "3), 7, np.uint8))",
         BOX_OK, 1, 7},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        box *b = open_box(NULL);
        box_result r = test_turn(pool, b, t[i].code);
        if (r.verdict != t[i].v || (t[i].n_image >= 0 && r.n_image != t[i].n_image))
            print_message("%s: %s, %d pictures, %s\n", t[i].code, box_verdict_name(r.verdict), r.n_image,
                          r.error_message ? r.error_message : "");
        assert_int_equal(r.verdict, t[i].v);
        if (t[i].n_image >= 0) assert_int_equal(r.n_image, t[i].n_image);
        for (int k = 0; t[i].value >= 0 && r.n_image && k < 192; k++) assert_int_equal(r.images[0].rgb[k], t[i].value);
        box_result_free(&r);
        r = test_turn(pool, b, "show(np.full((4, 4, 3), 5, np.uint8))"); /* a later turn of the same box */
        if (r.verdict == BOX_OK && r.n_image)
            for (int k = 0; k < 48; k++) assert_true(r.images[0].rgb[k] == 5 || strstr(t[i].code, "5)"));
        box_result_free(&r);
        box_close(b);
        b = open_box(NULL); /* and the jail's next box */
        r = test_turn(pool, b, "show(np.full((4, 4, 3), 5, np.uint8))");
        assert_int_equal(r.verdict, BOX_OK);
        assert_int_equal(r.n_image, 1);
        for (int k = 0; k < 48; k++) assert_int_equal(r.images[0].rgb[k], 5);
        box_result_free(&r);
        box_close(b);
    }
}

static void every_number_is_checked(void **s)
{
    (void)s;
    box_limits l;
    box_limits_default(&l);
    static const struct {
        wire_image im[2];
        int n, ok;
    } t[] = {
        {{{8, 8, 0}}, 1, 1},
        {{{8, 8, 0}, {4, 4, 192}}, 2, 1},
        {{{8, 8, 0}, {4, 4, 191}}, 2, 0}, /* overlap */
        {{{8, 8, 0}, {4, 4, 193}}, 2, 0}, /* gap */
        {{{8, 8, 1}}, 1, 0},
        {{{8, 8, -192}}, 1, 0},
        {{{8, 8, INT64_MAX}}, 1, 0},
        {{{0, 8, 0}}, 1, 0},
        {{{8, 0, 0}}, 1, 0},
        {{{-8, -8, 0}}, 1, 0},
        {{{INT32_MAX, INT32_MAX, 0}}, 1, 0},
        {{{INT32_MIN, INT32_MIN, 0}}, 1, 0},
        {{{1 << 16, 1 << 16, 0}}, 1, 0}, /* 0 in 32 bits */
        {{{8192, 2048, 0}}, 1, 1},
        {{{8192, 2049, 0}}, 1, 0},                        /* pixels */
        {{{8193, 1, 0}}, 1, 0},                           /* side */
        {{{1, 201, 0}}, 1, 0},                            /* shape */
        {{{4096, 4096, 0}, {4096, 4096, 3 << 24}}, 2, 0}, /* 96 MiB */
        {{{8, 8, 0}}, -1, 0},
        {{{8, 8, 0}}, 17, 0},
        {{{8, 8, 0}}, INT32_MAX, 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        wire_image im[32] = {{0}};
        memcpy(im, t[i].im, sizeof t[i].im);
        if (wire_images_ok(im, t[i].n, &l) != t[i].ok) print_message("row %zu\n", i);
        assert_int_equal(wire_images_ok(im, t[i].n, &l), t[i].ok);
    }
}

/* A client that sends a file it could still change is no client of ours. */
static void unsealed_pictures_are_refused(void **s)
{
    (void)s;
    int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, 1 << 16), 0);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    wire_run open = {.h = {.op = OP_OPEN, .id = 200}, .has_input = 1};
    assert_int_equal(wire_send(supervisor.sock, &open, sizeof open, NULL, 0, &fd, 1), 0);
    close(fd);
    pid_t before = supervisor.pid;
    box *done;
    box_poll(pool, &done, 1, 0);
    for (double until = clock_now() + 5; supervisor.pid == before && clock_now() < until; usleep(10000)) {
        box *b = open_box(NULL);
        free(test_expect(pool, b, "1", BOX_OK));
        box_close(b);
    }
    assert_int_not_equal(supervisor.pid, before);
}

int main(int argc, char **argv)
{
    int rc = box_boot(argc, argv, CODEDANCE_EXE);
    if (rc >= 0) return rc;
    box_opts o = test_box_opts();
    o.spares = 1;
    status st = box_pool_create(&pool, &o);
    if (st == ST_EUNAVAIL) {
        printf("SKIP: %s\n", fail_message());
        return 77;
    }
    assert_int_equal(st, ST_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_writes_to_input_pictures),        cmocka_unit_test(a_snapshot_is_consistent),
        cmocka_unit_test(what_code_does_to_the_file_stays_there), cmocka_unit_test(every_number_is_checked),
        cmocka_unit_test(unsealed_pictures_are_refused),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    box_pool_destroy(pool);
    box_shutdown();
    return rc;
}
