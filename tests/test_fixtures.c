/* Every number of the model against transformers, on the checkpoints of tests/fixtures: no Python, from the same files
 * that a user would hand in. Integers, pixels and text must be equal; floats within fixture_bound. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/kernels.h"
#include "rl/learn.h"
#include "tests/common/subject.h"

enum { MAX_TOKENS = 1024, MAX_PATCHES = 1024 };

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

/* ---- what is exact: text, ids, mask, pixels ---- */

static void check_text(const subject *s, int k)
{
    const st_tensor *text = fixture_get(s->f, "chat.%d.text", k), *decoded = fixture_get(s->f, "chat.%d.decoded", k);
    const st_tensor *mask = fixture_get(s->f, "chat.%d.mask", k);
    const chat_seq *q = &s->row[k].seq;
    fixture_same_ints(s->f, q->id.v, q->id.n, "chat.%d.ids", k);
    if (mask->bytes != (size_t)q->id.n || memcmp(mask->data, q->mask, mask->bytes) != 0)
        fail_msg("%s: chat %d: another loss mask", s->f->name, k);

    ids once = {0}, direct = {0}; /* one pad for each picture, as the template prints it */
    for (int i = 0; i < q->id.n; i++) {
        bool inside = false;
        for (int r = 0; r < q->n_image; r++) {
            const mrope_image *run = &q->image[r];
            int len = run->t * (run->h / s->ip.merge) * (run->w / s->ip.merge);
            inside |= i > run->start && i < run->start + len;
        }
        if (!inside) ids_push(&once, q->id.v[i]);
    }
    ok(tokenizer_encode(s->tok, text->data, text->bytes, true, &direct));
    if (once.n != direct.n || memcmp(once.v, direct.v, (size_t)once.n * sizeof *once.v) != 0)
        fail_msg("%s: chat %d: the rendered text does not give the rendered ids", s->f->name, k);
    char *back = NULL;
    size_t len = 0;
    tokenizer_decode(s->tok, once.v, once.n, false, &back, &len);
    if (len != decoded->bytes || memcmp(back, decoded->data, len) != 0)
        fail_msg("%s: chat %d decodes to\n%.*s\nnot\n%.*s", s->f->name, k, (int)len, back, (int)decoded->bytes,
                 (const char *)decoded->data);
    free(back);
    ids_free(&once);
    ids_free(&direct);
}

static void check_pixels(const subject *s, int k)
{
    const rendered *r = &s->row[k];
    if (r->seq.n_image == 0) return;
    const st_tensor *codes = fixture_get(s->f, "chat.%d.pixels", k), *grid = fixture_get(s->f, "chat.%d.grid", k);
    const float *table = fixture_get(s->f, "pixel_table")->data;
    int area = s->ip.patch * s->ip.patch, frame = s->ip.temporal_patch;
    const uint8_t *code = codes->data;
    for (int i = 0; i < r->seq.n_image; i++) {
        int32_t g[3];
        const image *view = r->shown[i];
        size_t rows = (size_t)(view->h / s->ip.patch) * (size_t)(view->w / s->ip.patch);
        float *patch = malloc(rows * 3 * (size_t)(frame * area) * sizeof *patch), *p = patch;
        assert_non_null(patch);
        image_patches(patch, g, view, &s->ip);
        for (int d = 0; d < 3; d++) assert_int_equal(g[d], ((const int32_t *)grid->data)[3 * i + d]);
        for (size_t row = 0; row < rows; row++)
            for (int c = 0; c < 3; c++, code += area)
                for (int t = 0; t < frame; t++)
                    for (int at = 0; at < area; at++, p++)
                        if (memcmp(p, &table[256 * c + code[at]], sizeof *p) != 0)
                            fail_msg("%s: chat %d, picture %d, patch %zu: %.9g, transformers %.9g", s->f->name, k, i,
                                     row, *p, table[256 * c + code[at]]);
        free(patch);
    }
    assert_ptr_equal(code, (const uint8_t *)codes->data + codes->bytes);
    assert_int_equal(grid->shape[0], r->seq.n_image);
}

