#include "comm/sim/sim_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

shoal_status shoal__sim_inbox_init(shoal__sim_inbox *inbox, int32_t n_rank)
{
    *inbox = (shoal__sim_inbox){.n_rank = n_rank, .epoch = 1, .wake_ns = SHOAL__SIM_NEVER};
    inbox->channel = calloc((size_t)n_rank, sizeof(*inbox->channel));
    return inbox->channel ? SHOAL_OK : SHOAL_NO_MEMORY;
}

void shoal__sim_inbox_fini(shoal__sim_inbox *inbox)
{
    for (int32_t r = 0; inbox->channel && r < inbox->n_rank; r++) {
        shoal__sim_channel *channel = &inbox->channel[r];
        for (shoal__sim_message *m = channel->message, *next; m; m = next) {
            next = m->next;
            free(m);
        }
        for (shoal__sim_receive *v = channel->receive, *next; v; v = next) {
            next = v->next;
            free(v->message);
            free(v);
        }
    }
    for (size_t i = 0; i < inbox->n_any; i++)
        free(inbox->any[i]);
    free(inbox->any);
    free(inbox->channel);
    *inbox = (shoal__sim_inbox){0};
}

void shoal__sim_inbox_rewatch(shoal__sim_inbox *inbox)
{
    inbox->epoch++;
    inbox->wake_ns = SHOAL__SIM_NEVER;
}

static void wake_by(shoal__sim_inbox *inbox, int64_t arrival_ns)
{
    if (arrival_ns < inbox->wake_ns)
        inbox->wake_ns = arrival_ns;
}

/* Channels are zeroed lazily, so an empty list has no end pointer yet. */
static void append_message(shoal__sim_channel *channel, shoal__sim_message *message)
{
    if (!channel->message)
        channel->message_end = &channel->message;
    message->next = NULL;
    *channel->message_end = message;
    channel->message_end = &message->next;
}

static void append_receive(shoal__sim_channel *channel, shoal__sim_receive *receive)
{
    if (!channel->receive)
        channel->receive_end = &channel->receive;
    receive->next = NULL;
    *channel->receive_end = receive;
    channel->receive_end = &receive->next;
}

static void unlink_receive(shoal__sim_channel *channel, shoal__sim_receive *receive)
{
    shoal__sim_receive **link = &channel->receive;
    while (*link != receive)
        link = &(*link)->next;
    *link = receive->next;
    if (channel->receive_end == &receive->next)
        channel->receive_end = link;
}

/* The oldest message of a tag, taken out of the channel; NULL if there is none. */
static shoal__sim_message *take_message(shoal__sim_channel *channel, int32_t tag)
{
    for (shoal__sim_message **link = &channel->message; *link; link = &(*link)->next) {
        shoal__sim_message *message = *link;
        if (message->tag != tag)
            continue;
        *link = message->next;
        if (channel->message_end == &message->next)
            channel->message_end = link;
        return message;
    }
    return NULL;
}

static bool is_before(const shoal__sim_message *a, const shoal__sim_message *b)
{
    return a->arrival_ns < b->arrival_ns || (a->arrival_ns == b->arrival_ns && a->order < b->order);
}

static shoal_status push_any(shoal__sim_inbox *inbox, shoal__sim_message *message)
{
    if (inbox->n_any == inbox->any_capacity) {
        size_t capacity = inbox->any_capacity ? 2 * inbox->any_capacity : 16;
        shoal__sim_message **any = realloc(inbox->any, capacity * sizeof(shoal__sim_message *));
        if (!any) {
            free(message);
            return SHOAL_NO_MEMORY;
        }
        inbox->any = any;
        inbox->any_capacity = capacity;
    }
    size_t i = inbox->n_any++;
    for (; i > 0 && is_before(message, inbox->any[(i - 1) / 2]); i = (i - 1) / 2)
        inbox->any[i] = inbox->any[(i - 1) / 2];
    inbox->any[i] = message;
    return SHOAL_OK;
}

static shoal__sim_message *pop_any(shoal__sim_inbox *inbox)
{
    shoal__sim_message *top = inbox->any[0];
    shoal__sim_message *last = inbox->any[--inbox->n_any];
    size_t n = inbox->n_any;
    size_t i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && is_before(inbox->any[child + 1], inbox->any[child]))
            child++;
        if (!is_before(inbox->any[child], last))
            break;
        inbox->any[i] = inbox->any[child];
        i = child;
    }
    if (n > 0)
        inbox->any[i] = last;
    return top;
}

