/* Cards of hosts. A message is in flight until its first byte is at the receiver's card; only then
 * is its place in the card's queue known, because others that were sent later may come before it.
 */
#include "comm/sim/sim_private.h"

#include <math.h>
#include <stdlib.h>

shoal_status shoal__sim_cards_init(shoal__sim_cards *cards, const shoal_sim_network *network,
                                   int32_t n_rank)
{
    *cards = (shoal__sim_cards){.network = network};
    if (!network)
        return SHOAL_OK;
    const size_t n = (size_t)n_rank;
    cards->sends_ns = calloc(3 * n, sizeof(*cards->sends_ns));
    if (!cards->sends_ns)
        return SHOAL_NO_MEMORY;
    cards->takes_ns = cards->sends_ns + n;
    cards->copies_ns = cards->sends_ns + 2 * n;
    return SHOAL_OK;
}

void shoal__sim_cards_fini(shoal__sim_cards *cards)
{
    for (size_t i = 0; i < cards->n_flight; i++)
        free(cards->flight[i].message);
    free(cards->flight);
    free(cards->sends_ns);
    *cards = (shoal__sim_cards){0};
}

static bool is_before(const shoal__sim_flight *a, const shoal__sim_flight *b)
{
    return a->first_ns < b->first_ns ||
           (a->first_ns == b->first_ns && a->message->order < b->message->order);
}

static shoal_status push(shoal__sim_cards *cards, const shoal__sim_flight *flight)
{
    if (cards->n_flight == cards->capacity) {
        const size_t capacity = cards->capacity ? 2 * cards->capacity : 64;
        shoal__sim_flight *more = realloc(cards->flight, capacity * sizeof(*more));
        if (!more)
            return SHOAL_NO_MEMORY;
        cards->flight = more;
        cards->capacity = capacity;
    }
    size_t i = cards->n_flight++;
    for (; i > 0 && is_before(flight, &cards->flight[(i - 1) / 2]); i = (i - 1) / 2)
        cards->flight[i] = cards->flight[(i - 1) / 2];
    cards->flight[i] = *flight;
    return SHOAL_OK;
}

static shoal__sim_flight pop(shoal__sim_cards *cards)
{
    const shoal__sim_flight top = cards->flight[0];
    const shoal__sim_flight last = cards->flight[--cards->n_flight];
    const size_t n = cards->n_flight;
    size_t i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && is_before(&cards->flight[child + 1], &cards->flight[child]))
            child++;
        if (!is_before(&cards->flight[child], &last))
            break;
        cards->flight[i] = cards->flight[child];
        i = child;
    }
    if (n > 0)
        cards->flight[i] = last;
    return top;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

bool shoal__sim_cards_send(shoal__sim_cards *cards, shoal__sim_message *message, int32_t to,
                           int64_t *clock_ns, shoal_status *status)
{
    const shoal_sim_network *network = cards->network;
    const double n_bytes = (double)message->n_bytes;
    const int32_t from = message->source;
    shoal_sim_link link;
    network->link(network->arg, from, to, &link);
    const int64_t latency_ns = llround(link.latency_us * 1e3);
    const int64_t transfer_ns = link.gb_per_s > 0 ? llround(n_bytes / link.gb_per_s) : 0;
    const int32_t sender = network->host[from], receiver = network->host[to];
    int64_t *busy_ns = sender == receiver ? &cards->copies_ns[from] : &cards->sends_ns[sender];

    message->take_ns = llround(link.overhead_us * 1e3 + n_bytes * link.byte_ns);
    *clock_ns += message->take_ns;
    const int64_t start_ns = later(*clock_ns, *busy_ns);
    *busy_ns = start_ns + transfer_ns;
    message->arrival_ns = *busy_ns + latency_ns;
    *status = SHOAL_OK;
    if (sender == receiver)
        return false;
    *status = push(cards, &(shoal__sim_flight){.first_ns = start_ns + latency_ns,
                                               .last_ns = message->arrival_ns,
                                               .transfer_ns = transfer_ns,
                                               .to = to,
                                               .message = message});
    if (*status != SHOAL_OK)
        free(message);
    return true;
}

int64_t shoal__sim_cards_next_ns(const shoal__sim_cards *cards)
{
    return cards->n_flight > 0 ? cards->flight[0].first_ns : SHOAL__SIM_NEVER;
}

shoal__sim_message *shoal__sim_cards_take(shoal__sim_cards *cards, int32_t *to)
{
    const shoal__sim_flight flight = pop(cards);
    int64_t *busy_ns = &cards->takes_ns[cards->network->host[flight.to]];
    *busy_ns = later(flight.first_ns, *busy_ns) + flight.transfer_ns;
    flight.message->arrival_ns = later(*busy_ns, flight.last_ns);
    *to = flight.to;
    return flight.message;
}
