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

/* NAME.weight alone: RMSNorm; with NAME.bias: LayerNorm. */
static void norm(const ref_model *r, double *y, const double *x, int n, int C, double eps, const char *name)
{
    const ref_weight *w = ref_find(r, "%s.weight", name), *b = ref_find(r, "%s.bias", name);
    CHECK(w && w->n == C);
    for (int k = 0; k < n; k++) {
        double mean = 0, square = 0;
        for (int c = 0; b && c < C; c++) mean += x[k * C + c] / C;
        for (int c = 0; c < C; c++) square += (x[k * C + c] - mean) * (x[k * C + c] - mean) / C;
        for (int c = 0; c < C; c++)
            y[k * C + c] = (x[k * C + c] - mean) / sqrt(square + eps) * w->v[c] + (b ? b->v[c] : 0);
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

/* x += down(silu(gate(norm(x))) * up(norm(x))), or x += fc2(gelu_tanh(fc1(norm(x)))) where there is an fc1 */
static void mlp(const ref_model *r, double *x, int n, int C, int I, double eps, const char *norm_name,
                const char *prefix)
{
    char name[160];
    double *a = zeros((int64_t)n * C), *g = zeros((int64_t)n * I), *u = zeros((int64_t)n * I);
    bool gated = !ref_find(r, "%s.linear_fc1.weight", prefix);
    norm(r, a, x, n, C, eps, norm_name);
    snprintf(name, sizeof name, "%s.%s", prefix, gated ? "gate_proj" : "linear_fc1");
    linear(r, g, a, n, name);
    if (gated) {
        snprintf(name, sizeof name, "%s.up_proj", prefix);
        linear(r, u, a, n, name);
    }
    for (int i = 0; i < n * I; i++)
        g[i] = gated ? g[i] / (1 + exp(-g[i])) * u[i]
                     : 0.5 * g[i] * (1 + tanh(sqrt(2 / acos(-1)) * (g[i] + 0.044715 * pow(g[i], 3))));
    snprintf(name, sizeof name, "%s.%s", prefix, gated ? "down_proj" : "linear_fc2");
    linear(r, a, g, n, name);
    add_into(x, a, (int64_t)n * C);
    free(a), free(g), free(u);
}

/* ---- vision tower ---- */

/* Where a patch is: its image and frame as one number, its place, its window. */
typedef struct place {
    int frame, row, col, window;
    int rows, cols; /* of its image */
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
    int n = 0, frame = 0, m = v->merge, side = v->window ? v->window / v->patch : 1000; /* patches per window side */
    for (int i = 0; i < n_img; i++)
        for (int f = 0; f < grid[3 * i]; f++, frame++)
            for (int ty = 0; ty < grid[3 * i + 1] / m; ty++)
                for (int tx = 0; tx < grid[3 * i + 2] / m; tx++)
                    for (int k = 0; k < m * m; k++, n++)
                        if (out) {
                            int row = ty * m + k / m, col = tx * m + k % m;
                            out[n] = (place){frame,          row, col, row / side * 1000 + col / side, grid[3 * i + 1],
                                             grid[3 * i + 2]};
                        }
    return n;
}

static const char *vision_prefix(const ref_model *r)
{
    return r->cfg.family == FAMILY_QWEN3 ? "model.visual" : "visual";
}

static void vision_attention(const ref_model *r, double *x, int n, const place *p, int l)
{
    const vision_config *v = &r->cfg.vision;
    char norm_name[96], qkv_name[96], proj[96];
    int d = v->hidden, H = v->n_head, D = d / H;
    double *a = zeros((int64_t)n * d), *qkv = zeros((int64_t)n * 3 * d), *part[3], *o = zeros((int64_t)n * d),
           angle[256];
    snprintf(norm_name, sizeof norm_name, "%s.blocks.%d.norm1", vision_prefix(r), l);
    snprintf(qkv_name, sizeof qkv_name, "%s.blocks.%d.attn.qkv", vision_prefix(r), l);
    snprintf(proj, sizeof proj, "%s.blocks.%d.attn.proj", vision_prefix(r), l);
    norm(r, a, x, n, d, 1e-6, norm_name);
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
    for (int i = 0; i < v->n_full; i++) s.full |= v->full_blocks[i] == l; /* no windows: one holds every image */
    attention(o, part[0], part[1], part[2], n, H, H, D, see_patch, &s);
    linear(r, a, o, n, proj);
    add_into(x, a, (int64_t)n * d);
    for (int k = 0; k < 3; k++) free(part[k]);
    free(a), free(qkv), free(o);
}

/* x[n][d] gains the position table, read between its rows: the image's corners lie on the table's corners. */
static void add_positions(const ref_model *r, double *x, int n, const place *p)
{
    int d = r->cfg.vision.hidden, side = (int)sqrt(r->cfg.vision.n_pos);
    const double *E = ref_find(r, "%s.pos_embed.weight", vision_prefix(r))->v;
    for (int i = 0; i < n; i++) {
        double y = p[i].rows > 1 ? p[i].row * (side - 1.0) / (p[i].rows - 1) : 0;
        double z = p[i].cols > 1 ? p[i].col * (side - 1.0) / (p[i].cols - 1) : 0;
        for (int a = 0; a < side; a++)
            for (int b = 0; b < side; b++) {
                double w = fmax(0, 1 - fabs(y - a)) * fmax(0, 1 - fabs(z - b)); /* hat functions */
                for (int k = 0; k < d; k++) x[i * d + k] += w * E[(a * side + b) * d + k];
            }
    }
}

/* out[n / unit][hidden] = fc2(gelu(fc1(concat(norm x)))); wide: the norm is over the concatenated row. */
static void merger(const ref_model *r, double *out, const double *x, int n, bool wide, const char *prefix)
{
    const vision_config *v = &r->cfg.vision;
    int d = v->hidden, unit = v->merge * v->merge;
    bool qwen3 = r->cfg.family == FAMILY_QWEN3;
    char name[160];
    double *z = zeros((int64_t)n * d), *u = zeros((int64_t)n * d);
    snprintf(name, sizeof name, "%s.%s", prefix, qwen3 ? "norm" : "ln_q");
    norm(r, z, x, wide ? n / unit : n, wide ? d * unit : d, 1e-6, name);
    snprintf(name, sizeof name, "%s.%s", prefix, qwen3 ? "linear_fc1" : "mlp.0");
    linear(r, u, z, n / unit, name);
    for (int i = 0; i < n * d; i++) u[i] = 0.5 * u[i] * (1 + erf(u[i] / sqrt(2)));
    snprintf(name, sizeof name, "%s.%s", prefix, qwen3 ? "linear_fc2" : "mlp.2");
    linear(r, out, u, n / unit, name);
    free(z), free(u);
}

void ref_vision(const ref_model *r, const token_batch *x, double *out, double *deep)
{
    const vision_config *v = &r->cfg.vision;
    int n = find_places(v, x->grid, x->n_img, NULL), d = v->hidden, dim = vision_patch_dim(v),
        T = n / (v->merge * v->merge);
    place *p = malloc((size_t)n * sizeof *p);
    double *in = zeros((int64_t)n * dim), *h = zeros((int64_t)n * d);
    char name[96], prefix[96];
    CHECK(p);
    find_places(v, x->grid, x->n_img, p);
    for (int i = 0; i < n * dim; i++) in[i] = x->patches[i];
    snprintf(name, sizeof name, "%s.patch_embed.proj", vision_prefix(r));
    linear(r, h, in, n, name);
    if (v->n_pos) add_positions(r, h, n, p);
    for (int l = 0; l < v->depth; l++) {
        snprintf(name, sizeof name, "%s.blocks.%d.norm2", vision_prefix(r), l);
        snprintf(prefix, sizeof prefix, "%s.blocks.%d.mlp", vision_prefix(r), l);
        vision_attention(r, h, n, p, l);
        mlp(r, h, n, d, v->intermediate, 1e-6, name, prefix);
        for (int k = 0; deep && k < v->n_deep; k++) {
            if (v->deep_blocks[k] != l) continue;
            snprintf(prefix, sizeof prefix, "%s.deepstack_merger_list.%d", vision_prefix(r), k);
            merger(r, deep + (int64_t)k * T * v->out_hidden, h, n, true, prefix);
        }
    }
    snprintf(prefix, sizeof prefix, "%s.merger", vision_prefix(r));
    merger(r, out, h, n, false, prefix);
    free(p), free(in), free(h);
}

/* ---- text decoder ---- */

static bool see_token(const void *ctx, int i, int j)
{
    const token_batch *x = ctx;
    int s = 0;
    while (x->cu[s + 1] <= i) s++;
    return j <= i && j >= x->cu[s];
}

static const char *text_prefix(const ref_model *r)
{
    return r->cfg.family == FAMILY_QWEN3 && r->cfg.has_vision ? "model.language_model" : "model";
}

/* Axis of each frequency: the sections one after the other, or taken in turns while they last. */
static void find_axes(const model_config *c, int *axis)
{
    int left[3], j = 0, a = 0;
    memcpy(left, c->mrope_section, sizeof left);
    for (; j < c->head_dim / 2; j++) {
        while (left[a] == 0) a = (a + 1) % 3;
        axis[j] = a;
        left[a]--;
        if (c->mrope_interleaved) a = (a + 1) % 3;
    }
}

/* RMSNorm of every head by itself, where the family has it. */
static void head_norm(const ref_model *r, double *x, int rows, const char *kind, int l)
{
    char name[96];
    snprintf(name, sizeof name, "%s.layers.%d.self_attn.%s", text_prefix(r), l, kind);
    if (ref_find(r, "%s.weight", name)) norm(r, x, x, rows, r->cfg.head_dim, r->cfg.rms_eps, name);
}

static void text_attention(const ref_model *r, double *x, const token_batch *batch, int l)
{
    const model_config *c = &r->cfg;
    char name[96];
    int n = batch->n_tok, C = c->hidden, H = c->n_head, K = c->n_kv, D = c->head_dim, axis[128];
    double *a = zeros((int64_t)n * C), *q = zeros((int64_t)n * H * D), *o = zeros((int64_t)n * H * D), angle[256];
    double *k = zeros((int64_t)n * K * D), *v = zeros((int64_t)n * K * D);
    snprintf(name, sizeof name, "%s.layers.%d.input_layernorm", text_prefix(r), l);
    norm(r, a, x, n, C, c->rms_eps, name);
    snprintf(name, sizeof name, "%s.layers.%d.self_attn.q_proj", text_prefix(r), l);
    linear(r, q, a, n, name);
    snprintf(name, sizeof name, "%s.layers.%d.self_attn.k_proj", text_prefix(r), l);
    linear(r, k, a, n, name);
    snprintf(name, sizeof name, "%s.layers.%d.self_attn.v_proj", text_prefix(r), l);
    linear(r, v, a, n, name);
    head_norm(r, q, n * H, "q_norm", l);
    head_norm(r, k, n * K, "k_norm", l);
    find_axes(c, axis);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < D / 2; j++) { angle[j] = batch->pos[3 * i + axis[j]] * pow(c->rope_theta, -2.0 * j / D); }
        for (int h = 0; h < H; h++) rotate(&q[(i * H + h) * D], D, angle);
        for (int h = 0; h < K; h++) rotate(&k[(i * K + h) * D], D, angle);
    }
    attention(o, q, k, v, n, H, K, D, see_token, batch);
    snprintf(name, sizeof name, "%s.layers.%d.self_attn.o_proj", text_prefix(r), l);
    linear(r, a, o, n, name);
    add_into(x, a, (int64_t)n * C);
    free(a), free(q), free(o), free(k), free(v);
}

