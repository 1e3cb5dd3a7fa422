#define PY_SSIZE_T_CLEAN
#include <Python.h> /* wants to be first */

#include <stdlib.h>

#include "sandbox/zygote/python_api.h" /* unused here: the compiler compares it with Python.h */
#include "sandbox/zygote/zygote.h"

/* Python's arenas come from malloc too, not from mappings of their own: one heap in huge pages, which a fork copies
 * quickly. */
static void *arena_new(void *ctx, size_t n)
{
    (void)ctx;
    return malloc(n);
}

static void arena_free(void *ctx, void *arena, size_t n)
{
    (void)ctx;
    (void)n;
    free(arena);
}

status embed_python(void)
{
    PyPreConfig pre;
    PyPreConfig_InitIsolatedConfig(&pre);
    pre.utf8_mode = 1;
    PyStatus st = Py_PreInitialize(&pre);
    if (PyStatus_Exception(st)) return FAIL(ST_EUNAVAIL, "Python does not start: %s", st.err_msg);
    PyObject_SetArenaAllocator(&(PyObjectArenaAllocator){NULL, arena_new, arena_free});
    PyConfig c;
    PyConfig_InitIsolatedConfig(&c);
    c.use_hash_seed = 1;
    c.hash_seed = 0;
    c.install_signal_handlers = 0; /* the runner must stay deaf to signals from inside */
    c.write_bytecode = 0;
    c.parse_argv = 0;
    st = PyConfig_SetString(&c, &c.program_name, L"/usr/bin/python3");
    if (!PyStatus_Exception(st)) st = PyConfig_SetString(&c, &c.stdio_encoding, L"utf-8");
    if (!PyStatus_Exception(st)) st = PyConfig_SetString(&c, &c.stdio_errors, L"backslashreplace");
    if (!PyStatus_Exception(st)) st = Py_InitializeFromConfig(&c);
    PyConfig_Clear(&c);
    return PyStatus_Exception(st) ? FAIL(ST_EUNAVAIL, "Python does not start: %s", st.err_msg) : ST_OK;
}
