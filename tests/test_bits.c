/* The bit contract (core/ops.h): a result does not depend on threads, instruction set, batch composition or where
 * attention finds its keys, and matrix products equal a triple loop. All comparisons are memcmp. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"
#include "kernels/kernels.h"
#include "tests/op_cases.h"

static const char *const isas[] = {"avx512", "avx2", "generic"};
static backend *backends[9];
static int n_backend;

static float *normal(int64_t n, uint64_t what)
{
    float *p = malloc(((size_t)n + 1) * sizeof *p);
    assert_non_null(p);
    rng_key k = rng_make_key(1, RNG_TEST, what, 0, 0, 0);
    for (int64_t i = 0; i < n; i++) p[i] = rng_normal(k, (uint64_t)i);
    return p;
}

/* Every op row: all backends give the bytes the first one gives. */
static void test_backends(void **state)
{
    const op_row *row = *state;
    for (int s = 0; s < row->n_size; s++) {
        op_case c;
        void *first[CASE_ARGS], *out[CASE_ARGS];
        case_make(&c, row, s);
        assert_null(case_run(backends[0], &c, first));
        for (int k = 1; k < n_backend; k++) {
            assert_null(case_run(backends[k], &c, out));
            for (int i = 0; i < c.n_arg; i++)
                if (out[i] && memcmp(out[i], first[i], (size_t)c.arg[i].count * dtype_size(c.arg[i].type)) != 0)
                    fail_msg("%s size %d argument %d: %s differs from %s", row->name, s, i, backends[k]->describe,
                             backends[0]->describe);
            case_out_free(out);
        }
        case_out_free(first);
        case_free(&c);
    }
}

static void test_triple_loop(void **state)
{
    (void)state;
    enum { N = 61, O = 139, I = 83 };
    float *x = normal(N * I, 1), *w = normal(O * I, 2), *bias = normal(O, 3), *dy = normal(N * O, 4),
          *dw0 = normal(O * I, 5);
    float *y = malloc(N * O * 4), *dx = malloc(N * I * 4), *dw = malloc(O * I * 4), *db = malloc(O * 4);
    tensor tx = tensor_2d(x, DT_F32, N, I), tw = tensor_2d(w, DT_F32, O, I), tb = tensor_1d(bias, DT_F32, O);
    tensor tdy = tensor_2d(dy, DT_F32, N, O), ty = tensor_2d(y, DT_F32, N, O), tdx = tensor_2d(dx, DT_F32, N, I);
    tensor tdw = tensor_2d(dw, DT_F32, O, I), tdb = tensor_1d(db, DT_F32, O);
    for (int k = 0; k < n_backend; k++) {
        backend *b = backends[k];
        memcpy(dw, dw0, O * I * 4);
        memcpy(db, bias, O * 4);
        b->params_changed(b);
        b->linear_fwd(b, &ty, &tx, &tw, &tb);
        b->linear_dx(b, &tdx, &tdy, &tw);
        b->linear_dw(b, &tdw, &tdb, &tdy, &tx);
        for (int n = 0; n < N; n++)
            for (int o = 0; o < O; o++) {
                float s = 0;
                for (int i = 0; i < I; i++) s = fmaf(x[n * I + i], w[o * I + i], s);
                s += bias[o];
                assert_memory_equal(&s, &y[n * O + o], 4);
            }
        for (int n = 0; n < N; n++)
            for (int i = 0; i < I; i++) {
                float s = 0;
                for (int o = 0; o < O; o++) s = fmaf(dy[n * O + o], w[o * I + i], s);
                assert_memory_equal(&s, &dx[n * I + i], 4);
            }
        for (int o = 0; o < O; o++) {
            float sum = bias[o];
            for (int n = 0; n < N; n++) sum += dy[n * O + o];
            assert_memory_equal(&sum, &db[o], 4);
            for (int i = 0; i < I; i++) {
                float s = dw0[o * I + i];
                for (int n = 0; n < N; n++) s = fmaf(dy[n * O + o], x[n * I + i], s);
                assert_memory_equal(&s, &dw[o * I + i], 4);
            }
        }
    }
    float *all[] = {x, w, bias, dy, dw0, y, dx, dw, db};
    for (int i = 0; i < 9; i++) free(all[i]);
}

