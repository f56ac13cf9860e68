/* The functions of libnccl. */
#include "tests/support/nccl_emu/emu_private.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* Declared for -Wmissing-prototypes. */
#define DECLARE(field, symbol, result, parameters) EXPORT result symbol parameters;
SHOAL__NCCL_SYMBOLS(DECLARE)
#undef DECLARE

enum { OPERATION_MAX = 4096 };

/* One thread of a process uses it. */
static struct {
    int depth;
    emu_operation operation[OPERATION_MAX];
    int n;
    shoal__nccl_comm *comm; /* of the operations */
    void *stream;
} group;
static shoal__nccl_comm *all_comms;

_Noreturn void emu_misuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("nccl_emu: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

uint64_t emu_random(shoal__nccl_comm *comm)
{
    uint64_t x = comm->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    comm->random = x;
    return x >> 16;
}

bool emu_strikes(const shoal__nccl_comm *comm, emu_fault fault)
{
    const emu_settings *s = &comm->settings;
    return s->fault == fault && s->rank == comm->rank && comm->n_posted >= s->after;
}

static void set_fault(emu_settings *s, const char *text)
{
    static const struct {
        const char *name;
        emu_fault fault;
    } known[] = {{"error:", FAULT_ERROR},
                 {"silent", FAULT_SILENT},
                 {"hang", FAULT_HANG},
                 {"init_hang", FAULT_INIT_HANG},
                 {"init_error", FAULT_INIT_ERROR}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(text, known[i].name, strlen(known[i].name)) != 0)
            continue;
        s->fault = known[i].fault;
        if (s->fault == FAULT_ERROR)
            s->error = (shoal__nccl_result)atoi(text + strlen("error:"));
        return;
    }
    emu_misuse("NCCL_EMU: there is no fault '%s'", text);
}

static emu_settings settings(void)
{
    emu_settings s = {.seed = 1, .version = 22105, .ring_bytes = 8192, .rank = -1};
    const char *given = getenv("NCCL_EMU");
    char text[256];
    snprintf(text, sizeof text, "%s", given != NULL ? given : "");
    char *rest = text;
    for (char *word; (word = strsep(&rest, ",")) != NULL;) {
        char *value = strchr(word, '=');
        if (word[0] == '\0')
            continue;
        if (value == NULL)
            emu_misuse("NCCL_EMU: '%s' is not name=value", word);
        *value++ = '\0';
        if (strcmp(word, "seed") == 0)
            s.seed = strtoull(value, NULL, 10);
        else if (strcmp(word, "version") == 0)
            s.version = atoi(value);
        else if (strcmp(word, "ring") == 0)
            s.ring_bytes = strtoull(value, NULL, 10);
        else if (strcmp(word, "rank") == 0)
            s.rank = atoi(value);
        else if (strcmp(word, "after") == 0)
            s.after = atol(value);
        else if (strcmp(word, "do") == 0)
            set_fault(&s, value);
        else
            emu_misuse("NCCL_EMU: there is no '%s'", word);
    }
    return s;
}

/* What every call on a communicator must not be. */
static void check_usable(const shoal__nccl_comm *comm, const char *call)
{
    if (comm == NULL)
        emu_misuse("%s without a communicator", call);
    if (comm->aborted || comm->destroyed)
        emu_misuse("%s on a communicator that is %s", call,
                   comm->aborted ? "aborted" : "destroyed");
}

static void check_no_group(const char *call)
{
    if (group.depth != 0)
        emu_misuse("%s while a group is open", call);
}

static shoal__nccl_result in_progress(shoal__nccl_comm *comm)
{
    comm->n_in_progress = (int)(emu_random(comm) % 4);
    return comm->n_in_progress > 0 ? SHOAL__NCCL_IN_PROGRESS : SHOAL__NCCL_SUCCESS;
}

shoal__nccl_result ncclGetVersion(int *version)
{
    *version = settings().version;
    return SHOAL__NCCL_SUCCESS;
}

const char *ncclGetErrorString(shoal__nccl_result result)
{
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error",
                                       "NCCL operation in progress"};
    return result >= 0 && result <= SHOAL__NCCL_IN_PROGRESS ? text[result] : "unknown result code";
}

