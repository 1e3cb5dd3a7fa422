/* The tokenizer: pieces, NFC, files in both encodings, learning; and the tokenizers library where Python has it. */
#include "data/tokenizer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/json.h"
#include "data/tokenizer_inside.h"
#include "data/unicode.h"

#define OK(call)                                                        \
    do {                                                                \
        if ((call) != ST_OK) fail_msg("%s: %s", #call, fail_message()); \
    } while (0)

static const added_token added[] = {
    {"<|endoftext|>", true}, {"<|im_start|>", true}, {"<|im_end|>", true}, {"<|vision_start|>", true},
    {"<think>", false},      {"</think>", false},    {"<|im", false}};
enum { N_ADDED = sizeof added / sizeof *added };

static const char *const corpus[] = {
    "What digit is on the card? It's the red card's digit: 7.\n\n<think>Zoom "
    "in.</think><code>\n```python\nshow(img.crop((0, 0, 28, 28)))\n```",
    "  def f(x):\n        return x + 1  # don't\r\n\r\n\tprint('we'll', \"they're\", I'VE)\n",
    "Wie viele Gr\xc3\xbc\xc3\x9f"
    "e? \xe4\xb8\xad\xe6\x96\x87\xe5\xad\x97\xe7\xac\xa6 \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 "
    "e\xcc\x81t\xc3\xa9",
    "the the the then there these them that this those thin think thing things aaaa aaaaaaa 1234567890 <|im_end|>the",
    "How many dots are in the blue tile of the card? Count the dots: there are 12 dots in the tile on the card.\n"};
enum { N_CORPUS = sizeof corpus / sizeof *corpus };

static char model_path[] = "/tmp/test_tokenizer_XXXXXX", other_path[] = "/tmp/test_tokenizer_XXXXXX";
static tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    close(mkstemp(model_path));
    close(mkstemp(other_path));
    OK(tokenizer_train(corpus, N_CORPUS, added, N_ADDED, 150, model_path));
    OK(tokenizer_load(&tok, model_path));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tokenizer_destroy(tok);
    unlink(model_path);
    unlink(other_path);
    return 0;
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = malloc(1 << 22);
    *n = fread(text, 1, (1 << 22) - 1, f);
    text[*n] = 0;
    fclose(f);
    return text;
}

typedef struct joined {
    char text[2000];
    size_t n;
} joined;

static void join(void *ctx, const char *piece, size_t n)
{
    joined *j = ctx;
    memcpy(j->text + j->n, piece, n);
    j->n += n;
    j->text[j->n++] = '|';
    j->text[j->n] = 0;
}

static void test_pieces(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"Hello world", "Hello| world|"},
        {"It's we'll I'VE don'T", "It|'s| we|'ll| I|'VE| don|'T|"},
        {"'\xc5\xbfx 'x", "'\xc5\xbf|x| '|x|"},
        {"abc123 45", "abc|1|2|3| |4|5|"},
        {"a  b", "a| | b|"},
        {"a   b  ", "a|  | b|  |"},
        {"a \n\n b", "a| \n\n| b|"},
        {"a\n  b", "a|\n| | b|"},
        {"x = (1)\n\n  y", "x| =| (|1|)\n\n| | y|"},
        {"...\r\n\r\nz", "...\r\n\r\n|z|"},
        {"\tif x:\n\t\treturn", "\tif| x|:\n|\t|\treturn|"},
        {" !", " !|"},
        {"  !", " | !|"},
        {"(word", "(word|"},
        {"((word", "((|word|"},
        {"<think>", "<think|>|"},
        {"</think>", "</|think|>|"},
        {"\xc2\xa0x", "\xc2\xa0x|"},
        {"\xc2\xa0!", "\xc2\xa0|!|"},
        {"\x1c\x1d", "\x1c\x1d|"},
        {"\xe4\xb8\xad\xe6\x96\x87\xe3\x80\x82", "\xe4\xb8\xad\xe6\x96\x87|\xe3\x80\x82|"},
        {"\xc2\xbd"
         "a",
         "\xc2\xbd|a|"},
        {"\xe0\xa4\xa8\xe0\xa4\xbf", "\xe0\xa4\xa8|\xe0\xa4\xbf|"},
        {"e\xcc\x81", "\xc3\xa9|"},
        {"q\xcc\x81x", "q|\xcc\x81x|"},
        {"\r\n \t x", "\r\n| \t| x|"},
        {"\xe1\xb2\x89\xe1\xb2\x8a", "\xe1\xb2\x89\xe1\xb2\x8a|"}, /* letters since Unicode 16 */
        {"   ", "   |"},
        {"a ", "a| |"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        joined j = {.n = 0};
        size_t n = strlen(cases[i][0]), n_nfc = n;
        char *nfc = unicode_nfc(cases[i][0], n, &n_nfc);
        tokenizer_split(tok->points, nfc ? nfc : cases[i][0], nfc ? n_nfc : n, join, &j);
        free(nfc);
        assert_string_equal(j.text, cases[i][1]);
    }
}

