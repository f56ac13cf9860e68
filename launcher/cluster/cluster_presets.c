/* Published figures of GPUs and processors. Sources are in the comments; figures of people's own
 * machines, in the cluster file or from a probe, replace them. */
#include "launcher/cluster/cluster_presets.h"

#include <string.h>

/* Bandwidth and dense tensor rates with f32 sums as NVIDIA states them: "NVIDIA Ampere GA102 GPU
 * Architecture", "NVIDIA Ada GPU Architecture", "NVIDIA RTX Blackwell GPU Architecture" (their
 * tables of specifications of RTX 3090, 4090 and 5090), "NVIDIA H100 Tensor Core GPU" and "NVIDIA
 * H200 Tensor Core GPU" (data sheets, SXM; half of the rates with sparsity). f32 is the rate
 * without tensor cores. Memory is what programs are told of the 24, 24, 32, 80 and 141 GB, as
 * messages about exhausted memory quote it (23.69, 23.64, 31.36, 79.1, 139.7 GiB). One way of
 * PCIe 4.0 x16 copies about 25 of 31.5 GB/s from pinned memory, 5.0 about 50 of 63. */
static const shoal_gpu_preset gpu_preset[] = {
    {"rtx3090", "GeForce RTX 3090", "NVIDIA GeForce RTX 3090", 25.4, 936, 71.2, 284.7, 35.6, 25},
    {"rtx4090", "GeForce RTX 4090", "NVIDIA GeForce RTX 4090", 25.4, 1008, 165.2, 660.6, 82.6, 25},
    {"rtx5090", "GeForce RTX 5090", "NVIDIA GeForce RTX 5090", 33.7, 1792, 209.5, 838, 104.8, 50},
    {"h100", "H100 SXM 80 GB", "NVIDIA H100 80GB HBM3", 85, 3352, 989.4, 1978.9, 66.9, 50},
    {"h200", "H200 SXM 141 GB", "NVIDIA H200", 150, 4800, 989.4, 1978.9, 66.9, 50},
    {NULL, NULL, NULL, 0, 0, 0, 0, 0, 0},
};

/* Per core, all cores busy. avx512vnni is measured (docs/PERFORMANCE.md, one core of an AMD EPYC of
 * Zen 4: 473 GOP/s of vpdpbusd, 117 GFLOP/s of fma, 20 to 28 GB/s read); the others are
 * instructions per cycle times the usual clock of all cores: avx2      2 fma of 256 bits at 3.6
 * GHz; integer products by vpmaddubsw, vpmaddwd and two adds avx2vnni  2 vpdpbusd of 256 bits
 * at 3.6 GHz n100      Gracemont: 2 units of 128 bits at 2.6 GHz; one channel of DDR5-4800 (38.4
 * GB/s) neon      2 units of 128 bits at 2.8 GHz m2ultra   4 units of 128 bits at 3.2 GHz; 800 GB/s
 * of memory of which the processors alone are known to read about half epyc9004  avx512vnni with 12
 * channels of DDR5-4800 (460.8 GB/s a socket), 80 % of it read xeon4     two vpdpbusd and two fma
 * of 512 bits at 2.6 GHz, 8 channels of DDR5-4800 (307.2) */
static const shoal_cpu_preset cpu_preset[] = {
    {"avx512vnni", "AVX-512 with VNNI", 473, 117, 24, 0},
    {"avx2vnni", "AVX2 with VNNI", 460, 115, 24, 0},
    {"avx2", "AVX2", 230, 115, 20, 0},
    {"neon", "AArch64", 90, 45, 12, 0},
    {"n100", "Intel N100", 166, 41, 16, 27},
    {"m2ultra", "Apple M2 Ultra", 410, 102, 60, 400},
    {"epyc9004", "AMD EPYC 9004, a socket", 473, 117, 24, 368},
    {"xeon4", "Intel Xeon of the 4th generation, a socket", 665, 166, 14, 245},
    {NULL, NULL, 0, 0, 0, 0},
};

const shoal_gpu_preset *shoal_gpu_presets(void)
{
    return gpu_preset;
}

const shoal_cpu_preset *shoal_cpu_presets(void)
{
    return cpu_preset;
}

