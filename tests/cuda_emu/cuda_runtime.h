/* A stand-in for the CUDA runtime: kernels/cuda compiled by a host compiler, every thread of a block a fiber, so that
 * its kernels run, step by step and for certain, on a machine without a GPU. It proves indexing, synchronisation and
 * arithmetic, not speed, and not what only hardware does; a GPU runs the same cases through tests/test_cuda.c.
 *
 * Stricter than a GPU: device memory can't be touched by host code, each allocation ends at a guard page, shared memory
 * is NaN when a block starts, a barrier that not every thread reaches ends the program with the kernel's name, and the
 * order in which threads run can be changed (emu_order), which shows races as different bits. */
#ifndef TESTS_CUDA_EMU_CUDA_RUNTIME_H
#define TESTS_CUDA_EMU_CUDA_RUNTIME_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("cuda_shared")))
#define UNROLL
#define DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(emu_dynamic_shared)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };

extern dim3 threadIdx, blockIdx, blockDim, gridDim;
extern unsigned char *emu_dynamic_shared;
extern "C" void emu_order(unsigned seed); /* of the threads of a block; 0: ascending */

/* ---- device functions ---- */
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
uint64_t emu_exchange(unsigned mask, uint64_t mine, int from_lane); /* what that lane of my warp gave */
unsigned __ballot_sync(unsigned mask, int yes);
/* What all lanes of my warp gave, up to 32 bytes each; it stays until my next exchange but one. */
struct emu_slot {
    unsigned char bytes[32];
};
const emu_slot *emu_gather(const void *mine, size_t bytes);
/* cp.async of 16 bytes: the copy happens when its thread waits for it, until then the place is NaN. */
void emu_copy_begin(void *to, const void *from, int bytes);
void emu_copy_commit();
void emu_copy_wait(int groups_left);
[[noreturn]] void emu_die(const char *why);

enum { warpSize = 32 };
inline int emu_lane() { return static_cast<int>(threadIdx.x) % warpSize; }
template <class T> T emu_from(unsigned mask, T x, int lane)
{
    uint64_t bits = 0;
    static_assert(sizeof x <= sizeof bits, "a register or two");
    memcpy(&bits, &x, sizeof x);
    bits = emu_exchange(mask, bits, lane);
    memcpy(&x, &bits, sizeof x);
    return x;
}
template <class T> T __shfl_sync(unsigned mask, T x, int from, int width = warpSize)
{
    return emu_from(mask, x, emu_lane() / width * width + from % width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T x, int with, int width = warpSize)
{
    int to = emu_lane() ^ with;
    return emu_from(mask, x, to / width <= emu_lane() / width ? to : emu_lane());
}
template <class T> T __shfl_down_sync(unsigned mask, T x, int by, int width = warpSize)
{
    return emu_from(mask, x, emu_lane() % width + by < width ? emu_lane() + by : emu_lane());
}
template <class T> T atomicCAS(T *at, T want, T then)
{
    T was = *at;
    if (was == want) *at = then;
    return was;
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32); }
inline void __threadfence() {}

/* ---- host functions ---- */
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2, cudaErrorNoDevice = 100,
                   cudaErrorInvalidDevice = 101 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum { cudaStreamNonBlocking = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t sharedMemPerBlockOptin, totalGlobalMem;
};
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};
const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
enum cudaDeviceAttr { cudaDevAttrClockRate = 13, cudaDevAttrMultiProcessorCount = 16, cudaDevAttrComputeCapabilityMajor = 75,
                      cudaDevAttrComputeCapabilityMinor = 76 };
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr a, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMemGetInfo(size_t *left, size_t *all);
cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t s);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaGetLastError();
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
template <class F> cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int) { return cudaSuccess; }

typedef void emu_body(const void *call); /* one thread */
cudaError_t emu_launch(const cudaLaunchConfig_t *c, emu_body *body, const void *call, const char *kernel);
template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(P...), A &&...args)
{
    typedef std::pair<void (*)(P...), std::tuple<P...>> pending;
    pending call(kernel, std::tuple<P...>(std::forward<A>(args)...));
    return emu_launch(
        c, [](const void *p) { std::apply(static_cast<const pending *>(p)->first, static_cast<const pending *>(p)->second); },
        &call, __PRETTY_FUNCTION__);
}

#endif
