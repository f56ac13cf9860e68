/* A line of the input of shoal batch. */
#include "launcher/batch_io.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const shoal_batch_defaults defaults = {.max_tokens = 5, .sampling = {.top_p = 1}};
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    shoal_batch_line line;
    shoal_status status =
        shoal_batch_line_parse(&line, (const char *)data, n_bytes, 7, &defaults, &log);
    FUZZ_CHECK(line.id != NULL && line.key != NULL);
    if (status != SHOAL_OK)
        FUZZ_CHECK_REFUSED(status, &log);
    else
        FUZZ_CHECK(line.max_tokens > 0 || line.max_tokens == defaults.max_tokens);
    shoal_batch_line_close(&line);
    return 0;
}
