/* The language-model head: log-probabilities, their gradient, and sampling. Rows go through in chunks, so the logits of
 * all rows never exist together. A row's logits are read twice: by many blocks for the largest and the best, which no
 * order changes, then by one block for the sums of sixteen interleaved partials. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/formulas.h"

namespace {

/* CHUNK_BYTES hold 256 rows of 152064 fp32 logits and their bf16 gradients; more rows of a smaller vocabulary would only
 * spare dw some passes. */
enum { THREADS = 256, SLICE = 4096, LANES = 16, BATCH = 8, CHUNK_ROWS = 256, CHUNK_BYTES = 256 << 20 };

/* What is known of some logits: the largest, and the largest score and where it first is. */
struct finding {
    float top, score;
    int32_t at;
};

/* The rows of a chunk, as the kernels see it. */
struct logits {
    const float *z; /* before temperature and bans */
    finding *found; /* one per slice of SLICE logits of each row */
    const uint8_t *ban;
    int64_t vocab, first; /* first row of the chunk among all rows */
    int slices;
    float inv_temp;
};

__device__ float logit(const logits *l, int64_t row, int64_t i)
{
    const float z = l->z[row * l->vocab + i];
    const bool banned = l->ban && l->ban[i];
    return (banned ? -INFINITY : z) * l->inv_temp;
}

/* NaN is never larger; of equal scores the first wins. */
__device__ void merge(finding *a, const finding *b)
{
    if (b->top > a->top) a->top = b->top;
    if (b->score > a->score || (b->score == a->score && b->at < a->at)) {
        a->score = b->score;
        a->at = b->at;
    }
}

/* rng_uniform of words 4 counter .. 4 counter + 3 of core/rng.c */
__device__ void uniform4(float u[4], const uint32_t *key, uint32_t counter)
{
    uint32_t c[4] = {counter, 0, key[2], key[3]}, k0 = key[0], k1 = key[1];
    for (int r = 0; r < 10; r++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        uint32_t low0 = 0xD2511F53u * c[0], high0 = __umulhi(0xD2511F53u, c[0]);
        uint32_t low1 = 0xCD9E8D57u * c[2], high1 = __umulhi(0xCD9E8D57u, c[2]);
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
    }
    for (int i = 0; i < 4; i++) u[i] = (static_cast<float>(c[i] >> 9) + 0.5f) * 0x1p-23f;
}

/* Block (s, r): slice s of row r. key NULL: the score is the logit, else with Gumbel noise. */
__global__ void scan_kernel(logits l, const uint32_t *key)
{
    __shared__ finding part[THREADS];
    const int64_t r = blockIdx.y, end = (blockIdx.x + 1) * static_cast<int64_t>(SLICE);
    const int me = static_cast<int>(threadIdx.x);
    finding best = {-INFINITY, -INFINITY, 0};
    for (int64_t i = end - SLICE + 4 * me; i < end && i < l.vocab; i += 4 * THREADS) {
        float x[4], u[4] = {0, 0, 0, 0};
        for (int k = 0; k < 4; k++) x[k] = i + k < l.vocab ? logit(&l, r, i + k) : -INFINITY;
        if (key) uniform4(u, key + 4 * (l.first + r), static_cast<uint32_t>(i / 4));
        for (int k = 0; k < 4; k++) {
            finding one = {x[k], key ? x[k] + gumbel(u[k]) : x[k], static_cast<int32_t>(i + k)};
            merge(&best, &one);
        }
    }
    part[me] = best;
    for (int n = THREADS / 2; n > 0; n /= 2) {
        __syncthreads();
        if (me < n) merge(&part[me], &part[me + n]);
    }
    if (me == 0) l.found[r * l.slices + blockIdx.x] = part[0];
}

/* Half a warp adds, the others bring e^d and d = x - top of the next logits meanwhile. */
enum { ADDERS = 32, EXPERTS = 256, STAGE = 2048 };

