/* --device: what each rank asks for, and which GPU of its host it gets. Pure functions of what all
 * ranks say of themselves, so that every rank comes to the same. `auto` and `cuda` hand the GPUs of
 * a host out, one a rank in rank order; `cuda:N` names one. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_DEVICE_CHOICE_H
#define SHOAL_LAUNCHER_DEVICE_CHOICE_H

#include "runtime/base/log.h"

#include <stdbool.h>

#define SHOAL_DEVICE_HOST_MAX 16                     /* GPUs of a host that are handed out */
#define SHOAL_DEVICE_WANTED   "auto|cpu|cuda|cuda:N" /* one, or a list with one for each rank */

typedef enum shoal_device_kind {
    SHOAL_DEVICE_AUTO, /* a GPU while there are some left, else the processor */
    SHOAL_DEVICE_CPU,
    SHOAL_DEVICE_CUDA,
} shoal_device_kind;

typedef struct shoal_device_wish {
    int32_t kind;  /* shoal_device_kind */
    int32_t index; /* CUDA: N of cuda:N; -1: any */
} shoal_device_wish;

/* True if text is a value of --device. */
bool shoal_device_text_is_valid(const char *text);

/* What a valid text says of a rank. Errors: USAGE (a list for another number of ranks). */
shoal_status shoal_device_wish_of(shoal_device_wish *wish, const char *text, int32_t rank,
                                  int32_t n_rank, shoal_log *log);

/* What a rank tells the others; no pointers. Processes of a host may see different GPUs of it, or
 * under different numbers (CUDA_VISIBLE_DEVICES, SLURM): where a GPU hangs tells them apart. */
typedef struct shoal_device_claim {
    shoal_device_wish wish;
    int32_t n_device;    /* that its process sees, at most SHOAL_DEVICE_HOST_MAX */
    int32_t has_backend; /* 1: its build knows GPUs */
    char bus_id[SHOAL_DEVICE_HOST_MAX][32]; /* of each; "": not known, then its number tells */
    char why[256];                          /* that it sees none */
} shoal_device_claim;

/* index [n_rank]: the GPU of each rank, -1: none. host [n_rank]: their names. Errors: UNAVAILABLE,
 * naming the rank: what it asks for is not there. */
shoal_status shoal_device_assign(int32_t *index, const shoal_device_claim *claim,
                                 const char *const *host, int32_t n_rank, shoal_log *log);

#endif