static void test_nfc(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"e\xcc\x81", "\xc3\xa9"},                                /* e + acute */
        {"a\xcc\xa3\xcc\x82", "\xe1\xba\xad"},                    /* two marks compose one after the other */
        {"a\xcc\x82\xcc\xa3", "\xe1\xba\xad"},                    /* and are put in order first */
        {"\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"}, /* Hangul L V T */
        {"\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81"},             /* LV + T */
        {"\xe2\x84\xab", "\xc3\x85"},                             /* angstrom sign */
        {"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"},             /* excluded from composition */
        {"\xcd\x84", "\xcc\x88\xcc\x81"},                         /* U+0344 stays apart */
        {"a\xcc\xb8\xcc\x81", "\xc3\xa1\xcc\xb8"},                /* skips a lower class */
        {"a\xcc\x80\xcc\x81", "\xc3\xa0\xcc\x81"},                /* blocked: same class */
        {"a\xcd\x85\xe1\xb7\xbb", "a\xe1\xb7\xbb\xcd\x85"},       /* U+1DFB is of Unicode 9: put in order */
        {"a\xcd\x85\xe1\xb7\xb6", "a\xcd\x85\xe1\xb7\xb6"}};      /* U+1DF6 of Unicode 10: unknown to NFC */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        char *got = unicode_nfc(cases[i][0], strlen(cases[i][0]), &n);
        assert_non_null(got);
        assert_int_equal(n, strlen(cases[i][1]));
        assert_memory_equal(got, cases[i][1], n);
        free(got);
    }
    size_t n;
    char *got = unicode_nfc("n\0q\xcc\x81", 5, &n); /* a NUL composes with nothing */
    assert_int_equal(n, 5);
    free(got);
    assert_null(unicode_nfc("plain \xc3\xa9", 8, &n));
}

static void test_repair(void **state)
{
    (void)state;
#define R "\xef\xbf\xbd"
    static const char *const cases[][2] = {{"ok", "ok"},
                                           {"a\xff"
                                            "b",
                                            "a" R "b"},
                                           {"\xe4\xb8", R},
                                           {"\xe4\xb8x", R "x"},
                                           {"\xf0\x9f\x98", R},
                                           {"\xf0\x80\x80", R R R},
                                           {"\xed\xa0\x80", R R R},
                                           {"\xc0\x80", R R},
                                           {"\x80\xe4", R R},
                                           {"\xf4\x90\x80\x80", R R R R}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *got = unicode_repair(cases[i][0], strlen(cases[i][0]), NULL);
        assert_string_equal(got, cases[i][1]);
        free(got);
    }
}

static void expect_round_trip(const tokenizer *t, const char *s, bool special)
{
    ids l = {0};
    OK(tokenizer_encode(t, s, strlen(s), special, &l));
    char *back = tokenizer_text(t, l.v, l.n, false);
    assert_string_equal(back, s);
    free(back);
    ids_free(&l);
}

