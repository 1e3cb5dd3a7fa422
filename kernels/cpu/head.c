/* The language-model head: log-probabilities, their gradient, and sampling. Rows go through in chunks, so the logits of
 * all rows never exist together; a row's logits have the chain of linear_fwd in all three ops. */
#include "kernels/cpu/cpu.h"

typedef struct head_job {
    cpu *c;
    float *z; /* [chunk][vocab] */
    int64_t vocab, first;
    const uint8_t *ban;
    float inv_temp, *logp, *lse, *entropy;
    const float *lse_in, *entropy_in, *dlogp, *dent;
    const int32_t *target;
    const uint32_t *key;
    int32_t *id;
} head_job;

enum { CHUNK = 64, CHUNK_FLOATS = 1 << 21 };

static int64_t chunk_rows(int64_t vocab)
{
    int64_t n = CHUNK_FLOATS / (vocab > 0 ? vocab : 1);
    return n < 1 ? 1 : n > CHUNK ? CHUNK : n;
}

/* Logits of x rows [first, first+n) into z, before temperature and bans. */
static bool logits(head_job *j, const tensor *x, const tensor *w, int64_t n)
{
    return cpu_matmul_nt(j->c, j->z, j->vocab, (const float *)x->data + j->first * cols_of(x), n, w, NULL);
}

static bool begin(head_job *j, const tensor *x, const tensor *w, const tensor *ban)
{
    CHECK_F32(x), CHECK_WEIGHT(w);
    CHECK(cols_of(x) == cols_of(w) && rows_of(w) > 0);
    CHECK(!ban || (ban->type == DT_U8 && tensor_count(ban) == rows_of(w)));
    j->vocab = rows_of(w);
    j->ban = ban ? ban->data : NULL;
    cpu *c = j->c;
    if (!cpu_reserve(c, c->n_thread, c->n_thread, (size_t)(chunk_rows(j->vocab) * j->vocab) * sizeof(float)))
        return false;
    j->z = cpu_scratch(c, c->n_thread);
    return true;
}

static void check_targets(const tensor *target, int64_t rows, int64_t vocab)
{
    CHECK_I32(target);
    CHECK(tensor_count(target) == rows);
    const int32_t *t = target->data;
    for (int64_t i = 0; i < rows; i++) CHECK(t[i] >= 0 && t[i] < vocab);
}

static void fwd_rows(void *ctx, int first, int last, int thread)
{
    (void)thread;
    const head_job *j = ctx;
    for (int i = first; i < last; i++) {
        float *z = j->z + i * j->vocab;
        int64_t r = j->first + i;
        j->c->k->logits_row(z, j->vocab, j->ban, j->inv_temp, &j->lse[r], j->entropy ? &j->entropy[r] : NULL);
        j->logp[r] = z[j->target[r]] - j->lse[r];
    }
}

void cpu_logprob_fwd(backend *b, tensor *logp, tensor *lse, tensor *entropy, const tensor *x, const tensor *w,
                     const tensor *target, const tensor *ban, float inv_temp)
{
    int64_t rows = rows_of(x);
    CHECK_F32(logp), CHECK_F32(lse);
    CHECK(tensor_count(logp) == rows && tensor_count(lse) == rows && inv_temp > 0);
    CHECK(!entropy || (entropy->type == DT_F32 && tensor_count(entropy) == rows));
    check_targets(target, rows, rows_of(w));
    head_job j = {.c = cpu_of(b),
                  .inv_temp = inv_temp,
                  .logp = logp->data,
                  .lse = lse->data,
                  .entropy = entropy ? entropy->data : NULL,
                  .target = target->data};
    if (!begin(&j, x, w, ban)) return;
    for (int64_t step = chunk_rows(j.vocab); j.first < rows; j.first += step) {
        int64_t n = rows - j.first < step ? rows - j.first : step;
        if (!logits(&j, x, w, n)) return;
        cpu_for(j.c, n, 20.0 * (double)(n * j.vocab), fwd_rows, &j);
    }
}

