/* The model against its definition in double: hidden rows, image rows, the gradient of every parameter tensor. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "tests/common/model_ref.h"
#include "tests/common/trainee.h"

static void ok(status st)
{
    if (st != ST_OK) fail_msg("%s", fail_message());
}

static backend *open_cpu(int threads, const char *isa)
{
    backend *b = NULL;
    ok(backend_open_cpu(&b, threads, isa));
    return b;
}

/* Every family, tied and not, several ratios of heads, DeepStack into all layers, one and none. */
enum { KINDS = 7 };
static model_config config_of(int kind)
{
    switch (kind) {
    case 0: return trainee_config(true, 4, 2);
    case 1: return trainee_config(false, 2, 2);
    case 2: return trainee_qwen3(true, 4, 2, 3);
    case 3: return trainee_qwen3(false, 3, 1, 1);
    case 4: return trainee_qwen3(true, 2, 2, 0);
    case 5: return trainee_text(FAMILY_QWEN2);
    default: return trainee_text(FAMILY_QWEN3);
    }
}

static void hidden_matches_definition(void **state)
{
    (void)state;
    backend *b = open_cpu(2, "auto");
    for (int kind = 0; kind < KINDS; kind++) {
        model_config c = config_of(kind);
        packed p;
        trainee_batch(&p, &c);
        packed_all_rows(&p);
        trainee t = trainee_open(b, &c, &p);
        ref_model r;
        ref_open(&r, t.m);
        double *want = calloc((size_t)(p.x.n_row * c.hidden), sizeof *want), worst = 0;
        ref_hidden(&r, &p.x, want);
        tensor h = model_forward(t.m, t.a, &p.x);
        ok(b->sync(b));
        for (int i = 0; i < p.x.n_row * c.hidden; i++) worst = fmax(worst, fabs(((float *)h.data)[i] - want[i]));
        /* Final-norm rows have rms 1. About 60 roundings of 2^-24 relative to values of that size lie on a path through
         * 6 blocks; 2e-5 leaves a factor of 5. */
        if (!(worst < 2e-5)) fail_msg("kind %d: hidden differs by %g", kind, worst);
        free(want);
        ref_close(&r);
        trainee_close(&t);
        packed_close(&p);
    }
    b->close(b);
}

/* d loss / d (along direction u of one tensor) by a 4-point central difference in double: error ~ step^4 and
 * 1e-16/step. */
static double slope(ref_model *r, const packed *p, const goal *g, ref_weight *w, const double *u)
{
    static const double at[] = {-2, -1, 1, 2}, coef[] = {1, -8, 8, -1};
    double step = 1e-4, sum = 0;
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < w->n; i++) w->v[i] += at[k] * step * u[i];
        sum += coef[k] * ref_loss(r, &p->x, g->target, g->weight);
        for (int64_t i = 0; i < w->n; i++) w->v[i] -= at[k] * step * u[i];
    }
    return sum / (12 * step);
}

/* One tensor: two dense directions, which every element takes part in, and the elements chosen by stride alone. */
static void check_gradient(ref_model *r, const packed *p, const goal *g, ref_weight *w)
{
    double *u = calloc((size_t)w->n, sizeof *u), scale = 0;
    assert_non_null(u);
    for (int64_t i = 0; i < w->n; i++) scale += (double)w->grad[i] * w->grad[i];
    scale = sqrt(scale / (double)w->n); /* rms of the gradient */
    if (scale == 0) fail_msg("%s has no gradient", w->name);
    for (int dir = 0; dir < 2; dir++) {
        rng_key key = rng_make_key((uint64_t)dir, RNG_TEST, 5, 0, 0, 0);
        double got = 0, size = 0;
        for (int64_t i = 0; i < w->n; i++) {
            u[i] = rng_normal(key, (uint64_t)i);
            got += u[i] * w->grad[i];
            size += fabs(u[i] * w->grad[i]);
        }
        double want = slope(r, p, g, w, u);
        /* an error of 1e-4 of the rms in every element, added up at random and a little more */
        if (!(fabs(got - want) < 4e-4 * scale * sqrt((double)w->n) + 1e-6 * size))
            fail_msg("%s along direction %d: %.9g, definition %.9g (rms %g)", w->name, dir, got, want, scale);
    }
    memset(u, 0, (size_t)w->n * sizeof *u);
    int64_t stride = w->n / 6 + 1;
    for (int64_t i = w->n > 6 ? stride / 2 : 0; i < w->n; i += stride) {
        u[i] = 1;
        double want = slope(r, p, g, w, u);
        u[i] = 0;
        if (!(fabs(w->grad[i] - want) < 2e-4 * (scale + fabs(want))))
            fail_msg("%s[%lld]: %.9g, definition %.9g (rms %g)", w->name, (long long)i, w->grad[i], want, scale);
    }
    free(u);
}