static void test_learnt(void **state)
{
    (void)state;
    assert_int_equal(tokenizer_vocab(tok), 256 + 150 + N_ADDED);
    assert_int_equal(tokenizer_id(tok, "<|endoftext|>"), 406);
    assert_int_equal(tokenizer_id(tok, "<|im_end|>"), 408);
    assert_int_equal(tokenizer_id(tok, "<|im"), 412);
    assert_int_equal(tokenizer_id(tok, "the"), -1);
    assert_int_equal(tokenizer_id(tok, ""), -1);
    ids l = {0};
    OK(tokenizer_encode(tok, " the", 4, true, &l));
    assert_int_equal(l.n, 1); /* the most frequent word is one token */
    l.n = 0;
    OK(tokenizer_encode(tok, "<|im_end|><|im_x<think>7", 24, true, &l)); /* the longest added token wins */
    static const int want[] = {408, 412};
    assert_memory_equal(l.v, want, sizeof want);
    assert_int_equal(l.v[l.n - 2], tokenizer_id(tok, "<think>"));
    assert_int_equal(l.v[l.n - 1], '7' - '!');
    l.n = 0;
    OK(tokenizer_encode(tok, "<|im_end|><think>", 17, false, &l));
    for (int i = 0; i < l.n; i++) assert_true(l.v[i] < 406); /* plain text never becomes a control id */
    char *text = tokenizer_text(tok, l.v, l.n, true);
    assert_string_equal(text, "<|im_end|><think>");
    free(text);
    ids_free(&l);
    for (int i = 0; i < N_CORPUS; i++)
        if (i != 2) { /* the one with a decomposed letter comes back composed */
            expect_round_trip(tok, corpus[i], true);
            expect_round_trip(tok, corpus[i], false);
        }
    const int32_t odd[] = {-1, 100000, 408, 5, 412};
    text = tokenizer_text(tok, odd, 5, true);
    assert_string_equal(text, "&<|im");
    free(text);
    text = tokenizer_text(tok, odd, 5, false);
    assert_string_equal(text, "<|im_end|>&<|im");
    free(text);
    char *buf = NULL;
    size_t n = 0;
    tokenizer_decode(tok, odd, 0, false, &buf, &n);
    assert_int_equal(n, 0);
    free(buf);
    ids bad = {0};
    assert_int_equal(tokenizer_encode(tok, "a\xff", 2, true, &bad), ST_EINVAL);
    assert_int_equal(bad.n, 0);
    OK(tokenizer_encode(tok, "a\0b", 3, true, &bad)); /* a NUL byte is a byte like others */
    assert_int_equal(bad.n, 3);
    ids_free(&bad);
}

/* Merging by heap against the definition: lowest rank first, leftmost on ties, one at a time. */
static void test_merging(void **state)
{
    (void)state;
    const char *letters = "thesandi oc";
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        char s[40];
        int n = 0;
        for (int len = 1 + round % 38; n < len; n++) s[n] = letters[(seed = seed * 1664525u + 1013904223u) >> 24 & 7];
        int32_t id[40], k = n;
        for (int i = 0; i < n; i++) id[i] = tok->byte_id[(uint8_t)s[i]];
        for (;;) {
            const merge_rule *best = NULL;
            int at = 0;
            for (int i = 0; i + 1 < k; i++) {
                const merge_rule *m = tokenizer_find_merge(tok, id[i], id[i + 1]);
                if (m && (!best || m->rank < best->rank)) best = m, at = i;
            }
            if (!best) break;
            id[at] = best->made;
            memmove(id + at + 1, id + at + 2, (size_t)(--k - at - 1) * sizeof *id);
        }
        ids l = {0};
        OK(tokenizer_encode(tok, s, (size_t)n, false, &l));
        assert_int_equal(l.n, k);
        assert_memory_equal(l.v, id, (size_t)k * sizeof *id);
        ids_free(&l);
    }
}

