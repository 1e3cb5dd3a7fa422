/* The CUDA backend: opening, memory, errors. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/cuda.cuh"

namespace {

const char *const op_names[] = {
#define OP_NAME(name, args) #name,
    OPS(OP_NAME)
#undef OP_NAME
};

enum { MIN_MAJOR = 8 }; /* compute capability: bf16 in the tensor cores */

double mib(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

status out_of_memory(cuda *c, size_t bytes)
{
    size_t left = 0, all = 0;
    (void)cudaGetLastError(); /* forgets it: the next call starts clean */
    (void)cudaMemGetInfo(&left, &all);
    return FAIL(ST_ENOMEM, "out of memory on %s: %.1f MiB wanted, %.1f of %.1f MiB free", c->name, mib(bytes), mib(left),
                mib(all));
}

status alloc(backend *b, size_t bytes, void **out)
{
    cuda *c = cuda_of(b);
    void *p = nullptr;
    cudaError_t e = cudaMalloc(&p, bytes ? bytes : 1);
    if (e == cudaErrorMemoryAllocation) return out_of_memory(c, bytes);
    if (e == cudaSuccess) e = cudaMemsetAsync(p, 0, bytes, c->stream);
    if (e != cudaSuccess) return FAIL(ST_EDEVICE, "%s: cudaMalloc: %s", c->name, cudaGetErrorString(e));
    *out = p;
    return ST_OK;
}

void release(backend *b, void *p)
{
    cuda *c = cuda_of(b);
    if (!p) return;
    cuda_error(c, cudaStreamSynchronize(c->stream), "cudaStreamSynchronize");
    cuda_weights_gone(c); /* p may hold weights */
    cuda_error(c, cudaFree(p), "cudaFree");
}

/* src may be reused at once: the runtime copies pageable memory before it returns. */
void upload(backend *b, tensor *dst, const void *src)
{
    cuda *c = cuda_of(b);
    size_t bytes = tensor_bytes(dst);
    if (bytes == 0) return;
    cuda_error(c, cudaMemcpyAsync(dst->data, src, bytes, cudaMemcpyHostToDevice, c->stream), "upload");
    cuda_weights_stale(c, dst->data, bytes);
}

void download(backend *b, void *dst, const tensor *src)
{
    cuda *c = cuda_of(b);
    size_t bytes = tensor_bytes(src);
    if (bytes == 0) return;
    cuda_error(c, cudaMemcpyAsync(dst, src->data, bytes, cudaMemcpyDeviceToHost, c->stream), "download");
    cuda_error(c, cudaStreamSynchronize(c->stream), "download");
}

void params_changed(backend *b) { cuda_weights_stale(cuda_of(b), nullptr, 0); }

status fault_status(cuda *c, const fault *f)
{
    const char *op = op_names[f->op];
    switch (f->kind) {
    case FAULT_INDEX:
        return FAIL(ST_EDEVICE, "%s: %s: index %lld is outside [0, %lld)", c->name, op, f->value, f->limit);
    case FAULT_SEGMENTS:
        return FAIL(ST_EDEVICE, "%s: %s: segments must ascend from 0 to %lld; one ends at %lld", c->name, op, f->limit,
                    f->value);
    default:
        return FAIL(ST_EDEVICE, "%s: %s: a context of %lld tokens does not fit: limit %lld", c->name, op, f->value,
                    f->limit);
    }
}

status sync_all(backend *b)
{
    cuda *c = cuda_of(b);
    fault f = {};
    cuda_error(c, cudaMemcpyAsync(&f, c->faults, sizeof f, cudaMemcpyDeviceToHost, c->stream), "sync");
    cuda_error(c, cudaStreamSynchronize(c->stream), "sync");
    status st = b->first_error;
    b->first_error = ST_OK;
    if (f.kind == FAULT_NONE) return st;
    cuda_error(c, cudaMemsetAsync(c->faults, 0, sizeof f, c->stream), "sync");
    return st != ST_OK ? st : fault_status(c, &f);
}

/* Multiply-adds a multiprocessor finishes in a clock, from the vendor's tables of dense rates: bf16 in tensor cores
 * (A100 312 TFLOP/s, H100 989, B200 2250), fp32 outside them. 0: a chip not in the table. */
int multiply_adds(int major, dtype type)
{
    switch (major) {
    case 8: return type == DT_BF16 ? 1024 : 64;
    case 9: return type == DT_BF16 ? 2048 : 128;
    case 10: return type == DT_BF16 ? 4096 : 128;
    default: return 0;
    }
}

double peak_gflops(backend *b)
{
    cuda *c = cuda_of(b);
    int major = 0, minor = 0, processors = 0, khz = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, c->device) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, c->device) != cudaSuccess || minor != 0 ||
        cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, c->device) != cudaSuccess ||
        cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, c->device) != cudaSuccess)
        return 0;
    return 2.0 * multiply_adds(major, b->act) * processors * khz * 1e-6;
}

