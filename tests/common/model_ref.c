#include "tests/common/model_ref.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *zeros(int64_t n)
{
    double *p = calloc((size_t)(n ? n : 1), sizeof *p);
    CHECK(p);
    return p;
}

/* ---- weights ---- */

static status add_weight(void *ctx, const model_tensor *t)
{
    ref_model *r = ctx;
    r->w = realloc(r->w, (size_t)(r->n + 1) * sizeof *r->w);
    CHECK(r->w);
    ref_weight *w = &r->w[r->n++];
    *w = (ref_weight){.name = t->name, .n = tensor_count(&t->w), .grad = t->g.data};
    w->cols = t->w.ndim > 1 ? t->w.dim[1] : 1;
    w->v = zeros(w->n);
    for (int64_t i = 0; i < w->n; i++) w->v[i] = ((const float *)t->w.data)[i];
    return ST_OK;
}

void ref_open(ref_model *r, model *m)
{
    *r = (ref_model){.cfg = *model_cfg(m)};
    CHECK(model_visit(m, add_weight, r) == ST_OK);
}

void ref_close(ref_model *r)
{
    for (int i = 0; i < r->n; i++) free(r->w[i].v);
    free(r->w);
}

ref_weight *ref_find(const ref_model *r, const char *fmt, ...)
{
    char name[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->w[i].name, name)) return &r->w[i];
    return NULL;
}

/* ---- pieces ---- */

/* y[n][o] = x[n][i] w^T + b for PREFIX.weight and, if there is one, PREFIX.bias. */
static void linear(const ref_model *r, double *y, const double *x, int n, const char *prefix)
{
    const ref_weight *w = ref_find(r, "%s.weight", prefix), *b = ref_find(r, "%s.bias", prefix);
    CHECK(w);
    int64_t I = w->cols, O = w->n / I;
    for (int k = 0; k < n; k++)
        for (int64_t o = 0; o < O; o++) {
            double sum = b ? b->v[o] : 0;
            for (int64_t i = 0; i < I; i++) sum += x[k * I + i] * w->v[o * I + i];
            y[k * O + o] = sum;
        }
}

static void rmsnorm(const ref_model *r, double *y, const double *x, int n, int C, double eps, const char *name)
{
    const ref_weight *w = ref_find(r, "%s.weight", name);
    CHECK(w && w->n == C);
    for (int k = 0; k < n; k++) {
        double mean = 0;
        for (int c = 0; c < C; c++) mean += x[k * C + c] * x[k * C + c] / C;
        for (int c = 0; c < C; c++) y[k * C + c] = x[k * C + c] / sqrt(mean + eps) * w->v[c];
    }
}

static void rotate(double *head, int D, const double *angle)
{
    for (int j = 0; j < D / 2; j++) {
        double a = head[j], b = head[j + D / 2], c = cos(angle[j]), s = sin(angle[j]);
        head[j] = a * c - b * s;
        head[j + D / 2] = b * c + a * s;
    }
}

/* o[n][H*D] of rotated q[n][H*D], k and v[n][K*D]; see(i, j): query row i may look at row j. */
typedef bool see_fn(const void *ctx, int i, int j);
static void attention(double *o, const double *q, const double *k, const double *v, int n, int H, int K, int D,
                      see_fn *see, const void *ctx)
{
    double *p = zeros(n);
    for (int h = 0; h < H; h++)
        for (int i = 0; i < n; i++) {
            int g = h / (H / K);
            double most = -INFINITY, sum = 0;
            for (int j = 0; j < n; j++) {
                p[j] = -INFINITY;
                if (!see(ctx, i, j)) continue;
                p[j] = 0;
                for (int d = 0; d < D; d++) p[j] += q[(i * H + h) * D + d] * k[(j * K + g) * D + d] / sqrt(D);
                most = fmax(most, p[j]);
            }
            for (int j = 0; j < n; j++) sum += p[j] = exp(p[j] - most);
            for (int d = 0; d < D; d++) {
                double *out = &o[(i * H + h) * D + d];
                *out = 0;
                for (int j = 0; j < n; j++) *out += p[j] / sum * v[(j * K + g) * D + d];
            }
        }
    free(p);
}

