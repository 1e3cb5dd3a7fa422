/* Reading Hugging Face model directories: config and weights.
 *
 * Weights are read in large pieces by all threads straight to where they are used; only a piece whose dtype differs
 * goes through a buffer. Matrices of a model in bf16 stay in the file's pages, which are only brought in: nothing is
 * copied, and processes of one machine share them. Every rank holds all weights (ZeRO-1 shards the moments, which no
 * such directory has), so every rank reads every byte of them once; ranks of one node read from the same page cache.
 * What is not read: a head that repeats the embedding is compared with it, not kept, and buffers such as inv_freq are
 * left alone. */
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/json.h"
#include "core/thread.h"
#include "data/file.h"
#include "data/hf_source.h"

enum { MAX_JSON = 1 << 20, PIECE = 4 << 20, MAX_THREADS = 16 };

status hf_load_config(model_config *c, const char *dir)
{
    char path[PATH_MAX];
    json *j = NULL;
    TRY(file_join(path, sizeof path, dir, "config.json"));
    TRY(json_read_file(&j, path, MAX_JSON));
    status st = model_config_from_json(c, j);
    json_free(j);
    return st == ST_OK ? ST_OK : fail_within(st, "%s", dir);
}

/* ---- reading weights ---- */

typedef struct piece {
    const hf_pair *from;
    int64_t at, n; /* elements */
    void *to;      /* NULL: only bring the file's pages in */
} piece;

/* What the rows of a model in bf16 point into. */
typedef struct kept {
    hf_source s;
    backend *b;
    void *converted; /* tensors whose bytes in the file can't be used as they are */
} kept;

typedef struct load {
    backend *b;
    piece *piece;
    int n;
    atomic_flag failed;
    status st;
    char message[1024]; /* a thread's; FAIL keeps messages by thread */
} load;

static const char *stored_name(dtype type) { return type == DT_F32 ? "F32" : "BF16"; }
static size_t stored_size(dtype type) { return type == DT_F32 ? 4 : 2; }

static void drop(void *what)
{
    kept *k = what;
    if (k->converted) k->b->release(k->b, k->converted);
    hf_source_close(&k->s);
    free(k);
}

/* The file's bytes are a matrix as the kernels read it. */
static bool in_place(const hf_pair *p)
{
    return p->want.w.type == DT_BF16_ROWS && !strcmp(p->got->dtype, "BF16") && (uintptr_t)p->got->data % 2 == 0;
}

static void point_rows(const hf_pair *p, const void *data)
{
    const uint16_t **row = p->want.w.data;
    for (int64_t i = 0; i < p->want.w.dim[0]; i++) row[i] = (const uint16_t *)data + i * p->want.w.dim[1];
}

/* Where each tensor's elements are written, or NULL. Rows are pointed here, too. */
static status place(const hf_match *m, kept *k, void **to)
{
    size_t need = 0;
    char *room = NULL;
    for (int i = 0; i < m->n; i++)
        if (m->pair[i].want.w.type == DT_BF16_ROWS && !in_place(&m->pair[i]))
            need += 2 * (size_t)tensor_count(&m->pair[i].want.w);
    if (need) TRY(k->b->alloc(k->b, need, &k->converted));
    room = k->converted;
    for (int i = 0; i < m->n; i++) {
        const hf_pair *p = &m->pair[i];
        to[i] = p->want.w.type != DT_BF16_ROWS ? p->want.w.data : in_place(p) ? NULL : room;
        if (p->want.w.type != DT_BF16_ROWS) continue;
        point_rows(p, to[i] ? to[i] : p->got->data);
        if (to[i]) room += 2 * tensor_count(&p->want.w);
    }
    return ST_OK;
}

static status cut(load *l, const hf_match *m, kept *k)
{
    size_t most = 0;
    for (int i = 0; i < m->n; i++) most += (size_t)(tensor_count(&m->pair[i].want.w) / PIECE + 1);
    void **to = malloc((size_t)m->n * sizeof *to);
    l->piece = malloc((most ? most : 1) * sizeof *l->piece);
    status st = to && l->piece ? place(m, k, to) : FAIL(ST_ENOMEM, "out of memory for %zu pieces", most);
    for (int i = 0; i < m->n && st == ST_OK; i++) {
        int64_t count = tensor_count(&m->pair[i].want.w);
        for (int64_t at = 0; at < count; at += PIECE)
            l->piece[l->n++] = (piece){&m->pair[i], at, count - at < PIECE ? count - at : PIECE,
                                       to[i] ? (char *)to[i] + (size_t)at * stored_size(m->pair[i].want.w.type) : NULL};
    }
    free(to);
    return st;
}

