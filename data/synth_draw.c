#include "data/synth_part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const synth_colour_names[SYNTH_COLOURS] = {"red",  "green",  "blue",   "yellow",
                                                       "cyan", "purple", "orange", "pink"};
/* Where the tile's white bar stands after that many counter-clockwise quarter turns. */
const char *const synth_turn_names[4] = {"up", "left", "down", "right"};

typedef struct colour {
    uint8_t v[3];
} colour;

static const colour CARD[SYNTH_COLOURS] = {{{250, 110, 110}}, {{100, 220, 110}}, {{125, 145, 255}}, {{245, 230, 90}},
                                           {{90, 225, 230}},  {{205, 125, 235}}, {{250, 170, 80}},  {{255, 180, 215}}};

/* 3x5 digits, one row per byte, bit 2 = left column. */
static const uint8_t FONT[10][5] = {{7, 5, 5, 5, 7}, {2, 6, 2, 2, 7}, {7, 1, 7, 4, 7}, {7, 1, 3, 1, 7},
                                    {5, 5, 7, 1, 1}, {7, 4, 7, 1, 7}, {4, 4, 7, 5, 7}, {7, 1, 2, 2, 2},
                                    {7, 5, 7, 5, 7}, {7, 5, 7, 1, 1}};

enum { CLEAR, BAR, PLATE, INK, SPECK, PAINTS };
typedef struct tile {
    uint8_t at[SYNTH_TILE][SYNTH_TILE];
    colour paint[PAINTS];
} tile;

const char *synth_category_name(synth_category c)
{
    static const char *const names[] = {
#define SYNTH_NAME(id, name) name,
        SYNTH_CATEGORIES(SYNTH_NAME)
#undef SYNTH_NAME
    };
    CHECK((unsigned)c < SYNTH_CATEGORY_COUNT);
    return names[c];
}

static uint8_t clip(int v, int low, int high) { return (uint8_t)(v < low ? low : v > high ? high : v); }
static int between(rng *r, int low, int high) { return low + (int)rng_next_below(r, (uint32_t)(high - low + 1)); }

static colour vary(colour c, int by, rng *r)
{
    for (int i = 0; i < 3; i++) c.v[i] = clip(c.v[i] + between(r, -by, by), 0, 255);
    return c;
}

/* Bulk noise: whole Philox blocks, 16 bytes each. */
static void noise_bytes(rng *r, uint8_t *out, size_t n)
{
    r->at = (r->at + 3) & ~(uint64_t)3;
    for (size_t i = 0; i < n; i += 16, r->at += 4) {
        uint32_t w[4];
        rng_words(r->key, r->at / 4, w);
        memcpy(out + i, w, n - i < 16 ? n - i : 16);
    }
}

static void tile_fill(tile *t, int row, int col, int rows, int cols, uint8_t paint)
{
    for (int y = row; y < row + rows; y++) memset(&t->at[y][col], paint, (size_t)cols);
}

/* A counter-clockwise quarter turn. */
static void tile_turn(tile *t)
{
    tile old = *t;
    for (int y = 0; y < SYNTH_TILE; y++)
        for (int x = 0; x < SYNTH_TILE; x++) t->at[y][x] = old.at[x][SYNTH_TILE - 1 - y];
}

/* The plate covers exactly one pixel of the view, and its colour is random per channel: that pixel averages an unknown
 * plate with 7..13 ink pixels, so not even the amount of ink can be told from it. */
static void digit_tile(tile *t, int digit, int turns, colour card, rng *r)
{
    memset(t, 0, sizeof *t);
    uint8_t ink = (uint8_t)between(r, 0, 40);
    t->paint[BAR] = (colour){{250, 250, 250}};
    t->paint[INK] = (colour){{ink, ink, ink}};
    for (int i = 0; i < 3; i++) t->paint[PLATE].v[i] = clip(card.v[i] + between(r, -60, 20), 60, 255);
    tile_fill(t, 3, 7, 2, 7, BAR);
    tile_fill(t, 6, 6, 8, 8, PLATE);
    for (int y = 0; y < 5; y++)
        for (int x = 0; x < 3; x++)
            if (FONT[digit][y] >> (2 - x) & 1) t->at[8 + y][9 + x] = INK;
    for (int i = 0; i < turns; i++) tile_turn(t);
}

