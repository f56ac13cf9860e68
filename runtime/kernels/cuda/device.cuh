/* A CUDA device as the operations see it (device.h): one stream, a ring of rooms through which
 * small host arrays travel, and the first failure, which sticks. Used from the thread that opened
 * it.
 *
 * The ring: N_ROOM rooms of pinned memory, each with as much device memory beside it. Pieces are
 * cut from one room after the other; a room is used again when the stream has passed what was
 * enqueued for its pieces. Layering: inside kernels/cuda only. */
#ifndef SHOAL_KERNELS_CUDA_DEVICE_CUH
#define SHOAL_KERNELS_CUDA_DEVICE_CUH

#include "runtime/kernels/cuda/kernels.cuh"

enum { SHOAL__N_ROOM = 8, SHOAL__ROOM_BYTES = 64 << 10 /* at least */ };

/* Room for an array on its way: written at `host`, and copied to `device` or read in place. */
struct shoal__cuda_piece {
    void *host, *device;
};

struct shoal__cuda_ring {
    unsigned char *host, *device; /* [N_ROOM, room_bytes] */
    size_t room_bytes, used_bytes;
    int32_t room;                      /* that pieces are cut from */
    cudaEvent_t passed[SHOAL__N_ROOM]; /* behind all that uses the room */
    bool under_way[SHOAL__N_ROOM];     /* passed was recorded */
};

/* A run of operations that has been asked for: seen once, or recorded (graphs.cu). */
struct shoal__cuda_run {
    shoal_op_key key;
    bool known, seen;
    cudaGraphExec_t graph;
};

struct shoal__cuda_graphs {
    shoal__cuda_run *run; /* a hash table */
    int32_t n_run;
    unsigned char *host, *device; /* what recorded runs carry: not used again before they go */
    size_t used_bytes;
    shoal__cuda_run *recorded; /* whose operations go into a graph now; NULL: they are enqueued */
    bool overflown;            /* not all that it carries has found room */
    bool off;                  /* the driver could not record */
};

struct shoal__cuda_device : shoal_device {
    shoal_log *log;
    shoal_pool *pool;
    bool precise;
    cudaStream_t stream;
    cudaEvent_t mark[SHOAL_N_MARK];
    cudaEvent_t begin, end; /* that measure time */
    int32_t index, n_multiprocessor;
    cudaStream_t side;                       /* NULL until somebody wants it */
    cudaEvent_t side_mark[SHOAL_SIDE_MARKS]; /* of that stream */
    shoal__cuda_ring ring;
    shoal__cuda_graphs graphs;
    int64_t patience_us;
    bool hung;           /* it did not end in time: calls that wait for it would not return */
    shoal_status status; /* of the first failure; OK: none so far */
};

static inline shoal__cuda_device *shoal__cuda(shoal_device *device)
{
    return static_cast<shoal__cuda_device *>(device);
}

/* True if nothing has failed so far, this call (what it was, in words) included. The first failure
 * is logged here. */
bool shoal__cuda_fine(shoal__cuda_device *d, const char *what, cudaError_t error);

/* What to do about a failure, in words. */
const char *shoal__cuda_advice(cudaError_t error);

/* Whether an event has happened; never waits. */
bool shoal__cuda_happened(shoal__cuda_device *d, const char *what, cudaEvent_t event);

/* Until the event has happened, or something has failed. Calls the pool's hook meanwhile. */
void shoal__cuda_await(shoal__cuda_device *d, cudaEvent_t event);

/* Cut a piece of n_bytes <= room_bytes, aligned to 256. False: something has failed. What uses it
 * has to be enqueued before the next one is cut. */
bool shoal__cuda_cut(shoal__cuda_piece *piece, shoal__cuda_device *d, size_t n_bytes);

/* The same while recording: a piece that stays (graphs.cu). */
bool shoal__cuda_cut_kept(shoal__cuda_piece *piece, shoal__cuda_device *d, size_t n_bytes);
cudaError_t shoal__cuda_graphs_open(shoal__cuda_device *d);
void shoal__cuda_graphs_close(shoal__cuda_device *d); /* opened half or not at all is fine */
bool shoal__cuda_run_next(shoal_device *device, shoal_op_run *turn);

/* The operations (device_ops.cu), and those among them that are no kernels (device_run.cu). */
extern const shoal_device_ops shoal__cuda_ops;
bool shoal__cuda_mark(shoal_device *device, int32_t i);
shoal_status shoal__cuda_wait(shoal_device *device, int32_t i);
shoal_status shoal__cuda_sync(shoal_device *device);
void *shoal__cuda_take(shoal_device *device, shoal_memory kind, size_t n_bytes);
void shoal__cuda_give_back(shoal_device *device, shoal_memory kind, void *memory);
double shoal__cuda_read_gb_per_s(shoal_device *device, const void *from, size_t n_bytes);
void shoal__cuda_close(shoal_device *device);
shoal_status shoal__cuda_side_open(void **stream, shoal_device *device);
shoal_status shoal__cuda_side_mark(shoal_device *device, int32_t i);
shoal_status shoal__cuda_side_reached(bool *reached, shoal_device *device, int32_t i);

#endif
