#include "tests/common/boxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

box_opts test_box_opts(void)
{
    static const char *const imports[] = {"numpy", "PIL.Image", NULL};
    box_opts o = {.imports = imports,
                  .preset = "import numpy as np\nW, H = 224, 116\n",
                  .min_tier = BOX_T1,
                  .spares = 4,
                  .max_live = 256,
                  .max_starting = 4};
    box_limits_default(&o.limits);
    o.limits.wall_s = 1;
    o.limits.wall_grace_s = 0.5;
    o.limits.cpu_s = 2;
    o.limits.memory_mib = 128; /* touched page by page within wall_s, on a busy machine too */
    o.limits.tmp_mib = 32;
    o.limits.pids = 24;
    o.limits.images_per_turn = 4;
    o.limits.output_kib_kept = 16;
    o.limits.output_kib_max = 1024;
    return o;
}

box_result test_turn(box_pool *p, box *b, const char *code)
{
    box *done = NULL;
    box_result r;
    CHECK(box_submit(b, code, strlen(code)) == ST_OK);
    for (int i = 0; i < 60 && done != b; i++) {
        if (box_poll(p, &done, 1, 1000) == 1) CHECK(done == b);
    }
    CHECK(done == b); /* a minute without an answer: it hangs */
    box_result_take(b, &r);
    return r;
}

char *test_expect(box_pool *p, box *b, const char *code, box_verdict v)
{
    box_result r = test_turn(p, b, code);
    if (r.verdict != v) {
        fprintf(stderr, "expected %s, got %s (code %d, %s: %s)\nstdout: %.500s\n---\n%s\n", box_verdict_name(v),
                box_verdict_name(r.verdict), r.code, r.error_type, r.error_message ? r.error_message : "", r.text,
                code);
        abort();
    }
    char *text = r.text;
    r.text = NULL;
    box_result_free(&r);
    return text;
}