/* n dark dots and some pale specks on distinct sites of a lattice. */
static void dots_tile(tile *t, bool fine, int n, colour card, rng *r)
{
    memset(t, 0, sizeof *t);
    int sites = fine ? 6 : 3, pitch = fine ? 3 : 6, size = fine ? 2 : 4, first = fine ? 1 : 2;
    int specks = fine ? between(r, 0, 16) : 0, ink = between(r, 0, 40);
    for (int i = 0; i < 3; i++) {
        t->paint[INK].v[i] = (uint8_t)ink;
        t->paint[SPECK].v[i] = (uint8_t)((45 * ink + 55 * card.v[i]) / 100);
    }
    int order[36], total = sites * sites;
    for (int i = 0; i < total; i++) order[i] = i;
    for (int i = 0; i < n + specks; i++) {
        int j = between(r, i, total - 1), site = order[j];
        order[j] = order[i];
        tile_fill(t, first + pitch * (site / sites), first + pitch * (site % sites), size, size, i < n ? INK : SPECK);
    }
}

static void tile_paste(image *im, const tile *t, int x0, int y0, int scale)
{
    for (int ty = 0; ty < SYNTH_TILE; ty++)
        for (int tx = 0; tx < SYNTH_TILE; tx++) {
            int paint = t->at[ty][tx];
            if (paint == CLEAR) continue;
            for (int y = y0 + ty * scale; y < y0 + (ty + 1) * scale; y++)
                for (int x = x0 + tx * scale; x < x0 + (tx + 1) * scale; x++)
                    if (x >= 0 && x < im->w && y >= 0 && y < im->h)
                        memcpy(im->rgb + 3 * ((size_t)y * im->w + x), t->paint[paint].v, 3);
        }
}

/* The picture without detail is constant on every view pixel, so it is painted at the view's size and enlarged. */
typedef struct canvas {
    colour at[SYNTH_VIEW][SYNTH_VIEW];
    uint8_t noise[SYNTH_VIEW][SYNTH_VIEW];
} canvas;

static void canvas_card(canvas *c, int bx, int by, int side, colour base)
{
    for (int y = by; y < by + side; y++)
        for (int x = bx; x < bx + side; x++) {
            int n = (c->noise[y][x] * 9 >> 8) * 2 - 8;
            for (int i = 0; i < 3; i++) c->at[y][x].v[i] = clip(base.v[i] + n, 0, 255);
        }
}

/* A tinted grey ramp in steps of 4, so that a whole scene stays below 256 colours. */
static void canvas_background(canvas *c, rng *r)
{
    int level = between(r, 130, 170), dx = between(r, -40, 40), dy = between(r, -40, 40), tint[3];
    for (int i = 0; i < 3; i++) tint[i] = between(r, -10, 10);
    for (int y = 0; y < SYNTH_VIEW; y++)
        for (int x = 0; x < SYNTH_VIEW; x++) {
            int v = level + (dx * x + dy * y) / SYNTH_VIEW + c->noise[y][x] % 9;
            for (int i = 0; i < 3; i++) c->at[y][x].v[i] = clip((v & ~3) + tint[i], 0, 255);
        }
}

static void canvas_enlarge(const canvas *c, image *out)
{
    size_t pitch = 3 * (size_t)SYNTH_SIDE;
    *out = (image){SYNTH_SIDE, SYNTH_SIDE, malloc(pitch * SYNTH_SIDE)};
    CHECK(out->rgb);
    for (int y = 0; y < SYNTH_VIEW; y++) {
        uint8_t *row = out->rgb + pitch * SYNTH_BLOCK * y, *p = row;
        for (int x = 0; x < SYNTH_VIEW; x++)
            for (int k = 0; k < SYNTH_BLOCK; k++, p += 3) memcpy(p, c->at[y][x].v, 3);
        for (int k = 1; k < SYNTH_BLOCK; k++) memcpy(row + pitch * k, row, pitch);
    }
}

static void draw_card(synth_scene *s, canvas *c, rng *r)
{
    colour base = vary(CARD[s->colour], 12, r);
    for (int y = 0; y < SYNTH_VIEW; y++)
        for (int x = 0; x < SYNTH_VIEW; x++) c->at[y][x] = (colour){{205, 205, 205}};
    canvas_card(c, 2, 2, SYNTH_VIEW - 4, base);
    canvas_enlarge(c, &s->picture);
    tile t;
    if (synth_counts(s->category))
        dots_tile(&t, s->category == SYNTH_CNT_HARD, s->value, base, r);
    else
        digit_tile(&t, s->value, s->turns, base, r);
    int corner = SYNTH_CELL + SYNTH_CENTRE - SYNTH_TILE / 2 * s->tile_scale, dx = 0, dy = 0;
    if (s->tile_scale == SYNTH_EASY_SCALE) dx = between(r, -16, 16), dy = between(r, -16, 16);
    tile_paste(&s->picture, &t, corner + dx, corner + dy, s->tile_scale);
}

