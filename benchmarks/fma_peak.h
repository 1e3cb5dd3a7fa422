/* The machine's fp32 multiply-add peak, measured: the yardstick every CPU figure is reported against. */
#ifndef BENCHMARKS_FMA_PEAK_H
#define BENCHMARKS_FMA_PEAK_H

/* Best of several short runs of independent vector FMA chains on `threads` threads at once, in GFLOP/s (1 FMA = 2). */
double fma_peak_gflops(int threads);

#endif
