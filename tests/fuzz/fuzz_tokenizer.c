/* tokenizer.json, and the tokenizer that it makes on a short text. */
#include "runtime/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char text[] = "Hello, world! 123 \xc3\xa9\xe4\xbd\xa0 <|end|>\n  x";
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    shoal_tokenizer *tokenizer = NULL;
    const char *folder = fuzz_folder_with("tokenizer.json", data, n_bytes);
    shoal_status status = shoal_tokenizer_open(&tokenizer, folder, &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    int32_t *ids = NULL;
    size_t n_id = 0;
    status = shoal_tokenizer_encode(tokenizer, &ids, &n_id, text, sizeof text - 1, true, &log);
    if (status == SHOAL_OK) {
        char *back = NULL;
        size_t n_back = 0;
        status = shoal_tokenizer_decode(tokenizer, &back, &n_back, ids, n_id, true, &log);
        FUZZ_CHECK(status == SHOAL_OK || log.error[0] != '\0');
        if (status == SHOAL_OK)
            free(back);
        free(ids);
    } else {
        FUZZ_CHECK_REFUSED(status, &log);
    }
    shoal_tokenizer_close(tokenizer);
    return 0;
}