/* Banned logits and those behind the last give e = 0, d = -1: terms that change no sum. */
__device__ void load_stage(float2 *stage, const logits *l, int64_t row, float top, int64_t first)
{
    enum { EACH = STAGE / EXPERTS };
    const int me = static_cast<int>(threadIdx.x) - ADDERS;
    float x[EACH];
    for (int k = 0; k < EACH; k++) { /* all loads first: they are far */
        int64_t i = first + k * EXPERTS + me;
        x[k] = i < l->vocab ? logit(l, row, i) : -INFINITY;
    }
    for (int k = 0; k < EACH; k++) {
        int64_t i = first + k * EXPERTS + me;
        float d = i < l->vocab ? x[k] - top : -INFINITY;
        stage[k * EXPERTS + me].x = v_exp(d);
        stage[k * EXPERTS + me].y = d == -INFINITY ? -1.0f : d;
    }
}

struct row_stats {
    float lse, entropy;
};

/* Of a row, by the whole block; only thread 0 learns them. */
__device__ row_stats stats_of(const logits *l, int64_t row, float top)
{
    __shared__ float2 stage[2][STAGE];
    const int me = static_cast<int>(threadIdx.x);
    float s0 = 0, s1 = 0;
    if (me >= ADDERS) load_stage(stage[0], l, row, top, 0);
    __syncthreads();
    int turn = 0;
    for (int64_t first = 0; first < l->vocab; first += STAGE, turn ^= 1) {
        if (me >= ADDERS) {
            if (l->vocab - first > STAGE) load_stage(stage[turn ^ 1], l, row, top, first + STAGE);
        } else if (me < LANES) {
            for (int i = 0; i < STAGE; i += LANES) {
                float2 t = stage[turn][i + me];
                s0 = s0 + t.x;
                s1 = fmaf(t.x, t.y, s1);
            }
        }
        __syncthreads();
    }
    row_stats s = {0, 0};
    if (me < ADDERS) {
        float sum = half_sum(s0), log_sum = log1(sum);
        s.lse = top + log_sum;
        s.entropy = log_sum - half_sum(s1) / sum;
    }
    return s;
}

__device__ finding found_in(const logits *l, int64_t row)
{
    finding best = {-INFINITY, -INFINITY, 0};
    for (int s = 0; s < l->slices; s++) merge(&best, &l->found[row * l->slices + s]);
    return best;
}

/* entropy may be NULL. A target that is none: NaN. */
__global__ void logprob_kernel(float *logp, float *lse, float *entropy, logits l, const int32_t *target, fault *f)
{
    const int64_t row = blockIdx.x, r = l.first + row;
    row_stats s = stats_of(&l, row, found_in(&l, row).top);
    if (threadIdx.x != 0) return;
    bool ok = index_ok(f, OP_logprob_fwd, target[r], l.vocab);
    logp[r] = ok ? logit(&l, row, target[r]) - s.lse : NAN;
    lse[r] = ok ? s.lse : NAN;
    if (entropy) entropy[r] = ok ? s.entropy : NAN;
}

__global__ void sample_kernel(int32_t *id, float *logp, logits l)
{
    const int64_t row = blockIdx.x;
    const finding best = found_in(&l, row);
    row_stats s = stats_of(&l, row, best.top);
    if (threadIdx.x != 0) return;
    id[l.first + row] = best.at;
    logp[l.first + row] = logit(&l, row, best.at) - s.lse;
}

struct row_grads {
    const int32_t *target;
    const float *lse, *entropy, *dlogp, *dent; /* entropy and dent may be NULL together */
};

