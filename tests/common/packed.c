#include "tests/common/packed.h"

#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

void packed_open(packed *p, const model_config *c)
{
    memset(p, 0, sizeof *p);
    p->cfg = c;
    p->x = (token_batch){.ids = p->ids,
                         .pos = p->pos,
                         .cu = p->cu,
                         .grid = p->grid,
                         .vis_tok = p->vis_tok,
                         .vis_row = p->vis_row,
                         .row = p->row};
}

void packed_close(packed *p) { free(p->patches); }

int packed_image(packed *p, int id, int h, int w)
{
    const vision_config *v = &p->cfg->vision;
    int64_t dim = vision_patch_dim(v), n = (int64_t)h * w * dim;
    int i = p->x.n_img++;
    CHECK(i < PACKED_IMG);
    rng_key key = rng_make_key(7, RNG_TEST, 1, (uint64_t)id, (uint64_t)h, (uint64_t)w);
    p->patches = realloc(p->patches, (size_t)(p->n_patch * dim + n) * sizeof *p->patches);
    CHECK(p->patches);
    for (int64_t k = 0; k < n; k++) p->patches[p->n_patch * dim + k] = rng_normal(key, (uint64_t)k);
    p->x.patches = p->patches;
    p->first_row[i] = p->n_feat;
    memcpy(p->grid + 3 * i, (int32_t[]){1, h, w}, 3 * sizeof *p->grid);
    p->n_patch += h * w;
    p->n_feat += h * w / (v->merge * v->merge);
    return i;
}

void packed_begin(packed *p, int id)
{
    p->id = id;
    p->n_run = 0;
}

static int begun(const packed *p) { return p->cu[p->x.n_seq]; }

void packed_text(packed *p, int n)
{
    rng_key key = rng_make_key(7, RNG_TEST, 2, (uint64_t)p->id, 0, 0);
    for (int i = 0; i < n; i++) {
        int at = p->x.n_tok++;
        CHECK(at < PACKED_TOK);
        p->ids[at] = (int32_t)rng_below(key, (uint64_t)(at - begun(p)), (uint32_t)p->cfg->vocab);
        if (p->ids[at] == p->cfg->image_token) p->ids[at]--;
    }
}

void packed_show(packed *p, int image)
{
    const int32_t *g = p->grid + 3 * image;
    int m = p->cfg->vision.merge, n = g[0] * (g[1] / m) * (g[2] / m);
    CHECK(p->n_run < PACKED_IMG && p->x.n_tok + n <= PACKED_TOK);
    p->run[p->n_run++] = (mrope_image){p->x.n_tok - begun(p), g[0], g[1], g[2]};
    for (int i = 0; i < n; i++) {
        int at = p->x.n_tok++;
        p->ids[at] = p->cfg->image_token;
        p->vis_tok[p->x.n_vis] = at;
        p->vis_row[p->x.n_vis++] = p->first_row[image] + i;
    }
}

void packed_end(packed *p)
{
    int32_t next = 0;
    int first = begun(p), n = p->x.n_tok - first, m = p->cfg->has_vision ? p->cfg->vision.merge : 1;
    mrope_positions(p->pos + 3 * first, n, p->run, p->n_run, m, 1, &next);
    CHECK(p->x.n_seq < PACKED_SEQ);
    p->cu[++p->x.n_seq] = p->x.n_tok;
}

void packed_all_rows(packed *p)
{
    for (int i = 0; i < p->x.n_tok; i++) p->row[i] = i;
    p->x.n_row = p->x.n_tok;
}

model_limits packed_limits(const packed *p)
{
    return (model_limits){.tok = p->x.n_tok,
                          .seq = p->x.n_seq,
                          .patch = p->n_patch,
                          .img = p->x.n_img,
                          .row = p->x.n_row ? p->x.n_row : 1};
}
