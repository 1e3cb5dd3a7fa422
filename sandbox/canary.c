#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/boxd.h"
#include "sandbox/jail.h"

/* Each layer has to stop an attack before the first real box: a call that returned success proves nothing (AppArmor
 * lets unshare pass and stops mount; kernels accept limits they do not enforce for uid 0). The tier is what the attacks
 * say: control groups that do not bite make it T1, and an attack that gets through at the last tier ends the matter. */

/* One line per test: name, 1 if the attack failed as it should, what was seen. Before it: tier, pids, tmp_mib, abi,
 * boxd. */
static const char attacks[] =
    "import os, sys, ctypes, threading, fcntl\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def report(name, ok, seen): print(f'{name}\t{int(ok)}\t{seen}')\n"
    "def error_of(f):\n"
    "    try: r = f()\n"
    "    except (OSError, ValueError) as e: return str(getattr(e, 'strerror', None) or e)\n"
    "    return ''\n"
    "def refused(name, f):\n"
    "    e = error_of(f)\n"
    "    report(name, bool(e), e or 'the attack succeeded')\n"
    "def checked(r):\n"
    "    if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    "refused('file tree', lambda: open('/etc/passwd').read())\n"
    "refused('read-only tree', lambda: open('/usr/box-canary', 'w'))\n"
    "refused('no /proc', lambda: os.listdir('/proc'))\n"
    "refused('network', lambda: checked(libc.socket(2, 1, 0)))\n"
    "refused('vsock', lambda: checked(libc.socket(40, 1, 0)))\n"
    "refused('netlink', lambda: checked(libc.socket(16, 3, 0)))\n"
    "refused('user namespaces inside', lambda: checked(libc.unshare(0x10000000)))\n"
    "refused('mount', lambda: checked(libc.mount(b't', b'/tmp', b'tmpfs', 0, None)))\n"
    "refused('io_uring', lambda: checked(libc.syscall(425, 1, ctypes.byref((ctypes.c_char * 120)()))))\n"
    "e = error_of(lambda: checked(libc.ptrace(2, os.getpid(), None, None)))\n" /* else: no such process */
    "report('tracing', e == os.strerror(1), e)\n"
    "refused('locks on shared files', lambda: fcntl.flock(open(os.__file__), fcntl.LOCK_EX | fcntl.LOCK_NB))\n"
    "refused('waking what is parked', lambda: os.kill(os.getpid(), 18))\n"
    "refused('raise a limit', lambda: __import__('resource').setrlimit(7, (64, 64)))\n"
    "if tier < 2: report('pid namespace', os.getpid() < 100 and os.getppid() <= 1, f'pid {os.getpid()}, parent "
    "{os.getppid()}')\n"
    "if tier == 2 or boxd > 64: refused('signals', lambda: os.kill(boxd, 0))\n"
    "if tier == 2: refused('files', lambda: open('/tmp/box-canary', 'w'))\n"
    "if tier == 2: refused('processes', os.fork)\n"
    "if tier == 2: refused('modes of files', lambda: os.chmod('/tmp', 0o777))\n"
    /* What no other layer would stop: the device's mode and mount allow it, and the parent is the same user's. */
    "e = error_of(lambda: open('/dev/zero', 'wb')), error_of(lambda: os.kill(os.getppid(), 0)) if abi > 5 else 'old'\n"
    "report('Landlock', abi > 0 and all(e), f'ABI {abi}; writing /dev/zero: {e[0] or \"done\"}; signal to the parent: "
    "{e[1] or \"done\"}')\n"
    "fds = []\n"
    "for i in range(256):\n"
    "    try: os.fstat(i); fds.append(i)\n"
    "    except OSError: pass\n"
    "report('descriptors', fds == list(range(8)), fds)\n"
    "threading.stack_size(65536)\n"
    "stop = threading.Event()\n"
    "ts = []\n"
    "try:\n"
    "    while len(ts) <= pids:\n"
    "        t = threading.Thread(target=stop.wait, daemon=True); t.start(); ts.append(t)\n"
    "except RuntimeError: pass\n"
    "report('process count', len(ts) < pids, f'{len(ts)} threads, {pids} allowed')\n"
    "stop.set()\n"
    "for t in ts: t.join()\n"
    "if tier < 2:\n"
    "    f = open('/tmp/box-canary', 'w')\n"
    "    refused('size of /tmp', lambda: os.posix_fallocate(f.fileno(), 0, tmp_mib + 1 << 20))\n";