const char *ncclGetLastError(shoal__nccl_comm *comm)
{
    return comm != NULL && (emu_strikes(comm, FAULT_ERROR) || emu_strikes(comm, FAULT_INIT_ERROR))
               ? "as NCCL_EMU wants it"
               : "";
}

shoal__nccl_result ncclGetUniqueId(shoal__nccl_id *id)
{
    static int n;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/nccl_emu.%d.%d.%ld", (int)getpid(), n++,
             now.tv_nsec);
    return SHOAL__NCCL_SUCCESS;
}

shoal__nccl_result ncclCommInitRankConfig(shoal__nccl_comm **made, int n_rank, shoal__nccl_id id,
                                          int rank, shoal__nccl_config *config)
{
    check_no_group("ncclCommInitRankConfig");
    if (config == NULL || config->magic != SHOAL__NCCL_CONFIG_MAGIC || config->blocking != 0 ||
        config->size != sizeof *config)
        emu_misuse("ncclCommInitRankConfig without a config that says not to block");
    if (n_rank > EMU_RANK_MAX || rank < 0 || rank >= n_rank)
        return SHOAL__NCCL_INVALID_ARGUMENT;
    shoal__nccl_comm *comm = calloc(1, sizeof *comm);
    comm->settings = settings();
    comm->n_rank = n_rank;
    comm->rank = rank;
    comm->random = (comm->settings.seed * 0x9e3779b97f4a7c15u ^ (uint64_t)rank << 32) | 1;
    comm->last = &comm->first;
    snprintf(comm->name, sizeof comm->name, "%.63s", id.internal);
    comm->next = all_comms;
    all_comms = comm;
    if (comm->settings.fault != FAULT_INIT_HANG || comm->settings.rank != rank)
        if (!emu_attach(comm))
            return SHOAL__NCCL_SYSTEM_ERROR;
    comm->n_in_progress = 1 + (int)(emu_random(comm) % 4);
    *made = comm;
    return SHOAL__NCCL_IN_PROGRESS;
}

static void look_at_init(shoal__nccl_comm *comm)
{
    if (comm->settings.fault == FAULT_INIT_ERROR && comm->settings.rank == comm->rank)
        comm->error = SHOAL__NCCL_SYSTEM_ERROR;
    else if (comm->world != NULL && atomic_load(&comm->world->n_attached) == comm->n_rank)
        comm->up = true;
}

static int group_is_done(void *arg)
{
    const emu_group *g = arg;
    if (!g->done)
        emu_pump(g->comm);
    return g->done || g->comm->aborted;
}

/* What groups are no longer in progress is on the stream. */
static void launch(shoal__nccl_comm *comm)
{
    nccl_emu_hold_fn *hold;
    void *found = dlsym(RTLD_DEFAULT, NCCL_EMU_HOLD);
    memcpy(&hold, &found, sizeof hold);
    if (found == NULL)
        emu_misuse("the program exports no function " NCCL_EMU_HOLD);
    for (emu_group *g = comm->first; g != NULL; g = g->next) {
        if (g->launched)
            continue;
        g->launched = true;
        hold(g->stream, group_is_done, g);
    }
}

shoal__nccl_result ncclCommGetAsyncError(shoal__nccl_comm *comm, shoal__nccl_result *result)
{
    check_no_group("ncclCommGetAsyncError");
    check_usable(comm, "ncclCommGetAsyncError");
    if (comm->n_in_progress > 0)
        comm->n_in_progress--;
    if (!comm->up)
        look_at_init(comm);
    if (comm->n_in_progress == 0 && comm->up)
        launch(comm);
    emu_pump(comm);
    *result = comm->error != SHOAL__NCCL_SUCCESS     ? comm->error
              : !comm->up || comm->n_in_progress > 0 ? SHOAL__NCCL_IN_PROGRESS
                                                     : SHOAL__NCCL_SUCCESS;
    return SHOAL__NCCL_SUCCESS;
}

#ifndef NCCL_EMU_WITHOUT_FINALIZE
shoal__nccl_result ncclCommFinalize(shoal__nccl_comm *comm)
{
    check_no_group("ncclCommFinalize");
    check_usable(comm, "ncclCommFinalize");
    if (comm->first != NULL)
        emu_misuse("ncclCommFinalize while operations of rank %d are open", comm->rank);
    comm->finalized = true;
    return in_progress(comm);
}
#endif

