/* The tensors of a tiny text model lie in two shards; the index that maps them is what is fuzzed. */
#include <stdlib.h>
#include <string.h>

#include "data/file.h"
#include "data/hf.h"
#include "kernels/kernels.h"
#include "tests/common/tempdir.h"
#include "tests/fuzz/fuzz.h"

typedef struct shard {
    st_entry e[64];
    int n;
} shard;

static status split(void *ctx, const model_tensor *t)
{
    shard *s = &((shard *)ctx)[strstr(t->name, "mlp") != NULL];
    st_entry e = {.name = t->name, .dtype = "F32", .ndim = t->ndim, .data = t->w.data, .bytes = 4};
    for (int i = 0; i < t->ndim; i++) e.bytes *= (size_t)(e.shape[i] = t->shape[i]);
    CHECK(s->n < 64);
    s->e[s->n++] = e;
    return ST_OK;
}

static model *make(const char *dir)
{
    static const model_config c = {.hidden = 8,
                                   .n_layer = 1,
                                   .n_head = 2,
                                   .n_kv = 1,
                                   .head_dim = 4,
                                   .intermediate = 8,
                                   .vocab = 8,
                                   .max_position = 64,
                                   .tied = true,
                                   .qkv_bias = true,
                                   .rms_eps = 1e-6f,
                                   .rope_theta = 1e4,
                                   .mrope_section = {2, 0, 0},
                                   .image_token = -1,
                                   .video_token = -1,
                                   .vision_start_token = -1,
                                   .vision_end_token = -1,
                                   .bos_token = -1,
                                   .eos_token = -1};
    backend *b = NULL;
    model *m = NULL;
    shard *s = calloc(2, sizeof *s);
    CHECK(s && backend_open_cpu(&b, 1, "generic") == ST_OK && model_create(&m, b, &c, false) == ST_OK);
    model_init(m, 1);
    CHECK(file_make_dir(dir) == ST_OK && model_visit(m, split, s) == ST_OK);
    for (int i = 0; i < 2; i++)
        CHECK(st_write(temppath("index/%c.safetensors", 'a' + i), s[i].e, s[i].n, NULL) == ST_OK);
    free(s);
    return m;
}

status fuzz_index(const uint8_t *data, size_t n)
{
    static model *m;
    char dir[512], path[512];
    strcpy(dir, temppath("index"));
    strcpy(path, temppath("index/model.safetensors.index.json"));
    if (!m) m = make(dir);
    temp_write(path, data, n);
    return hf_load_weights(m, dir);
}