/* What pieces became is remembered by one thread at a time; the others merge anew. Same ids. */
static void *encode_often(void *ctx)
{
    const ids *want = ctx;
    for (int round = 0; round < 200; round++) {
        ids l = {0};
        for (int i = 0; i < N_CORPUS; i++) OK(tokenizer_encode(tok, corpus[i], strlen(corpus[i]), true, &l));
        bool same = l.n == want->n && !memcmp(l.v, want->v, (size_t)l.n * sizeof *l.v);
        ids_free(&l);
        if (!same) return ctx;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    ids want = {0};
    for (int i = 0; i < N_CORPUS; i++) OK(tokenizer_encode(tok, corpus[i], strlen(corpus[i]), true, &want));
    pthread_t t[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, encode_often, &want), 0);
    for (int i = 0; i < 4; i++) {
        void *bad = NULL;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    ids_free(&want);
}

static void test_hostile_length(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *s = malloc(N);
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < N; i++) s[i] = kind == 0 ? 'a' : kind == 1 ? ' ' : (i & 1) ? (char)0x81 : (char)0xcc;
        ids l = {0};
        clock_t t0 = clock(); /* CPU: the machine may be busy */
        OK(tokenizer_encode(tok, s, N, true, &l));
        assert_true(clock() - t0 < 20 * CLOCKS_PER_SEC); /* quadratic work would take hours */
        assert_true(l.n > 0);
        ids_free(&l);
    }
    free(s);
}

static void rewrite(const char *from, const char *to)
{
    size_t n;
    char *text = slurp(model_path, &n), *at = strstr(text, from);
    if (!at) fail_msg("the model file has no %s", from);
    FILE *f = fopen(other_path, "wb");
    fwrite(text, 1, (size_t)(at - text), f);
    fputs(to, f);
    fputs(at + strlen(from), f);
    fclose(f);
    free(text);
}

