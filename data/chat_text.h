/* A turn being rendered. Plain text is gathered and encoded in one go between control ids, because the pre-tokenizer
 * looks across "user\n" and the text that follows, as it does when a template is rendered to text first. Private to the
 * chat renderer. */
#ifndef DATA_CHAT_TEXT_H
#define DATA_CHAT_TEXT_H

#include "data/chat.h"

#define CHAT_TOOL_OPEN "<tool_response>"
#define CHAT_TOOL_CLOSE "</tool_response>"

typedef struct chat_text {
    const chat *c;
    chat_seq *s;
    char *text;
    size_t n, cap;
} chat_text;

void chat_text_push(chat_seq *s, int32_t id, uint8_t mask);
void chat_text_add(chat_text *r, const char *text, size_t n);
void chat_text_string(chat_text *r, const char *text);
/* Encodes the gathered text. special: added tokens in it are parsed. */
status chat_text_flush(chat_text *r, bool special, uint8_t mask);
/* The gathered text as plain text with mask 0, then one id. */
status chat_text_id(chat_text *r, int32_t id, uint8_t mask);
/* The template's own words: added tokens in them are ids, the rest joins what is gathered. */
status chat_text_template(chat_text *r, const char *text);
status chat_text_image(chat_text *r, const int32_t grid[3]);
/* Text from outside between the tool tags. Where the tags are ordinary text, a closing one in it is broken up. */
void chat_text_tool(chat_text *r, const char *text);
/* <|im_start|>name\n, the last two still gathered; <|im_end|> with its mask, then \n. */
status chat_text_open(chat_text *r, const char *name);
status chat_text_close(chat_text *r, uint8_t mask);

#endif
