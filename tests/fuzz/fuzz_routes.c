/* A routing trace, as --routes writes it and strangers send it. */
#include "runtime/proto/routes.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    char path[512];
    const char *folder = fuzz_folder_with("trace.routes", data, n_bytes);
    snprintf(path, sizeof path, "%s/trace.routes", folder);
    shoal_routes_reader reader;
    shoal_status status = shoal_routes_reader_open(&reader, path, &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    const shoal_routes_header *h = &reader.header;
    shoal_routes_rows rows;
    bool more;
    while ((status = shoal_routes_next(&rows, &more, &reader)) == SHOAL_OK && more) {
        const size_t n = (size_t)rows.n_row * (size_t)h->n_layer * (size_t)h->top_k;
        for (size_t i = 0; i < n; i++)
            FUZZ_CHECK(rows.expert[i] < h->n_expert);
        FUZZ_CHECK(rows.owner < h->n_rank && rows.n_row > 0);
    }
    if (status != SHOAL_OK)
        FUZZ_CHECK_REFUSED(status, &log);
    shoal_routes_reader_close(&reader);
    return 0;
}
