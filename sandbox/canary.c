#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/boxd.h"
#include "sandbox/jail.h"

/* Each layer has to stop an attack before the first real box: a call that returned success proves nothing (AppArmor
 * lets unshare pass and stops mount; kernels accept limits they do not enforce for uid 0). */

/* One line per test: name, 1 if the attack failed as it should, what was seen. */
static const char attacks[] =
    "import os, ctypes, threading\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def report(name, ok, seen): print(f'{name}\\t{int(ok)}\\t{seen}')\n"
    "def refused(name, f):\n"
    "    try: r = f()\n"
    "    except (OSError, ValueError) as e: report(name, True, getattr(e, 'strerror', None) or e)\n"
    "    else: report(name, False, f'succeeded: {str(r)[:40]}')\n"
    "def call(nr, *a):\n"
    "    if libc.syscall(nr, *a) < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    "def sock(family):\n"
    "    if libc.socket(family, 1, 0) < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    "def unshare(flags):\n"
    "    if libc.unshare(flags) < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    "refused('file tree', lambda: open('/etc/passwd').read())\n"
    "refused('read-only tree', lambda: open('/usr/box-canary', 'w'))\n"
    "refused('no /proc', lambda: os.listdir('/proc'))\n"
    "refused('network', lambda: sock(2))\n"
    "refused('vsock', lambda: sock(40))\n"
    "refused('netlink', lambda: sock(16))\n"
    "refused('user namespaces inside', lambda: unshare(0x10000000))\n"
    "refused('mount', lambda: libc.mount(b't', b'/tmp', b'tmpfs', 0, None) and unshare(0x20000))\n"
    "refused('io_uring', lambda: call(425, 1, 0))\n"
    "refused('raise a limit', lambda: __import__('resource').setrlimit(7, (64, 64)))\n"
    "if tier < 2: report('pid namespace', os.getpid() < 100 and os.getppid() <= 1, f'pid {os.getpid()}, parent "
    "{os.getppid()}')\n"
    "else: refused('signals', lambda: os.kill(os.getppid(), 0))\n"
    "if tier == 2: refused('files', lambda: open('/tmp/box-canary', 'w'))\n"
    "if tier == 2: refused('processes', os.fork)\n"
    "fds = []\n"
    "for i in range(256):\n"
    "    try: os.fstat(i); fds.append(i)\n"
    "    except OSError: pass\n"
    "report('descriptors', fds == list(range(8)), fds)\n"
    "threading.stack_size(65536)\n"
    "stop = threading.Event()\n"
    "ts = []\n"
    "try:\n"
    "    while len(ts) < 4096:\n"
    "        t = threading.Thread(target=stop.wait, daemon=True); t.start(); ts.append(t)\n"
    "    report('process count', False, f'{len(ts)} threads')\n"
    "except RuntimeError: report('process count', True, f'{len(ts)} threads')\n"
    "stop.set()\n"
    "for t in ts: t.join()\n"
    "if tier < 2: open('/tmp/box-canary', 'w').write('x')\n";

static const char other_box[] = "import os\n"
                                "print(f'private /tmp\\t{int(os.listdir(\"/tmp\") == [])}\\t{os.listdir(\"/tmp\")}')\n";
static const char too_much[] = "x = bytearray(%lld << 20)\n";
static const char too_much_shared[] = "import os\n"
                                      "fd = os.memfd_create('x')\n"
                                      "block = bytes(1 << 20)\n"
                                      "for i in range(256): os.write(fd, block)\n";
static const char spin[] = "while True: pass\n";

static void layer(boxd *b, const char *name, bool ok, const char *evidence, const char *remedy)
{
    wire_reply *r = &b->report;
    if (r->n_layer == WIRE_LAYERS) return;
    wire_layer *l = &r->layer[r->n_layer++];
    snprintf(l->name, sizeof l->name, "%.31s", name);
    snprintf(l->evidence, sizeof l->evidence, "%.127s", evidence);
    snprintf(l->remedy, sizeof l->remedy, "%.159s", ok ? "" : remedy);
    l->ok = ok;
}

static void read_lines(boxd *b, char *text)
{
    for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *ok = strchr(line, '\t'), *seen = ok ? strchr(ok + 1, '\t') : NULL;
        if (!seen) continue;
        *ok++ = 0;
        *seen++ = 0;
        layer(b, line, *ok == '1', seen, "this layer does not hold on this machine; do not run model code here");
    }
}

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
    if (b->canary) boxd_box_free(b, b->canary);
    b->canary = boxd_box_new(b, UINT32_MAX);
    b->canary->canary = true;
}

