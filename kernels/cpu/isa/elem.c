/* Norms, activations, rotary embedding, optimizer: one pass over memory each. */
#include "kernels/cpu/isa/kern.h"
#include "kernels/formulas.h"

/* 16 interleaved partials of sum a*b over a row */
INLINE float row_dot(const float *a, const float *b, int64_t n)
{
    v16 acc = v_zero();
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) acc = v_fma(v_load(a + i), v_load(b + i), acc);
    if (i < n) acc = v_fma(v_load_n(a + i, (int)(n - i)), v_load_n(b + i, (int)(n - i)), acc);
    return v_hsum(acc);
}

/* Runs BODY for i = begin, begin+16, ... with n = lanes in use, specialised for full vectors. */
#define EACH_VECTOR(begin, end, BODY)            \
    do {                                         \
        int64_t i = (begin);                     \
        for (; i + LANES <= (end); i += LANES) { \
            const int n = LANES;                 \
            BODY                                 \
        }                                        \
        if (i < (end)) {                         \
            const int n = (int)((end)-i);        \
            BODY                                 \
        }                                        \
    } while (0)
#define LOAD(p) (n == LANES ? v_load((p) + i) : v_load_n((p) + i, n))
#define STORE(p, v) (n == LANES ? v_store((p) + i, v) : v_store_n((p) + i, v, n))

void SYM(rmsnorm_fwd)(float *y, float *rstd, const float *x, const float *w, float eps, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        float s = 1.0f / sqrtf(row_dot(x, x, cols) / (float)cols + eps);
        rstd[r] = s;
        v16 vs = v_set1(s);
        EACH_VECTOR(0, cols, { STORE(y, v_mul(v_mul(LOAD(x), vs), LOAD(w))); });
    }
}

/* g = dy w, xh = x r: dx = r (g - xh mean(g xh)) */
void SYM(rmsnorm_bwd)(float *dx, const float *dy, const float *x, const float *w, const float *rstd, int64_t rows,
                      int64_t cols)
{
    for (int64_t r = 0; r < rows; r++, dx += cols, dy += cols, x += cols) {
        v16 vr = v_set1(rstd[r]), acc = v_zero();
        EACH_VECTOR(0, cols, { acc = v_fma(v_mul(LOAD(dy), LOAD(w)), v_mul(LOAD(x), vr), acc); });
        v16 mean = v_set1(v_hsum(acc) / (float)cols);
        EACH_VECTOR(0, cols, {
            v16 g = v_mul(LOAD(dy), LOAD(w));
            STORE(dx, v_mul(vr, v_fnma(v_mul(LOAD(x), vr), mean, g)));
        });
    }
}

void SYM(rmsnorm_dw)(float *dw, const float *dy, const float *x, const float *rstd, int64_t rows, int64_t cols,
                     int64_t begin, int64_t end)
{
    EACH_VECTOR(begin, end, {
        v16 acc = LOAD(dw);
        for (int64_t r = 0; r < rows; r++)
            acc = v_fma(LOAD(dy + r * cols), v_mul(LOAD(x + r * cols), v_set1(rstd[r])), acc);
        STORE(dw, acc);
    });
}

/* 16 interleaved partials of the sum of a row */
INLINE float row_sum(const float *a, int64_t count)
{
    v16 acc = v_zero();
    EACH_VECTOR(0, count, { acc = v_add(LOAD(a), acc); }); /* v_load_n fills up with zeros */
    return v_hsum(acc);
}

void SYM(layernorm_fwd)(float *y, float *mean, float *rstd, const float *x, const float *w, const float *bias,
                        float eps, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
        mean[r] = row_sum(x, cols) / (float)cols;
        v16 vm = v_set1(mean[r]), acc = v_zero();
        int64_t full = cols / LANES * LANES;
        for (int64_t c = 0; c < full; c += LANES) {
            v16 d = v_sub(v_load(x + c), vm);
            acc = v_fma(d, d, acc);
        }
        if (full < cols) { /* lanes behind the row count nothing */
            float rest[LANES] = {0};
            for (int64_t c = full; c < cols; c++) rest[c - full] = x[c] - mean[r];
            acc = v_fma(v_load(rest), v_load(rest), acc);
        }
        rstd[r] = 1.0f / sqrtf(v_hsum(acc) / (float)cols + eps);
        v16 vs = v_set1(rstd[r]);
        EACH_VECTOR(0, cols, { STORE(y, v_fma(v_mul(v_sub(LOAD(x), vm), vs), LOAD(w), LOAD(bias))); });
    }
}

/* g = dy w, xh = (x - mean) r: dx = r (g - mean(g) - xh mean(g xh)) */
void SYM(layernorm_bwd)(float *dx, const float *dy, const float *x, const float *w, const float *mean,
                        const float *rstd, int64_t rows, int64_t cols)
{
    for (int64_t r = 0; r < rows; r++, dx += cols, dy += cols, x += cols) {
        v16 vm = v_set1(mean[r]), vr = v_set1(rstd[r]), sum = v_zero(), dot = v_zero();
        EACH_VECTOR(0, cols, { /* g is 0 in lanes behind the row */
                               v16 g = v_mul(LOAD(dy), LOAD(w));
                               sum = v_add(sum, g);
                               dot = v_fma(g, v_mul(v_sub(LOAD(x), vm), vr), dot);
        });
        v16 m1 = v_set1(v_hsum(sum) / (float)cols), m2 = v_set1(v_hsum(dot) / (float)cols);
        EACH_VECTOR(0, cols, {
            v16 g = v_sub(v_mul(LOAD(dy), LOAD(w)), m1);
            STORE(dx, v_mul(vr, v_fnma(v_mul(v_sub(LOAD(x), vm), vr), m2, g)));
        });
    }
}

