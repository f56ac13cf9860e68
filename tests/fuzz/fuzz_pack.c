/* A pack file: as the bytes are, and with header and slots sealed, so that what lies behind the
 * checksums is reached. What opens can be read to its last byte. */
#include "runtime/base/checksum.h"
#include "runtime/checkpoint/pack_index.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static const shoal__pack_shape shape = {.identity = 42, .layer = 3, .n_unit = 2};

static void open_bytes(const uint8_t *data, size_t n_bytes)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    char path[512];
    const char *folder = fuzz_folder_with("x.pack", data, n_bytes);
    snprintf(path, sizeof path, "%s/x.pack", folder);
    shoal__pack_file *file = NULL;
    const shoal_status status = shoal__pack_open(&file, path, &shape, &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return;
    }
    for (int32_t u = 0; u < file->n_unit; u++)
        (void)shoal__pack_checksum(&file->unit[u], NULL, NULL);
    shoal__pack_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    open_bytes(data, n_bytes);
    if (n_bytes < sizeof(shoal__pack_header))
        return 0;
    uint8_t *sealed = aligned_alloc(64, (n_bytes + 63) / 64 * 64);
    FUZZ_CHECK(sealed != NULL);
    memcpy(sealed, data, n_bytes);
    shoal__pack_header *h = (void *)sealed;
    h->checksum = shoal_checksum(0, h, offsetof(shoal__pack_header, checksum));
    for (uint32_t u = 0; u < 2 && h->slot_bytes % 8 == 0; u++) {
        const uint64_t at = sizeof *h + (uint64_t)u * h->slot_bytes;
        if (at + sizeof(shoal__pack_slot) > n_bytes)
            break;
        shoal__pack_slot *slot = (void *)(sealed + at);
        const uint64_t room = (n_bytes - at - sizeof *slot) / sizeof(shoal__pack_entry);
        if (slot->n_part <= room)
            shoal__pack_slot_seal(slot);
    }
    open_bytes(sealed, n_bytes);
    free(sealed);
    return 0;
}
