/* What the files of this folder share. */
#ifndef SHOAL_TESTS_NCCL_EMU_PRIVATE_H
#define SHOAL_TESTS_NCCL_EMU_PRIVATE_H

#include "comm/nccl/abi.h"
#include "tests/support/nccl_emu/nccl_emu.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum emu_fault {
    FAULT_NONE,
    FAULT_ERROR,
    FAULT_SILENT,
    FAULT_HANG,
    FAULT_INIT_HANG,
    FAULT_INIT_ERROR
} emu_fault;

typedef struct emu_settings {
    uint64_t seed;
    int version;
    size_t ring_bytes;
    int rank; /* of the fault */
    long after;
    emu_fault fault;
    shoal__nccl_result error;
} emu_settings;

/* From one rank to another: bytes [tail, head) of an endless stream. */
typedef struct emu_ring {
    _Atomic uint64_t head, tail;
} emu_ring;

enum { EMU_RANK_MAX = 64 };

/* The start of the memory that all ranks share; rings and their bytes follow. */
typedef struct emu_world {
    atomic_int n_attached;
    atomic_int gone[EMU_RANK_MAX]; /* 1: aborted, 2: destroyed */
    atomic_int pid[EMU_RANK_MAX];
} emu_world;

typedef struct emu_operation {
    bool is_send, framed; /* its size has gone before it */
    int peer;
    unsigned char *data;
    size_t n_bytes, moved_bytes;
} emu_operation;

typedef struct emu_group {
    struct shoal__nccl_comm *comm;
    void *stream;
    emu_operation *operation; /* [n] */
    int n;
    bool launched, done;
    struct emu_group *next;
} emu_group;

struct shoal__nccl_comm {
    emu_settings settings;
    uint64_t random;
    int n_rank, rank;
    char name[64]; /* of the shared memory */
    emu_world *world;
    size_t world_bytes;
    bool up, finalized, aborted, destroyed;
    int n_in_progress; /* looks until it is not */
    shoal__nccl_result error;
    long n_posted;
    emu_group *first; /* oldest that is not done */
    emu_group **last;
    struct shoal__nccl_comm *next; /* all that were ever made */
};

/* End the process. */
_Noreturn void emu_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t emu_random(struct shoal__nccl_comm *comm);
bool emu_strikes(const struct shoal__nccl_comm *comm, emu_fault fault);

/* emu_link.c. False: there is no such memory. */
bool emu_attach(struct shoal__nccl_comm *comm);
/* Others see that this rank has left. */
void emu_leave(struct shoal__nccl_comm *comm, int how);
/* Move what can be moved now. */
void emu_pump(struct shoal__nccl_comm *comm);

#endif
