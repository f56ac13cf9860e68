/* What is likely to be wrong with a cluster, out of what its ranks have said and measured, and what
 * to do about it. Pure: facts in, texts out. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_PROBE_WARNINGS_H
#define SHOAL_LAUNCHER_PROBE_WARNINGS_H

#include "launcher/probe/facts.h"
#include "runtime/proto/probe.h"

/* X(name, text in --json) */
#define SHOAL_PROBE_WARNING_MAP(X)                                                                 \
    X(SAME_NAME, "same_name")       /* two machines with one host name */                          \
    X(BUILD, "build")               /* another shoal */                                            \
    X(MPI, "mpi")                   /* another MPI library */                                      \
    X(KERNELS, "kernels")           /* other instruction sets: slower than the others */           \
    X(CLOCK, "clock")               /* clocks that differ */                                       \
    X(BOUND, "bound")               /* fewer cores than a rank could use */                        \
    X(QUOTA, "quota")               /* a cgroup grants less than the threads want */               \
    X(GOVERNOR, "governor")         /* the clock is kept low */                                    \
    X(THROTTLED, "throttled")       /* slowed down by heat while measured */                       \
    X(MEMORY, "memory")             /* less than half of it is free */                             \
    X(SWAP, "swap")                 /* in use */                                                   \
    X(VIRTUAL_LINK, "virtual_link") /* docker0 and its like, where a card is there */              \
    X(SLOW_LINK, "slow_link")       /* 1 Gbit/s where 10 is there */                               \
    X(BELOW_SPEED, "below_speed")   /* much less measured than the card says */                    \
    X(LOOP_LINK, "loop_link")       /* ranks of a host over TCP */

typedef enum shoal_probe_warning_kind {
#define SHOAL_PROBE_WARNING_ENUM(name, text) SHOAL_PROBE_WARNING_##name,
    SHOAL_PROBE_WARNING_MAP(SHOAL_PROBE_WARNING_ENUM)
#undef SHOAL_PROBE_WARNING_ENUM
        SHOAL_PROBE_N_WARNING
} shoal_probe_warning_kind;

typedef struct shoal_probe_warning {
    shoal_probe_warning_kind kind;
    int32_t rank; /* the first that it is about */
    char text[400];
} shoal_probe_warning;

const char *shoal_probe_warning_name(shoal_probe_warning_kind kind);

/* facts [n_rank] in the order of ranks; message: with its links; clock_error_s [n_host]: how far
 * message->host[].clock_s may be off. One warning of a kind at most, which counts the others of it.
 * warning [SHOAL_PROBE_N_WARNING]; returns how many. */
int32_t shoal_probe_warnings(shoal_probe_warning *warning, const shoal_probe_message *message,
                             const shoal_probe_facts *facts, const double *clock_error_s);

#endif