/* Brings a piece's pages in, from the disk if they are not cached: what is not here when the first token is computed is
 * waited for there, a page at a time. A system that can't (Linux before 5.14) reads them when they are used. */
static void populate(const piece *p)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)p->from->got->data + 2 * (uintptr_t)p->at;
    uintptr_t end = begin + 2 * (uintptr_t)p->n;
    begin -= begin % page;
    (void)madvise((void *)begin, end - begin, MADV_POPULATE_READ); // NOLINT(performance-no-int-to-ptr)
}

static void read_pieces(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    load *l = ctx;
    for (int i = begin; i < end; i++) {
        const piece *p = &l->piece[i];
        if (!p->to) {
            populate(p);
            continue;
        }
        status st = hf_read(p->to, stored_name(p->from->want.w.type), p->from, p->at, p->n);
        if (st == ST_OK || atomic_flag_test_and_set(&l->failed)) continue;
        l->st = st;
        snprintf(l->message, sizeof l->message, "%s", fail_message());
    }
}

/* Into memory of the host, by all threads. */
static status read_in_place(load *l)
{
    thread_pool *pool = NULL;
    int threads = thread_cpus() < MAX_THREADS ? thread_cpus() : MAX_THREADS;
    TRY(thread_pool_create(&pool, threads < l->n ? threads : l->n));
    thread_pool_for(pool, l->n, 1, read_pieces, l);
    thread_pool_destroy(pool);
    return l->st == ST_OK ? ST_OK : FAIL(l->st, "%s", l->message);
}

static status upload_pieces(load *l)
{
    void *buf = malloc((size_t)PIECE * sizeof(float));
    if (!buf) return FAIL(ST_ENOMEM, "out of memory for reading weights");
    status st = ST_OK;
    for (int i = 0; i < l->n && st == ST_OK; i++) {
        const piece *p = &l->piece[i];
        tensor to = tensor_1d(p->to, p->from->want.w.type, p->n);
        st = hf_read(buf, stored_name(to.type), p->from, p->at, p->n);
        if (st == ST_OK) l->b->upload(l->b, &to, buf);
    }
    free(buf);
    return st;
}

/* Weights larger than the memory can still be used, but not be made resident at once. */
static void drop_unreadable(load *l)
{
    double bytes = 0, memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < l->n; i++) bytes += l->piece[i].to ? 0 : 2.0 * (double)l->piece[i].n;
    if (bytes < 0.8 * memory) return;
    int n = 0;
    for (int i = 0; i < l->n; i++)
        if (l->piece[i].to) l->piece[n++] = l->piece[i];
    l->n = n;
}

static status load_all(load *l, model *m, kept *k, const char *dir)
{
    hf_match match = {0};
    TRY(hf_source_open(&k->s, dir));
    status st = hf_match_open(&match, &k->s, m, dir);
    if (st == ST_OK) st = cut(l, &match, k);
    if (st == ST_OK) drop_unreadable(l);
    if (st == ST_OK) st = l->b->host ? read_in_place(l) : upload_pieces(l);
    free(l->piece);
    hf_match_close(&match);
    return st;
}

static status find_rows(void *ctx, const model_tensor *t)
{
    *(bool *)ctx |= t->w.type == DT_BF16_ROWS;
    return ST_OK;
}

status hf_load_weights(model *m, const char *dir)
{
    load l = {.b = model_backend(m), .failed = ATOMIC_FLAG_INIT};
    kept *k = calloc(1, sizeof *k);
    bool rows = false;
    if (!k) return FAIL(ST_ENOMEM, "out of memory");
    k->b = l.b;
    status st = load_all(&l, m, k, dir);
    if (st == ST_OK) st = model_visit(m, find_rows, &rows);
    if (st == ST_OK && rows)
        model_keep(m, k, drop);
    else
        drop(k);
    TRY(st);
    l.b->params_changed(l.b);
    return l.b->sync(l.b);
}
