/* What a rank finds out about its host by reading the system, before anything is measured: one
 * record of fixed size a rank, gathered by rank 0. Texts are parsed by pure functions. What cannot
 * be found out is 0 or "". Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PROBE_FACTS_H
#define SHOAL_LAUNCHER_PROBE_FACTS_H

#include "runtime/base/topology.h"

#include <stddef.h>

#define SHOAL_PROBE_TEXT          64
#define SHOAL_PROBE_INTERFACE_MAX 16

typedef enum shoal_probe_interface_kind {
    SHOAL_PROBE_INTERFACE_WIRE,    /* a card, real or of a virtual machine */
    SHOAL_PROBE_INTERFACE_VIRTUAL, /* a bridge, container, tunnel, ... */
    SHOAL_PROBE_INTERFACE_LOOP,
} shoal_probe_interface_kind;

/* An interface that is up and has an IPv4 address. */
typedef struct shoal_probe_interface {
    char name[16];
    char address[16];   /* "192.168.1.11" */
    char driver[32];    /* "ixgbe", "bridge", "veth" */
    int32_t kind;       /* shoal_probe_interface_kind */
    int32_t n_prefix;   /* bits of its subnet */
    int32_t mbit_per_s; /* as the driver says; 0: it does not */
    int32_t pad;
} shoal_probe_interface;

typedef struct shoal_probe_facts {
    char host[SHOAL_PROBE_TEXT];
    char machine[SHOAL_PROBE_TEXT]; /* boot and network namespace: differs on another machine */
    char build[SHOAL_PROBE_TEXT];   /* shoal_build_text */
    char mpi[SHOAL_PROBE_TEXT];     /* of the library, or "" */
    char device[SHOAL_PROBE_TEXT];  /* "AMD EPYC ..." */
    char governor[16];              /* of CPU 0's clock, "" where there is none */
    char kernels[32];               /* that this rank computes with */
    int32_t n_core_host, n_core;    /* of the host; of those, bound to */
    int32_t n_thread, n_numa;
    double cpu_quota;       /* cores' worth of time, 0: no limit */
    uint64_t memory_bytes;  /* of the machine, or what the cgroup allows */
    uint64_t free_bytes;    /* that can be filled without swapping */
    uint64_t swap_bytes;    /* that are in use */
    int64_t n_throttle;     /* since the machine started, by heat */
    int64_t n_throttle_run; /* while it was measured */
    int32_t n_interface, pad;
    shoal_probe_interface interface[SHOAL_PROBE_INTERFACE_MAX];
} shoal_probe_facts;

/* Read this host; host, build, mpi, kernels and n_thread are the caller's to set. */
void shoal_probe_facts_read(shoal_probe_facts *facts, const shoal_topology *topology);

/* Times that a core was slowed down because of heat, over all cores. */
int64_t shoal_probe_throttle_count(void);

/* The interfaces of this process's network namespace; returns how many (at most n_max). */
int32_t shoal_probe_interfaces(shoal_probe_interface *list, int32_t n_max);

/* What is behind a driver or a name ("docker0", "br-...", "veth...", "tun0"). Pure. */
shoal_probe_interface_kind shoal_probe_interface_kind_of(const char *name, const char *driver);

/* Bytes that went out of each interface so far, of /proc/net/dev. */
typedef struct shoal_probe_counter {
    char name[16];
    uint64_t sent_bytes;
} shoal_probe_counter;

typedef struct shoal_probe_counters {
    int32_t n, pad;
    shoal_probe_counter interface[SHOAL_PROBE_INTERFACE_MAX];
} shoal_probe_counters;

void shoal_probe_count(shoal_probe_counters *counters);
void shoal_probe_count_text(shoal_probe_counters *counters, const char *text); /* pure */

/* The interfaces that n_bytes went through between two counts, the busiest first, joined by '+'
 * ("eth0", "eth0+eth1"); "" if none of them saw a good part of them: shared memory. Pure. */
void shoal_probe_path_text(char text[32], const shoal_probe_counters *before,
                           const shoal_probe_counters *after, uint64_t n_bytes);

/* A field of /proc/meminfo ("MemTotal") in bytes, 0 if it is not there. Pure. */
uint64_t shoal_probe_meminfo(const char *text, const char *field);

#endif