static void check_exact(fixture *f)
{
    subject s;
    subject_open(&s, f);
    for (int k = 0; k < s.n; k++) {
        check_text(&s, k);
        check_pixels(&s, k);
    }
    subject_close(&s);
}

static void text_and_pixels_are_equal(void **state)
{
    (void)state;
    assert_true(fixture_each(check_exact) >= 8);
}

/* ---- forward: one conversation in a batch of its own ---- */

static void check_index(const subject *s, int k, const token_batch *x)
{
    const vision_config *v = &s->cfg.vision;
    if (x->n_img == 0 || !fixture_has(s->f, "chat.%d.window", k)) return;
    int n = vision_tokens(v, x->grid, x->n_img), n_window = 0, n_full = 0;
    int32_t *window = calloc((size_t)(n * (2 + 2 * v->merge * v->merge) + x->n_img + 2), sizeof *window);
    assert_non_null(window);
    int32_t *cu_window = window + n, *cu_full = cu_window + n + 1, *pos = cu_full + x->n_img + 1;
    vision_index(v, x->grid, x->n_img, window, pos, cu_window, &n_window, cu_full, &n_full);
    fixture_same_ints(s->f, window, n, "chat.%d.window", k);
    fixture_same_ints(s->f, cu_window, n_window + 1, "chat.%d.cu_window", k);
    fixture_same_ints(s->f, cu_full, n_full + 1, "chat.%d.cu_full", k);
    free(window);
}

static void check_logits(const subject *s, int k, const tensor *h)
{
    int64_t V = s->cfg.vocab, R = h->dim[0], kept = fixture_get(s->f, "chat.%d.logits", k)->shape[0];
    float *z = malloc((size_t)(R * V) * sizeof *z);
    assert_non_null(z);
    tensor head = model_head(s->m), all = tensor_2d(z, DT_F32, R, V);
    s->b->linear_fwd(s->b, &all, h, &head, NULL);
    ok(s->b->sync(s->b));
    for (int64_t i = 0; i < kept && 7 + 8 * i < R; i++) /* the last token's row is not among ours */
        fixture_close_part(s->f, z + (7 + 8 * i) * V, i * V, V, "chat.%d.logits", k);
    free(z);
}

static void check_forward(subject *s, int k, batch *pack, model_acts *acts)
{
    batch_seq q = render_sequence(&s->row[k], 1);
    uint8_t *every = malloc((size_t)q.n_tok);
    assert_non_null(every);
    memset(every, 1, (size_t)q.n_tok);
    every[0] = 0;
    q.mask = every;
    int at = 0;
    ok(batch_pack(pack, &q, 1, &at));
    const token_batch *x = batch_tokens(pack);
    int N = x->n_tok, C = s->cfg.hidden;
    assert_int_equal(N, q.n_tok - 1); /* nothing is asked about what follows the last token */
    const st_tensor *pos = fixture_get(s->f, "chat.%d.pos", k);
    assert_int_equal(pos->shape[0], q.n_tok);
    assert_memory_equal(x->pos, pos->data, (size_t)(3 * N) * sizeof *x->pos);
    check_index(s, k, x);

    if (x->n_img) {
        tensor feat = model_vision_forward(s->m, acts, x);
        ok(s->b->sync(s->b));
        fixture_close_to(s->f, feat.data, tensor_count(&feat), "chat.%d.feat", k);
        assert_true(!fixture_has(s->f, "chat.%d.deep.%d", k, s->cfg.vision.n_deep));
        for (int d = 0; d < s->cfg.vision.n_deep; d++) {
            tensor deep = model_deep_rows(acts, d, (int)feat.dim[0]);
            fixture_close_to(s->f, deep.data, tensor_count(&deep), "chat.%d.deep.%d", k, d);
        }
    }
    tensor h = model_forward(s->m, acts, x);
    ok(s->b->sync(s->b));
    for (int l = 0; l < s->cfg.n_layer; l++) {
        tensor in = model_layer_input(acts, l, N);
        fixture_close_part(s->f, in.data, 0, (int64_t)N * C, "chat.%d.hidden.%d", k, l);
    }
    assert_int_equal(h.dim[0], N);
    fixture_close_part(s->f, h.data, 0, (int64_t)N * C, "chat.%d.final", k);
    check_logits(s, k, &h);
    free(every);
}

