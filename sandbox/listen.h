/* One daemon per node for processes that may not make namespaces themselves: `codedance boxd --listen`. */
#ifndef SANDBOX_LISTEN_H
#define SANDBOX_LISTEN_H

#include "sandbox/wire.h"

enum { LISTEN_CLIENTS = 64 };

/* Serves until *stop; see box_listen. */
status listen_run(const char *path, const char *group, int max_clients, const wire_pool *ceiling, const char *python,
                  const volatile int *stop);

#endif
