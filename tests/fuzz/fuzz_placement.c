/* A placement as people write it, in YAML. */
#include "experts/placement.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    char path[512];
    const char *folder = fuzz_folder_with("placement.yaml", data, n_bytes);
    snprintf(path, sizeof path, "%s/placement.yaml", folder);
    shoal_placement placement = {0};
    shoal_status status = shoal_placement_read_file(&placement, path, 3, 16, 4, 2, &log);
    if (status == SHOAL_OK) {
        for (int32_t e = 0; e < 16; e++) {
            int32_t owner = shoal_placement_owner(&placement, 2, e);
            FUZZ_CHECK(owner == 0 || owner == 1);
        }
        shoal_placement_close(&placement);
    } else {
        /* weights that are numbers but make no placement are a usage error */
        FUZZ_CHECK((status == SHOAL_BAD_DATA || status == SHOAL_USAGE) && log.error[0] != '\0');
    }
    return 0;
}
