/* The doors to the backends. Only launch, tests and benchmarks include this. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include "core/ops.h"

/* isa: "auto", "avx512", "avx2", "generic"; asking for one this CPU lacks is ST_EUNAVAIL. threads 0 = all CPUs. */
status backend_open_cpu(backend **out, int threads, const char *isa);
/* Loads codedance_cuda.so (next to the executable, or plugin if not NULL). act: of activations, DT_F32 or DT_BF16.
 * ST_EUNAVAIL with the reason: plug-in not built, libraries missing, no driver, no device, device index out of range. */
status backend_open_cuda(backend **out, int device, dtype act, const char *plugin);
void backend_close(backend *b);

/* What the machine offers, for doctor. */
const char *cpu_isa_best(void);
bool cpu_isa_has(const char *isa);

#endif
