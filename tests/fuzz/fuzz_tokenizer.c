#include <stdlib.h>
#include <string.h>

#include "data/tokenizer.h"
#include "data/unicode.h"
#include "tests/fuzz/fuzz.h"

/* Encodes and decodes; the text of the ids is the NFC of the text. Added tokens are cut out before NFC. */
static status both_ways(const tokenizer *t, const char *text, size_t n, bool special)
{
    ids l = {0};
    TRY(tokenizer_encode(t, text, n, special, &l));
    char *back = NULL, *shown = tokenizer_text(t, l.v, l.n, true);
    size_t len = 0, want_n = n;
    tokenizer_decode(t, l.v, l.n, false, &back, &len);
    char *nfc = special ? NULL : unicode_nfc(text, n, &want_n);
    if (!special) CHECK(len == want_n && !memcmp(back, nfc ? nfc : text, len));
    CHECK(unicode_valid(shown, strlen(shown)));
    for (int i = 0; i < l.n; i++) CHECK(l.v[i] >= 0 && l.v[i] < tokenizer_vocab(t));
    free(nfc);
    free(back);
    free(shown);
    ids_free(&l);
    return ST_OK;
}

status fuzz_text(const uint8_t *data, size_t n)
{
    const tokenizer *t = fuzz_demo_tokenizer();
    status st = both_ways(t, (const char *)data, n, false);
    return st == ST_OK ? both_ways(t, (const char *)data, n, true) : st;
}

status fuzz_tokenizer(const uint8_t *data, size_t n)
{
    static const char text[] =
        "The cat's hat\r\n\n 1234 \xc3\xa9\xcc\x81 e\xcc\x81 \xf0\x9f\x98\x80<|im_end|> aaaaaaaaa\t.";
    tokenizer *t = NULL;
    TRY(tokenizer_load(&t, fuzz_file(data, n)));
    for (int special = 0; special < 2; special++) {
        ids l = {0};
        CHECK(tokenizer_encode(t, text, sizeof text - 1, special, &l) == ST_OK);
        for (int i = 0; i < l.n; i++) CHECK(l.v[i] >= 0 && l.v[i] < tokenizer_vocab(t));
        free(tokenizer_text(t, l.v, l.n, special));
        ids_free(&l);
    }
    (void)tokenizer_id(t, "<|im_end|>");
    tokenizer_destroy(t);
    return ST_OK;
}