static void gradients_match_definition(void **state)
{
    (void)state;
    backend *b = open_cpu(1, "auto");
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind == 4) continue; /* nothing that kinds 2 and 3 leave out, and slow */
        model_config c = config_of(kind);
        packed p;
        goal g;
        trainee_batch(&p, &c);
        for (int i = 0; i < p.x.n_tok; i++) /* some rows, one of them twice, not in order */
            if (i % 3 != 1) p.row[p.x.n_row++] = i;
        p.row[0] = p.row[p.x.n_row - 1];
        trainee_goal(&g, &p);
        trainee t = trainee_open(b, &c, &p);
        double loss = trainee_step(&t, &p, &g);
        ref_model r;
        ref_open(&r, t.m);
        double want = ref_loss(&r, &p.x, g.target, g.weight);
        if (!(fabs(loss - want) < 1e-5 * (1 + fabs(want)))) fail_msg("loss %.9g, definition %.9g", loss, want);
        for (int i = 0; i < r.n; i++) check_gradient(&r, &p, &g, &r.w[i]);
        ref_close(&r);
        trainee_close(&t);
        packed_close(&p);
    }
    b->close(b);
}

/* The tower alone: forward rows, and gradients of sum(rows * coef). */
static void check_tower(backend *b, model_config c)
{
    packed p;
    trainee_batch(&p, &c);
    trainee t = trainee_open(b, &c, &p);
    int n = p.n_feat * c.hidden;
    double *want = calloc((size_t)n, sizeof *want), worst = 0;
    float *coef = calloc((size_t)n, sizeof *coef);
    ref_model r;
    ref_open(&r, t.m);
    ref_vision(&r, &p.x, want, NULL);
    tensor rows = model_vision_forward(t.m, t.a, &p.x);
    ok(b->sync(b));
    assert_int_equal(rows.dim[0], p.n_feat);
    for (int i = 0; i < n; i++) worst = fmax(worst, fabs(((float *)rows.data)[i] - want[i]));
    if (!(worst < 5e-6)) fail_msg("image rows differ by %g", worst);

    rng_key key = rng_make_key(1, RNG_TEST, 6, 0, 0, 0);
    for (int i = 0; i < n; i++) coef[i] = rng_normal(key, (uint64_t)i);
    tensor dout = tensor_2d(coef, DT_F32, p.n_feat, c.hidden);
    model_vision_backward(t.m, t.a, &p.x, &dout);
    ok(b->sync(b));
    ref_weight *w = ref_find(&r, "%svisual.patch_embed.proj.weight", c.family == FAMILY_QWEN3 ? "model." : "");
    for (int64_t i = 3; i < w->n; i += 17) {
        double value[2];
        for (int k = 0; k < 2; k++) {
            w->v[i] += k ? -2e-5 : 1e-5;
            ref_vision(&r, &p.x, want, NULL);
            value[k] = 0;
            for (int j = 0; j < n; j++) value[k] += coef[j] * want[j];
        }
        w->v[i] += 1e-5;
        double slope_i = (value[0] - value[1]) / 2e-5;
        if (!(fabs(slope_i - w->grad[i]) < 2e-5 * (1 + fabs(slope_i))))
            fail_msg("%s[%lld]: %.9g, definition %.9g", w->name, (long long)i, w->grad[i], slope_i);
    }
    free(want), free(coef);
    ref_close(&r);
    trainee_close(&t);
    packed_close(&p);
}

static void tower_matches_definition(void **state)
{
    (void)state;
    backend *b = open_cpu(2, "auto");
    check_tower(b, trainee_config(true, 4, 2));
    check_tower(b, trainee_qwen3(true, 4, 2, 2));
    b->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hidden_matches_definition),
                                       cmocka_unit_test(gradients_match_definition),
                                       cmocka_unit_test(tower_matches_definition)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