static void bwd_rows(void *ctx, int first, int last, int thread)
{
    (void)thread;
    const head_job *j = ctx;
    for (int i = first; i < last; i++) {
        float *z = j->z + i * j->vocab, lse;
        int64_t r = j->first + i;
        j->c->k->logits_row(z, j->vocab, j->ban, j->inv_temp, &lse, NULL);
        j->c->k->dlogits_row(z, j->vocab, j->lse_in[r], j->dent ? j->entropy_in[r] : 0.0f, j->target[r], j->dlogp[r],
                             j->dent ? j->dent[r] : 0.0f, j->inv_temp);
    }
}

void cpu_logprob_bwd(backend *b, tensor *dx, tensor *dw, const tensor *x, const tensor *w, const tensor *target,
                     const tensor *ban, const tensor *lse, const tensor *entropy, const tensor *dlogp,
                     const tensor *dent, float inv_temp)
{
    int64_t rows = rows_of(x), cols = cols_of(x);
    CHECK_F32(dx), CHECK_F32(w), CHECK_F32(lse), CHECK_F32(dlogp);
    CHECK(tensor_count(dx) == rows * cols && tensor_count(lse) == rows && tensor_count(dlogp) == rows && inv_temp > 0);
    CHECK(!dw || (dw->type == DT_F32 && tensor_count(dw) == tensor_count(w)));
    CHECK(!dent || (entropy && tensor_count(dent) == rows && tensor_count(entropy) == rows));
    check_targets(target, rows, rows_of(w));
    head_job j = {.c = cpu_of(b),
                  .inv_temp = inv_temp,
                  .lse_in = lse->data,
                  .dlogp = dlogp->data,
                  .entropy_in = entropy ? entropy->data : NULL,
                  .dent = dent ? dent->data : NULL,
                  .target = target->data};
    if (!begin(&j, x, w, ban)) return;
    for (int64_t step = chunk_rows(j.vocab); j.first < rows; j.first += step) {
        int64_t n = rows - j.first < step ? rows - j.first : step;
        const float *x_rows = (const float *)x->data + j.first * cols;
        if (!logits(&j, x, w, n)) return;
        cpu_for(j.c, n, 30.0 * (double)(n * j.vocab), bwd_rows, &j);
        if (dw) cpu_matmul_tn(j.c, dw->data, NULL, j.z, j.vocab, x_rows, n, j.vocab, cols); /* first: dx may be x */
        cpu_matmul_nn(j.c, (float *)dx->data + j.first * cols, j.z, j.vocab, n, w);
    }
}

static void sample_rows(void *ctx, int first, int last, int thread)
{
    (void)thread;
    const head_job *j = ctx;
    for (int i = first; i < last; i++) {
        float *z = j->z + i * j->vocab, lse;
        int64_t r = j->first + i;
        bool greedy = j->inv_temp == 0.0f;
        j->c->k->logits_row(z, j->vocab, j->ban, greedy ? 1.0f : j->inv_temp, &lse, NULL);
        int64_t id = j->c->k->pick(z, j->vocab, greedy ? NULL : j->key + 4 * r);
        j->id[r] = (int32_t)id;
        j->logp[r] = z[id] - lse;
    }
}

void cpu_sample(backend *b, tensor *id, tensor *logp, const tensor *x, const tensor *w, const tensor *ban,
                const tensor *key, float inv_temp)
{
    int64_t rows = rows_of(x);
    CHECK_I32(id), CHECK_F32(logp);
    CHECK(tensor_count(id) == rows && tensor_count(logp) == rows && inv_temp >= 0);
    CHECK(inv_temp == 0 || (key && key->type == DT_U32 && tensor_count(key) == 4 * rows));
    head_job j = {
        .c = cpu_of(b), .inv_temp = inv_temp, .id = id->data, .logp = logp->data, .key = key ? key->data : NULL};
    if (!begin(&j, x, w, ban)) return;
    for (int64_t step = chunk_rows(j.vocab); j.first < rows; j.first += step) {
        int64_t n = rows - j.first < step ? rows - j.first : step;
        if (!logits(&j, x, w, n)) return;
        cpu_for(j.c, n, 150.0 * (double)(n * j.vocab), sample_rows, &j);
    }
}
