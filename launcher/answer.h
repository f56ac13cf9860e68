/* What a sequence says: its ids, and their text up to a stop string. Generate shows it as it comes,
 * batch when it is whole. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_ANSWER_H
#define SHOAL_LAUNCHER_ANSWER_H

#include "runtime/engine/engine.h"
#include "runtime/text/stop.h"
#include "runtime/text/tokenizer.h"

enum { SHOAL_TEXT_LIST_MAX = 16 };

/* Texts that belong to somebody else. */
typedef struct shoal_text_list {
    const char *text[SHOAL_TEXT_LIST_MAX];
    size_t n_bytes[SHOAL_TEXT_LIST_MAX];
    size_t n;
} shoal_text_list;

/* Zeroed is empty and closed. */
typedef struct shoal_answer {
    int32_t *ids; /* [n_id], without the end token */
    int32_t n_id, n_id_max;
    char *text; /* [n_text] UTF-8, what is certain to be no part of a stop string */
    size_t n_text, n_text_max;
    bool stopped; /* a stop string is complete; the text ends in front of it */
    int64_t submitted_us, first_token_us;
    shoal_decoder *decoder; /* NULL: there is no tokenizer, and no text */
    shoal_stop *stop;
} shoal_answer;

/* Begin; the clock starts. The tokenizer may be NULL and must outlive the answer. Errors: NO_INPUT
 * (stop strings, but no tokenizer), BAD_DATA (what is no stop string), NO_MEMORY. */
shoal_status shoal_answer_open(shoal_answer *answer, const shoal_tokenizer *tokenizer,
                               const shoal_text_list *stop, shoal_log *log);
void shoal_answer_close(shoal_answer *answer); /* also one that failed to open, or is zeroed */

/* The next token, not after `stopped`. Errors: NO_MEMORY, BAD_DATA. */
shoal_status shoal_answer_take(shoal_answer *answer, int32_t token, shoal_log *log);

/* No more tokens: adds what was held back. Errors: NO_MEMORY. */
shoal_status shoal_answer_end(shoal_answer *answer, shoal_log *log);

/* The event that a stop string stands in for, as the engine tells nothing more of a sequence that
 * is cancelled. */
shoal_event shoal_answer_stop_event(const shoal_answer *answer, int32_t n_prompt);

#endif