/* Block (s, r): slice s of row r. g may be the logits themselves. A target that is none: NaN. */
template <class T> __global__ void dlogits_kernel(T *g, logits l, row_grads in, fault *f)
{
    const int64_t row = blockIdx.y, r = l.first + row, begin = blockIdx.x * static_cast<int64_t>(SLICE);
    const int64_t target = in.target[r];
    const bool ok = index_ok(f, OP_logprob_bwd, target, l.vocab);
    const float lse = in.lse[r], dlogp = ok ? in.dlogp[r] : NAN;
    const float entropy = in.dent ? in.entropy[r] : 0.0f, dent = in.dent ? in.dent[r] : 0.0f;
    for (int64_t at = begin + threadIdx.x; at < begin + SLICE && at < l.vocab; at += BATCH * THREADS) {
        float x[BATCH]; /* read before any is written: g may be z */
        for (int k = 0; k < BATCH; k++) {
            int64_t i = at + k * THREADS;
            x[k] = i < l.vocab ? logit(&l, row, i) : 0.0f;
        }
        for (int k = 0; k < BATCH; k++) {
            int64_t i = at + k * THREADS;
            bool near = i / LANES == target / LANES;
            float dx = dlogit(x[k], lse, entropy, dlogp, dent, l.inv_temp, near, i == target ? 1.0f : 0.0f);
            if (i < l.vocab) put(g + row * l.vocab + i, dx);
        }
    }
}

/* A walk over the rows of x in chunks. */
struct walk {
    cuda *c;
    const tensor *x, *w;
    logits l;
    float *z;
    void *g; /* gradients of the logits */
    int64_t rows, step, n; /* of a chunk, of this one */
};

const char *row_of(const tensor *x, int64_t row)
{
    return static_cast<const char *>(x->data) + static_cast<size_t>(row * cols_of(x)) * dtype_size(x->type);
}

/* False: nothing to do, or out of memory. g_type: of the gradients; of fp32 ones the logits become them. */
bool begin(walk *k, backend *b, const tensor *x, const tensor *w, const tensor *ban, float inv_temp, dtype g_type)
{
    CHECK_ACT(x), CHECK_ACT(w);
    CHECK(cols_of(x) == cols_of(w) && rows_of(w) > 0 && rows_of(w) <= INT32_MAX);
    CHECK(!ban || (ban->type == DT_U8 && tensor_count(ban) == rows_of(w)));
    *k = walk();
    k->c = cuda_of(b);
    k->x = x;
    k->w = w;
    k->rows = rows_of(x);
    k->l.vocab = rows_of(w);
    k->l.slices = static_cast<int>(blocks_for(k->l.vocab, SLICE));
    k->l.ban = ban ? static_cast<const uint8_t *>(ban->data) : nullptr;
    k->l.inv_temp = inv_temp;
    if (k->rows == 0) return false;
    const size_t vocab = static_cast<size_t>(k->l.vocab), slices = static_cast<size_t>(k->l.slices);
    const size_t g_bytes = g_type == DT_F32 ? 0 : dtype_size(g_type) * vocab, found_bytes = sizeof(finding) * slices;
    const size_t row_bytes = sizeof(float) * vocab + g_bytes + found_bytes;
    k->step = CHUNK_BYTES / static_cast<int64_t>(row_bytes);
    if (k->step > CHUNK_ROWS) k->step = CHUNK_ROWS;
    if (k->step > k->rows) k->step = k->rows;
    if (k->step < 1) k->step = 1;
    const size_t step = static_cast<size_t>(k->step), found = (step * found_bytes + 255) / 256 * 256;
    char *scratch = static_cast<char *>(cuda_scratch(k->c, found + step * (row_bytes - found_bytes)));
    if (!scratch) return false;
    k->l.found = reinterpret_cast<finding *>(scratch);
    k->l.z = k->z = reinterpret_cast<float *>(scratch + found); /* aligned for the matrix products, if vocab allows it */
    k->g = g_bytes ? static_cast<void *>(k->z + step * vocab) : k->z;
    k->l.first = -k->step;
    return true;
}

/* The logits of the next rows; false: there are none. */
bool next(walk *k)
{
    k->l.first += k->step;
    k->n = k->rows - k->l.first < k->step ? k->rows - k->l.first : k->step;
    if (k->n <= 0) return false;
    cuda_matmul_nt(k->c, k->z, DT_F32, k->l.vocab, row_of(k->x, k->l.first), k->x->type, k->n, k->w, nullptr);
    return true;
}

