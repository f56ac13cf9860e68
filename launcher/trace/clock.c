#include "launcher/trace/clock.h"

enum { N_ROUND = 16 };

static int64_t distance(int64_t a, int64_t b)
{
    return a < b ? b - a : a - b;
}

/* Rank 0 asks. */
static shoal_status ask(shoal_clock_offset *offset, shoal_comm *comm, int32_t rank)
{
    for (int32_t i = 0; i < N_ROUND; i++) {
        shoal_request request[2];
        const int64_t start_us = shoal_comm_now_us(comm);
        int64_t answer_us;
        SHOAL_TRY(shoal_comm_recv(comm, &request[0], rank, SHOAL_TAG_BRINGUP, &answer_us,
                                  sizeof answer_us));
        SHOAL_TRY(shoal_comm_send(comm, &request[1], rank, SHOAL_TAG_BRINGUP, &start_us,
                                  sizeof start_us));
        SHOAL_TRY(shoal_comm_wait(comm, request, 2, "the clock of a rank"));
        const int64_t round_us = shoal_comm_now_us(comm) - start_us;
        const int64_t error_us = round_us / 2 + 1; /* clocks are read in whole us */
        if (i == 0 || error_us < offset->error_us)
            *offset = (shoal_clock_offset){.offset_us = answer_us - (start_us + round_us / 2),
                                           .error_us = error_us,
                                           .at_us = answer_us};
    }
    return SHOAL_OK;
}

static shoal_status answer(shoal_comm *comm)
{
    for (int32_t i = 0; i < N_ROUND; i++) {
        shoal_request request;
        int64_t us;
        SHOAL_TRY(shoal_comm_recv(comm, &request, 0, SHOAL_TAG_BRINGUP, &us, sizeof us));
        SHOAL_TRY(shoal_comm_wait(comm, &request, 1, "a question for the clock"));
        us = shoal_comm_now_us(comm);
        SHOAL_TRY(shoal_comm_send(comm, &request, 0, SHOAL_TAG_BRINGUP, &us, sizeof us));
        SHOAL_TRY(shoal_comm_wait(comm, &request, 1, "a question for the clock"));
    }
    return SHOAL_OK;
}

shoal_status shoal_clock_compare(shoal_clock_offset *offset, shoal_comm *comm)
{
    if (shoal_comm_rank(comm) != 0)
        return answer(comm);
    offset[0] = (shoal_clock_offset){.at_us = shoal_comm_now_us(comm)};
    for (int32_t r = 1; r < shoal_comm_n_rank(comm); r++)
        SHOAL_TRY(ask(&offset[r], comm, r));
    return SHOAL_OK;
}

int64_t shoal_clock_to_ns(const shoal_clock_offset *start, const shoal_clock_offset *end,
                          int64_t t_us)
{
    const int64_t change_us = end->offset_us - start->offset_us;
    const int64_t length_us = end->at_us - start->at_us;
    const bool drifts = length_us > 0 && distance(change_us, 0) > start->error_us + end->error_us;
    if (!drifts) {
        const shoal_clock_offset *better = end->error_us < start->error_us ? end : start;
        return (t_us - better->offset_us) * 1000;
    }
    const double passed = (double)(t_us - start->at_us) / (double)length_us;
    return (t_us - start->offset_us) * 1000 - (int64_t)((double)change_us * 1000 * passed);
}