static const char spin[] = "while True: pass\n";
static const char too_much[] = "x = bytearray(%lld << 20)\n";
/* Children deaf to every signal but one; the turn is killed. */
static const char deaf[] = "import os, signal\n"
                           "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
                           "for i in range(3):\n"
                           "    if os.fork() == 0: break\n"
                           "while True: pass\n";
static const char survivors[] = "import os\n"
                                "try: os.kill(-1, 0); e = 'somebody'\n"
                                "except ProcessLookupError: e = ''\n"
                                "except OSError as x: e = 'somebody'\n"
                                "print(f'death of a turn\t{int(not e)}\t{e or \"nobody\"} lived on')\n";
static const char other_box[] = "import os\n"
                                "print(f'private /tmp\t{int(os.listdir(\"/tmp\") == [])}\t{os.listdir(\"/tmp\")}')\n";
static const char too_much_shared[] = "import os\n"
                                      "fd = os.memfd_create('x')\n"
                                      "block = bytes(1 << 20)\n"
                                      "for i in range(256): os.write(fd, block)\n";
static const char too_many[] = "import threading\n"
                               "threading.stack_size(65536)\n"
                               "n, stop = 0, threading.Event()\n"
                               "try:\n"
                               "    while n < 64: threading.Thread(target=stop.wait, daemon=True).start(); n += 1\n"
                               "except RuntimeError: pass\n"
                               "stop.set()\n"
                               "print(n)\n";
enum { FEW_PIDS = 8, LITTLE_MIB = 64, ATTACK_S = 10 };

static const struct {
    const char *layer, *remedy;
} remedies[] = {
    {"namespaces", "sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, "
                   "kernel.apparmor_restrict_unprivileged_userns=0; docker --security-opt seccomp=unconfined"},
    {"control groups", "start as root, or have memory and pids groups delegated (systemd-run --user --scope "
                       "-p Delegate=yes; docker: a writable /sys/fs/cgroup)"},
    {"memory group", "see memory.oom_control (v1) or memory.swap.max (v2) of this process's own group"},
    {"Landlock",
     "boot with lsm=landlock,... (Linux 5.13 or newer); in a container its system-call profile has to allow it"},
    {"time limit", "the interpreter does not see SIGINT"},
    {"address space", "RLIMIT_AS is not enforced"},
};

static void layer(boxd *b, const char *name, bool ok, const char *evidence)
{
    wire_reply *r = &b->report;
    if (r->n_layer == WIRE_LAYERS) return;
    wire_layer *l = &r->layer[r->n_layer++];
    const char *remedy = "this layer does not hold on this machine; do not run model code here";
    for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++)
        if (!strcmp(remedies[i].layer, name)) remedy = remedies[i].remedy;
    snprintf(l->name, sizeof l->name, "%.31s", name);
    snprintf(l->evidence, sizeof l->evidence, "%.127s", evidence);
    snprintf(l->remedy, sizeof l->remedy, "%.159s", ok ? "" : remedy);
    l->ok = ok;
}

static void read_lines(boxd *b, const char *text)
{
    char *copy = strdup(text);
    if (!copy) _exit(1);
    for (char *save, *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *ok = strchr(line, '\t'), *seen = ok ? strchr(ok + 1, '\t') : NULL;
        if (!seen) continue;
        *ok++ = 0;
        *seen++ = 0;
        layer(b, line, *ok == '1', seen);
    }
    free(copy);
}

/* The first layer without which this tier is none. */
static const wire_layer *first_fault(const boxd *b)
{
    for (int i = 0; i < b->report.n_layer; i++) {
        const wire_layer *l = &b->report.layer[i];
        bool other_tier = !strcmp(l->name, "namespaces") || !strcmp(l->name, "control groups");
        /* Above T2 the others stand without Landlock; that it is missing is said. */
        if (!l->ok && !other_tier && (b->tier == BOX_T2 || strcmp(l->name, "Landlock") != 0)) return l;
    }
    return NULL;
}
#define NOT_SAFE "the sandbox is not safe here: \"%s\" does not hold (%s)"

static void run(boxd *b, const char *code, double wall_s)
{
    boxrec *x = b->canary;
    x->len = strlen(code);
    x->code = malloc(x->len + 1);
    if (!x->code) _exit(1);
    memcpy(x->code, code, x->len);
    x->turn++;
    x->wall_s = wall_s;
    boxd_queue(b, x);
}

