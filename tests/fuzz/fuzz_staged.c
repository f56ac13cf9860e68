/* A staged checkpoint: its description and, behind a zero byte, the headers; as they are, and with
 * the right checksum, so that what lies behind it is reached. */
#include "runtime/base/checksum.h"
#include "runtime/checkpoint/checkpoint.h"
#include "tests/fuzz/fuzz.h"

#include <inttypes.h>
#include <string.h>

static void open_folder(const uint8_t *text, size_t n_text, const uint8_t *headers, size_t n_header)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    (void)fuzz_folder_with("config.json", (const uint8_t *)"{}", 2);
    (void)fuzz_folder_with("staged.headers", headers, n_header);
    const char *folder = fuzz_folder_with("staged.json", text, n_text);
    shoal_checkpoint *checkpoint = NULL;
    const shoal_status status = shoal_checkpoint_open(&checkpoint, folder, true, &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return;
    }
    FUZZ_CHECK(shoal_checkpoint_is_staged(checkpoint));
    uint8_t byte;
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i++)
        FUZZ_CHECK(shoal_checkpoint_read(checkpoint, shoal_checkpoint_tensor(checkpoint, i), 0, 1,
                                         &byte) == SHOAL_NO_INPUT);
    shoal_checkpoint_close(checkpoint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static const char key[] = "\"headers_checksum\":\"";
    enum { DIGITS = 16 };
    const uint8_t *zero = n_bytes > 0 ? memchr(data, 0, n_bytes) : NULL;
    const size_t n_text = zero != NULL ? (size_t)(zero - data) : n_bytes;
    const size_t n_header = zero != NULL ? n_bytes - n_text - 1 : 0;
    const uint8_t *headers = zero != NULL ? zero + 1 : data;
    open_folder(data, n_text, headers, n_header);
    uint8_t *sealed = malloc(n_text + 1);
    FUZZ_CHECK(sealed != NULL);
    memcpy(sealed, data, n_text);
    for (size_t at = 0; at + sizeof key - 1 + DIGITS <= n_text; at++) {
        if (memcmp(sealed + at, key, sizeof key - 1) != 0)
            continue;
        char digits[DIGITS + 1];
        snprintf(digits, sizeof digits, "%016" PRIx64,
                 n_header > 0 ? shoal_checksum(0, headers, n_header) : 0);
        memcpy(sealed + at + sizeof key - 1, digits, DIGITS);
    }
    open_folder(sealed, n_text, headers, n_header);
    free(sealed);
    return 0;
}
