/* The tokenizer and the chat format of MODEL, whether it is a folder with their files or a GGUF
 * with both in its metadata. Layering: launcher (text does not know checkpoints). */
#ifndef SHOAL_LAUNCHER_MODEL_TEXT_H
#define SHOAL_LAUNCHER_MODEL_TEXT_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/text/chat.h"
#include "runtime/text/tokenizer.h"

/* *tokenizer stays NULL if a folder has no tokenizer.json. Errors: as shoal_tokenizer_open,
 * shoal_checkpoint_tokenizer. */
shoal_status shoal_model_text_tokenizer(shoal_tokenizer **tokenizer,
                                        const shoal_checkpoint *checkpoint, shoal_log *log);

/* Errors: as shoal_chat_open. */
shoal_status shoal_model_text_chat(shoal_chat **chat, const shoal_checkpoint *checkpoint,
                                   shoal_log *log);

#endif
