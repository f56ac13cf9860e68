/* A temporary folder to write small checkpoints into, and a log that keeps error texts. */
#ifndef SHOAL_TESTS_CHECKPOINT_FIXTURE_H
#define SHOAL_TESTS_CHECKPOINT_FIXTURE_H

#include "runtime/checkpoint/checkpoint.h"

typedef struct fixture {
    char path[128]; /* the folder */
    shoal_log log;  /* captures */
} fixture;

void fixture_open(fixture *f);
void fixture_close(fixture *f); /* removes the folder with its files */

/* "folder/name", valid until the next call. */
const char *fixture_path(const fixture *f, const char *name);

void fixture_write(const fixture *f, const char *name, const void *data, size_t n_bytes);
void fixture_write_text(const fixture *f, const char *name, const char *text);

/* header_length, header, data; data NULL: bytes 0, 1, 2, ... */
void fixture_write_safetensors(const fixture *f, const char *name, const char *header,
                               const void *data, size_t n_data_bytes);

/* A folder of the repository, valid until the next call. */
const char *fixture_source_path(const char *name);

/* Deterministic random numbers (splitmix64). */
uint64_t fixture_random(uint64_t *state);

#endif
