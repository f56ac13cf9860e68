/* Reading a whole text file (configuration, tokenizer, prompt, text to score) into memory. Weights
 * are read in pieces by runtime/checkpoint instead.
 * Layering: base. */
#ifndef SHOAL_BASE_FILE_H
#define SHOAL_BASE_FILE_H

#include "runtime/base/log.h"
#include "runtime/base/pulse.h"

#include <stddef.h>

/* Read a regular file of at most max_bytes. A zero byte is put behind the text and not counted.
 * The text is owned by the caller: free(). Errors: NO_INPUT (not there, not a file, not readable),
 * BAD_DATA (larger than max_bytes), IO, NO_MEMORY. */
shoal_status shoal_file_read(char **text, size_t *n_bytes, const char *path, size_t max_bytes,
                             shoal_log *log);

/* The same for a file that may be huge: the pulse beats between pieces. Errors: as above; what the
 * pulse gives. */
shoal_status shoal_file_read_long(char **text, size_t *n_bytes, const char *path, size_t max_bytes,
                                  const shoal_pulse *pulse, shoal_log *log);

#endif