void close_cuda(backend *b)
{
    cuda *c = cuda_of(b);
    if (c->stream) {
        (void)cudaStreamSynchronize(c->stream);
        (void)cudaStreamDestroy(c->stream);
    }
    cuda_weights_gone(c);
    (void)cudaFree(c->scratch);
    (void)cudaFree(c->faults);
    free(c);
}

void fill_table(cuda *c)
{
    backend *b = &c->base;
    b->name = c->name;
    b->impl = c;
    b->alloc = alloc;
    b->release = release;
    b->upload = upload;
    b->download = download;
    b->params_changed = params_changed;
    b->sync = sync_all;
    b->peak_gflops = peak_gflops;
    b->close = close_cuda;
#define OPS_ENTRY(name, args) b->name = cuda_##name;
    OPS(OPS_ENTRY)
#undef OPS_ENTRY
}

status open_device(cuda *c)
{
    int count = 0, driver = 0, runtime = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && count == 0))
        return FAIL(ST_EUNAVAIL, "%s: this machine has no CUDA device; use device cpu", c->name);
    if (e != cudaSuccess && driver < runtime)
        return FAIL(ST_EUNAVAIL, "%s: the driver %s (CUDA %d.%d is needed); use device cpu", c->name,
                    driver ? "is too old" : "is missing", runtime / 1000, runtime % 1000 / 10);
    if (e != cudaSuccess) return FAIL(ST_EUNAVAIL, "%s: %s", c->name, cudaGetErrorString(e));
    if (c->device >= count)
        return FAIL(ST_EUNAVAIL, "%s: this machine has %d CUDA device%s, 0 to %d", c->name, count, count == 1 ? "" : "s",
                    count - 1);
    cudaDeviceProp p;
    e = cudaGetDeviceProperties(&p, c->device);
    if (e != cudaSuccess) return FAIL(ST_EDEVICE, "%s: %s", c->name, cudaGetErrorString(e));
    if (p.major < MIN_MAJOR)
        return FAIL(ST_EUNAVAIL, "%s: %s has compute capability %d.%d; %d.0 is needed", c->name, p.name, p.major, p.minor,
                    MIN_MAJOR);
    c->processors = p.multiProcessorCount;
    snprintf(c->base.describe, sizeof c->base.describe, "%s %.80s, %.0f GiB, %s", c->name, p.name,
             mib(p.totalGlobalMem) / 1024, dtype_name(c->base.act));
    e = cudaSetDevice(c->device);
    if (e == cudaSuccess) e = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    void *faults = nullptr;
    if (e == cudaSuccess) e = cudaMalloc(&faults, sizeof(fault));
    c->faults = static_cast<fault *>(faults);
    if (e == cudaSuccess) e = cudaMemsetAsync(faults, 0, sizeof(fault), c->stream);
    if (e == cudaErrorMemoryAllocation) return out_of_memory(c, sizeof(fault));
    return e == cudaSuccess ? ST_OK : FAIL(ST_EDEVICE, "%s: %s", c->name, cudaGetErrorString(e));
}

} // namespace

void cuda_error(cuda *c, cudaError_t e, const char *what)
{
    if (e == cudaSuccess || c->base.first_error != ST_OK) return;
    c->base.first_error = e == cudaErrorMemoryAllocation
                              ? out_of_memory(c, 0)
                              : FAIL(ST_EDEVICE, "%s: %s: %s", c->name, what, cudaGetErrorString(e));
}

void *cuda_scratch(cuda *c, size_t bytes)
{
    if (bytes <= c->scratch_bytes) return c->scratch;
    cuda_error(c, cudaStreamSynchronize(c->stream), "cudaStreamSynchronize"); /* the old one may be in use */
    (void)cudaFree(c->scratch);
    c->scratch = nullptr;
    c->scratch_bytes = 0;
    cudaError_t e = cudaMalloc(&c->scratch, bytes);
    if (e == cudaSuccess) {
        c->scratch_bytes = bytes;
        return c->scratch;
    }
    c->scratch = nullptr;
    if (c->base.first_error == ST_OK)
        c->base.first_error = e == cudaErrorMemoryAllocation ? out_of_memory(c, bytes) : ST_EDEVICE;
    return nullptr;
}

/* The plug-in's one exported function; its messages are the program's own (core is resolved from there). */
extern "C" __attribute__((visibility("default"))) status codedance_cuda_open(backend **out, int device, dtype act)
{
    cuda *c = static_cast<cuda *>(calloc(1, sizeof *c));
    if (!c) return FAIL(ST_ENOMEM, "out of memory for the CUDA backend");
    c->device = device;
    snprintf(c->name, sizeof c->name, "cuda:%d", device);
    fill_table(c);
    c->base.act = act;
    status st = open_device(c);
    if (st != ST_OK) {
        close_cuda(&c->base);
        return st;
    }
    *out = &c->base;
    return ST_OK;
}