static void finish(boxd *b)
{
    wire_reply *r = &b->report;
    if (b->canary) boxd_box_free(b, b->canary);
    b->canary = NULL;
    layer(b, "control groups", b->cg.version > 0,
          b->cg.version ? b->cg.version == 1 ? "version 1" : "version 2" : b->cg.why_not,
          "start as root, or have memory and pids groups delegated to this user");
    char abi[32];
    snprintf(abi, sizeof abi, "ABI %d", jail_landlock_abi());
    layer(b, "Landlock", jail_landlock_abi() > 0, abi, "boot with lsm=landlock,... (Linux 5.13 or newer)");
    for (int i = 0; i < r->n_layer; i++) {
        const wire_layer *l = &r->layer[i];
        if (l->ok || !strcmp(l->name, "control groups") || !strcmp(l->name, "Landlock")) continue;
        boxd_pool_done(
            b, FAIL(ST_EUNAVAIL, "the sandbox is not safe here: \"%s\" does not hold (%s)", l->name, l->evidence));
        return;
    }
    if ((int)b->tier > b->pool.min_tier) {
        boxd_pool_done(b, FAIL(ST_EUNAVAIL, "this machine gives sandbox tier %s but sandbox.min_tier asks for %s: %s",
                               box_tier_name(b->tier), box_tier_name((box_tier)b->pool.min_tier), b->cg.why_not));
        return;
    }
    boxd_pool_done(b, ST_OK);
}

void canary_next(boxd *b, const wire_result *res, const char *text)
{
    char line[128], *code = NULL;
    switch (b->canary_step++) {
    case 0:
        fresh_box(b);
        if (asprintf(&code, "tier = %d\n%s", (int)b->tier, attacks) < 0) _exit(1);
        run(b, code, 10);
        free(code);
        return;
    case 1: {
        char *copy = strdup(text);
        if (!copy) _exit(1);
        read_lines(b, copy);
        free(copy);
        if (res->verdict != BOX_OK) {
            boxd_pool_done(b, FAIL(ST_EINVAL, "sandbox: the first box failed: %s %s %s",
                                   box_verdict_name((box_verdict)res->verdict), res->error_type,
                                   text + res->text_len + 1));
            return;
        }
        run(b, spin, 0.03);
        return;
    }
    case 2:
        snprintf(line, sizeof line, "%s after %.0f ms", box_verdict_name((box_verdict)res->verdict), res->wall_ms);
        /* On a busy machine the interrupted loop may not get a time slice within the grace: killed is held, too. */
        layer(b, "time limit", res->verdict == BOX_TIMEOUT_SOFT || res->verdict == BOX_TIMEOUT_HARD, line,
              "the interpreter does not see SIGINT");
        if (res->verdict == BOX_TIMEOUT_HARD) fresh_box(b);
        /* A fresh box has some of the imports' share left: well beyond that. */
        snprintf(line, sizeof line, too_much, (long long)b->pool.limits.memory_mib + 128);
        run(b, line, 10);
        return;
    case 3:
        snprintf(line, sizeof line, "%s %s", box_verdict_name((box_verdict)res->verdict), res->error_type);
        layer(b, "address space", !strcmp(res->error_type, "MemoryError"), line, "RLIMIT_AS is not enforced");
        if (b->tier >= BOX_T2) break;
        fresh_box(b); /* the first one left a file in its /tmp */
        run(b, other_box, 10);
        return;
    case 4: {
        char *copy = strdup(text);
        if (!copy) _exit(1);
        read_lines(b, copy);
        free(copy);
        if (b->tier != BOX_T0) break;
        cgroup_memory(&b->cg, b->canary->jail->cg, 64 << 20);
        run(b, too_much_shared, 10);
        return;
    }
    case 5:
        if (b->canary->jail) cgroup_memory(&b->cg, b->canary->jail->cg, b->cg.memory_bytes);
        layer(b, "memory group", res->verdict == BOX_OOM, box_verdict_name((box_verdict)res->verdict),
              "the memory control group does not count shared memory or does not kill");
        break;
    default: break;
    }
    finish(b);
}
