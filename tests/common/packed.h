/* Small packed batches built piece by piece; every number is keyed by identity, so a sequence or an image is the same
 * in whatever batch it stands. */
#ifndef TESTS_COMMON_PACKED_H
#define TESTS_COMMON_PACKED_H

#include "core/model.h"
#include "core/mrope.h"

enum { PACKED_TOK = 512, PACKED_SEQ = 16, PACKED_IMG = 8 };

typedef struct packed {
    token_batch x; /* points into the arrays below */
    const model_config *cfg;
    int32_t ids[PACKED_TOK], pos[3 * PACKED_TOK], cu[PACKED_SEQ + 1], row[PACKED_TOK];
    int32_t grid[3 * PACKED_IMG], vis_tok[PACKED_TOK], vis_row[PACKED_TOK], first_row[PACKED_IMG];
    float *patches;
    int n_patch, n_feat;
    int id, n_run;               /* the sequence being built */
    mrope_image run[PACKED_IMG]; /* its images */
} packed;

void packed_open(packed *p, const model_config *c);
void packed_close(packed *p);
/* An image whose pixels depend on id and grid only; returns its number in this batch. */
int packed_image(packed *p, int id, int h, int w);
void packed_begin(packed *p, int id);
void packed_text(packed *p, int n);
void packed_show(packed *p, int image);
void packed_end(packed *p); /* positions of the sequence */
/* Asks for every row. */
void packed_all_rows(packed *p);
/* Limits that just hold this batch. */
model_limits packed_limits(const packed *p);

#endif
