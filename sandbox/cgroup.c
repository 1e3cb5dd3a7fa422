#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS_MAX = 4096 };

static int write_file(const char *dir, const char *file, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

static int write_number(const char *dir, const char *file, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    return write_file(dir, file, text);
}

/* The number after `key ` in a file of lines, or the whole file's number if key is NULL; -1 if absent. Turns wait for
 * it: no stream. */
static int64_t read_number(const char *dir, const char *file, const char *key)
{
    char path[300], text[1024];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t len = read(fd, text, sizeof text - 1);
    close(fd);
    if (len <= 0) return -1;
    text[len] = 0;
    if (!key) return strtoll(text, NULL, 10);
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, n) && line[n] == ' ') return strtoll(line + n, NULL, 10);
    }
    return -1;
}

/* ---- finding our own group ---- */

/* Where the hierarchy with this controller ("" = v2) is mounted, and which of its groups is the mount's root. */
static bool find_mount(const char *controller, char *point, size_t n_point, char *root, size_t n_root)
{
    char line[1024], r[256], p[256], type[32], opts[256];
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f) return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*d %*d %*s %255s %255s", r, p) != 2) continue;
        if (sscanf(dash + 3, "%31s %*s %255s", type, opts) != 2) continue;
        if (!*controller) {
            found = !strcmp(type, "cgroup2");
        } else if (!strcmp(type, "cgroup")) {
            for (char *save, *o = strtok_r(opts, ",", &save); o; o = strtok_r(NULL, ",", &save))
                found |= !strcmp(o, controller);
        }
    }
    fclose(f);
    if (found) {
        snprintf(point, n_point, "%s", p);
        snprintf(root, n_root, "%s", r);
    }
    return found;
}

/* Path of our group below the mount: /proc/self/cgroup has "4:memory:/a/b", and "0::/a" for v2. */
static bool find_own(const char *controller, char *path, size_t n)
{
    char line[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return false;
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        names++;
        if (!*controller) {
            found = !*names;
        } else {
            for (char *save, *o = strtok_r(names, ",", &save); o; o = strtok_r(NULL, ",", &save))
                found |= !strcmp(o, controller);
        }
        if (found) snprintf(path, n, "%s", group);
    }
    fclose(f);
    return found;
}

static bool own_dir(const char *controller, char *out, size_t n)
{
    char point[256], root[256], own[256];
    if (!find_mount(controller, point, sizeof point, root, sizeof root) || !find_own(controller, own, sizeof own))
        return false;
    const char *below = own;
    size_t k = strlen(root);
    if (k > 1 && !strncmp(own, root, k)) below = own + k;
    if ((size_t)snprintf(out, n, "%s%s", point, strcmp(below, "/") ? below : "") >= n) return false;
    return access(out, F_OK) == 0;
}

/* ---- removal ---- */

static void kill_members(const char *dir)
{
    char path[600];
    int pid;
    snprintf(path, sizeof path, "%s/cgroup.procs", dir);
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%d", &pid) == 1)
        if (pid > 1) kill(pid, SIGKILL);
    if (f) fclose(f);
}

static bool remove_tree(const char *dir, bool kill_all)
{
    DIR *d = opendir(dir);
    if (d) {
        for (struct dirent *e; (e = readdir(d));) {
            char sub[512];
            if (strncmp(e->d_name, "slot", 4) != 0) continue;
            snprintf(sub, sizeof sub, "%s/%s", dir, e->d_name);
            if (rmdir(sub) && errno == EBUSY && kill_all) kill_members(sub);
        }
        closedir(d);
    }
    return rmdir(dir) == 0 || errno == ENOENT;
}

bool cgroup_remove(const cgroup_set *s, bool kill_all)
{
    bool gone = true;
    for (int i = 0; i < s->n_dir; i++) gone &= remove_tree(s->dir[i], kill_all);
    return gone;
}

static bool lives(int pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return errno != ESRCH;
    struct pollfd p = {fd, POLLIN, 0};
    bool ended = poll(&p, 1, 0) == 1; /* nobody may have waited for it yet */
    close(fd);
    return !ended;
}

/* Groups box.<pid> whose supervisor is no more: it kept a lock on them, which tells across pid namespaces, too. */
static void sweep(const char *parent)
{
    DIR *d = opendir(parent);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        int pid, end = 0;
        if (sscanf(e->d_name, "box.%d%n", &pid, &end) != 1 || e->d_name[end]) continue;
        int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool alive = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) || lives(pid);
        char dir[512];
        if (!alive) {
            snprintf(dir, sizeof dir, "%s/%s", parent, e->d_name);
            if (!remove_tree(dir, true)) remove_tree(dir, false);
        }
        if (fd >= 0) close(fd);
    }
    closedir(d);
}

