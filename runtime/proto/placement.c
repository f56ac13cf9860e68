#include "runtime/proto/placement.h"

#include "shoal.pb-c.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t n_owner(const shoal_placement_message *message)
{
    return (size_t)message->n_layer * (size_t)message->n_expert * (size_t)message->n_replica;
}

shoal_status shoal_placement_message_pack(uint8_t **bytes, size_t *n_bytes,
                                          const shoal_placement_message *message, shoal_log *log)
{
    Shoal__Placement p = SHOAL__PLACEMENT__INIT;
    p.version = message->version;
    p.n_layer = message->n_layer;
    p.n_expert = message->n_expert;
    p.n_rank = message->n_rank;
    p.n_replica = message->n_replica;
    p.n_owner = n_owner(message);
    p.owner = message->owner;
    p.n_expert_weight = p.n_sequence_weight = (size_t)message->n_rank;
    p.expert_weight = message->expert_weight;
    p.sequence_weight = message->sequence_weight;
    size_t n = shoal__placement__get_packed_size(&p);
    uint8_t *packed = malloc(n + 1);
    if (packed == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "placement: no memory for its %zu bytes", n);
    shoal__placement__pack(&p, packed);
    *bytes = packed;
    *n_bytes = n;
    return SHOAL_OK;
}

static shoal_status bad_placement(shoal_log *log, const char *what)
{
    return shoal_fail(log, SHOAL_BAD_DATA,
                      "packed placement: %s; it is damaged or of another build", what);
}

static bool weights_are_good(const double *weight, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(weight[i]) || weight[i] < 0)
            return false;
    return true;
}

static shoal_status check(const Shoal__Placement *p, uint32_t version, shoal_log *log)
{
    if (p->version != version)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "packed placement: has format version %u, this build reads version %u",
                          (unsigned)p->version, (unsigned)version);
    if (p->n_layer < 0 || p->n_expert < 0 || p->n_rank < 1 || p->n_replica < 1)
        return bad_placement(log, "a count is negative, or of ranks or replicas is zero");
    size_t wanted;
    if (__builtin_mul_overflow((size_t)p->n_layer, (size_t)p->n_expert, &wanted) ||
        __builtin_mul_overflow(wanted, (size_t)p->n_replica, &wanted) || wanted != p->n_owner)
        return bad_placement(log, "owners do not match its layers, experts and replicas");
    for (size_t i = 0; i < p->n_owner; i++)
        if (p->owner[i] < 0 || p->owner[i] >= p->n_rank)
            return bad_placement(log, "an owner is not one of its ranks");
    if (p->n_expert_weight != (size_t)p->n_rank || p->n_sequence_weight != (size_t)p->n_rank)
        return bad_placement(log, "weights do not match its ranks");
    if (!weights_are_good(p->expert_weight, p->n_expert_weight) ||
        !weights_are_good(p->sequence_weight, p->n_sequence_weight))
        return bad_placement(log, "a weight is negative or not finite");
    return SHOAL_OK;
}

/* A copy; NULL only if memory is out. */
static void *copy_of(const void *data, size_t n_bytes)
{
    void *copy = malloc(n_bytes + 1);
    if (copy != NULL && n_bytes > 0)
        memcpy(copy, data, n_bytes);
    return copy;
}

static shoal_status copy_out(shoal_placement_message *message, const Shoal__Placement *p,
                             shoal_log *log)
{
    shoal_placement_message m = {.version = p->version,
                                 .n_layer = p->n_layer,
                                 .n_expert = p->n_expert,
                                 .n_rank = p->n_rank,
                                 .n_replica = p->n_replica};
    m.owner = copy_of(p->owner, p->n_owner * sizeof *m.owner);
    m.expert_weight = copy_of(p->expert_weight, p->n_expert_weight * sizeof *m.expert_weight);
    m.sequence_weight =
        copy_of(p->sequence_weight, p->n_sequence_weight * sizeof *m.sequence_weight);
    if (m.owner == NULL || m.expert_weight == NULL || m.sequence_weight == NULL) {
        shoal_placement_message_close(&m);
        return shoal_fail(log, SHOAL_NO_MEMORY, "placement: no memory to unpack it");
    }
    *message = m;
    return SHOAL_OK;
}

shoal_status shoal_placement_message_unpack(shoal_placement_message *message, const uint8_t *bytes,
                                            size_t n_bytes, uint32_t version, shoal_log *log)
{
    Shoal__Placement *p = shoal__placement__unpack(NULL, n_bytes, bytes);
    if (p == NULL)
        return bad_placement(log, "it does not parse");
    shoal_status status = check(p, version, log);
    if (status == SHOAL_OK)
        status = copy_out(message, p, log);
    shoal__placement__free_unpacked(p, NULL);
    return status;
}

void shoal_placement_message_close(shoal_placement_message *message)
{
    free(message->owner);
    free(message->expert_weight);
    free(message->sequence_weight);
    *message = (shoal_placement_message){0};
}
