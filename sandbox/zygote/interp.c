#include "sandbox/zygote/interp.h"
#include "sandbox/zygote/repeat.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/zygote/python_api.h"

static struct {
    PyObject *run, *open_box, *preset;
    const box_limits *limits;
    /* of the turn under way */
    int image_fd;
    int64_t image_end;
    wire_claim *claim;
} py;

static PyObject *new_ref(PyObject *o)
{
    if (o) Py_IncRef(o);
    return o;
}

static void drop(PyObject *o)
{
    if (o) Py_DecRef(o);
}

static const char *utf8(PyObject *s) { return s ? PyUnicode_AsUTF8AndSize(s, NULL) : NULL; }

/* Text of the pending exception, which is cleared. */
static void take_error(char *type, size_t n_type, char *text, size_t n_text)
{
    PyObject *t, *v, *tb;
    PyErr_Fetch(&t, &v, &tb);
    PyErr_NormalizeException(&t, &v, &tb);
    PyObject *s = v ? PyObject_Str(v) : NULL, *name = t ? PyObject_GetAttrString(t, "__name__") : NULL;
    const char *text_of = utf8(s), *name_of = utf8(name);
    snprintf(type, n_type, "%s", name_of ? name_of : "Exception");
    snprintf(text, n_text, "%s", text_of ? text_of : "");
    PyErr_Clear();
    PyObject *const all[] = {s, name, t, v, tb};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
}

static status fail_python(const char *what)
{
    char type[64], text[300];
    take_error(type, sizeof type, text, sizeof text);
    return FAIL(ST_EUNAVAIL, "%s: %s: %s", what, type, text);
}

static int write_all(int fd, const char *p, int64_t n, int64_t at)
{
    while (n > 0) {
        ssize_t k = pwrite(fd, p, (size_t)n, at);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return -1;
        p += k;
        at += k;
        n -= k;
    }
    return 0;
}

/* emit(rgb, w, h): keeps one picture; beyond the number allowed per turn it is counted and dropped. */
static PyObject *emit(PyObject *self, PyObject *args)
{
    (void)self;
    Py_buffer b;
    PyObject *rgb;
    long long w, h;
    if (!PyArg_ParseTuple(args, "OLL", &rgb, &w, &h) || PyObject_GetBuffer(rgb, &b, PyBUF_SIMPLE)) return NULL;
    wire_claim *c = py.claim;
    const box_limits *l = py.limits;
    PyObject *result = NULL;
    if (!c) {
        PyErr_SetString(PyExc_RuntimeError, "no turn is running");
    } else if (w < 1 || h < 1 || w > l->image_max_side || h > l->image_max_side || w * h > l->image_max_pixels ||
               w > 200 * h || h > 200 * w || b.len != 3 * w * h) {
        PyErr_Format(PyExc_ValueError,
                     "cannot show a picture of %lldx%lld: sides 1 to %lld, at most %lld pixels, aspect at most 200", w,
                     h, (long long)l->image_max_side, (long long)l->image_max_pixels);
    } else if (c->n_image >= l->images_per_turn || py.image_end + b.len > WIRE_IMAGE_BYTES) {
        c->images_dropped++;
        result = new_ref(Py_None);
    } else if (write_all(py.image_fd, b.buf, b.len, py.image_end)) {
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        c->image[c->n_image++] = (wire_image){(int32_t)w, (int32_t)h, py.image_end};
        py.image_end += b.len;
        result = new_ref(Py_None);
    }
    PyBuffer_Release(&b);
    return result;
}
static PyMethodDef emit_def = {"emit", emit, METH_VARARGS, NULL};

static PyObject *child_seed(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    return Py_BuildValue("K", (unsigned long long)repeat_child_seed());
}
static PyMethodDef child_seed_def = {"child_seed", child_seed, METH_VARARGS, NULL};

/* What libraries want done in a forked child is for processes with threads (locks to renew), and it costs every turn a
 * tenth of its pages: it is done only when there are threads. The random module's wish to reseed itself is dropped:
 * turns are forks, and their numbers must continue. */
