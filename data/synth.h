/* The demo's scenes: cards with a digit or dots, either filling the card (easy) or one micro-tile whose detail is lost
 * in the model's view (hard), digits of the sizes between (mid), and an oracle that writes the conversation. See demo
 * notes in the README. */
#ifndef DATA_SYNTH_H
#define DATA_SYNTH_H

#include <stdbool.h>

#include "core/rng.h"
#include "data/image.h"

#define SYNTH_CATEGORIES(X)                                                                       \
    X(RD_EASY, "rd_easy")                                                                         \
    X(CNT_EASY, "cnt_easy") X(RD_HARD, "rd_hard") X(ROT_HARD, "rot_hard") X(SCN_HARD, "scn_hard") \
        X(CNT_HARD, "cnt_hard") X(SCN_ROT, "scn_rot") X(RD_MID, "rd_mid")
typedef enum synth_category {
#define SYNTH_ENUM(id, name) SYNTH_##id,
    SYNTH_CATEGORIES(SYNTH_ENUM)
#undef SYNTH_ENUM
        SYNTH_CATEGORY_COUNT
} synth_category;

typedef struct synth_scene {
    synth_category category;
    image picture;
    int colour;             /* 0..7 */
    int value;              /* digit or count */
    int turns;              /* quarter turns of the tile, 0..3 */
    int cell_col, cell_row; /* asked cell of a scene */
    int tile_scale;         /* 1 hard .. 32 easy */
    char question[128];
} synth_scene;
/* tile_scale 0: the category's own (32 easy, 1 hard, 2 to 16 mid). The picture is owned by the scene. */
void synth_draw(synth_scene *out, synth_category cat, int tile_scale, rng *r);
void synth_scene_free(synth_scene *s);

typedef enum synth_kind {
    SYNTH_SFT,     /* tool or direct by a fair coin; describe rows; buggy first tries */
    SYNTH_DIRECT,  /* direct answers only: the control */
    SYNTH_PROMPTS, /* question and answer only: RL and evaluation */
    SYNTH_LABELS   /* picture + attribute words: the vision warm-up */
} synth_kind;

/* Writes dir/data.jsonl and dir/img/NAME.png (named by content, so rows and splits share files). Streams of different
 * (seed, split) never share a scene key; sft and direct rows of equal (seed, split, mix, describe) show the same
 * scenes. Category counts follow the mix to within one row. */
typedef struct synth_opts {
    synth_kind kind;
    int64_t n;
    uint64_t seed;
    const char *split;
    const float *mix; /* [SYNTH_CATEGORY_COUNT] relative weights; NULL: the kind's own. Must be NULL for SYNTH_LABELS */
    int tile_scale;   /* as in synth_draw; 0 for SYNTH_LABELS, which shows sizes of its own */
    double describe;  /* share of "Describe." rows in SYNTH_SFT and SYNTH_DIRECT; SYNTH_DESCRIBE is usual */
    int threads;      /* 0: every CPU; the result doesn't depend on it */
    bool progress;
} synth_opts;
#define SYNTH_DESCRIBE 0.06
status synth_write(const char *dir, const synth_opts *o);
const char *synth_category_name(synth_category c);

#endif
