/* codedance-zygote.so: what an interpreter of the user's own loads to serve as the zygote. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sandbox/zygote/python_api.h"
#include "sandbox/zygote/zygote.h"

/* Undoes what differs from the built-in interpreter's start. */
static const char undo[] =
    "import sys, os, _signal\n"
    "_signal.signal(2, _signal.SIG_DFL) # the runner must stay deaf to signals from inside\n"
    "sys.argv = ['']\n"
    "if hasattr(sys, 'orig_argv'): sys.orig_argv = [sys.executable]\n"
    "sys.path[:] = [p for p in sys.path if p]\n"
    "for k in ('LD_BIND_NOW', 'LD_PRELOAD', 'LD_LIBRARY_PATH', 'GLIBC_TUNABLES', 'PYTHONUTF8', 'PYTHONNOUSERSITE', "
    "'PYTHONSAFEPATH', "
    "'PYTHONDONTWRITEBYTECODE'): os.environ.pop(k, None)\n"
    "sys.modules.pop('random', None) # if site-packages loaded it: the new one will not wish to be reseeded by forks\n"
    "import __main__\n"
    "for k in ('S', 'sys', '_imp'): __main__.__dict__.pop(k, None)\n";

/* From here on arenas come from malloc, as embed.c has it from the start; earlier ones go back where they came from. */
static struct {
    PyObjectArenaAllocator before;
    void *own[1024];
    size_t n;
} arenas;

static void *arena_new(void *ctx, size_t n)
{
    (void)ctx;
    if (arenas.n == sizeof arenas.own / sizeof *arenas.own) return arenas.before.alloc(arenas.before.ctx, n);
    void *arena = malloc(n);
    if (arena) arenas.own[arenas.n++] = arena;
    return arena;
}

static void arena_free(void *ctx, void *arena, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < arenas.n; i++)
        if (arenas.own[i] == arena) {
            arenas.own[i] = arenas.own[--arenas.n];
            free(arena);
            return;
        }
    arenas.before.free(arenas.before.ctx, arena, n);
}

static status run(const char *code)
{
    PyObject *ns = PyDict_New(), *compiled = Py_CompileString(code, "<sandbox>", Py_file_input);
    if (ns && compiled && PyDict_SetItemString(ns, "__builtins__", PyEval_GetBuiltins()) == 0 &&
        PyEval_EvalCode(compiled, ns, ns))
        return ST_OK;
    return FAIL(ST_EUNAVAIL, "sandbox.python: its start cannot be undone");
}

static status attach(zygote_state *z)
{
    status st = read(BECOME_STATE, z, sizeof *z) == (ssize_t)sizeof *z && z->size == sizeof *z
                    ? ST_OK
                    : FAIL(ST_ESYS, "sandbox.python: codedance-zygote.so is of another build than codedance-zygote");
    z->j.python = &z->python;
    z->j.proc = BECOME_PROC;
    z->j.pidns = z->j.tier < BOX_T2 ? BECOME_PIDNS : -1;
    return st;
}

/* What was there for the start only. */
static void clear_root(void)
{
    char folder[] = BECOME_THP;
    unlink(BECOME_FILE);
    unlink(BECOME_THP "/enabled");
    unlink(BECOME_THP "/hpage_pmd_size");
    for (; *folder; *strrchr(folder, '/') = 0) rmdir(folder);
}

__attribute__((visibility("default"))) PyObject *PyInit_codedance_trial(void)
{
    PyErr_SetString(PyExc_ImportError, "trial");
    return NULL;
}

__attribute__((visibility("default"))) PyObject *PyInit_codedance_zygote(void)
{
    static zygote_state z;
    lseek(BECOME_STATE, 0, SEEK_SET);
    status st = attach(&z);
    close(BECOME_STATE);
    close(BECOME_LIBRARY);
    close_range(BECOME_FDS, ~0u, 0);
    for (int i = BECOME_SOCK; i < BECOME_FDS; i++) fcntl(i, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "box-zygote");
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (z.j.tier < BOX_T2) clear_root();
    PyObject_GetArenaAllocator(&arenas.before);
    PyObject_SetArenaAllocator(&(PyObjectArenaAllocator){NULL, arena_new, arena_free});
    if (st == ST_OK) st = run(undo);
    _exit(zygote_serve(&z, BECOME_SOCK, st));
}
