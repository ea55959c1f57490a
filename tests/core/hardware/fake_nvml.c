/* The functions of NVML that nbllm calls, for machines without an NVIDIA GPU.
 *
 * FAKE_NVML says what kind of machine this is:
 *   two          an L4 and a T4, with processes on the first
 *   same         two L4
 *   mig          an A100 divided into instances 0 and 2, and a T4
 *   mig-only     the divided A100 alone; mig-bare: the same without instances
 *   unified      a GB10, whose memory is the machine's
 *   silent       two, where each question but those for names fails in a way of its own
 *   no-uuid, lost, none, not-loaded, no-permission, mismatch, unknown, hang
 * While the file FAKE_NVML_LOST exists, GPU 1 is lost; while FAKE_NVML_STUCK does, questions for
 * memory hang. FAKE_NVML_LOG takes a line for each initialisation and each shutdown.
 * Source: NVIDIA's nvml.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
       VERSION_MISMATCH = 18, IN_USE = 19, UNKNOWN = 999 };

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned pid; unsigned long long bytes; unsigned instance, compute; } process_t;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;

#define MIB(n) ((unsigned long long)(n) << 20)
#define GIB(n) ((unsigned long long)(n) << 30)
#define UNLESS_SILENT(code) if (is("silent")) return code

static int initialised;

static int is(const char *kind) {
    const char *set = getenv("FAKE_NVML");
    return set != NULL && strcmp(set, kind) == 0;
}

static int is_mig(void) { return is("mig") || is("mig-only") || is("mig-bare"); }

static int there_is(const char *variable) {
    const char *file = getenv(variable);
    return file != NULL && access(file, F_OK) == 0;
}

static void note(const char *line) {
    const char *file = getenv("FAKE_NVML_LOG");
    FILE *log = file == NULL ? NULL : fopen(file, "a");
    if (log != NULL) {
        fprintf(log, "%s\n", line);
        fclose(log);
    }
}

/* A handle is 1 + the GPU's number, and 100 * (1 + the place) on top for an instance. */
static size_t number(void *handle) { return (size_t)handle % 100 - 1; }
static size_t place(void *handle) { return (size_t)handle / 100; }
static int lost(void *handle) { return number(handle) == 1 && there_is("FAKE_NVML_LOST"); }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (is("hang")) for (;;) sleep(1);
    if (is("not-loaded")) return DRIVER_NOT_LOADED;
    if (is("no-permission")) return NO_PERMISSION;
    if (is("mismatch")) return VERSION_MISMATCH;
    if (is("unknown")) return UNKNOWN;
    initialised++;
    note("init");
    return SUCCESS;
}

int nvmlShutdown(void) {
    if (initialised == 0) return UNINITIALIZED;
    initialised--;
    note("shutdown");
    return SUCCESS;
}

const char *nvmlErrorString(int code) { return code == UNKNOWN ? "Unknown Error" : "Some Error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    UNLESS_SILENT(UNKNOWN);
    snprintf(text, size, "570.133.20");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (initialised == 0) return UNINITIALIZED;
    *count = is("none") ? 0 : is("unified") || is("mig-only") || is("mig-bare") ? 1 : 2;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index == 1 && (is("lost") || there_is("FAKE_NVML_LOST"))) return GPU_IS_LOST;
    *handle = (void *)(size_t)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    const char *first = is("unified") ? "NVIDIA GB10" : is_mig() ? "NVIDIA A100-SXM4-40GB" : "NVIDIA L4";
    if (lost(handle)) return GPU_IS_LOST;
    if (place(handle))
        snprintf(text, size, "%s MIG %s", first, place(handle) == 1 ? "1g.5gb" : "2g.10gb");
    else
        snprintf(text, size, "%s", number(handle) && !is("same") ? "NVIDIA T4" : first);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    UNLESS_SILENT(NOT_SUPPORTED);
    if (is("no-uuid")) return NO_PERMISSION;
    if (place(handle))
        snprintf(text, size, "MIG-%zu%zu000000-1111", number(handle), place(handle));
    else
        snprintf(text, size, "GPU-%zu0000000-abcd", number(handle));
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    if (there_is("FAKE_NVML_STUCK")) for (;;) sleep(1);
    if (lost(handle)) return GPU_IS_LOST;
    if (is("unified")) return NOT_SUPPORTED;
    UNLESS_SILENT(NO_PERMISSION);
    memory->total = place(handle) == 1 ? MIB(4864) : place(handle) ? MIB(9856) : GIB(number(handle) ? 16 : 24);
    memory->used = place(handle) ? MIB(64) : GIB(3);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    UNLESS_SILENT(UNKNOWN);
    if (place(handle)) return NOT_SUPPORTED;
    *major = is_mig() && !number(handle) ? 8 : number(handle) ? 7 : 8;
    *minor = is_mig() && !number(handle) ? 0 : number(handle) ? 5 : 9;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *rates) {
    UNLESS_SILENT(NOT_SUPPORTED);
    if (place(handle) || (is_mig() && !number(handle))) return NOT_SUPPORTED;
    rates->gpu = 37;
    rates->memory = 12;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    UNLESS_SILENT(TIMEOUT);
    if (place(handle) || sensor != 0) return NOT_SUPPORTED;
    *celsius = 41;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    UNLESS_SILENT(NOT_SUPPORTED);
    if (place(handle)) return NOT_SUPPORTED;
    *milliwatts = 28600;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    UNLESS_SILENT(IN_USE);
    if (place(handle)) return NOT_SUPPORTED;
    *milliwatts = 72000;
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(void *handle, pci_t *pci) {
    UNLESS_SILENT(NOT_FOUND);
    memset(pci, 0, sizeof *pci);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02zX:00.0", 0xA5 + number(handle));
    return SUCCESS;
}

static int processes(unsigned *count, process_t *list, const process_t *known, unsigned size) {
    if (*count < size) {
        *count = size;
        return size ? INSUFFICIENT_SIZE : SUCCESS;
    }
    *count = size;
    if (size) memcpy(list, known, size * sizeof *known);
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process_t *list) {
    static const process_t known[] = {{4711, MIB(300), 0, 0}, {4712, ~0ULL, 0, 0}, {4713, MIB(2000), 0, 0}};
    UNLESS_SILENT(NOT_SUPPORTED);
    return processes(count, list, known, number(handle) || place(handle) ? 0 : 3);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, process_t *list) {
    static const process_t known[] = {{4711, MIB(300), 0, 0}, {99, MIB(8), 0, 0}};
    UNLESS_SILENT(NOT_SUPPORTED);
    if (number(handle)) return NOT_SUPPORTED;
    return processes(count, list, known, place(handle) ? 0 : 2);
}

/* ---------------------------------------------------------------- divided GPUs */

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    UNLESS_SILENT(UNKNOWN);
    if (number(handle)) return NOT_SUPPORTED;
    *current = *pending = is_mig();
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    (void)handle;
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    if (is("mig-bare") || (index != 0 && index != 2)) return NOT_FOUND;
    *instance = (void *)((size_t)handle + 100 * (size_t)(index + 1));
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    *id = (unsigned)place(handle) + 6;
    return SUCCESS;
}

int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) {
    (void)handle;
    *id = 0;
    return SUCCESS;
}
