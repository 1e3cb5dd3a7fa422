#include "tests/common/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

static bool gpu, fp32;
static const char *plugin;
static void (*thread_order)(unsigned seed);

static void try_device(void)
{
    backend *b = NULL;
    status st = backend_open_cuda(&b, 0, DT_F32, plugin);
    if (st != ST_OK) {
        fprintf(stderr, "%s%s\n", st == ST_EUNAVAIL && !plugin ? "SKIP: " : "", fail_message());
        exit(st == ST_EUNAVAIL && !plugin ? 77 : 1);
    }
    b->close(b);
    void *lib = plugin ? dlopen(plugin, RTLD_NOW) : NULL;
    if (lib) *(void **)&thread_order = dlsym(lib, "emu_order");
}

void device_args(int *argc, char **argv)
{
    int n = 1;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--gpu") == 0)
            gpu = true;
        else if (strcmp(argv[i], "--fp32") == 0)
            fp32 = true;
        else if (strcmp(argv[i], "--plugin") == 0 && i + 1 < *argc)
            gpu = true, plugin = argv[++i];
        else
            argv[n++] = argv[i];
    }
    *argc = n;
    if (gpu) try_device();
}

void device_gpu(int *argc, char **argv)
{
    device_args(argc, argv);
    if (gpu) return;
    gpu = true;
    try_device();
}

bool device_is_gpu(void) { return gpu; }
dtype device_act(void) { return gpu && !fp32 ? DT_BF16 : DT_F32; }

backend *device_open(dtype act)
{
    backend *b = NULL;
    status st = gpu ? backend_open_cuda(&b, 0, act, plugin) : backend_open_cpu(&b, 2, "auto");
    if (st != ST_OK) fprintf(stderr, "%s\n", fail_message());
    CHECK(st == ST_OK);
    return b;
}

void device_thread_order(unsigned seed)
{
    if (thread_order) thread_order(seed);
}

float *device_floats(backend *b, const tensor *t)
{
    int64_t n = tensor_count(t);
    float *x = malloc((size_t)n * sizeof *x + 1);
    uint16_t *h = malloc((size_t)n * sizeof *h + 1);
    CHECK(x && h && (t->type == DT_F32 || t->type == DT_BF16));
    b->download(b, t->type == DT_F32 ? (void *)x : (void *)h, t);
    CHECK(b->sync(b) == ST_OK);
    for (int64_t i = 0; t->type == DT_BF16 && i < n; i++) x[i] = f32_from_bf16(h[i]);
    free(h);
    return x;
}
