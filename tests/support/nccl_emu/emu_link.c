/* Bytes between the ranks. */
#include "tests/support/nccl_emu/emu_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t aligned(size_t n)
{
    return (n + 63) / 64 * 64;
}

static size_t ring_stride(const shoal__nccl_comm *comm)
{
    return aligned(sizeof(emu_ring) + comm->settings.ring_bytes);
}

static emu_ring *ring_of(const shoal__nccl_comm *comm, int from, int to)
{
    size_t i = (size_t)(from * comm->n_rank + to);
    unsigned char *first = (unsigned char *)comm->world + aligned(sizeof(emu_world));
    return (emu_ring *)(void *)(first + i * ring_stride(comm));
}

bool emu_attach(shoal__nccl_comm *comm)
{
    size_t n_pair = (size_t)(comm->n_rank * comm->n_rank);
    comm->world_bytes = aligned(sizeof(emu_world)) + n_pair * ring_stride(comm);
    int fd = shm_open(comm->name, O_CREAT | O_RDWR, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)comm->world_bytes) != 0)
        return false;
    void *memory = mmap(NULL, comm->world_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED)
        return false;
    comm->world = memory;
    atomic_store(&comm->world->pid[comm->rank], (int)getpid());
    if (atomic_fetch_add(&comm->world->n_attached, 1) + 1 == comm->n_rank)
        shm_unlink(comm->name);
    return true;
}

void emu_leave(shoal__nccl_comm *comm, int how)
{
    if (comm->world != NULL)
        atomic_store(&comm->world->gone[comm->rank], how);
    if (!comm->up)
        shm_unlink(comm->name);
}

/* Between a ring and memory, at most n bytes; in is not NULL for what comes out of the ring. */
static size_t move(shoal__nccl_comm *comm, emu_ring *ring, unsigned char *in,
                   const unsigned char *out, size_t n)
{
    const size_t size = comm->settings.ring_bytes;
    unsigned char *bytes = (unsigned char *)(ring + 1);
    uint64_t head = atomic_load(&ring->head), tail = atomic_load(&ring->tail);
    uint64_t room = in != NULL ? head - tail : size - (head - tail);
    size_t moved = n < room ? n : (size_t)room;
    uint64_t at = in != NULL ? tail : head;
    for (size_t i = 0; i < moved; i++) {
        if (in != NULL)
            in[i] = bytes[(at + i) % size];
        else
            bytes[(at + i) % size] = out[i];
    }
    atomic_fetch_add(in != NULL ? &ring->tail : &ring->head, moved);
    return moved;
}

/* The size goes before the bytes. True: it is through. */
static bool move_frame(shoal__nccl_comm *comm, emu_operation *o, emu_ring *ring)
{
    uint64_t n = o->n_bytes;
    uint64_t held = atomic_load(&ring->head) - atomic_load(&ring->tail);
    if ((o->is_send ? comm->settings.ring_bytes - held : held) < sizeof n)
        return false;
    if (o->is_send) {
        move(comm, ring, NULL, (const unsigned char *)&n, sizeof n);
        return true;
    }
    move(comm, ring, (unsigned char *)&n, NULL, sizeof n);
    if (n != o->n_bytes)
        emu_misuse("rank %d receives %zu bytes from rank %d, which sends %llu", comm->rank,
                   o->n_bytes, o->peer, (unsigned long long)n);
    return true;
}

static bool is_done(const emu_operation *o)
{
    return o->framed && o->moved_bytes == o->n_bytes;
}

static void move_operation(shoal__nccl_comm *comm, emu_operation *o)
{
    emu_ring *ring =
        o->is_send ? ring_of(comm, comm->rank, o->peer) : ring_of(comm, o->peer, comm->rank);
    if (!o->framed)
        o->framed = move_frame(comm, o, ring);
    if (!o->framed)
        return;
    size_t left = o->n_bytes - o->moved_bytes;
    size_t most = 1 + (size_t)(emu_random(comm) % comm->settings.ring_bytes);
    unsigned char *at = o->data + o->moved_bytes;
    o->moved_bytes += move(comm, ring, o->is_send ? NULL : at, at, left < most ? left : most);
}

/* Behind another operation of the same pair and direction. */
static bool is_behind(const emu_group *g, int i)
{
    for (int j = 0; j < i; j++)
        if (g->operation[j].peer == g->operation[i].peer &&
            g->operation[j].is_send == g->operation[i].is_send && !is_done(&g->operation[j]))
            return true;
    return false;
}

static bool is_gone(const shoal__nccl_comm *comm, int peer)
{
    pid_t pid = atomic_load(&comm->world->pid[peer]);
    return atomic_load(&comm->world->gone[peer]) != 0 || (kill(pid, 0) != 0 && errno == ESRCH);
}

static void move_group(shoal__nccl_comm *comm, emu_group *g)
{
    int first = (int)(emu_random(comm) % (uint64_t)g->n);
    bool all = true;
    for (int k = 0; k < g->n; k++) {
        int i = (first + k) % g->n;
        emu_operation *o = &g->operation[i];
        if (is_done(o))
            continue;
        size_t before = o->moved_bytes;
        if (!is_behind(g, i))
            move_operation(comm, o);
        if (!is_done(o) && o->moved_bytes == before && is_gone(comm, o->peer))
            comm->error = SHOAL__NCCL_REMOTE_ERROR;
        all = all && is_done(o);
    }
    g->done = all;
}

void emu_pump(shoal__nccl_comm *comm)
{
    if (emu_strikes(comm, FAULT_ERROR))
        comm->error = comm->settings.error;
    if (!comm->up || comm->aborted || comm->error != SHOAL__NCCL_SUCCESS ||
        emu_strikes(comm, FAULT_SILENT) || emu_strikes(comm, FAULT_HANG))
        return;
    while (comm->first != NULL && comm->first->launched) {
        move_group(comm, comm->first);
        if (!comm->first->done)
            return;
        comm->first = comm->first->next;
        if (comm->first == NULL)
            comm->last = &comm->first;
    }
}
