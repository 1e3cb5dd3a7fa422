#include "sandbox/python.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/wire.h"

/* Prints the mark, then C strings: "" or what is wrong; the program to execute; the paths, sorted, none inside another.
 * argv: homes. Runs in any Python 3, so that an old one can be told so. */
static const char ask[] =
    "import os, sys\n"
    "class Bad(Exception): pass\n"
    "HAVE = ('/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64')\n"
    "NEVER = ('/', '/home', '/root', '/etc', '/var', '/tmp', '/proc', '/sys', '/dev', '/run', '/mnt', '/media', "
    "'/srv', '/boot', '/opt', '/data')\n"
    "def inside(p, d): return p == d or p.startswith(d.rstrip('/') + '/')\n"
    "def known(p): return any(inside(p, d) for d in HAVE)\n"
    "def check(p, what):\n"
    "    if p in NEVER or p in sys.argv[1:] or os.path.dirname(p) == '/home' or p.endswith('/.local'):\n"
    "        raise Bad('%s is %s: boxes would see what else is kept there; use an interpreter in a folder of its own "
    "'\n"
    "                  '(a venv or a conda environment)' % (what, p))\n"
    "    if inside(p, '/tmp') or inside(p, '/dev') or inside(p, '/proc') or inside(p, '/sys'):\n"
    "        raise Bad('%s is %s: boxes have a %s of their own, which hides it; move it elsewhere' % (what, p, '/' + "
    "p.split('/')[1]))\n"
    "def find():\n"
    "    if sys.implementation.name != 'cpython' or sys.version_info < (3, 8):\n"
    "        raise Bad('a box needs CPython 3.8 or newer; this is %s %d.%d' % ((sys.implementation.name,) + "
    "sys.version_info[:2]))\n"
    "    if 't' in sys.abiflags:\n"
    "        raise Bad('is a free-threaded build; boxes need the ordinary one')\n"
    "    try: import ctypes\n"
    "    except ImportError as e:\n"
    "        raise Bad('has no ctypes (%s), which the checks of a box need: build it with libffi' % e)\n"
    "    exe = sys.executable\n"
    "    if not exe or not os.path.isabs(exe): raise Bad('does not know its own path')\n"
    "    roots = [('its prefix', p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)]\n"
    "    for d in (os.path.dirname(exe), os.path.dirname(os.path.dirname(exe))):\n"
    "        if os.path.isfile(os.path.join(d, 'pyvenv.cfg')):\n"
    "            roots.insert(0, ('its virtual environment', d))\n"
    "            break\n"
    "    else: exe = os.path.realpath(exe)\n"
    "    want = []\n"
    "    for what, root in roots:\n"
    "        for r in (os.path.normpath(root), os.path.realpath(root)):\n"
    "            if known(r): continue\n"
    "            check(r, what)\n"
    "            names = ['bin', 'lib', 'lib32', 'lib64', 'pyvenv.cfg']\n"
    "            if os.path.isdir(os.path.join(r, 'conda-meta')): names += ['etc', 'share', 'ssl']\n"
    "            want += [os.path.join(r, n) for n in names]\n"
    "    hop = exe\n"
    "    for _ in range(40):\n"
    "        want.append(hop)\n"
    "        if not os.path.islink(hop): break\n"
    "        hop = os.path.normpath(os.path.join(os.path.dirname(hop), os.readlink(hop)))\n"
    "    for p in sys.path:\n"
    "        if p and not known(p) and not any(inside(p, w) for w in want):\n"
    "            if os.path.isdir(p): check(os.path.normpath(p), 'a folder of its path')\n"
    "            want.append(os.path.normpath(p))\n"
    "    try:\n"
    "        with open('/proc/self/maps') as f: mapped = [l.split(None, 5)[5].strip() for l in f if '/' in l]\n"
    "    except OSError: mapped = []\n"
    "    for m in mapped:\n"
    "        d = os.path.dirname(m)\n"
    "        if '.so' in m and not known(m) and os.path.isfile(m) and not any(inside(m, w) for w in want):\n"
    "            check(d, 'the folder of %s, which it loads,' % os.path.basename(m))\n"
    "            want.append(d)\n"
    "    paths = []\n"
    "    for w in sorted(set(want), key=lambda p: p.split('/')):\n"
    "        if os.path.lexists(w) and not known(w) and not any(inside(w, p) for p in paths): paths.append(w)\n"
    "    return [exe] + [s for p in paths for s in (p, os.readlink(p) if os.path.islink(p) else '')]\n"
    "try: out = [''] + find()\n"
    "except Bad as e: out = [str(e)]\n"
    "sys.stdout.flush()\n"
    "os.write(1, b''.join(os.fsencode(s) + b'\\0' for s in ['\\n@codedance-python'] + out + ['']))\n";
static const char mark[] = "\n@codedance-python"; /* with its NUL */

const char *python_target(const char *path) { return path + strlen(path) + 1; }

const char *python_next(const char *path)
{
    const char *target = python_target(path);
    return target + strlen(target) + 1;
}

