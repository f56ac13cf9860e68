#include "launcher/model_text.h"

#include <stdio.h>
#include <unistd.h>

shoal_status shoal_model_text_tokenizer(shoal_tokenizer **tokenizer,
                                        const shoal_checkpoint *checkpoint, shoal_log *log)
{
    const char *model = shoal_checkpoint_path(checkpoint);
    shoal_json *document, *config;
    SHOAL_TRY(shoal_checkpoint_tokenizer(checkpoint, &document, &config));
    if (document != NULL) {
        shoal_status status =
            shoal_tokenizer_open_documents(tokenizer, document, config, model, log);
        shoal_json_close(document);
        shoal_json_close(config);
        return status;
    }
    char path[4096];
    if (snprintf(path, sizeof path, "%s/tokenizer.json", model) >= (int)sizeof path)
        return shoal_fail(log, SHOAL_USAGE, "the path of MODEL is too long");
    return access(path, F_OK) == 0 ? shoal_tokenizer_open(tokenizer, model, log) : SHOAL_OK;
}

shoal_status shoal_model_text_chat(shoal_chat **chat, const shoal_checkpoint *checkpoint,
                                   shoal_log *log)
{
    const char *model = shoal_checkpoint_path(checkpoint);
    shoal_json *document, *config;
    SHOAL_TRY(shoal_checkpoint_tokenizer(checkpoint, &document, &config));
    if (document == NULL)
        return shoal_chat_open(chat, model, log);
    shoal_chat_source source = {.name = model,
                                .bos = shoal_json_string(shoal_json_get(config, "bos_token"), NULL),
                                .eos =
                                    shoal_json_string(shoal_json_get(config, "eos_token"), NULL)};
    source.template = shoal_json_string(shoal_json_get(config, "chat_template"), &source.n_bytes);
    shoal_status status = shoal_chat_open_text(chat, &source, log);
    shoal_json_close(document);
    shoal_json_close(config);
    return status;
}