static const char hold_hooks[] = "import os\n"
                                 "_register, _hooks = os.register_at_fork, []\n"
                                 "os.register_at_fork = lambda **k: None\n"
                                 "import random\n"
                                 "os.register_at_fork = lambda **k: _hooks.append(k.get('after_in_child'))\n"
                                 "import threading, logging\n"
                                 "_active = threading._active\n"
                                 "def _in_child():\n"
                                 "    seed = child_seed()\n"
                                 "    if seed: random.seed(seed)\n"
                                 "    if len(_active) > 1:\n"
                                 "        for f in _hooks:\n"
                                 "            if f is not None: f()\n";
static const char release_hooks[] = "os.register_at_fork = _register\n"
                                    "_register(after_in_child=_in_child)\n";

static status run_part(const char *part, PyObject *ns, const char *what)
{
    PyObject *code = Py_CompileString(part, "<sandbox>", Py_file_input);
    PyObject *done = code ? PyEval_EvalCode(code, ns, ns) : NULL;
    drop(code);
    drop(done);
    return done ? ST_OK : fail_python(what);
}

/* Each by itself, so that what is wrong has a name. */
static status import_modules(const char *modules, const jail *j)
{
    for (const char *m = modules; *m; m += strlen(m) + 1) {
        PyObject *mod = PyImport_ImportModule(m);
        if (!mod) {
            (void)fail_python(m);
            return fail_within(ST_EUNAVAIL, "sandbox.imports");
        }
        Py_DecRef(mod);
        int n = jail_threads(j);
        if (n != 1)
            return FAIL(
                ST_EINVAL,
                "sandbox.imports: %s starts threads (%d run), which a fork would lose: leave it out here and let "
                "the code import it",
                m, n);
    }
    return ST_OK;
}

status interp_start(const char *modules, const char *preset, const box_limits *l, const jail *j)
{
    py.limits = l;
    repeat_start(0);
    signal(SIGXFSZ, SIG_IGN); /* a write past the limit is EFBIG, an OSError in Python */
    PyObject *ns = PyDict_New();
    if (!ns || PyDict_SetItemString(ns, "__builtins__", PyEval_GetBuiltins())) return fail_python("sandbox start");
    TRY(run_part(hold_hooks, ns, "sandbox start"));
    PyMethodDef *const functions[] = {&emit_def, &child_seed_def};
    for (int i = 0; i < 2; i++) {
        PyObject *f = PyCFunction_NewEx(functions[i], NULL, NULL);
        if (!f || PyDict_SetItemString(ns, functions[i]->ml_name, f)) return fail_python("sandbox start");
        Py_DecRef(f);
    }
    TRY(run_part(j->tier < BOX_T2 ? "no_files = False\n" : "no_files = True\n", ns, "sandbox prelude"));
    for (const char *const *part = prelude_parts; *part; part++) TRY(run_part(*part, ns, "sandbox prelude"));
    TRY(run_part("_hook_libraries()\n", ns, "sandbox prelude"));
    TRY(import_modules(modules, j));
    TRY(run_part(release_hooks, ns, "sandbox start"));
    py.run = new_ref(PyDict_GetItemString(ns, "run"));
    py.open_box = new_ref(PyDict_GetItemString(ns, "open_box"));
    py.preset = new_ref(Py_None);
    if (*preset && !(py.preset = Py_CompileString(preset, "<preset>", Py_file_input))) {
        (void)fail_python("sandbox.preset");
        return ST_EINVAL;
    }
    return run_part("warm(); import gc; gc.collect(); gc.freeze()\n", ns, "sandbox start");
}

void interp_before_fork(void) { PyOS_BeforeFork(); }
void interp_after_fork_parent(void) { PyOS_AfterFork_Parent(); }
void interp_after_fork_child(void) { PyOS_AfterFork_Child(); }

static void claim_error(wire_claim *c, const char *where)
{
    char text[WIRE_MESSAGE_MAX - 64];
    c->kind = CLAIM_ERROR;
    take_error(c->type, sizeof c->type, text, sizeof text);
    snprintf(c->message, sizeof c->message, "%s%s", where, text);
    c->message_len = (int32_t)strlen(c->message);
}

