#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[2048];
static _Thread_local char place[256];

status fail_at(status code, const char *file, int line, const char *fmt, ...)
{
    char text[sizeof message]; /* an argument may be fail_message() itself */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(message, text, sizeof message);
    snprintf(place, sizeof place, "%s:%d", file, line);
    return code;
}

status fail_within(status code, const char *fmt, ...)
{
    char context[512], text[sizeof message + sizeof context + 4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);
    snprintf(text, sizeof text, "%s: %s", context, message);
    memcpy(message, text, sizeof message - 1);
    return code;
}

status fail_advice(status code, status when, const char *fmt, ...)
{
    if (code != when) return code;
    char advice[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(advice, sizeof advice, fmt, ap);
    va_end(ap);
    size_t n = strlen(message);
    snprintf(message + n, sizeof message - n, "; %s", advice);
    return code;
}

const char *fail_message(void) { return message; }
const char *fail_place(void) { return place; }

const char *status_name(status s)
{
    switch (s) {
    case ST_OK: return "ok";
    case ST_EINVAL: return "invalid input";
    case ST_ENOMEM: return "out of memory";
    case ST_EIO: return "i/o error";
    case ST_ESYS: return "system error";
    case ST_EDEVICE: return "device error";
    case ST_ECOMM: return "communication error";
    case ST_EAGAIN: return "try again";
    case ST_EUNAVAIL: return "not available";
    case ST_ECORRUPT: return "corrupt file";
    }
    return "unknown status";
}

void check_failed(const char *expr, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expr);
    abort();
}
