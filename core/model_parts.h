/* What the files of the model share. Private to core: model.c (create, init), model_names.c and model_pass.c (forward,
 * backward). */
#ifndef CORE_MODEL_PARTS_H
#define CORE_MODEL_PARTS_H

#include "core/model.h"
#include "core/tower.h"

/* Weights or gradients. */
typedef struct param_set {
    tensor embed;        /* [V,C] */
    block_params *layer; /* (L) */
    tensor norm;         /* [C] */
    tensor head;         /* [V,C]; NULL data when tied */
    tower_params tower;
} param_set;

struct model {
    backend *b;
    model_config cfg;
    block_shape shape;      /* of a decoder layer */
    arena *weights, *grads; /* grads NULL unless for_training */
    arena *constants;
    param_set w, g;
    tensor freq, axis;   /* [D/2] text rotary */
    tensor vfreq, vaxis; /* [Dv/2] vision rotary */
    model_tensor *list;  /* every Hugging Face tensor, in the order of the flat arena */
    int n_list;
    void *kept; /* model_keep */
    void (*drop)(void *kept);
};

/* Fills list: model_names.c. */
status model_list(model *m);

#endif
