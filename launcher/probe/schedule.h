/* Who measures a link with whom, and when: slots of pairs that share no host, so that each pair has
 * the network interfaces of its hosts, and the memory of its host, to itself. All ranks compute the
 * same schedule from the hosts. Bounded: with many hosts or ranks only a sample of the pairs is in
 * it, such that every host, and first the lowest ranks of each, takes part; the figures of the
 * others are those of pairs like them. Layering: launcher. Pure. */
#ifndef SHOAL_LAUNCHER_PROBE_SCHEDULE_H
#define SHOAL_LAUNCHER_PROBE_SCHEDULE_H

#include "runtime/base/log.h"
#include "runtime/proto/probe.h"

#include <stddef.h>

typedef struct shoal_probe_match {
    int32_t slot;
    int32_t a, b; /* ranks, a < b within a host */
} shoal_probe_match;

typedef struct shoal_probe_schedule {
    int32_t n_slot;
    size_t n_match;
    shoal_probe_match *match; /* [n_match] in order of slots */
    size_t n_pair;            /* all there are; n_match of them are measured */
} shoal_probe_schedule;

/* host [n_rank] in 0 .. n_host - 1, each with a rank. n_slot_max >= 2: at most a third of them are
 * for pairs within hosts. Owns its memory: shoal_probe_schedule_close. Errors: NO_MEMORY. */
shoal_status shoal_probe_schedule_open(shoal_probe_schedule *schedule, const int32_t *host,
                                       int32_t n_rank, int32_t n_host, int32_t n_slot_max,
                                       shoal_log *log);
void shoal_probe_schedule_close(shoal_probe_schedule *schedule); /* accepts zeroed */

/* The match of `rank` in `slot`, or NULL. */
const shoal_probe_match *shoal_probe_schedule_find(const shoal_probe_schedule *schedule,
                                                   int32_t slot, int32_t rank);

/* Whom n players meet in a round of a tournament, rounds 0 .. n - 1 (n - 2 if n is even): every two
 * meet once. -1: nobody. n >= 1. */
int32_t shoal_probe_opponent(int32_t n, int32_t round, int32_t player);

/* Give every pair that was not measured (path 0 and not itself) the means of those between the same
 * two hosts; else between the two hosts' others; and mark it as such (PATH_ALIKE). Within a host
 * without measured pairs: those within any host. */
shoal_status shoal_probe_fill_links(shoal_probe_message *message, shoal_log *log);

#endif