/* One to four cards on the 3x3 lattice; the asked one is s->colour, value, turns; the others show upright digits. */
static void draw_cards(synth_scene *s, canvas *c, rng *r)
{
    int cell[9], n = between(r, 1, 4);
    for (int i = 0; i < 9; i++) cell[i] = i;
    tile t[4];
    canvas_background(c, r);
    for (int i = 0; i < n; i++) {
        int j = between(r, i, 8), at = cell[j];
        cell[j] = cell[i], cell[i] = at;
        int hue = i == 0 ? s->colour : between(r, 0, SYNTH_COLOURS - 1);
        colour base = vary(CARD[hue], 12, r);
        canvas_card(c, at % 3 * (SYNTH_CELL / SYNTH_BLOCK) + 2, at / 3 * (SYNTH_CELL / SYNTH_BLOCK) + 2, 24, base);
        digit_tile(&t[i], i == 0 ? s->value : between(r, 0, 9), i == 0 ? s->turns : 0, base, r);
    }
    s->cell_col = cell[0] % 3, s->cell_row = cell[0] / 3;
    canvas_enlarge(c, &s->picture);
    for (int i = 0; i < n; i++) {
        int half = SYNTH_TILE / 2 * s->tile_scale;
        tile_paste(&s->picture, &t[i], cell[i] % 3 * SYNTH_CELL + SYNTH_CENTRE - half,
                   cell[i] / 3 * SYNTH_CELL + SYNTH_CENTRE - half, s->tile_scale);
    }
}

void synth_draw(synth_scene *out, synth_category cat, int tile_scale, rng *r)
{
    bool easy = cat == SYNTH_RD_EASY || cat == SYNTH_CNT_EASY;
    memset(out, 0, sizeof *out);
    out->category = cat;
    out->tile_scale = tile_scale ? tile_scale : easy ? SYNTH_EASY_SCALE : cat == SYNTH_RD_MID ? 2 << between(r, 0, 3) : 1;
    CHECK(out->tile_scale >= 1 && out->tile_scale <= (synth_has_cards(cat) ? 8 : SYNTH_EASY_SCALE));
    out->colour = between(r, 0, SYNTH_COLOURS - 1);
    out->value = !synth_counts(cat) ? between(r, 0, 9) : between(r, 1, cat == SYNTH_CNT_EASY ? 4 : 9);
    out->turns = cat == SYNTH_ROT_HARD || cat == SYNTH_SCN_ROT ? between(r, 1, 3) : 0;
    out->cell_col = out->cell_row = 1;
    canvas *c = malloc(sizeof *c);
    CHECK(c);
    noise_bytes(r, &c->noise[0][0], sizeof c->noise);
    if (synth_has_cards(cat))
        draw_cards(out, c, r);
    else
        draw_card(out, c, r);
    free(c);
    if (synth_has_cards(cat))
        snprintf(out->question, sizeof out->question, "What digit is on the card at %d,%d?", out->cell_col,
                 out->cell_row);
    else
        snprintf(out->question, sizeof out->question, "%s",
                 synth_counts(cat) ? "How many dark dots are on the card?" : "What digit is on the card?");
}

void synth_scene_free(synth_scene *s)
{
    image_free(&s->picture);
    memset(s, 0, sizeof *s);
}

void synth_crop(image *out, const image *in, int x, int y, int h)
{
    CHECK(h > 0 && x >= h && y >= h && x + h <= in->w && y + h <= in->h);
    size_t row = 6 * (size_t)h;
    *out = (image){2 * h, 2 * h, malloc(row * 2 * (size_t)h)};
    CHECK(out->rgb);
    for (int i = 0; i < 2 * h; i++)
        memcpy(out->rgb + row * (size_t)i, in->rgb + 3 * ((size_t)(y - h + i) * in->w + (x - h)), row);
}

void synth_rotate(image *out, const image *in, int quarters)
{
    CHECK(in->w == in->h && quarters >= 0 && quarters < 4);
    int n = in->w;
    *out = (image){n, n, malloc(3 * (size_t)n * (size_t)n)};
    CHECK(out->rgb);
    for (int y = 0; y < n; y++)
        for (int x = 0; x < n; x++) {
            int sy = y, sx = x;
            for (int k = 0; k < quarters; k++) {
                int old = sy;
                sy = sx, sx = n - 1 - old;
            }
            memcpy(out->rgb + 3 * ((size_t)y * n + x), in->rgb + 3 * ((size_t)sy * n + sx), 3);
        }
}
