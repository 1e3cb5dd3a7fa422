#include "launch/show.h"

#include <string.h>

enum { LABEL = 10 };

typedef struct out {
    FILE *f;
    bool colour;
    const char *const *names;
} out;

/* Control characters could drive the terminal: they are written as \xNN. */
static void put_char(FILE *f, unsigned char c)
{
    if ((c < 0x20 && c != '\t') || c == 0x7f)
        fprintf(f, "\\x%02x", c);
    else
        fputc(c, f);
}

static void label(const out *o, const char *name)
{
    if (o->colour)
        fprintf(o->f, "\033[1m%-*s\033[0m", LABEL, name);
    else
        fprintf(o->f, "%-*s", LABEL, name);
}

/* The text without blank lines around it, indented behind the label. */
static void block(const out *o, const char *name, const char *s, size_t n)
{
    while (n && (s[0] == '\n' || s[0] == ' ')) s++, n--;
    while (n && (s[n - 1] == '\n' || s[n - 1] == ' ')) n--;
    label(o, name);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n')
            fprintf(o->f, "\n%-*s", LABEL, "");
        else
            put_char(o->f, (unsigned char)s[i]);
    }
    fputc('\n', o->f);
}

static void show_image(const out *o, const char *name, const traj *t, int i)
{
    const traj_image *im = &t->images[i];
    label(o, name);
    fprintf(o->f, "[picture %dx%d, seen as %dx%d", im->w, im->h, im->view.w, im->view.h);
    if (o->names && o->names[i]) fprintf(o->f, ", %s", o->names[i]);
    fputs("]\n", o->f);
}

static void show_prompt(const out *o, const traj *t)
{
    const sample *s = t->sample;
    for (int i = 0; i < s->n_message && s->messages[i].role != ROLE_ASSISTANT; i++) {
        const message *m = &s->messages[i];
        const char *name = role_name(m->role);
        for (int k = 0; k < m->n_part; k++) {
            if (m->parts[k].text)
                block(o, name, m->parts[k].text, strlen(m->parts[k].text));
            else if (m->parts[k].image < t->n_image)
                show_image(o, name, t, m->parts[k].image);
            name = "";
        }
    }
}

static void show_said(const out *o, const traj_turn *turn)
{
    const char *text = turn->text, *open = strstr(text, "<think>"), *close = open ? strstr(open, "</think>") : NULL;
    chat_turn said;
    chat_parse_turn(text, strlen(text), &said);
    if (!close || (said.code_at < 0 && said.answer_at < 0)) { /* not in form: as written */
        block(o, "wrote", text, strlen(text));
        return;
    }
    block(o, "thought", open + 7, (size_t)(close - open - 7));
    if (said.code_at >= 0) block(o, "code", text + said.code_at, (size_t)said.code_len);
    if (said.answer_at >= 0) block(o, "answer", text + said.answer_at, (size_t)said.answer_len);
}

static void show_turn(const out *o, const traj *t, const traj_turn *turn)
{
    show_said(o, turn);
    if (!turn->code) return;
    char verdict[96];
    snprintf(verdict, sizeof verdict, "%s in %.0f ms%s%s%s", turn->tool.verdict, (double)turn->tool.wall_ms,
             turn->tool.truncated ? ", output cut" : "", turn->tool.state_lost ? ", state lost" : "",
             turn->tool.replayed ? ", run again" : "");
    block(o, "ran", verdict, strlen(verdict));
    const char *said = turn->tool_text ? turn->tool_text : "";
    if (said[0]) block(o, "result", said, strlen(said));
    for (int i = 0; i < turn->n_image; i++) show_image(o, said[0] || i > 0 ? "" : "result", t, turn->image_from + i);
}

void show_traj(FILE *f, const traj *t, const char *const *image_names, bool colour)
{
    out o = {f, colour, image_names};
    int sampled = 0, calls = 0;
    if (t->index == 0) { /* the group shares its prompt */
        show_prompt(&o, t);
    } else {
        label(&o, "sample");
        fprintf(f, "%d\n", t->index + 1);
    }
    for (int i = 0; i < t->n_turn; i++) {
        show_turn(&o, t, &t->turns[i]);
        sampled += t->turns[i].end - t->turns[i].start;
        calls += t->turns[i].tool.ran;
    }
    label(&o, "end");
    fprintf(f, "%s: %d turn%s, %d call%s, %d tokens written, %d in all, %.2f s\n", traj_outcome_name(t->outcome),
            t->n_turn, t->n_turn == 1 ? "" : "s", calls, calls == 1 ? "" : "s", sampled, t->n_tok, t->wall_s);
}