static void check_states(fixture *f)
{
    subject s;
    batch *pack = NULL;
    model_acts *acts = NULL;
    model_limits lim = {.tok = MAX_TOKENS, .seq = 4, .patch = MAX_PATCHES, .img = 16, .row = MAX_TOKENS};
    subject_open(&s, f);
    ok(batch_create(&pack, &s.cfg, &s.ip, &lim));
    ok(model_acts_create(&acts, s.m, &lim, true));
    for (int k = 0; k < s.n; k++) check_forward(&s, k, pack, acts);
    batch_destroy(pack);
    model_acts_destroy(acts);
    subject_close(&s);
}

static void states_are_within_bounds(void **state)
{
    (void)state;
    assert_true(fixture_each(check_states) >= 8);
}

/* ---- loss, log-probs and gradients: every conversation packed into one micro-batch of the trainer ---- */

/* In-memory names of transformers since 4.52 and published names are the same but for the prefix (qwen_vl_spec 2.2). */
static void short_name(char *out, size_t cap, const char *name)
{
    static const char *const prefix[][2] = {{"model.language_model.", "model."}, {"model.visual.", "visual."}};
    for (size_t i = 0; i < 2; i++)
        if (!strncmp(name, prefix[i][0], strlen(prefix[i][0]))) {
            snprintf(out, cap, "%s%s", prefix[i][1], name + strlen(prefix[i][0]));
            return;
        }
    snprintf(out, cap, "%s", name);
}

typedef struct grad_walk {
    subject *s;
    int n;
} grad_walk;

static status check_gradient(void *ctx, const model_tensor *t)
{
    grad_walk *w = ctx;
    const st_file *record = w->s->f->record;
    char ours[128], theirs[128];
    short_name(ours, sizeof ours, t->name);
    for (int i = 0; i < st_count(record); i++) {
        const char *key = st_at(record, i)->name;
        size_t len = strlen(key);
        if (strncmp(key, "grad.", 5) != 0 || !strcmp(key + len - 4, ".err")) continue;
        short_name(theirs, sizeof theirs, key + 5);
        if (strcmp(ours, theirs) != 0) continue;
        fixture_close_to(w->s->f, t->g.data, tensor_count(&t->g), "%s", key);
        w->n++;
        return ST_OK;
    }
    fail_msg("%s: no gradient of %s is recorded", w->s->f->name, t->name);
    return ST_OK;
}

static int count_gradients(const st_file *record)
{
    int n = 0;
    for (int i = 0; i < st_count(record); i++) {
        const char *key = st_at(record, i)->name;
        n += !strncmp(key, "grad.", 5) && strcmp(key + strlen(key) - 4, ".err") != 0;
    }
    return n;
}

static void check_learning(fixture *f)
{
    subject s;
    learner *l = NULL;
    batch_seq q[FIXTURE_CHATS];
    int targets = 0;
    subject_open(&s, f);
    ok(learner_create(&l, s.m, &s.chat, &s.ip, MAX_TOKENS, MAX_PATCHES));
    for (int k = 0; k < s.n; k++) targets += render_targets(&s.row[k]);
    for (int k = 0; k < s.n; k++) q[k] = render_sequence(&s.row[k], 1.0 / targets);

    float logp[MAX_TOKENS];
    learn_job j = {.algo = NULL, .backward = true};
    for (int k = 0; k < s.n; k++) {
        batch_seq every = q[k];
        uint8_t mask[MAX_TOKENS];
        memset(mask, 1, sizeof mask);
        mask[0] = 0;
        every.mask = mask;
        logp[0] = 0;
        ok(learner_score(l, &j, &every, 1, logp + 1));
        fixture_close_to(f, logp, every.n_tok, "chat.%d.logp", k);
    }
    learn_sums sums = learn_sums_zero();
    spans ph = {0};
    ok(learner_run(l, &j, q, s.n, &sums, &ph));
    assert_int_equal(sums.batches, 1);
    float loss = (float)sums.loss.loss;
    fixture_close_to(f, &loss, 1, "loss");
    grad_walk w = {.s = &s};
    ok(model_visit(s.m, check_gradient, &w));
    assert_int_equal(w.n, count_gradients(f->record));
    learner_destroy(l);
    subject_close(&s);
}