static void add_into(double *x, const double *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

/* x += down(silu(gate(norm(x))) * up(norm(x))) */
static void mlp(const ref_model *r, double *x, int n, int C, int I, double eps, const char *norm, const char *prefix)
{
    char name[160];
    double *a = zeros((int64_t)n * C), *g = zeros((int64_t)n * I), *u = zeros((int64_t)n * I);
    rmsnorm(r, a, x, n, C, eps, norm);
    snprintf(name, sizeof name, "%s.gate_proj", prefix);
    linear(r, g, a, n, name);
    snprintf(name, sizeof name, "%s.up_proj", prefix);
    linear(r, u, a, n, name);
    for (int i = 0; i < n * I; i++) g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    snprintf(name, sizeof name, "%s.down_proj", prefix);
    linear(r, a, g, n, name);
    add_into(x, a, (int64_t)n * C);
    free(a), free(g), free(u);
}

/* ---- vision tower ---- */

/* Where a patch is: its image and frame as one number, its place, its window. */
typedef struct place {
    int frame, row, col, window;
} place;
typedef struct places {
    const place *p;
    bool full;
} places;

static bool see_patch(const void *ctx, int i, int j)
{
    const places *s = ctx;
    return s->p[i].frame == s->p[j].frame && (s->full || s->p[i].window == s->p[j].window);
}

static int find_places(const vision_config *v, const int32_t *grid, int n_img, place *out)
{
    int n = 0, frame = 0, m = v->merge, side = v->window / v->patch; /* patches per window side */
    for (int i = 0; i < n_img; i++)
        for (int f = 0; f < grid[3 * i]; f++, frame++)
            for (int ty = 0; ty < grid[3 * i + 1] / m; ty++)
                for (int tx = 0; tx < grid[3 * i + 2] / m; tx++)
                    for (int k = 0; k < m * m; k++, n++)
                        if (out) {
                            int row = ty * m + k / m, col = tx * m + k % m;
                            out[n] = (place){frame, row, col, row / side * 1000 + col / side};
                        }
    return n;
}

static void vision_attention(const ref_model *r, double *x, int n, const place *p, int l)
{
    const vision_config *v = &r->cfg.vision;
    char norm[64], qkv_name[64], proj[64];
    int d = v->hidden, H = v->n_head, D = d / H;
    double *a = zeros((int64_t)n * d), *qkv = zeros((int64_t)n * 3 * d), *part[3], *o = zeros((int64_t)n * d),
           angle[256];
    snprintf(norm, sizeof norm, "visual.blocks.%d.norm1", l);
    snprintf(qkv_name, sizeof qkv_name, "visual.blocks.%d.attn.qkv", l);
    snprintf(proj, sizeof proj, "visual.blocks.%d.attn.proj", l);
    rmsnorm(r, a, x, n, d, 1e-6, norm);
    linear(r, qkv, a, n, qkv_name);
    for (int k = 0; k < 3; k++) {
        part[k] = zeros((int64_t)n * d);
        for (int i = 0; i < n; i++) memcpy(&part[k][i * d], &qkv[(i * 3 + k) * d], (size_t)d * sizeof(double));
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < D / 2; j++)
            angle[j] = (j < D / 4 ? p[i].row : p[i].col) * pow(1e4, -2.0 * (j % (D / 4)) / (D / 2));
        for (int h = 0; h < H; h++) {
            rotate(&part[0][(i * H + h) * D], D, angle);
            rotate(&part[1][(i * H + h) * D], D, angle);
        }
    }
    places s = {p, false};
    for (int i = 0; i < v->n_full; i++) s.full |= v->full_blocks[i] == l;
    attention(o, part[0], part[1], part[2], n, H, H, D, see_patch, &s);
    linear(r, a, o, n, proj);
    add_into(x, a, (int64_t)n * d);
    for (int k = 0; k < 3; k++) free(part[k]);
    free(a), free(qkv), free(o);
}

void ref_vision(const ref_model *r, const token_batch *x, double *out)
{
    const vision_config *v = &r->cfg.vision;
    int n = find_places(v, x->grid, x->n_img, NULL), d = v->hidden, dim = vision_patch_dim(v),
        unit = v->merge * v->merge;
    place *p = malloc((size_t)n * sizeof *p);
    double *in = zeros((int64_t)n * dim), *h = zeros((int64_t)n * d), *z = zeros((int64_t)n * d),
           *u = zeros((int64_t)n * d);
    CHECK(p);
    find_places(v, x->grid, x->n_img, p);
    for (int i = 0; i < n * dim; i++) in[i] = x->patches[i];
    linear(r, h, in, n, "visual.patch_embed.proj");
    for (int l = 0; l < v->depth; l++) {
        char norm[64], prefix[64];
        snprintf(norm, sizeof norm, "visual.blocks.%d.norm2", l);
        snprintf(prefix, sizeof prefix, "visual.blocks.%d.mlp", l);
        vision_attention(r, h, n, p, l);
        mlp(r, h, n, d, v->intermediate, 1e-6, norm, prefix);
    }
    rmsnorm(r, z, h, n, d, 1e-6, "visual.merger.ln_q");
    linear(r, u, z, n / unit, "visual.merger.mlp.0");
    for (int i = 0; i < n * d; i++) u[i] = 0.5 * u[i] * (1 + erf(u[i] / sqrt(2)));
    linear(r, out, u, n / unit, "visual.merger.mlp.2");
    free(p), free(in), free(h), free(z), free(u);
}

