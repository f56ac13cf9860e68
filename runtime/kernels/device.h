/* A device with memory of its own (a GPU), as the operations of ops.h see it. A rank has one
 * device: the CPU of its pool, or one of these beside the pool, which then only does what the host
 * is left with (embedding look-ups, sampling). One stream: what is enqueued runs in order, later;
 * only sync, reached and wait say that something has happened.
 *
 *     memory        read and written by
 *     DEVICE        the device alone (VRAM)
 *     HOST          both: pinned, the device reads and writes it in place
 *
 * "Device" in a comment on a pointer means DEVICE memory of a device, plain memory on a CPU rank;
 * "host" means HOST memory of a device, plain memory on a CPU rank.
 *
 * Failures stick: the first is logged where it is found, with what the device was at, all later
 * operations do nothing, and sync and wait return it. Layering: kernels. */
#ifndef SHOAL_KERNELS_DEVICE_H
#define SHOAL_KERNELS_DEVICE_H

#include "runtime/kernels/ops.h"

typedef enum shoal_memory { SHOAL_MEMORY_DEVICE, SHOAL_MEMORY_HOST } shoal_memory;

#define SHOAL_SIDE_MARKS 32

typedef struct shoal_device_info {
    char id[16];           /* "cuda:0" */
    char name[64];         /* "NVIDIA GeForce RTX 4090" */
    char bus_id[32];       /* tells whether two ranks of a host have the same one */
    int32_t version;       /* compute capability, 89 for 8.9 */
    uint64_t memory_bytes; /* in all */
    uint64_t free_bytes;   /* when it was opened */
} shoal_device_info;

/* What a session does on a device. */
typedef struct shoal_device_config {
    bool precise;     /* --math f32: activations are never rounded on the way into a product */
    int32_t n_item;   /* most items of one shoal_op_matmul_many */
    shoal_pool *pool; /* whose hook is called while the host waits; may be NULL */
    /* A device that is longer at what it was given has failed; 0: it is waited for as long as it
     * takes. Its memory is then not given back: the driver would wait for it. */
    int64_t patience_us;
} shoal_device_config;

/* The operations of ops.h that touch tensors, with the same arguments and meanings. */
typedef struct shoal_device_ops {
    void (*matmul_many)(shoal_device *d, const shoal_matmul_item *item, int32_t n_item);
    void (*to_groups)(shoal_device *d, shoal_int8_group *y, int64_t ld_y, const float *x,
                      int64_t ld_x, int32_t n_row, int32_t n_col);
    void (*rms_norm)(shoal_device *d, float *y, int64_t ld_y, const float *x, int64_t ld_x,
                     const float *weight, int32_t n_row, int32_t n_col, float eps);
    void (*activate)(shoal_device *d, const shoal_activation *activation, float *y,
                     const float *gate, const float *up, int64_t n);
    void (*activate_groups)(shoal_device *d, const shoal_activation *activation,
                            shoal_int8_group *y, int64_t ld_y, const float *gate, const float *up,
                            int64_t ld, int32_t n_row, int32_t n_col);
    void (*scale)(shoal_device *d, float *y, float a, int64_t n);
    void (*add_residual)(shoal_device *d, float *x, float *acc, const float *shared,
                         float multiplier, int64_t n);
    void (*gate_rows)(shoal_device *d, float *y, float *gate, int32_t n_row, int32_t n_col);
    void (*place_heads)(shoal_device *d, const shoal_place_heads *step);
    void (*place_latent)(shoal_device *d, const shoal_place_latent *step);
    void (*attend)(shoal_device *d, const shoal_attend *attend);
    void (*route)(shoal_device *d, const shoal_route_step *step);
    void (*largest)(shoal_device *d, const shoal_largest *largest);
    void (*gather)(shoal_device *d, const shoal_gather *gather);
    void (*pack_rows)(shoal_device *d, const shoal_pack *pack);
    void (*pack_sums)(shoal_device *d, const shoal_pack_sums *pack);
    void (*unpack_rows)(shoal_device *d, const shoal_unpack *unpack);
    void (*sum_rows)(shoal_device *d, const shoal_sum *sum);
    void (*upload)(shoal_device *d, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                   size_t n_bytes, int32_t n_row);
    void (*fetch)(shoal_device *d, void *to, const void *from, size_t n_bytes);
    bool (*run_next)(shoal_device *d, shoal_op_run *run);
    bool (*mark)(shoal_device *d, int32_t i);
    shoal_status (*wait)(shoal_device *d, int32_t i);
    shoal_status (*sync)(shoal_device *d);

    /* Memory, zeroed, 256-byte aligned; NULL: there is not so much. */
    void *(*take)(shoal_device *d, shoal_memory kind, size_t n_bytes);
    void (*give_back)(shoal_device *d, shoal_memory kind, void *memory);
    /* GB/s of reading n_bytes of DEVICE memory, measured now; for shoal bench. */
    double (*read_gb_per_s)(shoal_device *d, const void *from, size_t n_bytes);
    void (*close)(shoal_device *d);

    /* A stream beside the operations', for a library that enqueues there by itself (NCCL).
     * side_open makes the device the calling thread's and gives the stream as the library knows it
     * (cudaStream_t), the same one each time. side_mark notes place i (below SHOAL_SIDE_MARKS)
     * behind what is enqueued there; side_reached says whether the stream has got there, and never
     * waits. */
    shoal_status (*side_open)(void **stream, shoal_device *d);
    shoal_status (*side_mark)(shoal_device *d, int32_t i);
    shoal_status (*side_reached)(bool *reached, shoal_device *d, int32_t i);
} shoal_device_ops;

struct shoal_device {
    const shoal_device_ops *ops;
    shoal_device_info info;
};

/* A kind of devices that a build may have (cuda). */
typedef struct shoal_device_backend {
    const char *name;
    /* Devices of this host; 0: none, and why (a driver too old, say) in why [n_why]. */
    int32_t (*count)(char *why, size_t n_why);
    /* info.bus_id of a device that is not opened; "" if it is not known. NULL: of none. */
    void (*bus_id)(char text[32], int32_t index);
    /* Errors: UNAVAILABLE (no such device, or it fails), NO_MEMORY. log and config->pool outlive
     * the device. */
    shoal_status (*open)(shoal_device **device, int32_t index, const shoal_device_config *config,
                         shoal_log *log);
} shoal_device_backend;

/* The backends that a program is linked with, NULL behind the last (launcher/backends_*.c). */
extern const shoal_device_backend *const shoal_device_backends[];

/* kernels/cuda, if it is linked. */
extern const shoal_device_backend shoal_cuda_backend;

static inline void shoal_device_close(shoal_device *device) /* accepts NULL */
{
    if (device != NULL)
        device->ops->close(device);
}

#endif