/* Our own group's children, and those of the groups beside it: jobs that ran here before. */
static void sweep_around(const char *own)
{
    char above[224], beside[512];
    sweep(own);
    snprintf(above, sizeof above, "%s", own);
    char *last = strrchr(above, '/');
    DIR *d = NULL;
    if (last && last > above) {
        *last = 0;
        d = opendir(above);
    }
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || e->d_type != DT_DIR || !strcmp(e->d_name, last + 1)) continue;
        snprintf(beside, sizeof beside, "%s/%s", above, e->d_name);
        sweep(beside);
    }
    if (d) closedir(d);
}

/* ---- set-up ---- */

static const char no_group[] = "no memory and pids control group can be made below this process's own group";

/* Adds <own group>/box.<pid> of a hierarchy; index or -1. */
static int add_dir(cgroup_set *s, const char *controller, unsigned owner)
{
    char own[224];
    if (!own_dir(controller, own, sizeof own - 16)) return -1;
    sweep_around(own);
    char *dir = s->dir[s->n_dir];
    if ((size_t)snprintf(dir, sizeof s->dir[0], "%s/box.%d", own, (int)getpid()) >= sizeof s->dir[0]) return -1;
    if (mkdir(dir, 0755)) return -1;
    char procs[260];
    snprintf(procs, sizeof procs, "%s/cgroup.procs", dir);
    s->lock[s->n_dir] = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->lock[s->n_dir] >= 0) flock(s->lock[s->n_dir], LOCK_EX | LOCK_NB);
    s->n_dir++;
    return geteuid() == 0 && (chown(dir, owner, owner) || chown(procs, owner, owner)) ? -1 : s->n_dir - 1;
}

void cgroup_undo(cgroup_set *s)
{
    for (int i = 0; i < s->n_dir; i++) {
        rmdir(s->dir[i]);
        if (s->lock[i] >= 0) close(s->lock[i]);
    }
    s->n_dir = s->version = 0;
    s->mem = s->pids = s->cpu = -1;
}

/* Boxes share the processors box by box, however many processes each has; all of them together weigh as much as one
 * task on every processor, so that neither they nor what runs beside them starve. Where the kernel groups tasks by
 * session, as on desktops, a box had that already; in a container's group it had not. No tier depends on it: it is done
 * where it can be. */
static void share_processors(const char *dir, int version)
{
    enum { MOST = 100 }; /* what cpu.weight takes, in tasks */
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    n = n < 1 ? 1 : n > MOST ? MOST : n;
    if (version == 1)
        write_number(dir, "cpu.shares", 1024 * n);
    else if (!write_file(dir, "cgroup.subtree_control", "+cpu"))
        write_number(dir, "cpu.weight", 100 * n);
}

static bool try_v1(cgroup_set *s, unsigned owner)
{
    s->mem = add_dir(s, "memory", owner);
    s->pids = add_dir(s, "pids", owner);
    if (s->mem < 0 || s->pids < 0) return false;
    s->cpu = add_dir(s, "cpuacct", owner);
    int share = add_dir(s, "cpu", owner); /* often the same hierarchy: then it is made already */
    if (share < 0) share = s->cpu;
    if (share >= 0) share_processors(s->dir[share], 1);
    s->version = 1;
    return true;
}

static bool try_v2(cgroup_set *s, unsigned owner)
{
    int i = add_dir(s, "", owner);
    if (i < 0 || write_file(s->dir[i], "cgroup.subtree_control", "+memory +pids")) return false;
    share_processors(s->dir[i], 2);
    s->mem = s->pids = s->cpu = i;
    s->version = 2;
    return true;
}

void cgroup_prepare(cgroup_set *s, unsigned owner)
{
    memset(s, 0, sizeof *s);
    s->mem = s->pids = s->cpu = -1;
    if (!try_v1(s, owner)) {
        cgroup_undo(s);
        if (!try_v2(s, owner)) cgroup_undo(s);
    }
    if (!s->version) snprintf(s->why_not, sizeof s->why_not, "%s", no_group);
}

void cgroup_limits(cgroup_set *s, const box_limits *l)
{
    /* A little beyond what one process may have, so that an honest program that asks for too much meets a MemoryError
     * and not the killer; the group is for what the sum of processes, files and shared memory takes. */
    s->memory_bytes = (l->memory_mib + l->tmp_mib + 128) << 20;
    s->n_pids = l->pids;
}

static void slot_dir(const cgroup_set *s, int dir, int slot, char *out, size_t n)
{
    snprintf(out, n, "%s/slot%d", s->dir[dir], slot);
}

void cgroup_memory(const cgroup_set *s, int slot, int64_t bytes)
{
    char d[256];
    if (s->mem < 0 || slot < 0) return;
    slot_dir(s, s->mem, slot, d, sizeof d);
    if (s->version == 2) {
        write_number(d, "memory.max", bytes);
        write_number(d, "memory.swap.max", 0);
    } else {
        write_number(d, "memory.limit_in_bytes", bytes);
    }
}