/* [(w, h, RGBX bytes, the same as they came), ...] of the memfd the client sealed, mapped for as long as the process
 * lives, once copy-on-write and once to be read: a picture costs only the pages that the code looks at. */
static PyObject *pictures(int input)
{
    struct stat s;
    if (input < 0) return new_ref(Py_None);
    if (fstat(input, &s) || s.st_size < (off_t)sizeof(wire_input)) s.st_size = 0;
    void *map = mmap(NULL, (size_t)s.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, input, 0);
    char *came = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, input, 0);
    if (map == MAP_FAILED || came == MAP_FAILED) return PyErr_Format(PyExc_OSError, "input pictures are unreadable");
    const wire_input *in = map;
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < in->n && i < WIRE_INPUTS; i++) {
        wire_image im = in->image[i];
        if (im.offset + 4ll * im.w * im.h > s.st_size) {
            drop(list);
            return PyErr_Format(PyExc_OSError, "input picture %d is unreadable", i);
        }
        Py_ssize_t n = (Py_ssize_t)4 * im.w * im.h;
        PyObject *m = PyMemoryView_FromMemory((char *)map + im.offset, n, PyBUF_WRITE);
        PyObject *c = m ? PyMemoryView_FromMemory(came + im.offset, n, PyBUF_READ) : NULL;
        PyObject *t = c ? Py_BuildValue("(iiNN)", im.w, im.h, m, c) : NULL;
        if (!t || PyList_Append(list, t)) {
            drop(list);
            list = NULL;
        }
        drop(t);
    }
    return list;
}

int interp_open_box(uint64_t seed, int input, wire_claim *claim)
{
    repeat_start(seed);
    PyObject *list = pictures(input);
    PyObject *r = list ? PyObject_CallFunction(py.open_box, "KNO", (unsigned long long)seed, list, py.preset) : NULL;
    if (!r) claim_error(claim, "before the first turn (sandbox.preset): ");
    drop(r);
    return r ? 0 : -1;
}

void interp_run(const char *code, size_t len, uint32_t turn, int image_fd, wire_claim *c)
{
    c->n_image = c->images_dropped = 0;
    py.claim = c;
    py.image_fd = image_fd;
    py.image_end = 0;
    char name[32];
    snprintf(name, sizeof name, "<turn %u>", turn);
    PyObject *source = PyUnicode_DecodeUTF8(code, (Py_ssize_t)len, "replace");
    PyObject *r = source ? PyObject_CallFunction(py.run, "Os", source, name) : NULL, *message;
    int kind, exit_code, line;
    const char *type, *text, *source_line;
    Py_ssize_t n_text;
    if (r && PyArg_ParseTuple(r, "iisOis", &kind, &exit_code, &type, &message, &line, &source_line) &&
        (text = PyUnicode_AsUTF8AndSize(message, &n_text))) {
        c->kind = kind;
        c->code = exit_code;
        c->line = line;
        snprintf(c->type, sizeof c->type, "%s", type);
        snprintf(c->source, sizeof c->source, "%s", source_line);
        c->message_len = (int32_t)(n_text < WIRE_MESSAGE_MAX ? n_text : WIRE_MESSAGE_MAX);
        memcpy(c->message, text, (size_t)c->message_len);
    } else {
        claim_error(c, "");
    }
    PyErr_Clear();
    drop(r);
    drop(source);
    py.claim = NULL;
    PyObject *loaded = PyImport_GetModuleDict();
    c->mapped = loaded && PyDict_GetItemString(loaded, "mmap") != NULL;
    struct rusage u;
    getrusage(RUSAGE_CHILDREN, &u);
    c->children_cpu_us = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000ll + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
    getrusage(RUSAGE_SELF, &u);
    c->max_rss_kib = u.ru_maxrss;
}

void interp_trial(bool first)
{
    static wire_claim c;
    if (first) (void)interp_open_box(0, -1, &c);
    interp_run(prelude_trial, strlen(prelude_trial), first ? 1 : 2, memfd_create("box-images", MFD_CLOEXEC), &c);
}