static void test_refused_files(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"\"NFC\"", "\"NFKC\"", "normalizer"},
        {"(?i:'s|", "(?i:'z|", "Split pattern"},
        {"\"Isolated\"", "\"Removed\"", "Isolated"},
        {"\"invert\": false", "\"invert\": true", "Isolated"},
        {"\"add_prefix_space\": false", "\"add_prefix_space\": true", "add_prefix_space"},
        {"\"use_regex\": false", "\"use_regex\": true", "use_regex"},
        {"\"BPE\"", "\"WordPiece\"", "BPE"},
        {"\"byte_fallback\": false", "\"byte_fallback\": true", "byte_fallback"},
        {"\"ignore_merges\": false", "\"ignore_merges\": true", "ignore_merges"},
        {"\"dropout\": null", "\"dropout\": 0.1", "dropout"},
        {"\"end_of_word_suffix\": \"\"", "\"end_of_word_suffix\": \"</w>\"", "end_of_word_suffix"},
        {"\"!\": 0", "\"!!\": 0", "byte 0x21"},
        {"\"!\": 0", "\"!\": 1", "taken"},
        {"\"!\": 0", "\"!\": -1", "bad id"},
        {"\"!\": 0", "\"!\": \"x\"", "bad id"},
        {"\"!\": 0", "\"!\": 99999999", "too large"},
        {"\"normalized\": false", "\"normalized\": true", "normalized"},
        {"\"lstrip\": false", "\"lstrip\": true", "lstrip"},
        {"\"content\": \"<think>\"", "\"content\": \"\"", "content"},
        {"\"content\": \"<think>\"", "\"content\": \"<|im_end|>\"", "twice"},
        {"\"id\": 406", "\"id\": 3", "belongs"},
        {"\"id\": 406", "\"id\": 1000", "ids go up to"},
        {"\"special\": true", "\"special\": 1", "special must be"},
        {"\"normalized\": false", "\"normalized\": 0", "normalized"},
        {"\"byte_fallback\": false", "\"byte_fallback\": 0", "byte_fallback"},
        {"\"!\": 0", "\"!\": 0, \"!\": 0", "!"},
        {"\"merges\": [", "\"merges\": [7, ", "merges[0]"},
        {"\"merges\": [", "\"merges\": [\"t h\", ", "there already"},
        {"\"<think>\"", "\"<think\xff>\"", "UTF-8"},
        {"\"added_tokens\": [", "\"added_tokens\": {}, \"x\": [", "added_tokens"},
        {"\"id\": 406", "\"id\": null", "added_tokens[0].id"},
        {"\"merges\": [", "\"merges\": [\"a b c\",", "two symbols"},
        {"\"merges\": [", "\"merges\": [\"ab\",", "two symbols"},
        {"\"merges\": [", "\"merges\": [\"q q\",", "model.merges[0]"},
        {"\"merges\": [", "\"merges\": [[\"a\"],", "expected"},
        {"\"merges\": [", "\"merges\": [7,", "expected"},
        {"\"merges\": [", "\"merges\": 7, \"x\": [", "must be a list"},
        {"\"post_processor\": {", "\"post_processor\": {\"type\": \"TemplateProcessing\"}, \"x\": {", "post_processor"},
        {"\"post_processor\": {",
         "\"post_processor\": {\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
         "{\"Sequence\":{\"id\":\"A\"}}]}, \"x\": {",
         "post_processor"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rewrite(cases[i][0], cases[i][1]);
        tokenizer *t = NULL;
        if (tokenizer_load(&t, other_path) != ST_EINVAL) fail_msg("accepted: %s", cases[i][1]);
        if (!strstr(fail_message(), cases[i][2])) fail_msg("message '%s' lacks '%s'", fail_message(), cases[i][2]);
        if (!strstr(fail_message(), other_path)) fail_msg("message '%s' lacks the file", fail_message());
        assert_null(t);
    }
    tokenizer *t = NULL;
    assert_int_equal(tokenizer_load(&t, "/nonexistent/tokenizer.json"), ST_EIO);
}

/* Merges as arrays (what newer versions of the library write) give the same tokenizer. */
/* transformers 5 writes a template of the text alone: it adds nothing, so it is no reason to refuse the file. */
static void test_template_of_text(void **state)
{
    (void)state;
    rewrite(
        "\"post_processor\": {",
        "\"post_processor\": {\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}"
        "}],\"special_tokens\":{}}, \"x\": {");
    tokenizer *t = NULL;
    OK(tokenizer_load(&t, other_path));
    expect_round_trip(t, corpus[0], true);
    tokenizer_destroy(t);
}

static void put_file(const char *dir, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!text) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "wb");
    fputs(text, f);
    fclose(f);
}

/* vocab.json, merges.txt and tokenizer_config.json with what the model file says. */
static void put_old_files(const char *dir, const char *class)
{
    json *root = NULL;
    OK(json_read_file(&root, model_path, 1 << 22));
    const json *model = json_get(root, "model"), *merges = json_get(model, "merges"),
               *list = json_get(root, "added_tokens");
    json_out o;
    json_begin(&o, false);
    json_put_node(&o, json_get(model, "vocab"));
    put_file(dir, "vocab.json", o.text);
    json_end(&o);
    char *text = calloc(1, 1 << 16), *at = text;
    at += sprintf(at, "#version: 0.2\n");
    for (int64_t i = 0; i < json_len(merges); i++) at += sprintf(at, "%s\r\n", json_str(json_at(merges, i)));
    put_file(dir, "merges.txt", text);
    free(text);
    json_begin(&o, false);
    json_open(&o, '{');
    json_key(&o, "tokenizer_class");
    json_put_str(&o, class);
    json_key(&o, "added_tokens_decoder");
    json_open(&o, '{');
    for (int64_t i = 0; i < json_len(list); i++) {
        char id[20];
        snprintf(id, sizeof id, "%lld", (long long)json_int(json_get(json_at(list, i), "id")));
        json_key(&o, id);
        json_open(&o, '{');
        json_key(&o, "content");
        json_put_str(&o, json_str(json_get(json_at(list, i), "content")));
        json_key(&o, "special");
        json_put_bool(&o, json_bool(json_get(json_at(list, i), "special")));
        json_close(&o, '}');
    }
    json_close(&o, '}');
    json_close(&o, '}');
    put_file(dir, "tokenizer_config.json", o.text);
    json_end(&o);
    json_free(root);
}

