/* What the three files of the scene generator share: drawing (synth_draw.c), the conversation (synth_text.c) and the
 * writer (synth.c). */
#ifndef DATA_SYNTH_PART_H
#define DATA_SYNTH_PART_H

#include "data/synth.h"

enum {
    SYNTH_SIDE = 672, /* pixels of every picture */
    /* How the demo's model sees it (launch/demo.mk: --resample 2): Pillow and torchvision have this filter alike. */
    SYNTH_FILTER = RESAMPLE_BILINEAR,
    SYNTH_BLOCK = 8,  /* pixels per side of one pixel of the model's view */
    SYNTH_VIEW = SYNTH_SIDE / SYNTH_BLOCK,
    SYNTH_CELL = 224,   /* pitch of the lattice a scene's cards stand on */
    SYNTH_CENTRE = 116, /* tile centre inside its cell: the centre of one view pixel */
    SYNTH_TILE = 20,    /* micro-pixels per side of the tile that holds the detail */
    SYNTH_COLOURS = 8,
    SYNTH_READABLE_SCALE = 8, /* from here on a digit's strokes are as wide as a pixel of the view */
    SYNTH_EASY_SCALE = 32
};

extern const char *const synth_colour_names[SYNTH_COLOURS];
extern const char *const synth_turn_names[4];

static inline bool synth_counts(synth_category c) { return c == SYNTH_CNT_EASY || c == SYNTH_CNT_HARD; }
static inline bool synth_has_cards(synth_category c) { return c == SYNTH_SCN_HARD || c == SYNTH_SCN_ROT; }

/* Pillow's crop((x-h, y-h, x+h, y+h)) inside the picture, and rotate(90 * quarters), counter-clockwise. */
void synth_crop(image *out, const image *in, int x, int y, int h);
void synth_rotate(image *out, const image *in, int quarters);

/* One finished line of data.jsonl with the pictures it names. */
enum { SYNTH_ROW_PICTURES = 3 };
typedef struct synth_picture {
    char name[32];
    uint8_t *bytes;
    size_t n;
} synth_picture;
typedef struct synth_row {
    json_out line;
    int n_picture;
    synth_picture picture[SYNTH_ROW_PICTURES];
} synth_row;
/* Stage V and "Describe." rows look at single cards only: tile_view 0 draws the picture itself, 1 shows the zoomed
 * tile. */
typedef struct synth_ask {
    const char *id;
    synth_kind kind;
    bool describe;
    bool zoomed; /* the picture of the row is the tile cropped out (labels and describe) */
} synth_ask;
status synth_row_write(synth_row *out, const synth_scene *s, const synth_ask *ask, rng *r);
void synth_row_free(synth_row *row);

#endif
