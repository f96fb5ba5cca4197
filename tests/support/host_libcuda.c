/* A libcuda whose "device" is host memory, as strict as a test wants it: every address is checked, every allocation is
   counted, and what is recorded runs when it is launched. Kernels are functions that the test passes to host_run.

   Environment: HOST_CUDA_FAILS names a function that fails; with HOST_CUDA_FAILS_WITH it does so with that code. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 4096
#define EVENTS 4096
#define INVALID 1
#define UNSUPPORTED 900

typedef uint64_t device;
typedef struct { void *host; size_t size; } block;
typedef struct { void (*kernel)(void *); void *argument; int kind; void *to, *from; size_t size; } event;
typedef struct { int count; event events[EVENTS]; } graph;

static block blocks[BLOCKS];
static __thread int current; /* whether this thread has the context */
static int live, taken, capturing, launches, graphs;
static graph *recording;

static int fails(const char *name) {
    const char *which = getenv("HOST_CUDA_FAILS"), *code = getenv("HOST_CUDA_FAILS_WITH");
    return which && !strcmp(which, name) ? (code ? atoi(code) : UNSUPPORTED) : 0;
}
#define MAY_FAIL if (fails(__func__)) return fails(__func__)

/* Device addresses are no host addresses: whoever mixes them up is found out. */
void *host_of(device address, size_t size) {
    uint64_t index = address >> 40, offset = address & (((uint64_t)1 << 40) - 1);
    if (!current || index == 0 || index > BLOCKS || !blocks[index - 1].host) return NULL;
    return offset + size > blocks[index - 1].size ? NULL : (char *)blocks[index - 1].host + offset;
}
int host_live(void) { return live; }
int host_taken(void) { return taken; }
int host_launches(void) { return launches; }

static int happen(event e) {
    if (capturing) {
        recording->events[recording->count++] = e;
    } else if (e.kind) {
        memmove(e.to, e.from, e.size);
    } else {
        e.kernel(e.argument);
    }
    return 0;
}
void host_run(void (*kernel)(void *), void *argument) { happen((event){.kernel = kernel, .argument = argument}); }

int cuInit(unsigned int flags) { MAY_FAIL; return flags; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGet(int *ordinal, int index) { *ordinal = 7; return index; }
int cuDeviceGetName(char *name, int size, int ordinal) { strncpy(name, "Host GPU", size); return ordinal != 7; }
int cuDeviceGetAttribute(int *value, int what, int ordinal) {
    const char *major = getenv("HOST_CUDA_MAJOR");
    *value = what == 75 ? (major ? atoi(major) : 8) : what == 76 ? 6 : -1;
    return ordinal != 7;
}
int cuGetErrorName(int code, const char **name) {
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OTHER";
    return 0;
}
int cuDevicePrimaryCtxSetFlags_v2(int ordinal, unsigned int flags) { return ordinal != 7 || flags != 4; }
int cuDevicePrimaryCtxRetain(void **context, int ordinal) { *context = &blocks; return ordinal != 7; }
int cuCtxSetCurrent(void *context) { current = context == &blocks; return !current; }
int cuMemAlloc_v2(device *address, size_t size) {
    MAY_FAIL;
    if (!current || live == BLOCKS) return 2;
    int index = 0;
    while (blocks[index].host) index++;
    blocks[index] = (block){malloc(size), size};
    memset(blocks[index].host, 0xff, size); /* NaN */
    *address = (device)(index + 1) << 40;
    live++, taken++;
    return 0;
}
int cuMemFree_v2(device address) {
    void *host = host_of(address, 0);
    if (!host) return INVALID;
    free(host);
    blocks[(address >> 40) - 1].host = NULL;
    live--;
    return 0;
}
int cuMemHostAlloc(void **address, size_t size, unsigned int flags) {
    if (!current || flags) return INVALID;
    *address = malloc(size), live++, taken++;
    return 0;
}
int cuMemFreeHost(void *address) { free(address), live--; return 0; }
static int copy(void *to, void *from, size_t size, void *stream) {
    return to && from && stream == &recording ? happen((event){.kind = 1, .to = to, .from = from, .size = size}) : INVALID;
}
int cuMemsetD8Async(device address, unsigned char value, size_t size, void *stream) {
    void *host = host_of(address, size);
    if (!host || capturing || stream != &recording) return INVALID;
    memset(host, value, size);
    return 0;
}
int cuMemcpyHtoDAsync_v2(device to, void *from, size_t size, void *stream) {
    MAY_FAIL;
    return copy(host_of(to, size), from, size, stream);
}
int cuMemcpyDtoHAsync_v2(void *to, device from, size_t size, void *stream) { return copy(to, host_of(from, size), size, stream); }
int cuMemcpyDtoDAsync_v2(device to, device from, size_t size, void *stream) {
    return copy(host_of(to, size), host_of(from, size), size, stream);
}
int cuStreamCreate(void **stream, unsigned int flags) { *stream = &recording, live++; return flags != 1; }
int cuStreamDestroy_v2(void *stream) { live--; return stream != &recording; }
int cuStreamSynchronize(void *stream) { MAY_FAIL; return stream != &recording || capturing; }
int cuStreamBeginCapture_v2(void *stream, int mode) {
    MAY_FAIL;
    if (stream != &recording || mode != 1) return INVALID;
    recording = calloc(1, sizeof(graph)), capturing = 1;
    return 0;
}
int cuStreamEndCapture(void *stream, void **result) {
    *result = recording, capturing = 0, graphs++;
    return stream != &recording;
}
int cuGraphInstantiateWithFlags(void **replay, void *source, unsigned long long flags) {
    MAY_FAIL;
    *replay = malloc(sizeof(graph)), live++;
    memcpy(*replay, source, sizeof(graph));
    return flags != 0;
}
int cuGraphDestroy(void *source) { free(source), graphs--; return graphs; }
int cuGraphExecDestroy(void *replay) { free(replay), live--; return 0; }
int cuGraphLaunch(void *replay, void *stream) {
    MAY_FAIL;
    if (stream != &recording || capturing) return INVALID;
    for (int i = 0; i < ((graph *)replay)->count; i++) happen(((graph *)replay)->events[i]);
    launches++;
    return 0;
}
