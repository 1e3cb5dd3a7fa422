#include "data/chat.h"
#include "tests/fuzz/fuzz.h"

/* Renders every message. */
static status render(const sample *s)
{
    static const int32_t one[3] = {1, 2, 4};
    int32_t grids[64][3];
    chat c;
    chat_seq q = {0};
    for (int i = 0; i < 64; i++)
        for (int k = 0; k < 3; k++) grids[i][k] = one[k];
    CHECK(s->n_image <= 64 && chat_init(&c, fuzz_demo_tokenizer(), 2, "You are a helpful assistant.") == ST_OK);
    status st = ST_OK;
    for (int i = 0; i < s->n_message && st == ST_OK; i++)
        st = chat_append_message(&c, &q, &s->messages[i], (const int32_t(*)[3])grids);
    if (st == ST_OK) st = chat_append_generation_prompt(&c, &q);
    if (st == ST_OK) CHECK(q.n_image == s->n_image && q.id.n > 0);
    for (int i = 0; i < q.id.n; i++) CHECK(q.mask[i] <= 1);
    chat_seq_free(&q);
    return st;
}

status fuzz_conversation(const uint8_t *data, size_t n)
{
    sample s, again;
    json_out o;
    TRY(sample_parse(&s, (const char *)data, n, "rows.jsonl:1"));
    json_begin(&o, false);
    sample_to_json(&s, &o);
    CHECK(sample_parse(&again, o.text, o.len, "rows.jsonl:1") == ST_OK);
    CHECK(again.n_message == s.n_message && again.n_image == s.n_image);
    for (int i = 0; i < s.n_message; i++) {
        const message *m = &s.messages[i];
        for (int k = 0; k < m->n_part; k++) {
            chat_turn turn;
            if (!m->parts[k].text) continue;
            size_t len = __builtin_strlen(m->parts[k].text);
            chat_parse_turn(m->parts[k].text, len, &turn);
            CHECK(turn.code_at < 0 || (size_t)turn.code_at + (size_t)turn.code_len <= len);
            CHECK(turn.answer_at < 0 || (size_t)turn.answer_at + (size_t)turn.answer_len <= len);
        }
    }
    status st = render(&s);
    json_end(&o);
    sample_free(&again);
    sample_free(&s);
    return st;
}
