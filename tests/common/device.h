/* Which backend a test runs on: the CPU, unless its command line says --gpu (this machine's first GPU; SKIP without) or
 * --plugin FILE (the stand-in of tests/cuda_emu). --fp32: activations of the GPU in fp32, else bf16. */
#ifndef TESTS_COMMON_DEVICE_H
#define TESTS_COMMON_DEVICE_H

#include "core/ops.h"

/* Reads these options and takes them off argv. Ends the program with 77 when there is no GPU, with 1 when the plug-in
 * can't be opened. */
void device_args(int *argc, char **argv);
/* The same for a test that is about GPUs: without options, this machine's. */
void device_gpu(int *argc, char **argv);
bool device_is_gpu(void);
dtype device_act(void);
backend *device_open(dtype act); /* CHECKs success; close with b->close(b) */
/* Changes the order in which the stand-in runs the threads of a block; nothing on other devices. */
void device_thread_order(unsigned seed);

/* The values of a tensor of fp32 or bf16, malloc'd. CHECKs success. */
float *device_floats(backend *b, const tensor *t);

#endif
