/* What is used of NCCL's binary interface, declared here so that every build has the transport:
 * nccl.h need not be there, and libnccl is looked for when a job starts. As in nccl.h of NCCL 2.18
 * to 2.30: the names, numbers and layouts below have not changed since they exist (non-blocking
 * communicators: 2.14), and a library takes a config of an older layout by its size and version.
 * Layering: private to comm/nccl, and the stand-in of the tests. */
#ifndef SHOAL_COMM_NCCL_ABI_H
#define SHOAL_COMM_NCCL_ABI_H

#include <limits.h>
#include <stddef.h>

/* Non-blocking communicators came with 2.14; the config below is as of 2.18 (2023). */
#define SHOAL__NCCL_VERSION_MIN 21800

typedef struct shoal__nccl_comm shoal__nccl_comm; /* ncclComm */

typedef enum shoal__nccl_result { /* ncclResult_t */
                                  SHOAL__NCCL_SUCCESS = 0,
                                  SHOAL__NCCL_CUDA_ERROR = 1,
                                  SHOAL__NCCL_SYSTEM_ERROR = 2,
                                  SHOAL__NCCL_INTERNAL_ERROR = 3,
                                  SHOAL__NCCL_INVALID_ARGUMENT = 4,
                                  SHOAL__NCCL_INVALID_USAGE = 5,
                                  SHOAL__NCCL_REMOTE_ERROR = 6,
                                  SHOAL__NCCL_IN_PROGRESS = 7,
} shoal__nccl_result;

#define SHOAL__NCCL_INT8 0 /* ncclDataType_t */

typedef struct shoal__nccl_id { /* ncclUniqueId; passed by value */
    char internal[128];
} shoal__nccl_id;

typedef struct shoal__nccl_config { /* ncclConfig_t as of 2.18 */
    size_t size;
    unsigned magic;
    unsigned version;
    int blocking;
    int cga_cluster_size;
    int min_ctas;
    int max_ctas;
    const char *net_name;
    int split_share;
} shoal__nccl_config;

#define SHOAL__NCCL_CONFIG_MAGIC 0xcafebeefu
#define SHOAL__NCCL_UNDEFINED    INT_MIN

/* X(field, symbol, result, parameters). `stream` is a cudaStream_t. */
#define SHOAL__NCCL_SYMBOLS(X)                                                                     \
    X(get_version, ncclGetVersion, shoal__nccl_result, (int *version))                             \
    X(get_error_string, ncclGetErrorString, const char *, (shoal__nccl_result result))             \
    X(get_last_error, ncclGetLastError, const char *, (shoal__nccl_comm * comm))                   \
    X(get_unique_id, ncclGetUniqueId, shoal__nccl_result, (shoal__nccl_id * id))                   \
    X(init, ncclCommInitRankConfig, shoal__nccl_result,                                            \
      (shoal__nccl_comm * *comm, int n_rank, shoal__nccl_id id, int rank,                          \
       shoal__nccl_config *config))                                                                \
    X(get_async_error, ncclCommGetAsyncError, shoal__nccl_result,                                  \
      (shoal__nccl_comm * comm, shoal__nccl_result * result))                                      \
    X(finalize, ncclCommFinalize, shoal__nccl_result, (shoal__nccl_comm * comm))                   \
    X(destroy, ncclCommDestroy, shoal__nccl_result, (shoal__nccl_comm * comm))                     \
    X(comm_abort, ncclCommAbort, shoal__nccl_result, (shoal__nccl_comm * comm))                    \
    X(group_start, ncclGroupStart, shoal__nccl_result, (void))                                     \
    X(group_end, ncclGroupEnd, shoal__nccl_result, (void))                                         \
    X(send, ncclSend, shoal__nccl_result,                                                          \
      (const void *data, size_t n, int type, int peer, shoal__nccl_comm *comm, void *stream))      \
    X(recv, ncclRecv, shoal__nccl_result,                                                          \
      (void *data, size_t n, int type, int peer, shoal__nccl_comm *comm, void *stream))

typedef struct shoal__nccl_api {
#define SHOAL__NCCL_FIELD(field, symbol, result, parameters) result(*field) parameters;
    SHOAL__NCCL_SYMBOLS(SHOAL__NCCL_FIELD)
#undef SHOAL__NCCL_FIELD
} shoal__nccl_api;

#endif