static void loss_and_gradients_are_within_bounds(void **state)
{
    (void)state;
    assert_true(fixture_each(check_learning) >= 8);
}

/* ---- rotary tables of released sizes at their last positions, where an ulp of a frequency is a hundredth radian ----
 */

static int64_t ulps(float a, float b)
{
    int32_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return llabs((int64_t)x - y);
}

static void rotary_tables_are_torch(void **state)
{
    (void)state;
    st_file *rope;
    backend *b = NULL;
    float freq[256], cos_out[256 * 16], sin_out[256 * 16];
    int32_t axis[256] = {0};
    int n_table = 0;
    ok(st_open(&rope, SOURCE_DIR "/tests/fixtures/rope.safetensors"));
    ok(backend_open_cpu(&b, 1, "auto"));
    const st_tensor *at = st_find(rope, "pos");
    assert_non_null(at);
    int P = (int)at->shape[0];
    for (int i = 0; i < st_count(rope); i++) {
        int dim;
        double theta;
        char key[64];
        if (sscanf(st_at(rope, i)->name, "freq.%d.%lf", &dim, &theta) != 2) continue;
        int half = dim / 2, off = 0;
        assert_in_range(half, 1, 256);
        rope_inv_freq(freq, dim, theta);
        const float *want = st_at(rope, i)->data;
        for (int j = 0; j < half; j++) {
            off += ulps(freq[j], want[j]) != 0;
            if (ulps(freq[j], want[j]) > 1)
                fail_msg("dim %d, theta %g: frequency %d is %.9g, torch %.9g", dim, theta, j, freq[j], want[j]);
        }
        if (off > 1)
            fail_msg("dim %d, theta %g: %d frequencies differ; torch's powf rounds one in 64 wrongly", dim, theta, off);

        tensor f = tensor_1d((void *)(uintptr_t)want, DT_F32, half), a = tensor_1d(axis, DT_I32, half);
        tensor pos = tensor_2d((void *)(uintptr_t)at->data, DT_I32, P, 1);
        tensor c = tensor_2d(cos_out, DT_F32, P, half), s = tensor_2d(sin_out, DT_F32, P, half);
        assert_true(P * half <= 256 * 16);
        b->rope_table(b, &c, &s, &pos, &f, &a);
        ok(b->sync(b));
        snprintf(key, sizeof key, "cos.%d.%.0f", dim, theta);
        const float *want_cos = st_find(rope, key)->data;
        snprintf(key, sizeof key, "sin.%d.%.0f", dim, theta);
        const float *want_sin = st_find(rope, key)->data;
        for (int k = 0; k < P * half; k++) /* same angle; torch's sin and cos are within 1 ulp, ours within 0.5 */
            if (ulps(cos_out[k], want_cos[k]) > 2 || ulps(sin_out[k], want_sin[k]) > 2)
                fail_msg("dim %d, theta %g, position %d, frequency %d: cos %.9g, sin %.9g; torch %.9g, %.9g", dim,
                         theta, ((const int32_t *)at->data)[k / half], k % half, cos_out[k], sin_out[k], want_cos[k],
                         want_sin[k]);
        n_table++;
    }
    assert_int_equal(n_table, 8);
    b->close(b);
    st_close(rope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_pixels_are_equal), cmocka_unit_test(states_are_within_bounds),
        cmocka_unit_test(loss_and_gradients_are_within_bounds), cmocka_unit_test(rotary_tables_are_torch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
