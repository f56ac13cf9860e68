/* A GGUF file: its header, the names, config and tokenizer made of its metadata. */
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/model/spec.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    shoal_log log;
    shoal_log_init(&log, NULL, 0, "fuzz");
    char path[512];
    snprintf(path, sizeof path, "%s/model.gguf", fuzz_folder_with("model.gguf", data, n_bytes));
    shoal_checkpoint *checkpoint = NULL;
    shoal_status status = shoal_checkpoint_open(&checkpoint, path, true, &log);
    if (status != SHOAL_OK) {
        FUZZ_CHECK_REFUSED(status, &log);
        return 0;
    }
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(checkpoint, i);
        FUZZ_CHECK(t->offset <= n_bytes && t->n_bytes <= n_bytes - t->offset);
    }
    shoal_spec spec = {0};
    status = shoal_spec_open(&spec, checkpoint, &log);
    if (status != SHOAL_OK)
        FUZZ_CHECK_REFUSED(status, &log);
    shoal_spec_close(&spec);
    shoal_json *tokenizer = NULL, *config = NULL;
    status = shoal_checkpoint_tokenizer(checkpoint, &tokenizer, &config);
    if (status != SHOAL_OK)
        FUZZ_CHECK_REFUSED(status, &log);
    shoal_json_close(tokenizer);
    shoal_json_close(config);
    shoal_checkpoint_close(checkpoint);
    return 0;
}
