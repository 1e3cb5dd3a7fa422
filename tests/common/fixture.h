/* One directory of tests/fixtures: a tiny checkpoint written by transformers, and what transformers computes from it
 * (tests/fixtures/make_fixtures.py). */
#ifndef TESTS_COMMON_FIXTURE_H
#define TESTS_COMMON_FIXTURE_H

#include "data/hf.h"
#include "rl/render.h"

enum { FIXTURE_CHATS = 8 };

typedef struct fixture {
    char dir[512], name[64];
    st_file *record;
    double worst; /* largest |ours - reference| / fixture_bound of all comparisons so far */
    char worst_key[128];
    int n_compared;
    void *user; /* the test's own */
} fixture;

typedef void fixture_fn(fixture *f);
/* Calls fn for every directory with a record, in order of name; returns how many there are. */
int fixture_each(fixture_fn *fn);

/* A recorded tensor; fails the test when there is none. */
const st_tensor *fixture_get(const fixture *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool fixture_has(const fixture *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Fails the test unless the n values are the recorded ones. */
void fixture_same_ints(const fixture *f, const int32_t *v, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* How far another float32 program may be from the recorded float64 value.
 *
 * To first order the error of a float32 evaluation is sum_i s_i d_i: d_i the relative error of operation i, s_i the
 * sensitivity of the output to it. Two programs for one formula share every s_i and differ in the d_i only.
 * transformers' own float32 run gives e = max |float32 - float64| over the tensor (recorded). Its dot products are
 * vectorised: partial sums of K/16 terms and a tree; ours are one chain of K terms (core/ops.h). The error of a sum
 * grows as the root of its chain's length, so a d_i of ours is at most sqrt(16) = 4 times theirs. e is one draw of a
 * maximum, ours another: a factor of 2 covers that. Hence 8 e. A tensor of few elements can come out exact by chance:
 * e is taken to be at least 2^-24 of the largest element, one rounding of it. */
double fixture_bound(double err, double largest);
/* Fails the test when one of the n values is farther than the bound from the record's key (or is no number). */
void fixture_close_to(fixture *f, const float *v, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for values that the record holds at [at, at+n) of a longer tensor. */
void fixture_close_part(fixture *f, const float *v, int64_t at, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

#endif
