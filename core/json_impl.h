/* The tree behind core/json.h, shared by the parser (json_parse.c) and the accessors (json.c). */
#ifndef CORE_JSON_IMPL_H
#define CORE_JSON_IMPL_H

#include "core/json.h"

typedef struct doc doc;
typedef struct members members;

struct json {
    uint8_t type;
    bool yes, is_int;
    uint32_t line, col, len;
    union {
        double num;
        const char *str;
        json *items; /* (len) array elements or member values */
    } v;
    union {
        int64_t i;
        members *m;
    } x;
    doc *d;
};

struct members {
    const char **key; /* (len) */
    uint32_t *index;  /* (mask+1) member number + 1, 0 = free; NULL for small objects */
    uint32_t mask;
};

typedef struct chunk {
    struct chunk *next;
} chunk;

struct doc {
    json root; /* first: json_free gets its address */
    char *what;
    chunk *chunks;
    char *at, *end; /* free part of the newest chunk */
    size_t next_size;
};

/* "config.json:3:17" or, for a text that is itself line 12 of something, "a.jsonl:12:34". */
void json_place_name(char *out, size_t n, const char *what, uint32_t line, uint32_t col);
uint32_t json_hash_key(const char *key);

#endif
