/* The buffers of the exchange: everything that a step needs at its worst, taken once. */
#include "comm/message.h"

#include <assert.h>

size_t shoal__dispatch_bytes(size_t row_bytes, size_t n_row, size_t n_slot)
{
    size_t count_bytes = (n_row * sizeof(uint16_t) + 3) / 4 * 4;
    return sizeof(shoal__dispatch_header) + n_row * row_bytes + count_bytes +
           n_slot * sizeof(shoal__dispatch_slot);
}

shoal__dispatch_parts shoal__dispatch_parts_of(unsigned char *message, size_t row_bytes,
                                               size_t n_row)
{
    unsigned char *row = message + sizeof(shoal__dispatch_header);
    unsigned char *count = row + n_row * row_bytes;
    return (shoal__dispatch_parts){
        .header = (void *)message,
        .row = row,
        .n_slot_of_row = (void *)count,
        .slot = (void *)(message + shoal__dispatch_bytes(row_bytes, n_row, 0)),
    };
}

int32_t shoal__row_slots_max(const shoal_exchange_config *config, int32_t rank)
{
    int32_t n_local = config->n_local_max[rank];
    return n_local < config->top_k ? n_local : config->top_k;
}

size_t shoal__row_groups(const shoal_exchange_config *config)
{
    return (size_t)shoal_int8_groups(config->n_embd);
}

/* What the exchange of one step can be at its worst on this rank. */
typedef struct limits {
    size_t n_token, n_send_message, n_send_row, n_send_slot; /* as a source, own rows included */
    size_t n_recv_row, n_recv_slot;                          /* as a target, own rows included */
    size_t n_own_slot;                                       /* of one row that stays here */
} limits;

static limits limits_of(const shoal_exchange_config *config)
{
    limits most = {0};
    size_t n_source = 0, n_target = 0, n_token_max = (size_t)config->n_token_max;
    for (int32_t r = 0; r < config->n_rank; r++) {
        n_source += config->may_source[r];
        n_target += config->n_local_max[r] > 0;
    }
    if (config->may_source[config->rank]) {
        /* A token goes to at most top_k ranks, so the messages of a step are packed one behind the
         * other, instead of each having room for its own worst. */
        size_t top_k = (size_t)config->top_k;
        most.n_token = n_token_max;
        most.n_send_message = n_target;
        most.n_send_row = n_token_max * (n_target < top_k ? n_target : top_k);
        most.n_send_slot = n_token_max * top_k;
    }
    if (config->n_local_max[config->rank] > 0) {
        most.n_recv_row = n_source * n_token_max;
        most.n_own_slot = (size_t)shoal__row_slots_max(config, config->rank);
        most.n_recv_slot = most.n_recv_row * (size_t)shoal__row_slots_max(config, config->rank);
    }
    assert(most.n_recv_slot <= INT32_MAX && most.n_send_slot <= INT32_MAX);
    return most;
}

static void carve_plan(shoal_plan *plan, shoal_arena *arena, const shoal_exchange_config *config,
                       const limits *most)
{
    size_t n_row = most->n_send_row, n_slot = most->n_send_slot;
    size_t n_rank = (size_t)config->n_rank;
    *plan = (shoal_plan){
        .kind = config->wire.kind,
        .top_k = config->top_k,
        .send_row_offset = SHOAL_TAKE(arena, n_rank + 1, int32_t),
        .send_slot_offset = SHOAL_TAKE(arena, n_rank + 1, int32_t),
        .send_row_token = SHOAL_TAKE(arena, n_row, int32_t),
        .send_row_n_slot = SHOAL_TAKE(arena, n_row, int32_t),
        .send_slot_local = SHOAL_TAKE(arena, n_slot, int32_t),
        .send_slot_weight = SHOAL_TAKE(arena, n_slot, float),
        .slot_of = SHOAL_TAKE(arena, n_slot, int32_t),
        .row_of = SHOAL_TAKE(arena, most->n_token * n_rank, int32_t),
        .is_source = SHOAL_TAKE(arena, n_rank, bool),
        .is_target = SHOAL_TAKE(arena, n_rank, bool),
    };
}

static void carve_recv(shoal_recv *recv, shoal_arenas arenas, const shoal_exchange_config *config,
                       const limits *most)
{
    shoal_arena *arena = arenas.host;
    size_t n_row = most->n_recv_row, n_slot = most->n_recv_slot;
    size_t n_rank = (size_t)config->n_rank;
    bool int8 = config->wire.dispatch == SHOAL_WIRE_INT8;
    *recv = (shoal_recv){
        .row = int8 ? NULL : SHOAL_TAKE(arenas.device, n_row * (size_t)config->n_embd, float),
        .row_int8 =
            int8 ? SHOAL_TAKE(arenas.device, n_row * shoal__row_groups(config), shoal_int8_group)
                 : NULL,
        .row_offset = SHOAL_TAKE(arena, n_rank + 1, int32_t),
        .slot_offset = SHOAL_TAKE(arena, n_rank + 1, int32_t),
        .row_slot = SHOAL_TAKE(arena, n_row + 1, int32_t),
        .slot_row = SHOAL_TAKE(arena, n_slot, int32_t),
        .slot_expert = SHOAL_TAKE(arena, n_slot, int32_t),
        .slot_weight = SHOAL_TAKE(arena, n_slot, float),
        .slot_done = SHOAL_TAKE(arena, n_slot, int32_t),
    };
}

