#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/tokenizer.h"
#include "tests/common/tempdir.h"
#include "tests/fuzz/fuzz.h"

const char *fuzz_file(const uint8_t *data, size_t n)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    for (size_t at = 0; at < n;) {
        ssize_t k = write(fd, data + at, n - at);
        CHECK(k > 0);
        at += (size_t)k;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

const tokenizer *fuzz_demo_tokenizer(void)
{
    static tokenizer *t;
    if (t) return t;
    static const char *const text[] = {"the cat and the hat, the 12 of them: system user assistant\n\n  def f(x):\n"};
    static const added_token added[] = {
        {"<|endoftext|>", true},    {"<|im_start|>", true},      {"<|im_end|>", true},    {"<|vision_start|>", true},
        {"<|vision_end|>", true},   {"<|vision_pad|>", true},    {"<|image_pad|>", true}, {"<|video_pad|>", true},
        {"<tool_response>", false}, {"</tool_response>", false}, {"<think>", false},      {"</think>", false}};
    const char *path = temppath("tokenizer.json");
    CHECK(tokenizer_train(text, 1, added, (int)(sizeof added / sizeof *added), 20, path) == ST_OK);
    CHECK(tokenizer_load(&t, path) == ST_OK);
    return t;
}
