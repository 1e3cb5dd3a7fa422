/* Log lines and the progress bar. One format, rank prefix under mpirun, stderr + run log file; stdout is for results.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

typedef enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } log_level;

/* rank < 0 or size 1: no prefix. Only rank 0 prints INFO to the terminal; WARN and above print on every rank. */
void log_setup(log_level level, int rank, int size);
/* Also append every line (with a time stamp) to this file. ST_EIO. */
status log_open_file(const char *path);
void log_at(log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)

/* A progress bar with ETA on a terminal (redrawn at most 10 times a second, cleared when done); elsewhere one plain
 * line at most every 10 seconds. Nothing is shown for work under two seconds. Log lines and the bar don't overwrite
 * each other. Any of these may be called on a rank that doesn't print. */
typedef struct progress progress;
progress *progress_start(const char *what, int64_t total);
/* note: short text shown behind the bar ("loss 0.31  acc 0.92"), may be NULL. */
void progress_set(progress *p, int64_t done, const char *note);
void progress_end(progress *p); /* frees; NULL is legal */

#endif
