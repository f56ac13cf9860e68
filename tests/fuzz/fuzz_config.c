/* config.json: text to spec, and what is computed from it before anything is loaded. */
#include "launcher/weight_bytes.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    shoal_json *config = NULL;
    shoal_status status =
        shoal_json_parse(&config, (const char *)data, n_bytes, "config.json", &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    shoal_spec spec = {0};
    status = shoal_spec_read(&spec, config, config, "config.json", &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        shoal_json_close(config);
        return 0;
    }
    shoal_parameter_count count = shoal_spec_count(&spec);
    FUZZ_CHECK(count.one_expert >= 0 && count.active > 0);
    FUZZ_CHECK(count.active <= count.active_with_embedding);
    FUZZ_CHECK(count.active_with_embedding <= count.total);
    FUZZ_CHECK(shoal_spec_kv_width(&spec) > 0);
    shoal_storage_config storage = shoal_storage_of(config);
    shoal_weight_bytes bytes = shoal_weight_bytes_expected(&spec, &storage);
    FUZZ_CHECK(bytes.experts <= bytes.total && bytes.other <= bytes.total);
    shoal_spec_close(&spec);
    shoal_json_close(config);
    return 0;
}
