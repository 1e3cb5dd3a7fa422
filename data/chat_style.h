/* How the chat templates of the supported families differ, as data: a row each (qwen_vl_spec section 7). A checkpoint's
 * Jinja template is recognised, never interpreted. */
#ifndef DATA_CHAT_STYLE_H
#define DATA_CHAT_STYLE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

typedef enum chat_tool {
    CHAT_TOOL_TIGHT, /* a user turn of its own, nothing between the <tool_response> tags and the text */
    CHAT_TOOL_ROLE,  /* the role's name, as any other message */
    CHAT_TOOL_LINES  /* messages in a row share a user turn; tags on lines of their own */
} chat_tool;

typedef enum chat_think {
    CHAT_THINK_NONE,
    CHAT_THINK_HYBRID, /* reasoning of turns before the last question is left out; it can be switched off */
    CHAT_THINK_ALWAYS  /* the same, and the generation prompt opens it */
} chat_think;

typedef struct chat_style {
    const char *name;
    const char *default_system; /* said when a conversation has no system message; NULL: nothing */
    bool images;
    bool tools;       /* has a tools block and tool calls */
    bool raw_string;  /* arguments that are a string are printed as they are, not as JSON */
    bool late_system; /* a system message may come later than first */
    chat_tool tool;
    chat_think think;
} chat_style;

extern const chat_style chat_styles[];       /* ends with name NULL; the first is codedance's own */
extern const char *const chat_style_names[]; /* "auto", then the rows' names, NULL: choices of model.chat_style */

const chat_style *chat_style_find(const char *name); /* NULL if there is none */
/* The style of a template's text, by its hash (white space at the end doesn't count); NULL if it isn't known. */
const chat_style *chat_style_of_template(const char *text, size_t n);
/* The style of a Hugging Face directory, from the file transformers would take: chat_template.jinja,
 * chat_template.json, tokenizer_config.json. ST_EINVAL: a template that isn't known; the message says what to set. A
 * directory without a template gets the first row. */
status chat_style_of_dir(const chat_style **out, const char *dir);

#endif