void scan(walk *k, const char *what, const uint32_t *key)
{
    launch(k->c, what, scan_kernel, dim3(static_cast<unsigned>(k->l.slices), static_cast<unsigned>(k->n)), THREADS, 0, k->l,
           key);
}

void check_rows(const tensor *t, dtype type, int64_t rows) { CHECK(t->type == type && tensor_count(t) == rows); }

} // namespace

void cuda_logprob_fwd(backend *b, tensor *logp, tensor *lse, tensor *entropy, const tensor *x, const tensor *w,
                      const tensor *target, const tensor *ban, float inv_temp)
{
    int64_t rows = rows_of(x);
    check_rows(logp, DT_F32, rows), check_rows(lse, DT_F32, rows), check_rows(target, DT_I32, rows);
    if (entropy) check_rows(entropy, DT_F32, rows);
    CHECK(inv_temp > 0);
    walk k;
    if (!begin(&k, b, x, w, ban, inv_temp, DT_F32)) return;
    while (next(&k)) {
        scan(&k, "logprob_fwd", nullptr);
        launch(k.c, "logprob_fwd", logprob_kernel, static_cast<unsigned>(k.n), ADDERS + EXPERTS, 0, F32(logp), F32(lse),
               entropy ? F32(entropy) : nullptr, k.l, I32(target), k.c->faults);
    }
}

void cuda_logprob_bwd(backend *b, tensor *dx, tensor *dw, const tensor *x, const tensor *w, const tensor *target,
                      const tensor *ban, const tensor *lse, const tensor *entropy, const tensor *dlogp,
                      const tensor *dent, float inv_temp)
{
    int64_t rows = rows_of(x), cols = cols_of(x);
    check_rows(dx, x->type, rows * cols), check_rows(target, DT_I32, rows);
    check_rows(lse, DT_F32, rows), check_rows(dlogp, DT_F32, rows);
    if (dw) check_rows(dw, DT_F32, tensor_count(w));
    CHECK(inv_temp > 0 && (!dent || entropy));
    if (dent) check_rows(dent, DT_F32, rows), check_rows(entropy, DT_F32, rows);
    row_grads in = {I32(target), F32(lse), dent ? F32(entropy) : nullptr, F32(dlogp), dent ? F32(dent) : nullptr};
    walk k;
    if (!begin(&k, b, x, w, ban, inv_temp, x->type)) return;
    while (next(&k)) {
        const int64_t first = k.l.first;
        dim3 grid(static_cast<unsigned>(k.l.slices), static_cast<unsigned>(k.n));
        WITH_TYPE(T, x, launch(k.c, "logprob_bwd", dlogits_kernel<T>, grid, THREADS, 0, k.g, k.l, in, k.c->faults));
        if (dw) /* first: dx may be x */
            cuda_matmul_tn(k.c, F32(dw), nullptr, k.g, x->type, k.l.vocab, row_of(x, first), k.n, k.l.vocab, cols);
        cuda_matmul_nn(k.c, const_cast<char *>(row_of(dx, first)), k.g, x->type, k.l.vocab, k.n, w);
    }
}

void cuda_sample(backend *b, tensor *id, tensor *logp, const tensor *x, const tensor *w, const tensor *ban,
                 const tensor *key, float inv_temp)
{
    int64_t rows = rows_of(x);
    check_rows(id, DT_I32, rows), check_rows(logp, DT_F32, rows);
    CHECK(inv_temp >= 0);
    const bool greedy = inv_temp == 0;
    if (!greedy) check_rows(key, DT_U32, 4 * rows);
    walk k;
    if (!begin(&k, b, x, w, ban, greedy ? 1.0f : inv_temp, DT_F32)) return;
    while (next(&k)) {
        scan(&k, "sample", greedy ? nullptr : static_cast<const uint32_t *>(key->data));
        launch(k.c, "sample", sample_kernel, static_cast<unsigned>(k.n), ADDERS + EXPERTS, 0, id->data, F32(logp), k.l);
    }
}
