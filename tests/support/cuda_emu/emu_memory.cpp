/* Devices, their memory, and the errors of calls. */
#include "emu_private.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

thread_local emu_config emu__config = emu_environment_config();
thread_local emu_counters emu__counters;

namespace
{

constexpr size_t zone_bytes = 256, page_bytes = 4096;
constexpr unsigned char zone_byte = 0xEC;
constexpr size_t shared_default = 48 << 10, shared_most = 99 << 10;

struct piece { /* what lies between two red zones, in whole pages of its own */
    size_t n_bytes, room_bytes;
    int device;
    void *room;
};

struct world {
    std::map<uintptr_t, piece> device, host; /* by address */
    std::map<uintptr_t, size_t> registered;
    std::map<const void *, size_t> shared;
    std::vector<size_t> used;
    std::string problems;
    uint64_t random;
    int current_device;
    long n_call;
    int device_time; /* > 0: the device's memory is open */
    cudaError_t last, stuck;
};
thread_local world w;
thread_local struct at_end { /* what a program has not freed is freed when its thread ends */
    ~at_end()
    {
        emu__memory_reset();
    }
} at_end;

/* Device memory has a protection key where the processor has such keys: opening it is then one
 * instruction. Elsewhere it is a call of the system for each piece. -1: no keys. */
int key_of_device_memory()
{
#if defined(__x86_64__)
    static const int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    return key;
#else
    return -1;
#endif
}

void protect(const piece &p, bool open)
{
    (void)mprotect(p.room, p.room_bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/* The device's memory for this thread. */
void protect_all(bool open)
{
    const int key = key_of_device_memory();
#if defined(__x86_64__)
    if (key >= 0) {
        (void)pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS);
        return;
    }
#endif
    (void)key;
    for (const auto &p : w.device)
        protect(p.second, open);
}

/* What was just allocated. */
void protect_new(const piece &p)
{
    const int key = key_of_device_memory();
#if defined(__x86_64__)
    if (key >= 0) {
        (void)pkey_mprotect(p.room, p.room_bytes, PROT_READ | PROT_WRITE, key);
        protect_all(w.device_time > 0);
        return;
    }
#endif
    (void)key;
    if (w.device_time == 0)
        protect(p, false);
}

void *make(std::map<uintptr_t, piece> &pieces, size_t n_bytes, int device)
{
    const size_t room_bytes =
        (n_bytes + 2 * zone_bytes + 256 + page_bytes - 1) / page_bytes * page_bytes;
    void *room =
        mmap(nullptr, room_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return nullptr;
    unsigned char *at = static_cast<unsigned char *>(room) + zone_bytes;
    memset(room, zone_byte, zone_bytes);
    memset(at, EMU_FRESH, n_bytes);
    memset(at + n_bytes, zone_byte, room_bytes - zone_bytes - n_bytes);
    ASAN_POISON_MEMORY_REGION(room, zone_bytes);
    ASAN_POISON_MEMORY_REGION(at + n_bytes, room_bytes - zone_bytes - n_bytes);
    const piece p = {n_bytes, room_bytes, device, room};
    pieces[reinterpret_cast<uintptr_t>(at)] = p;
    if (&pieces == &w.device)
        protect_new(p);
    return at;
}

void check(uintptr_t at, const piece &p, const char *kind)
{
    unsigned char *user = reinterpret_cast<unsigned char *>(at);
    const size_t behind = zone_bytes;
    ASAN_UNPOISON_MEMORY_REGION(user - zone_bytes, p.n_bytes + 2 * zone_bytes);
    bool bad = false;
    for (size_t i = 0; i < zone_bytes; i++)
        bad = bad || user[-1 - (ptrdiff_t)i] != zone_byte;
    for (size_t i = 0; i < behind; i++)
        bad = bad || user[p.n_bytes + i] != zone_byte;
    if (bad) {
        emu__problem("the red zones of " + std::to_string(p.n_bytes) + " bytes of " + kind +
                     " memory were written");
        memset(user - zone_bytes, zone_byte, zone_bytes);
        memset(user + p.n_bytes, zone_byte, behind);
    }
    ASAN_POISON_MEMORY_REGION(user - zone_bytes, zone_bytes);
    ASAN_POISON_MEMORY_REGION(user + p.n_bytes, behind);
}

void give_back(uintptr_t at, const piece &p, const char *kind)
{
    check(at, p, kind);
    ASAN_UNPOISON_MEMORY_REGION(p.room, p.room_bytes);
    munmap(p.room, p.room_bytes);
}

cudaError_t release(std::map<uintptr_t, piece> &pieces, void *pointer, const char *kind)
{
    if (pointer == nullptr)
        return cudaSuccess;
    auto found = pieces.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == pieces.end()) {
        emu__problem(std::string("what was no ") + kind + " memory is freed, or it is freed twice");
        return emu__remember(cudaErrorInvalidValue);
    }
    const emu__device_time open;
    give_back(found->first, found->second, kind);
    if (&pieces == &w.device)
        w.used[(size_t)found->second.device] -= found->second.n_bytes;
    pieces.erase(found);
    return cudaSuccess;
}

} // namespace

emu__device_time::emu__device_time()
{
    if (w.device_time++ == 0)
        protect_all(true);
}

emu__device_time::~emu__device_time()
{
    if (--w.device_time == 0)
        protect_all(false);
}

emu_config emu_default_config()
{
    return {1, 1, (size_t)1 << 30, -1, false, false, 0};
}

emu_config emu_environment_config()
{
    emu_config config = emu_default_config();
    const char *text = getenv("SHOAL_CUDA_EMU");
    while (text != nullptr && *text != '\0') {
        char name[32];
        unsigned long long value;
        int n_read = 0;
        if (sscanf(text, "%31[a-z_]=%llu%n", name, &value, &n_read) != 2)
            name[0] = '\0';
        if (strcmp(name, "seed") == 0) {
            config.seed = value;
        } else if (strcmp(name, "n_device") == 0) {
            config.n_device = (int)value;
        } else if (strcmp(name, "memory_bytes") == 0) {
            config.memory_bytes = (size_t)value;
        } else if (strcmp(name, "lost_after") == 0) {
            config.lost_after = (int)value;
        } else if (strcmp(name, "driver_too_old") == 0) {
            config.driver_too_old = value != 0;
        } else if (strcmp(name, "no_driver") == 0) {
            config.no_driver = value != 0;
        } else if (strcmp(name, "failing_launch") == 0) {
            config.failing_launch = (int)value;
        } else {
            fprintf(stderr, "SHOAL_CUDA_EMU: '%s' is not understood (emu.h)\n", text);
            _exit(2);
        }
        text += n_read;
        text += *text == ',';
    }
    return config;
}

void emu__problem(const std::string &text)
{
    w.problems += text + "\n";
}

const char *emu_problems()
{
    emu__check_red_zones();
    return w.problems.c_str();
}

emu_counters emu_count()
{
    return emu__counters;
}

uint64_t emu__random()
{
    /* splitmix64 */
    uint64_t z = (w.random += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

void emu__memory_reset()
{
    {
        const emu__device_time open;
        for (const auto &p : w.device)
            give_back(p.first, p.second, "device");
        for (const auto &p : w.host)
            give_back(p.first, p.second, "pinned");
        w.device.clear();
        w.host.clear();
    }
    (void)&at_end;
    w = world{};
    w.random = emu__config.seed;
    w.used.resize((size_t)(emu__config.n_device > 0 ? emu__config.n_device : 0));
}

void emu_reset(const emu_config &config)
{
    emu__config = config;
    emu__counters = {};
    emu__stream_reset();
    emu__memory_reset();
}

cudaError_t emu__remember(cudaError_t error)
{
    if (error != cudaSuccess)
        w.last = error;
    return error;
}

void emu__stick(cudaError_t error)
{
    w.stuck = error;
    emu__remember(error);
}

cudaError_t emu__entry()
{
    if (w.used.empty() && emu__config.n_device > 0) /* never reset: the default world */
        emu__memory_reset();
    w.n_call++;
    if (emu__config.driver_too_old || emu__config.no_driver)
        return emu__remember(cudaErrorInsufficientDriver);
    if (emu__config.n_device == 0)
        return emu__remember(cudaErrorNoDevice);
    if (emu__config.lost_after >= 0 && w.n_call > emu__config.lost_after)
        emu__stick(cudaErrorDeviceUnavailable);
    return emu__remember(w.stuck);
}

void emu__check_red_zones()
{
    const emu__device_time open;
    for (const auto &p : w.device)
        check(p.first, p.second, "device");
    for (const auto &p : w.host)
        check(p.first, p.second, "pinned");
}

bool emu__is_pinned(const void *pointer)
{
    const uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
    auto inside = [at](uintptr_t from, size_t n_bytes) {
        return at >= from && at < from + n_bytes;
    };
    auto next = w.host.upper_bound(at);
    if (next != w.host.begin() && inside(std::prev(next)->first, std::prev(next)->second.n_bytes))
        return true;
    auto other = w.registered.upper_bound(at);
    return other != w.registered.begin() &&
           inside(std::prev(other)->first, std::prev(other)->second);
}

cudaError_t emu_malloc(void **pointer, size_t n_bytes)
{
    if (const cudaError_t error = emu__entry())
        return error;
    size_t *used = &w.used[(size_t)w.current_device];
    if (*used + n_bytes > emu__config.memory_bytes)
        return emu__remember(cudaErrorMemoryAllocation);
    void *made = make(w.device, n_bytes, w.current_device);
    if (made == nullptr)
        return emu__remember(cudaErrorMemoryAllocation);
    *used += n_bytes;
    *pointer = made;
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer)
{
    const cudaError_t error = cudaDeviceSynchronize();
    return error != cudaSuccess ? error : release(w.device, pointer, "device");
}

cudaError_t emu_host_alloc(void **pointer, size_t n_bytes)
{
    if (const cudaError_t error = emu__entry())
        return error;
    void *made = make(w.host, n_bytes, w.current_device);
    if (made == nullptr)
        return emu__remember(cudaErrorMemoryAllocation);
    *pointer = made;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *pointer)
{
    const cudaError_t error = cudaDeviceSynchronize();
    return error != cudaSuccess ? error : release(w.host, pointer, "pinned");
}

cudaError_t cudaHostRegister(void *pointer, size_t n_bytes, unsigned)
{
    if (const cudaError_t error = emu__entry())
        return error;
    w.registered[reinterpret_cast<uintptr_t>(pointer)] = n_bytes;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *pointer)
{
    if (const cudaError_t error = cudaDeviceSynchronize())
        return error;
    return w.registered.erase(reinterpret_cast<uintptr_t>(pointer)) == 1
               ? cudaSuccess
               : emu__remember(cudaErrorInvalidValue);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (!emu__is_pinned(host))
        return emu__remember(cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    if (const cudaError_t error = emu__entry())
        return error;
    *total_bytes = emu__config.memory_bytes;
    *free_bytes = *total_bytes - w.used[(size_t)w.current_device];
    return cudaSuccess;
}

cudaError_t emu_allow_shared(const void *function, size_t n_bytes)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (n_bytes > shared_most)
        return emu__remember(cudaErrorInvalidValue);
    w.shared[function] = n_bytes;
    return cudaSuccess;
}

size_t emu__shared_allowed(const void *function)
{
    auto found = w.shared.find(function);
    return found != w.shared.end() && found->second > shared_default ? found->second
                                                                     : shared_default;
}

cudaError_t cudaGetLastError()
{
    const cudaError_t error = w.last;
    w.last = w.stuck;
    return error;
}

cudaError_t cudaPeekAtLastError()
{
    return w.last;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = emu__config.no_driver ? 0 : emu__config.driver_too_old ? 11040 : 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 0;
    if (const cudaError_t error = emu__entry())
        return error;
    *n = emu__config.n_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (device < 0 || device >= emu__config.n_device)
        return emu__remember(cudaErrorInvalidDevice);
    w.current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = w.current_device;
    return emu__entry();
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (device < 0 || device >= emu__config.n_device)
        return emu__remember(cudaErrorInvalidDevice);
    *properties = {};
    strcpy(properties->name, "CUDA emulated on the CPU");
    properties->totalGlobalMem = emu__config.memory_bytes;
    properties->major = 8;
    properties->minor = 6;
    properties->multiProcessorCount = 4;
    properties->sharedMemPerBlockOptin = shared_most;
    properties->pciBusID = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int n_text, int device)
{
    if (const cudaError_t error = emu__entry())
        return error;
    if (device < 0 || device >= emu__config.n_device)
        return emu__remember(cudaErrorInvalidDevice);
    snprintf(text, (size_t)n_text, "0000:%02x:00.0", (unsigned)device);
    return cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t error)
{
#define NAME(e)                                                                                    \
    case e:                                                                                        \
        return #e
    switch (error) {
        NAME(cudaSuccess);
        NAME(cudaErrorInvalidValue);
        NAME(cudaErrorMemoryAllocation);
        NAME(cudaErrorInvalidConfiguration);
        NAME(cudaErrorInsufficientDriver);
        NAME(cudaErrorDeviceUnavailable);
        NAME(cudaErrorNoDevice);
        NAME(cudaErrorInvalidDevice);
        NAME(cudaErrorInvalidResourceHandle);
        NAME(cudaErrorNotReady);
        NAME(cudaErrorIllegalAddress);
        NAME(cudaErrorLaunchFailure);
        NAME(cudaErrorStreamCaptureUnsupported);
        NAME(cudaErrorStreamCaptureInvalidated);
    }
#undef NAME
    return "unknown error";
}

const char *cudaGetErrorString(cudaError_t error)
{
    return cudaGetErrorName(error);
}