static void expect_dir_refused(const char *dir, const char *words)
{
    tokenizer *t = NULL;
    assert_int_equal(tokenizer_load_dir(&t, dir), ST_EINVAL);
    if (!strstr(fail_message(), words)) fail_msg("'%s' does not say '%s'", fail_message(), words);
}

static void test_old_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_tokenizer_XXXXXX";
    assert_non_null(mkdtemp(dir));
    expect_dir_refused(dir, "no tokenizer.json");
    put_old_files(dir, "Qwen2TokenizerFast");
    tokenizer *t = NULL;
    OK(tokenizer_load_dir(&t, dir));
    assert_int_equal(t->n, tok->n);
    assert_memory_equal(t->merges, tok->merges, tok->n_slot * sizeof *t->merges);
    assert_memory_equal(t->added, tok->added, (size_t)tok->n_added * sizeof *t->added);
    for (int i = 0; i < t->n; i++) {
        assert_string_equal(t->tokens[i].text, tok->tokens[i].text);
        assert_int_equal(t->tokens[i].special, tok->tokens[i].special);
    }
    tokenizer_destroy(t);
    put_old_files(dir, "GPT2Tokenizer");
    expect_dir_refused(dir, "tokenizer_class");
    put_file(dir, "tokenizer_config.json", "{\"tokenizer_class\": \"Qwen2Tokenizer\"}");
    expect_dir_refused(dir, "added_tokens_decoder is missing");
    put_file(dir, "tokenizer_config.json",
             "{\"tokenizer_class\": \"Qwen2Tokenizer\", \"added_tokens_decoder\": {\"x\": {}}}");
    expect_dir_refused(dir, "added_tokens_decoder['x']");
    put_old_files(dir, "Qwen2Tokenizer");
    put_file(dir, "merges.txt", "a b c\n");
    expect_dir_refused(dir, "merges[0]");
    put_file(dir, "merges.txt", "a \xff\n");
    expect_dir_refused(dir, "merges");
    put_file(dir, "vocab.json", "{");
    expect_dir_refused(dir, "vocab.json:1");
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json"};
    for (int i = 0; i < 3; i++) put_file(dir, names[i], NULL);
    rmdir(dir);
}

static void test_merges_as_arrays(void **state)
{
    (void)state;
    json *root;
    OK(json_read_file(&root, model_path, 1 << 24));
    json_out o;
    json_begin(&o, false);
    json_open(&o, '{');
    for (int64_t i = 0; i < json_len(root); i++) {
        json_key(&o, json_key_at(root, i));
        const json *v = json_at(root, i);
        if (strcmp(json_key_at(root, i), "model") != 0) {
            json_put_node(&o, v);
            continue;
        }
        json_open(&o, '{');
        for (int64_t k = 0; k < json_len(v); k++) {
            json_key(&o, json_key_at(v, k));
            const json *m = json_at(v, k);
            if (strcmp(json_key_at(v, k), "merges") != 0) {
                json_put_node(&o, m);
                continue;
            }
            json_open(&o, '[');
            for (int64_t j = 0; j < json_len(m); j++) {
                const char *s = json_str(json_at(m, j)), *space = strchr(s, ' ');
                json_open(&o, '[');
                json_put_strn(&o, s, (size_t)(space - s));
                json_put_str(&o, space + 1);
                json_close(&o, ']');
            }
            json_close(&o, ']');
        }
        json_close(&o, '}');
    }
    json_close(&o, '}');
    FILE *f = fopen(other_path, "wb");
    fwrite(o.text, 1, o.len, f);
    fclose(f);
    json_end(&o);
    json_free(root);
    tokenizer *t;
    OK(tokenizer_load(&t, other_path));
    assert_int_equal(t->n, tok->n);
    assert_memory_equal(t->merges, tok->merges, tok->n_slot * sizeof *t->merges);
    tokenizer_destroy(t);
}