static void fresh_box(boxd *b)
{
    if (b->canary) boxrec_free(b, b->canary);
    b->canary = boxrec_new(b, UINT32_MAX);
    b->canary->canary = true;
}

/* The group of the canary's jail; -1 where there is none. */
static int group(const boxd *b) { return b->canary && b->canary->jail ? b->canary->jail->cg : -1; }

/* ---- the attacks, one turn each ---- */

static void start_attacks(boxd *b)
{
    char *code;
    fresh_box(b);
    if (asprintf(&code, "tier, pids, tmp_mib, abi, boxd = %d, %lld, %lld, %d, %d\n%s", (int)b->tier,
                 (long long)b->pool.limits.pids, (long long)b->pool.limits.tmp_mib, jail_landlock_abi(), (int)getpid(),
                 attacks) < 0)
        _exit(1);
    run(b, code, ATTACK_S);
    free(code);
}

static bool judge_attacks(boxd *b, const wire_result *r, const char *text)
{
    read_lines(b, text);
    if (r->verdict == BOX_OK) return true;
    const wire_layer *l = first_fault(b);
    if (l)
        boxd_pool_done(b, FAIL(ST_EUNAVAIL, NOT_SAFE, l->name, l->evidence));
    else
        boxd_pool_done(b, FAIL(r->verdict == BOX_PY_ERROR ? ST_EINVAL : ST_EUNAVAIL,
                               "sandbox: the first box failed: %s %s %s%.200s",
                               box_verdict_name((box_verdict)r->verdict), r->error_type, text + r->text_len + 1, text));
    return false;
}

static void start_spin(boxd *b) { run(b, spin, 0.03); }

static bool judge_spin(boxd *b, const wire_result *r, const char *text)
{
    char line[96];
    (void)text;
    snprintf(line, sizeof line, "%s after %.0f ms", box_verdict_name((box_verdict)r->verdict), r->wall_ms);
    /* On a busy machine the interrupted loop may not get a time slice within the grace: killed is held, too. */
    layer(b, "time limit", r->verdict == BOX_TIMEOUT_SOFT || r->verdict == BOX_TIMEOUT_HARD, line);
    return true;
}

static void start_memory(boxd *b)
{
    char line[64];
    fresh_box(b);
    /* A fresh box has some of the imports' share left: well beyond that. */
    snprintf(line, sizeof line, too_much, (long long)b->pool.limits.memory_mib + 128);
    run(b, line, ATTACK_S);
}

static bool judge_memory(boxd *b, const wire_result *r, const char *text)
{
    char line[96];
    (void)text;
    snprintf(line, sizeof line, "%s %s", box_verdict_name((box_verdict)r->verdict), r->error_type);
    layer(b, "address space", !strcmp(r->error_type, "MemoryError"), line);
    return true;
}

static void start_deaf(boxd *b)
{
    fresh_box(b);
    run(b, deaf, 0.1);
}

static bool judge_deaf(boxd *b, const wire_result *r, const char *text)
{
    char line[96];
    (void)text;
    int64_t left = cgroup_members(&b->cg, group(b));
    bool ended = r->verdict == BOX_TIMEOUT_HARD || r->verdict == BOX_TIMEOUT_SOFT; /* soft: before they were deaf */
    snprintf(line, sizeof line, "%s, %lld left in the group", box_verdict_name((box_verdict)r->verdict),
             (long long)left);
    if (left >= 0) layer(b, "death of a group", ended && left <= 1, line); /* 1: the runner */
    return true;
}

static void start_survivors(boxd *b) { run(b, survivors, ATTACK_S); }

static bool judge_lines(boxd *b, const wire_result *r, const char *text)
{
    (void)r;
    read_lines(b, text);
    return true;
}

static void start_other_box(boxd *b)
{
    fresh_box(b); /* an earlier one left a file in its /tmp */
    run(b, other_box, ATTACK_S);
}

static void start_shared(boxd *b)
{
    cgroup_memory(&b->cg, group(b), LITTLE_MIB << 20);
    run(b, too_much_shared, 5);
}

static bool judge_shared(boxd *b, const wire_result *r, const char *text)
{
    char line[96];
    (void)text;
    snprintf(line, sizeof line, "256 MiB of shared pages in %d MiB: %s", LITTLE_MIB,
             box_verdict_name((box_verdict)r->verdict));
    layer(b, "memory group", r->verdict == BOX_OOM, line);
    cgroup_memory(&b->cg, group(b), b->cg.memory_bytes);
    return true;
}