/* Rows one by one, in small groups and all together; gradients in two halves chain into the whole. */
static void test_row_subsets(void **state)
{
    (void)state;
    enum { N = 40, O = 75, I = 64, V = 131 };
    float *x = normal(N * I, 1), *w = normal(O * I, 2), *dy = normal(N * O, 3), *head = normal(V * I, 4);
    float y[N * O], part[N * O], logp[N], lse[N], logp1[N], lse1[N];
    static float dw[O * I], halves[O * I];
    int32_t target[N], id[N], id1[N];
    uint32_t key[4 * N];
    for (int i = 0; i < N; i++) target[i] = i * 3 % V;
    for (int i = 0; i < 4 * N; i++) key[i] = (uint32_t)i * 2654435761u;
    for (int k = 0; k < n_backend; k++) {
        backend *b = backends[k];
        b->params_changed(b);
        tensor tx = tensor_2d(x, DT_F32, N, I), tw = tensor_2d(w, DT_F32, O, I), ty = tensor_2d(y, DT_F32, N, O);
        tensor th = tensor_2d(head, DT_F32, V, I), tt = tensor_1d(target, DT_I32, N), tk = tensor_2d(key, DT_U32, N, 4);
        tensor tl = tensor_1d(logp, DT_F32, N), te = tensor_1d(lse, DT_F32, N), ti = tensor_1d(id, DT_I32, N);
        b->linear_fwd(b, &ty, &tx, &tw, NULL);
        b->sample(b, &ti, &tl, &tx, &th, NULL, &tk, 0.9f);
        tensor own = tensor_1d(logp1, DT_F32, N);
        b->logprob_fwd(b, &own, &te, NULL, &tx, &th, &ti, NULL, 0.9f);
        assert_memory_equal(logp, logp1, sizeof logp); /* sampling and scoring agree */
        b->logprob_fwd(b, &tl, &te, NULL, &tx, &th, &tt, NULL, 1);
        for (int m = 1; m <= 17; m++) {
            for (int at = 0; at < N; at += m) {
                int n = N - at < m ? N - at : m;
                tensor rx = tensor_rows(&tx, at, n), ry = tensor_2d(part + at * O, DT_F32, n, O),
                       rt = tensor_rows(&tt, at, n);
                tensor rl = tensor_1d(logp1 + at, DT_F32, n), re = tensor_1d(lse1 + at, DT_F32, n);
                b->linear_fwd(b, &ry, &rx, &tw, NULL);
                b->logprob_fwd(b, &rl, &re, NULL, &rx, &th, &rt, NULL, 1);
            }
            assert_memory_equal(y, part, sizeof y);
            assert_memory_equal(logp, logp1, sizeof logp);
            assert_memory_equal(lse, lse1, sizeof lse);
            for (int at = 0; at < N; at += m) {
                int n = N - at < m ? N - at : m;
                tensor rx = tensor_rows(&tx, at, n), rk = tensor_rows(&tk, at, n),
                       rl = tensor_1d(logp1 + at, DT_F32, n);
                tensor ri = tensor_1d(id1 + at, DT_I32, n);
                b->sample(b, &ri, &rl, &rx, &th, NULL, &rk, 0.9f);
            }
            assert_memory_equal(id, id1, sizeof id);
        }
        memset(dw, 0, sizeof dw);
        memset(halves, 0, sizeof halves);
        tensor tdy = tensor_2d(dy, DT_F32, N, O), tdw = tensor_2d(dw, DT_F32, O, I),
               tha = tensor_2d(halves, DT_F32, O, I);
        b->linear_dw(b, &tdw, NULL, &tdy, &tx);
        for (int at = 0; at < N; at += 13) {
            int n = N - at < 13 ? N - at : 13;
            tensor rx = tensor_rows(&tx, at, n), rdy = tensor_rows(&tdy, at, n);
            b->linear_dw(b, &tha, NULL, &rdy, &rx);
        }
        assert_memory_equal(dw, halves, sizeof dw);
    }
    free(x), free(w), free(dy), free(head);
}

