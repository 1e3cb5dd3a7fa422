/* What the zygote uses of CPython's C interface, declared here because the same code also enters interpreters whose
 * headers are not there: the symbols are resolved from whatever interpreter loads it. All of it is exported by every
 * CPython since 3.8 with these types: the stable ABI (PEP 384), Py_buffer (part of it since 3.11, the same before), the
 * fork hooks and the arena allocator. embed.c includes Python.h too, so that the compiler compares. */
#ifndef SANDBOX_PYTHON_API_H
#define SANDBOX_PYTHON_API_H

#include <stddef.h>
#include <sys/types.h>

#ifndef Py_PYTHON_H
typedef struct _object PyObject;
typedef ssize_t Py_ssize_t;
typedef PyObject *(*PyCFunction)(PyObject *, PyObject *);
typedef struct PyMethodDef {
    const char *ml_name;
    PyCFunction ml_meth;
    int ml_flags;
    const char *ml_doc;
} PyMethodDef;
enum { METH_VARARGS = 1, Py_file_input = 257, PyBUF_SIMPLE = 0, PyBUF_READ = 0x100, PyBUF_WRITE = 0x200 };
typedef struct Py_buffer {
    void *buf;
    PyObject *obj;
    Py_ssize_t len, itemsize;
    int readonly, ndim;
    char *format;
    Py_ssize_t *shape, *strides, *suboffsets;
    void *internal;
} Py_buffer;
typedef struct PyObjectArenaAllocator {
    void *ctx;
    void *(*alloc)(void *ctx, size_t size);
    void (*free)(void *ctx, void *ptr, size_t size);
} PyObjectArenaAllocator;
extern PyObject _Py_NoneStruct, *PyExc_RuntimeError, *PyExc_ValueError, *PyExc_OSError, *PyExc_ImportError;
#define Py_None (&_Py_NoneStruct)
#endif

/* Names in parentheses: some are macros as well in one version or another. */
void(Py_IncRef)(PyObject *);
void(Py_DecRef)(PyObject *);
PyObject *(PyObject_GetAttrString)(PyObject *, const char *);
PyObject *(PyObject_Str)(PyObject *);
PyObject *(PyObject_CallFunction)(PyObject *, const char *, ...);
int(PyObject_GetBuffer)(PyObject *, Py_buffer *, int);
void(PyBuffer_Release)(Py_buffer *);
PyObject *(PyMemoryView_FromMemory)(char *, Py_ssize_t, int);
PyObject *(Py_BuildValue)(const char *, ...);
int(PyArg_ParseTuple)(PyObject *, const char *, ...);
PyObject *(PyDict_New)(void);
PyObject *(PyDict_GetItemString)(PyObject *, const char *); /* borrowed */
int(PyDict_SetItemString)(PyObject *, const char *, PyObject *);
PyObject *(PyList_New)(Py_ssize_t);
int(PyList_Append)(PyObject *, PyObject *);
PyObject *(PyUnicode_DecodeUTF8)(const char *, Py_ssize_t, const char *);
const char *(PyUnicode_AsUTF8AndSize)(PyObject *, Py_ssize_t *);
PyObject *(PyCFunction_NewEx)(PyMethodDef *, PyObject *, PyObject *);
PyObject *(PyImport_ImportModule)(const char *);
PyObject *(PyImport_GetModuleDict)(void); /* borrowed */
PyObject *(PyEval_GetBuiltins)(void);     /* borrowed */
PyObject *(Py_CompileString)(const char *, const char *, int);
PyObject *(PyEval_EvalCode)(PyObject *, PyObject *, PyObject *);
void(PyErr_Fetch)(PyObject **, PyObject **, PyObject **);
void(PyErr_NormalizeException)(PyObject **, PyObject **, PyObject **);
void(PyErr_Clear)(void);
void(PyErr_SetString)(PyObject *, const char *);
PyObject *(PyErr_Format)(PyObject *, const char *, ...);
PyObject *(PyErr_SetFromErrno)(PyObject *);
void(PyOS_BeforeFork)(void);
void(PyOS_AfterFork_Parent)(void);
void(PyOS_AfterFork_Child)(void);
void(PyObject_GetArenaAllocator)(PyObjectArenaAllocator *);
void(PyObject_SetArenaAllocator)(PyObjectArenaAllocator *);

#endif