/* ---- text decoder ---- */

static bool see_token(const void *ctx, int i, int j)
{
    const token_batch *x = ctx;
    int s = 0;
    while (x->cu[s + 1] <= i) s++;
    return j <= i && j >= x->cu[s];
}

static void text_attention(const ref_model *r, double *x, const token_batch *batch, int l)
{
    const model_config *c = &r->cfg;
    char name[96];
    int n = batch->n_tok, C = c->hidden, H = c->n_head, K = c->n_kv, D = c->head_dim;
    double *a = zeros((int64_t)n * C), *q = zeros((int64_t)n * H * D), *o = zeros((int64_t)n * H * D), angle[256];
    double *k = zeros((int64_t)n * K * D), *v = zeros((int64_t)n * K * D);
    snprintf(name, sizeof name, "model.layers.%d.input_layernorm", l);
    rmsnorm(r, a, x, n, C, c->rms_eps, name);
    snprintf(name, sizeof name, "model.layers.%d.self_attn.q_proj", l);
    linear(r, q, a, n, name);
    snprintf(name, sizeof name, "model.layers.%d.self_attn.k_proj", l);
    linear(r, k, a, n, name);
    snprintf(name, sizeof name, "model.layers.%d.self_attn.v_proj", l);
    linear(r, v, a, n, name);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < D / 2; j++) {
            int axis = j < c->mrope_section[0] ? 0 : j < c->mrope_section[0] + c->mrope_section[1] ? 1 : 2;
            angle[j] = batch->pos[3 * i + axis] * pow(c->rope_theta, -2.0 * j / D);
        }
        for (int h = 0; h < H; h++) rotate(&q[(i * H + h) * D], D, angle);
        for (int h = 0; h < K; h++) rotate(&k[(i * K + h) * D], D, angle);
    }
    attention(o, q, k, v, n, H, K, D, see_token, batch);
    snprintf(name, sizeof name, "model.layers.%d.self_attn.o_proj", l);
    linear(r, a, o, n, name);
    add_into(x, a, (int64_t)n * C);
    free(a), free(q), free(o), free(k), free(v);
}

void ref_hidden(const ref_model *r, const token_batch *b, double *out)
{
    const model_config *c = &r->cfg;
    int n = b->n_tok, C = c->hidden;
    const double *E = ref_find(r, "model.embed_tokens.weight")->v;
    double *x = zeros((int64_t)n * C), *last = zeros((int64_t)b->n_row * C);
    for (int i = 0; i < n; i++) memcpy(x + i * C, E + (int64_t)b->ids[i] * C, (size_t)C * sizeof *x);
    if (b->n_vis) {
        double *feat = zeros((int64_t)vision_tokens(&c->vision, b->grid, b->n_img) * C);
        ref_vision(r, b, feat);
        for (int i = 0; i < b->n_vis; i++)
            memcpy(x + b->vis_tok[i] * C, feat + b->vis_row[i] * C, (size_t)C * sizeof *x);
        free(feat);
    }
    for (int l = 0; l < c->n_layer; l++) {
        char norm[96], prefix[96];
        snprintf(norm, sizeof norm, "model.layers.%d.post_attention_layernorm", l);
        snprintf(prefix, sizeof prefix, "model.layers.%d.mlp", l);
        text_attention(r, x, b, l);
        mlp(r, x, n, C, c->intermediate, c->rms_eps, norm, prefix);
    }
    for (int i = 0; i < b->n_row; i++) memcpy(last + i * C, x + b->row[i] * C, (size_t)C * sizeof *x);
    rmsnorm(r, out, last, b->n_row, C, c->rms_eps, "model.norm");
    free(x), free(last);
}

double ref_loss(const ref_model *r, const token_batch *b, const int32_t *target, const float *weight)
{
    int C = r->cfg.hidden, V = r->cfg.vocab;
    const double *W = ref_find(r, r->cfg.tied ? "model.embed_tokens.weight" : "lm_head.weight")->v;
    double *h = zeros((int64_t)b->n_row * C), *z = zeros(V), loss = 0;
    ref_hidden(r, b, h);
    for (int i = 0; i < b->n_row; i++) {
        double most = -INFINITY, sum = 0;
        for (int v = 0; v < V; v++) {
            z[v] = 0;
            for (int k = 0; k < C; k++) z[v] += h[i * C + k] * W[(int64_t)v * C + k];
            most = fmax(most, z[v]);
        }
        for (int v = 0; v < V; v++) sum += exp(z[v] - most);
        loss += weight[i] * (z[target[i]] - most - log(sum));
    }
    free(h), free(z);
    return loss;
}
