/* Network interfaces of this process's namespace. Counters are of /proc/self/net/dev, which always
 * is of the own namespace, where /sys is of whoever mounted it. */
#include "launcher/probe/facts.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

shoal_probe_interface_kind shoal_probe_interface_kind_of(const char *name, const char *driver)
{
    static const char *const drivers[] = {"bridge", "veth",  "tun",         "dummy",    "macvlan",
                                          "ipvlan", "vxlan", "openvswitch", "wireguard"};
    static const char *const names[] = {"docker",  "br-",    "virbr",     "lxc", "lxdbr", "cni",
                                        "veth",    "tun",    "tap",       "wg",  "vmnet", "vboxnet",
                                        "flannel", "podman", "tailscale", "zt"};
    if (strcmp(name, "lo") == 0)
        return SHOAL_PROBE_INTERFACE_LOOP;
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++)
        if (strcmp(driver, drivers[i]) == 0)
            return SHOAL_PROBE_INTERFACE_VIRTUAL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (starts_with(name, names[i]))
            return SHOAL_PROBE_INTERFACE_VIRTUAL;
    return SHOAL_PROBE_INTERFACE_WIRE;
}

/* What its driver says; the fields stay as they are where it says nothing. */
static void ask_driver(shoal_probe_interface *i, int fd)
{
    struct ifreq request = {0};
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    memcpy(request.ifr_name, i->name, sizeof i->name);
    request.ifr_data = (void *)&info;
    if (ioctl(fd, SIOCETHTOOL, &request) == 0)
        snprintf(i->driver, sizeof i->driver, "%.31s", info.driver);
    struct ethtool_cmd settings = {.cmd = ETHTOOL_GSET};
    request.ifr_data = (void *)&settings;
    if (ioctl(fd, SIOCETHTOOL, &request) != 0)
        return;
    /* As ethtool_cmd_speed, whose shift of an int overflows where the speed is not known. */
    const uint32_t mbit = (uint32_t)settings.speed_hi << 16 | settings.speed;
    if (mbit > 0 && mbit < 10000000)
        i->mbit_per_s = (int32_t)mbit;
}

static int32_t prefix_of(const struct sockaddr *mask)
{
    if (mask == NULL)
        return 32;
    struct sockaddr_in in;
    memcpy(&in, mask, sizeof in);
    return __builtin_popcount(in.sin_addr.s_addr);
}

static void describe(shoal_probe_interface *i, const struct ifaddrs *a, int fd)
{
    struct sockaddr_in in;
    memcpy(&in, a->ifa_addr, sizeof in);
    *i = (shoal_probe_interface){.n_prefix = prefix_of(a->ifa_netmask)};
    snprintf(i->name, sizeof i->name, "%.15s", a->ifa_name);
    inet_ntop(AF_INET, &in.sin_addr, i->address, sizeof i->address);
    if (fd >= 0)
        ask_driver(i, fd);
    i->kind = (int32_t)shoal_probe_interface_kind_of(i->name, i->driver);
}

int32_t shoal_probe_interfaces(shoal_probe_interface *list, int32_t n_max)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return 0;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int32_t n = 0;
    for (const struct ifaddrs *a = all; a != NULL && n < n_max; a = a->ifa_next) {
        const unsigned wanted = IFF_UP | IFF_RUNNING;
        if (a->ifa_addr == NULL || a->ifa_addr->sa_family != AF_INET ||
            (a->ifa_flags & wanted) != wanted)
            continue;
        describe(&list[n++], a, fd);
    }
    if (fd >= 0)
        close(fd);
    freeifaddrs(all);
    return n;
}

void shoal_probe_count_text(shoal_probe_counters *counters, const char *text)
{
    *counters = (shoal_probe_counters){0};
    while (*text != '\0' && counters->n < SHOAL_PROBE_INTERFACE_MAX) {
        const size_t n_line = strcspn(text, "\n");
        const char *name = text + strspn(text, " ");
        const char *colon = memchr(text, ':', n_line);
        /* "  eth0: 8 numbers of what came, then the bytes that went" */
        if (colon != NULL && colon > name &&
            (size_t)(colon - name) < sizeof counters->interface[0].name) {
            shoal_probe_counter *c = &counters->interface[counters->n];
            char *at;
            memcpy(c->name, name, (size_t)(colon - name));
            (void)strtoull(colon + 1, &at, 10);
            for (int32_t i = 1; i < 8; i++)
                (void)strtoull(at, &at, 10);
            c->sent_bytes = strtoull(at, NULL, 10);
            counters->n++;
        }
        text += n_line;
        text += *text == '\n';
    }
}

void shoal_probe_count(shoal_probe_counters *counters)
{
    char text[8192];
    FILE *file = fopen("/proc/self/net/dev", "r");
    size_t n = 0;
    if (file != NULL) {
        n = fread(text, 1, sizeof text - 1, file);
        fclose(file);
    }
    text[n] = '\0';
    shoal_probe_count_text(counters, text);
}

static uint64_t sent_between(const shoal_probe_counters *before, const shoal_probe_counter *after)
{
    for (int32_t i = 0; i < before->n; i++)
        if (strcmp(before->interface[i].name, after->name) == 0)
            return after->sent_bytes - before->interface[i].sent_bytes;
    return after->sent_bytes;
}

void shoal_probe_path_text(char text[32], const shoal_probe_counters *before,
                           const shoal_probe_counters *after, uint64_t n_bytes)
{
    bool named[SHOAL_PROBE_INTERFACE_MAX] = {false};
    uint64_t sum = 0;
    for (int32_t i = 0; i < after->n; i++)
        sum += sent_between(before, &after->interface[i]);
    text[0] = '\0';
    if (sum < n_bytes / 2)
        return;
    for (;;) { /* the busiest of the others, down to an eighth of the bytes */
        int32_t best = -1;
        uint64_t most = n_bytes / 8;
        for (int32_t i = 0; i < after->n; i++) {
            const uint64_t sent = sent_between(before, &after->interface[i]);
            if (!named[i] && sent >= most) {
                best = i;
                most = sent;
            }
        }
        const size_t used = strlen(text);
        if (best < 0 || used + strlen(after->interface[best].name) + 2 > 32)
            return;
        named[best] = true;
        snprintf(text + used, 32 - used, "%s%s", used > 0 ? "+" : "", after->interface[best].name);
    }
}