void ref_hidden(const ref_model *r, const token_batch *b, double *out)
{
    const model_config *c = &r->cfg;
    int n = b->n_tok, C = c->hidden, n_deep = b->n_vis ? c->vision.n_deep : 0;
    int64_t n_feat = b->n_vis ? vision_tokens(&c->vision, b->grid, b->n_img) : 0;
    const double *E = ref_find(r, "%s.embed_tokens.weight", text_prefix(r))->v;
    double *x = zeros((int64_t)n * C), *last = zeros((int64_t)b->n_row * C), *feat = zeros(n_feat * C),
           *deep = zeros(n_deep * n_feat * C);
    char name[96], prefix[96];
    for (int i = 0; i < n; i++) memcpy(x + i * C, E + (int64_t)b->ids[i] * C, (size_t)C * sizeof *x);
    if (b->n_vis) {
        ref_vision(r, b, feat, deep);
        for (int i = 0; i < b->n_vis; i++)
            memcpy(x + b->vis_tok[i] * C, feat + b->vis_row[i] * C, (size_t)C * sizeof *x);
    }
    for (int l = 0; l < c->n_layer; l++) {
        snprintf(name, sizeof name, "%s.layers.%d.post_attention_layernorm", text_prefix(r), l);
        snprintf(prefix, sizeof prefix, "%s.layers.%d.mlp", text_prefix(r), l);
        text_attention(r, x, b, l);
        mlp(r, x, n, C, c->intermediate, c->rms_eps, name, prefix);
        for (int i = 0; l < n_deep && i < b->n_vis; i++)
            add_into(x + b->vis_tok[i] * C, deep + (l * n_feat + b->vis_row[i]) * C, C);
    }
    for (int i = 0; i < b->n_row; i++) memcpy(last + i * C, x + b->row[i] * C, (size_t)C * sizeof *x);
    snprintf(name, sizeof name, "%s.norm", text_prefix(r));
    norm(r, out, last, b->n_row, C, c->rms_eps, name);
    free(x), free(last), free(feat), free(deep);
}

double ref_loss(const ref_model *r, const token_batch *b, const int32_t *target, const float *weight)
{
    int C = r->cfg.hidden, V = r->cfg.vocab;
    const char *head = r->cfg.tied ? "embed_tokens" : "lm_head", *inside = r->cfg.tied ? text_prefix(r) : NULL;
    const double *W = ref_find(r, "%s%s%s.weight", inside ? inside : "", inside ? "." : "", head)->v;
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