static void start_many(boxd *b)
{
    /* A box of its own in a jail that is there: its group's number of processes is lowered once it has one. */
    fresh_box(b);
    run(b, "pass\n", ATTACK_S);
}

static bool judge_ready(boxd *b, const wire_result *r, const char *text)
{
    (void)r;
    (void)text;
    cgroup_pids(&b->cg, group(b), FEW_PIDS);
    return true;
}

static void start_too_many(boxd *b) { run(b, too_many, ATTACK_S); }

static bool judge_many(boxd *b, const wire_result *r, const char *text)
{
    char line[96];
    int n = r->verdict == BOX_OK ? atoi(text) : 64;
    snprintf(line, sizeof line, "%d threads started where %d processes are allowed", n, FEW_PIDS);
    layer(b, "process group", n < FEW_PIDS, line);
    cgroup_pids(&b->cg, group(b), b->cg.n_pids);
    return true;
}

static const struct step {
    box_tier weakest; /* for this tier and stronger ones */
    void (*start)(boxd *b);
    bool (*judge)(boxd *b, const wire_result *r, const char *text); /* false: it has answered the client */
} steps[] = {
    {BOX_T2, start_attacks, judge_attacks}, {BOX_T2, start_spin, judge_spin},
    {BOX_T2, start_memory, judge_memory},   {BOX_T1, start_deaf, judge_deaf},
    {BOX_T1, start_survivors, judge_lines}, {BOX_T1, start_other_box, judge_lines},
    {BOX_T0, start_shared, judge_shared},   {BOX_T0, start_many, judge_ready},
    {BOX_T0, start_too_many, judge_many},
};

/* ---- the tier ---- */

static bool of_groups(const char *name)
{
    return !strcmp(name, "memory group") || !strcmp(name, "process group") || !strcmp(name, "death of a group");
}

/* Control groups that do not bite: the next weaker tier, whose own attacks decide about it. */
static bool do_without_groups(boxd *b)
{
    for (int i = 0; b->tier == BOX_T0 && i < b->report.n_layer; i++) {
        const wire_layer *l = &b->report.layer[i];
        if (l->ok || !of_groups(l->name)) continue;
        snprintf(b->cg.why_not, sizeof b->cg.why_not, "the %.20s does not hold: %.110s", l->name, l->evidence);
        pool_zygote_stop(b);
        cgroup_disable(&b->cg);
        b->tier = BOX_T1;
        b->report.n_layer = 0;
        b->canary_step = 0;
        status st = pool_zygote_start(b);
        if (st != ST_OK) boxd_pool_done(b, st);
        return true;
    }
    return false;
}

static void finish(boxd *b)
{
    const wire_reply *r = &b->report;
    if (b->canary) boxrec_free(b, b->canary);
    b->canary = NULL;
    if (do_without_groups(b)) return;
    layer(b, "namespaces", b->tier < BOX_T2, b->tier < BOX_T2 ? "user, pid, mount, net, ipc, uts, cgroup" : b->why_t2);
    layer(b, "control groups", b->tier == BOX_T0,
          b->tier == BOX_T0 ? b->cg.version == 1 ? "version 1" : "version 2" : b->cg.why_not);
    const wire_layer *l = first_fault(b);
    if (l) {
        boxd_pool_done(b, FAIL(ST_EUNAVAIL, NOT_SAFE, l->name, l->evidence));
        return;
    }
    if ((int)b->tier > b->pool.min_tier) {
        boxd_pool_done(b, FAIL(ST_EUNAVAIL, "this machine gives sandbox tier %s but sandbox.min_tier asks for %s: %s",
                               box_tier_name(b->tier), box_tier_name((box_tier)b->pool.min_tier), b->cg.why_not));
        return;
    }
    boxd_pool_done(b, ST_OK);
    for (int i = 0; i < r->n_layer; i++)
        if (!r->layer[i].ok && !strcmp(r->layer[i].name, "Landlock"))
            boxd_note(b, "Landlock does not hold here (%s); the other layers do", r->layer[i].evidence);
}

void canary_next(boxd *b, const wire_result *res, const char *text)
{
    enum { N = sizeof steps / sizeof *steps };
    if (res && !steps[b->canary_step++].judge(b, res, text)) return;
    while (b->canary_step < N && b->tier > steps[b->canary_step].weakest) b->canary_step++;
    if (b->canary_step < N)
        steps[b->canary_step].start(b);
    else
        finish(b);
}
