/* The devices of the ranks: from --device to an opened one. Ranks tell each other what they want
 * and see (device_choice.h), open theirs, and compare which they got, so that two ranks do not
 * share a GPU unless both have named it. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_DEVICES_H
#define SHOAL_LAUNCHER_DEVICES_H

#include "comm/comm.h"
#include "launcher/device_choice.h"
#include "launcher/options.h"
#include "runtime/kernels/device.h"

/* What the others know of a rank's device. */
typedef struct shoal_rank_device {
    shoal_device_info info; /* id "": the processor */
    int32_t is_named;       /* 1: asked for by its number */
    int32_t pad;
} shoal_rank_device;

typedef struct shoal_devices {
    shoal_device *own;       /* of this rank; NULL: the processor */
    shoal_rank_device *rank; /* [n_rank], the same on every rank */
    int32_t n_rank;
    int32_t n_device;            /* ranks that have one */
    shoal_device_ops struck_ops; /* of --fault do=device */
    const shoal_device_ops *real_ops;
    shoal_log *log;
} shoal_devices;

/* What the ranks compute: as shoal_device_config, of this rank. */
typedef struct shoal_devices_use {
    bool precise;
    int32_t n_item;
    shoal_pool *pool;
} shoal_devices_use;

/* Choose, open and compare; with more than CPUs rank 0 says who has what. Collective; all return
 * the same, said once. `devices` must stay where it is. Errors: USAGE, UNAVAILABLE, NO_MEMORY, and
 * what comm finds. */
shoal_status shoal_devices_open(shoal_devices *devices, const shoal_options *options,
                                const shoal_devices_use *use, shoal_comm *comm, shoal_log *log);
void shoal_devices_close(shoal_devices *devices); /* accepts zeroed */

/* "cuda:0" or "cpu" */
const char *shoal_devices_id(const shoal_devices *devices, int32_t rank);

#endif
