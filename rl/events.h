/* TensorBoard's event file: TFRecord framing (length, masked CRC-32C, payload, masked CRC-32C) around hand-written
 * protocol buffers Event{wall_time=1, step=2, file_version=3, summary=5} and Summary.Value{tag=1, simple_value=2}. */
#ifndef RL_EVENTS_H
#define RL_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct events events;
/* Creates dir/events.out.tfevents.SECONDS.codedance (dir is made when missing). */
status events_open(events **out, const char *dir);
void events_scalar(events *e, const char *tag, int64_t step, double value);
status events_flush(events *e);
void events_close(events *e); /* NULL is legal */

uint32_t crc32c(const void *p, size_t n); /* Castagnoli */

#endif