shoal_status shoal__sim_inbox_put(shoal__sim_inbox *inbox, shoal__sim_message *message)
{
    if (message->tag == inbox->any_tag) {
        if (inbox->any_watched == inbox->epoch)
            wake_by(inbox, message->arrival_ns);
        return push_any(inbox, message);
    }
    shoal__sim_channel *channel = &inbox->channel[message->source];
    for (shoal__sim_receive *receive = channel->receive; receive; receive = receive->next) {
        if (receive->tag != message->tag || receive->message)
            continue;
        receive->message = message;
        if (receive->watched == inbox->epoch)
            wake_by(inbox, message->arrival_ns);
        return SHOAL_OK;
    }
    append_message(channel, message);
    return SHOAL_OK;
}

/* The first receive from any rank makes its tag one: what came before moves to the heap. */
static shoal_status post_any(shoal__sim_inbox *inbox, int32_t tag)
{
    assert(inbox->any_tag == 0 || inbox->any_tag == tag);
    if (inbox->any_tag == tag)
        return SHOAL_OK;
    inbox->any_tag = tag;
    for (int32_t r = 0; r < inbox->n_rank; r++) {
        shoal__sim_message *message;
        while ((message = take_message(&inbox->channel[r], tag)))
            SHOAL_TRY(push_any(inbox, message));
    }
    return SHOAL_OK;
}

shoal_status shoal__sim_inbox_post(shoal__sim_inbox *inbox, shoal_request *request)
{
    if (request->peer == SHOAL_ANY_RANK)
        return post_any(inbox, request->tag);
    assert(request->tag != inbox->any_tag);
    shoal__sim_receive *receive = calloc(1, sizeof(*receive));
    if (!receive)
        return SHOAL_NO_MEMORY;
    shoal__sim_channel *channel = &inbox->channel[request->peer];
    receive->tag = request->tag;
    receive->message = take_message(channel, request->tag);
    append_receive(channel, receive);
    request->handle[0] = (intptr_t)receive;
    return SHOAL_OK;
}

static shoal_status complete(shoal_request *request, shoal__sim_message *message, int64_t *clock_ns)
{
    *clock_ns += message->take_ns;
    bool fits = request->exact ? message->n_bytes == request->n_bytes
                               : message->n_bytes <= request->n_bytes;
    if (fits && message->n_bytes > 0)
        memcpy(request->data, message->data, message->n_bytes);
    request->n_bytes = message->n_bytes;
    request->peer = message->source;
    request->done = true;
    free(message);
    return fits ? SHOAL_OK : SHOAL_FAILED;
}

static shoal_status test_any(shoal__sim_inbox *inbox, shoal_request *request, int64_t *clock_ns)
{
    if (inbox->n_any > 0 && inbox->any[0]->arrival_ns <= *clock_ns)
        return complete(request, pop_any(inbox), clock_ns);
    inbox->any_watched = inbox->epoch;
    if (inbox->n_any > 0)
        wake_by(inbox, inbox->any[0]->arrival_ns);
    return SHOAL_OK;
}

shoal_status shoal__sim_inbox_test(shoal__sim_inbox *inbox, shoal_request *request,
                                   int64_t *clock_ns)
{
    if (request->peer == SHOAL_ANY_RANK)
        return test_any(inbox, request, clock_ns);
    shoal__sim_receive *receive = (shoal__sim_receive *)request->handle[0];
    shoal__sim_message *message = receive->message;
    if (message && message->arrival_ns <= *clock_ns) {
        unlink_receive(&inbox->channel[request->peer], receive);
        free(receive);
        return complete(request, message, clock_ns);
    }
    receive->watched = inbox->epoch;
    if (message)
        wake_by(inbox, message->arrival_ns);
    return SHOAL_OK;
}

void shoal__sim_inbox_cancel(shoal__sim_inbox *inbox, shoal_request *request)
{
    request->done = true;
    if (request->peer == SHOAL_ANY_RANK)
        return;
    shoal__sim_receive *receive = (shoal__sim_receive *)request->handle[0];
    unlink_receive(&inbox->channel[request->peer], receive);
    free(receive->message);
    free(receive);
}
