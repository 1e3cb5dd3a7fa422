/* Reading Hugging Face model directories: config and weights.
 *
 * Weights are read in large pieces by all threads straight to where they are used; only a piece whose dtype differs goes
 * through a buffer. Every rank holds all weights (ZeRO-1 shards the moments, which no such directory has), so every rank
 * reads every byte of them once; ranks of one node read from the same page cache. What is not read: a head that repeats
 * the embedding is compared with it, not kept, and buffers such as inv_freq are left alone. */
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
} piece;

typedef struct load {
    backend *b;
    piece *piece;
    int n;
    atomic_flag failed;
    status st;
    char message[1024]; /* a thread's; FAIL keeps messages by thread */
} load;

static const char *stored_name(dtype type) { return type == DT_BF16 ? "BF16" : "F32"; }

static void *place(const piece *p)
{
    return (char *)p->from->want.w.data + (size_t)p->at * dtype_size(p->from->want.w.type);
}

static void read_pieces(void *ctx, int begin, int end, int thread)
{
    (void)thread;
    load *l = ctx;
    for (int i = begin; i < end; i++) {
        const piece *p = &l->piece[i];
        status st = hf_read(place(p), stored_name(p->from->want.w.type), p->from, p->at, p->n);
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
        tensor to = tensor_1d(place(p), p->from->want.w.type, p->n);
        st = hf_read(buf, stored_name(to.type), p->from, p->at, p->n);
        if (st == ST_OK) l->b->upload(l->b, &to, buf);
    }
    free(buf);
    return st;
}

static status cut(load *l, const hf_match *m)
{
    size_t most = 0;
    for (int i = 0; i < m->n; i++) most += (size_t)(tensor_count(&m->pair[i].want.w) / PIECE + 1);
    l->piece = malloc(most * sizeof *l->piece);
    if (!l->piece) return FAIL(ST_ENOMEM, "out of memory for %zu pieces", most);
    for (int i = 0; i < m->n; i++) {
        int64_t count = tensor_count(&m->pair[i].want.w);
        for (int64_t at = 0; at < count; at += PIECE)
            l->piece[l->n++] = (piece){&m->pair[i], at, count - at < PIECE ? count - at : PIECE};
    }
    return ST_OK;
}

status hf_load_weights(model *m, const char *dir)
{
    hf_source s;
    hf_match match = {0};
    load l = {.b = model_backend(m), .failed = ATOMIC_FLAG_INIT};
    TRY(hf_source_open(&s, dir));
    status st = hf_match_open(&match, &s, m, dir);
    if (st == ST_OK) st = cut(&l, &match);
    if (st == ST_OK) st = l.b->host ? read_in_place(&l) : upload_pieces(&l);
    free(l.piece);
    hf_match_close(&match);
    hf_source_close(&s);
    TRY(st);
    l.b->params_changed(l.b);
    return l.b->sync(l.b);
}
