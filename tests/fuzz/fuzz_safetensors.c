/* The header of a safetensors file. */
#include "runtime/checkpoint/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    if (n_bytes < SHOAL_SAFETENSORS_PREFIX_BYTES)
        return 0;
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    size_t n_header;
    /* The data behind the header is not there, but the file is said to be longer. */
    uint64_t file_bytes = (uint64_t)n_bytes + 4096;
    shoal_status status =
        shoal__safetensors_header_bytes(&n_header, data, file_bytes, "fuzz.safetensors", &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    if (n_header > n_bytes - SHOAL_SAFETENSORS_PREFIX_BYTES)
        return 0;
    shoal__safetensors s = {0};
    status = shoal__safetensors_parse(&s, (const char *)data + SHOAL_SAFETENSORS_PREFIX_BYTES,
                                      n_header, file_bytes, "fuzz.safetensors", &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    for (int64_t i = 0; i < s.n_tensor; i++) {
        FUZZ_CHECK(s.tensor[i].offset <= file_bytes);
        FUZZ_CHECK(s.tensor[i].n_bytes <= file_bytes - s.tensor[i].offset);
    }
    shoal__safetensors_close(&s);
    return 0;
}
