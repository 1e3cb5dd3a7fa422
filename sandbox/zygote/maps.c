#include "sandbox/zygote/maps.h"

#include <fcntl.h>
#include <unistd.h>

FILE *maps_open(int proc)
{
    int fd = openat(proc, "self/maps", O_RDONLY | O_CLOEXEC);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (fd >= 0 && !f) close(fd);
    return f;
}

bool maps_next(FILE *f, mapping *m)
{
    char line[4400];
    do {
        if (!f || !fgets(line, sizeof line, f)) return false;
        m->name[0] = 0;
    } while (sscanf(line, "%lx-%lx %7s %*s %*s %*s %4199s", &m->lo, &m->hi, m->flags, m->name) < 3);
    return true;
}
