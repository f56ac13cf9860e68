/* Stop strings on a text that comes in pieces. What may be the begin of a stop string is held back;
 * what can no longer be part of one is released. The first stop string that is complete ends the
 * text: it is cut off in front of that string, and where two are complete at the same place, in
 * front of the longer one. How the text is cut into pieces makes no difference.
 * Layering: text knows base only. */
#ifndef SHOAL_TEXT_STOP_H
#define SHOAL_TEXT_STOP_H

#include "runtime/base/log.h"

#include <stddef.h>

typedef struct shoal_stop shoal_stop;

/* strings[0, n) are copied; n may be 0, then everything passes. Errors: BAD_DATA (an empty string;
 * one that is not UTF-8), NO_MEMORY. */
shoal_status shoal_stop_open(shoal_stop **stop, const char *const *strings, const size_t *n_bytes,
                             size_t n, shoal_log *log);
void shoal_stop_close(shoal_stop *stop); /* accepts NULL */

/* The next piece. *text is [*n_text], what is released, often empty, valid until the next call.
 * *found is set once a stop string is complete: what is released then is the last of the text, and
 * nothing may be fed any more. The pieces may be cut inside a character. Errors: NO_MEMORY. */
shoal_status shoal_stop_feed(shoal_stop *stop, const char **text, size_t *n_text, bool *found,
                             const char *piece, size_t n_piece, shoal_log *log);

/* The end of the text: what is still held back. Nothing after a stop string was found. */
void shoal_stop_flush(shoal_stop *stop, const char **text, size_t *n_text);

#endif
