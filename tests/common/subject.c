#include "tests/common/subject.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/kernels.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

void subject_open(subject *s, fixture *f)
{
    char path[1024];
    memset(s, 0, sizeof *s);
    s->f = f;
    ok(hf_load_config(&s->cfg, f->dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", f->dir);
    ok(tokenizer_load(&s->tok, path));
    image_processor_default(&s->ip);
    if (s->cfg.has_vision) ok(image_processor_load(&s->ip, f->dir));
    const st_tensor *style = fixture_get(f, "style");
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)style->bytes, (const char *)style->data);
    ok(chat_init(&s->chat, s->tok, s->ip.merge, NULL));
    s->chat.style = chat_style_find(name);
    assert_non_null(s->chat.style);
    ok(backend_open_cpu(&s->b, 2, "auto"));
    ok(model_create(&s->m, s->b, &s->cfg, true));
    ok(hf_load_weights(s->m, f->dir));
    snprintf(path, sizeof path, "%s/chats.jsonl", f->dir);
    ok(dataset_open(&s->data, path));
    s->n = (int)dataset_count(s->data);
    assert_in_range(s->n, 1, FIXTURE_CHATS);
    for (int k = 0; k < s->n; k++) ok(render_row(&s->row[k], s->data, k, &s->chat, &s->ip));
}

void subject_close(subject *s)
{
    for (int k = 0; k < s->n; k++) render_free(&s->row[k]);
    dataset_close(s->data);
    model_destroy(s->m);
    backend_close(s->b);
    tokenizer_destroy(s->tok);
}
