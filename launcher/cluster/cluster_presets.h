/* Processors and GPUs that cluster files may name, as one table of published figures. They become
 * costs of a rank by the stated fractions; what a probe measures is always better. Layering:
 * launcher. */
#ifndef SHOAL_LAUNCHER_CLUSTER_PRESETS_H
#define SHOAL_LAUNCHER_CLUSTER_PRESETS_H

#include "launcher/cluster/cluster.h"

typedef struct shoal_gpu_preset {
    const char *name;
    const char *text;
    const char *driver_name; /* what the driver calls it */
    double memory_gb;        /* as CUDA says: less than the maker does */
    double read_gb_per_s;
    double half_tflop_per_s; /* tensor cores, f16 or bf16 with f32 sums, dense */
    double int8_top_per_s;   /* tensor cores, dense */
    double f32_tflop_per_s;
    double pcie_gb_per_s; /* one way, as copies from pinned memory reach */
} shoal_gpu_preset;

/* A class of processors: what one core does in a second, all cores busy. */
typedef struct shoal_cpu_preset {
    const char *name;
    const char *text;
    double int8_gop_per_s;  /* integer products of q8, q4, MXFP4; a multiply and an add are two */
    double f32_gflop_per_s; /* fma; bf16, f16 and fp8 weights are multiplied so, too */
    double read_gb_per_s;   /* of memory by one core alone */
    double memory_gb_per_s; /* of the machine, where the class says it; 0: does not */
} shoal_cpu_preset;

/* NULL if there is none. */
const shoal_gpu_preset *shoal_gpu_preset_find(const char *name);
const shoal_gpu_preset *shoal_gpu_preset_of_driver(const char *driver_name);
const shoal_cpu_preset *shoal_cpu_preset_find(const char *name);

/* All of them, for messages and tests; a NULL name ends each. */
const shoal_gpu_preset *shoal_gpu_presets(void);
const shoal_cpu_preset *shoal_cpu_presets(void);

/* What a CPU or GPU does, in the terms of shoal_cluster_rank. */
typedef struct shoal_device_rates {
    double int8_gop_per_s, f32_gflop_per_s, half_gflop_per_s; /* peaks; half: 0 without tensor
                                                                 cores */
    double read_gb_per_s;
} shoal_device_rates;

/* Fill the rank's rates from peaks: read_gb_per_s, decode_gb_per_s, prefill_gop_per_s,
 * f32_gflop_per_s. Formulas: docs/PERFORMANCE.md, "Plan". */
void shoal_device_fill(shoal_cluster_rank *rank, const shoal_device_rates *rates);

/* The same for a GPU rank by what the driver calls it, and what was read of its memory (0: not
 * measured): the preset's rates; of another GPU those of the RTX 3090 in proportion to the memory's
 * speed. Also what PCIe, launches and waits come to. */
void shoal_device_fill_by_name(shoal_cluster_rank *rank, const char *driver_name,
                               double read_gb_per_s);

/* Of a GPU, where nobody has measured it: what a launch costs the host, and what it takes to notice
 * that a kernel is done and to get the next one started (docs/PERFORMANCE.md, "plan"). */
#define SHOAL_GPU_LAUNCH_US 2.5
#define SHOAL_GPU_WAIT_US   10.0

#endif
