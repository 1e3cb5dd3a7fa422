#include "data/synth_part.h"

#include "data/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_text_message(json_out *o, const char *role, const char *text)
{
    json_open(o, '{');
    json_member_str(o, "role", role);
    json_member_str(o, "content", text);
    json_close(o, '}');
}

/* A message of one picture and, unless NULL, a text. */
static void put_picture_message(json_out *o, const char *role, const synth_picture *p, const char *text)
{
    char path[48];
    snprintf(path, sizeof path, "img/%s", p->name);
    json_open(o, '{');
    json_member_str(o, "role", role);
    json_key(o, "content");
    json_open(o, '[');
    json_open(o, '{');
    json_member_str(o, "type", "image");
    json_member_str(o, "path", path);
    json_close(o, '}');
    if (text) {
        json_open(o, '{');
        json_member_str(o, "type", "text");
        json_member_str(o, "text", text);
        json_close(o, '}');
    }
    json_close(o, ']');
    json_close(o, '}');
}

/* Encodes im as the row's next picture, named by its content so that splits and rows share files. */
static status add_picture(synth_row *row, const image *im, synth_picture **out)
{
    CHECK(row->n_picture < SYNTH_ROW_PICTURES);
    synth_picture *p = &row->picture[row->n_picture];
    TRY(image_encode_png(im, 1, &p->bytes, &p->n));
    snprintf(p->name, sizeof p->name, "%016llx.png", (unsigned long long)hash_bytes(p->bytes, p->n, 0));
    row->n_picture++;
    *out = p;
    return ST_OK;
}

/* The three ways a first try goes wrong, with what the sandbox then says. */
enum { BUG_NAME, BUG_METHOD, BUG_PARENTHESIS, NO_BUG };
static const char *const BUG_RESULT[] = {"Error: NameError", "Error: AttributeError", "Error: SyntaxError"};

typedef enum step { STEP_ZOOM, STEP_ROTATE, STEP_COUNT } step;

static void step_code(char *out, size_t cap, const synth_scene *s, step kind, int bug)
{
    const char *name = bug == BUG_NAME ? "pic" : "img", *close = bug == BUG_PARENTHESIS ? "" : ")";
    switch (kind) {
    case STEP_ZOOM:
        snprintf(out, cap, "c,r,h=%d,%d,%d\nx,y=c*W+H,r*W+H\nimg=%s.%s((x-h,y-h,x+h,y+h))\nshow(img%s\n", s->cell_col,
                 s->cell_row, SYNTH_TILE / 2 * s->tile_scale, name, bug == BUG_METHOD ? "cut" : "crop", close);
        break;
    case STEP_ROTATE: /* counter-clockwise; the bar stands s->turns quarters counter-clockwise of up */
        snprintf(out, cap, "img=%s.%s(%d)\nshow(img%s\n", name, bug == BUG_METHOD ? "turn" : "rotate",
                 (4 - s->turns) % 4 * 90, close);
        break;
    case STEP_COUNT:
        snprintf(out, cap, "a=np.array(%s.%s('L'))<64\nprint((a[1:,1:]&~a[1:,:-1]&~a[:-1,1:]).sum()%s\n", name,
                 bug == BUG_METHOD ? "grey" : "convert", close);
        break;
    }
}

static void put_code_turn(json_out *o, const synth_scene *s, step kind, int bug, const char *think)
{
    char code[256], text[384];
    step_code(code, sizeof code, s, kind, bug);
    snprintf(text, sizeof text, "<think>%s</think><code>\n```python\n%s```\n</code>", think, code);
    put_text_message(o, "assistant", text);
}

/* A code turn; one in four starts with a buggy version, its error and the repair. */
static void put_step(json_out *o, const synth_scene *s, step kind, rng *r)
{
    static const char *const THINK[] = {"Zoom in.", "Rotate.", "Count."};
    const char *think = THINK[kind];
    if (rng_next_below(r, 4) == 0) {
        int bug = (int)rng_next_below(r, NO_BUG);
        put_code_turn(o, s, kind, bug, think);
        put_text_message(o, "tool", BUG_RESULT[bug]);
        think = "Fix it.";
    }
    put_code_turn(o, s, kind, NO_BUG, think);
}

static void put_answer(json_out *o, const char *think, const char *answer)
{
    char text[128];
    snprintf(text, sizeof text, "<think>%s</think><answer>%s</answer>", think, answer);
    put_text_message(o, "assistant", text);
}

static status put_tool_turns(synth_row *row, const synth_scene *s, const char *answer, rng *r)
{
    json_out *o = &row->line;
    synth_picture *p;
    if (synth_counts(s->category)) {
        put_step(o, s, STEP_COUNT, r);
        put_text_message(o, "tool", answer); /* what the code prints: the dots it counts are the dots drawn */
        put_answer(o, "I see.", answer);
        return ST_OK;
    }
    image tile = {0}, upright = {0};
    synth_crop(&tile, &s->picture, s->cell_col * SYNTH_CELL + SYNTH_CENTRE, s->cell_row * SYNTH_CELL + SYNTH_CENTRE,
               SYNTH_TILE / 2 * s->tile_scale);
    put_step(o, s, STEP_ZOOM, r);
    status st = add_picture(row, &tile, &p);
    if (st == ST_OK) put_picture_message(o, "tool", p, NULL);
    if (st == ST_OK && s->turns) {
        put_step(o, s, STEP_ROTATE, r);
        synth_rotate(&upright, &tile, 4 - s->turns);
        st = add_picture(row, &upright, &p);
        if (st == ST_OK) put_picture_message(o, "tool", p, NULL);
    }
    if (st == ST_OK) put_answer(o, "I see.", answer);
    image_free(&tile);
    image_free(&upright);
    return st;
}