void SYM(layernorm_dw)(float *dw, float *dbias, const float *dy, const float *x, const float *mean, const float *rstd,
                       int64_t rows, int64_t cols, int64_t begin, int64_t end)
{
    EACH_VECTOR(begin, end, {
        v16 w = LOAD(dw);
        v16 bias = LOAD(dbias);
        for (int64_t r = 0; r < rows; r++) {
            v16 g = LOAD(dy + r * cols);
            w = v_fma(g, v_mul(v_sub(LOAD(x + r * cols), v_set1(mean[r])), v_set1(rstd[r])), w);
            bias = v_add(bias, g);
        }
        STORE(dw, w);
        STORE(dbias, bias);
    });
}

void SYM(add)(float *y, const float *a, const float *c, int64_t count)
{
    EACH_VECTOR(0, count, { STORE(y, v_add(LOAD(a), LOAD(c))); });
}

void SYM(axpy)(float *y, float a, const float *x, int64_t count)
{
    v16 va = v_set1(a);
    EACH_VECTOR(0, count, { STORE(y, v_fma(va, LOAD(x), LOAD(y))); });
}

void SYM(swiglu_fwd)(float *y, const float *gu, int64_t rows, int64_t inner)
{
    for (int64_t r = 0; r < rows; r++, y += inner, gu += 2 * inner) {
        const float *u = gu + inner;
        EACH_VECTOR(0, inner, {
            STORE(y, swiglu(LOAD(gu), LOAD(u)));
        });
    }
}

void SYM(swiglu_bwd)(float *dgu, const float *dy, const float *gu, int64_t rows, int64_t inner)
{
    for (int64_t r = 0; r < rows; r++, dy += inner, gu += 2 * inner, dgu += 2 * inner) {
        const float *u = gu + inner;
        float *du = dgu + inner;
        EACH_VECTOR(0, inner, {
            v16 dg;
            v16 d;
            swiglu_grad(&dg, &d, LOAD(dy), LOAD(gu), LOAD(u));
            STORE(du, d);
            STORE(dgu, dg);
        });
    }
}

void SYM(gelu_fwd)(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = gelu(x[i]);
}

void SYM(gelu_bwd)(float *dx, const float *dy, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dx[i] = gelu_grad(dy[i], x[i]);
}

void SYM(gelu_tanh_fwd)(float *y, const float *x, int64_t count)
{
    EACH_VECTOR(0, count, { STORE(y, gelu_tanh(LOAD(x))); });
}

void SYM(gelu_tanh_bwd)(float *dx, const float *dy, const float *x, int64_t count)
{
    EACH_VECTOR(0, count, { STORE(dx, gelu_tanh_grad(LOAD(dy), LOAD(x))); });
}

void SYM(mix)(float *y, const float *table, const int32_t *ids, const float *w, int64_t taps, int64_t cols)
{
    EACH_VECTOR(0, cols, {
        v16 sum = v_zero();
        for (int64_t t = 0; t < taps; t++) sum = v_fma(v_set1(w[t]), LOAD(table + ids[t] * cols), sum);
        STORE(y, v_add(LOAD(y), sum));
    });
}

void SYM(rope_table)(float *cos_out, float *sin_out, const int32_t *pos, const float *inv_freq, const int32_t *axis,
                     int64_t rows, int64_t axes, int64_t half)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < half; j++)
            sincos_f32((float)pos[r * axes + axis[j]] * inv_freq[j], &sin_out[r * half + j], &cos_out[r * half + j]);
}

void SYM(rope_apply)(float *x, int64_t x_row, const float *cos_in, const float *sin_in, int64_t rows, int heads,
                     int head_dim, bool inverse)
{
    const int half = head_dim / 2;
    for (int64_t r = 0; r < rows; r++, x += x_row, cos_in += half, sin_in += half) {
        EACH_VECTOR(0, half, {
            v16 c = LOAD(cos_in);
            v16 s = LOAD(sin_in);
            if (inverse) s = v_neg(s);
            for (int h = 0; h < heads; h++) {
                float *lo = x + h * head_dim;
                float *hi = lo + half;
                v16 a = LOAD(lo);
                v16 b = LOAD(hi);
                rotate(&a, &b, c, s);
                STORE(lo, a);
                STORE(hi, b);
            }
        });
    }
}

void SYM(dots)(float *out, const float *a, const float *b, int64_t n, int dim)
{
    for (int64_t i = 0; i < n; i++) out[i] = row_dot(a + i * dim, b + i * dim, dim);
}

void SYM(adamw)(float *w, float *m, float *v, const float *g, int64_t count, const adamw_step *s, float bias1,
                float bias2)
{
    EACH_VECTOR(0, count, {
        v16 w1 = LOAD(w);
        v16 m1 = LOAD(m);
        v16 v1 = LOAD(v);
        adamw_element(&w1, &m1, &v1, LOAD(g), s, bias1, bias2);
        STORE(m, m1);
        STORE(v, v1);
        STORE(w, w1);
    });
}

double SYM(sumsq)(const float *x, int64_t n)
{
    double part[LANES] = {0};
    for (int64_t i = 0; i < n; i++) part[i % LANES] += (double)x[i] * (double)x[i];
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int i = 0; i < w; i++) part[i] += part[i + w];
    return part[0];
}

void SYM(exp)(float *y, const float *x, int64_t count)
{
    EACH_VECTOR(0, count, { STORE(y, v_exp(LOAD(x))); });
}

void SYM(log)(float *y, const float *x, int64_t count)
{
    EACH_VECTOR(0, count, { STORE(y, v_log(LOAD(x))); });
}
