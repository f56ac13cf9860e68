/* The file of a probe (`shoal probe --output F`, `--probe F`) and the cluster that it describes.
 * Layering: launcher; bytes are runtime/proto's. */
#ifndef SHOAL_LAUNCHER_CLUSTER_PROBE_H
#define SHOAL_LAUNCHER_CLUSTER_PROBE_H

#include "launcher/cluster/cluster.h"
#include "runtime/proto/probe.h"

/* What the measurements say about the cluster. Formats of another build are left out; one that
 * was not measured has the speed of memory and of the fastest products that were;
 * layer_us is the jobs of a layer, 12, times job_us. Owns its memory: shoal_cluster_close. `name`
 * becomes the cluster's. Errors: NO_MEMORY. */
shoal_status shoal_cluster_of_probe(shoal_cluster *cluster, const shoal_probe_message *message,
                                    const char *name, shoal_log *log);

/* Errors: NO_INPUT, BAD_DATA (no probe, damaged, another version), IO, NO_MEMORY. */
shoal_status shoal_cluster_read_probe(shoal_cluster *cluster, const char *path, shoal_log *log);

/* Whole or not at all: written beside path and renamed. Errors: IO, NO_MEMORY. */
shoal_status shoal_cluster_write_probe(const shoal_probe_message *message, const char *path,
                                       shoal_log *log);

#endif