static void test_training_repeats(void **state)
{
    (void)state;
    size_t n, m;
    OK(tokenizer_train(corpus, N_CORPUS, added, N_ADDED, 150, other_path));
    char *a = slurp(model_path, &n), *b = slurp(other_path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    OK(tokenizer_train(corpus, 1, added, N_ADDED, 100000, other_path)); /* stops when every word is one token */
    tokenizer *t;
    OK(tokenizer_load(&t, other_path));
    assert_true(tokenizer_vocab(t) > 256 + N_ADDED && tokenizer_vocab(t) < 600);
    ids l = {0};
    OK(tokenizer_encode(t, " digit card", 11, true, &l));
    assert_int_equal(l.n, 2);
    ids_free(&l);
    tokenizer_destroy(t);
    const char *bad = "a\xff";
    assert_int_equal(tokenizer_train(&bad, 1, NULL, 0, 1, other_path), ST_EINVAL);
    OK(tokenizer_train(corpus, N_CORPUS, NULL, 0, 0, other_path)); /* bytes only */
    OK(tokenizer_load(&t, other_path));
    assert_int_equal(tokenizer_vocab(t), 256);
    expect_round_trip(t, corpus[0], true);
    tokenizer_destroy(t);
}

static uint32_t read_u32(FILE *f)
{
    uint32_t v = 0;
    assert_int_equal(fread(&v, 4, 1, f), 1);
    return v;
}

static char *read_text(FILE *f, uint32_t *n)
{
    *n = read_u32(f);
    char *s = malloc(*n + 1);
    assert_int_equal(fread(s, 1, *n, f), *n);
    s[*n] = 0;
    return s;
}

/* One to three ids at a time: every piece is complete, together they are the text. */
static void check_stream(const tokenizer *t, const int32_t *id, int n, bool skip, const char *text, uint32_t n_text)
{
    tokenizer_stream s = {.n = 0};
    char *buf = NULL;
    size_t len = 0;
    for (int i = 0, k; i < n; i += k) {
        k = 1 + (i + (int)n_text) % 3 < n - i ? 1 + (i + (int)n_text) % 3 : n - i;
        tokenizer_stream_push(t, &s, id + i, k, skip, &buf, &len);
        assert_true(unicode_valid(buf, len));
    }
    tokenizer_stream_end(&s, &buf, &len);
    if (len != n_text || memcmp(buf, text, len) != 0) fail_msg("streamed '%s', at once '%s'", buf, text);
    free(buf);
}

/* One record of tokenizer_reference.py. special: 0, 1 parse_special; 2, 3 only decoding, 3 without special tokens. */
static void check_case(const tokenizer *t, FILE *f, int special, int at)
{
    uint32_t n, n_want;
    char *s = read_text(f, &n);
    uint32_t n_ids = read_u32(f);
    int32_t *want = malloc((n_ids + 1) * sizeof *want);
    assert_int_equal(fread(want, 4, n_ids, f), n_ids);
    uint32_t skip = read_u32(f);
    char *decoded = read_text(f, &n_want);
    ids l = {0};
    if (special < 2) OK(tokenizer_encode(t, s, n, special, &l));
    if (special < 2 && (l.n != (int)n_ids || memcmp(l.v ? l.v : want, want, n_ids * sizeof *want))) {
        for (uint32_t i = 0; i < n; i++) print_error("%02x ", (uint8_t)s[i]);
        fail_msg("case %d: the library gives other ids", at);
    }
    char *text = tokenizer_text(t, want + skip, (int)(n_ids - skip), special & 1);
    if (memcmp(text, decoded, n_want + 1)) fail_msg("case %d: decoded '%s', the library '%s'", at, text, decoded);
    check_stream(t, want + skip, (int)(n_ids - skip), special & 1, text, n_want);
    free(text);
    free(decoded);
    free(want);
    free(s);
    ids_free(&l);
}

static void test_against_library(void **state)
{
    (void)state;
    char texts[] = "/tmp/test_tokenizer_XXXXXX", cases[] = "/tmp/test_tokenizer_XXXXXX", cmd[700];
    FILE *f = fdopen(mkstemp(texts), "wb");
    for (int i = 0; i < N_CORPUS; i++) fwrite(corpus[i], 1, strlen(corpus[i]) + (i + 1 < N_CORPUS), f);
    fclose(f);
    close(mkstemp(cases));
    snprintf(cmd, sizeof cmd, "python3 '%s/tests/tokenizer_reference.py' %s %s %s 2>&1", SOURCE_DIR, model_path, texts,
             cases);
    FILE *p = popen(cmd, "r");
    char said[500] = "";
    size_t n = fread(said, 1, sizeof said - 1, p);
    said[n] = 0;
    int rc = pclose(p), count = 0;
    f = fopen(cases, "rb");
    unlink(texts);
    unlink(cases);
    if (rc == -1 || !WIFEXITED(rc) || WEXITSTATUS(rc) == 77 || WEXITSTATUS(rc) == 127) {
        fclose(f);
        printf("SKIP: python3 has no tokenizers library to compare with\n");
        skip();
    }
    if (WEXITSTATUS(rc)) fail_msg("%s", said);
    for (int special; (special = fgetc(f)) >= 0 && special != 255;) check_case(tok, f, special, count++);
    fclose(f);
    printf("tokenizers library: %d texts equal\n", count);
    assert_true(count >= 3000);
}

static int check_file(const char *model, const char *cases);

/* Recorded answers of the tokenizers library for a tokenizer learnt from many languages (tokenizer_million.py). */
static void test_recorded(void **state)
{
    (void)state;
    assert_int_equal(
        check_file(SOURCE_DIR "/tests/fixtures/text/tokenizer.json", SOURCE_DIR "/tests/fixtures/text/cases.bin"), 0);
}

/* test_tokenizer TOKENIZER.json CASES: the records of a file, or of the standard input (-), and nothing else. */
static int check_file(const char *model, const char *cases)
{
    tokenizer *t = NULL;
    FILE *f = strcmp(cases, "-") ? fopen(cases, "rb") : stdin;
    if (!f || tokenizer_load(&t, model) != ST_OK) {
        fprintf(stderr, "%s\n", f ? fail_message() : cases);
        return 1;
    }
    int special, count = 0;
    for (; (special = fgetc(f)) >= 0 && special != 255; count++) check_case(t, f, special, count);
    printf("%s: %d texts equal%s\n", model, count, special == 255 ? "" : ", but the cases end early");
    tokenizer_destroy(t);
    if (f != stdin) fclose(f);
    return special != 255;
}

int main(int argc, char **argv)
{
    if (argc == 3) return check_file(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces),           cmocka_unit_test(test_nfc),
                                       cmocka_unit_test(test_repair),           cmocka_unit_test(test_learnt),
                                       cmocka_unit_test(test_merging),          cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_hostile_length),   cmocka_unit_test(test_refused_files),
                                       cmocka_unit_test(test_merges_as_arrays), cmocka_unit_test(test_recorded),
                                       cmocka_unit_test(test_old_files),        cmocka_unit_test(test_template_of_text),
                                       cmocka_unit_test(test_training_repeats), cmocka_unit_test(test_against_library)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
