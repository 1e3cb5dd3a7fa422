#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"

/* The terminal is one per process, so its state is too. */
static struct {
    log_level level;
    int rank, size;
    FILE *file;
    bool bar; /* a progress bar stands on the last line */
} out = {.level = LOG_INFO, .rank = 0, .size = 1};

void log_setup(log_level level, int rank, int size)
{
    out.level = level;
    out.rank = rank;
    out.size = size;
}

status log_open_file(const char *path)
{
    FILE *f = fopen(path, "ae");
    if (!f) return FAIL(ST_EIO, "%s: %s", path, strerror(errno));
    setvbuf(f, NULL, _IOLBF, 0);
    if (out.file) fclose(out.file);
    out.file = f;
    return ST_OK;
}

static void clear_bar(void)
{
    if (out.bar) fputs("\r\033[K", stderr);
    out.bar = false;
}

static const char *level_name(log_level level)
{
    switch (level) {
    case LOG_DEBUG: return "debug";
    case LOG_INFO: return "info";
    case LOG_WARN: return "warning";
    case LOG_ERROR: return "error";
    }
    return "?";
}

void log_at(log_level level, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (out.file && level >= LOG_INFO) {
        char stamp[32];
        time_t now = time(NULL);
        struct tm tm;
        strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &tm));
        fprintf(out.file, "%s %-7s %s\n", stamp, level_name(level), text);
    }
    if (level < out.level || (level == LOG_INFO && out.rank > 0)) return;
    clear_bar();
    if (out.size > 1) fprintf(stderr, "[%d] ", out.rank);
    if (level == LOG_INFO)
        fprintf(stderr, "%s\n", text);
    else
        fprintf(stderr, "%s: %s\n", level_name(level), text);
}

struct progress {
    char what[64], note[160];
    int64_t total, done;
    double start, drawn;
    bool terminal, shown;
};

enum { BAR_CELLS = 24 };

static void format_seconds(char *text, size_t n, double s)
{
    if (s < 60)
        snprintf(text, n, "%.0fs", s);
    else if (s < 3600)
        snprintf(text, n, "%dm%02ds", (int)s / 60, (int)s % 60);
    else
        snprintf(text, n, "%dh%02dm", (int)s / 3600, (int)s % 3600 / 60);
}

progress *progress_start(const char *what, int64_t total)
{
    progress *p = calloc(1, sizeof *p);
    if (!p || out.rank > 0 || out.level > LOG_INFO) {
        free(p);
        return NULL;
    }
    snprintf(p->what, sizeof p->what, "%s", what);
    p->total = total > 0 ? total : 1;
    p->start = p->drawn = clock_now();
    p->terminal = isatty(STDERR_FILENO) == 1;
    return p;
}

static void draw(progress *p, double now)
{
    double spent = now - p->start, share = (double)p->done / (double)p->total;
    char eta[32] = "?", took[32];
    if (p->done > 0) format_seconds(eta, sizeof eta, spent * (1 - share) / share);
    format_seconds(took, sizeof took, spent);
    char line[512];
    if (p->terminal) {
        char bar[BAR_CELLS * 3 + 1];
        size_t at = 0;
        for (int i = 0; i < BAR_CELLS; i++)
            at += (size_t)snprintf(bar + at, sizeof bar - at, "%s", i < (int)(share * BAR_CELLS + 0.5) ? "█" : "░");
        snprintf(line, sizeof line, "%-10s %s %3.0f%% %lld/%lld  eta %s  %s", p->what, bar, 100 * share,
                 (long long)p->done, (long long)p->total, eta, p->note);
        struct winsize w;
        size_t cols = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 40 ? w.ws_col : 80;
        size_t shown = 0, i = 0; /* cut by characters, not bytes */
        while (line[i] && shown < cols - 1) {
            i++;
            while (((unsigned char)line[i] & 0xC0) == 0x80) i++;
            shown++;
        }
        line[i] = 0;
        fprintf(stderr, "\r\033[K%s", line);
        fflush(stderr);
        out.bar = true;
    } else {
        fprintf(stderr, "%s: %lld/%lld (%.0f%%) after %s, eta %s  %s\n", p->what, (long long)p->done,
                (long long)p->total, 100 * share, took, eta, p->note);
    }
    p->shown = true;
    p->drawn = now;
}

void progress_set(progress *p, int64_t done, const char *note)
{
    if (!p) return;
    p->done = done;
    if (note) snprintf(p->note, sizeof p->note, "%s", note);
    double now = clock_now();
    if (now - p->start < 2) return;
    if (now - p->drawn < (p->terminal ? 0.1 : 10.0)) return;
    draw(p, now);
}

void progress_end(progress *p)
{
    if (!p) return;
    if (p->terminal) clear_bar();
    free(p);
}
