/* The file of a probe. */
#include "runtime/proto/probe.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    shoal_probe_message m = {0};
    const shoal_status status = shoal_probe_message_unpack(&m, data, n_bytes, "F", &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    FUZZ_CHECK(m.n_rank >= 1 && m.n_rank <= SHOAL_PROBE_RANK_MAX && m.n_host >= 1);
    for (int32_t r = 0; r < m.n_rank; r++)
        FUZZ_CHECK(m.rank[r].host >= 0 && m.rank[r].host < m.n_host);
    for (int32_t i = 0; i < m.n_rank * m.n_rank; i++)
        FUZZ_CHECK(m.link[i].latency_us >= 0 && m.link[i].gb_per_s >= 0);
    /* What was read can be written and read again. */
    uint8_t *bytes;
    size_t n_packed;
    FUZZ_CHECK(shoal_probe_message_pack(&bytes, &n_packed, &m, &log) == SHOAL_OK);
    shoal_probe_message again = {0};
    FUZZ_CHECK(shoal_probe_message_unpack(&again, bytes, n_packed, "F", &log) == SHOAL_OK);
    FUZZ_CHECK(again.n_rank == m.n_rank && again.n_host == m.n_host);
    free(bytes);
    shoal_probe_message_close(&again);
    shoal_probe_message_close(&m);
    return 0;
}