/* The config with arrays of its own, and who may send and receive what. */
static void carve_config(shoal_exchange *x, shoal_arena *arena, const shoal_exchange_config *config)
{
    x->config = *config;
    int32_t *n_local_max = SHOAL_TAKE(arena, config->n_rank, int32_t);
    bool *may_source = SHOAL_TAKE(arena, config->n_rank, bool);
    if (n_local_max == NULL)
        return; /* measuring: the caller's arrays serve */
    for (int32_t r = 0; r < config->n_rank; r++) {
        n_local_max[r] = config->n_local_max[r];
        may_source[r] = config->may_source[r];
    }
    x->config.n_local_max = n_local_max;
    x->config.may_source = may_source;
}

/* Messages from each rank that may send to this one; the own message is read where it was made. */
static void carve_incoming(shoal_exchange *x, shoal_arena *arena)
{
    const shoal_exchange_config *config = &x->config;
    size_t n_rank = (size_t)config->n_rank, n_row = (size_t)config->n_token_max;
    size_t n_slot = n_row * (size_t)shoal__row_slots_max(config, config->rank);
    x->recv_buffer = SHOAL_TAKE(arena, n_rank, unsigned char *);
    x->recv_capacity = SHOAL_TAKE(arena, n_rank, size_t);
    for (int32_t r = 0; r < config->n_rank; r++) {
        if (r == config->rank || !config->may_source[r] || config->n_local_max[config->rank] == 0)
            continue;
        size_t capacity = shoal__dispatch_bytes(x->dispatch_row_bytes, n_row, n_slot);
        unsigned char *buffer = shoal_arena_take(arena, capacity, 1);
        if (x->recv_buffer != NULL) {
            x->recv_buffer[r] = buffer;
            x->recv_capacity[r] = capacity;
        }
    }
}

/* Every use of a request ends in a wait for it, so they are all done between two layers. */
static shoal_request *carve_requests(shoal_arena *arena, size_t n)
{
    shoal_request *request = SHOAL_TAKE(arena, n, shoal_request);
    for (size_t i = 0; request != NULL && i < n; i++)
        request[i] = SHOAL_REQUEST_NONE;
    return request;
}

static void carve_outgoing(shoal_exchange *x, shoal_arena *arena, const limits *most)
{
    size_t n_rank = (size_t)x->config.n_rank;
    size_t per_message = SHOAL__MESSAGE_ALIGN + shoal__dispatch_bytes(0, 1, 0); /* and padding */
    size_t payload =
        shoal__dispatch_bytes(x->dispatch_row_bytes, most->n_send_row, most->n_send_slot);
    x->send_memory = shoal_arena_take(arena, most->n_send_message * per_message + payload, 1);
    x->send_buffer = SHOAL_TAKE(arena, n_rank, unsigned char *);
    x->packed_bytes = SHOAL_TAKE(arena, n_rank, size_t);
    x->encoded = SHOAL_TAKE(arena, most->n_token, unsigned char *);

    bool reduced = x->config.wire.kind == SHOAL_COMBINE_REDUCED;
    x->combine_out = shoal_arena_take(arena, reduced ? most->n_recv_row : most->n_recv_slot,
                                      x->combine_row_bytes);
    x->combine_in = shoal_arena_take(arena, reduced ? most->n_send_row : most->n_send_slot,
                                     x->combine_row_bytes);
    size_t n_thread = (size_t)x->config.n_thread;
    if (n_thread == 0)
        n_thread = x->compute.pool != NULL ? (size_t)shoal_pool_n_thread(x->compute.pool) : 1;
    x->combine_row = SHOAL_TAKE(arena, n_thread * (size_t)x->config.n_embd, float);
    x->send_request = carve_requests(arena, 3 * n_rank);
    x->recv_request = carve_requests(arena, 3 * n_rank);
}

/* Rows that this rank sends to itself stay on its device. */
static void carve_own(shoal_exchange *x, shoal_arena *device, const limits *most)
{
    const size_t n_result = x->config.wire.kind == SHOAL_COMBINE_REDUCED ? 1 : most->n_own_slot;
    x->own_rows = shoal_arena_take(device, most->n_token, x->dispatch_row_bytes);
    x->own_results = shoal_arena_take(device, most->n_token * n_result, x->combine_row_bytes);
}

void shoal_exchange_carve(shoal_exchange *exchange, shoal_arenas arenas,
                          const shoal_exchange_config *config, const shoal_compute *compute)
{
    assert(config->n_rank >= 1 && config->rank >= 0 && config->rank < config->n_rank);
    assert(config->n_embd >= 1 && config->top_k >= 1 && config->n_token_max >= 0);
    assert(config->slot_bytes >= 2 * sizeof(shoal__dispatch_header) &&
           config->slot_bytes <= SHOAL_MESSAGE_MAX_BYTES);
    shoal_exchange *x = exchange;
    shoal_arena *arena = arenas.host;
    *x = (shoal_exchange){.compute = *compute};
    carve_config(x, arena, config);
    x->dispatch_row_bytes = shoal_wire_row_bytes(config->wire.dispatch, config->n_embd);
    x->combine_row_bytes = shoal_wire_row_bytes(config->wire.combine, config->n_embd);

    limits most = limits_of(config);
    x->n_row_max = (int32_t)most.n_recv_row;
    x->n_slot_max = (int32_t)most.n_recv_slot;
    carve_plan(&x->plan, arena, config, &most);
    carve_recv(&x->recv, arenas, config, &most);
    carve_incoming(x, arena);
    carve_outgoing(x, arena, &most);
    if (arenas.host != arenas.device)
        carve_own(x, arenas.device, &most);
}

shoal_status shoal_exchange_drain(shoal_exchange *x, shoal_comm *comm)
{
    return shoal_comm_wait(comm, x->send_request, 3 * x->config.n_rank, "rows to be taken");
}