static bool make_slot(cgroup_set *s, int slot)
{
    char d[256];
    for (int i = 0; i < s->n_dir; i++) {
        slot_dir(s, i, slot, d, sizeof d);
        if (mkdir(d, 0755) && errno != EEXIST) return false;
    }
    cgroup_memory(s, slot, s->memory_bytes);
    slot_dir(s, s->mem, slot, d, sizeof d);
    if (s->version == 1) write_number(d, "memory.swappiness", 0);
    slot_dir(s, s->pids, slot, d, sizeof d);
    return write_number(d, "pids.max", s->n_pids) == 0;
}

int cgroup_take(cgroup_set *s)
{
    for (int i = 0; i < s->n_slot; i++)
        if (!s->used[i]) {
            s->used[i] = true;
            cgroup_memory(s, i, s->memory_bytes); /* a canary whose whole jail was killed left a small one */
            return i;
        }
    if (s->n_slot == SLOTS_MAX || !make_slot(s, s->n_slot)) return -1;
    bool *used = realloc(s->used, (size_t)s->n_slot + 1);
    if (!used) return -1;
    s->used = used;
    used[s->n_slot] = true;
    return s->n_slot++;
}

void cgroup_give(cgroup_set *s, int slot)
{
    if (slot < s->n_slot) s->used[slot] = false;
}

int cgroup_join_files(const cgroup_set *s, int slot, int fds[CGROUP_FILES])
{
    int n = 0;
    for (int i = 0; i < s->n_dir; i++) {
        char d[256], path[300];
        slot_dir(s, i, slot, d, sizeof d);
        snprintf(path, sizeof path, "%s/cgroup.procs", d);
        fds[n] = open(path, O_WRONLY | O_CLOEXEC);
        if (fds[n] >= 0) n++;
    }
    return n;
}

int64_t cgroup_ooms(const cgroup_set *s, int slot)
{
    char d[256];
    if (s->mem < 0 || slot < 0) return -1;
    slot_dir(s, s->mem, slot, d, sizeof d);
    return read_number(d, s->version == 2 ? "memory.events" : "memory.oom_control", "oom_kill");
}

int64_t cgroup_pid_refusals(const cgroup_set *s, int slot)
{
    char d[256];
    if (s->pids < 0 || slot < 0) return -1;
    slot_dir(s, s->pids, slot, d, sizeof d);
    return read_number(d, "pids.events", "max");
}

double cgroup_cpu_ms(const cgroup_set *s, int slot)
{
    char d[256];
    if (s->cpu < 0 || slot < 0) return -1;
    slot_dir(s, s->cpu, slot, d, sizeof d);
    if (s->version == 1) return 1e-6 * (double)read_number(d, "cpuacct.usage", NULL);
    return 1e-3 * (double)read_number(d, "cpu.stat", "usage_usec");
}

double cgroup_peak_mib(const cgroup_set *s, int slot)
{
    char d[256];
    if (s->mem < 0 || slot < 0) return -1;
    slot_dir(s, s->mem, slot, d, sizeof d);
    int64_t v = read_number(d, s->version == 2 ? "memory.peak" : "memory.max_usage_in_bytes", NULL);
    return v < 0 ? -1 : (double)v / 1048576;
}

void cgroup_peak_reset(const cgroup_set *s, int slot)
{
    char d[256];
    slot_dir(s, s->mem, slot, d, sizeof d);
    if (s->version == 1) write_number(d, "memory.max_usage_in_bytes", 0);
}

void cgroup_pids(const cgroup_set *s, int slot, int64_t n)
{
    char d[256];
    if (s->pids < 0 || slot < 0) return;
    slot_dir(s, s->pids, slot, d, sizeof d);
    write_number(d, "pids.max", n);
}

int64_t cgroup_members(const cgroup_set *s, int slot)
{
    char d[256];
    if (s->pids < 0 || slot < 0) return -1;
    slot_dir(s, s->pids, slot, d, sizeof d);
    return read_number(d, "pids.current", NULL);
}

void cgroup_disable(cgroup_set *s)
{
    cgroup_clear(s);
    s->version = 0;
    s->mem = s->pids = s->cpu = -1;
}

void cgroup_clear(cgroup_set *s)
{
    for (int i = 0; i < s->n_slot; i++) {
        for (int k = 0; k < s->n_dir; k++) {
            char d[256];
            slot_dir(s, k, i, d, sizeof d);
            for (int round = 0; rmdir(d) && errno == EBUSY && round < 100; round++)
                nanosleep(&(struct timespec){0, 2000000}, NULL);
        }
    }
    free(s->used);
    s->used = NULL;
    s->n_slot = 0;
}