const shoal_gpu_preset *shoal_gpu_preset_find(const char *name)
{
    for (const shoal_gpu_preset *p = gpu_preset; p->name != NULL; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

const shoal_gpu_preset *shoal_gpu_preset_of_driver(const char *driver_name)
{
    for (const shoal_gpu_preset *p = gpu_preset; p->name != NULL; p++)
        if (strcmp(p->driver_name, driver_name) == 0)
            return p;
    return NULL;
}

const shoal_cpu_preset *shoal_cpu_preset_find(const char *name)
{
    for (const shoal_cpu_preset *p = cpu_preset; p->name != NULL; p++)
        if (strcmp(p->name, name) == 0)
            return p;
    return NULL;
}

/* Packed bytes of a weight. */
static double weight_bytes(shoal_format format)
{
    const int32_t n = 1024;
    return (double)shoal_matrix_data_bytes(format, n, n) / (double)n / (double)n;
}

/* What whole runs reach of the peaks: weights are read at 87 to 92 % of the bandwidth for one
 * token, products with f32 rows at 90 % of the fma peak, those with integer rows at 58 %
 * (docs/PERFORMANCE.md). */
static void fill_cpu(shoal_cluster_rank *rank, const shoal_device_rates *rates)
{
    const double read = 0.88 * rates->read_gb_per_s;
    rank->f32_gflop_per_s = 0.9 * rates->f32_gflop_per_s;
    for (shoal_format f = 0; f < SHOAL_N_FORMAT; f++) {
        const double rate = shoal_format_is_quantised(f) ? 0.58 * rates->int8_gop_per_s
                                                         : 0.9 * rates->f32_gflop_per_s;
        const double computed = rate / 2 * weight_bytes(f);
        rank->prefill_gop_per_s[f] = rate;
        rank->decode_gb_per_s[f] = read < computed ? read : computed;
    }
}

/* GPUs: what is aimed at (scripts/dev gpu-check measures it): of the bandwidth between the 80 % of
 * large and the 60 % of small experts, half of the tensor cores' f16 peak whatever the weights'
 * format. Without tensor cores, as attention is and products of f32 and f16, 0.5 and 0.7 of the fma
 * peak. */
static void fill_gpu(shoal_cluster_rank *rank, const shoal_device_rates *rates)
{
    rank->f32_gflop_per_s = 0.5 * rates->f32_gflop_per_s;
    for (shoal_format f = 0; f < SHOAL_N_FORMAT; f++) {
        const bool tensor = f != SHOAL_FORMAT_F32 && f != SHOAL_FORMAT_F16;
        rank->prefill_gop_per_s[f] =
            tensor ? 0.5 * rates->half_gflop_per_s : 0.7 * rates->f32_gflop_per_s;
        rank->decode_gb_per_s[f] = 0.75 * rates->read_gb_per_s;
    }
}

void shoal_device_fill(shoal_cluster_rank *rank, const shoal_device_rates *rates)
{
    rank->read_gb_per_s = rates->read_gb_per_s;
    if (rank->gpu >= 0)
        fill_gpu(rank, rates);
    else
        fill_cpu(rank, rates);
}

/* Of what a data sheet says a sequential read reaches about so much. */
#define READ_REACHED 0.9

void shoal_device_fill_by_name(shoal_cluster_rank *rank, const char *driver_name,
                               double read_gb_per_s)
{
    const shoal_gpu_preset *p = shoal_gpu_preset_of_driver(driver_name);
    double factor = 1;
    if (p == NULL) {
        p = shoal_gpu_preset_find("rtx3090");
        factor = read_gb_per_s > 0 ? read_gb_per_s / READ_REACHED / p->read_gb_per_s : 1;
    }
    const shoal_device_rates rates = {.int8_gop_per_s = factor * p->int8_top_per_s * 1e3,
                                      .f32_gflop_per_s = factor * p->f32_tflop_per_s * 1e3,
                                      .half_gflop_per_s = factor * p->half_tflop_per_s * 1e3,
                                      .read_gb_per_s = factor * p->read_gb_per_s};
    shoal_device_fill(rank, &rates);
    rank->pcie_gb_per_s = p->pcie_gb_per_s;
    rank->launch_us = SHOAL_GPU_LAUNCH_US;
    rank->wait_us = SHOAL_GPU_WAIT_US;
    rank->layer_us = 0;
}
