#include "launcher/probe/facts.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A small file of the system as text; "" if it cannot be read. */
static void read_text(char *text, size_t n_max, const char *path)
{
    FILE *file = fopen(path, "r");
    size_t n = 0;
    if (file != NULL) {
        n = fread(text, 1, n_max - 1, file);
        fclose(file);
    }
    text[n] = '\0';
}

static void read_line(char *text, size_t n_max, const char *path)
{
    read_text(text, n_max, path);
    text[strcspn(text, "\n")] = '\0';
}

static uint64_t read_number(const char *path)
{
    char text[64];
    read_line(text, sizeof text, path);
    return isdigit((unsigned char)text[0]) ? strtoull(text, NULL, 10) : 0;
}

uint64_t shoal_probe_meminfo(const char *text, const char *field)
{
    const size_t n = strlen(field);
    for (const char *line = text; *line != '\0';) {
        if (strncmp(line, field, n) == 0 && line[n] == ':')
            return 1024 * strtoull(line + n + 1, NULL, 10);
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return 0;
}

/* What the cgroup of a container allows; 0: no limit is known. v2, then v1. */
static uint64_t cgroup_limit(uint64_t *used)
{
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
    *used = read_number("/sys/fs/cgroup/memory.current");
    if (limit == 0) {
        limit = read_number("/sys/fs/cgroup/memory/memory.limit_in_bytes");
        *used = read_number("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    }
    return limit;
}

static void read_memory(shoal_probe_facts *f)
{
    char text[4096];
    read_text(text, sizeof text, "/proc/meminfo");
    f->memory_bytes = shoal_probe_meminfo(text, "MemTotal");
    f->free_bytes = shoal_probe_meminfo(text, "MemAvailable");
    f->swap_bytes = shoal_probe_meminfo(text, "SwapTotal") - shoal_probe_meminfo(text, "SwapFree");
    uint64_t used;
    const uint64_t limit = cgroup_limit(&used);
    if (limit == 0 || limit >= f->memory_bytes)
        return;
    f->memory_bytes = limit;
    const uint64_t left = used < limit ? limit - used : 0;
    f->free_bytes = left < f->free_bytes ? left : f->free_bytes;
}

/* Folders of `path` whose names are `prefix` and a number. */
static int32_t count_numbered(const char *path, const char *prefix)
{
    DIR *dir = opendir(path);
    const size_t n_prefix = strlen(prefix);
    int32_t n = 0;
    if (dir == NULL)
        return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        n += strncmp(entry->d_name, prefix, n_prefix) == 0 &&
             isdigit((unsigned char)entry->d_name[n_prefix]);
    closedir(dir);
    return n;
}

int64_t shoal_probe_throttle_count(void)
{
    int64_t n = 0;
    for (int32_t cpu = 0; cpu < SHOAL_CPU_MAX; cpu++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/thermal_throttle", (int)cpu);
        if (access(path, F_OK) != 0)
            break;
        snprintf(path, sizeof path,
                 "/sys/devices/system/cpu/cpu%d/thermal_throttle/core_throttle_count", (int)cpu);
        n += (int64_t)read_number(path);
    }
    return n;
}

/* "model name\t: AMD EPYC ..." of the first processor. */
static void read_device(char *device, size_t n_max)
{
    char text[4096];
    read_text(text, sizeof text, "/proc/cpuinfo");
    const char *line = strstr(text, "model name");
    if (line == NULL)
        return;
    line += strcspn(line, ":\n");
    line += *line == ':';
    line += strspn(line, " \t");
    size_t n = strcspn(line, "\n");
    n = n < n_max - 1 ? n : n_max - 1;
    for (size_t i = 0; i < n; i++)
        device[i] = isprint((unsigned char)line[i]) ? line[i] : '?';
    device[n] = '\0';
}

/* Machines have ids of their boots; containers of one machine have networks of their own. */
static void read_machine(char *machine, size_t n_max)
{
    char boot[40], network[32] = "";
    read_line(boot, sizeof boot, "/proc/sys/kernel/random/boot_id");
    if (readlink("/proc/self/ns/net", network, sizeof network - 1) < 0)
        network[0] = '\0';
    /* The beginning is enough to tell machines apart. */
    snprintf(machine, n_max, "%.13s %.31s", boot, network);
}

void shoal_probe_facts_read(shoal_probe_facts *facts, const shoal_topology *topology)
{
    shoal_probe_facts f = {
        .n_core_host = topology->n_core_host,
        .n_core = topology->n_core,
        .cpu_quota = topology->cpu_quota,
        .n_numa = count_numbered("/sys/devices/system/node", "node"),
        .n_throttle = shoal_probe_throttle_count(),
    };
    read_memory(&f);
    read_device(f.device, sizeof f.device);
    read_machine(f.machine, sizeof f.machine);
    read_line(f.governor, sizeof f.governor,
              "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    f.n_interface = shoal_probe_interfaces(f.interface, SHOAL_PROBE_INTERFACE_MAX);
    *facts = f;
}