/* What can be read in the row's own picture without code: the digit when it spans at least five pixels of the view (the
 * tile enlarged 8 times), the count and the turn when the tile fills the picture, else only the colour and the size. */
typedef struct seen {
    const char *size, *kind, *turn;
    char value[4];
} seen;

static seen see(const synth_scene *s, bool zoomed)
{
    bool large = zoomed || s->tile_scale == SYNTH_EASY_SCALE, dots = synth_counts(s->category);
    seen v = {.kind = dots ? "dots" : "digit", .value = "?"};
    v.size = large ? "large" : s->tile_scale >= SYNTH_READABLE_SCALE ? "medium" : s->tile_scale > 1 ? "small" : "tiny";
    if (large || (!dots && s->tile_scale >= SYNTH_READABLE_SCALE)) snprintf(v.value, sizeof v.value, "%d", s->value);
    if (large && !dots) v.turn = synth_turn_names[s->turns];
    return v;
}

static void put_facts(json_out *o, const synth_scene *s, const synth_ask *ask, const char *form)
{
    seen v = see(s, ask->zoomed);
    json_member_str(o, "x_colour", synth_colour_names[s->colour]);
    json_member_int(o, "x_value", s->value);
    json_member_str(o, "x_size", v.size);
    json_member_str(o, "x_turn", synth_turn_names[s->turns]);
    json_member_str(o, "x_kind", v.kind);
    json_member_str(o, "x_form", form);
    json_member_int(o, "x_tile_scale", s->tile_scale);
    if (ask->kind != SYNTH_LABELS) return;
    json_key(o, "x_labels");
    json_open(o, '{');
    json_member_str(o, "colour", synth_colour_names[s->colour]);
    json_member_str(o, "size", v.size);
    if (v.value[0] != '?') json_member_str(o, "value", v.value);
    if (v.turn) json_member_str(o, "turn", v.turn);
    json_close(o, '}');
}

status synth_row_write(synth_row *row, const synth_scene *s, const synth_ask *ask, rng *r)
{
    memset(row, 0, sizeof *row);
    json_out *o = &row->line;
    json_begin(o, false);
    synth_picture *p;
    image tile = {0};
    if (ask->zoomed)
        synth_crop(&tile, &s->picture, s->cell_col * SYNTH_CELL + SYNTH_CENTRE, s->cell_row * SYNTH_CELL + SYNTH_CENTRE,
                   SYNTH_TILE / 2 * s->tile_scale);
    status st = add_picture(row, ask->zoomed ? &tile : &s->picture, &p);
    image_free(&tile);
    if (st != ST_OK) goto out;

    const char *form = ask->kind == SYNTH_LABELS ? "label" : ask->kind == SYNTH_PROMPTS ? "prompt" : "direct";
    char answer[64];
    snprintf(answer, sizeof answer, "%d", s->value);
    json_open(o, '{');
    json_member_str(o, "id", ask->id);
    json_key(o, "messages");
    json_open(o, '[');
    if (ask->kind == SYNTH_LABELS) {
        put_picture_message(o, "user", p, NULL);
    } else if (ask->describe) {
        seen v = see(s, ask->zoomed);
        form = "describe";
        snprintf(answer, sizeof answer, " %s %s %s %s%s%s", synth_colour_names[s->colour], v.size, v.kind, v.value,
                 v.turn ? " " : "", v.turn ? v.turn : "");
        put_picture_message(o, "user", p, "Describe.");
        put_answer(o, "I can see it.", answer);
    } else {
        put_picture_message(o, "user", p, s->question);
        bool tool = ask->kind == SYNTH_SFT && rng_next_below(r, 2);
        if (tool) {
            form = "tool";
            st = put_tool_turns(row, s, answer, r);
            if (st != ST_OK) goto out;
        } else if (ask->kind != SYNTH_PROMPTS) {
            put_answer(o, "I can see it.", answer);
        }
    }
    json_close(o, ']');
    if (ask->kind != SYNTH_LABELS) {
        json_member_str(o, "answer", answer + (answer[0] == ' '));
        json_member_str(o, "verifier", "exact");
    }
    json_member_str(o, "category", ask->describe ? "describe" : synth_category_name(s->category));
    put_facts(o, s, ask, form);
    json_close(o, '}');
out:
    if (st != ST_OK) synth_row_free(row);
    return st;
}

void synth_row_free(synth_row *row)
{
    json_end(&row->line);
    for (int i = 0; i < row->n_picture; i++) free(row->picture[i].bytes);
    memset(row, 0, sizeof *row);
}
