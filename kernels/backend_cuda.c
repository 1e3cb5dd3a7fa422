/* The CUDA backend lives in a plug-in, so that this program needs neither driver nor toolkit to start. */
#include "kernels/kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLUGIN "codedance_cuda.so"

/* The plug-in's one exported function. Its core is this program's: a reason for refusal is in fail_message. */
typedef status cuda_open_fn(backend **out, int device, dtype act);
#define CUDA_OPEN "codedance_cuda_open"

static status default_path(char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - sizeof PLUGIN);
    if (n < 0) return FAIL(ST_ESYS, "cannot find this program's own folder (/proc/self/exe) to look for " PLUGIN);
    path[n] = 0;
    char *slash = strrchr(path, '/');
    snprintf(slash + 1, sizeof PLUGIN, "%s", PLUGIN);
    return ST_OK;
}

status backend_open_cuda(backend **out, int device, dtype act, const char *plugin)
{
    if (device < 0) return FAIL(ST_EINVAL, "cuda:%d: device index is negative", device);
    char path[4096];
    if (!plugin) {
        TRY(default_path(path, sizeof path));
        plugin = path;
    }
    if (access(plugin, F_OK) != 0)
        return FAIL(ST_EUNAVAIL,
                    "cuda:%d: plug-in %s was not built (configure with CUDACXX set to nvcc); use device cpu", device,
                    plugin);
    void *lib = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
    if (!lib) return FAIL(ST_EUNAVAIL, "cuda:%d: plug-in cannot be loaded: %s", device, dlerror());
    cuda_open_fn *open_device;
    *(void **)&open_device = dlsym(lib, CUDA_OPEN);
    if (!open_device) {
        dlclose(lib);
        return FAIL(ST_EUNAVAIL, "cuda:%d: %s is not a plug-in of this program (no " CUDA_OPEN ")", device, plugin);
    }
    return open_device(out, device, act); /* the library stays loaded: its code runs until the process ends */
}