int python_capture(char *const *argv, int keep, char *text, size_t n, double timeout_s)
{
    int p[2];
    text[0] = 0;
    if (pipe2(p, O_CLOEXEC)) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        int out = fcntl(p[1], F_DUPFD, keep + 2), null = open("/dev/null", O_RDONLY);
        if (null > 0) dup2(null, 0);
        dup2(out, 1);
        dup2(out, 2);
        close_range((unsigned)keep, ~0u, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        execv(argv[0], argv);
        dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(126);
    }
    close(p[1]);
    size_t at = 0;
    int st = 0;
    pid_t ended = 0;
    bool late = false, open = true;
    const double end = wire_now() + timeout_s;
    while (pid > 0 && !late) {
        char more[512];
        struct pollfd f = {p[0], POLLIN, 0};
        int ready = poll(&f, open, ended ? 0 : open ? 20 : 1);
        if (ready > 0) {
            ssize_t k = read(p[0], more, sizeof more);
            open = k > 0;
            if (k > (ssize_t)(n - 1 - at)) k = (ssize_t)(n - 1 - at); /* the rest is not looked at */
            if (k > 0) memcpy(text + at, more, (size_t)k);
            if (k > 0) at += (size_t)k;
        } else if (ended) { /* all it said is read; what it started may hold the pipe open: that is not waited for */
            break;
        } else {
            ended = waitpid(pid, &st, WNOHANG);
        }
        late = wire_now() > end;
    }
    close(p[0]);
    text[at] = 0;
    if (pid < 0) return -1;
    kill(-pid, SIGKILL);
    while (ended == 0 && (ended = waitpid(pid, &st, 0)) < 0 && errno == EINTR) ended = 0;
    if (ended < 0) return -1;
    return late ? -1 : WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static const char *make_printable(char *text)
{
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    return text;
}

const char *python_last_line(char *text)
{
    for (size_t n = strlen(text); n && (unsigned char)text[n - 1] <= ' '; n--) text[n - 1] = 0;
    char *nl = strrchr(text, '\n');
    return make_printable(nl ? nl + 1 : text);
}

static status check_file(const char *path)
{
    struct stat s;
    if (path[0] != '/') return FAIL(ST_EINVAL, "sandbox.python: %s: give the interpreter's whole path", path);
    if (stat(path, &s) && errno == EACCES)
        return FAIL(
            ST_EINVAL,
            "sandbox.python: %s: the user that boxes run as (id %u) may not reach it; open the folders above it "
            "with chmod o+x",
            path, geteuid());
    if (stat(path, &s)) return FAIL(ST_EINVAL, "sandbox.python: %s: %s", path, strerror(errno));
    if (S_ISDIR(s.st_mode)) return FAIL(ST_EINVAL, "sandbox.python: %s is a folder; name its bin/python", path);
    if (!S_ISREG(s.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS))
        return FAIL(ST_EINVAL, "sandbox.python: %s is not a program that the user boxes run as (id %u) may execute",
                    path, geteuid());
    return ST_OK;
}

status python_find(const char *path, python_env *out)
{
    TRY(check_file(path));
    static char text[PYTHON_PATHS + 4096];
    const char *home = getenv("HOME");
    const struct passwd *pw = getpwuid(getuid());
    char *const argv[] = {(char *)path,
                          (char *)"-I",
                          (char *)"-S",
                          (char *)"-B",
                          (char *)"-c",
                          (char *)ask,
                          (char *)(home ? home : "/root"),
                          (char *)(pw && pw->pw_dir ? pw->pw_dir : "/root"),
                          NULL};
    memset(text, 0, sizeof text);
    int rc = python_capture(argv, 3, text, sizeof text - 4, 60); /* what is behind stays zero: no string runs out */
    const char *end = text + sizeof text;
    char *at = memmem(text, sizeof text, mark, sizeof mark);
    if (!at || rc) {
        const char *line = python_last_line(text);
        return FAIL(ST_EINVAL, "sandbox.python: %s is not a Python 3.8 or newer (%s%.200s)", path,
                    rc < 0  ? "no answer in a minute"
                    : *line ? "it said: "
                            : "it said nothing",
                    rc < 0 ? "" : line);
    }
    at += sizeof mark;
    if (*at) return FAIL(ST_EINVAL, "sandbox.python: %s: %s", path, make_printable(at));
    at++;
    const char *exe = at;
    at += strlen(at) + 1;
    const char *last = at;
    int n = 0;
    bool whole = *exe == '/';
    for (; last < end && *last; last = python_next(last), n++) whole &= *last == '/' && !strstr(last, "/../");
    if (!whole) return FAIL(ST_EINVAL, "sandbox.python: %s tells of folders without their whole path", path);
    if (strlen(exe) >= sizeof out->exe || last >= end || (size_t)(last - at) >= sizeof out->paths || n > PYTHON_MOUNTS)
        return FAIL(ST_EINVAL, "sandbox.python: %s needs too many folders", path);
    snprintf(out->exe, sizeof out->exe, "%s", exe);
    memcpy(out->paths, at, (size_t)(last - at));
    out->paths[last - at] = 0;
    for (int i = 0; i < PYTHON_MOUNTS; i++) out->mounts[i] = -1;
    return ST_OK;
}
