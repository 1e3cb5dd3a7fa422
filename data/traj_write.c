/* A trajectory as one JSON object (traj_read.c reads it back):
 *   {"prompt", "index", "sample": the conversation row, "ids", "mask", "logprobs": [null where not sampled],
 *    "images": [{"start", "grid", "w", "h", "file"}],
 *    "turns": [{"start", "end", "text", "code", "tool": {...}, "tool_text", "image_from", "n_image"}],
 *    "outcome", "given_answer", "acc", "format_ok", "reward", "parts": [{"name", "value"}], "adv_seq", "adv", "masked",
 *    "wall_s", "tool_wait_s", "box_seed": 16 hexadecimal digits, absent if no code ran} */
#include "data/traj.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Floats are written with as many digits as name the float, so reading back gives the same bits. */
static void put_float(json_out *o, float v)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)v);
    json_put_num(o, isfinite(v) ? strtod(text, NULL) : (double)v);
}

static void member_float(json_out *o, const char *key, float v)
{
    json_key(o, key);
    put_float(o, v);
}

static void put_tool(json_out *o, const tool_record *r)
{
    json_open(o, '{');
    json_member_bool(o, "ran", r->ran);
    json_member_bool(o, "ok", r->ok);
    json_member_str(o, "verdict", r->verdict);
    json_member_str(o, "error_type", r->error_type);
    json_member_int(o, "error_line", r->error_line);
    json_member_bool(o, "truncated", r->truncated);
    json_member_bool(o, "state_lost", r->state_lost);
    json_member_bool(o, "replayed", r->replayed);
    json_member_bool(o, "empty_output", r->empty_output);
    member_float(o, "wall_ms", r->wall_ms);
    member_float(o, "cpu_ms", r->cpu_ms);
    member_float(o, "queue_ms", r->queue_ms);
    member_float(o, "peak_mib", r->peak_mib);
    json_member_str(o, "tier", r->tier);
    json_close(o, '}');
}

static void put_turn(json_out *o, const traj_turn *u)
{
    json_open(o, '{');
    json_member_int(o, "start", u->start);
    json_member_int(o, "end", u->end);
    json_member_str(o, "text", u->text);
    if (u->code) {
        json_member_str(o, "code", u->code);
        json_key(o, "tool");
        put_tool(o, &u->tool);
        json_member_str(o, "tool_text", u->tool_text);
        json_member_int(o, "image_from", u->image_from);
        json_member_int(o, "n_image", u->n_image);
    }
    json_close(o, '}');
}

static void put_tokens(json_out *o, const traj *t)
{
    json_key(o, "ids");
    json_open(o, '[');
    for (int i = 0; i < t->n_tok; i++) json_put_int(o, t->id[i]);
    json_close(o, ']');
    json_key(o, "mask");
    json_open(o, '[');
    for (int i = 0; i < t->n_tok; i++) json_put_int(o, t->mask[i]);
    json_close(o, ']');
    json_key(o, "logprobs");
    json_open(o, '[');
    for (int i = 0; i < t->n_tok; i++) {
        if (t->mask[i] && t->logp)
            put_float(o, t->logp[i]);
        else
            json_put_null(o);
    }
    json_close(o, ']');
}

static void put_images(json_out *o, const traj *t, const char *const *names)
{
    json_key(o, "images");
    json_open(o, '[');
    for (int i = 0; i < t->n_image; i++) {
        json_open(o, '{');
        json_member_int(o, "start", t->run[i].start);
        json_key(o, "grid");
        json_open(o, '[');
        for (int k = 0; k < 3; k++) json_put_int(o, t->images[i].grid[k]);
        json_close(o, ']');
        json_member_int(o, "w", t->images[i].w);
        json_member_int(o, "h", t->images[i].h);
        if (names && names[i]) json_member_str(o, "file", names[i]);
        json_close(o, '}');
    }
    json_close(o, ']');
}

static void put_score(json_out *o, const traj *t)
{
    member_float(o, "acc", t->acc);
    json_member_bool(o, "format_ok", t->format_ok);
    member_float(o, "reward", t->reward);
    json_key(o, "parts");
    json_open(o, '[');
    for (int i = 0; i < t->n_part; i++) {
        json_open(o, '{');
        json_member_str(o, "name", t->parts[i].name);
        member_float(o, "value", t->parts[i].value);
        json_close(o, '}');
    }
    json_close(o, ']');
    member_float(o, "adv_seq", t->adv_seq);
    if (t->adv) {
        json_key(o, "adv");
        json_open(o, '[');
        for (int i = 0; i < t->n_tok; i++) put_float(o, t->adv[i]);
        json_close(o, ']');
    }
    json_member_bool(o, "masked", t->masked);
}

void traj_to_json(const traj *t, const char *const *image_names, json_out *o)
{
    json_open(o, '{');
    json_member_int(o, "prompt", t->prompt);
    json_member_int(o, "index", t->index);
    if (t->sample) {
        json_key(o, "sample");
        sample_to_json(t->sample, o);
    }
    put_tokens(o, t);
    put_images(o, t, image_names);
    json_key(o, "turns");
    json_open(o, '[');
    for (int i = 0; i < t->n_turn; i++) put_turn(o, &t->turns[i]);
    json_close(o, ']');
    json_member_str(o, "outcome", traj_outcome_name(t->outcome));
    json_member_str(o, "given_answer", t->answer);
    put_score(o, t);
    json_member_num(o, "wall_s", t->wall_s);
    json_member_num(o, "tool_wait_s", t->tool_wait_s);
    if (t->box_seed) {
        char seed[24];
        snprintf(seed, sizeof seed, "%016llx", (unsigned long long)t->box_seed);
        json_member_str(o, "box_seed", seed);
    }
    json_close(o, '}');
}
