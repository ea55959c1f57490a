// Preloaded into a server, it has the C library tell of NBLLM_DEVICE_MIB of memory, which is what
// ggml takes for the memory of a CPU as a device.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

long sysconf(int name) {
    static long (*next)(int);
    if (!next) next = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    const char *mebibytes = getenv("NBLLM_DEVICE_MIB");
    if (name != _SC_PHYS_PAGES || !mebibytes) return next(name);
    return atol(mebibytes) * (1L << 20) / next(_SC_PAGE_SIZE);
}