shoal__nccl_result ncclCommDestroy(shoal__nccl_comm *comm)
{
    check_no_group("ncclCommDestroy");
    check_usable(comm, "ncclCommDestroy");
    if (!comm->finalized || comm->n_in_progress > 0 || comm->first != NULL)
        emu_misuse("ncclCommDestroy of a communicator that %s",
                   comm->first != NULL ? "has open operations" : "is not finalised");
    emu_leave(comm, 2);
    comm->destroyed = true;
    return SHOAL__NCCL_SUCCESS;
}

shoal__nccl_result ncclCommAbort(shoal__nccl_comm *comm)
{
    check_no_group("ncclCommAbort");
    check_usable(comm, "ncclCommAbort");
    comm->aborted = true;
    emu_leave(comm, 1);
    while (emu_strikes(comm, FAULT_HANG))
        pause();
    return SHOAL__NCCL_SUCCESS;
}

shoal__nccl_result ncclGroupStart(void)
{
    check_no_group("ncclGroupStart"); /* NCCL allows it; the transport never means it */
    group.depth = 1;
    group.n = 0;
    group.comm = NULL;
    return SHOAL__NCCL_SUCCESS;
}

shoal__nccl_result ncclGroupEnd(void)
{
    if (group.depth == 0)
        emu_misuse("ncclGroupEnd without ncclGroupStart");
    group.depth = 0;
    shoal__nccl_comm *comm = group.comm;
    if (group.n == 0)
        return SHOAL__NCCL_SUCCESS;
    emu_group *g = calloc(1, sizeof *g);
    g->comm = comm;
    g->stream = group.stream;
    g->n = group.n;
    g->operation = malloc((size_t)group.n * sizeof *g->operation);
    memcpy(g->operation, group.operation, (size_t)group.n * sizeof *g->operation);
    *comm->last = g;
    comm->last = &g->next;
    shoal__nccl_result result = in_progress(comm);
    if (result == SHOAL__NCCL_SUCCESS)
        launch(comm);
    return result;
}

static shoal__nccl_result post(const emu_operation *o, int type, shoal__nccl_comm *comm,
                               void *stream)
{
    check_usable(comm, o->is_send ? "ncclSend" : "ncclRecv");
    if (group.depth == 0)
        emu_misuse("%s outside a group", o->is_send ? "ncclSend" : "ncclRecv");
    if (!comm->up || comm->n_in_progress > 0)
        emu_misuse("%s while an earlier call is in progress", o->is_send ? "ncclSend" : "ncclRecv");
    if (group.n == OPERATION_MAX || (group.comm != NULL && group.comm != comm) || stream == NULL)
        emu_misuse("a group of more than %d operations, of two communicators, or without a stream",
                   OPERATION_MAX);
    if (o->peer < 0 || o->peer >= comm->n_rank || o->peer == comm->rank || o->data == NULL ||
        o->n_bytes == 0 || type != SHOAL__NCCL_INT8)
        return SHOAL__NCCL_INVALID_ARGUMENT;
    group.comm = comm;
    group.stream = stream;
    group.operation[group.n++] = *o;
    comm->n_posted++;
    return comm->error;
}

shoal__nccl_result ncclSend(const void *data, size_t n, int type, int peer, shoal__nccl_comm *comm,
                            void *stream)
{
    emu_operation o = {.is_send = true, .peer = peer, .n_bytes = n};
    memcpy(&o.data, &data, sizeof data); /* only read */
    return post(&o, type, comm, stream);
}

shoal__nccl_result ncclRecv(void *data, size_t n, int type, int peer, shoal__nccl_comm *comm,
                            void *stream)
{
    return post(&(emu_operation){.peer = peer, .data = data, .n_bytes = n}, type, comm, stream);
}

/* When the process leaves. */
__attribute__((destructor)) static void leave(void)
{
    if (group.depth != 0)
        emu_misuse("the process leaves with an open group");
    for (const shoal__nccl_comm *c = all_comms; c != NULL; c = c->next)
        if (!c->aborted && !c->destroyed)
            emu_misuse("the process leaves with a communicator that is neither destroyed nor "
                       "aborted");
}
