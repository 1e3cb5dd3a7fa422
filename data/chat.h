/* The one renderer and the one parser of conversations: SFT data, rollouts, evaluation and export share them.
 *
 * ChatML: <|im_start|>role\n ... <|im_end|>\n; what families do differently is a row of data/chat_style.h. The model
 * writes <think>...</think> then either  <code>\n```python\n...\n```\n</code>   or   <answer>...</answer> and tool
 * output comes back in a user turn as <tool_response>...</tool_response> (text and images). Texts equal what Jinja
 * renders from the checkpoint's template. Ids equal the tokenizer's of that text but for two intended differences:
 * added tokens spelt out by users and tools stay text, and an assistant's text is encoded apart from the header before
 * it, as a policy writes it (so one that begins with a line end does not merge with the header's). The loss mask is 1
 * on what the policy wrote, its <|im_end|> included, by construction and not by searching text. */
#ifndef DATA_CHAT_H
#define DATA_CHAT_H

#include "core/mrope.h"
#include "data/chat_style.h"
#include "data/image.h"
#include "data/sample.h"
#include "data/tokenizer.h"

/* Rendered tokens that grow turn by turn; plain data, owned by the holder. */
typedef struct chat_seq {
    ids id;
    uint8_t *mask;      /* (id.n) 1 = loss */
    mrope_image *image; /* runs of image tokens, in order */
    int n_image, mask_cap, image_cap;
} chat_seq;
void chat_seq_free(chat_seq *s);

typedef struct chat {
    const tokenizer *tok;                                                 /* borrowed */
    int im_start, im_end, vision_start, vision_end, image_pad, endoftext; /* ids; -1 when the vocabulary lacks them */
    int merge;
    const char
        *default_system; /* said when the first message isn't a system one; NULL: the style's, "": none; borrowed */
    int tool_open, tool_close;      /* ids of the tool_response tags, -1: ordinary text in this vocabulary */
    int forbidden[16], n_forbidden; /* added tokens a policy never writes, see chat_ban */
    const chat_style *style;        /* chat_init sets the first row; may be changed before the first turn */
    bool no_think;                  /* enable_thinking=false: a hybrid model's prompt closes an empty thought */
    bool vision_ids;                /* add_vision_id=true: "Picture 1: " before each image, counted over the sequence */
} chat;
/* Looks the ids up. ST_EINVAL if im_start or im_end is missing; images need the vision ids as well. */
status chat_init(chat *c, const tokenizer *tok, int merge, const char *default_system);

/* Appends n messages, with the tools block (tools: checked list of a sample, NULL: none) and the system message that
 * come first in an empty s. grids: (t, h, w in patches) of ALL images of the sample, indexed by part.image. Text of
 * user and tool messages is encoded as plain text (special look-alikes neutralised); assistant text is parsed for added
 * tokens, so that SFT targets are the ids the policy would sample, and refused if it holds one that chat_ban forbids.
 * What the template depends on (the last question, tool messages in a row) is looked for within these n messages. On
 * failure s is as before. */
status chat_append_messages(const chat *c, chat_seq *s, const message *m, int n, const json *tools,
                            const int32_t (*grids)[3]);
/* One message, as above. */
status chat_append_message(const chat *c, chat_seq *s, const message *m, const int32_t (*grids)[3]);
/* <|im_start|>assistant\n and what the style opens for the model, mask 0. */
status chat_append_generation_prompt(const chat *c, chat_seq *s);
/* Ids the policy sampled, mask 1, kept as they are; if they don't end in im_end (cut), im_end is added with mask 0;
 * then "\n" with mask 0. */
status chat_append_sampled(const chat *c, chat_seq *s, const int32_t *id, int n);
/* A tool result as a turn of its own, in the way of the style: text (plain) then the images. n images with their grids.
 */
status chat_append_tool(const chat *c, chat_seq *s, const char *text, const int32_t (*grids)[3], int n_image);
/* Ids that sampling must never produce: ban[vocab] u8, 1 = banned (im_start, vision and image pads, tool_response tags,
 * endoftext, rows without a string). im_end ends a turn and is allowed. */
void chat_ban(const chat *c, int vocab, uint8_t *ban);

/* What one assistant turn says. Offsets into text; -1 when absent. Tags inside a complete <think> or <code> block are
 * its text and count for nothing. */
typedef struct chat_turn {
    int think_n;               /* number of complete <think>...</think>, -1 if tags don't pair */
    int code_at, code_len;     /* the first python fence inside <code>...</code>, without the fence lines */
    int answer_at, answer_len; /* the first answer, without white space around it */
    int n_code, n_answer;      /* complete blocks of each */
    bool code_open;            /* <code> without a complete block */
} chat_turn;
void chat_parse_turn(const char *text, size_t n, chat_turn *out);

#endif