/* A sequence alone, packed with others, and decoded through the paged cache in pieces of every size. */
static void test_attention_forms(void **state)
{
    (void)state;
    const int dims[] = {32, 24, 7, 64};
    for (size_t form = 0; form < sizeof dims / sizeof *dims; form++) {
        enum { NH = 4, NKV = 2, N = 77, LEAD = 21, BLOCKS = 8 };
        const int dim = dims[form], width = (NH + 2 * NKV) * dim, o_width = NH * dim;
        attn_shape a = {NH, NKV, dim, 1.0f / sqrtf((float)dim), true};
        float *qkv = normal((LEAD + N) * width, form), *o = malloc((size_t)((LEAD + N) * o_width) * 4);
        float *lse = malloc((LEAD + N) * NH * 4), *alone = malloc((size_t)(N * o_width) * 4),
              *lse_alone = malloc(N * NH * 4);
        float *kv = malloc((size_t)(BLOCKS * kv_block_floats(&a)) * 4), *paged = malloc((size_t)(N * o_width) * 4);
        int32_t cu[] = {0, LEAD, LEAD + N}, cu1[] = {0, N}, table[BLOCKS] = {3, 1, 7, 0, 5, 2, 4, 6};
        for (int k = 0; k < n_backend; k++) {
            backend *b = backends[k];
            tensor tq = tensor_2d(qkv, DT_F32, LEAD + N, width), to = tensor_2d(o, DT_F32, LEAD + N, o_width);
            tensor tl = tensor_2d(lse, DT_F32, LEAD + N, NH), tc = tensor_1d(cu, DT_I32, 3),
                   tc1 = tensor_1d(cu1, DT_I32, 2);
            b->attn_fwd(b, &to, &tl, &tq, &tc, &a);
            tensor q1 = tensor_rows(&tq, LEAD, N), o1 = tensor_2d(alone, DT_F32, N, o_width);
            tensor l1 = tensor_2d(lse_alone, DT_F32, N, NH);
            b->attn_fwd(b, &o1, &l1, &q1, &tc1, &a);
            assert_memory_equal(alone, o + LEAD * o_width, (size_t)(N * o_width) * 4);
            assert_memory_equal(lse_alone, lse + LEAD * NH, N * NH * 4);
            for (int piece = 1; piece <= 40; piece += piece < 4 ? 1 : 6) {
                for (int64_t i = 0; i < BLOCKS * kv_block_floats(&a); i++) kv[i] = NAN; /* absent keys are never used */
                tensor tkv = tensor_2d(kv, DT_F32, BLOCKS, kv_block_floats(&a)),
                       tt = tensor_2d(table, DT_I32, 1, BLOCKS);
                for (int at = 0; at < N; at += piece) {
                    int n = N - at < piece ? N - at : piece;
                    int32_t slot[64], cu2[] = {0, n}, ctx = at + n;
                    for (int i = 0; i < n; i++)
                        slot[i] = table[(at + i) / ATTN_BLOCK] * ATTN_BLOCK + (at + i) % ATTN_BLOCK;
                    tensor rows = tensor_rows(&q1, at, n), ts = tensor_1d(slot, DT_I32, n),
                           t2 = tensor_1d(cu2, DT_I32, 2);
                    tensor tx = tensor_1d(&ctx, DT_I32, 1), out = tensor_2d(paged + at * o_width, DT_F32, n, o_width);
                    b->kv_store(b, &tkv, &rows, &ts, &a);
                    b->attn_paged(b, &out, &rows, &tkv, &tt, &t2, &tx, &a);
                }
                assert_memory_equal(alone, paged, (size_t)(N * o_width) * 4);
            }
        }
        float *all[] = {qkv, o, lse, alone, lse_alone, kv, paged};
        for (int i = 0; i < 7; i++) free(all[i]);
    }
}

int main(void)
{
    static const int threads[] = {1, 2, 4};
    for (int i = 0; i < 3; i++) {
        if (!cpu_isa_has(isas[i])) printf("SKIP: this CPU has no %s\n", isas[i]);
        for (int t = 0; t < 3 && cpu_isa_has(isas[i]); t++)
            if (backend_open_cpu(&backends[n_backend++], threads[t], isas[i]) != ST_OK) {
                fprintf(stderr, "%s\n", fail_message());
                return 1;
            }
    }
    struct CMUnitTest tests[64];
    int n = 0;
    for (int i = 0; i < op_row_count; i++)
        tests[n++] = (struct CMUnitTest){op_rows[i]->name, test_backends, NULL, NULL, (void *)op_rows[i]};
    const struct CMUnitTest more[] = {cmocka_unit_test(test_triple_loop), cmocka_unit_test(test_row_subsets),
                                      cmocka_unit_test(test_attention_forms)};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) tests[n++] = more[i];
    int failed = _cmocka_run_group_tests("bits", tests, (size_t)n, NULL, NULL);
    for (int i = 0; i < n_backend; i++) backend_close(backends[i]);
    return failed;
}
